//! The background work on files: snapshots of the head, merges, retention.
//!
//! One job at a time, in steps of one host. A job that fails leaves everything as it was: the rows stay in the head and
//! in the log, and the next try takes them again. The order is always the same: files finished and synced, manifest
//! replaced, readers moved over, and only then is anything removed.

use super::layers::{Layers, Loaded, PARTITION};
use super::transpose::{Part, Transposer};
use super::{Store, Unavailable};
use crate::canary::{self, Canary};
use crate::format::manifest::{LiveSnapshot, Manifest};
use crate::head::Host;
use crate::model::Lsn;
use crate::snapshot::{Expected, Finished, Hide, Identity, Merge, Snapshot, SnapshotError, WriteError, Writer};
use crate::store::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Snapshots of one partition that are joined at a time, at least and at most.
const FAN_IN: Range<usize> = 12..64;
/// A merge joins files whose lengths differ by at most this factor a tier.
const TIER: u64 = 8;
/// Length of the files of the lowest tier, in bytes.
const TIER_BASE: u64 = 64 << 10;
/// Partitions that one call of the retention drops at most: a wrong clock must not delete history at once.
const DROPS: usize = 3;

/// Why a job failed. It is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The disk refused something.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A snapshot could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WriteError,
    },
    /// A snapshot could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SnapshotError,
    },
    /// Something of the archive was not written, or does not read back.
    #[error(transparent)]
    Archive(#[from] crate::archive::ArchiveError),
    /// What the store has cannot be read.
    #[error("{0}")]
    Damaged(String),
    /// The log has failed: nothing that is not durable may become a file.
    #[error("the log has failed")]
    LogFailed,
}

impl JobError {
    pub(super) fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { op, path, source }
    }
}

/// The job that is under way.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    job: Option<Job>,
    strays: Strays,
}

/// Finished files that no job has a use for.
#[derive(Debug, Default)]
struct Strays {
    paths: Vec<PathBuf>,
    /// Whether the manifest on the device may name them: its replacement was begun and failed.
    may_be_named: bool,
}

#[derive(Debug)]
enum Job {
    Snapshot(Box<SnapshotJob>),
    Merge(Box<MergeJob>),
}

#[derive(Debug)]
struct SnapshotJob {
    /// The rows above `after` and up to `last` are taken.
    after: Lsn,
    last: Lsn,
    hosts: Vec<Arc<Host>>,
    next: usize,
    writers: BTreeMap<i64, (PathBuf, Writer)>,
    transposer: Transposer,
}

struct MergeJob {
    inputs: Vec<Loaded>,
    identity: Identity,
    edition: u32,
    path: PathBuf,
    merge: Merge,
}

impl std::fmt::Debug for MergeJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergeJob").field("inputs", &self.inputs.len()).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Does a piece of the background work on files: at most one host. `now_or_never` takes a snapshot whatever the
    /// log's length, and begins no merge.
    pub fn compact_step(&self, now_or_never: bool) -> Result<Progress, JobError> {
        let mut compaction = self.compaction.lock();
        let Compaction { job, strays } = &mut *compaction;
        let step = match job.take() {
            None => self.remove_strays(strays).and_then(|()| self.begin_job(now_or_never)),
            Some(Job::Snapshot(job)) => self.snapshot_step(job, strays),
            Some(Job::Merge(_)) if now_or_never => Ok((Progress::Done, None)),
            Some(Job::Merge(job)) => self.merge_step(job, strays),
        };
        let (progress, job) = step.inspect_err(|_| {
            self.counters.job_failures.fetch_add(1, Ordering::Relaxed);
        })?;
        compaction.job = job;
        Ok(progress)
    }

    /// Removes what a job that failed has left: on a disk that is full each try would leave more. What cannot be removed is
    /// tried again, and does not stop other work.
    fn remove_strays(&self, strays: &mut Strays) -> Result<(), JobError> {
        if strays.paths.is_empty() {
            return Ok(());
        }
        if strays.may_be_named {
            // The manifest is replaced, unless the one on the device is still that of before.
            match self.change_layers(|_, _| true) {
                Err(error) if self.manifest_may_be_another() => return Err(error),
                _ => strays.may_be_named = false,
            }
        }
        let layers = self.layers();
        let lives = |path: &PathBuf| layers.snapshots.iter().any(|loaded| loaded.path == *path);
        strays.paths.retain(|path| !lives(path));
        let before = strays.paths.len();
        let stays = |error: io::Error| error.kind() != io::ErrorKind::NotFound;
        strays.paths.retain(|path| self.disk.unlink(path).is_err_and(stays));
        if !strays.paths.is_empty() {
            self.counters.job_failures.fetch_add(1, Ordering::Relaxed);
        }
        if strays.paths.len() == before {
            return Ok(());
        }
        self.disk.sync_dir(&self.paths.snapshots()).map_err(JobError::io("sync", self.paths.snapshots()))
    }

    /// Whether the manifest on the device may be another than the one that the store goes by. If it can be read back, no
    /// replacement that failed was given its name; otherwise any of them may be there after a power cut.
    fn manifest_may_be_another(&self) -> bool {
        let ours = self.manifest.lock().generation;
        let Ok(bytes) = self.disk.read(&self.paths.manifest()) else { return true };
        Manifest::check(&bytes).map_or(true, |found| found.generation != ours)
    }

    fn begin_job(&self, now_or_never: bool) -> Result<(Progress, Option<Job>), JobError> {
        if self.snapshot_is_due(now_or_never)
            && let Some(job) = self.begin_snapshot()
        {
            return Ok((Progress::Done, Some(Job::Snapshot(Box::new(job)))));
        }
        if !now_or_never && let Some(job) = self.begin_merge()? {
            return Ok((Progress::Done, Some(Job::Merge(Box::new(job)))));
        }
        Ok((Progress::Idle, None))
    }

    fn snapshot_is_due(&self, now_or_never: bool) -> bool {
        let snapshot_lsn = self.manifest.lock().snapshot_lsn;
        let pulse = self.log.pulse();
        if pulse.last <= snapshot_lsn {
            return false;
        }
        let log_bytes: u64 = {
            let segments = self.segments.lock();
            segments.iter().filter(|segment| segment.last_lsn > snapshot_lsn).map(|segment| segment.end).sum()
        };
        // On a full disk it is a snapshot that lets go of the log.
        let is_full = matches!(pulse.refuses, Some(Unavailable::Full(_))) && pulse.durable > snapshot_lsn;
        now_or_never || log_bytes > self.log_bound() || self.memory_is_short() || is_full
    }

    fn begin_snapshot(&self) -> Option<SnapshotJob> {
        let after = self.manifest.lock().snapshot_lsn;
        let last = self.log.rotate();
        if last <= after {
            return None;
        }
        let mut hosts = self.hosts.all();
        hosts.sort_unstable_by(|a, b| (&a.cluster, &a.name).cmp(&(&b.cluster, &b.name)));
        Some(SnapshotJob { after, last, hosts, next: 0, writers: BTreeMap::new(), transposer: Transposer::default() })
    }

    fn snapshot_step(
        &self,
        mut job: Box<SnapshotJob>,
        strays: &mut Strays,
    ) -> Result<(Progress, Option<Job>), JobError> {
        let durable = self.log.durable();
        if durable < job.last && !canary::is(Canary::SnapshotBeforeDurable) {
            match self.log.pulse().refuses {
                Some(Unavailable::Failed(_)) => return Err(JobError::LogFailed),
                // What waits for space waits for this.
                Some(Unavailable::Full(_)) if durable > job.after => job.last = durable,
                Some(Unavailable::Full(_)) => return Ok((Progress::Blocked, None)),
                _ => return Ok((Progress::Blocked, Some(Job::Snapshot(job)))),
            }
        }
        if job.next == 0 {
            // A file never spans a free: what is older than the free and what is younger stay apart. All of them that are
            // not younger than the file are known only now that they are durable.
            // Those at its begin have nothing in front of them.
            let mut begin = job.after;
            for free in self.layers().frees.iter().filter(|free| free.lsn > job.after && free.lsn < job.last) {
                if free.lsn.0 > begin.0 + 1 {
                    job.last = free.lsn;
                    break;
                }
                begin = free.lsn;
            }
        }
        while let Some(host) = job.hosts.get(job.next).map(Arc::clone) {
            job.next += 1;
            let wrote = self.write_host(&mut job, &host);
            if wrote.is_err() && canary::is(Canary::FailedSnapshotDropsRows) {
                job.hosts.iter().for_each(|host| host.state.lock().drop_up_to(job.last));
            }
            if wrote? {
                return Ok((Progress::Done, Some(Job::Snapshot(job))));
            }
        }
        self.finish_snapshot(*job, strays)?;
        Ok((Progress::Done, None))
    }

    /// Writes the rows of one host; whether there were any.
    fn write_host(&self, job: &mut SnapshotJob, host: &Host) -> Result<bool, JobError> {
        let (rows, layout) = {
            let state = host.state.lock();
            (state.rows_up_to(job.last), Arc::clone(&state.layout))
        };
        if rows.is_empty() {
            return Ok(false);
        }
        let SnapshotJob { after, last, writers, transposer, .. } = job;
        let (after, last) = (Lsn(after.0 + 1), *last);
        transposer.stripes(&rows, &layout, &self.layouts, |partition, part| {
            let (path, writer) = match writers.entry(partition) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let path = self.paths.snapshot(partition, after, last, 0);
                    let file = self.disk.create(&path).map_err(JobError::io("create", &path))?;
                    let store = self.manifest.lock().store;
                    let identity = Identity { store, partition, lsn_lo: after, lsn_hi: last };
                    let writer =
                        Writer::new(file, identity).map_err(|source| JobError::Write { path: path.clone(), source })?;
                    entry.insert((path, writer))
                }
            };
            let wrote = match part {
                Part::Begin => writer.begin_host(&host.cluster, &host.name),
                Part::Stripe(piece) => writer.stripe(piece),
                Part::End => writer.end_host(),
            };
            wrote.map_err(|source| JobError::Write { path: path.clone(), source })
        })?;
        self.counters.snapshots.host();
        Ok(true)
    }

    fn finish_snapshot(&self, job: SnapshotJob, strays: &mut Strays) -> Result<(), JobError> {
        let store = self.manifest.lock().store;
        let mut fresh = Vec::new();
        for (partition, (path, writer)) in job.writers {
            strays.paths.push(path.clone());
            let finished = writer.finish().map_err(|source| JobError::Write { path: path.clone(), source })?;
            self.counters.snapshots.file(finished.file_len);
            let identity = Identity { store, partition, lsn_lo: Lsn(job.after.0 + 1), lsn_hi: job.last };
            fresh.push(self.load(identity, 0, path, &finished)?);
        }
        let unneeded = self.unneeded_segments(job.last);
        if canary::is(Canary::UnlinkBeforeManifest) {
            self.forget_segments(&unneeded.0)?;
        }
        strays.may_be_named = true;
        self.change_layers(|layers, manifest| {
            layers.snapshots.extend(fresh);
            manifest.snapshot_lsn = if canary::is(Canary::SnapshotClaimsMore) { self.log.durable() } else { job.last };
            manifest.log_floor = unneeded.1;
            true
        })?;
        strays.may_be_named = false;
        for host in &job.hosts {
            host.state.lock().drop_up_to(job.last);
        }
        if canary::is(Canary::UnlinkBeforeManifest) {
            return Ok(());
        }
        self.forget_segments(&unneeded.0)
    }

    /// Segments whose rows are all kept elsewhere, and the number of the first one that stays. The last one always
    /// stays: the log begins somewhere.
    fn unneeded_segments(&self, last: Lsn) -> (Vec<u64>, u64) {
        let segments = self.segments.lock();
        let count = segments.iter().take_while(|segment| segment.last_lsn <= last).count();
        let count = count.min(segments.len().saturating_sub(1));
        let floor = segments.get(count).map_or(1, |segment| segment.seq);
        (segments[..count].iter().map(|segment| segment.seq).collect(), floor)
    }

    pub(super) fn forget_segments(&self, unneeded: &[u64]) -> Result<(), JobError> {
        self.segments.lock().retain(|segment| !unneeded.contains(&segment.seq));
        for &seq in unneeded {
            let path = self.paths.segment(seq);
            self.disk.unlink(&path).map_err(JobError::io("remove", &path))?;
        }
        self.disk.sync_dir(&self.paths.wal()).map_err(JobError::io("sync", self.paths.wal()))
    }

    /// Lets the log begin with a segment that was just begun, if all before it is kept elsewhere: the next start then
    /// replays nothing.
    pub(super) fn begin_log_at(&self, seq: Option<u64>) -> Result<(), JobError> {
        let Some(seq) = seq else { return Ok(()) };
        let unneeded: Vec<u64> = {
            let segments = self.segments.lock();
            let snapshot_lsn = self.manifest.lock().snapshot_lsn;
            if segments.iter().any(|segment| segment.last_lsn > snapshot_lsn) {
                return Ok(());
            }
            segments.iter().map(|segment| segment.seq).filter(|&old| old < seq).collect()
        };
        self.change_layers(|_, manifest| {
            manifest.log_floor = seq;
            true
        })?;
        self.forget_segments(&unneeded)
    }

    pub(super) fn load(
        &self,
        identity: Identity,
        edition: u32,
        path: PathBuf,
        finished: &Finished,
    ) -> Result<Loaded, JobError> {
        let Identity { store, partition, lsn_lo, lsn_hi } = identity;
        let Finished { file_len, header_crc, .. } = *finished;
        let live = LiveSnapshot { partition, lsn_lo, lsn_hi, file_len, header_crc, edition };
        load_snapshot(&*self.disk, store, live, path)
    }

    /// Changes layers and manifest together: the manifest is replaced, then the readers move over. `change` sees what
    /// is there now and tells whether it has changed it; one change at a time, so that none takes another back.
    pub(super) fn change_layers(
        &self,
        change: impl FnOnce(&mut Layers, &mut Manifest) -> bool,
    ) -> Result<bool, JobError> {
        let mut manifest = self.manifest.lock();
        let mut next = manifest.clone();
        let mut layers = Layers::clone(&self.layers());
        if !change(&mut layers, &mut next) {
            return Ok(false);
        }
        layers.snapshots.sort_by_key(|loaded| (loaded.live.partition, loaded.live.lsn_lo));
        layers.drop_spent_frees(next.snapshot_lsn);
        layers.drop_spent_marks();
        next.archived = layers.archived.to_vec();
        next.snapshots = layers.snapshots.iter().map(|loaded| loaded.live).collect();
        if canary::is(Canary::ForgetFrees) {
            layers.frees.retain(|free| free.lsn > next.snapshot_lsn);
        }
        next.frees = layers.frees.iter().filter(|free| free.lsn <= next.snapshot_lsn).cloned().collect();
        self.replace_manifest(&mut next).map_err(JobError::io("write", self.paths.manifest()))?;
        // Frees may have been published meanwhile; they are younger than all that the manifest speaks of.
        let mut current = self.layers.write();
        let marks = layers.frees.extract_if(.., |free| free.is_import() && !current.frees.contains(free));
        let marks: Vec<_> = marks.collect();
        layers.frees.clone_from(&current.frees);
        layers.frees.extend(marks);
        layers.drop_spent_frees(next.snapshot_lsn);
        *current = Arc::new(layers);
        *manifest = next;
        Ok(true)
    }

    /// The present, as far as files are concerned: the wall clock, but never later than the newest sample.
    pub(super) fn present(&self) -> i64 {
        if canary::is(Canary::RetentionTrustsClock) {
            return self.env.unix_now();
        }
        self.env.unix_now().min(self.newest.load(Ordering::Relaxed))
    }

    fn begin_merge(&self) -> Result<Option<MergeJob>, JobError> {
        let layers = self.layers();
        let sealed_before = self.present().saturating_sub(self.options().late_window);
        let Some(range) = choose(&layers, sealed_before) else { return Ok(None) };
        let mut inputs = layers.snapshots[range].to_vec();
        if inputs.len() > 2 && canary::is(Canary::MergeSkipsNeighbour) {
            inputs.remove(1);
        }
        self.merge_job(&inputs, |_, _| false)
    }

    /// A merge of neighbours of one partition, without the hosts that `hides` names.
    fn merge_job(
        &self,
        inputs: &[Loaded],
        hides: impl Fn(&str, &str) -> bool + Send + 'static,
    ) -> Result<Option<MergeJob>, JobError> {
        let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else { return Ok(None) };
        let LiveSnapshot { partition, lsn_lo, .. } = first.live;
        let lsn_hi = last.live.lsn_hi;
        let identity = Identity { store: self.manifest.lock().store, partition, lsn_lo, lsn_hi };
        // One file alone is written again under another name: readers have it mapped.
        let edition = if inputs.len() == 1 { first.live.edition + 1 } else { 0 };
        let path = self.paths.snapshot(partition, lsn_lo, lsn_hi, edition);
        let file = self.disk.create(&path).map_err(JobError::io("create", &path))?;
        let writer = Writer::new(file, identity).map_err(|source| JobError::Write { path: path.clone(), source })?;
        let files = inputs.iter().map(|loaded| Arc::clone(&loaded.file)).collect();
        let hide: Hide = Box::new(move |_, cluster, host, _, _, _, _| hides(cluster, host));
        Ok(Some(MergeJob { inputs: inputs.to_vec(), identity, path, edition, merge: Merge::new(files, writer, hide) }))
    }

    fn merge_step(&self, mut job: Box<MergeJob>, strays: &mut Strays) -> Result<(Progress, Option<Job>), JobError> {
        let path = &job.path;
        if job.merge.step().map_err(|source| JobError::Write { path: path.clone(), source })? {
            self.counters.merges.host();
            return Ok((Progress::Done, Some(Job::Merge(job))));
        }
        let MergeJob { inputs, identity, edition, path, merge } = *job;
        strays.paths.push(path.clone());
        let finished = merge.finish().map_err(|source| JobError::Write { path: path.clone(), source })?;
        self.counters.merges.file(finished.file_len);
        let merged = self.load(identity, edition, path, &finished)?;
        strays.may_be_named = true;
        let is_input = |loaded: &Loaded| inputs.iter().any(|input| input.live == loaded.live);
        let is_done = self.change_layers(|layers, _| {
            let have = layers.snapshots.iter().filter(|loaded| is_input(loaded)).count();
            layers.snapshots.retain(|loaded| !is_input(loaded));
            layers.snapshots.push(merged);
            have == inputs.len()
        })?;
        strays.may_be_named = false;
        if !is_done {
            // Retention took an input meanwhile: the result is not wanted.
            return Ok((Progress::Done, None));
        }
        strays.paths.extend(inputs.into_iter().map(|input| input.path));
        self.remove_strays(strays)?;
        Ok((Progress::Done, None))
    }

    /// The time before which data are older than the retention, in unix seconds, if a partition is wholly older.
    pub fn retention_is_due(&self) -> Option<i64> {
        self.retention_limit().filter(|&limit| self.may_be_dropped(limit))
    }

    /// The time before which data are older than the retention, in unix seconds, if there is a retention.
    pub fn retention_limit(&self) -> Option<i64> {
        Some(self.present().saturating_sub(self.options().retention?))
    }

    /// Whether a partition is wholly older than a limit, and archived if it has to be.
    fn may_be_dropped(&self, limit: i64) -> bool {
        let layers = self.layers();
        let mut old = layers.snapshots.iter().take_while(|loaded| partition_end(loaded.live.partition) <= limit);
        old.any(|loaded| self.is_kept_elsewhere(&layers, loaded))
    }

    /// Whether a snapshot may go as far as the archive is concerned.
    fn is_kept_elsewhere(&self, layers: &Layers, loaded: &Loaded) -> bool {
        let is_fed = self.options().archive.as_ref().is_some_and(|archive| archive.is_fed);
        let is_known = canary::is(Canary::DropBeforeArchived);
        !is_fed || is_known || loaded.live.lsn_hi <= layers.archived_up_to(loaded.live.partition)
    }

    /// Drops the partitions that are wholly older than the retention, a few a call. Hosts that `is_exempt` names (by
    /// cluster and name) keep theirs: a partition that has some of them is written again without the others.
    pub fn retention_step(&self, is_exempt: &IsExempt<'_>) -> Result<Progress, JobError> {
        let Some(limit) = self.retention_is_due() else { return Ok(Progress::Idle) };
        self.drop_step(limit, is_exempt)
    }

    /// Drops partitions that are wholly older than a limit, a few a call; of a store with a fed archive, those that are
    /// archived.
    pub fn drop_step(&self, limit: i64, is_exempt: &IsExempt<'_>) -> Result<Progress, JobError> {
        let layers = self.layers();
        let (mut drops, mut mixed) = (Vec::new(), None);
        for partition in layers.snapshots.chunk_by(|a, b| a.live.partition == b.live.partition) {
            if partition_end(partition[0].live.partition) > limit || drops.len() == DROPS {
                break;
            }
            if !partition.iter().all(|loaded| self.is_kept_elsewhere(&layers, loaded)) {
                continue;
            }
            let (exempt, others) = partition.iter().flat_map(|loaded| loaded.file.hosts()).fold(
                (false, false),
                |(exempt, others), (cluster, host, _)| {
                    let is_exempt = is_exempt(cluster, host);
                    (exempt || is_exempt, others || !is_exempt)
                },
            );
            match (exempt, others) {
                (false, _) => drops.push(partition[0].live.partition),
                (true, true) => mixed = mixed.or(Some(partition)),
                (true, false) => {}
            }
        }
        if drops.is_empty() {
            // What has to be written for it may have to wait for the space that drops give.
            return mixed.map_or(Ok(Progress::Idle), |partition| self.begin_thinning(partition, &layers, is_exempt));
        }
        let mut gone = Vec::new();
        let is_fed = self.options().archive.as_ref().is_some_and(|archive| archive.is_fed)
            && !canary::is(Canary::DropBeforeArchived);
        let archived: Vec<(i64, Lsn)> = drops.iter().map(|&of| (of, layers.archived_up_to(of))).collect();
        self.change_layers(|layers, _| {
            // What came meanwhile is not archived yet.
            let known = |loaded: &Loaded| {
                archived.iter().any(|&(of, up_to)| of == loaded.live.partition && loaded.live.lsn_hi <= up_to)
            };
            let is_dropped = |loaded: &mut Loaded| drops.contains(&loaded.live.partition) && (!is_fed || known(loaded));
            gone.extend(layers.snapshots.extract_if(.., is_dropped));
            !gone.is_empty()
        })?;
        let strays = &mut self.compaction.lock().strays;
        strays.paths.extend(gone.into_iter().map(|loaded| loaded.path));
        self.remove_strays(strays)?;
        Ok(Progress::Done)
    }

    /// Begins to write a partition again with the exempt hosts alone: of its snapshots those that may be joined, the
    /// first ones that have others.
    fn begin_thinning(
        &self,
        partition: &[Loaded],
        layers: &Layers,
        is_exempt: &IsExempt<'_>,
    ) -> Result<Progress, JobError> {
        let mut compaction = self.compaction.lock();
        // What was looked at before the last job ended may not be there any more.
        let is_stale = !std::ptr::eq(layers, &raw const *self.layers());
        if compaction.job.is_some() || compaction.strays.may_be_named || is_stale {
            return Ok(Progress::Blocked);
        }
        let mut all = layers.joinable(partition);
        let has_others = |joinable: &&[Loaded]| {
            joinable.iter().flat_map(|loaded| loaded.file.hosts()).any(|(cluster, host, _)| !is_exempt(cluster, host))
        };
        let Some(joinable) = all.find(has_others) else { return Ok(Progress::Idle) };
        let kept: BTreeSet<(String, String)> = joinable
            .iter()
            .flat_map(|loaded| loaded.file.hosts())
            .filter(|(cluster, host, _)| is_exempt(cluster, host))
            .map(|(cluster, host, _)| (cluster.to_owned(), host.to_owned()))
            .collect();
        let hide_others = move |cluster: &str, host: &str| !kept.contains(&(cluster.to_owned(), host.to_owned()));
        compaction.job = self.merge_job(joinable, hide_others)?.map(|job| Job::Merge(Box::new(job)));
        Ok(Progress::Done)
    }
}

/// Maps a snapshot and checks what is read at open.
pub(super) fn load_snapshot(
    disk: &dyn crate::disk::Disk,
    store: crate::format::StoreId,
    live: LiveSnapshot,
    path: PathBuf,
) -> Result<Loaded, JobError> {
    let region = disk.map(&path).map_err(JobError::io("map", &path))?;
    let LiveSnapshot { partition, lsn_lo, lsn_hi, file_len, header_crc, .. } = live;
    let expected = Expected { identity: Identity { store, partition, lsn_lo, lsn_hi }, file_len, header_crc };
    let file = Snapshot::open(region, &expected).map_err(|source| JobError::Read { path: path.clone(), source })?;
    Ok(Loaded { live, path, file: Arc::new(file) })
}

/// Whether the data of a host, by cluster and name, outlive the retention.
pub type IsExempt<'a> = dyn Fn(&str, &str) -> bool + 'a;

pub(super) fn partition_end(partition: i64) -> i64 {
    partition.saturating_add(1).saturating_mul(PARTITION)
}

/// Which neighbours to join next: all of a partition that has passed out of the late window, or enough of one tier.
fn choose(layers: &Layers, sealed_before: i64) -> Option<Range<usize>> {
    let mut begin = 0;
    for partition in layers.joinable(&layers.snapshots) {
        let end = begin + partition.len();
        if partition.len() > 1 && partition_end(partition[0].live.partition) <= sealed_before {
            return Some(begin..end.min(begin + FAN_IN.end));
        }
        let tier = |loaded: &Loaded| (loaded.live.file_len / TIER_BASE).max(1).ilog(TIER);
        for highest in 0..16 {
            let newest = partition.iter().rev().take_while(|loaded| tier(loaded) <= highest);
            // What was merged before is not written again for the sake of a few small ones: a tier has to be full.
            let (count, full) =
                newest.fold((0, 0), |(count, full), loaded| (count + 1, full + usize::from(tier(loaded) == highest)));
            if full >= FAN_IN.start {
                let first = end - count;
                return Some(first..end.min(first + FAN_IN.end));
            }
        }
        begin = end;
    }
    None
}
