//! Days that leave for the archive: queries over archive, snapshots and head are answered as if nothing had moved, at
//! every step of the way and after a crash at any operation; frees hold; what another store or damage left is told.

use crate::lab::{Lab, START, ask, bits, compact_all, line, present, put};
use crate::metamorphic::Chance;
use crate::model::{Model, Question, Sample};
use kymo_engine::archive::{ArchiveStore, LocalDirectory, NewObject};
use kymo_engine::disk::sim::Crash;
use kymo_engine::disk::{Disk, sim::SimDisk};
use kymo_engine::env::Env;
use kymo_engine::model::{Request, SeriesError};
use kymo_engine::paths::ArchiveLayout;
use kymo_engine::store::{Archive, ImportHost, ImportSeries, Progress, Store};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DAY: i64 = 86_400;
const RETENTION: i64 = 2 * DAY;
const SERIES: [(&str, &str, &str); 6] = [
    ("n0", "load", ""),
    ("n0", "flops", "socket0"),
    ("n0", "flops", "socket1"),
    ("n0", "temp", ""),
    ("n1", "load", ""),
    ("n1", "flops", "socket0"),
];

/// A store with an archive, a twin that keeps everything hot, and the naive model of both.
struct Pair {
    lab: Lab,
    store: Store,
    twin: Store,
    model: Model,
    twin_lab: Lab,
}

fn fed(disk: &SimDisk, layout: ArchiveLayout) -> Archive {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Archive { place: Arc::new(LocalDirectory::new(disk, "/archive")), layout, is_fed: true }
}

fn pair(seed: u64, layout: ArchiveLayout) -> Pair {
    let mut lab = Lab::new(seed);
    let twin_lab = Lab::new(seed + 1);
    lab.options.retention = Some(RETENTION);
    lab.options.archive = Some(fed(&lab.disk, layout));
    let (store, twin) = (lab.open().unwrap().0, twin_lab.open().unwrap().0);
    Pair { lab, store, twin, model: Model::default(), twin_lab }
}

impl Pair {
    fn pass(&self, seconds: i64) {
        self.lab.clock.pass(seconds);
        self.twin_lab.clock.pass(seconds);
    }

    fn write(&mut self, samples: &[Sample]) {
        let of = |Sample { key: (host, metric, component), time, value }: &Sample| {
            line((host, metric, component), *time, *value)
        };
        let body: String = samples.iter().map(of).collect();
        put(&self.store, &body);
        put(&self.twin, &body);
        self.store.prepare_step().unwrap();
        self.twin.prepare_step().unwrap();
        self.model.write(samples);
    }

    /// An hour of samples with gaps, some a few hours late.
    fn hour(&mut self, chance: &mut Chance) {
        self.pass(3600);
        let now = self.lab.clock.unix_now();
        let mut samples = Vec::new();
        for (host, metric, component) in SERIES {
            let frequency = crate::lab::frequency(metric);
            let late = if chance.below(6) == 0 { 3 * 3600 } else { 0 };
            for slot in 0..chance.below(4) {
                let time = (now - late) / 600 * 600 + slot * frequency;
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let value = if metric == "load" { chance.below(100) as f64 } else { chance.below(1000) as f64 * 0.1 };
                samples.push(Sample { key: (host.into(), metric.into(), component.into()), time, value });
            }
        }
        self.write(&samples);
        if chance.below(3) == 0 {
            compact_all(&self.store, chance.below(4) == 0);
        }
    }

    /// One query over all tiers, many times: what the twin and the model answer.
    fn compare(&self, chance: &mut Chance, times: usize) {
        let question = |host: &str, metric: &str, components: &[&str]| Question {
            host: host.into(),
            metric: metric.into(),
            components: components.iter().map(|&name| name.to_owned()).collect(),
        };
        let questions = [
            question("n0", "load", &[]),
            question("n0", "flops", &[]),
            question("n0", "flops", &["socket1"]),
            question("n0", "flops", &["socket0", "socket1"]),
            question("n0", "temp", &[]),
            question("n1", "load", &[]),
            question("n1", "flops", &[]),
        ];
        let hours = (self.lab.clock.unix_now() - START) / 600 + 300;
        for _ in 0..times {
            let question = &questions[usize::try_from(chance.below(7)).unwrap()];
            let from = START - 90_000 + chance.below(hours) * 600;
            let longest = if chance.below(2) == 0 { 60 } else { hours };
            let to = from + chance.below(longest) * 600;
            let told = format!("{question:?} from {from} to {to}");
            let expected = ask(&self.twin, question, from, to);
            let found = ask(&self.store, question, from, to);
            let (expected, found) = (expected.unwrap(), found.unwrap_or_else(|error| panic!("{told}: {error}")));
            let values = present(expected.as_ref());
            assert_eq!(present(found.as_ref()), values, "{told}");
            assert_eq!(values, self.model.answer(question, from, to), "{told}");
            // A series that is archived and has nothing in the range does not exist.
            if !values.is_empty() {
                assert_eq!(bits(found.as_ref()), bits(expected.as_ref()), "{told}:\n{found:?}\n{expected:?}");
            }
        }
    }

    /// Kills both, and opens them with the options that they have by now.
    fn restart(&mut self) {
        for (lab, store) in [(&self.lab, &mut self.store), (&self.twin_lab, &mut self.twin)] {
            lab.disk.crash(Crash::Kill);
            *store = lab.open().unwrap().0;
        }
    }

    /// Archives and drops all that is due.
    fn cleanup(&self) {
        compact_all(&self.store, true);
        while self.store.archive_step().unwrap() == Progress::Done {}
        while self.store.retention_step(&|_, _| false).unwrap() == Progress::Done {}
    }
}

fn archive_files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let visible = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        path.starts_with("/archive") && (!name.starts_with('_') || name.starts_with("_manifest"))
    };
    disk.files().into_iter().filter(|(path, _)| visible(path) && path.extension().is_some()).collect()
}

#[test]
fn one_query_over_all_tiers_is_answered_as_if_nothing_had_moved() {
    for (seed, layout) in [(1, ArchiveLayout::Hive), (2, ArchiveLayout::Flat), (3, ArchiveLayout::Hive)] {
        let mut chance = Chance::new(seed);
        let mut pair = pair(seed, layout);
        for hour in 0..120 {
            pair.hour(&mut chance);
            if hour % 24 == 10 {
                pair.cleanup();
            }
            pair.compare(&mut chance, 4);
        }
        pair.cleanup();
        let stats = pair.store.stats();
        assert!(stats.archived_parts >= 3 && stats.archived_rows > 100 && stats.snapshots < 40, "{stats:?}");
        pair.compare(&mut chance, 300);
        drop(std::mem::replace(&mut pair.store, Lab::new(9).open().unwrap().0));
        pair.store = pair.lab.open().unwrap().0;
        pair.compare(&mut chance, 100);
    }
}

#[test]
fn every_step_of_archiving_and_dropping_leaves_the_answers_as_they_are() {
    let mut chance = Chance::new(4);
    let mut pair = pair(4, ArchiveLayout::Hive);
    for _ in 0..80 {
        pair.hour(&mut chance);
    }
    let mut steps = 0;
    loop {
        let progress = pair.store.archive_step().unwrap();
        pair.compare(&mut chance, 10);
        steps += 1;
        if progress == Progress::Idle {
            break;
        }
    }
    assert!(steps > 8, "{steps}");
    while pair.store.retention_step(&|_, _| false).unwrap() == Progress::Done {
        pair.compare(&mut chance, 10);
    }
    assert!(pair.store.stats().archived_parts > 0);
    assert_eq!(pair.store.archive_progress(i64::MAX).hosts, (0, 0));
}

/// While one thread archives and drops, another one asks: each step begins as a round of questions does.
#[test]
fn queries_across_a_retention_step_that_runs_are_answered_as_if_nothing_moved() {
    let mut chance = Chance::new(13);
    let mut pair = pair(13, ArchiveLayout::Hive);
    for _ in 0..100 {
        pair.hour(&mut chance);
    }
    compact_all(&pair.store, true);
    let before = pair.store.stats();
    let rounds = AtomicU64::new(0);
    let round_begins = || {
        let seen = rounds.load(Ordering::Acquire);
        while rounds.load(Ordering::Acquire) == seen {
            std::thread::yield_now();
        }
    };
    let mut steps = 0;
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            let mut next = || {
                round_begins();
                steps += 1;
            };
            next();
            while pair.store.archive_step().unwrap() == Progress::Done {
                next();
            }
            while pair.store.retention_step(&|_, _| false).unwrap() == Progress::Done {
                next();
            }
        });
        while !moving.is_finished() {
            rounds.fetch_add(1, Ordering::Release);
            pair.compare(&mut chance, 3);
        }
        moving.join().unwrap();
    });
    assert!(steps > 8, "{steps}");
    let after = pair.store.stats();
    assert!(after.archived_parts > 0 && after.snapshots < before.snapshots, "{before:?}\n{after:?}");
    pair.compare(&mut chance, 100);
}

#[test]
fn old_rows_that_are_in_the_head_alone_are_archived() {
    let mut pair = pair(14, ArchiveLayout::Hive);
    let now = pair.lab.clock.unix_now();
    let sample = |host: &str, time| Sample { key: (host.into(), "load".into(), String::new()), time, value: 1.5 };
    pair.write(&[sample("n0", now), sample("n1", now), sample("n1", now + 600)]);
    pair.pass(5 * DAY);
    pair.write(&[sample("n1", now + 5 * DAY)]);
    assert_eq!(pair.store.stats().snapshots, 0);
    while pair.store.archive_step().unwrap() == Progress::Done {}
    assert_eq!(pair.store.stats().archived_rows, 3);
    pair.compare(&mut Chance::new(14), 100);
    // What is young stays where it is, and there is nothing more to do.
    pair.write(&[sample("n1", now + 5 * DAY + 600)]);
    assert_eq!(pair.store.archive_step().unwrap(), Progress::Idle);
}

/// Samples of one series on an even grid.
fn even(now: i64, count: i64) -> Vec<Sample> {
    let time = |slot| now + crate::lab::frequency("load") * slot;
    let sample = |time| Sample { key: ("n0".into(), "load".into(), String::new()), time, value: 1.5 };
    (0..count).map(time).map(sample).collect()
}

/// A store with some samples that are in the archive alone, and these; once it is started again they are in its late window.
fn archived(seed: u64) -> (Pair, Vec<Sample>) {
    let mut pair = pair(seed, ArchiveLayout::Hive);
    let samples = even(pair.lab.clock.unix_now(), 40);
    pair.write(&samples);
    pair.pass(5 * DAY);
    pair.write(&even(pair.lab.clock.unix_now(), 1));
    pair.cleanup();
    for lab in [&mut pair.lab, &mut pair.twin_lab] {
        lab.options.late_window = 10 * DAY;
    }
    (pair, samples)
}

#[test]
fn an_import_leaves_what_is_archived() {
    let (mut pair, samples) = archived(15);
    // Other values, a little beside the grid; the last one is news.
    let mut others: Vec<(i64, f64)> = samples.iter().map(|sample| (sample.time + 17, 9.0)).collect();
    let news = Sample { time: samples[39].time + 3600, value: 7.0, ..samples[39].clone() };
    others.push((news.time, news.value));
    let series = ImportSeries { samples: others, arrays: Vec::new() };
    let mut import = pair.store.begin_import().unwrap();
    import.host("c", "n0", &ImportHost::from([("load", BTreeMap::from([(("", ""), series)]))])).unwrap();
    assert!(!import.next_pass().unwrap());
    let imported = import.finish().unwrap();
    assert_eq!((imported.samples, imported.known), (1, 40));
    pair.lab.disk.crash(Crash::Kill);
    pair.store = pair.lab.open().unwrap().0;
    let question = Question { host: "n0".into(), metric: "load".into(), components: Vec::new() };
    let found = |to| present(ask(&pair.store, &question, samples[0].time, to).unwrap().as_ref());
    assert_eq!(found(samples[39].time + 60).into_values().collect::<Vec<_>>(), [1.5_f64.to_bits(); 40]);
    assert_eq!(found(news.time + 60).into_values().next_back(), Some(7.0_f64.to_bits()));
}

/// A run may go on days later, after a silence. What is imported into the silence must not cut it off.
#[test]
fn an_import_leaves_runs_whole_that_reach_over_archived_days() {
    let mut pair = pair(22, ArchiveLayout::Hive);
    let at = |time| Sample { key: ("n0".into(), "temp".into(), String::new()), time, value: 1.5 };
    let begin = pair.lab.clock.unix_now();
    pair.write(&[at(begin)]);
    pair.pass(60 * 3600);
    pair.write(&[at(begin + 60 * 3600)]);
    pair.pass(9 * DAY);
    pair.write(&even(begin + 60 * 3600 + 9 * DAY, 1));
    pair.cleanup();
    assert_eq!(pair.store.stats().archived_parts, 2);
    let series = ImportSeries { samples: vec![(begin + 2 * 3600, 1.5)], arrays: Vec::new() };
    let mut import = pair.store.begin_import().unwrap();
    import.host("c", "n0", &ImportHost::from([("temp", BTreeMap::from([(("", ""), series)]))])).unwrap();
    assert!(!import.next_pass().unwrap());
    assert_eq!(import.finish().unwrap().samples, 1);
    let question = Question { host: "n0".into(), metric: "temp".into(), components: Vec::new() };
    let found = present(ask(&pair.store, &question, begin, begin + 61 * 3600).unwrap().as_ref());
    assert_eq!(found.len(), 3, "{begin}: {found:?}");
}

#[test]
fn a_late_sample_goes_into_the_run_that_is_archived() {
    let (mut pair, samples) = archived(16);
    pair.restart();
    pair.write(&[Sample { value: 4.0, ..samples[20].clone() }]);
    pair.compare(&mut Chance::new(16), 200);
}

/// A run of late samples may have room for days before it: it must not reach back over what is archived already.
#[test]
fn a_late_sample_begins_no_run_over_one_that_is_archived() {
    let mut pair = pair(20, ArchiveLayout::Hive);
    let at = |time| Sample { key: ("n0".into(), "temp".into(), String::new()), time, value: 1.5 };
    let old = pair.lab.clock.unix_now();
    pair.write(&[at(old)]);
    pair.pass(3 * DAY);
    let now = pair.lab.clock.unix_now();
    pair.write(&even(now, 1));
    pair.cleanup();
    assert!(pair.store.stats().archived_parts > 0);
    pair.lab.disk.crash(Crash::Kill);
    pair.store = pair.lab.open().unwrap().0;
    let (new, late) = (at(now), at(now - 4 * 3600));
    pair.write(&[new.clone(), late.clone()]);
    let question = Question { host: "n0".into(), metric: "temp".into(), components: Vec::new() };
    for sample in [at(old), late, new] {
        let range = (sample.time - 600, sample.time + 600);
        let found = present(ask(&pair.store, &question, range.0, range.1).unwrap().as_ref());
        assert_eq!(found.into_values().collect::<Vec<_>>(), [1.5_f64.to_bits()], "{sample:?}");
    }
}

/// A clock that went back has left a run in front of one that is archived: once it is right again, nothing goes on in it.
#[test]
fn a_run_before_one_that_is_archived_is_not_gone_on_with() {
    let mut pair = pair(21, ArchiveLayout::Hive);
    let at = |time| Sample { key: ("n0".into(), "temp".into(), String::new()), time, value: 1.5 };
    let begin = pair.lab.clock.unix_now();
    pair.write(&[Sample { key: ("n1".into(), "load".into(), String::new()), ..at(begin) }]);
    pair.pass(DAY);
    let old = begin + DAY;
    pair.write(&[at(old)]);
    pair.pass(5 * DAY);
    pair.write(&even(begin + 6 * DAY, 1));
    pair.cleanup();
    assert_eq!(pair.store.stats().archived_parts, 2);
    pair.pass(12 * 3600 - 5 * DAY);
    let older = old - 10 * 3600;
    pair.write(&[at(older)]);
    pair.pass(37 * 3600);
    let new = pair.lab.clock.unix_now();
    pair.lab.disk.crash(Crash::Kill);
    pair.store = pair.lab.open().unwrap().0;
    pair.write(&[at(new)]);
    let question = Question { host: "n0".into(), metric: "temp".into(), components: Vec::new() };
    let found = present(ask(&pair.store, &question, begin, new + 600).unwrap().as_ref());
    assert_eq!(found.len(), 3, "{older} {old} {new}: {found:?}");
}

/// A place whose next read of a whole object, once it is told to, says so and waits until it may go on.
#[derive(Debug)]
struct Gated {
    inner: LocalDirectory,
    gate: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl ArchiveStore for Gated {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self, key: &str) -> io::Result<Box<dyn NewObject>> {
        self.inner.create(key)
    }

    fn publish(&self, aside: &str, key: &str) -> io::Result<()> {
        self.inner.publish(aside, key)
    }

    fn put_if(&self, key: &str, expected: Option<&[u8]>, content: &[u8]) -> io::Result<bool> {
        self.inner.put_if(key, expected, content)
    }

    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let gate = self.gate.lock().unwrap().take();
        if let Some((is_reading, go_on)) = gate {
            is_reading.send(()).unwrap();
            go_on.recv().unwrap();
        }
        self.inner.get(key)
    }

    fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.inner.read(key, range)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.inner.list(folder)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.inner.delete(key)
    }
}

/// An archive may be a bucket that is slow: meanwhile a host is read and its rows become a snapshot, which the writer
/// that waits has to notice.
#[test]
fn a_host_is_not_locked_while_its_archived_days_are_read() {
    const PATIENCE: Duration = Duration::from_secs(30);
    let (mut pair, samples) = archived(19);
    let disk: Arc<dyn Disk> = Arc::new(pair.lab.disk.clone());
    let place = Arc::new(Gated { inner: LocalDirectory::new(disk, "/archive"), gate: Mutex::default() });
    pair.lab.options.archive =
        Some(Archive { place: Arc::<Gated>::clone(&place), layout: ArchiveLayout::Hive, is_fed: true });
    pair.restart();
    let late = Sample { value: 4.0, ..samples[20].clone() };
    let (host, metric, component) = &late.key;
    let body = line((host, metric, component), late.time, late.value);
    let ((says, is_reading), (go_on, may_go)) = (channel(), channel());
    *place.gate.lock().unwrap() = Some((says, may_go));
    let (store, now) = (&pair.store, pair.lab.clock.unix_now());
    let (done, is_done) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| put(store, &body));
        is_reading.recv_timeout(PATIENCE).expect("a late sample looks into the archive");
        let question = Question { host: host.clone(), metric: metric.clone(), components: Vec::new() };
        scope.spawn(move || {
            ask(store, &question, now - 7200, now).unwrap();
            compact_all(store, true);
            done.send(()).unwrap();
        });
        let in_time = is_done.recv_timeout(PATIENCE);
        go_on.send(()).unwrap();
        in_time.expect("a query and a snapshot go on meanwhile");
    });
    put(&pair.twin, &body);
    pair.model.write(&[late]);
    pair.compare(&mut Chance::new(19), 200);
}

#[test]
fn the_limit_of_a_query_holds_for_what_is_archived() {
    let (mut pair, _) = due(18);
    let question = Question { host: "n0".into(), metric: "load".into(), components: Vec::new() };
    let now = pair.lab.clock.unix_now();
    pair.lab.options.limits.query_points = present(ask(&pair.store, &question, START, now).unwrap().as_ref()).len() / 3;
    pair.cleanup();
    pair.lab.disk.crash(Crash::Kill);
    let (store, _) = pair.lab.open().unwrap();
    let error = ask(&store, &question, START, START + 2 * DAY).unwrap_err();
    assert!(matches!(error, SeriesError::TooManyPoints { .. }), "{error}");
    ask(&store, &question, START + 6000, START + 6600).unwrap();
}

#[test]
fn days_of_an_archive_that_the_configuration_does_not_name_are_an_error() {
    let (mut pair, _) = due(17);
    pair.cleanup();
    pair.lab.disk.crash(Crash::Kill);
    pair.lab.options.archive = None;
    let (store, _) = pair.lab.open().unwrap();
    let question = Question { host: "n0".into(), metric: "load".into(), components: Vec::new() };
    let now = pair.lab.clock.unix_now();
    ask(&store, &question, now - 7200, now).unwrap();
    let error = ask(&store, &question, START, now).unwrap_err();
    assert!(error.to_string().contains("cleanup.directory"), "{error}");
    let error = store.begin_export().unwrap().hosts().unwrap_err();
    assert!(error.to_string().contains("cleanup.directory"), "{error}");
}

/// A store that has two days to archive, and one that stays.
fn due(seed: u64) -> (Pair, Chance) {
    let mut chance = Chance::new(5);
    let mut pair = pair(seed, ArchiveLayout::Hive);
    for _ in 0..46 {
        pair.pass(3600);
        pair.hour(&mut chance);
    }
    compact_all(&pair.store, true);
    (pair, chance)
}

#[test]
fn a_crash_at_any_operation_of_archiving_is_harmless_and_repeatable() {
    let (whole, _) = due(6);
    let before = whole.lab.disk.ops();
    whole.cleanup();
    let (after, expected) = (whole.lab.disk.ops(), archive_files(&whole.lab.disk));
    assert!(expected.len() >= 4, "{:?}", expected.keys());
    let kinds = [Crash::Power, Crash::Kill];
    for (at, kind) in (before + 1..=after).flat_map(|at| kinds.map(|kind| (at, kind))) {
        let (mut pair, mut chance) = due(6);
        pair.lab.disk.set_crash_at(Some(at));
        while let Ok(Progress::Done) = pair.store.archive_step() {}
        while let Ok(Progress::Done) = pair.store.retention_step(&|_, _| false) {}
        assert!(pair.lab.disk.is_stopped(), "operation {at}");
        pair.lab.disk.crash(kind);
        pair.store = pair.lab.open().unwrap_or_else(|error| panic!("operation {at}, {kind:?}: {error}")).0;
        pair.compare(&mut chance, 15);
        pair.cleanup();
        pair.compare(&mut chance, 15);
        assert_eq!(archive_files(&pair.lab.disk), expected, "operation {at}, {kind:?}");
    }
}

#[test]
fn what_was_freed_is_not_archived_and_what_is_archived_is_not_freed() {
    let mut pair = pair(7, ArchiveLayout::Hive);
    let now = pair.lab.clock.unix_now();
    let sample = |host: &str, time| Sample { key: (host.into(), "load".into(), String::new()), time, value: 1.5 };
    pair.write(&[sample("n0", now), sample("n1", now)]);
    let free = |store: &Store, host: &str, to| {
        store.free(&[vec!["c".to_owned(), host.to_owned()]], to).unwrap();
        crate::lab::commit(store);
    };
    free(&pair.store, "n0", now + 3600);
    pair.pass(5 * DAY);
    pair.write(&[sample("n1", now + 5 * DAY)]);
    pair.cleanup();
    let of = |host: &str| Question { host: host.into(), metric: "load".into(), components: Vec::new() };
    let value = |host| present(ask(&pair.store, &of(host), now - 600, now + 600).unwrap().as_ref()).len();
    assert_eq!((value("n0"), value("n1")), (0, 1));
    free(&pair.store, "n1", now + 4 * DAY);
    assert_eq!(value("n1"), 1);
}

#[test]
fn a_free_that_comes_meanwhile_is_respected() {
    let mut pair = pair(8, ArchiveLayout::Hive);
    let now = pair.lab.clock.unix_now();
    let sample = |host: &str, time| Sample { key: (host.into(), "load".into(), String::new()), time, value: 1.5 };
    pair.write(&[sample("n0", now), sample("n1", now)]);
    pair.pass(5 * DAY);
    pair.write(&[sample("n1", now + 5 * DAY)]);
    compact_all(&pair.store, true);
    while pair.store.archive_progress(now + DAY).hosts != (2, 2) {
        assert_eq!(pair.store.archive_step().unwrap(), Progress::Done);
    }
    pair.store.free(&[vec!["c".to_owned(), "n0".to_owned()]], now + 3600).unwrap();
    crate::lab::commit(&pair.store);
    pair.cleanup();
    let of = |host: &str| Question { host: host.into(), metric: "load".into(), components: Vec::new() };
    let value = |host| present(ask(&pair.store, &of(host), now - 600, now + 600).unwrap().as_ref()).len();
    assert_eq!((value("n0"), value("n1")), (0, 1));
    assert_eq!(pair.store.stats().archived_rows, 1);
}

#[test]
fn hosts_in_use_stay_hot_and_are_archived_all_the_same() {
    let (pair, mut chance) = due(9);
    while pair.store.archive_step().unwrap() == Progress::Done {}
    let in_use = |_: &str, host: &str| host == "n0";
    while pair.store.retention_step(&in_use).unwrap() == Progress::Done {
        compact_all(&pair.store, false);
    }
    let oldest = |host: &str| {
        let tree = pair.store.debug(&["c".to_owned(), host.to_owned()]).unwrap();
        tree.metrics["load"].first().unwrap().start
    };
    assert!(oldest("n0") <= oldest("n1") - DAY, "{} {}", oldest("n0"), oldest("n1"));
    pair.compare(&mut chance, 200);
}

#[test]
fn a_host_of_the_archive_exists_in_its_days_alone() {
    let mut pair = pair(10, ArchiveLayout::Hive);
    let now = pair.lab.clock.unix_now();
    let sample = |host: &str, time| Sample { key: (host.into(), "load".into(), String::new()), time, value: 1.5 };
    pair.write(&[sample("old", now), sample("n1", now)]);
    pair.pass(5 * DAY);
    pair.write(&[sample("n1", now + 5 * DAY)]);
    pair.cleanup();
    let hosts = |from, to| -> Vec<String> {
        let for_all_nodes = vec!["load".to_owned()];
        let request = Request { cluster: "c".to_owned(), for_all_nodes, from, to, ..Request::default() };
        pair.store.plan(&request).into_iter().map(|query| query.host).collect()
    };
    assert_eq!(hosts(now - 60, now + 60), ["n1", "old"]);
    assert_eq!(hosts(now + DAY, now + 2 * DAY), ["n1"]);
    let question = Question { host: "old".into(), metric: "load".into(), components: Vec::new() };
    assert!(ask(&pair.store, &question, now - 60, now + 60).unwrap().is_some());
    assert_eq!(ask(&pair.store, &question, now + DAY, now + 2 * DAY).unwrap(), None);
}

#[test]
fn a_damaged_file_is_the_error_of_its_series_and_of_no_other() {
    let (pair, _) = due(11);
    pair.cleanup();
    let (path, bytes) =
        archive_files(&pair.lab.disk).into_iter().find(|(path, _)| path.extension().unwrap() == "parquet").unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    pair.lab.disk.replace(&path, &flipped).unwrap();
    let question = Question { host: "n0".into(), metric: "load".into(), components: Vec::new() };
    let now = pair.lab.clock.unix_now();
    let error = ask(&pair.store, &question, START - DAY, now).unwrap_err();
    let SeriesError::Damaged(what) = &error else { panic!("{error}") };
    assert!(what.contains("part-0-0.parquet") && what.contains("checksum"), "{what}");
    assert!(ask(&pair.store, &question, now - DAY, now).unwrap().is_some());
    assert!(pair.store.stats().jobs.archive_read_failures > 0);
}

/// The answer of a host that is new would begin with what an archive has of it before, which is looked for: what is damaged
/// there is not in the range.
#[test]
fn damage_to_a_day_that_is_not_asked_for_is_no_error() {
    let (mut pair, _) = due(11);
    pair.cleanup();
    let now = pair.lab.clock.unix_now();
    pair.write(&[Sample { key: ("new".into(), "load".into(), String::new()), time: now, value: 2.0 }]);
    for (path, bytes) in archive_files(&pair.lab.disk) {
        pair.lab.disk.replace(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let of = |host: &str| Question { host: host.into(), metric: "load".into(), components: Vec::new() };
    assert_eq!(present(ask(&pair.store, &of("new"), now - 7200, now + 60).unwrap().as_ref()).len(), 1);
    let error = ask(&pair.store, &of("n0"), START, now).unwrap_err();
    assert!(error.to_string().contains("/archive/cluster=c/"), "{error}");
}

/// Where a series begins is looked for in the month before the range, and not in years.
#[test]
fn a_series_that_was_silent_for_more_than_a_month_begins_anew() {
    for (silent, begins_anew) in [(20 * DAY, false), (60 * DAY, true)] {
        let mut pair = pair(13, ArchiveLayout::Hive);
        let of = |time| Sample { key: ("n0".into(), "load".into(), String::new()), time, value: 1.5 };
        pair.write(&[of(pair.lab.clock.unix_now())]);
        pair.pass(silent);
        let now = pair.lab.clock.unix_now();
        pair.write(&[of(now)]);
        pair.cleanup();
        assert_eq!(pair.store.stats().archived_rows, 1);
        let question = Question { host: "n0".into(), metric: "load".into(), components: Vec::new() };
        let answer = ask(&pair.store, &question, now - 7200, now + 60).unwrap().unwrap();
        assert_eq!(answer.from > now - 7200, begins_anew, "{answer:?}");
        assert_eq!(present(Some(&answer)).len(), 1);
    }
}

#[test]
fn a_full_archive_keeps_the_days_hot_and_goes_on_by_itself() {
    let (pair, mut chance) = due(12);
    for write in 1..6 {
        pair.lab.disk.fail_write(Some(write));
        while let Ok(Progress::Done) = pair.store.archive_step() {}
        pair.lab.disk.fail_write(None);
        pair.compare(&mut chance, 20);
    }
    pair.cleanup();
    assert!(pair.store.stats().archived_parts > 0);
    pair.compare(&mut chance, 100);
}
