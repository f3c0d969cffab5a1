//! The values of an answer as JSON, against the formatting of the bare numbers.

use crate::compare::{Figure, compare};
use crate::env::{cpu_time, scale};
use crate::workload::SplitMix;
use criterion::{Criterion, SamplingMode};
use kymo::http::write_numbers;
use std::hint::black_box;
use std::time::Duration;

/// What readings look like, without and with all the digits of an `f64`. One of fifty is missing.
const SHAPES: [Shape; 3] = [
    Shape { id: "two decimals", value: |draw| hundredths(draw) / 100.0 },
    Shape {
        id: "exact as f32",
        value: |draw| f64::from(f32::from_bits(0x4000_0000 | u32::try_from(draw >> 41).unwrap_or(0))),
    },
    Shape { id: "all digits", value: |draw| hundredths(draw) / 3.0 },
];

struct Shape {
    id: &'static str,
    /// The reading of a random number.
    value: fn(u64) -> f64,
}

fn hundredths(draw: u64) -> f64 {
    f64::from(u32::try_from((draw >> 32) % 1_000_000).unwrap_or(0))
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json");
    group.sampling_mode(SamplingMode::Flat).sample_size(30);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for Shape { id, value } in SHAPES {
        let count = scale(100_000, 1000);
        let setup = || {
            let mut random = SplitMix(1);
            let draws = (0..count).map(|_| random.draw());
            let values = draws.map(|draw| if draw.is_multiple_of(50) { f64::NAN } else { value(draw) });
            (values.collect::<Vec<f64>>(), Vec::new())
        };
        let figure = Figure::Rate { unit: "value", count: count.into() };
        compare(&mut group, id, figure, &["format the numbers"], setup, |(values, out), iterations, times| {
            let writing = cpu_time(|| {
                for _ in 0..iterations {
                    for values in black_box(&*values).chunks(1024) {
                        out.clear();
                        write_numbers(out, values);
                        black_box(&*out);
                    }
                }
            });
            let formatting = cpu_time(|| {
                let mut buffer = zmij::Buffer::new();
                for _ in 0..iterations {
                    for &value in black_box(&*values) {
                        black_box(if value.is_finite() { buffer.format_finite(value) } else { "null" });
                    }
                }
            });
            times.add_mean(0, writing, iterations);
            times.add_mean(1, formatting, iterations);
            writing
        });
    }
    group.finish();
}
