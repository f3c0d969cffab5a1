//! Giving out what a store holds: the values of one host and one day at a time, all layers put together.
//!
//! Everything is moved into snapshots first, so a day is in the files of two partitions. What was archived and has left
//! the hot tier is not given out: its Parquet files are.

use super::gather::{Captured, Gathered, metrics_of};
use super::layers::{Layers, PARTITION};
use super::{JobError, Store};
use crate::format::manifest::Free;
use crate::slot::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// An export that is under way: what the store had when it began.
#[derive(Debug)]
pub struct Export {
    layers: Arc<Layers>,
}

/// Values of one series on one grid.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportArray {
    /// The metric.
    pub metric: String,
    /// The component, empty for the host itself.
    pub component: String,
    /// The part of the component, empty for the component itself.
    pub subcomponent: String,
    /// The instant that the first value stands for, the middle of its slot, in unix seconds.
    pub start: i64,
    /// Seconds between two values.
    pub frequency: u32,
    /// The values, the first and the last one present; NaN is missing.
    pub values: Vec<f64>,
}

impl ExportArray {
    /// The values that are present, each with the instant that it stands for in unix seconds.
    pub fn samples(&self) -> impl Iterator<Item = (i64, f64)> {
        let times = (self.start..).step_by(self.frequency.max(1) as usize);
        times.zip(self.values.iter().copied()).filter(|(_, value)| !value.is_nan())
    }
}

impl Store {
    /// Begins an export. The store takes no more writes, moves all rows into snapshots, and is to be closed when the
    /// export has ended, whichever way.
    pub fn begin_export(&self) -> Result<Export, JobError> {
        self.settle()?;
        Ok(Export { layers: self.layers() })
    }
}

impl Export {
    /// Cluster and name of the hosts, in order.
    pub fn hosts(&self) -> BTreeSet<(String, String)> {
        let hosts = self.layers.snapshots.iter().flat_map(|loaded| loaded.file.hosts());
        hosts.map(|(cluster, host, _)| (cluster.to_owned(), host.to_owned())).collect()
    }

    /// The UTC days, counted from 1970-01-01, that may have values.
    pub fn days(&self) -> BTreeSet<i64> {
        let partitions = self.layers.snapshots.iter().map(|loaded| loaded.live.partition);
        // The middle of the last slot of a day may lie in the next one.
        partitions.flat_map(|day| [day, day.saturating_add(1)]).collect()
    }

    /// The values of a host whose instants lie in a day: by metric, component and its part, then by time. What stands
    /// on one grid is one array, with holes where it has gaps.
    pub fn day(&self, cluster: &str, host: &str, day: i64) -> Result<Vec<ExportArray>, JobError> {
        let times = day.saturating_mul(PARTITION)..day.saturating_add(1).saturating_mul(PARTITION);
        let is_near = |partition: i64| (day - 1..=day).contains(&partition);
        let snapshots = self.layers.snapshots.iter().filter(|loaded| is_near(loaded.live.partition));
        let near = Layers { snapshots: snapshots.cloned().collect(), ..Layers::default() };
        let mut metrics = BTreeSet::new();
        for loaded in &near.snapshots {
            let names = metrics_of(&loaded.file, cluster, host);
            metrics.extend(names.map_err(|source| JobError::Read { path: loaded.path.clone(), source })?);
        }
        // Which runs a free took is told by all their slots.
        let concerns = |free: &Free| free.to > times.start - PARTITION;
        let is_freed = self.layers.frees_of(cluster, host).iter().any(concerns);
        let layers = if is_freed { Arc::clone(&self.layers) } else { Arc::new(near) };
        let mut arrays = Vec::new();
        for metric in metrics {
            let captured = Captured::of_layers((cluster, host), &metric, &layers);
            let gathered = captured.gather(&times);
            let gathered =
                gathered.map_err(|error| JobError::Read { path: error.path.into(), source: error.source })?;
            for series in &gathered {
                add_arrays(&metric, series, &times, &mut arrays);
            }
            if let Some(path) = captured.poisoned() {
                let source = io::Error::other("a page cannot be read");
                return Err(JobError::Io { op: "read", path: path.to_owned(), source });
            }
        }
        Ok(arrays)
    }
}

/// Adds what a series has at some times.
fn add_arrays(metric: &str, series: &Gathered<'_>, times: &Range<i64>, arrays: &mut Vec<ExportArray>) {
    let ((component, subcomponent), runs) = series.slots();
    // By interval and phase.
    let mut grids: BTreeMap<(u32, i64), BTreeMap<i64, f64>> = BTreeMap::new();
    for (run, values) in runs {
        for (slot, value) in (0..).zip(values) {
            let time = run.nominal(slot);
            if times.contains(&time) && !value.is_nan() {
                let Run { start, frequency } = run;
                let grid = (frequency, start.rem_euclid(i64::from(frequency.max(1))));
                grids.entry(grid).or_default().insert(time, value);
            }
        }
    }
    let first = arrays.len();
    for ((frequency, _), samples) in grids {
        let (Some((&start, _)), Some((&last, _))) = (samples.first_key_value(), samples.last_key_value()) else {
            continue;
        };
        let instants = (start..=last).step_by(frequency.max(1) as usize);
        let values = instants.map(|time| samples.get(&time).copied().unwrap_or(f64::NAN)).collect();
        let (component, subcomponent) = (component.clone(), subcomponent.clone());
        arrays.push(ExportArray { metric: metric.to_owned(), component, subcomponent, start, frequency, values });
    }
    if let Some(added) = arrays.get_mut(first..) {
        added.sort_by_key(|array| array.start);
    }
}
