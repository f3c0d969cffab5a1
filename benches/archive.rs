//! Writing a day of 2,816 series into the archive, comparing it, and finding one metric of a host in it: 4.06 million
//! samples of a mix of metrics. Against compressing the values alone, and against decompressing as many as a page has.
#![expect(clippy::print_stdout, reason = "a bench speaks to stdout")]

use crate::compare::{Figure, compare};
use crate::env::{cpu_time, is_test, scale, time};
use crate::workload::SplitMix;
use criterion::{Criterion, SamplingMode};
use kymo_engine::archive::{ArchiveStore, Checker, LocalDirectory, Part, Reader, Row, Writer, Written, publish};
use kymo_engine::disk::{self, IoKind};
use kymo_engine::format::StoreId;
use kymo_engine::paths::{ArchiveLayout, ArchivePart};
use kymo_engine::slot::Run;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DAY: i64 = 20_000;
const SLOTS: u32 = 1440;
const PATHS: u32 = 11;
/// What the metrics look like; as many of each as a cluster has.
const KINDS: [&str; 16] = [
    "const0", "const1", "const2", "counter0", "counter1", "full0", "full1", "mem0", "mem1", "noisy0", "noisy1",
    "temp0", "temp1", "walk0", "walk1", "walk2",
];

/// A series of the mix.
fn values(kind: &str, random: &mut SplitMix, is_short: bool) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a number below 2^53")]
    let mut unit = || (random.draw() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut level: f64 = 20.0 + 60.0 * unit();
    let mut count = 0.0_f64;
    let fixed = (level * 4.0).round();
    let next = |_: u32| {
        let step = unit() - 0.5;
        let value = match kind.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "walk" => {
                level = (level + step).abs();
                (level * 100.0).round() / 100.0
            }
            "noisy" => ((level + 10.0 * step) * 1000.0).round() / 1000.0,
            "full" => level * (1.0 + step / 7.0),
            "counter" => {
                count += (1000.0 * (step + 0.5)).floor();
                count
            }
            "mem" => {
                level += (16.0 * step).round() / 16.0;
                (level * 1e5).round() * 4096.0
            }
            "temp" => {
                level += 0.6 * step;
                level.round()
            }
            _ => fixed,
        };
        #[expect(clippy::cast_possible_truncation, reason = "what an agent of 32 bits sends")]
        if is_short { f64::from(value as f32) } else { value }
    };
    (0..SLOTS).map(next).collect()
}

/// A day, and where it is put.
struct Day {
    place: Arc<dyn ArchiveStore>,
    hosts: Vec<Vec<Vec<Row>>>,
    rows: u64,
}

impl Day {
    fn make(is_short: bool) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("archive");
        let (disk, _) = disk::open(IoKind::Posix).expect("there is a disk");
        let mut random = SplitMix(7);
        let run = Run { start: DAY * 86_400, frequency: 60 };
        let mut series = |kind: &str| -> Vec<Row> {
            let values = values(kind, &mut random, is_short);
            (0..).zip(values).map(|(slot, value)| Row { timestamp: run.end_after(slot), run, value }).collect()
        };
        let hosts: Vec<Vec<Vec<Row>>> = (0..scale(16, 1))
            .map(|_| KINDS.iter().flat_map(|kind| (0..PATHS).map(move |_| kind)).map(|kind| series(kind)).collect())
            .collect();
        let rows = hosts.iter().flatten().map(|series| series.len() as u64).sum();
        Self { place: Arc::new(LocalDirectory::new(disk, directory)), hosts, rows }
    }

    fn part() -> Part {
        let names = ArchivePart { layout: ArchiveLayout::Hive, cluster: "alpha".to_owned(), partition: DAY, part: 0 };
        Part { store: StoreId([7; 16]), names }
    }

    fn each(&self, mut take: impl FnMut(&str, &str, &str, &[Row])) {
        for (host, series) in self.hosts.iter().enumerate() {
            let host = format!("n{host:04}");
            for (at, rows) in series.iter().enumerate() {
                let (kind, path) = (at / PATHS as usize, at % PATHS as usize);
                take(
                    &host,
                    KINDS[kind],
                    &format!("hwthread{}", (b'a' + u8::try_from(path).unwrap_or(0)) as char),
                    rows,
                );
            }
        }
    }

    fn write(&self) -> Written {
        let mut writer = Writer::new(Arc::clone(&self.place), Self::part()).expect("a part is begun");
        self.each(|host, metric, path, rows| {
            writer.series((host, metric), (path, ""), rows).expect("rows are written");
        });
        writer.finish().expect("a part is written")
    }

    fn check(&self, written: &Written) {
        let mut checker = Checker::new(Arc::clone(&self.place), Self::part(), written.clone());
        self.each(|host, metric, path, rows| {
            checker.series((host, metric), (path, ""), rows).expect("rows are compared");
        });
        checker.finish().expect("a part is what was written");
    }

    fn compress_values(&self) -> usize {
        let mut len = 0;
        for series in self.hosts.iter().flatten() {
            let plain: Vec<u8> = series.iter().flat_map(|row| row.value.to_le_bytes()).collect();
            len += zstd::bulk::compress(&plain, 3).expect("it compresses").len();
        }
        len
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("archive");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(10));
    let count = u64::from(scale(16, 1)) * 16 * u64::from(PATHS * SLOTS);
    for (name, is_short) in [("f32", true), ("f64", false)] {
        let figure = Figure::Rate { unit: "sample", count };
        compare(
            &mut group,
            &format!("write {name}"),
            figure,
            &["zstd of the values"],
            || Day::make(is_short),
            |day, iterations, times| {
                let (mut total, mut bytes) = (Duration::ZERO, 0);
                for _ in 0..iterations {
                    let ours = cpu_time(|| bytes = day.write().sidecar.files.iter().map(|file| file.len).sum());
                    let plain = cpu_time(|| {
                        black_box(day.compress_values());
                    });
                    times.add(0, ours);
                    times.add(1, plain);
                    total += ours;
                }
                if !is_test() {
                    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
                    let each = bytes as f64 / day.rows as f64;
                    println!("  {name}: {each:.3} bytes a sample, {bytes} bytes");
                }
                total
            },
        );
    }
    let figure = Figure::Rate { unit: "sample", count };
    let written = || {
        let day = Day::make(false);
        let written = day.write();
        (day, written)
    };
    compare(&mut group, "read back and compare", figure, &["write"], written, |(day, written), iterations, times| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            let ours = cpu_time(|| day.check(written));
            times.add(0, ours);
            times.add(1, cpu_time(|| drop(black_box(day.write()))));
            total += ours;
        }
        total
    });
    let published = || {
        let day = Day::make(false);
        let written = day.write();
        let known = publish(&*day.place, &Day::part(), &written.sidecar).expect("a part is published");
        let page: Vec<u8> =
            day.hosts[0].iter().flatten().take(20_480).flat_map(|row| row.value.to_le_bytes()).collect();
        let page = zstd::bulk::compress(&page, 3).expect("it compresses");
        (Reader::new(Arc::clone(&day.place)), known, page)
    };
    let id = "point query: one metric of a host, 11 series of a day";
    compare(
        &mut group,
        id,
        Figure::Latency,
        &["zstd of one page"],
        published,
        |(reader, known, page), iterations, times| {
            let mut total = Duration::ZERO;
            for at in 0..iterations {
                let host = format!("n{:04}", at % u64::from(scale(16, 1)));
                let ours = time(|| {
                    let rows = reader.rows(&Day::part().names, *known, &host, "noisy1").expect("the rows are there");
                    assert_eq!(black_box(rows).len(), PATHS as usize);
                });
                let plain = time(|| drop(black_box(zstd::bulk::decompress(page, 1 << 20))));
                times.add(0, ours);
                times.add(1, plain);
                total += ours;
            }
            total
        },
    );
    group.finish();
}
