//! The words of the store as types: metrics, log sequence numbers, query requests and answers.
//!
//! Owns nothing and does nothing but hold values; every other module may use it.

mod metric;
mod request;

pub use metric::{Aggregation, Metric, MetricError, MetricId, Metrics};
pub use request::{Answer, Query, Request, ResampleAlgo, SeriesError};

/// Log sequence number: grows by one a row of the log, never reused. 0 means "before the first row".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
