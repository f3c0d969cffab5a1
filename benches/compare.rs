//! A figure and its yardsticks, measured in turns.
//!
//! Criterion warms up, decides how often to repeat, and compares with the run before. Here the yardsticks are measured
//! within each of its samples, and what it cannot know is printed: both figures and their ratio.
#![expect(clippy::print_stdout, reason = "a bench speaks to stdout")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use crate::env;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use std::time::Duration;

/// What is told of the times.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    /// The median time of one of these units, of which an iteration has `count`.
    Rate { unit: &'static str, count: u64 },
    /// The percentiles of single operations.
    Latency,
}

/// Times by what was timed: 0 is kymo, the yardsticks follow.
#[derive(Debug, Default)]
pub(crate) struct Times {
    of: Vec<Vec<Duration>>,
}

impl Times {
    /// Adds the time of an iteration, or of an operation where latencies are told.
    pub(crate) fn add(&mut self, which: usize, time: Duration) {
        if self.of.len() <= which {
            self.of.resize_with(which + 1, Vec::new);
        }
        self.of[which].push(time);
    }

    /// Adds the mean time of an iteration.
    pub(crate) fn add_mean(&mut self, which: usize, total: Duration, iterations: u64) {
        self.add(which, total / u32::try_from(iterations).unwrap_or(u32::MAX));
    }
}

/// Measures `id` next to its yardsticks and prints all of it. `setup` runs if the bench is wanted at all, once;
/// `measure` does a number of iterations of everything and returns the time of kymo's.
pub(crate) fn compare<S>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: &str,
    figure: Figure,
    yardsticks: &[&str],
    setup: impl FnOnce() -> S,
    mut measure: impl FnMut(&mut S, u64, &mut Times) -> Duration,
) {
    group.throughput(Throughput::Elements(match figure {
        Figure::Rate { count, .. } => count,
        Figure::Latency => 1,
    }));
    let mut setup = Some(setup);
    let mut state = None;
    let mut times = Times::default();
    group.bench_function(id, |bencher| {
        if let Some(setup) = setup.take() {
            state = Some(setup());
        }
        let state = state.as_mut().expect("it is set up above");
        bencher.iter_custom(|iterations| measure(state, iterations, &mut times));
    });
    if !env::is_test() && !times.of.is_empty() {
        report(id, figure, yardsticks, &times);
    }
}

fn report(id: &str, figure: Figure, yardsticks: &[&str], times: &Times) {
    println!("  {id}");
    for (name, which) in ["kymo"].iter().chain(yardsticks).zip(0..times.of.len()) {
        let told = match figure {
            Figure::Rate { unit, count } => {
                let each = nanos(&times.of[which], 0.5) / count as f64;
                format!("{each:.2} ns/{unit}, {:.2} M {unit}s/s", 1e3 / each)
            }
            Figure::Latency => {
                let micros = |part| nanos(&times.of[which], part) / 1e3;
                format!("p50 {:.1} us, p99 {:.1} us, {} times", micros(0.5), micros(0.99), times.of[which].len())
            }
        };
        let ratio = match figure {
            _ if which == 0 => String::new(),
            Figure::Rate { .. } => format!("kymo is at {:.2} of it", median_ratio(&times.of[0], &times.of[which])),
            Figure::Latency => {
                let ratio = |part| nanos(&times.of[0], part) / nanos(&times.of[which], part);
                format!("kymo is at {:.2} of it, p99 {:.2}", ratio(0.5), ratio(0.99))
            }
        };
        println!("{}", format!("    {name:<22} {told:<44} {ratio}").trim_end());
    }
}

/// Samples that were taken together see the same machine.
fn median_ratio(ours: &[Duration], theirs: &[Duration]) -> f64 {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a.div_duration_f64(*b)).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The nanoseconds below which this part of the times lies.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
fn nanos(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at).or(sorted.last()).map_or(f64::NAN, |time| time.as_nanos() as f64)
}
