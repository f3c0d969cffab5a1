//! Archiving: a partition that is older than the hot tier becomes files of the archive.
//!
//! The order is what makes a crash harmless: files are written aside, read back and compared with the snapshots, and
//! published under names that are a function of the partition; then the manifest of the store records them, and readers
//! move over with it; only then may the retention drop the snapshots. Whatever was interrupted is done again, and
//! replaces what it left. What is written is what queries see: frees are applied, the newest value of a slot has won.

use super::Store;
use super::compact::{JobError, partition_end};
use super::gather::{Captured, Gathered, Unreadable, metrics_of};
use super::layers::{Layers, Loaded, PARTITION};
use crate::archive::{Checker, Part, Row, Writer, Written, join_path, publish};
use crate::format::manifest::{Archived, Free};
use crate::model::Lsn;
use crate::paths::ArchivePart;
use crate::slot::Run;
use crate::store::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The partition that is being archived.
#[derive(Debug, Default)]
pub(super) struct Archiving {
    job: Option<Box<Job>>,
}

#[derive(Debug)]
struct Job {
    partition: i64,
    number: u32,
    /// Snapshots above `after` and up to `up_to` are taken.
    after: Lsn,
    up_to: Lsn,
    /// The snapshots of the partition alone.
    partition_layers: Arc<Layers>,
    /// All of them, for the hosts that a free may concern.
    layers: Arc<Layers>,
    /// Cluster and name, in order.
    hosts: Vec<(String, String)>,
    next: usize,
    /// Where the hosts of the cluster at hand begin.
    first: usize,
    phase: Phase,
    done: Vec<(Part, Written)>,
}

#[derive(Debug)]
enum Phase {
    Write(Option<Box<Writer>>),
    Check(Box<Checker>),
}

/// How far the archive is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveProgress {
    /// Partitions that are old enough and not archived yet.
    pub partitions: usize,
    /// Hosts of the partition that is being written or compared: done, and all.
    pub hosts: (usize, usize),
}

impl Store {
    /// Archives what is older than the retention, if the archive is fed: at most one host a call.
    pub fn archive_step(&self) -> Result<Progress, JobError> {
        self.retention_limit().map_or(Ok(Progress::Idle), |limit| self.archive_step_before(limit))
    }

    /// Archives the partitions that end at or before a limit (unix seconds) and have left the late window: at most one
    /// host a call. A job that fails leaves nothing that counts, and is done again.
    pub fn archive_step_before(&self, limit: i64) -> Result<Progress, JobError> {
        let options = self.options();
        let Some(archive) = options.archive.as_ref().filter(|archive| archive.is_fed) else {
            return Ok(Progress::Idle);
        };
        let mut archiving = self.archiving.lock();
        let step = match archiving.job.take() {
            None => self.begin_archive(limit),
            Some(job) => self.archive_host(job),
        };
        let (progress, job) = step.map_err(|error| {
            self.counters.job_failures.fetch_add(1, Ordering::Relaxed);
            match error {
                JobError::Archive(error) => error.at(&*archive.place).into(),
                other => other,
            }
        })?;
        archiving.job = job;
        Ok(progress)
    }

    /// How far the archive is behind a limit.
    pub fn archive_progress(&self, limit: i64) -> ArchiveProgress {
        let layers = self.layers();
        let partitions: BTreeSet<i64> = self.waiting(&layers, limit).map(|loaded| loaded.live.partition).collect();
        let hosts = self.archiving.lock().job.as_ref().map_or((0, 0), |job| (job.next, job.hosts.len()));
        ArchiveProgress { partitions: partitions.len(), hosts }
    }

    /// Days and rows of what is archived, for the simulator.
    #[cfg(feature = "sim")]
    pub(crate) fn archived_rows(&self) -> Vec<(i64, u64)> {
        self.layers().archived.iter().map(|part| (part.names.partition, part.rows)).collect()
    }

    /// What ends at or before this instant may be archived.
    fn archive_limit(&self, limit: i64) -> i64 {
        limit.min(self.present().saturating_sub(self.options().late_window))
    }

    /// The snapshots that are to be archived.
    fn waiting<'a>(&self, layers: &'a Layers, limit: i64) -> impl Iterator<Item = &'a Loaded> {
        let limit = self.archive_limit(limit);
        let old = layers.snapshots.iter().take_while(move |loaded| partition_end(loaded.live.partition) <= limit);
        old.filter(|loaded| loaded.live.lsn_hi > layers.archived_up_to(loaded.live.partition))
    }

    fn begin_archive(&self, limit: i64) -> Result<(Progress, Option<Box<Job>>), JobError> {
        let layers = self.layers();
        let Some(oldest) = self.waiting(&layers, limit).next() else {
            // A quiet store may have old days in the head alone.
            let days = self.archive_limit(limit).div_euclid(PARTITION);
            let is_due = self.has_rows_in(&(i64::MIN..days.saturating_mul(PARTITION)));
            return Ok((if is_due { self.compact_step(true)? } else { Progress::Idle }, None));
        };
        let partition = oldest.live.partition;
        let times = times_of(partition);
        // What is in the head is neither written nor compared: it has to become a snapshot first, and so have the rows
        // that a free is judged by.
        let snapshot_lsn = self.manifest.lock().snapshot_lsn;
        let has_young_free = layers.frees.iter().any(|free| free.lsn > snapshot_lsn && free.to > times.start);
        if has_young_free || self.has_rows_in(&times) {
            return Ok((self.compact_step(true)?, None));
        }
        let after = layers.archived_up_to(partition);
        let of_partition = |loaded: &&Loaded| loaded.live.partition == partition && loaded.live.lsn_hi > after;
        let snapshots: Vec<Loaded> = layers.snapshots.iter().filter(of_partition).cloned().collect();
        let up_to = snapshots.iter().map(|loaded| loaded.live.lsn_hi).max().unwrap_or_default();
        let hosts: BTreeSet<(String, String)> = snapshots
            .iter()
            .flat_map(|loaded| loaded.file.hosts())
            .map(|(cluster, host, _)| (cluster.to_owned(), host.to_owned()))
            .collect();
        let before = layers.archived.iter().filter(|part| part.names.partition == partition);
        let number = before.map(|part| part.names.part.saturating_add(1)).max().unwrap_or(0);
        let partition_layers = Layers { snapshots, ..Layers::default() };
        let job = Job {
            partition,
            number,
            after,
            up_to,
            partition_layers: Arc::new(partition_layers),
            layers,
            hosts: hosts.into_iter().collect(),
            next: 0,
            first: 0,
            phase: Phase::Write(None),
            done: Vec::new(),
        };
        Ok((Progress::Done, Some(Box::new(job))))
    }

    /// Whether the head has rows whose slots begin in some times.
    fn has_rows_in(&self, times: &Range<i64>) -> bool {
        self.hosts.all().iter().any(|host| host.state.lock().has_rows_in(times))
    }

    /// Writes or compares one host, or ends what is complete.
    fn archive_host(&self, mut job: Box<Job>) -> Result<(Progress, Option<Box<Job>>), JobError> {
        let options = self.options();
        let Some(archive) = &options.archive else { return Ok((Progress::Idle, None)) };
        let Some((cluster, _)) = job.hosts.get(job.first) else {
            self.finish_archive(&job)?;
            return Ok((Progress::Done, None));
        };
        let names = ArchivePart {
            layout: archive.layout,
            cluster: cluster.clone(),
            partition: job.partition,
            part: job.number,
        };
        let part = Part { store: self.manifest.lock().store, names };
        let host = job.hosts.get(job.next).filter(|(of, _)| of == cluster).map(|(_, host)| host.clone());
        let cluster = cluster.clone();
        match (std::mem::replace(&mut job.phase, Phase::Write(None)), host) {
            (Phase::Write(writer), Some(host)) => {
                let mut writer = match writer {
                    Some(writer) => writer,
                    None => Box::new(Writer::new(Arc::clone(&archive.place), part)?),
                };
                job.each_series((&cluster, &host), |metric, path, rows| {
                    writer.series((&host, metric), path, rows).map_err(JobError::from)
                })?;
                self.counters.archives.host();
                job.phase = Phase::Write(Some(writer));
                job.next += 1;
            }
            (Phase::Write(Some(writer)), None) => {
                let written = writer.finish()?;
                job.phase = Phase::Check(Box::new(Checker::new(Arc::clone(&archive.place), part, written)));
                job.next = job.first;
            }
            (Phase::Check(mut checker), Some(host)) => {
                job.each_series((&cluster, &host), |metric, path, rows| {
                    checker.series((&host, metric), path, rows).map_err(JobError::from)
                })?;
                job.phase = Phase::Check(checker);
                job.next += 1;
            }
            (Phase::Check(checker), None) => {
                let written = checker.finish()?;
                if written.sidecar.rows > 0 {
                    job.done.push((part, written));
                }
                job.first = job.next;
            }
            // The first host of a cluster is one of it.
            (Phase::Write(None), None) => job.first = job.hosts.len(),
        }
        Ok((Progress::Done, Some(job)))
    }

    /// Publishes what was written and compared, and records it. Where a free came meanwhile, all was in vain.
    fn finish_archive(&self, job: &Job) -> Result<(), JobError> {
        let options = self.options();
        let Some(archive) = &options.archive else { return Ok(()) };
        if job.is_stale(&self.layers()) {
            return Ok(());
        }
        let mut fresh = Vec::new();
        for (part, Written { sidecar, .. }) in &job.done {
            let recorded = publish(&*archive.place, part, sidecar)?;
            for file in &sidecar.files {
                self.counters.archives.file(file.len);
            }
            fresh.push(Archived {
                names: part.names.clone(),
                lsn: job.up_to,
                rows: sidecar.rows,
                times: sidecar.from..sidecar.to,
                sidecar: recorded,
            });
        }
        if fresh.is_empty() {
            let (layout, cluster) = (archive.layout, String::new());
            let names = ArchivePart { layout, cluster, partition: job.partition, part: job.number };
            fresh.push(Archived { names, lsn: job.up_to, rows: 0, times: 0..0, sidecar: (0, 0) });
        }
        self.change_layers(|layers, _| {
            if job.is_stale(layers) {
                return false;
            }
            layers.add_archived(fresh);
            true
        })?;
        Ok(())
    }
}

fn times_of(partition: i64) -> Range<i64> {
    partition.saturating_mul(PARTITION)..partition_end(partition)
}

impl Job {
    /// Whether what it has read is not what is there: a free may have taken some of it, or a file holds more by now.
    fn is_stale(&self, now: &Layers) -> bool {
        let known = self.layers.frees.last().map_or(Lsn(0), |free| free.lsn);
        let concerns = |free: &Free| free.lsn > known && free.to > times_of(self.partition).start;
        let mut of_partition = now.snapshots.iter().filter(|loaded| loaded.live.partition == self.partition);
        now.frees.iter().any(concerns)
            || now.archived_up_to(self.partition) != self.after
            || of_partition.any(|loaded| loaded.live.lsn_lo <= self.up_to && loaded.live.lsn_hi > self.up_to)
    }

    /// All series of a host in the partition, in the order of the archive: metric, path and rows. Holds one metric of
    /// the host at a time.
    fn each_series(
        &self,
        (cluster, host): (&str, &str),
        mut take: impl FnMut(&str, (&str, &str), &[Row]) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let times = times_of(self.partition);
        let concerns = |free: &Free| free.to > times.start;
        let layers = if self.layers.frees_of(cluster, host).iter().any(concerns) {
            &self.layers
        } else {
            &self.partition_layers
        };
        let mut metrics = BTreeSet::new();
        for loaded in &self.partition_layers.snapshots {
            let names = metrics_of(&loaded.file, cluster, host);
            metrics.extend(names.map_err(|source| JobError::Read { path: loaded.path.clone(), source })?);
        }
        let mut rows = Vec::new();
        for metric in metrics {
            let captured = Captured::of_layers((cluster, host), &metric, layers);
            let mut gathered = captured.gather(&times).map_err(read_error)?;
            gathered.sort_by_cached_key(|series| join_path(&series.component, &series.subcomponent));
            for series in &gathered {
                self.rows_of(series, &times, &mut rows);
                take(&metric, (&series.component, &series.subcomponent), &rows)?;
            }
            if let Some(path) = captured.poisoned() {
                let source = std::io::Error::other("a page cannot be read");
                return Err(JobError::Io { op: "read", path: path.to_owned(), source });
            }
        }
        Ok(())
    }

    /// The rows of a series in the partition, in order.
    fn rows_of(&self, series: &Gathered<'_>, times: &Range<i64>, rows: &mut Vec<Row>) {
        rows.clear();
        let mut runs: BTreeMap<Run, Vec<f64>> = BTreeMap::new();
        let mut firsts: BTreeMap<Run, u32> = BTreeMap::new();
        let taken = |lsn: Lsn| lsn > self.after && lsn <= self.up_to;
        let pieces = || series.pieces.iter().filter(|(lsn, _)| taken(*lsn)).map(|(_, piece)| piece);
        for piece in pieces() {
            let run = Run { start: piece.start, frequency: piece.frequency };
            let first = firsts.entry(run).or_insert(piece.first_slot);
            *first = (*first).min(piece.first_slot);
        }
        for piece in pieces() {
            let run = Run { start: piece.start, frequency: piece.frequency };
            let first = firsts.get(&run).copied().unwrap_or(piece.first_slot);
            let begin = (piece.first_slot - first) as usize;
            let values = runs.entry(run).or_default();
            let len = values.len().max(begin + piece.values.len());
            values.resize(len, f64::NAN);
            piece.values.overlay(&mut values[begin..]);
        }
        for (run, values) in runs {
            let first = firsts.get(&run).copied().unwrap_or(0);
            let slots = (first..).zip(values).filter(|(_, value)| !value.is_nan());
            let of_run = slots.map(|(slot, value)| Row { timestamp: run.end_after(slot), run, value });
            rows.extend(of_run.filter(|row| times.contains(&row.timestamp)));
        }
        // Runs follow each other, but those of an import may not.
        let key = |row: &Row| (row.timestamp, row.run);
        if !rows.is_sorted_by_key(key) {
            rows.sort_by_key(key);
        }
    }
}

fn read_error(error: Unreadable) -> JobError {
    JobError::Read { path: error.path.into(), source: error.source }
}
