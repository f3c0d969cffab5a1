//! Looking through all mapped columns of hours of 200,000 series, merged by day (sum, minimum, maximum, count of what is not
//! missing), against reading as many bytes of memory on the same core.

use crate::compare::{Figure, compare};
use crate::env::cpu_time;
use crate::history::History;
use crate::workload::SERIES;
use criterion::{Criterion, SamplingMode};
use kymo_engine::disk::{self, Disk, IoKind};
use kymo_engine::paths::Paths;
use kymo_engine::snapshot::{Column, Snapshot};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

/// Values that are looked at side by side: what the compiler makes vectors of.
const LANES: usize = 4;

/// What is known of some values.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sum: [f64; LANES],
    min: [f64; LANES],
    max: [f64; LANES],
    count: [f64; LANES],
}

impl Default for Seen {
    fn default() -> Self {
        Self { sum: [0.0; LANES], min: [f64::INFINITY; LANES], max: [f64::NEG_INFINITY; LANES], count: [0.0; LANES] }
    }
}

impl Seen {
    fn look(&mut self, values: &[f64]) {
        // In registers, as long as the column is.
        let mut seen = *self;
        let (chunks, rest) = values.as_chunks();
        for chunk in chunks {
            seen.look_at(chunk);
        }
        if !rest.is_empty() {
            let mut padded = [f64::NAN; LANES];
            padded[..rest.len()].copy_from_slice(rest);
            seen.look_at(&padded);
        }
        *self = seen;
    }

    #[inline]
    fn look_at(&mut self, values: &[f64; LANES]) {
        for (lane, &value) in values.iter().enumerate() {
            let is_missing = value.is_nan();
            self.sum[lane] += if is_missing { 0.0 } else { value };
            self.count[lane] += if is_missing { 0.0 } else { 1.0 };
            self.min[lane] = if value < self.min[lane] { value } else { self.min[lane] };
            self.max[lane] = if value > self.max[lane] { value } else { self.max[lane] };
        }
    }
}

/// The mapped snapshots, all of which were touched, and the values in them.
struct Mapped {
    files: Vec<Snapshot>,
    plain: Vec<u64>,
}

impl Mapped {
    fn open(directory: &Path) -> Self {
        let (disk, _) = disk::open(IoKind::Auto).expect("there is a disk");
        let snapshots = Paths::new(directory).snapshots();
        let names = disk.list(&snapshots).expect("the directory is there");
        let open = |name| {
            let region = Disk::map(&*disk, &snapshots.join(name)).expect("it is mapped");
            Snapshot::open_unlisted(region).expect("it is sound")
        };
        let mut mapped = Self { files: names.into_iter().map(|entry| open(entry.name)).collect(), plain: Vec::new() };
        // The first touch reads and verifies.
        let mut values = 0;
        mapped.columns(|column| values += column.len());
        mapped.plain = (0..values as u64).collect();
        mapped
    }

    fn columns(&self, mut each: impl FnMut(Column<'_>)) {
        for file in &self.files {
            for (_, _, host) in file.hosts() {
                for stripe in file.stripes(host).expect("it is sound").iter() {
                    stripe.data().expect("it is sound").iter().for_each(&mut each);
                }
            }
        }
    }

    fn scan(&self) -> Seen {
        let mut seen = Seen::default();
        self.columns(|column| match column {
            Column::F64(values) => seen.look(values),
            other => seen.look(&other.to_cow()),
        });
        seen
    }

    /// As many bytes, all of them loaded.
    fn read(&self) -> u64 {
        let mut lanes = [0_u64; 16];
        for chunk in self.plain.chunks_exact(16) {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane ^= value;
            }
        }
        lanes.into_iter().fold(0, |all, lane| all ^ lane)
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(3));
    let setup = || Mapped::open(&History::hours().sealed().make().directory);
    let minutes = u64::from(History::hours().host_minutes());
    let figure = Figure::Rate { unit: "value", count: minutes * u64::from(SERIES) };
    compare(&mut group, "mapped columns", figure, &["memory read"], setup, |mapped, iterations, times| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            let scanning = cpu_time(|| {
                black_box(mapped.scan());
            });
            times.add(0, scanning);
            times.add(
                1,
                cpu_time(|| {
                    black_box(black_box(&*mapped).read());
                }),
            );
            total += scanning;
        }
        total
    });
    group.finish();
}
