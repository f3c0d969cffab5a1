//! The general parser on the bodies of hosts, against the memory it reads.

use crate::compare::{Figure, compare};
use crate::env::{cpu_time, scale};
use crate::workload::{Senders, metrics};
use criterion::{Criterion, SamplingMode};
use kymo_engine::decode::{self, Context, Limits, LineError, Point, Scratch, Sink};
use memchr::memchr_iter;
use std::hint::black_box;
use std::time::Duration;

/// Takes points and does next to nothing with them.
#[derive(Default)]
struct Count {
    points: u64,
    sum: f64,
}

impl Sink for Count {
    fn point(&mut self, point: Point<'_>) {
        self.points += 1;
        self.sum += point.value + f64::from(u8::from(point.component.is_empty()));
    }

    fn refused(&mut self, error: LineError<'_>) {
        panic!("the workload has a bad line: {error}");
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut bodies = Vec::new();
    let mut lines = 0;
    for host in 0..scale(64, 2) {
        let mut body = Vec::new();
        lines += Senders::default().body(host, 0, &mut body);
        bodies.push(body);
    }
    let mut group = criterion.benchmark_group("decode");
    group.sampling_mode(SamplingMode::Flat).sample_size(30);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    let figure = Figure::Rate { unit: "line", count: lines };
    let setup = || (metrics(), Scratch::default(), vec![0; bodies.iter().map(Vec::len).max().unwrap_or(0)]);
    compare(&mut group, "bodies of hosts", figure, &["newline count", "memcpy"], setup, |state, iterations, times| {
        let (metrics, scratch, copy) = state;
        let limits = Limits::default();
        let context = Context { default_cluster: "", limits: &limits, complete: true };
        let mut count = Count::default();
        let decoding = cpu_time(|| {
            for body in (0..iterations).flat_map(|_| &bodies) {
                decode::decode(black_box(body), metrics, &context, scratch, &mut count);
            }
        });
        assert_eq!(black_box(&count).points, lines * iterations);
        let counting = cpu_time(|| {
            for body in (0..iterations).flat_map(|_| &bodies) {
                black_box(memchr_iter(b'\n', black_box(body)).count());
            }
        });
        let copying = cpu_time(|| {
            for body in (0..iterations).flat_map(|_| &bodies) {
                copy[..body.len()].copy_from_slice(black_box(body));
                black_box(&copy);
            }
        });
        for (which, total) in [decoding, counting, copying].into_iter().enumerate() {
            times.add_mean(which, total, iterations);
        }
        decoding
    });
    group.finish();
}
