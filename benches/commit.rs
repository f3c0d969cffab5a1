//! From the end of a write to its acknowledgement, with every commit synced, against durable writes of frames of the
//! same length to a file that is prepared alike.
//!
//! Bodies are small, so that this is the time of the log and not of the parser. The files are on the file system of
//! the target directory. No snapshot is taken meanwhile. A third disk is none: its writes take the same time always, so that
//! what is measured is the way to it and back.

use crate::compare::{Figure, Times, compare};
use crate::env::{SetClock, now, time};
use crate::null_disk::NullDisk;
use crate::workload::{self, Senders, metrics};
use criterion::{Criterion, SamplingMode};
use kymo_engine::disk::{AlignedBuf, BLOCK, Disk, IoKind, LogFile, Posix, Uring};
use kymo_engine::store::{Options, Progress, Store};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// How long a step waits before it looks again whether it shall stop.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a write takes on the device that other programs do not use.
const LATENCY: Duration = Duration::from_micros(80);
/// Bytes of the file of raw writes.
const RAW_LEN: u64 = 16 << 20;
/// Seconds around the present that are taken: each write is a minute later than the one before.
const WINDOW: i64 = 10 * 365 * 86_400;

/// A store with the threads that a server has for it, and a raw file beside it.
pub(crate) struct Bed {
    pub(crate) store: Arc<Store>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    minute: u32,
    raw: Box<dyn LogFile>,
    raw_offset: u64,
    _directory: TempDir,
}

impl Bed {
    pub(crate) fn new(disk: &Arc<dyn Disk>) -> Self {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
        let mut options = Options::new(directory.path().join("store"), metrics());
        (options.late_window, options.skew) = (WINDOW, WINDOW);
        let clock = Arc::new(SetClock::at(workload::time(0)));
        let (store, _) = Store::open(Arc::clone(disk), clock, options).expect("a new store opens");
        let raw = directory.path().join("raw");
        disk.prepare(&raw, RAW_LEN).expect("there is space");
        let raw = disk.open_log(&raw).expect("the file is there");

        let (store, stop) = (Arc::new(store), Arc::new(AtomicBool::new(false)));
        let commit = {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Acquire) {
                    match store.commit_step() {
                        Progress::Done => {}
                        Progress::Idle => store.wait_for_work(PATIENCE),
                        Progress::Blocked | Progress::Failed => panic!("the disk fails or is full"),
                    }
                }
            }
        };
        let prepare = {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Acquire) {
                    store.prepare_step().expect("there is space");
                    thread::park_timeout(PATIENCE);
                }
            }
        };
        let threads = vec![thread::spawn(commit), thread::spawn(prepare)];
        Self { store, stop, threads, minute: 0, raw, raw_offset: 0, _directory: directory }
    }

    /// Each writer sends this many bodies, one after the other; returns all latencies.
    pub(crate) fn write(&mut self, writers: u32, bodies: u64) -> Vec<Duration> {
        self.write_twice_timed(writers, bodies).into_iter().map(|(_, resumed)| resumed).collect()
    }

    /// As [`Bed::write`]: how long until the store acknowledged, and until the writer went on.
    fn write_twice_timed(&mut self, writers: u32, bodies: u64) -> Vec<(Duration, Duration)> {
        let minutes = self.minute..self.minute + u32::try_from(bodies).expect("a bench is short");
        self.minute = minutes.end;
        let store = &*self.store;
        thread::scope(|scope| {
            let start = |host| {
                let minutes = minutes.clone();
                scope.spawn(move || writer(store, host, minutes))
            };
            let running: Vec<_> = (0..writers).map(start).collect();
            running.into_iter().flat_map(|writer| writer.join().expect("a writer ends well")).collect()
        })
    }

    /// Bytes that commits wrote so far, and how many there were.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of lengths")]
    fn committed(&self) -> (u64, u64) {
        let bytes = self.store.stats().commit_bytes;
        (bytes.sum as u64, bytes.count)
    }

    /// Durable writes of `len` bytes, one after the other.
    fn write_raw(&mut self, len: usize, count: u64, mut told: impl FnMut(Duration)) {
        let mut blocks = AlignedBuf::zeroed(len);
        blocks.as_bytes_mut().fill(0xa5);
        for _ in 0..count {
            if self.raw_offset + blocks.len() as u64 > RAW_LEN {
                self.raw_offset = 0;
            }
            told(time(|| self.raw.write(self.raw_offset, &blocks, true).expect("the disk takes the blocks")));
            self.raw_offset += blocks.len() as u64;
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A panic in it was told when it happened.
            drop(thread.join());
        }
    }
}

fn writer(store: &Store, host: u32, minutes: std::ops::Range<u32>) -> Vec<(Duration, Duration)> {
    let senders = Senders::default();
    let (done, acknowledged) = mpsc::sync_channel(1);
    let mut body = Vec::new();
    let mut latencies = Vec::with_capacity(minutes.len());
    for minute in minutes {
        body.clear();
        senders.node_body(host, minute, &mut body);
        let written = store.write(&body, "", true).expect("the log takes rows");
        assert_eq!(written.refused, 0, "{:?}", written.examples);
        let done = done.clone();
        let begun = now();
        store.when_durable(written.lsn, Box::new(move |outcome| drop(done.send((outcome, now())))));
        let (outcome, told) = acknowledged.recv().expect("every write is answered");
        outcome.expect("the log is well");
        latencies.push((told.saturating_sub(begun), now().saturating_sub(begun)));
    }
    latencies
}

fn measure(bed: &mut Bed, writers: u32, iterations: u64, times: &mut Times) -> Duration {
    let (bytes, commits) = bed.committed();
    let mut latencies = Vec::new();
    let total = time(|| latencies = bed.write_twice_timed(writers, iterations));
    for (told, resumed) in latencies {
        times.add(0, resumed);
        times.add(2, told);
    }
    let (bytes_after, commits_after) = bed.committed();
    let mean = (bytes_after - bytes) / (commits_after - commits).max(1);
    let len = usize::try_from(mean).expect("a frame fits into memory").max(BLOCK);
    bed.write_raw(len, iterations.max(20), |latency| times.add(1, latency));
    total
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for kind in [Some(IoKind::IoUring), Some(IoKind::Posix), None] {
        let disk: Arc<dyn Disk> = match kind {
            None => Arc::new(NullDisk { latency: LATENCY }),
            Some(IoKind::Posix) => Arc::new(Posix),
            Some(_) => match Uring::new() {
                Ok(disk) => Arc::new(disk),
                Err(refusal) => {
                    eprintln!("commit: io_uring is not to be had here: {refusal}");
                    continue;
                }
            },
        };
        for writers in [1, 8, 64] {
            let id = format!("{}, writers: {writers}", disk.name());
            let setup = || Bed::new(&disk);
            compare(
                &mut group,
                &id,
                Figure::Latency,
                &["raw write", "told, not yet awake"],
                setup,
                |bed, iterations, times| measure(bed, writers, iterations, times),
            );
        }
    }
    group.finish();
}
