//! The operations of a script, one function each.

use super::super::model::{DAY, Effect, FREQUENCIES, Model, Sample, Series, day};
use super::super::op::{Line, Op, When};
use super::super::oracle::{Checked, Failure, Oracle, o4_every_line, o9_no_error_without_cause, o10_liveness};
use super::super::report::Probe;
use super::super::{damage, read};
use super::{INTERVAL, World, kind};
use crate::canary;
use crate::disk::sim::{Crash, Fault, Target};
use crate::env::Env;
use crate::error::Unavailable;
use crate::model::Lsn;
use crate::store::{Progress, Store};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Lines that are refused, one each.
const BAD: [&str; 5] = [
    "this is no line\n",
    "unknown,cluster=c,hostname=n0 value=1 1700000000\n",
    "load,cluster=c,hostname=n0 value=many 1700000000\n",
    "load,cluster=c value=1 1700000000\n",
    "load,cluster=c,hostname=n0 text=\"1\" 1700000000\n",
];
/// More steps than any backlog of these small worlds takes.
pub(in super::super) const MANY: usize = 2000;

impl World {
    pub(super) fn step(&mut self, op: &Op) -> Checked {
        match op {
            Op::Write(lines) => self.write_lines(lines),
            Op::WriteAgain => {
                let samples = self.last.clone();
                self.write(&samples, &[], 0)
            }
            Op::Commit => self.commit().map(drop),
            Op::CommitOne => {
                let progress = self.store()?.commit_step();
                self.committed(progress)
            }
            Op::Prepare => self.prepare(),
            Op::Compact { now, steps } => self.compact(*now, usize::from(*steps)),
            Op::Retain => self.retain(),
            Op::Archive { steps, rots } => self.archive(usize::from(*steps), *rots),
            Op::Free { selector, age } => self.free(*selector, *age),
            Op::Query { series, back, len } => self.query(*series, i64::from(*back), i64::from(*len)),
            Op::QueryAmidst { series } => self.query_amidst(*series),
            Op::Sync => self.sync(),
            Op::Pass(minutes) => {
                self.clock.pass(u64::from(*minutes) * 60);
                Ok(())
            }
            Op::Jump(hours) => {
                if *hours < 0 {
                    self.report.reach(Probe::ClockBack);
                }
                self.clock.jump(i64::from(*hours) * 3600);
                Ok(())
            }
            Op::Restart => self.restart(),
            Op::Crash { power } => self.crash(kind(*power)),
            Op::CrashAt { nth, power } => {
                self.stops_by = kind(*power);
                self.disk.set_crash_at(Some(self.disk.ops() + 1 + u64::from(*nth)));
                Ok(())
            }
            Op::CrashTwice { power, nth, power_then } => {
                self.stop(kind(*power));
                self.bury();
                self.stops_by = kind(*power_then);
                self.disk.set_crash_at(Some(1 + u64::from(*nth)));
                self.open()
            }
            Op::CrashThenFail { power, target, nth, errno, is_sticky } => {
                self.stop(kind(*power));
                self.bury();
                self.fail(*target, *nth, *errno, *is_sticky);
                let before = self.disk.seen().faults;
                self.open()?;
                self.report.reach_often(Probe::FaultInRecovery, self.disk.seen().faults - before);
                Ok(())
            }
            Op::Fill(room) => {
                self.is_full = true;
                self.disk.set_capacity(Some(self.disk.used() + u64::from(*room) * 1024));
                Ok(())
            }
            Op::Empty => {
                self.disk.set_capacity(None);
                self.is_full = false;
                Ok(())
            }
            Op::Fail { target, nth, errno, is_sticky } => {
                self.fail(*target, *nth, *errno, *is_sticky);
                Ok(())
            }
            Op::Damage { file, at, how } => {
                self.sync()?;
                if self.has_cause() || self.failed.is_some() || !self.model.pending.is_empty() {
                    return Ok(());
                }
                self.check()?;
                damage::trial(self, *file, *at, *how)
            }
            Op::Check => self.check(),
        }
    }

    fn fail(&mut self, target: u8, nth: u8, errno: u8, is_sticky: bool) {
        let target = [Target::Write, Target::Sync, Target::Read, Target::Name, Target::Any][usize::from(target % 5)];
        let is_write = matches!(target, Target::Write | Target::Sync);
        let errno = match errno % 4 {
            0 if is_write && !is_sticky => libc::EINTR,
            1 => libc::ENOSPC,
            _ => libc::EIO,
        };
        self.disk.fail(Fault { target, nth: 1 + u64::from(nth), errno, is_sticky });
    }

    fn next_bits(&mut self, kind: u8) -> u64 {
        self.value += 1;
        let value = f64::from(self.value);
        match kind % 8 {
            0 | 1 => 1.0,
            2..4 => value,
            4 => -0.0,
            5 => f64::MAX / value,
            _ => value / 3.0,
        }
        .to_bits()
    }

    /// The instant of a sample, on the grid, and whether it will be taken.
    fn instant(&self, series: Series, when: When) -> (i64, bool) {
        let step = FREQUENCIES[usize::from(series.1)];
        let floor = |time: i64| time.div_euclid(step) * step;
        let ceil = |time: i64| floor(time + step - 1);
        let now = self.clock.unix_now();
        let (oldest, newest) = (now - self.options.late_window, now + self.options.skew);
        match when {
            When::Now => (floor(now), true),
            When::Back(slots) => ((floor(now) - i64::from(slots) * step).max(ceil(oldest)), true),
            When::Late(part) => (ceil(oldest + (self.options.late_window - step) * i64::from(part) / 65_536), true),
            When::Ahead(slots) => ((floor(now) + i64::from(slots) * step).min(floor(newest)), true),
            When::TooLate => (ceil(oldest) - step, false),
            When::TooFar => (floor(newest) + step, false),
        }
    }

    fn write_lines(&mut self, lines: &[Line]) -> Checked {
        let (mut samples, mut others, mut bad) = (Vec::new(), Vec::new(), 0);
        for line in lines {
            match *line {
                Line::Sample { series, when, value } => {
                    let series = read::series(series, self.hosts);
                    let (time, is_good) = self.instant(series, when);
                    let bits = self.next_bits(value);
                    if !is_good {
                        self.report.reach(Probe::RefusedTime);
                    }
                    samples.push(Sample { series, time, bits });
                }
                Line::Bad(kind) => {
                    others.push((samples.len(), BAD[usize::from(kind) % BAD.len()]));
                    bad += 1;
                }
            }
        }
        self.last.clone_from(&samples);
        self.write(&samples, &others, bad)
    }

    /// Writes samples with other lines before some of them.
    pub(in super::super) fn write(&mut self, samples: &[Sample], others: &[(usize, &str)], mut bad: u64) -> Checked {
        let mut body = String::new();
        let mut others = others.iter().peekable();
        for (at, sample) in samples.iter().enumerate() {
            while let Some((_, text)) = others.next_if(|(before, _)| *before <= at) {
                body.push_str(text);
            }
            read::put_line(&mut body, *sample);
        }
        others.for_each(|(_, text)| body.push_str(text));
        let now = self.clock.unix_now();
        let window = now - self.options.late_window..=now + self.options.skew;
        let good: Vec<Sample> = samples.iter().filter(|sample| window.contains(&sample.time)).copied().collect();
        bad += (samples.len() - good.len()) as u64;
        let store = self.store()?;
        let before = store.pulse().last.0;
        match store.write(body.as_bytes(), "c", true) {
            Ok(written) => {
                o4_every_line(&written, good.len() as u64, bad)?;
                let last = store.pulse().last.0;
                self.given = self.given.max(last);
                if !good.is_empty() {
                    let (first, last) = if last > before { (before + 1, last) } else { (written.lsn.0, written.lsn.0) };
                    self.acknowledge(&store, last, good.len() as u64);
                    self.model.take(first, last, Effect::Write(good));
                }
                Ok(())
            }
            Err(why) => {
                let has_cause = match &why {
                    Unavailable::Failed(_) => self.has_met_fault() || self.disk.is_stopped(),
                    Unavailable::Full(_) => self.has_cause() || self.is_waiting,
                    _ => false,
                };
                o9_no_error_without_cause(has_cause, || format!("a write is refused: {why}"))?;
                o9_no_error_without_cause(store.pulse().last.0 == before, || {
                    "a body that was refused was taken in part".to_owned()
                })
            }
        }
    }

    fn acknowledge(&self, store: &Store, lsn: u64, samples: u64) {
        let acks = Arc::clone(&self.acks);
        store.when_durable(
            Lsn(lsn),
            Box::new(move |outcome| {
                if outcome.is_ok() {
                    acks.lsn.fetch_max(lsn, Ordering::Relaxed);
                    acks.samples.fetch_add(samples, Ordering::Relaxed);
                }
            }),
        );
    }

    /// Commits until there is nothing to commit; whether that was reached.
    pub(in super::super) fn commit(&mut self) -> Result<bool, Failure> {
        let store = self.store()?;
        let mut progress = Progress::Done;
        for _ in 0..MANY {
            progress = store.commit_step();
            if progress != Progress::Done {
                break;
            }
        }
        o10_liveness(progress != Progress::Done, || "commits never end".to_owned())?;
        self.committed(progress)?;
        Ok(progress == Progress::Idle && !self.disk.is_stopped())
    }

    fn committed(&mut self, progress: Progress) -> Checked {
        match progress {
            Progress::Idle | Progress::Done => {}
            Progress::Blocked => {
                self.is_waiting = true;
                o9_no_error_without_cause(self.has_cause(), || "a commit waits".to_owned())?;
                self.report.reach(Probe::Full);
            }
            Progress::Failed => {
                // A full disk is no failure: what is committed has its space.
                let has_cause = self.disk.is_stopped() || self.has_met_fault();
                o9_no_error_without_cause(has_cause, || "the log has failed".to_owned())?;
                self.report.reach(Probe::LogFailed);
                let most = *self.failed.get_or_insert(self.acknowledged());
                o9_no_error_without_cause(self.acknowledged() <= most, || {
                    "acknowledged after the log has failed".to_owned()
                })?;
            }
        }
        if !self.setup.is_interval {
            self.synced = self.acknowledged();
            self.model.settle(self.synced);
        }
        Ok(())
    }

    fn sync(&mut self) -> Checked {
        self.commit()?;
        // What only the second one commits is not synced yet.
        let committed = self.acknowledged();
        self.clock.pass(INTERVAL + 1);
        if self.commit()? {
            self.synced = self.synced.max(committed);
            self.model.settle(self.synced);
        }
        Ok(())
    }

    pub(in super::super) fn prepare(&mut self) -> Checked {
        let prepared = self.store()?.prepare_step();
        if matches!(prepared, Ok(Progress::Done)) {
            self.report.reach(Probe::Rotated);
        }
        self.is_waiting &= prepared.is_err();
        o9_no_error_without_cause(prepared.is_ok() || self.has_cause(), || format!("preparation fails: {prepared:?}"))
    }

    /// Does pieces of the background work; says nothing of whether there are more.
    pub(in super::super) fn compact(&mut self, now: bool, steps: usize) -> Checked {
        let store = self.store()?;
        for _ in 0..steps {
            match store.compact_step(now) {
                Ok(Progress::Done) => {}
                Ok(_) => break,
                Err(error) => {
                    self.report.reach(Probe::JobFailed);
                    o9_no_error_without_cause(self.has_cause() || self.failed.is_some(), || {
                        format!("a job fails: {error}")
                    })?;
                    break;
                }
            }
        }
        if steps >= 16 { self.check() } else { Ok(()) }
    }

    pub(in super::super) fn retain(&mut self) -> Checked {
        let Some(retention) = self.options.retention else { return Ok(()) };
        let limit = self.clock.unix_now().min(self.model.newest) - retention;
        let Model { expired, archived, .. } = &mut self.model;
        let gone = if self.options.archive.is_some() { archived } else { expired };
        *gone = limit.div_euclid(DAY).max(*gone);
        let store = self.store()?;
        for _ in 0..MANY {
            match store.retention_step(&|_, _| false) {
                Ok(Progress::Done) => self.report.reach(Probe::Retained),
                Ok(_) => return Ok(()),
                Err(error) => {
                    return o9_no_error_without_cause(self.has_cause(), || format!("retention fails: {error}"));
                }
            }
        }
        o10_liveness(false, || "retention never ends".to_owned())
    }

    /// Archives; says nothing of whether there is more to do.
    pub(in super::super) fn archive(&mut self, steps: usize, rots: bool) -> Checked {
        let store = self.store()?;
        let mut aside = read::files_aside(&self.disk);
        for _ in 0..steps {
            match store.archive_step() {
                Ok(Progress::Done) => self.report.reach(Probe::Archived),
                Ok(_) => break,
                Err(error) => {
                    let has_rotted = std::mem::take(&mut self.has_rotted_aside);
                    let has_cause = self.has_cause() || self.failed.is_some() || has_rotted;
                    self.report.reach(if has_rotted { Probe::ArchiveRefused } else { Probe::JobFailed });
                    o9_no_error_without_cause(has_cause, || format!("archiving fails: {error}"))?;
                    break;
                }
            }
            // What is complete has not been read back yet.
            let before = std::mem::replace(&mut aside, read::files_aside(&self.disk));
            if rots && let Some(path) = aside.iter().find(|path| !before.contains(path)) {
                let at = self.rng.number();
                let rot = |bytes: &mut Vec<u8>| {
                    let at = usize::try_from(at % bytes.len().max(1) as u64).unwrap_or(0);
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x10);
                };
                self.has_rotted_aside |= self.disk.corrupt(path, rot).is_ok();
            }
        }
        if steps >= 16 { self.check() } else { Ok(()) }
    }

    fn free(&mut self, selector: u8, age: u16) -> Checked {
        // What is archived is not freed, and the model does not tell it from the rest.
        if self.options.archive.is_some() {
            return Ok(());
        }
        self.sync()?;
        if self.disk.is_stopped() || self.failed.is_some() || !self.model.pending.is_empty() {
            return Ok(());
        }
        let selector = read::selector(selector, self.hosts);
        let to = self.clock.unix_now() - i64::from(age) * 60;
        let store = self.store()?;
        let shown = store.debug(&[]).unwrap_or_default();
        let mut gone = Vec::new();
        for (series, runs) in read::runs(&shown).map_err(|what| Failure::new(Oracle::O2, what))? {
            let half = FREQUENCIES[usize::from(series.1)] / 2;
            let ended = runs.iter().filter(|run| run.end + half < to && read::selects(&selector, series));
            gone.extend(ended.map(|run| (series, run.start, run.end)));
        }
        let before = store.pulse().last.0;
        match store.free(std::slice::from_ref(&selector), to) {
            Ok(_) => {
                let last = store.pulse().last.0;
                self.given = self.given.max(last);
                if last > before {
                    self.report.reach(Probe::Freed);
                    self.acknowledge(&store, last, 0);
                    self.model.take(before + 1, last, Effect::Free(gone));
                } else if !gone.is_empty() {
                    return Err(Failure::new(Oracle::O12, format!("{gone:?} were to go, and nothing is said to")));
                }
                self.commit().map(drop)
            }
            Err(error) => {
                let has_cause = self.has_cause() || self.is_waiting;
                o9_no_error_without_cause(has_cause, || format!("a free is refused: {error}"))
            }
        }
    }

    fn query(&mut self, number: u8, back: i64, len: i64) -> Checked {
        if self.disk.is_stopped() {
            return Ok(());
        }
        let series = read::series(number, self.hosts);
        let step = FREQUENCIES[usize::from(series.1)];
        let from = self.clock.unix_now().div_euclid(step) * step - back * step;
        self.ask(series, (from, from + len * step))
    }

    /// Reads a range of a series, and holds it against the model.
    fn ask(&mut self, series: Series, (from, to): (i64, i64)) -> Checked {
        let store = self.store()?;
        let durable = store.pulse().durable.0;
        let mut seen = self.model.seen(durable);
        // A level without data shows those of its components, and what the retention may have dropped may be gone.
        let mut own = seen.settled.get(&series).into_iter().flat_map(|slots| slots.range(from..to));
        let has_own = own.any(|(&time, _)| day(series, time) >= seen.expired);
        if !has_own && series.2 == 0 {
            return Ok(());
        }
        let found = self.disk.undisturbed(|| read::values(&store, series, (from, to)));
        let found = found.map_err(|error| Failure::new(Oracle::O9, format!("{:?}: {error}", read::names(series))))?;
        self.served = self.served.max(durable);
        let mut whole = seen.settled.clone();
        let slots = whole.entry(series).or_default();
        slots.retain(|time, _| !(from..to).contains(time));
        slots.extend(found);
        super::o12_union_is_model(&mut seen, &whole, false)
    }

    /// Reads a series while all rows move to snapshots, at the point where a reader has the head and not yet the rest.
    fn query_amidst(&mut self, number: u8) -> Checked {
        if !self.commit()? {
            return Ok(());
        }
        let series = read::series(number, self.hosts);
        let store = self.store()?;
        canary::set_amidst(Some(Rc::new(move || {
            for _ in 0..MANY {
                // A job that fails for a fault of the disk moves nothing.
                if store.compact_step(true).is_ok_and(|progress| progress == Progress::Done) {
                    continue;
                }
                break;
            }
        })));
        let step = FREQUENCIES[usize::from(series.1)];
        let now = self.clock.unix_now().div_euclid(step) * step;
        let asked = self.ask(series, (now - 300 * step, now + 10 * step));
        canary::set_amidst(None);
        self.report.reach(Probe::MovedAmidst);
        asked
    }

    fn restart(&mut self) -> Checked {
        let store = self.store()?;
        if let Err(error) = store.close() {
            let has_cause = self.has_cause() || self.failed.is_some();
            o9_no_error_without_cause(has_cause, || format!("does not close: {error}"))?;
        }
        if self.disk.is_stopped() {
            return Ok(());
        }
        // What could not be committed is given up, and its LSNs with it; after a failure some of it may be there.
        if !matches!(store.pulse().refuses, Some(Unavailable::Failed(_))) {
            self.model.give_up(store.pulse().durable.0);
        }
        drop(store);
        self.lost_power |= self.has_met_fault();
        self.bury();
        self.open()
    }

    /// A clean end and a start, nothing being in the way.
    pub(in super::super) fn restart_cleanly(&mut self) -> Checked {
        self.restart()
    }

    /// Takes all faults back, and begins anew after a kill.
    pub(in super::super) fn calm(&mut self) -> Checked {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.disk.set_short_writes(false);
        self.disk.set_late_writes(false);
        self.is_full = false;
        self.start.crashes.clear();
        let by = if self.disk.is_stopped() { self.stops_by } else { Crash::Kill };
        self.crash(by)
    }
}
