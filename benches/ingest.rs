//! Bytes in, rows in frames and in the head, on one core and without a device: against a copy of the bytes.

use crate::compare::{Figure, compare};
use crate::env::{SetClock, cpu_time, scale};
use crate::null_disk::NullDisk;
use crate::requests::request;
use crate::workload::{self, Senders, metrics};
use criterion::{Criterion, SamplingMode};
use kymo_engine::disk::Disk;
use kymo_engine::store::{Options, Progress, Store};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Bodies between two commits, as a server under load has them.
const BODIES_A_COMMIT: usize = 16;

/// A store and the cluster that writes to it, a minute at a time.
pub(crate) struct Ingest {
    pub(crate) store: Store,
    clock: Arc<SetClock>,
    senders: Senders,
    bodies: Vec<Vec<u8>>,
    copy: Vec<u8>,
    minute: u32,
}

impl Ingest {
    /// An empty store on a disk, for this many hosts.
    pub(crate) fn new(disk: Arc<dyn Disk>, mut options: Options, hosts: u32) -> Self {
        let clock = Arc::new(SetClock::at(workload::time(0)));
        options.limits.pending_bytes = usize::MAX;
        let (store, _) = Store::open(disk, Arc::<SetClock>::clone(&clock), options).expect("a new store opens");
        let bodies = vec![Vec::new(); hosts as usize];
        Self { store, clock, senders: Senders::default(), bodies, copy: Vec::new(), minute: 0 }
    }

    /// An empty store without a device.
    pub(crate) fn without_disk(hosts: u32) -> Self {
        let mut options = Options::new("nowhere", metrics());
        // Nothing moves rows into snapshots: however many a run makes, they are taken.
        options.log_bound = u64::MAX;
        Self::new(Arc::new(NullDisk::default()), options, hosts)
    }

    /// Makes the next minute of the cluster; returns how many lines it has.
    pub(crate) fn prepare(&mut self) -> u64 {
        let mut lines = 0;
        for (host, body) in (0..).zip(&mut self.bodies) {
            body.clear();
            lines += self.senders.body(host, self.minute, body);
        }
        self.minute += 1;
        self.clock.set(workload::time(self.minute));
        lines
    }

    /// The same as requests as they come.
    fn prepare_requests(&mut self) -> u64 {
        let mut lines = 0;
        for (host, body) in (0..).zip(&mut self.bodies) {
            body.clear();
            lines += request(&self.senders, host, self.minute, body);
        }
        self.minute += 1;
        self.clock.set(workload::time(self.minute));
        lines
    }

    /// Writes and commits what was prepared; returns how long that took.
    pub(crate) fn write(&self) -> Duration {
        cpu_time(|| self.write_untimed())
    }

    /// Writes and commits what was prepared.
    pub(crate) fn write_untimed(&self) {
        for group in self.bodies.chunks(BODIES_A_COMMIT) {
            for body in group {
                let written = self.store.write(body, "", true).expect("the log takes rows");
                assert_eq!(written.refused, 0, "{:?}", written.examples);
            }
            while self.store.commit_step() == Progress::Done {}
        }
    }

    /// Copies what was prepared; returns how long that took.
    fn copy(&mut self) -> Duration {
        self.copy.resize(self.bodies.iter().map(Vec::len).max().unwrap_or(0), 0);
        cpu_time(|| {
            for body in &self.bodies {
                self.copy[..body.len()].copy_from_slice(black_box(body));
                black_box(&self.copy);
            }
        })
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    // 200,000 series.
    let hosts = scale(529, 3);
    let samples = Ingest::without_disk(hosts).prepare();
    let figure = Figure::Rate { unit: "sample", count: samples };
    let mut group = criterion.benchmark_group("ingest");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));

    let warm = || {
        let mut ingest = Ingest::without_disk(hosts);
        ingest.prepare();
        ingest.write();
        ingest
    };
    compare(&mut group, "steady state", figure, &["memcpy"], warm, |ingest, iterations, times| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            ingest.prepare();
            let writing = ingest.write();
            times.add(0, writing);
            times.add(1, ingest.copy());
            total += writing;
        }
        total
    });

    compare(&mut group, "requests as they come", figure, &["memcpy"], warm, |ingest, iterations, times| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            ingest.prepare_requests();
            let writing = ingest.write();
            times.add(0, writing);
            times.add(1, ingest.copy());
            total += writing;
        }
        total
    });

    group.sample_size(10).measurement_time(Duration::from_secs(3));
    compare(
        &mut group,
        "first contact",
        figure,
        &["memcpy"],
        || (),
        |(), iterations, times| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let mut ingest = Ingest::without_disk(hosts);
                ingest.prepare();
                let writing = ingest.write();
                times.add(0, writing);
                times.add(1, ingest.copy());
                total += writing;
            }
            total
        },
    );
    group.finish();
}
