//! Snapshots, merges, restarts, crashes, frees and retention in any order: what is read is what the model has, and what
//! should change nothing changes not a bit of any answer.

use crate::lab::{Lab, METRICS, START, ask, bits, commit, frequency, line, present, runs};
use crate::model::{Key, Model, Question, Sample, day};
use kymo_engine::disk::sim::Crash;
use kymo_engine::env::Env;
use kymo_engine::model::Aggregation;
use kymo_engine::store::{DebugTree, Progress, Store};
use std::collections::{BTreeMap, BTreeSet};

const DAY: i64 = 86_400;
const RETENTION: i64 = 3 * DAY;
/// The host whose data outlive the retention.
const EXEMPT: &str = "n0";

/// Chance from a seed: a linear congruential generator, of which the high bits are taken.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(i64::try_from(from.len()).unwrap())).unwrap()]
    }

    /// Values of all the encodings: constant, exact as `f32`, and neither; some that are not numbers of the day.
    fn value(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let number = self.below(1 << 20) as f64;
        match self.below(10) {
            0..4 => 1.0,
            4..6 => number,
            6 => self.pick(&[-0.0, 5e-324, 1e300, f64::MAX, 0.1]),
            _ => number / 3.0,
        }
    }
}

#[derive(Debug)]
enum Op {
    Write(Vec<Sample>),
    Free { shown: DebugTree, selector: Vec<String>, to: i64 },
}

/// All that can be read, bit for bit.
type Seen = (Option<DebugTree>, Vec<Vec<u64>>);

/// A lab with a model, over any number of starts.
struct Run {
    lab: Lab,
    store: Option<Store>,
    model: Model,
    /// What was handed to the store and is not known to be durable.
    pending: Vec<Op>,
    /// Days that retention may have dropped when the machine stopped.
    expiring: BTreeSet<i64>,
    told: String,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut lab = Lab::new(seed);
        lab.options.retention = Some(RETENTION);
        lab.options.late_window = DAY;
        let store = lab.open().unwrap().0;
        let (model, pending, expiring) = (Model::default(), Vec::new(), BTreeSet::new());
        Self { lab, store: Some(store), model, pending, expiring, told: format!("seed {seed}") }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn write(&mut self, samples: Vec<Sample>) {
        let lines = samples.iter().map(|Sample { key: (host, metric, component), time, value }| {
            line((host, metric, component), *time, *value)
        });
        let written = self.store().write(lines.collect::<String>().as_bytes(), "c", true);
        match written {
            Ok(written) => assert_eq!(written.refused, 0, "{}: {written:?}", self.told),
            Err(error) => assert!(self.lab.disk.is_stopped(), "{}: {error}", self.told),
        }
        self.pending.push(Op::Write(samples));
    }

    /// Commits; if the machine goes on, all that was handed over is settled.
    fn commit(&mut self) {
        let progress = commit(self.store());
        if !self.lab.disk.is_stopped() {
            assert_eq!(progress, Progress::Idle, "{}", self.told);
            for op in std::mem::take(&mut self.pending) {
                apply(&mut self.model, &op);
            }
        }
        let prepared = self.store().prepare_step();
        assert!(prepared.is_ok() || self.lab.disk.is_stopped(), "{}: {prepared:?}", self.told);
    }

    fn free(&mut self, selector: &[&str], to: i64) {
        self.commit();
        if self.lab.disk.is_stopped() {
            return;
        }
        let selector: Vec<String> = selector.iter().map(|&name| name.to_owned()).collect();
        let shown = self.store().debug(&[]).unwrap_or_default();
        let freed = self.store().free(std::slice::from_ref(&selector), to);
        assert!(freed.is_ok(), "{}: {freed:?}", self.told);
        self.pending.push(Op::Free { shown, selector, to });
        self.commit();
    }

    /// Does up to `steps` pieces of the background work.
    fn compact(&mut self, now_or_never: bool, steps: i64) {
        for _ in 0..steps {
            match self.store().compact_step(now_or_never) {
                Ok(Progress::Done) => {}
                Ok(_) => return,
                Err(error) => return assert!(self.lab.disk.is_stopped(), "{}: {error}", self.told),
            }
        }
    }

    /// Drops all that is older than the retention and no longer in the head.
    fn retain(&mut self) {
        self.commit();
        self.compact(true, i64::MAX);
        if self.lab.disk.is_stopped() {
            return;
        }
        // The newest sample ended at most a slot after the clock of the store, as it is seen here: days tell the same.
        let newest =
            self.model.values.iter().filter_map(|((_, metric, _), slots)| {
                slots.keys().next_back().map(|&time| time + frequency(metric) / 2)
            });
        let Some(newest) = newest.max() else { return };
        let limit = self.lab.clock.unix_now().min(newest) - RETENTION;
        self.expiring = self.model.days(EXEMPT).into_iter().filter(|day| (day + 1) * DAY <= limit).collect();
        loop {
            match self.store().retention_step(&|_, host| host == EXEMPT) {
                Ok(Progress::Idle) => break,
                Ok(_) => self.compact(false, i64::MAX),
                Err(error) => return assert!(self.lab.disk.is_stopped(), "{}: {error}", self.told),
            }
            if self.lab.disk.is_stopped() {
                return;
            }
        }
        for day in std::mem::take(&mut self.expiring) {
            self.model.drop_day(day, EXEMPT);
        }
    }

    fn restart(&mut self) {
        let closed = self.store().close();
        assert!(closed.is_ok() || self.lab.disk.is_stopped(), "{}: {closed:?}", self.told);
        if self.lab.disk.is_stopped() {
            return;
        }
        for op in std::mem::take(&mut self.pending) {
            apply(&mut self.model, &op);
        }
        self.store = None;
        match self.lab.open() {
            Ok((store, _)) => self.store = Some(store),
            Err(error) => assert!(self.lab.disk.is_stopped(), "{}: {error}", self.told),
        }
    }

    /// The machine stops now: what was settled is there, and of what was pending the beginning.
    fn crash(&mut self, kind: Crash) {
        self.lab.disk.crash(kind);
        self.store = None;
        let opened = self.lab.open();
        let (store, report) = opened.unwrap_or_else(|error| panic!("{}: {error}", self.told));
        self.store = Some(store);
        let read = self.content();
        let days = Model { values: read.clone() }.days(EXEMPT);
        for day in std::mem::take(&mut self.expiring) {
            if !days.contains(&day) {
                self.model.drop_day(day, EXEMPT);
            }
        }
        let mut pending = std::mem::take(&mut self.pending).into_iter();
        while self.model.content() != read {
            match pending.next() {
                Some(op) => apply(&mut self.model, &op),
                None => panic!("{}: {}\n{report:?}", self.told, difference(&self.model.content(), &read)),
            }
        }
    }

    /// The values of every series that is shown.
    fn content(&self) -> BTreeMap<Key, BTreeMap<i64, u64>> {
        let tree = self.store().debug(&[]).unwrap_or_default();
        let mut content = BTreeMap::new();
        for (key, list) in runs(&tree) {
            let (host, metric, component) = key.clone();
            let question =
                Question { host, metric, components: Some(component).into_iter().filter(|c| !c.is_empty()).collect() };
            let half = frequency(&question.metric) / 2;
            // Only where it has runs: elsewhere a host's children would answer for it.
            for run in list {
                let answer = ask(self.store(), &question, run.start + half, run.end + half).unwrap();
                let slots: &mut BTreeMap<i64, u64> = content.entry(key.clone()).or_default();
                slots.extend(present(answer.as_ref()));
            }
        }
        content
    }

    fn check(&self) {
        let (expected, read) = (self.model.content(), self.content());
        assert!(expected == read, "{}: {}", self.told, difference(&expected, &read));
    }

    /// Everything in every way, also against the model.
    fn look(&self) -> Seen {
        let (from, to) = (START - 2 * DAY, self.lab.clock.unix_now().div_euclid(600) * 600 + DAY);
        let answers = questions().iter().map(|question| self.ask(question, from, to)).collect();
        (self.store().debug(&[]), answers)
    }

    /// One question, answered as the model answers it.
    fn ask(&self, question: &Question, from: i64, to: i64) -> Vec<u64> {
        let answer = ask(self.store(), question, from, to);
        let answer = answer.unwrap_or_else(|error| panic!("{}: {question:?}: {error}", self.told));
        let (expected, read) = (self.model.answer(question, from, to), present(answer.as_ref()));
        assert!(
            expected == read,
            "{}: {question:?} from {from} to {to}: {}",
            self.told,
            difference(&BTreeMap::from([((), expected)]), &BTreeMap::from([((), read)]))
        );
        bits(answer.as_ref())
    }
}

/// The first difference between what was expected and what was read.
fn difference<K: Ord + std::fmt::Debug>(
    expected: &BTreeMap<K, BTreeMap<i64, u64>>,
    read: &BTreeMap<K, BTreeMap<i64, u64>>,
) -> String {
    let none = BTreeMap::new();
    for key in expected.keys().chain(read.keys()) {
        let (expected, read) = (expected.get(key).unwrap_or(&none), read.get(key).unwrap_or(&none));
        for time in expected.keys().chain(read.keys()) {
            let (expected, read) = (expected.get(time), read.get(time));
            if expected != read {
                let value = |bits: Option<&u64>| bits.map(|&bits| f64::from_bits(bits));
                return format!("{key:?} at {time}: {:?}, expected {:?}", value(read), value(expected));
            }
        }
    }
    "no difference".to_owned()
}

fn apply(model: &mut Model, op: &Op) {
    match op {
        Op::Write(samples) => model.write(samples),
        Op::Free { shown, selector, to } => model.free(shown, selector, *to),
    }
}

/// `load` is of hosts and sometimes of their cores, `flops` of cores, `temp` of sockets.
const HOSTS: [&str; 4] = [EXEMPT, "n1", "n2", "m3"];

fn components(metric: &str) -> &'static [&'static str] {
    match metric {
        "load" => &["", "", "", "core0", "core1"],
        "flops" => &["core0", "core1", "core2"],
        _ => &["socket0"],
    }
}

fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    for host in HOSTS {
        for (metric, _, aggregation) in METRICS {
            let mut ask = |components: &[&str]| {
                let components = components.iter().map(|&name| name.to_owned()).collect();
                questions.push(Question { host: host.to_owned(), metric: metric.to_owned(), components });
            };
            ask(&[]);
            components(metric).iter().filter(|name| !name.is_empty()).for_each(|&name| ask(&[name]));
            if aggregation != Aggregation::None {
                ask(&["core0", "core1"]);
            }
        }
    }
    questions
}

/// Samples on the grids: of now, late, several in a row, some of them twice.
fn samples(chance: &mut Chance, now: i64) -> Vec<Sample> {
    let mut samples = Vec::new();
    for _ in 0..=chance.below(4) {
        let (metric, ..) = chance.pick(&METRICS);
        let step = frequency(metric);
        let newest = now.div_euclid(step) * step;
        let oldest = (now - DAY + step - 1).div_euclid(step) * step;
        let slots = (newest - oldest) / step;
        let back = match chance.below(10) {
            0..6 => 0,
            6..8 => chance.below(slots.min(30)),
            _ => chance.below(slots),
        };
        let (host, component) = (chance.pick(&HOSTS), chance.pick(components(metric)));
        let first = newest - back * step;
        for slot in 0..chance.pick(&[1, 1, 3, 20, 60]) {
            let time = first - slot * step;
            if time >= oldest {
                let key = (host.to_owned(), metric.to_owned(), component.to_owned());
                samples.push(Sample { key, time, value: chance.value() });
            }
        }
        if chance.below(5) == 0 {
            let mut again = chance_of(&samples, chance);
            again.value = chance.value();
            samples.push(again);
        }
    }
    samples
}

fn chance_of(samples: &[Sample], chance: &mut Chance) -> Sample {
    samples[usize::try_from(chance.below(i64::try_from(samples.len()).unwrap())).unwrap()].clone()
}

fn history(seed: u64, ops: usize) -> (u64, u64) {
    let mut chance = Chance::new(seed);
    let mut run = Run::new(seed);
    let (questions, mut merges, mut snapshots) = (questions(), 0, 0);
    let note = |run: &Run, merges: &mut u64, snapshots: &mut u64| {
        let jobs = run.store().stats().jobs;
        *merges += jobs.merge_files;
        *snapshots += jobs.snapshot_files;
    };
    for op in 0..ops {
        run.told = format!("seed {seed}, operation {op}");
        if chance.below(40) == 0 {
            let at = run.lab.disk.ops() + 1 + u64::try_from(chance.below(60)).unwrap();
            run.lab.disk.set_crash_at(Some(at));
        }
        match chance.below(100) {
            0..35 => {
                let samples = samples(&mut chance, run.lab.clock.unix_now());
                run.write(samples);
                if chance.below(4) > 0 {
                    run.commit();
                }
            }
            35..45 => run.commit(),
            45..55 => run.lab.clock.pass(60 * (1 + chance.below(90))),
            55..57 => run.lab.clock.pass(3600 * (1 + chance.below(20))),
            57..75 => run.compact(false, chance.pick(&[1, 2, 5, 100])),
            75..81 => {
                run.commit();
                run.compact(true, chance.pick(&[1, 3, 100]));
            }
            81..84 => {
                let selector = chance.pick(&[
                    &["c"][..],
                    &["c", "n1"],
                    &["c", "n2", "core0"],
                    &["c", "m3"],
                    &["c", "n0", "socket0"],
                ]);
                let to = run.lab.clock.unix_now() - chance.below(200) * 600;
                run.free(selector, to);
            }
            84..87 => run.retain(),
            87..93 => {
                run.commit();
                if !run.lab.disk.is_stopped() {
                    // None of these changes a bit.
                    let seen = run.look();
                    match chance.below(3) {
                        0 => run.compact(true, 100),
                        1 => run.compact(false, 100),
                        _ => {
                            note(&run, &mut merges, &mut snapshots);
                            run.restart();
                        }
                    }
                    if !run.lab.disk.is_stopped() {
                        assert!(run.look() == seen, "{}: an answer or a run changed", run.told);
                    }
                }
            }
            93..95 => {
                note(&run, &mut merges, &mut snapshots);
                run.crash(chance.pick(&[Crash::Kill, Crash::Power]));
            }
            _ if run.pending.is_empty() => run.check(),
            _ => {}
        }
        if run.lab.disk.is_stopped() {
            if run.store.is_some() {
                note(&run, &mut merges, &mut snapshots);
            }
            run.crash(chance.pick(&[Crash::Kill, Crash::Power]));
        }
        if run.pending.is_empty() {
            for _ in 0..2 {
                let question =
                    &questions[usize::try_from(chance.below(i64::try_from(questions.len()).unwrap())).unwrap()];
                let step = frequency(&question.metric);
                let from = (run.lab.clock.unix_now() - chance.below(4 * DAY)).div_euclid(step) * step;
                run.ask(question, from, from + chance.below(2000) * step);
            }
        }
    }
    note(&run, &mut merges, &mut snapshots);
    run.commit();
    if run.lab.disk.is_stopped() {
        run.crash(Crash::Power);
    }
    run.check();
    (snapshots, merges)
}

/// `KYMO_SEED` runs one seed.
#[test]
fn snapshots_merges_restarts_frees_and_retention_in_any_order_change_no_answer() {
    if let Some(seed) = std::env::var("KYMO_SEED").ok().and_then(|seed| seed.parse().ok()) {
        history(seed, 400);
        return;
    }
    let seeds = std::env::var("KYMO_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(7);
    let (mut snapshots, mut merges) = (0, 0);
    for seed in 0..seeds {
        let (taken, merged) = history(seed, 400);
        snapshots += taken;
        merges += merged;
    }
    println!("{snapshots} snapshots, {merges} merges");
    assert!(snapshots > 40 * seeds && merges > 2 * seeds, "{snapshots} snapshots, {merges} merges: too few to tell");
}

/// Snapshots of two days, a merge of the sealed day, a free, retention, a clean end and a start.
fn work(run: &mut Run) -> Option<()> {
    let go_on = |run: &Run| (!run.lab.disk.is_stopped()).then_some(());
    let mut chance = Chance::new(7);
    for round in 0..3 {
        for host in ["n0", "n1"] {
            let now = run.lab.clock.unix_now();
            let key = (host.to_owned(), "load".to_owned(), String::new());
            let sample = |slot: i64, value| Sample { key: key.clone(), time: now - slot * 60, value };
            let samples = (0..5).map(|slot| sample(slot + 7 * round, chance.value()));
            run.write(samples.collect());
        }
        run.commit();
        go_on(run)?;
        run.compact(round != 1, i64::MAX);
        go_on(run)?;
        run.lab.clock.pass(5 * 3600);
    }
    run.free(&["c", "n1"], START + 3600);
    go_on(run)?;
    // The first day leaves the late window, then the retention.
    run.lab.clock.pass(2 * DAY);
    run.write(vec![Sample {
        key: ("n1".into(), "temp".into(), "socket0".into()),
        time: run.lab.clock.unix_now().div_euclid(600) * 600,
        value: 0.1,
    }]);
    run.commit();
    go_on(run)?;
    run.compact(false, i64::MAX);
    go_on(run)?;
    assert!(
        run.store().stats().jobs.merge_files > 0 || run.store().stats().snapshots == 0,
        "{:?}",
        run.store().stats()
    );
    run.lab.clock.pass(DAY + 3600);
    run.write(vec![Sample {
        key: ("n0".into(), "load".into(), "core0".into()),
        time: run.lab.clock.unix_now().div_euclid(60) * 60,
        value: 7.0,
    }]);
    run.retain();
    go_on(run)?;
    run.restart();
    go_on(run)
}

#[test]
fn a_crash_at_any_operation_of_snapshot_merge_and_retention_loses_and_revives_nothing() {
    let ops = {
        let mut run = Run::new(0);
        let before = run.lab.disk.ops();
        work(&mut run).unwrap();
        run.check();
        run.lab.disk.ops() - before
    };
    assert!(ops > 100, "{ops}");
    for at in 1..=ops {
        let kind = if at % 2 == 0 { Crash::Kill } else { Crash::Power };
        let mut run = Run::new(at);
        run.told = format!("stopped at {at} of {ops} by {kind:?}");
        run.lab.disk.set_crash_at(Some(run.lab.disk.ops() + at));
        assert_eq!(work(&mut run), None, "{}", run.told);
        run.crash(kind);
        // It goes on, and what it goes on with stays.
        let now = run.lab.clock.unix_now().div_euclid(60) * 60;
        run.write(vec![Sample { key: ("n1".into(), "load".into(), String::new()), time: now, value: 0.25 }]);
        run.commit();
        run.retain();
        run.compact(false, i64::MAX);
        run.check();
        run.crash(Crash::Power);
    }
}

/// A run of several days that lives on when a free comes: its older days do not go when a later day is merged, from
/// before the free and from behind it.
#[test]
fn a_merge_forgets_no_end_that_a_free_is_judged_by() {
    let mut run = Run::new(1);
    run.lab.options.retention = None;
    let sample = |time: i64, value| Sample { key: ("n1".into(), "temp".into(), "socket0".into()), time, value };
    run.write(vec![sample(START, 1.0)]);
    run.commit();
    run.compact(true, i64::MAX);
    run.lab.clock.pass(DAY);
    run.write(vec![sample(START + DAY, 2.0)]);
    run.commit();
    run.compact(true, i64::MAX);
    run.free(&["c", "n1"], START + DAY);
    run.write(vec![sample(START + DAY - 600, 3.0)]);
    run.commit();
    run.compact(true, i64::MAX);
    // All of these days leave the late window and are merged.
    run.lab.clock.pass(3 * DAY);
    let newest = run.lab.clock.unix_now();
    run.write(vec![Sample { key: ("n2".into(), "load".into(), String::new()), time: newest, value: 4.0 }]);
    run.commit();
    let seen = run.look();
    run.compact(false, i64::MAX);
    assert!(run.look() == seen);
    run.check();
}

#[test]
fn the_day_of_a_slot_is_where_it_begins() {
    assert_eq!(day("load", 2 * DAY), 1);
    assert_eq!(day("load", 2 * DAY + 30), 2);
}
