//! What threads do to one store. The threads come from outside, so that a scheduler can take their place.

use super::threads;
use kymo_engine::disk::Disk;
use kymo_engine::disk::sim::SimDisk;
use kymo_engine::env::Env;
use kymo_engine::model::{Aggregation, Metric, Metrics, Query, Request};
use kymo_engine::store::{Options, Progress, Store, Unavailable};
use kymo_engine::wal::SEGMENT_LEN_MIN;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NOON: i64 = 20_000 * 86_400 + 43_200;
const WRITERS: u32 = 2;
const BODIES: u32 = 3;

#[derive(Debug)]
struct Still;

impl Env for Still {
    fn unix_now(&self) -> i64 {
        NOON
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn unique(&self) -> [u8; 16] {
        [7; 16]
    }
}

fn open(disk: &SimDisk, change: impl FnOnce(&mut Options)) -> Arc<Store> {
    let metric = Metric { name: "load".into(), frequency: 60, aggregation: Aggregation::None };
    let mut options = Options::new("/data", Metrics::new(vec![metric]).unwrap());
    options.segment_len = SEGMENT_LEN_MIN;
    change(&mut options);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Arc::new(Store::open(disk, Arc::new(Still), options).unwrap().0)
}

/// The thread that commits until it is told that all is done.
fn commit(store: &Arc<Store>, done: &Arc<AtomicBool>) -> impl FnOnce() + Send + 'static {
    let (store, done) = (Arc::clone(store), Arc::clone(done));
    move || {
        while !done.load(Ordering::SeqCst) {
            match store.commit_step() {
                Progress::Done => {}
                Progress::Idle => store.wait_for_work(Duration::from_secs(1)),
                Progress::Blocked | Progress::Failed => return,
            }
        }
    }
}

/// Writes one sample and waits until its fate is known.
fn write(store: &Store, host: &str, value: u32) -> Result<(), Unavailable> {
    let written = store.write(format!("load,cluster=c,hostname={host} value={value} {NOON}\n").as_bytes(), "", true)?;
    assert_eq!((written.accepted, written.refused), (1, 0));
    let (tell, told) = threads::channel();
    // Nobody listens any more only if a second answer comes, and that is a failure.
    store.when_durable(written.lsn, Box::new(move |outcome| tell.send(outcome).unwrap()));
    let outcome = told.recv().expect("whoever waits is told");
    assert!(told.recv().is_err(), "and only once");
    outcome
}

/// The value that the slot of a host has now.
fn read(store: &Store, host: &str) -> Option<f64> {
    let query = Query { metric: "load".to_owned(), host: host.to_owned(), ..Query::default() };
    let (from, to) = (NOON - 60, NOON + 60);
    let request = Request { cluster: "c".to_owned(), from, to, with_padding: false, ..Request::default() };
    let answers = store.evaluate(&request, &query);
    answers.into_iter().flat_map(|answer| answer.unwrap().data).rfind(|value| !value.is_nan())
}

/// Two writers, one who commits. What was acknowledged can be read at once, and after a start.
pub(crate) fn acknowledged_is_readable() {
    let disk = SimDisk::new(1);
    let store = open(&disk, |_| ());
    let done = Arc::new(AtomicBool::new(false));
    let committer = threads::spawn(commit(&store, &done));
    let writer = |id: u32| {
        let store = Arc::clone(&store);
        threads::spawn(move || {
            for value in 1..=BODIES {
                write(&store, &format!("h{id}"), value).unwrap();
                assert_eq!(read(&store, &format!("h{id}")), Some(f64::from(value)));
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    for writer in writers {
        writer.join().unwrap();
    }
    done.store(true, Ordering::SeqCst);
    store.close().unwrap();
    committer.join().unwrap();
    drop(store);
    let store = open(&disk, |_| ());
    for id in 0..WRITERS {
        assert_eq!(read(&store, &format!("h{id}")), Some(f64::from(BODIES)));
    }
}

/// A writer, one who commits, one who moves rows into snapshots all the time, and a reader: what the reader has seen
/// stays, or is replaced by something newer.
pub(crate) fn reads_never_go_back() {
    let disk = SimDisk::new(1);
    let store = open(&disk, |_| ());
    let done = Arc::new(AtomicBool::new(false));
    let committer = threads::spawn(commit(&store, &done));
    let mover = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        threads::spawn(move || {
            for _ in 0..40 {
                store.compact_step(true).unwrap();
                if done.load(Ordering::SeqCst) {
                    return;
                }
            }
        })
    };
    let reader = {
        let store = Arc::clone(&store);
        threads::spawn(move || {
            let mut seen = None;
            for _ in 0..8 {
                let now = read(&store, "h");
                assert!(now >= seen, "{now:?} after {seen:?}");
                seen = now;
            }
        })
    };
    for value in 1..=BODIES {
        write(&store, "h", value).unwrap();
        assert_eq!(read(&store, "h"), Some(f64::from(value)));
    }
    reader.join().unwrap();
    done.store(true, Ordering::SeqCst);
    mover.join().unwrap();
    store.close().unwrap();
    committer.join().unwrap();
}

/// Next to nothing may wait for the device: writers are refused, try again, and all get in.
pub(crate) fn back_pressure_lets_go() {
    let disk = SimDisk::new(1);
    let store = open(&disk, |options| options.limits.pending_bytes = 1);
    let done = Arc::new(AtomicBool::new(false));
    let committer = threads::spawn(commit(&store, &done));
    let writer = |id: u32| {
        let store = Arc::clone(&store);
        threads::spawn(move || {
            for value in 1..=BODIES {
                loop {
                    match write(&store, &format!("h{id}"), value) {
                        Ok(()) => break,
                        // What waits gets less: whoever waits for a durable end is told in time.
                        Err(Unavailable::Overloaded(_)) => {
                            let (tell, told) = threads::channel();
                            let last = store.stats().pulse.last;
                            store.when_durable(last, Box::new(move |outcome| tell.send(outcome).unwrap()));
                            told.recv().unwrap().unwrap();
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(store.stats().pulse.pending_bytes, 0, "nothing waits any more");
    done.store(true, Ordering::SeqCst);
    store.close().unwrap();
    committer.join().unwrap();
}

/// A sync of the log fails: each writer is told once, with the cause, nothing is acknowledged afterwards, and what was
/// acknowledged before is there after a start.
pub(crate) fn failure_reaches_everyone() {
    let disk = SimDisk::new(1);
    let store = open(&disk, |_| ());
    let done = Arc::new(AtomicBool::new(false));
    let committer = threads::spawn(commit(&store, &done));
    disk.fail_sync(Some(2));
    let writer = |id: u32| {
        let store = Arc::clone(&store);
        threads::spawn(move || {
            let mut acknowledged = None;
            for value in 1..=BODIES {
                match write(&store, &format!("h{id}"), value) {
                    Ok(()) => acknowledged = Some(f64::from(value)),
                    Err(Unavailable::Failed(_)) => {
                        assert!(write(&store, &format!("h{id}"), value).is_err(), "a failed log stays failed");
                        break;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            acknowledged
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    let acknowledged: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    done.store(true, Ordering::SeqCst);
    // It cannot be sealed any more.
    drop(store.close());
    committer.join().unwrap();
    drop(store);
    disk.crash(kymo_engine::disk::sim::Crash::Power);
    let store = open(&disk, |_| ());
    for (id, acknowledged) in (0..).zip(acknowledged) {
        assert!(read(&store, &format!("h{id}")) >= acknowledged);
    }
}
