//! Moving the head into a snapshot file, rows to columns, against a copy of the same rows and the same bytes written to
//! a new file.

use crate::compare::{Figure, Times, compare};
use crate::env::{cpu_time, scale, time};
use crate::ingest::Ingest;
use crate::workload::{SERIES, metrics};
use criterion::{Criterion, SamplingMode};
use kymo_engine::disk::{self, Disk, IoKind};
use kymo_engine::store::{Durability, Options, Progress};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Bytes that a new file is given at a time.
const PIECE: usize = 1 << 20;

/// A head with some minutes of a cluster; how long a snapshot of it takes, and the yardsticks.
fn measure(disk: &Arc<dyn Disk>, hosts: u32, minutes: u32, times: &mut Times) -> Duration {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
    let mut options = Options::new(directory.path().join("store"), metrics());
    options.durability = Durability::Interval(Duration::from_hours(1));
    options.log_bound = u64::MAX;
    let mut ingest = Ingest::new(Arc::clone(disk), options, hosts);
    for _ in 0..minutes {
        ingest.prepare();
        ingest.write();
        ingest.store.prepare_step().expect("there is space");
    }
    let head_bytes = usize::try_from(ingest.store.stats().head_bytes).expect("it is in memory");
    let mut computing = Duration::ZERO;
    let total = time(|| {
        computing = cpu_time(|| while ingest.store.compact_step(true).expect("there is space") == Progress::Done {});
    });
    let stats = ingest.store.stats();
    assert!(stats.head_bytes == 0 && stats.snapshots > 0, "all rows are in files");
    let (rows, mut copy) = (vec![1_u8; head_bytes], vec![0_u8; head_bytes]);
    let path = directory.path().join("raw");
    let yardstick = time(|| {
        copy.copy_from_slice(black_box(&rows));
        black_box(&mut copy);
        let mut file = disk.create(&path).expect("a file is made");
        let mut left = usize::try_from(stats.snapshot_bytes).expect("it was in memory");
        while left > 0 {
            let len = left.min(PIECE).min(copy.len());
            file.append(&copy[..len]).expect("there is space");
            left -= len;
        }
        file.finish(&[]).expect("there is space");
    });
    times.add(0, total);
    times.add(1, yardstick);
    times.add(2, computing);
    total
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let (hosts, minutes) = (scale(529, 3), scale(20, 3));
    let (disk, _) = disk::open(IoKind::Auto).expect("there is a disk");
    let mut group = criterion.benchmark_group("snapshot");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(5));
    let figure = Figure::Rate { unit: "sample", count: u64::from(hosts * SERIES * minutes) * 98 / 100 };
    let yardsticks = ["a copy and the device", "CPU time of kymo"];
    compare(
        &mut group,
        "head to file",
        figure,
        &yardsticks,
        || (),
        |(), iterations, times| (0..iterations).map(|_| measure(&disk, hosts, minutes, times)).sum(),
    );
    group.finish();
}
