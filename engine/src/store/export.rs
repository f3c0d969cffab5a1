//! Giving out what a store holds: the values of one host and one day at a time, all layers put together.
//!
//! Everything is moved into snapshots first, so a day is in the files of two partitions. What has left the hot tier comes
//! out of the archive.

use super::cold::{archived_parts, put_all_under};
use super::gather::{Captured, Gathered, metrics_of};
use super::layers::{Layers, PARTITION};
use super::{JobError, Store};
use crate::archive::{ArchiveError, Reader, Row, join_path};
use crate::format::StoreId;
use crate::format::manifest::Free;
use crate::slot::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// An export that is under way: what the store had when it began.
#[derive(Debug)]
pub struct Export<'s> {
    store: StoreId,
    layers: Arc<Layers>,
    archive: Option<&'s Reader>,
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
    pub fn begin_export(&self) -> Result<Export<'_>, JobError> {
        self.settle()?;
        Ok(Export { store: self.manifest.lock().store, layers: self.layers(), archive: self.cold.as_ref() })
    }
}

impl Export<'_> {
    /// The store that it is of.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// Cluster and name of the hosts, in order. An archived part whose manifest cannot be read, or that is nobody knows where,
    /// is an error.
    pub fn hosts(&self) -> Result<BTreeSet<(String, String)>, ArchiveError> {
        let hosts = self.layers.snapshots.iter().flat_map(|loaded| loaded.file.hosts());
        let mut hosts: BTreeSet<_> = hosts.map(|(cluster, host, _)| (cluster.to_owned(), host.to_owned())).collect();
        for (reader, part) in archived_parts(self.archive, &self.layers, |_| true)? {
            let of_part = reader.hosts(&part.names, part.sidecar)?;
            hosts.extend(of_part.into_iter().map(|host| (part.names.cluster.clone(), host)));
        }
        Ok(hosts)
    }

    /// The UTC days, counted from 1970-01-01, that may have values.
    pub fn days(&self) -> BTreeSet<i64> {
        let hot = self.layers.snapshots.iter().map(|loaded| loaded.live.partition);
        let partitions = hot.chain(self.layers.archived.iter().map(|part| part.names.partition));
        // The middle of the last slot of a day may lie in the next one.
        partitions.flat_map(|day| [day, day.saturating_add(1)]).collect()
    }

    /// The values of a host whose instants lie in a day: by metric, component and its part, then by time. What stands
    /// on one grid is one array, with holes where it has gaps.
    pub fn day(&self, cluster: &str, host: &str, day: i64) -> Result<Vec<ExportArray>, JobError> {
        let times = times_of(day);
        let mut arrays = Vec::new();
        self.each_metric((cluster, host), &times, day - 1..=day, |metric, gathered| {
            for series in gathered {
                add_arrays(metric, series, &times, &mut arrays);
            }
            Ok(())
        })?;
        Ok(arrays)
    }

    /// The rows of a host whose slots begin in a day, as the archive has them and in its order: metric, component and its
    /// part, and the rows of each.
    pub fn rows(
        &self,
        cluster: &str,
        host: &str,
        day: i64,
        mut take: impl FnMut(&str, (&str, &str), &[Row]) -> Result<(), ArchiveError>,
    ) -> Result<(), JobError> {
        let times = times_of(day);
        self.each_metric((cluster, host), &times, day..=day, |metric, gathered| {
            gathered.sort_by_cached_key(|series| join_path(&series.component, &series.subcomponent));
            for series in gathered {
                let ((component, subcomponent), runs) = series.slots();
                let of_run = |(run, values): (Run, Vec<f64>)| {
                    let row = move |(slot, value)| Row { timestamp: run.end_after(slot), run, value };
                    (0..).zip(values).map(row)
                };
                let is_wanted = |row: &Row| !row.value.is_nan() && times.contains(&row.timestamp);
                let mut rows: Vec<Row> = runs.into_iter().flat_map(of_run).filter(is_wanted).collect();
                rows.sort_by_key(|row| (row.timestamp, row.run));
                take(metric, (&component, &subcomponent), &rows)?;
            }
            Ok(())
        })
    }

    /// Everything of a host that partitions have at some times, one metric after the other, all layers put together.
    fn each_metric(
        &self,
        (cluster, host): (&str, &str),
        times: &Range<i64>,
        partitions: RangeInclusive<i64>,
        mut each: impl FnMut(&str, &mut Vec<Gathered<'_>>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let is_near = |partition: i64| partitions.contains(&partition);
        let snapshots = self.layers.snapshots.iter().filter(|loaded| is_near(loaded.live.partition));
        let near = Layers { snapshots: snapshots.cloned().collect(), ..Layers::default() };
        let parts = archived_parts(self.archive, &self.layers, |part| {
            part.names.cluster == cluster && is_near(part.names.partition)
        })?;
        let mut metrics = BTreeSet::new();
        for loaded in &near.snapshots {
            let names = metrics_of(&loaded.file, cluster, host);
            metrics.extend(names.map_err(|source| JobError::Read { path: loaded.path.clone(), source })?);
        }
        for (reader, part) in &parts {
            metrics.extend(reader.metrics(&part.names, part.sidecar, host)?);
        }
        // Which runs a free took is told by all their slots.
        let concerns = |free: &Free| free.to > times.start - PARTITION;
        let is_freed = self.layers.frees_of(cluster, host).iter().any(concerns);
        let layers = if is_freed { Arc::clone(&self.layers) } else { Arc::new(near) };
        for metric in metrics {
            let captured = Captured::of_layers((cluster, host), &metric, &layers);
            let gathered = captured.gather(times);
            let mut gathered =
                gathered.map_err(|error| JobError::Read { path: error.path.into(), source: error.source })?;
            put_all_under(&mut gathered, &parts, host, &metric)?;
            each(&metric, &mut gathered)?;
            if let Some(path) = captured.poisoned() {
                let source = io::Error::other("a page cannot be read");
                return Err(JobError::Io { op: "read", path: path.to_owned(), source });
            }
        }
        Ok(())
    }
}

fn times_of(day: i64) -> Range<i64> {
    day.saturating_mul(PARTITION)..day.saturating_add(1).saturating_mul(PARTITION)
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
