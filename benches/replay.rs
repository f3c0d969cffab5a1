//! Opening a store whose log is long, against reading the same files into memory. No snapshot is taken, so that all of
//! it is in the log.

use crate::compare::{Figure, compare};
use crate::env::{SetClock, cpu_time, is_test, scale, time};
use crate::ingest::Ingest;
use crate::workload::{self, SERIES, metrics};
use criterion::{Criterion, SamplingMode};
use kymo_engine::disk::{self, Disk, IoKind};
use kymo_engine::paths::Paths;
use kymo_engine::store::{Durability, Options, Store};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const HOSTS: u32 = 529;

/// A store that was left as a kill leaves it.
struct Log {
    disk: Arc<dyn Disk>,
    directory: TempDir,
    samples: u64,
    /// Bytes of the files of the log, when it was last opened.
    bytes: u64,
}

impl Log {
    fn write(hosts: u32, minutes: u32) -> Self {
        let (disk, _) = disk::open(IoKind::Auto).expect("there is a disk");
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
        let mut options = Options::new(directory.path(), metrics());
        options.durability = Durability::Interval(Duration::from_hours(1));
        let mut ingest = Ingest::new(Arc::clone(&disk), options, hosts);
        let mut samples = 0;
        for _ in 0..minutes {
            samples += ingest.prepare();
            ingest.write();
        }
        // Not closed: that would put all of it into a snapshot.
        drop(ingest);
        Self { disk, directory, samples, bytes: 0 }
    }

    /// Opens it: how long that takes, and how long the thread computes.
    fn open(&mut self) -> (Duration, Duration) {
        let clock = Arc::new(SetClock::at(workload::time(0)));
        let options = Options::new(self.directory.path(), metrics());
        let mut opened = None;
        let computing = cpu_time(|| {
            opened = Some(Store::open(Arc::clone(&self.disk), clock, options).expect("the store opens"));
        });
        let (store, report) = opened.expect("it was just opened");
        assert_eq!(report.samples, self.samples);
        drop(store);
        self.bytes = report.bytes;
        (report.elapsed, computing)
    }

    /// Reads the files: how long the device takes, and the memory when they are there.
    fn read(&self) -> (Duration, Duration) {
        let wal = Paths::new(self.directory.path()).wal();
        let mut segments = Vec::new();
        let device = time(|| {
            for entry in self.disk.list(&wal).expect("the directory of the log is there") {
                segments.push(self.disk.read(&wal.join(entry.name)).expect("a segment is read"));
            }
        });
        let memory = cpu_time(|| {
            for segment in &segments {
                let (words, _) = segment.as_chunks();
                black_box(words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word))));
            }
        });
        (device, memory)
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    // 20 million samples.
    let (hosts, minutes) = (scale(HOSTS, 3), scale(102, 3));
    let mut group = criterion.benchmark_group("replay");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(5));
    let figure = Figure::Rate { unit: "sample", count: u64::from(hosts * SERIES * minutes) * 98 / 100 };
    let setup = || Log::write(hosts, minutes);
    let yardsticks = ["read from the device", "read of the memory", "CPU time of kymo"];
    let mut log_size = (0, 0);
    compare(&mut group, "open", figure, &yardsticks, setup, |log, iterations, times| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            let (opening, computing) = log.open();
            let (device, memory) = log.read();
            times.add(0, opening);
            times.add(1, device);
            times.add(2, memory);
            times.add(3, computing);
            total += opening;
        }
        log_size = (log.bytes, log.samples);
        total
    });
    if !is_test() {
        tell_size(log_size);
    }
    group.finish();
}

#[expect(clippy::print_stdout, reason = "a bench speaks to stdout")]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn tell_size((bytes, samples): (u64, u64)) {
    if samples > 0 {
        println!("    log of {samples} samples       {:.2} bytes/sample", bytes as f64 / samples as f64);
    }
}
