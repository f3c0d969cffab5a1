//! How long answers took.

use std::fmt;
use std::time::Duration;

/// Latencies of one kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn note(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let millis = |per_mille: usize| {
            let at = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
            sorted.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
        };
        let [p50, p99, most] = [500, 990, 1000].map(millis);
        write!(f, "{} in ms p50 {p50:.1} p99 {p99:.1} max {most:.1}", sorted.len())
    }
}
