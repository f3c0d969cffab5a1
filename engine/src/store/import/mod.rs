//! Bringing in what another store has kept: values of any age, written straight into snapshots.
//!
//! Nothing of it goes through the log or the head: rows of senders are placed by the runs that snapshots hold, and old
//! values in between would draw them to a grid that is not theirs. An import takes one LSN, above all that the store
//! has. It only adds: where a slot has a value, that value stays. All its files come to life with one change of the
//! manifest, so an import that was cut off has not happened, and the next open removes what it left.
//!
//! Hosts come in their order, one at a time. Memory is bounded by one metric of one host over some days, and a
//! buffer for each of those days; where there are more days, those hosts are gone through again that have something of
//! them.

#[cfg(test)]
mod tests;
mod timeline;

use super::cold::{archived_parts, put_all_under};
use super::gather::ALWAYS;
use super::layers::{Loaded, PARTITION};
use super::{JobError, Store};
use crate::ccms::Values;
use crate::format::manifest::Free;
use crate::model::Lsn;
use crate::names::MetricName;
use crate::slot::{RUN_SLOTS, Run};
use crate::snapshot::{Identity, Piece, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use timeline::Timeline;

/// Days whose files are written at a time.
const WINDOW: usize = 32;
/// And where there are many days: as many as are done already, up to these. Each costs an open file and some hundred KiB.
const WINDOW_MAX: usize = 128;

/// An import that is under way. Dropped before [`Import::finish`], it has not happened.
#[derive(Debug)]
pub struct Import<'s> {
    store: &'s Store,
    lsn: Lsn,
    /// No value may be later, in unix seconds.
    latest: i64,
    writers: BTreeMap<i64, (PathBuf, Writer)>,
    /// Days that are written in this pass, at most [`WINDOW`] or, late, [`WINDOW_MAX`].
    window: BTreeSet<i64>,
    /// Days that are written.
    done: BTreeSet<i64>,
    /// Hosts, with their clusters, that have days for another pass.
    waiting: BTreeSet<(String, String)>,
    /// Hosts that have something for this pass; in the first one that is not known.
    wanted: Option<BTreeSet<(String, String)>>,
    files: Vec<Loaded>,
    imported: Imported,
}

/// What became of the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Values that were brought in.
    pub samples: u64,
    /// Values for slots that had one: of the store, or of a later file.
    pub known: u64,
    /// Values that are later than the present and the skew.
    pub future: u64,
    /// Samples of a metric whose interval nothing tells.
    pub without_interval: u64,
    /// Snapshots that were written.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// What there is of one series.
#[derive(Clone, Debug, Default)]
pub struct ImportSeries<'a> {
    /// Arrays, those that count more behind those that count less.
    pub arrays: Vec<ImportArray<'a>>,
    /// Samples with their exact unix seconds, in the order in which they were taken; they count more than arrays.
    pub samples: Vec<(i64, f64)>,
}

/// Values at even distances.
#[derive(Clone, Copy, Debug)]
pub struct ImportArray<'a> {
    /// The instant of the first one, in unix seconds: what its slot contains.
    pub start: i64,
    /// Seconds between two, at least 1.
    pub frequency: u32,
    /// The values.
    pub values: &'a Values<'a>,
}

/// What there is of a host: by metric, then by component and its part.
pub type ImportHost<'a> = BTreeMap<&'a str, BTreeMap<(&'a str, &'a str), ImportSeries<'a>>>;

/// When something is written: in an earlier pass, in this one, or in a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Over,
    Now,
    Later,
}

/// The columns of a stripe in the making: names, first slot, values.
type Column<'a> = ((&'a str, &'a str), u32, Vec<f64>);

impl Store {
    /// Begins an import. The store takes no more writes, moves all rows into snapshots, and is to be closed when the
    /// import has ended, whichever way.
    pub fn begin_import(&self) -> Result<Import<'_>, JobError> {
        self.settle()?;
        let snapshot_lsn = self.manifest.lock().snapshot_lsn;
        Ok(Import {
            store: self,
            lsn: Lsn(self.log.pulse().last.max(snapshot_lsn).0 + 1),
            latest: self.env.unix_now().saturating_add(self.options().skew),
            writers: BTreeMap::new(),
            window: BTreeSet::new(),
            done: BTreeSet::new(),
            waiting: BTreeSet::new(),
            wanted: None,
            files: Vec::new(),
            imported: Imported::default(),
        })
    }
}

impl Import<'_> {
    /// A name for what is to be kept aside until the import ends: a crash leaves it to the next open to remove.
    pub(crate) fn spool(&self) -> PathBuf {
        self.store.paths.spool()
    }

    /// Whether a host may have something for this pass. One that has not need not be read again: few of many hosts may
    /// have most of the days.
    pub fn wants_host(&self, host: &(String, String)) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(host))
    }

    /// Takes what there is of a host. Hosts come in rising order of (cluster, host), in every pass the same but for those
    /// that are not wanted.
    pub fn host(&mut self, cluster: &str, host: &str, metrics: &ImportHost<'_>) -> Result<(), JobError> {
        let is_known = self.store.has_host(cluster, host);
        let is_first_pass = self.wanted.is_none();
        let mut begun = BTreeSet::new();
        let mut is_waiting = false;
        for (metric, series) in metrics {
            let frequency = self.frequency(metric, series);
            let stored = self.store.stored((cluster, host), metric, &days_of(series, frequency), is_known)?;
            let mut stripes: BTreeMap<(i64, Run), Vec<Column<'_>>> = BTreeMap::new();
            for (&(component, subcomponent), series) in series {
                let stored = stored.get(&(component.to_owned(), subcomponent.to_owned()));
                let mut timeline = Timeline::new(stored, self.latest);
                match frequency {
                    Some(frequency) => timeline.add_samples(&series.samples, frequency),
                    None if is_first_pass => self.imported.without_interval += series.samples.len() as u64,
                    None => {}
                }
                for array in series.arrays.iter().rev() {
                    timeline.add(array);
                }
                if is_first_pass {
                    self.imported.known += timeline.known;
                    self.imported.future += timeline.future;
                }
                timeline.pieces(
                    |day| {
                        let turn = self.turn(day);
                        is_waiting |= turn == Turn::Later;
                        turn == Turn::Now
                    },
                    |day, run, first_slot, values| {
                        stripes.entry((day, run)).or_default().push(((component, subcomponent), first_slot, values));
                    },
                );
            }
            for ((day, run), columns) in stripes {
                self.stripe((cluster, host), metric, (day, run), columns, &mut begun)?;
            }
        }
        if is_waiting {
            self.waiting.insert((cluster.to_owned(), host.to_owned()));
        }
        for day in begun {
            if let Some((path, writer)) = self.writers.get_mut(&day) {
                writer.end_host().map_err(|source| JobError::Write { path: path.clone(), source })?;
            }
        }
        Ok(())
    }

    /// Ends a pass over the hosts; whether another one is needed.
    pub fn next_pass(&mut self) -> Result<bool, JobError> {
        for (_, (path, writer)) in std::mem::take(&mut self.writers) {
            let identity = writer.identity();
            let finished = writer.finish().map_err(|source| JobError::Write { path: path.clone(), source })?;
            self.imported.files += 1;
            self.imported.bytes += finished.file_len;
            self.files.push(self.store.load(identity, 0, path, &finished)?);
        }
        self.done.append(&mut self.window);
        let waiting = std::mem::take(&mut self.waiting);
        let is_over = waiting.is_empty();
        self.wanted = Some(waiting);
        Ok(!is_over)
    }

    /// Lets everything come to life at once, when the last pass has ended. Also an import of nothing is one: the store
    /// is not new any more.
    pub fn finish(mut self) -> Result<Imported, JobError> {
        let (lsn, files) = (self.lsn, std::mem::take(&mut self.files));
        self.store.change_layers(|layers, manifest| {
            layers.snapshots.extend(files);
            layers.frees.push(Free::of_import(lsn));
            manifest.snapshot_lsn = lsn;
            true
        })?;
        Ok(self.imported)
    }

    /// When the values of a day are written.
    fn turn(&mut self, day: i64) -> Turn {
        if self.done.contains(&day) {
            return Turn::Over;
        }
        if self.window.len() < self.done.len().clamp(WINDOW, WINDOW_MAX) {
            self.window.insert(day);
        }
        if self.window.contains(&day) { Turn::Now } else { Turn::Later }
    }

    /// Seconds between two samples of a metric: as configured, or as its arrays say.
    fn frequency(&self, metric: &str, series: &BTreeMap<(&str, &str), ImportSeries<'_>>) -> Option<u32> {
        let options = self.store.options();
        let metrics = &options.metrics;
        let configured = metrics.find(metric.as_bytes()).map(|metric| metrics.get(metric).frequency);
        configured
            .or_else(|| series.values().flat_map(|series| &series.arrays).map(|array| array.frequency).next_back())
    }

    fn stripe(
        &mut self,
        (cluster, host): (&str, &str),
        metric: &str,
        (day, run): (i64, Run),
        mut columns: Vec<Column<'_>>,
        begun: &mut BTreeSet<i64>,
    ) -> Result<(), JobError> {
        self.open(day)?;
        let Some((path, writer)) = self.writers.get_mut(&day) else { return Ok(()) };
        let first_slot = columns.iter().map(|&(_, first, _)| first).min().unwrap_or(0);
        let slots = columns.iter().map(|(_, first, values)| (first - first_slot) as usize + values.len()).max();
        let slots = slots.unwrap_or(0);
        for (_, first, values) in &mut columns {
            self.imported.samples += values.iter().filter(|value| !value.is_nan()).count() as u64;
            if *first > first_slot {
                values.splice(0..0, (first_slot..*first).map(|_| f64::NAN));
            }
            values.resize(slots, f64::NAN);
        }
        let columns = columns.iter().map(|(name, _, values)| (*name, &**values)).collect();
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let begin = if begun.insert(day) { writer.begin_host(cluster, host) } else { Ok(()) };
        let wrote = begin.and_then(|()| writer.stripe(Piece { metric, run, first_slot, slots, columns }));
        wrote.map_err(|source| JobError::Write { path: path.clone(), source })
    }

    /// Begins the file of a day, if that is not done yet.
    fn open(&mut self, day: i64) -> Result<(), JobError> {
        if self.writers.contains_key(&day) {
            return Ok(());
        }
        let store = self.store.manifest.lock().store;
        let identity = Identity { store, partition: day, lsn_lo: self.lsn, lsn_hi: self.lsn };
        let path = self.store.paths.snapshot(day, self.lsn, self.lsn, 0);
        let file = self.store.disk.create(&path).map_err(JobError::io("create", &path))?;
        let writer = Writer::new(file, identity).map_err(|source| JobError::Write { path: path.clone(), source })?;
        self.writers.insert(day, (path, writer));
        Ok(())
    }
}

/// The slots of the runs of some series, from slot 0 on, by component and its part.
type Stored = BTreeMap<(String, String), BTreeMap<Run, Vec<f64>>>;

impl Store {
    /// Whether anything is known of a host.
    fn has_host(&self, cluster: &str, host: &str) -> bool {
        self.hosts.find(cluster, host).is_some() || self.layers().has_host(cluster, host)
    }

    /// What the store has of a metric of a host: all of the hot tier, if the host is known there, and what was archived of
    /// some days.
    fn stored(
        &self,
        (cluster, host): (&str, &str),
        metric: &str,
        days: &RangeInclusive<i64>,
        is_known: bool,
    ) -> Result<Stored, JobError> {
        let layers = self.layers();
        let parts = archived_parts(self.cold.as_ref(), &layers, |part| {
            part.names.cluster == cluster && days.contains(&part.names.partition)
        })?;
        if !is_known && parts.is_empty() {
            return Ok(Stored::new());
        }
        let name: MetricName = self.layouts.metric(metric);
        let captured = self.capture(cluster, host, name, &ALWAYS);
        let mut gathered = captured.gather(&ALWAYS).map_err(|damage| JobError::Damaged(damage.to_string()))?;
        put_all_under(&mut gathered, &parts, host, metric)?;
        let slots = gathered.iter().map(super::gather::Gathered::slots).collect();
        match captured.poisoned() {
            Some(path) => Err(JobError::Damaged(format!("{}: a page cannot be read", path.display()))),
            None => Ok(slots),
        }
    }
}

/// The days of the samples of some series, and those beside them, into which a run may reach that has one of their
/// intervals or the one that is configured.
fn days_of(series: &BTreeMap<(&str, &str), ImportSeries<'_>>, frequency: Option<u32>) -> RangeInclusive<i64> {
    let arrays = || series.values().flat_map(|series| &series.arrays);
    let longest = arrays().map(|array| array.frequency).chain(frequency).max().unwrap_or(0);
    let reach = day_of(i64::from(longest) * i64::from(RUN_SLOTS)) + 1;
    let of_arrays = arrays().flat_map(|array| {
        let len = i64::try_from(array.values.len()).unwrap_or(i64::MAX);
        [array.start, array.start.saturating_add(len.saturating_mul(array.frequency.into()))]
    });
    let of_samples = series.values().flat_map(|series| &series.samples).map(|&(time, _)| time);
    let (first, last) =
        of_arrays.chain(of_samples).fold((i64::MAX, i64::MIN), |(first, last), time| (first.min(time), last.max(time)));
    day_of(first).saturating_sub(reach)..=day_of(last).saturating_add(reach)
}

/// The UTC day in which a slot begins.
fn day_of(begin: i64) -> i64 {
    begin.div_euclid(PARTITION)
}
