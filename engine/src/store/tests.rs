//! Retention: what is older goes by whole days, a few at a time, and hosts that are in use keep theirs. Memory: above the
//! cap writes are refused, and nothing that was taken is discarded. Adjustments: metrics come, limits change, nothing
//! that was stored is lost or renamed by it.

use super::{Options, Progress, Store, Unavailable};
use crate::disk::sim::{Crash, Fault, SimDisk, Target};
use crate::disk::{Disk, Posix};
use crate::env::Env;
use crate::model::{Aggregation, Metric, Metrics, Query, Request, SeriesError};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const DAY: i64 = 86_400;
const NOON: i64 = 20_000 * DAY + DAY / 2;

#[derive(Debug)]
struct Clock(AtomicI64);

impl Env for Clock {
    fn unix_now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn unique(&self) -> [u8; 16] {
        [7; 16]
    }
}

fn open(disk: &SimDisk, clock: &Arc<Clock>) -> Store {
    open_with(disk, clock, |_| ())
}

fn open_with(disk: &SimDisk, clock: &Arc<Clock>, change: impl FnOnce(&mut Options)) -> Store {
    try_open_with(disk, clock, change).unwrap()
}

fn try_open_with(disk: &SimDisk, clock: &Arc<Clock>, change: impl FnOnce(&mut Options)) -> Option<Store> {
    let metric = Metric { name: "load".into(), frequency: 60, aggregation: Aggregation::None };
    let mut options = Options::new("/data", Metrics::new(vec![metric]).unwrap());
    options.retention = Some(2 * DAY);
    options.segment_len = crate::wal::SEGMENT_LEN_MIN;
    change(&mut options);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let env: Arc<dyn Env> = Arc::clone(clock) as Arc<dyn Env>;
    Some(Store::open(disk, env, options).ok()?.0)
}

/// Writes the number of the day at its noon.
fn write(store: &Store, host: &str, day: i64) {
    let time = NOON + day * DAY;
    let body = format!("load,cluster=c,hostname={host} value={day} {time}\n");
    assert_eq!(store.write(body.as_bytes(), "", true).unwrap().accepted, 1);
    while store.commit_step() == Progress::Done {}
}

fn snapshot(store: &Store) {
    while store.compact_step(true).unwrap() == Progress::Done {}
}

/// The values of a host over everything, without those that are missing.
fn values(store: &Store, host: &str) -> Vec<f64> {
    let query = Query { metric: "load".to_owned(), host: host.to_owned(), ..Query::default() };
    let request = Request { cluster: "c".to_owned(), from: 0, to: i64::MAX, with_padding: false, ..Request::default() };
    let answers = store.evaluate(&request, &query);
    let data = answers.into_iter().flat_map(|answer| answer.unwrap().data);
    data.filter(|value| !value.is_nan()).collect()
}

#[test]
fn hosts_in_use_keep_what_is_older_than_the_retention() {
    let disk = SimDisk::new(1);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open(&disk, &clock);
    for day in 0..8 {
        clock.0.store(NOON + day * DAY, Ordering::Relaxed);
        for host in ["idle", "used"] {
            write(&store, host, day);
        }
        snapshot(&store);
    }
    let in_use = |cluster: &str, host: &str| (cluster, host) == ("c", "used");
    for _ in 0..32 {
        store.retention_step(&in_use).unwrap();
        while store.compact_step(false).unwrap() == Progress::Done {}
    }
    assert_eq!(values(&store, "idle"), [5.0, 6.0, 7.0]);
    assert_eq!(values(&store, "used"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    store.close().unwrap();
    drop(store);

    let store = open(&disk, &clock);
    assert_eq!(values(&store, "used").len(), 8);
    for _ in 0..32 {
        store.retention_step(&|_, _| false).unwrap();
    }
    assert_eq!(values(&store, "used"), [5.0, 6.0, 7.0]);
}

#[test]
fn a_wrong_clock_does_not_delete_history() {
    let disk = SimDisk::new(2);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open(&disk, &clock);
    for day in 0..3 {
        clock.0.store(NOON + day * DAY, Ordering::Relaxed);
        write(&store, "n1", day);
        snapshot(&store);
    }
    clock.0.store(NOON + 10_000 * DAY, Ordering::Relaxed);
    assert_eq!(store.retention_step(&|_, _| false).unwrap(), Progress::Idle);
    assert_eq!(values(&store, "n1"), [0.0, 1.0, 2.0]);
}

#[test]
fn without_a_cap_rows_have_a_bound_too_where_snapshots_do_not_keep_up() {
    let disk = SimDisk::new(4);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open_with(&disk, &clock, |options| options.log_bound = 1 << 20);
    let lines = |minute: i64| -> String {
        let time = NOON - 23 * 3600 + 60 * (minute % 1380);
        let line =
            |core| format!("load,cluster=c,hostname=h{},type=core,type-id={core} value={core} {time}\n", minute / 1380);
        (0..1000).map(line).collect()
    };
    let refused = (0..100_000).find_map(|minute| {
        let written = store.write(lines(minute).as_bytes(), "", true);
        while store.commit_step() == Progress::Done {}
        written.err()
    });
    let Some(Unavailable::Memory { used, cap }) = refused else { panic!("{refused:?}") };
    assert!(used > cap && cap < 80 << 20, "{used} {cap}");
    while store.compact_step(false).unwrap() == Progress::Done {}
    assert_eq!(store.ready(), Ok(()));
}

#[test]
fn above_the_memory_cap_writes_are_refused_until_rows_have_moved_into_snapshots() {
    let disk = SimDisk::new(3);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open_with(&disk, &clock, |options| options.memory_cap = Some(8192));
    let mut accepted = Vec::new();
    let refusal = loop {
        let minute = accepted.len();
        let body = format!(
            "load,cluster=c,hostname=n1 value={minute} {}\n",
            NOON - 23 * 3600 + 60 * i64::try_from(minute).unwrap()
        );
        match store.write(body.as_bytes(), "", true) {
            Ok(written) if written.accepted == 0 => panic!("{written:?}"),
            Ok(_) => accepted.push(f64::from(u32::try_from(minute).unwrap())),
            Err(refusal) => break refusal,
        }
        while store.commit_step() == Progress::Done {}
    };
    assert!(matches!(refusal, Unavailable::Memory { used, cap: 8192 } if used > 8192), "{refusal}");
    assert_eq!(store.ready(), Err(refusal));
    assert_eq!(values(&store, "n1"), accepted);
    // The log is far from its bound: memory alone makes the snapshot due.
    while store.compact_step(false).unwrap() == Progress::Done {}
    assert_eq!(store.ready(), Ok(()));
    assert_eq!(values(&store, "n1"), accepted);
}

/// The metric of the other tests, and these.
fn metrics(names: &[&str]) -> Metrics {
    let names = std::iter::once(&"load").chain(names);
    let metric = |name: &&str| Metric { name: (*name).into(), frequency: 60, aggregation: Aggregation::None };
    Metrics::new(names.map(metric).collect()).unwrap()
}

#[test]
fn metrics_are_added_to_an_open_store_whatever_its_files_know_of_them() {
    let disk = SimDisk::new(4);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let line = |metric: &str, value: u32| format!("{metric},cluster=c,hostname=n1 value={value} {NOON}\n");
    let stored = |store: &Store, body: &str| {
        let accepted = store.write(body.as_bytes(), "", true).unwrap().accepted;
        while store.commit_step() == Progress::Done {}
        accepted
    };
    let read = |store: &Store, metric: &str| {
        let query = Query { metric: metric.to_owned(), host: "n1".to_owned(), ..Query::default() };
        let cluster = "c".to_owned();
        let request = Request { cluster, from: 0, to: i64::MAX, with_padding: false, ..Request::default() };
        let answers = store.evaluate(&request, &query).into_iter().collect::<Result<Vec<_>, _>>();
        answers.map(|answers| answers.into_iter().flat_map(|answer| answer.data).collect::<Vec<_>>())
    };
    let store = open_with(&disk, &clock, |options| options.metrics = metrics(&["one", "two"]));
    assert_eq!(stored(&store, &[line("load", 1), line("one", 2), line("two", 3)].concat()), 3);
    snapshot(&store);
    assert_eq!(stored(&store, &line("one", 4)), 1);
    store.close().unwrap();
    drop(store);

    // Without them; their names are known from the files, in another order.
    let store = open(&disk, &clock);
    assert_eq!(stored(&store, &line("two", 5)), 0);
    let adjust = |store: &Store, names: &[&str]| {
        let wanted = Options { metrics: metrics(names), ..Options::clone(&store.options()) };
        let adjustment = store.check_adjustment(&wanted).unwrap();
        let kept = adjustment.kept_metrics.clone();
        store.adjust(adjustment);
        kept
    };
    assert!(adjust(&store, &["new", "two", "newer"]).is_empty());
    for (metric, value) in [("newer", 6), ("two", 7), ("new", 8)] {
        assert_eq!(stored(&store, &line(metric, value)), 1, "{metric}");
    }
    let all = [("load", 1.0), ("newer", 6.0), ("two", 7.0), ("new", 8.0)];
    assert!(all.iter().all(|&(metric, value)| read(&store, metric) == Ok(vec![value])));
    assert!(read(&store, "one").is_err(), "it is not configured");
    // What is gone or differs stays until the store is opened again.
    assert_eq!(adjust(&store, &["one", "new"]), ["two".into(), "newer".into()]);
    assert_eq!(read(&store, "one"), Ok(vec![4.0]));
    assert_eq!(stored(&store, &line("two", 9)), 1);
    snapshot(&store);
    store.close().unwrap();
    drop(store);

    let store = open_with(&disk, &clock, |options| options.metrics = metrics(&["newer", "new", "two", "one"]));
    for (metric, value) in [("load", 1.0), ("one", 4.0), ("newer", 6.0), ("two", 9.0), ("new", 8.0)] {
        assert_eq!(read(&store, metric), Ok(vec![value]), "{metric}");
    }
}

#[test]
fn limits_and_retention_are_exchanged_and_what_the_files_depend_on_is_not() {
    let disk = SimDisk::new(5);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open(&disk, &clock);
    write(&store, "n1", 0);
    let mut wanted = Options::clone(&store.options());
    wanted.limits.hosts = 1;
    wanted.retention = None;
    wanted.segment_len *= 2;
    wanted.limits.pending_bytes = 1;
    let adjustment = store.check_adjustment(&wanted).unwrap();
    assert_eq!(store.options().retention, Some(2 * DAY), "checking changes nothing");
    store.adjust(adjustment);
    let written = store.write(format!("load,cluster=c,hostname=n2 value=1 {NOON}\n").as_bytes(), "", true).unwrap();
    assert_eq!(written.reasons, [("limit-hosts", 1)]);
    let options = store.options();
    assert_eq!((options.retention, options.segment_len), (None, crate::wal::SEGMENT_LEN_MIN));
    assert!(options.limits.pending_bytes > 1);
}

#[test]
fn a_query_that_reads_more_than_it_may_is_an_error_and_not_memory() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(Clock(AtomicI64::new(NOON))));
    let store = open_with(&disk, &clock, |options| options.limits.query_points = 10);
    let ask = |cores: usize| {
        let query = Query {
            metric: "load".to_owned(),
            host: "a".to_owned(),
            component: Some("core".to_owned()),
            component_ids: (0..cores).map(|core| core.to_string()).collect(),
            ..Query::default()
        };
        let request = Request { cluster: "c".to_owned(), from: NOON - 60, to: NOON + 60, ..Request::default() };
        store.evaluate(&request, &query)
    };
    for core in 0..11 {
        let line = format!("load,cluster=c,hostname=a,type=core,type-id={core} value=1 {NOON}\n");
        assert_eq!(store.write(line.as_bytes(), "", true).unwrap().accepted, 1);
        while store.commit_step() == Progress::Done {}
        if core == 9 {
            snapshot(&store);
            assert!(ask(10).iter().all(Result::is_ok), "{:?}", ask(10));
        }
    }
    snapshot(&store);
    assert!(
        ask(1).iter().all(|answer| matches!(answer, Err(SeriesError::TooManyPoints { limit: 10 }))),
        "{:?}",
        ask(1)
    );
}

#[test]
fn what_was_freed_while_a_snapshot_began_stays_gone() {
    let disk = SimDisk::new(5);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open(&disk, &clock);
    write(&store, "n1", 0);
    clock.0.store(NOON + DAY, Ordering::Relaxed);
    // Neither the free nor the row behind it is on the device when the snapshot begins.
    let (runs, _) = store.free(&[vec!["c".to_owned(), "n1".to_owned()]], NOON + DAY).unwrap();
    assert_eq!(runs, 1);
    let body = format!("load,cluster=c,hostname=n1 value=1 {}\n", NOON + DAY);
    assert_eq!(store.write(body.as_bytes(), "", true).unwrap().accepted, 1);
    assert_eq!(store.compact_step(true).unwrap(), Progress::Done);
    while store.commit_step() == Progress::Done {}
    snapshot(&store);
    assert_eq!(values(&store, "n1"), [1.0]);
    store.close().unwrap();
    drop(store);
    assert_eq!(values(&open(&disk, &clock), "n1"), [1.0]);
}

#[test]
fn a_free_elsewhere_in_time_is_no_reason_to_refuse_a_query() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(Clock(AtomicI64::new(NOON))));
    let store = open_with(&disk, &clock, |options| {
        options.limits.query_points = 10;
        options.retention = None;
    });
    for day in 0..12 {
        clock.0.store(NOON + day * DAY, Ordering::Relaxed);
        write(&store, "n1", day);
        snapshot(&store);
    }
    assert_eq!(store.free(&[vec!["c".to_owned()]], NOON + DAY / 2).unwrap().0, 1);
    while store.commit_step() == Progress::Done {}
    let query = Query { metric: "load".to_owned(), host: "n1".to_owned(), ..Query::default() };
    let ask = |from: i64, to: i64| {
        let request = Request { cluster: "c".to_owned(), from, to, with_padding: false, ..Request::default() };
        store.evaluate(&request, &query).remove(0)
    };
    assert_eq!(ask(NOON + 11 * DAY - 60, NOON + 11 * DAY + 60).unwrap().data.last(), Some(&11.0));
    assert!(matches!(ask(0, i64::MAX), Err(SeriesError::TooManyPoints { limit: 10 })), "all of them are too many");
}

#[test]
fn series_whose_place_cannot_be_read_any_more_are_errors_and_not_missing() {
    let directory = tempfile::tempdir().unwrap();
    let metric = Metric { name: "load".into(), frequency: 60, aggregation: Aggregation::None };
    let mut options = Options::new(directory.path(), Metrics::new(vec![metric]).unwrap());
    options.segment_len = crate::wal::SEGMENT_LEN_MIN;
    let clock: Arc<dyn Env> = Arc::new(Clock(AtomicI64::new(NOON)));
    let (store, _) = Store::open(Arc::new(Posix), clock, options).unwrap();
    write(&store, "n1", 0);
    snapshot(&store);
    let query = Query { metric: "load".to_owned(), host: "n1".to_owned(), ..Query::default() };
    let request = Request { cluster: "c".to_owned(), from: NOON - 60, to: NOON + 60, ..Request::default() };
    assert!(store.evaluate(&request, &query)[0].is_ok(), "what was read once is not checked again");
    let path = store.layers().snapshots[0].path.clone();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(crate::disk::BLOCK as u64).unwrap();
    let answers = store.evaluate(&request, &query);
    assert!(matches!(answers[..], [Err(SeriesError::Damaged(_))]), "{answers:?}");
}

#[test]
fn frees_that_were_asked_for_together_make_no_snapshots_of_their_own() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(Clock(AtomicI64::new(NOON))));
    let store = open_with(&disk, &clock, |options| options.retention = None);
    let hosts: Vec<String> = (0..50).map(|host| format!("n{host}")).collect();
    for host in &hosts {
        write(&store, host, 0);
    }
    clock.0.store(NOON + DAY, Ordering::Relaxed);
    // One of them twice, at two levels: its run goes once.
    let mut selectors: Vec<Vec<String>> = hosts.iter().map(|host| vec!["c".to_owned(), host.clone()]).collect();
    selectors.insert(25, vec!["c".to_owned(), "n0".to_owned(), "socket0".to_owned()]);
    selectors.push(vec!["c".to_owned()]);
    assert_eq!(store.free(&selectors, NOON + DAY).unwrap().0, 50);
    for host in &hosts {
        write(&store, host, 1);
    }
    // What is older than the frees, and what is younger: two jobs, a step a host, one to begin and one to end.
    let steps = std::iter::from_fn(|| (store.compact_step(true).unwrap() == Progress::Done).then_some(()));
    assert_eq!((steps.count(), store.stats().snapshots), (2 * (hosts.len() + 2), 2));
    for host in &hosts {
        assert_eq!(values(&store, host), [1.0]);
    }
    drop(store);
    let store = open(&disk, &clock);
    for host in &hosts {
        assert_eq!(values(&store, host), [1.0]);
    }
}

#[test]
fn a_free_that_gets_late_frees_nothing() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(Clock(AtomicI64::new(NOON))));
    let store = open(&disk, &clock);
    write(&store, "n1", 0);
    let selectors = ["n1", "n2"].map(|host| vec!["c".to_owned(), host.to_owned()]);
    let asked = AtomicI64::new(0);
    let is_late = || asked.fetch_add(1, Ordering::Relaxed) > 0;
    assert_eq!(store.free_in_time(&selectors, NOON + DAY, &is_late).unwrap(), None);
    while store.commit_step() == Progress::Done {}
    assert_eq!(values(&store, "n1"), [0.0]);
}

#[test]
fn series_are_computed_as_they_are_taken() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(Clock(AtomicI64::new(NOON))));
    let store = open(&disk, &clock);
    for core in 0..3 {
        let line = format!("load,cluster=c,hostname=a,type=core,type-id={core} value={core} {NOON}\n");
        assert_eq!(store.write(line.as_bytes(), "", true).unwrap().accepted, 1);
    }
    while store.commit_step() == Progress::Done {}
    let query = Query {
        metric: "load".to_owned(),
        host: "a".to_owned(),
        component: Some("core".to_owned()),
        component_ids: vec!["2".to_owned(), "0".to_owned(), "1".to_owned()],
        ..Query::default()
    };
    let request = Request { cluster: "c".to_owned(), from: NOON - 60, to: NOON + 60, ..Request::default() };
    let mut taken = Vec::new();
    store.evaluate_each(&request, &query, &mut |answer| {
        taken.push(*answer.unwrap().data.last().unwrap());
        if taken.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!(taken, [2.0, 0.0]);
}

#[test]
fn definitions_wait_for_the_device_like_rows() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(Clock(AtomicI64::new(NOON))));
    let store = open(&disk, &clock);
    let names: Vec<String> = (0..100).map(|id| format!("{id:0200}")).collect();
    let lines = names.iter().map(|name| format!("load,cluster=c,hostname=a,type=core,type-id={name} value=1 {NOON}\n"));
    let body: String = lines.collect::<Vec<_>>().concat();
    assert_eq!(store.write(body.as_bytes(), "", true).unwrap().accepted, 100);
    let waiting = store.stats().pulse.pending_bytes;
    assert!(waiting > 100 * 200, "{waiting}");
    while store.commit_step() == Progress::Done {}
    assert_eq!(store.stats().pulse.pending_bytes, 0);
}

/// The snapshot files that are there.
fn snapshot_files(disk: &SimDisk) -> usize {
    disk.files().keys().filter(|path| path.extension().is_some_and(|extension| extension == "snap")).count()
}

#[test]
fn a_manifest_that_may_be_another_after_a_power_cut_keeps_its_files() {
    for (seed, nth) in (0..16).flat_map(|seed| (1..12).map(move |nth| (seed, nth))) {
        let disk = SimDisk::new(seed);
        let clock = Arc::new(Clock(AtomicI64::new(NOON)));
        let store = open(&disk, &clock);
        write(&store, "n1", 0);
        // The entry of a manifest that names the snapshot is not known to be durable, nor that of the one without it.
        let fail = |nth| disk.fail(Fault { target: Target::Sync, nth, errno: libc::EIO, is_sticky: false });
        fail(nth);
        while store.compact_step(true).is_ok_and(|progress| progress == Progress::Done) {}
        fail(2);
        drop(store.compact_step(true));
        drop(store);
        disk.crash(Crash::Power);
        disk.heal();
        assert_eq!(values(&open(&disk, &clock), "n1"), [0.0], "seed {seed}, sync {nth}");
    }
}

#[test]
fn a_snapshot_that_fails_leaves_no_file_behind() {
    for target in [Target::Write, Target::Sync, Target::Name] {
        for nth in 1..24 {
            let disk = SimDisk::new(6);
            let clock = Arc::new(Clock(AtomicI64::new(NOON)));
            let store = open(&disk, &clock);
            for day in 0..2 {
                clock.0.store(NOON + day * DAY, Ordering::Relaxed);
                write(&store, "n1", day);
            }
            disk.fail(Fault { target, nth, errno: libc::ENOSPC, is_sticky: true });
            while store.compact_step(true).is_ok_and(|progress| progress == Progress::Done) {}
            disk.heal();
            // As a server does whose disk is full no more, or that has come to merges meanwhile.
            while store.compact_step(false).unwrap() == Progress::Done {}
            assert_eq!(snapshot_files(&disk), store.stats().snapshots, "{target:?} {nth}");
            snapshot(&store);
            assert_eq!(snapshot_files(&disk), 2, "{target:?} {nth}");
            assert_eq!(values(&store, "n1"), [0.0, 1.0], "{target:?} {nth}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_tried_again() {
    let (disk, clock) = (SimDisk::new(6), Arc::new(Clock(AtomicI64::new(NOON))));
    let store = open_with(&disk, &clock, |options| options.retention = None);
    let files_are_those_that_live = || snapshot_files(&disk) == store.stats().snapshots;
    let mut missed = 0;
    for at in 0..100 {
        let time = NOON + at * DAY / 4;
        clock.0.store(time, Ordering::Relaxed);
        let body = format!("load,cluster=c,hostname=n1 value=1 {time}\n");
        assert_eq!(store.write(body.as_bytes(), "", true).unwrap().accepted, 1);
        while store.commit_step() == Progress::Done {}
        let mut is_tried = false;
        loop {
            // Some of these are the removal of what a merge has read. What is left is tried before all else, and stays.
            let nth = match (files_are_those_that_live(), is_tried) {
                (true, _) => u64::try_from(at % 7 + 1).unwrap(),
                (false, false) => 1,
                (false, true) => u64::MAX,
            };
            is_tried |= nth == 1;
            disk.fail(Fault { target: Target::Name, nth, errno: libc::EBUSY, is_sticky: false });
            // Snapshots and merges take turns.
            let is_done = store.compact_step(at % 2 == 0).is_ok_and(|progress| progress == Progress::Done);
            disk.heal();
            missed += usize::from(!files_are_those_that_live());
            if !is_done {
                break;
            }
        }
    }
    assert!(missed > 0, "no file was ever left");
    while store.compact_step(false).unwrap() == Progress::Done {}
    assert!(files_are_those_that_live());
}

#[test]
fn on_a_full_disk_whole_days_go_before_others_are_written_without_some_hosts() {
    let (disk, clock) = (SimDisk::new(7), Arc::new(Clock(AtomicI64::new(NOON))));
    let store = open(&disk, &clock);
    write(&store, "used", 0);
    for day in 0..8 {
        clock.0.store(NOON + day * DAY, Ordering::Relaxed);
        write(&store, "idle", day);
        snapshot(&store);
    }
    // Room for a manifest, not for a snapshot.
    disk.set_capacity(Some(disk.used() + 1024));
    let in_use = |_: &str, host: &str| host == "used";
    for _ in 0..16 {
        // What writes fails; what only removes does not.
        drop(store.retention_step(&in_use));
        while store.compact_step(false).is_ok_and(|progress| progress == Progress::Done) {}
    }
    assert_eq!(values(&store, "idle"), [5.0, 6.0, 7.0]);
    assert_eq!(values(&store, "used"), [0.0]);
}

#[test]
fn on_a_full_disk_a_snapshot_lets_go_of_the_log_by_itself() {
    let disk = SimDisk::new(7);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open(&disk, &clock);
    let prepared = crate::wal::SEGMENT_LEN_MIN;
    // Room for one more segment, and then for a snapshot alone.
    disk.set_capacity(Some(disk.used() + prepared + prepared / 2));
    let mut written = 0_u32;
    loop {
        let (host, time) = (written % 5, NOON + i64::from(written));
        let line = |core| format!("load,cluster=c,hostname=h{host},type=core,type-id={core} value=1 {time}\n");
        let lines: String = (0..100).map(line).collect();
        if store.write(lines.as_bytes(), "", true).is_err() || store.commit_step() == Progress::Blocked {
            break;
        }
        written += 1;
        assert!(written < 100_000, "the disk is never full");
    }
    while store.compact_step(false).unwrap() == Progress::Done {}
    while store.commit_step() == Progress::Done {}
    assert_eq!(store.ready(), Ok(()));
    assert_eq!(store.pulse().durable, store.pulse().last);
}

#[test]
fn hosts_that_are_alike_in_part_never_share_more_than_a_segment_can_define() {
    let disk = SimDisk::new(8);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open(&disk, &clock);
    let (short, long) = (300, 100);
    let lines = |host: usize, value: i64| -> String {
        let line = |stype: String| {
            format!(
                "load,cluster=c,hostname=h{host},type=core,type-id=1,stype=s,stype-id={stype} value={value} {NOON}\n"
            )
        };
        let known = (0..short).map(|at| line(format!("{at}")));
        let own = (0..long).map(|at| line(format!("{host}-{at}-{}", "x".repeat(200))));
        known.chain(own).collect()
    };
    for host in 0..30 {
        let written = store.write(lines(host, 7).as_bytes(), "", true).unwrap();
        assert_eq!((written.accepted, written.refused), (short + long, 0), "host {host}: {:?}", written.reasons);
        while store.commit_step() == Progress::Done {}
        assert_eq!(store.ready(), Ok(()), "host {host}");
    }
    drop(store);
    let store = open(&disk, &clock);
    for host in 0..30 {
        let tree = store.debug(&["c".to_owned(), format!("h{host}"), "core1".to_owned()]).unwrap();
        assert_eq!(tree.children.len() as u64, short + long);
    }
}

#[test]
fn the_log_may_have_a_few_times_the_names_that_live() {
    let disk = SimDisk::new(9);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open_with(&disk, &clock, |options| options.log_bound = 1 << 20);
    // No two hosts are alike: each segment says all of their names again.
    for host in 0..60 {
        let line = |at| {
            format!(
                "load,cluster=c,hostname=h{host},type=core,type-id=1,stype=s,stype-id={host}-{at}-{at:0>150} value=1 {NOON}\n"
            )
        };
        let lines: String = (0..200).map(line).collect();
        assert_eq!(store.write(lines.as_bytes(), "", true).unwrap().accepted, 200);
        while store.commit_step() == Progress::Done {}
    }
    assert!(store.stats().log_bytes > 2 << 20);
    store.measure_step();
    assert_eq!(store.compact_step(false).unwrap(), Progress::Idle);
}

#[test]
fn what_cannot_be_read_is_freed_all_the_same() {
    let disk = SimDisk::new(10);
    let clock = Arc::new(Clock(AtomicI64::new(NOON)));
    let store = open(&disk, &clock);
    write(&store, "n1", 0);
    store.close().unwrap();
    drop(store);
    let snapshot = disk.files().into_iter().find(|(path, _)| path.extension().is_some_and(|name| name == "snap"));
    let (path, bytes) = snapshot.unwrap();
    let flip = |disk: &SimDisk, at: usize| disk.corrupt(&path, |bytes| bytes[at] ^= 1).unwrap();
    let is_damaged = |store: &Store| {
        let query = Query { metric: "load".to_owned(), host: "n1".to_owned(), ..Query::default() };
        let request = Request { cluster: "c".to_owned(), from: 0, to: i64::MAX, ..Request::default() };
        matches!(store.evaluate(&request, &query)[..], [Err(SeriesError::Damaged(_))])
    };
    // A byte that is looked at when the host is asked for, and not before.
    let (disk, at, store) = (crate::disk::BLOCK..bytes.len())
        .find_map(|at| {
            let disk = disk.fork(11);
            flip(&disk, at);
            let store = try_open_with(&disk, &clock, |_| ())?;
            is_damaged(&store).then_some((disk, at, store))
        })
        .unwrap();
    let (runs, lsn) = store.free(&[vec!["c".to_owned(), "n1".to_owned()]], NOON + DAY).unwrap();
    assert_eq!((runs, lsn > store.pulse().durable), (0, true));
    while store.commit_step() == Progress::Done {}
    drop(store);
    flip(&disk, at);
    assert_eq!(values(&open(&disk, &clock), "n1"), [0.0; 0]);
}
