//! Opening a store whose log is long, against reading the same files into memory. No snapshot is taken, so that all of
//! it is in the log.

use crate::compare::{Figure, compare};
use crate::env::{SetClock, is_test, scale, time};
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

    fn open(&mut self) -> Duration {
        let clock = Arc::new(SetClock::at(workload::time(0)));
        let options = Options::new(self.directory.path(), metrics());
        let (store, report) = Store::open(Arc::clone(&self.disk), clock, options).expect("the store opens");
        assert_eq!(report.samples, self.samples);
        drop(store);
        self.bytes = report.bytes;
        report.elapsed
    }

    fn read(&self) -> Duration {
        let wal = Paths::new(self.directory.path()).wal();
        time(|| {
            for entry in self.disk.list(&wal).expect("the directory of the log is there") {
                black_box(self.disk.read(&wal.join(entry.name)).expect("a segment is read"));
            }
        })
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
    let mut log_size = (0, 0);
    compare(&mut group, "open", figure, &["read of the segments"], setup, |log, iterations, times| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            let opening = log.open();
            times.add(0, opening);
            times.add(1, log.read());
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
