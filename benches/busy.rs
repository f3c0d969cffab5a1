//! Commits while a snapshot and a merge are written, paced as the server paces them, against commits of an idle store:
//! the same writers, in the same run, in turns.

use crate::commit::Bed;
use crate::compare::{Figure, compare};
use crate::env::{scale, time};
use crate::workload::Senders;
use criterion::{Criterion, SamplingMode};
use kymo::background::step_back;
use kymo_engine::disk::{self, IoKind};
use kymo_engine::store::{JobStats, Pace, Progress, Store};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const WRITERS: u32 = 8;
/// Bodies of each writer between two looks whether the jobs have ended.
const BODIES: u64 = 25;
/// Snapshots that become one.
const FILES: u32 = 12;

/// Writes some minutes of hosts that are none of the writers', and waits until they are durable.
fn load(store: &Store, hosts: u32, minutes: std::ops::Range<u32>) {
    let senders = Senders::default();
    let mut body = Vec::new();
    let (done, durable) = mpsc::sync_channel(1);
    for minute in minutes {
        for host in WRITERS..WRITERS + hosts {
            body.clear();
            senders.body(host, minute, &mut body);
            store.write(&body, "", true).expect("the log takes rows");
        }
        let (lsn, done) = (store.stats().pulse.last, done.clone());
        store.when_durable(lsn, Box::new(move |outcome| drop(done.send(outcome))));
        durable.recv().expect("every write is answered").expect("the log is well");
    }
}

/// Works on files until there are more of those that are counted, or nothing is left to do.
fn work(store: &Store, now_or_never: bool, mut pace: Option<Pace>, count: fn(&JobStats) -> u64) {
    let before = count(&store.stats().jobs);
    loop {
        let mut progress = Progress::Idle;
        let took = time(|| progress = store.compact_step(now_or_never).expect("there is space"));
        if progress == Progress::Idle || count(&store.stats().jobs) > before {
            return;
        }
        if let Some(pace) = &mut pace {
            thread::sleep(pace.rest(store, took));
        }
    }
}

fn take_snapshot(store: &Store, pace: Option<Pace>) {
    work(store, true, pace, |jobs| jobs.snapshot_files);
}

fn merge(store: &Store, pace: Option<Pace>) {
    work(store, false, pace, |jobs| jobs.merge_files);
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let (hosts, minutes) = (scale(529, 3), scale(3, 1));
    let (disk, _) = disk::open(IoKind::Auto).expect("there is a disk");
    let mut group = criterion.benchmark_group("busy");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(10));
    let id = format!("commit, {}, writers: {WRITERS}", disk.name());
    let measure = |(): &mut (), iterations: u64, times: &mut crate::compare::Times| {
        // Files that a merge is due for, and rows for a snapshot beside it.
        let mut bed = Bed::new(&disk);
        for file in 0..FILES {
            load(&bed.store, hosts, file * minutes..(file + 1) * minutes);
            take_snapshot(&bed.store, None);
        }
        load(&bed.store, hosts, FILES * minutes..(FILES + 4) * minutes);
        let store = Arc::clone(&bed.store);
        let jobs = thread::spawn(move || {
            step_back();
            take_snapshot(&store, Some(Pace::default()));
            merge(&store, Some(Pace::default()));
        });
        let mut rounds: u32 = 0;
        let mut busy = Duration::ZERO;
        while rounds == 0 || !jobs.is_finished() {
            busy += time(|| bed.write(WRITERS, BODIES).into_iter().for_each(|latency| times.add(0, latency)));
            rounds += 1;
        }
        jobs.join().expect("the jobs end well");
        for _ in 0..rounds {
            bed.write(WRITERS, BODIES).into_iter().for_each(|latency| times.add(1, latency));
        }
        busy / rounds * u32::try_from(iterations).unwrap_or(u32::MAX)
    };
    compare(&mut group, &id, Figure::Latency, &["idle"], || (), measure);
    group.finish();
}
