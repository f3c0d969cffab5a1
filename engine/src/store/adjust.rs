//! New settings for an open store.
//!
//! What files, log and runs were opened with stays until the store is opened again: the directory, durability, the sizes
//! of log and segments, what may wait for the device, the late window. Metrics are added and nothing else: a row that was decoded before
//! must mean the same after, so ids, frequencies and names of those that are kept do not change.

use super::{Limits, Options, Store};
use crate::model::{Metric, MetricError, MetricId};
use std::sync::Arc;

/// Settings that were checked and can be put in force.
#[derive(Debug)]
pub struct Adjustment {
    options: Options,
    /// Metrics that stay as they are until the store is opened again: they are gone or differ in what was wanted.
    pub kept_metrics: Vec<Box<str>>,
}

impl Store {
    /// Checks what of `wanted` an open store can take; nothing changes yet.
    pub fn check_adjustment(&self, wanted: &Options) -> Result<Adjustment, MetricError> {
        let running = self.options();
        let find = |metric: &Metric| wanted.metrics.find(metric.name.as_bytes()).map(|id| wanted.metrics.get(id));
        let kept = running.metrics.iter().map(|(_, metric)| metric).filter(|metric| find(metric) != Some(*metric));
        let kept_metrics = kept.map(|metric| metric.name.clone()).collect();
        let is_new = |metric: &&Metric| running.metrics.find(metric.name.as_bytes()).is_none();
        let added = wanted.metrics.iter().map(|(_, metric)| metric).filter(is_new);
        // The number that the name has in layouts: old data may have had it before it was configured.
        let added = added.map(|metric| (MetricId(self.layouts.metric(&metric.name).0), metric.clone()));
        let options = Options {
            metrics: running.metrics.with(added)?,
            skew: wanted.skew,
            retention: wanted.retention,
            memory_cap: wanted.memory_cap,
            limits: Limits { pending_bytes: running.limits.pending_bytes, ..wanted.limits.clone() },
            ..Options::clone(&running)
        };
        Ok(Adjustment { options, kept_metrics })
    }

    /// Puts settings in force: a write or query that has begun ends with the ones before. Between check and this no
    /// other adjustment may come.
    pub fn adjust(&self, adjustment: Adjustment) {
        *self.options.write() = Arc::new(adjustment.options);
    }
}
