//! Carries a script out: a store, its disk, its clock, and the model of what it must hold.

mod steps;

use super::damage::{self, Swept};
use super::model::{Content, Model, Sample};
use super::oracle::{Checked, Failure, Oracle, o1_durability, o3_no_hole, o6_stability};
use super::oracle::{o9_no_error_without_cause, o12_union_is_model};
use super::quiet;
use super::read;
use super::report::{Probe, Report};
use super::{Op, Script, Setup};
use crate::archive::LocalDirectory;
use crate::canary;
use crate::disk::Disk;
use crate::disk::sim::{Crash, Fault, Rng, SimDisk};
use crate::env::Env;
use crate::paths::ArchiveLayout;
use crate::store::{Archive, Durability, OpenReport, Options, Store};
use crate::wal::Tail;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// The data directory.
pub(super) const DIRECTORY: &str = "/data";
/// The directory of the archive.
pub(super) const ARCHIVE: &str = "/archive";
/// When a world begins, in unix seconds: an hour before midnight, on the grid of every metric.
const START: i64 = 19_675 * 86_400 + 23 * 3600;
/// Seconds of a durability that is not `sync`.
const INTERVAL: u64 = 10;
/// Bytes of a segment: so few that a life begins several.
const SEGMENT_LEN: u64 = 64 << 10;
/// Bytes of the log above which a snapshot is taken.
pub(super) const LOG_BOUND: u64 = 24 << 10;
/// Operations after which a store whose log has failed is started again.
const PATIENCE: u32 = 4;

/// Time that the script sets, and ids that count up.
#[derive(Debug)]
pub(super) struct Clock {
    now: AtomicI64,
    monotonic: AtomicU64,
    ids: AtomicU8,
}

impl Env for Clock {
    fn unix_now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.monotonic.load(Ordering::Relaxed))
    }

    fn unique(&self) -> [u8; 16] {
        [self.ids.fetch_add(1, Ordering::Relaxed); 16]
    }
}

impl Clock {
    /// Seconds pass on both clocks.
    pub(super) fn pass(&self, seconds: u64) {
        self.now.fetch_add(i64::try_from(seconds).unwrap_or(0), Ordering::Relaxed);
        self.monotonic.fetch_add(seconds, Ordering::Relaxed);
    }

    /// The wall clock jumps, within a decade.
    fn jump(&self, seconds: i64) {
        const YEAR: i64 = 366 * 86_400;
        let now = self.unix_now().saturating_add(seconds).clamp(START - YEAR, START + 10 * YEAR);
        self.now.store(now, Ordering::Relaxed);
    }
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acks {
    lsn: AtomicU64,
    samples: AtomicU64,
}

/// What happens to a run beside its script, for tests that go through all points of a short one.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The machine stops at that operation of its first life, then at that one of the recovery, and so on, each with
    /// whether the power is cut. The first of these ends the script.
    pub crashes: Vec<(u64, bool)>,
    /// What fails in the first life.
    pub fault: Option<Fault>,
    /// What fails in the second life, from its recovery on.
    pub fault_then: Option<Fault>,
}

/// A store and everything around it.
#[expect(clippy::struct_excessive_bools, reason = "each tells something of its own")]
pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) clock: Arc<Clock>,
    pub(super) options: Options,
    pub(super) setup: Setup,
    pub(super) hosts: u8,
    pub(super) store: Option<Arc<Store>>,
    pub(super) model: Model,
    pub(super) report: Report,
    pub(super) rng: Rng,
    acks: Arc<Acks>,
    /// The highest LSN that was given.
    given: u64,
    /// The highest LSN that is on the device for sure.
    synced: u64,
    /// The highest LSN that was read.
    served: u64,
    /// What is acknowledged must not rise above this: the log has failed.
    failed: Option<u64>,
    /// Operations since then.
    failed_for: u32,
    is_full: bool,
    /// Whether the store was told that there is no space, and not yet that there is.
    is_waiting: bool,
    /// Faults of the disk before this life.
    faults_before: u64,
    /// How the machine stops when it stops.
    stops_by: Crash,
    /// Whether the power was cut since the last good start.
    lost_power: bool,
    start: Start,
    /// Crashes of `start` that have come.
    crashes: usize,
    value: u32,
    last: Vec<Sample>,
    /// Whether what was written aside for the archive has rotted, and will be read back by this life.
    has_rotted_aside: bool,
    /// Whether the script is over: what was looked at now and then is looked at always.
    pub(super) is_at_end: bool,
}

/// Runs a script to its quiet end.
pub fn run(script: &Script) -> Result<Report, Failure> {
    run_from(script, Start::default())
}

/// Runs a script with something more. Gives the report, in which `planned` says how many crashes of `start` came.
pub fn run_from(script: &Script, start: Start) -> Result<Report, Failure> {
    // What a run that panicked has left in this thread.
    canary::set_amidst(None);
    let is_brief = !start.crashes.is_empty() || start.fault.is_some();
    let mut world = World::new(script, start)?;
    let result = world.live(&script.ops).and_then(|()| quiet::end(&mut world, is_brief));
    world.bury();
    result?;
    let seen = world.disk.seen();
    world.report.reach_often(Probe::LateWrite, seen.late_writes);
    world.report.reach_often(Probe::ShortWrite, seen.short_writes);
    world.report.reach_often(Probe::GhostEvicted, seen.ghosts_evicted);
    world.report.planned = world.crashes as u64;
    world.report.faults = seen.faults;
    world.report.acknowledged = world.acks.samples.load(Ordering::Relaxed);
    world.report.mix(world.disk.trace());
    Ok(world.report)
}

/// Runs a script, and then damages a copy of its files at every byte that `stride` does not pass over. Of several parts
/// that are done at the same time this does the one of a number.
pub fn sweep(script: &Script, stride: usize, (part, parts): (usize, usize)) -> Result<Swept, Failure> {
    let mut world = World::new(script, Start::default())?;
    world.live(&script.ops)?;
    world.check()?;
    damage::sweep(&world, stride, (part, parts))
}

/// An archive that is fed, beside the data directory.
pub(super) fn archive_on(disk: &SimDisk) -> Archive {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Archive { place: Arc::new(LocalDirectory::new(disk, ARCHIVE)), layout: ArchiveLayout::Hive, is_fed: true }
}

fn kind(power: bool) -> Crash {
    if power { Crash::Power } else { Crash::Kill }
}

impl World {
    fn new(script: &Script, start: Start) -> Result<Self, Failure> {
        let setup = script.setup;
        let mut options = Options::new(DIRECTORY, read::metrics());
        options.segment_len = SEGMENT_LEN;
        options.log_bound = LOG_BOUND;
        "the simulator".clone_into(&mut options.owner);
        if setup.is_interval {
            options.durability = Durability::Interval(Duration::from_secs(INTERVAL));
        }
        let disk = SimDisk::new(script.seed);
        options.retention = setup.has_retention.then_some(2 * 86_400);
        options.archive = (setup.has_retention && setup.has_archive).then(|| archive_on(&disk));
        if setup.has_short_window {
            options.late_window = 2 * 3600;
        }
        let clock = Clock { now: AtomicI64::new(START), monotonic: AtomicU64::new(0), ids: AtomicU8::new(1) };
        let mut world = Self {
            disk,
            clock: Arc::new(clock),
            options,
            setup,
            hosts: 1 + setup.hosts % 4,
            store: None,
            model: Model::default(),
            report: Report::default(),
            rng: Rng::new(!script.seed),
            acks: Arc::default(),
            given: 0,
            synced: 0,
            served: 0,
            failed: None,
            failed_for: 0,
            is_full: false,
            is_waiting: false,
            faults_before: 0,
            stops_by: Crash::Kill,
            lost_power: false,
            start,
            crashes: 0,
            value: 0,
            last: Vec::new(),
            has_rotted_aside: false,
            is_at_end: false,
        };
        world.disk.set_short_writes(setup.has_short_writes);
        world.disk.set_late_writes(setup.has_late_writes);
        world.arm();
        if let Some(fault) = world.start.fault {
            world.disk.fail(fault);
        }
        world.open()?;
        Ok(world)
    }

    /// Sets the next crash of the start.
    fn arm(&mut self) {
        if let Some(&(at, power)) = self.start.crashes.get(self.crashes) {
            self.stops_by = kind(power);
            self.disk.set_crash_at(Some(at));
        }
    }

    fn live(&mut self, ops: &[Op]) -> Checked {
        for op in ops {
            if self.crashes > 0 {
                return Ok(());
            }
            self.step(op)?;
            if self.disk.is_stopped() {
                self.crash(self.stops_by)?;
            }
            if self.failed.is_some() {
                self.failed_for += 1;
                if self.failed_for > PATIENCE {
                    self.crash(Crash::Kill)?;
                }
            }
        }
        Ok(())
    }

    /// The store; there is one between operations.
    pub(super) fn store(&self) -> Result<Arc<Store>, Failure> {
        self.store.clone().ok_or_else(|| Failure::new(Oracle::O10, "there is no store"))
    }

    /// Whether something may fail at present: a fault was met, the disk is full or the machine has stopped.
    pub(super) fn has_cause(&self) -> bool {
        self.disk.is_stopped() || self.is_full || self.has_met_fault()
    }

    fn has_met_fault(&self) -> bool {
        self.disk.seen().faults > self.faults_before
    }

    /// The highest LSN that was acknowledged.
    fn acknowledged(&self) -> u64 {
        self.acks.lsn.load(Ordering::Relaxed)
    }

    /// Ends the process: nothing of it does anything any more.
    fn bury(&mut self) {
        if let Some(store) = self.store.take() {
            let stats = store.stats();
            self.report.reach_often(Probe::Snapshot, stats.jobs.snapshot_files);
            self.report.reach_often(Probe::Merge, stats.jobs.merge_files);
        }
    }

    /// The machine stops, and a store is opened on what is left.
    pub(super) fn crash(&mut self, by: Crash) -> Checked {
        self.stop(by);
        self.bury();
        self.open()
    }

    fn stop(&mut self, by: Crash) {
        // A failed sync takes with it what was not synced before.
        self.lost_power |= self.has_met_fault();
        if self.crashes < self.start.crashes.len() && self.disk.is_stopped() {
            self.crashes += 1;
        }
        self.disk.crash(by);
        if let Some(fault) = self.start.fault_then.take_if(|_| self.crashes == 1) {
            self.disk.fail(fault);
        }
        self.report.cycles += 1;
        self.report.power_cuts += u64::from(by == Crash::Power);
        self.lost_power |= by == Crash::Power;
    }

    /// Opens the store, as often as it takes, and holds it against the model.
    pub(super) fn open(&mut self) -> Checked {
        if self.crashes > 0 {
            self.arm();
        }
        loop {
            self.faults_before = self.faults_before.max(self.disk.seen().faults);
            let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
            let clock = Arc::clone(&self.clock) as Arc<dyn Env>;
            match Store::open(disk, clock, self.options.clone()) {
                Ok((store, report)) => {
                    self.store = Some(Arc::new(store));
                    return self.opened(&report);
                }
                Err(_) if self.disk.is_stopped() => {
                    self.report.reach(Probe::CrashInRecovery);
                    self.stop(self.stops_by);
                    if self.crashes > 0 {
                        self.arm();
                    }
                }
                Err(_) if self.has_met_fault() => {
                    self.report.reach(Probe::OpenFailed);
                    self.stop(Crash::Kill);
                }
                Err(_) if self.is_full && self.acknowledged() == 0 => {
                    // Without a manifest there is nothing to read, and no space for one.
                    self.is_full = false;
                    self.disk.set_capacity(None);
                }
                Err(error) => return Err(Failure::new(Oracle::O10, format!("does not open: {error}"))),
            }
        }
    }

    /// Checks what a start has found.
    fn opened(&mut self, report: &OpenReport) -> Checked {
        if self.crashes > 0 {
            self.disk.set_crash_at(None);
        }
        let next = report.next_lsn.0;
        let is_lossy = self.lost_power && self.setup.is_interval;
        if is_lossy {
            o1_durability(next, self.synced)?;
        } else {
            o1_durability(next, self.acknowledged())?;
            o6_stability(next, self.served)?;
        }
        o3_no_hole(next, self.given)?;
        o9_no_error_without_cause(report.losses.is_empty() && report.foreign.is_empty(), || {
            format!("damage where there is none: {report:?}")
        })?;
        o9_no_error_without_cause(report.read_only.is_none() || self.has_cause(), || {
            format!("can only be read: {:?}", report.read_only)
        })?;
        self.is_waiting = report.read_only.is_some();
        if self.is_waiting {
            self.report.reach(Probe::ReadOnly);
        }
        if matches!(report.tail, Tail::Torn { .. }) {
            self.report.reach(Probe::TornTail);
        }
        if next > self.acknowledged() + 1 {
            self.report.reach(Probe::UnacknowledgedKept);
        } else if next <= self.acknowledged() {
            self.report.reach(Probe::IntervalLost);
        }
        let (_, in_part) = self.model.cut(next - 1);
        if in_part {
            self.report.reach(Probe::PartOfABody);
        }
        self.acks.lsn.store(next - 1, Ordering::Relaxed);
        (self.given, self.synced, self.served) = (next - 1, next - 1, next - 1);
        (self.failed, self.failed_for, self.lost_power) = (None, 0, false);
        self.has_rotted_aside = false;
        let read = self.read_all()?;
        o12_union_is_model(&mut self.model, &read, true)
    }

    /// Everything that can be read.
    pub(super) fn read_all(&mut self) -> Result<Content, Failure> {
        let store = self.store()?;
        let read = self.disk.undisturbed(|| {
            let mut read = read::content(&store)?;
            if store.stats().archived_parts > 0 {
                // It is slow to read.
                let is_thorough = self.is_at_end || self.report.checks.is_multiple_of(8);
                if is_thorough {
                    self.report.reach(Probe::ArchiveRead);
                    read::check_archived(&store, &self.model)?;
                }
                read::add_archived(&store, &self.model, &mut read, is_thorough)?;
            }
            Ok(read)
        })?;
        self.report.checks += 1;
        for (series, slots) in &read {
            for (time, bits) in slots {
                self.report.mix(u64::from(series.0) << 16 ^ u64::from(series.2) ^ time.cast_unsigned() ^ bits);
            }
        }
        Ok(read)
    }

    /// What is read is what the model has; without a crash in between.
    pub(super) fn check(&mut self) -> Checked {
        if self.disk.is_stopped() {
            return Ok(());
        }
        let read = self.read_all()?;
        let durable = self.store()?.pulse().durable.0;
        self.served = self.served.max(durable);
        if self.model.pending.is_empty() {
            return o12_union_is_model(&mut self.model, &read, false);
        }
        o12_union_is_model(&mut self.model.seen(durable), &read, false)
    }
}
