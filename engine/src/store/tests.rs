//! Retention: what is older goes by whole days, a few at a time, and hosts that are in use keep theirs. Memory: above the
//! cap writes are refused, and nothing that was taken is discarded.

use super::{Options, Progress, Store, Unavailable};
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::env::Env;
use crate::model::{Aggregation, Metric, Metrics, Query, Request};
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
    let metric = Metric { name: "load".into(), frequency: 60, aggregation: Aggregation::None };
    let mut options = Options::new("/data", Metrics::new(vec![metric]).unwrap());
    options.retention = Some(2 * DAY);
    options.segment_len = crate::wal::SEGMENT_LEN_MIN;
    change(&mut options);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let env: Arc<dyn Env> = Arc::clone(clock) as Arc<dyn Env>;
    Store::open(disk, env, options).unwrap().0
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
