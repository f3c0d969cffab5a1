//! What a store will need, reckoned from the structures that it keeps.

use crate::format::frame::ROW_HEADER_LEN;
use crate::format::frame::write::host_len;
use crate::format::snapshot::STRIPE_ALIGN;
use crate::format::snapshot::stripe::ENTRY_LEN;
use crate::head::{HeadRow, RunTable};
use crate::names::Key;
use crate::slot::RUN_SLOTS;
use crate::store::{HOST_BYTES, Options, rows_cap};
use crate::wal::{ROW_VALUES_MAX, SEGMENT_LEN, SEGMENT_LEN_MIN};

const DAY: u64 = 86_400;
/// Bytes of the names of a series in the log: three lengths, a metric, a component.
const KEY_BYTES: u64 = 24;
/// Series share metrics: a host has at most this many different ones.
const METRICS: u64 = 32;

/// Buckets of a hash table, which is filled to seven eighths.
const fn buckets(len: u64) -> u64 {
    (len * 8).div_ceil(7).next_power_of_two()
}

/// What is to be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Hosts, all alike.
    pub hosts: u64,
    /// Series of each.
    pub series: u64,
    /// Seconds between two samples of a series, at least 1.
    pub interval: u64,
    /// Seconds that samples are kept.
    pub retention: u64,
    /// Which part of the values is the same as `f32`, from 0 to 1.
    pub f32_share: f64,
    /// Bytes that the log may have, as in [`Options::log_bound`].
    pub log_bound: u64,
    /// Seconds into the past that a sample may lie, as in [`Options::late_window`].
    pub late_window: u64,
}

impl Shape {
    /// With the usual options.
    pub fn new(hosts: u64, series: u64, interval: u64, retention: u64) -> Self {
        let Options { log_bound, late_window, .. } = Options::new("", crate::model::Metrics::default());
        let late_window = u64::try_from(late_window).unwrap_or(0);
        Self { hosts, series, interval: interval.max(1), retention, f32_share: 0.0, log_bound, late_window }
    }
}

/// What that needs. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Samples that arrive a second.
    pub samples_per_second: f64,
    /// Hosts, names of series and run tables on the heap, after weeks of running.
    pub names: u64,
    /// Rows on the heap when the log has reached its bound.
    pub rows: u64,
    /// Both.
    pub heap: u64,
    /// The most that rows and names may reach, where snapshots do not keep up.
    pub heap_most: u64,
    /// Snapshots of one day: what the page cache holds if a day is read.
    pub day: u64,
    /// Snapshots of the retention and of the day that is not yet to be dropped.
    pub snapshots: u64,
    /// What is needed for a while when a day is merged.
    pub merge: u64,
    /// Files of the log.
    pub log: u64,
    /// Bytes that go into the log a second, if each host sends by itself and at once.
    pub log_per_second: f64,
    /// Seconds from one snapshot to the next.
    pub snapshot_every: f64,
}

/// Reckons.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "estimates")]
pub fn estimate(shape: &Shape) -> Estimate {
    let Shape { hosts, series, interval, retention, f32_share, log_bound, late_window } = *shape;
    let interval = interval.max(1);
    let rows_per_set = series.div_ceil(ROW_VALUES_MAX as u64);
    let set = rows_per_set * ROW_HEADER_LEN as u64 + series * 8;
    let definitions = hosts * host_len("cluster", "host0001") as u64 + series * KEY_BYTES;
    let bound = log_bound.max(4 * definitions);

    // A table is compacted when it has twice the runs that it had, and some: on average it is half way there.
    let runs = late_window / (u64::from(RUN_SLOTS) * interval) + 2;
    let nodes = u64::midpoint(runs, 2 * runs + 64);
    let run_table = series.next_power_of_two().max(4) * size_of::<u32>() as u64
        + nodes.next_power_of_two() * RunTable::NODE_BYTES as u64
        + buckets(nodes) * RunTable::MOVE_BYTES as u64;
    let sets = bound / (set * hosts).max(1);
    let links = (sets * rows_per_set).max(4).next_power_of_two() * size_of::<HeadRow>() as u64;
    let layout = series.next_power_of_two() * size_of::<Key>() as u64 + buckets(series) * 5;
    let names = hosts * (HOST_BYTES + run_table + links) + layout;

    let per_day = (hosts * series) as f64 * DAY as f64 / interval as f64;
    let pieces = DAY.div_ceil(u64::from(RUN_SLOTS) * interval) + 1;
    let directories = hosts * METRICS.min(series) * pieces * (ENTRY_LEN + STRIPE_ALIGN / 2);
    let tags = hosts * series * pieces;
    let day = (per_day * (8.0 - 4.0 * f32_share)) as u64 + directories + tags;
    let segment_len = (bound / 4).clamp(SEGMENT_LEN_MIN, SEGMENT_LEN);
    let framed = (set + crate::format::frame::FRAME_HEADER_LEN as u64).next_multiple_of(crate::disk::BLOCK as u64);
    Estimate {
        samples_per_second: (hosts * series) as f64 / interval as f64,
        names,
        rows: bound,
        heap: names + bound,
        heap_most: names + rows_cap(bound),
        day,
        snapshots: (day as f64 * (retention as f64 / DAY as f64 + 1.0)) as u64,
        merge: day,
        log: bound + 2 * segment_len,
        log_per_second: (hosts * framed) as f64 / interval as f64,
        snapshot_every: bound as f64 * interval as f64 / ((hosts * framed).max(1)) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_a_thousand_nodes_is_eight_bytes_a_sample_and_a_little() {
        let shape = Shape::new(1000, 200, 60, 2 * DAY);
        let whole = estimate(&shape);
        let values = 1000 * 200 * 1440 * 8;
        assert!((values..values * 21 / 20).contains(&whole.day), "{whole:?}");
        assert!(whole.snapshots >= 3 * values && whole.snapshots < 3 * values * 21 / 20);
        let half = estimate(&Shape { f32_share: 1.0, ..shape });
        assert!(half.day < whole.day * 11 / 20);
        assert_eq!(half.heap, whole.heap, "rows in memory are f64");
    }

    #[test]
    fn the_heap_depends_on_the_log_bound_and_not_on_the_retention() {
        let shape = Shape::new(500, 100, 60, DAY);
        let (a, b) = (estimate(&shape), estimate(&Shape { retention: 100 * DAY, ..shape }));
        assert_eq!(a.heap, b.heap);
        let c = estimate(&Shape { log_bound: 2 * shape.log_bound, ..shape });
        assert!(c.heap > a.heap + shape.log_bound / 2);
    }

    #[test]
    fn the_heap_has_at_most_what_the_store_lets_rows_take() {
        let shape = Shape::new(1000, 200, 60, DAY);
        let whole = estimate(&shape);
        assert_eq!(whole.heap_most, whole.names + 4 * shape.log_bound + (64 << 20));
    }

    #[test]
    fn names_take_less_than_a_hundred_bytes_a_series_where_hosts_are_alike() {
        let estimate = estimate(&Shape::new(5000, 1000, 60, DAY));
        assert!(estimate.names < 100 * 5_000_000, "{estimate:?}");
    }
}
