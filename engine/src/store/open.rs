//! Opening: lock, manifest, replay, a new segment that seals what was found. A refused open changes nothing.

use super::compact::{JobError, load_snapshot};
use super::counters::Counters;
use super::layers::Layers;
use super::replayer::Replayer;
use super::{Options, SegmentInfo, Store};
use crate::archive;
use crate::canary::{self, Canary};
use crate::disk::BLOCK;
use crate::disk::{Disk, Lock};
use crate::env::Env;
use crate::error::OpenError;
use crate::format::manifest::{Archived, Free, LiveSnapshot, Loss, Manifest};
use crate::format::segment::{Seal, Segment};
use crate::format::{StoreId, snapshot};
use crate::head::Hosts;
use crate::model::Lsn;
use crate::names::{Layouts, Templates};
use crate::paths::{self, Paths};
use crate::wal::{self, Committer, Floor, Log, LogOptions, Preparer, Problem, Recovered, Tail};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
use std::time::Duration;

/// What opening found.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// The store.
    pub store: StoreId,
    /// Whether it was made just now.
    pub is_new: bool,
    /// Segments that were replayed.
    pub segments: usize,
    /// Rows in them.
    pub rows: u64,
    /// Samples in those.
    pub samples: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// What stood behind the last good frame.
    pub tail: Tail,
    /// Names in the directory of the log that are not of this store; they are left alone.
    pub foreign: Vec<String>,
    /// Losses that were recorded when damage was set aside.
    pub losses: Vec<Loss>,
    /// Why the store can only be read at present, if so.
    pub read_only: Option<String>,
    /// The LSN that the next row gets.
    pub next_lsn: Lsn,
}

/// A locked directory with a manifest.
pub(super) struct Base {
    pub(super) paths: Paths,
    pub(super) lock: Box<dyn Lock>,
    pub(super) manifest: Manifest,
    pub(super) is_new: bool,
}

impl Base {
    /// Locks the directory and reads its manifest. A directory without one becomes a store if `create` and if there
    /// is nothing in it that a store would have.
    pub(super) fn open(disk: &dyn Disk, env: &dyn Env, options: &Options, create: bool) -> Result<Self, OpenError> {
        let paths = Paths::new(&options.directory);
        if create {
            disk.create_dir_all(paths.root()).map_err(OpenError::io("create", paths.root()))?;
        }
        let entries = disk.list(paths.root()).map_err(OpenError::io("list", paths.root()))?;
        let has = |path: &std::path::Path| {
            entries.iter().any(|entry| path.file_name().is_some_and(|name| *name == *entry.name))
        };
        if !create && !has(&paths.manifest()) {
            let what = "it has no MANIFEST".to_owned();
            return Err(OpenError::NotAStore { path: paths.root().to_owned(), what });
        }
        let lock = disk.lock(&paths.lock(), &options.owner).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { path: paths.root().to_owned(), holder: source.to_string() },
            _ => OpenError::io("lock", paths.lock())(source),
        })?;
        // A name that a killed process gave may not be durable yet: it is, before anyone relies on it.
        disk.sync_dir(paths.root()).map_err(OpenError::io("sync", paths.root()))?;
        let is_new = match disk.read(&paths.manifest()) {
            Ok(bytes) => {
                let manifest = Manifest::check(&bytes).map_err(|what| OpenError::Damaged {
                    path: paths.manifest(),
                    offset: 0,
                    lsn: Lsn(0),
                    what,
                    remedy: "It is replaced as a whole and synced before it counts, so this is no power cut: restore \
                             it from a copy of the directory"
                        .to_owned(),
                })?;
                return Ok(Self { paths, lock, manifest, is_new: false });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(OpenError::io("read", paths.manifest())(error)),
        };
        if has(&paths.wal()) {
            let files = disk.list(&paths.wal()).map_err(OpenError::io("list", paths.wal()))?;
            if files.iter().any(|entry| paths::segment_seq(&entry.name).is_some()) {
                let what = "it has a log but no MANIFEST: restore it from a copy of the directory".to_owned();
                return Err(OpenError::NotAStore { path: paths.root().to_owned(), what });
            }
        }
        for directory in [paths.wal(), paths.snapshots()] {
            disk.create_dir_all(&directory).map_err(OpenError::io("create", directory))?;
        }
        let manifest = Manifest::new(StoreId(env.unique()));
        let replaced = disk.replace(&paths.manifest(), &manifest.to_bytes());
        replaced.map_err(OpenError::io("write", paths.manifest()))?;
        Ok(Self { paths, lock, manifest, is_new })
    }

    /// Replays the log into `replayer`.
    pub(super) fn recover(
        &self,
        disk: &dyn Disk,
        env: &dyn Env,
        replayer: &mut Replayer<'_>,
    ) -> Result<Recovered, OpenError> {
        let Manifest { store, log_floor, snapshot_lsn, generation, .. } = self.manifest;
        let floor = Floor { seq: log_floor, snapshot_lsn, begun: generation > 1 };
        wal::recover(disk, env.parallel(), &self.paths, store, &floor, replayer)
    }

    /// Removes what a salvage that did not end has written, before anything else is: its rows are old ones that were
    /// written again, and must not come to stand behind newer ones.
    pub(super) fn forget_salvage(&self, disk: &dyn Disk, unfinished: &[u64]) -> Result<(), OpenError> {
        for &seq in unfinished {
            let path = self.paths.segment(seq);
            disk.unlink(&path).map_err(OpenError::io("remove", &path))?;
        }
        disk.sync_dir(&self.paths.wal()).map_err(OpenError::io("sync", self.paths.wal()))?;
        match disk.unlink(&self.paths.salvage()) {
            Ok(()) => disk.sync_dir(self.paths.root()).map_err(OpenError::io("sync", self.paths.root())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(OpenError::io("remove", self.paths.salvage())(error)),
        }
    }
}

/// The refusal that names the first thing that is wrong, and what to do.
fn refusal(paths: &Paths, problem: &Problem) -> OpenError {
    let directory = paths.root().display();
    let remedy = format!(
        "`kymo salvage {directory}` shows what can be read; with --yes it keeps that, sets the damaged file aside and \
         records the loss"
    );
    let path = paths.segment(problem.seq);
    match problem.what.clone() {
        Some(what) => OpenError::Damaged { path, offset: problem.offset, lsn: problem.first_lsn, what, remedy },
        None => OpenError::Missing { path, lsn: problem.first_lsn, remedy },
    }
}

impl Store {
    /// Opens a data directory, or makes one. What was acknowledged before is there when this returns.
    pub fn open(disk: Arc<dyn Disk>, env: Arc<dyn Env>, options: Options) -> Result<(Self, OpenReport), OpenError> {
        let begun = env.monotonic();
        let base = Base::open(&*disk, &*env, &options, true)?;
        let layouts = Arc::new(Layouts::new(&options.metrics).sharing_at_most(options.definition_max()));
        let hosts = Hosts::default();
        let mut replayer = Replayer::new(&layouts, &hosts, base.manifest.snapshot_lsn);
        let recovered = base.recover(&*disk, &*env, &mut replayer)?;
        if let Some(problem) = recovered.chain.problems.first() {
            return Err(refusal(&base.paths, problem));
        }
        base.forget_salvage(&*disk, &recovered.chain.unfinished)?;
        let Replayer { segments, mut newest, samples, head_bytes, frees, .. } = replayer;
        let Base { paths, lock, manifest, is_new } = base;
        let layers = load_layers(&*disk, &paths, &manifest, frees)?;
        newest = layers.snapshots.iter().map(|loaded| loaded.file.times().end).fold(newest, i64::max);

        let plan = Plan::new(&recovered, options.segment_len);
        let preparer = Preparer::new(Arc::clone(&disk), paths.clone(), options.segment_len, plan.prepared);
        let preparer = Arc::new(preparer);
        let log_options = LogOptions { segment_len: options.segment_len, pending_max: options.limits.pending_bytes };
        let next_lsn = recovered.next_lsn;
        let log = Log::new(
            Arc::clone(&disk),
            paths.clone(),
            manifest.store,
            Arc::clone(&layouts),
            log_options,
            plan.seq,
            next_lsn,
        );
        let log = Arc::new(log);
        let mut committer = Committer::new(Arc::clone(&log), Arc::clone(&preparer), options.durability, plan.seal);
        let (fresh, read_only) = match begin(&mut committer, &plan, &recovered) {
            Ok(fresh) => (fresh, None),
            Err(error) if is_for_space(&error) => {
                let why = format!("cannot prepare {}: {error}", paths.segment(plan.seq).display());
                log.is_full(why.clone());
                (None, Some(why))
            }
            Err(error) => return Err(OpenError::io("begin", paths.segment(plan.seq))(error)),
        };
        let store = Self {
            series: AtomicUsize::new(count_series(&hosts)),
            disk,
            paths,
            layouts,
            templates: Templates::default(),
            hosts,
            log,
            preparer,
            committer: Mutex::new(Some(committer)),
            manifest: Mutex::new(manifest),
            layers: RwLock::new(Arc::new(layers)),
            compaction: Mutex::default(),
            archiving: Mutex::default(),
            cold: options.archive.as_ref().map(|archive| archive::Reader::new(Arc::clone(&archive.place))),
            segments: Mutex::new(
                segments.into_iter().filter(|segment| !plan.unneeded.contains(&segment.seq)).collect(),
            ),
            newest: AtomicI64::new(newest),
            pool: Mutex::new(Vec::new()),
            counters: Counters::default(),
            head_bytes,
            names_bytes: AtomicU64::new(0),
            definition_bytes: AtomicU64::new(0),
            options: RwLock::new(Arc::new(options)),
            env,
            _lock: lock,
        };
        if read_only.is_none() {
            store.tidy(&plan, &recovered)?;
            store.segments.lock().extend(fresh);
        }
        let Manifest { store: id, losses, .. } = store.manifest.lock().clone();
        let report = OpenReport {
            store: id,
            is_new,
            segments: recovered.segments.len(),
            rows: recovered.rows,
            samples,
            bytes: recovered.bytes,
            elapsed: store.env.monotonic().saturating_sub(begun),
            tail: recovered.tail,
            foreign: recovered.chain.foreign,
            losses,
            read_only,
            next_lsn,
        };
        Ok((store, report))
    }

    /// Moves the floor where it must move, then removes the files that nothing needs.
    fn tidy(&self, plan: &Plan, recovered: &Recovered) -> Result<(), OpenError> {
        let mut manifest = self.manifest.lock();
        // The floor may have been passed over by a life that could not move it for want of space.
        let floor = plan.oldest.map_or(plan.seq, |oldest| oldest.seq);
        if manifest.generation == 1 || manifest.log_floor != floor {
            let mut next = Manifest { log_floor: floor, ..manifest.clone() };
            match self.replace_manifest(&mut next) {
                Ok(()) => *manifest = next,
                // A later start moves it. Until then the files that the manifest speaks of have to stay.
                Err(error) if is_for_space(&error) => return Ok(()),
                Err(error) => return Err(OpenError::io("write", self.paths.manifest())(error)),
            }
        }
        let mut unlinked = false;
        // A salvage that was cut off had recorded its losses: what it did not set aside is set aside now.
        let lost: BTreeSet<u64> = manifest.losses.iter().map(|loss| loss.seq).collect();
        for &seq in plan.unneeded.iter().filter(|seq| lost.contains(seq)) {
            let path = self.paths.segment(seq);
            let renamed = self.disk.rename(&path, &self.paths.set_aside(seq));
            renamed.map_err(OpenError::io("rename", &path))?;
            unlinked = true;
        }
        let segments = plan.unneeded.iter().filter(|seq| !lost.contains(seq)).map(|&seq| self.paths.segment(seq));
        let temporary = recovered.chain.temporary.iter().map(|name| self.paths.wal().join(name));
        for path in segments.chain(temporary) {
            match self.disk.unlink(&path) {
                Ok(()) => unlinked = true,
                // Preparing the new segment took the place of an unfinished one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OpenError::io("remove", &path)(error)),
            }
        }
        self.remove_orphans(&manifest)?;
        if unlinked {
            self.disk.sync_dir(&self.paths.wal()).map_err(OpenError::io("sync", self.paths.wal()))?;
        }
        Ok(())
    }

    /// Removes the snapshots that the manifest does not list, if they are this store's, and what was never finished.
    fn remove_orphans(&self, manifest: &Manifest) -> Result<(), OpenError> {
        let directory = self.paths.snapshots();
        let listed: Vec<PathBuf> = manifest.snapshots.iter().map(|live| snapshot_path(&self.paths, live)).collect();
        let mut removed = false;
        for entry in self.disk.list(&directory).map_err(OpenError::io("list", &directory))? {
            let path = directory.join(&entry.name);
            let is_ours = || {
                let block = self.disk.read_prefix(&path, BLOCK).map_err(OpenError::io("read", &path))?;
                let header = snapshot::Header::check(&block, entry.len);
                Ok::<bool, OpenError>(header.is_ok_and(|(header, _)| header.identity.store == manifest.store))
            };
            let is_orphan = !entry.is_dir && !listed.contains(&path);
            if is_orphan && (paths::is_temporary(&entry.name) || (paths::is_snapshot(&entry.name) && is_ours()?)) {
                self.disk.unlink(&path).map_err(OpenError::io("remove", &path))?;
                removed = true;
            }
        }
        if removed {
            self.disk.sync_dir(&directory).map_err(OpenError::io("sync", &directory))?;
        }
        Ok(())
    }

    /// Makes a changed manifest durable under the next generation.
    pub(super) fn replace_manifest(&self, manifest: &mut Manifest) -> io::Result<()> {
        manifest.generation += 1;
        self.disk.replace(&self.paths.manifest(), &manifest.to_bytes())
    }
}

/// Whether a disk refuses what grows and can still be read.
fn is_for_space(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

/// Begins the segment behind what was recovered; unless that rule is broken, and none is begun.
fn begin(committer: &mut Committer, plan: &Plan, recovered: &Recovered) -> io::Result<Option<SegmentInfo>> {
    #[cfg(feature = "sim")]
    if canary::is(Canary::AppendToRecovered)
        && let Some(end) = recovered.end.filter(|end| end.end > BLOCK as u64)
    {
        return committer.append_to_recovered(end).map(|()| None);
    }
    let next_lsn = recovered.next_lsn;
    committer.begin(plan.seq, next_lsn)?;
    Ok(Some(SegmentInfo { seq: plan.seq, last_lsn: Lsn(next_lsn.0 - 1), end: BLOCK as u64 }))
}

fn snapshot_path(paths: &Paths, live: &LiveSnapshot) -> PathBuf {
    paths.snapshot(live.partition, live.lsn_lo, live.lsn_hi, live.edition)
}

/// Maps the snapshots that the manifest lists.
fn load_layers(disk: &dyn Disk, paths: &Paths, manifest: &Manifest, frees: Vec<Free>) -> Result<Layers, OpenError> {
    let mut layers = Layers::default();
    for live in &manifest.snapshots {
        let path = snapshot_path(paths, live);
        layers.snapshots.push(load_snapshot(disk, manifest.store, *live, path).map_err(unusable)?);
    }
    layers.frees = manifest.frees.iter().cloned().chain(frees).collect();
    layers.archived = manifest.archived.clone().into();
    if canary::is(Canary::ForgetArchived) {
        layers.archived = manifest.archived.iter().map(|part| Archived { lsn: Lsn(0), ..part.clone() }).collect();
    }
    Ok(layers)
}

/// Why a store does not open without one of its snapshots. What the system refuses now it may grant later: the file is
/// not to be replaced for that, unless it is gone.
fn unusable(error: JobError) -> OpenError {
    match error {
        JobError::Io { op, path, source } if source.kind() != io::ErrorKind::NotFound => {
            OpenError::Io { op, path, source }
        }
        error => OpenError::Snapshot { source: error.into() },
    }
}

fn count_series(hosts: &Hosts) -> usize {
    hosts.all().iter().map(|host| host.state.lock().runs.series_count()).sum()
}

/// How the log goes on after what recovery found.
pub(super) struct Plan {
    /// The number of the next segment.
    pub(super) seq: u64,
    /// Files up to this number are there.
    pub(super) prepared: u64,
    /// How its header seals the last segment that has frames.
    pub(super) seal: Option<Seal>,
    /// Segments that nothing needs when it is begun.
    pub(super) unneeded: Vec<u64>,
    /// The oldest segment that stays, if one does.
    oldest: Option<Segment>,
}

impl Plan {
    pub(super) fn new(recovered: &Recovered, segment_len: u64) -> Self {
        let chain = &recovered.chain;
        let mut unneeded = chain.unneeded.clone();
        let seq = match chain.prepared {
            Some((seq, len)) if len == segment_len => seq,
            Some((seq, _)) => {
                unneeded.push(seq);
                seq + 1
            }
            None => chain.highest_seq + 1,
        };
        let prepared = if chain.prepared.is_some_and(|(prepared, _)| prepared == seq) { seq } else { seq - 1 };
        // A segment at the end in which nothing was ever written is passed over, so that restarts leave no trail. One
        // with unsynced frames behind a hole is not: without a seal they would look like the log's.
        let has_stray_frames = matches!(recovered.tail, Tail::Torn { frames_behind: 1.., .. });
        let mut seal = recovered.end;
        let mut kept = &chain.segments[..];
        if let [before @ .., last] = kept
            && recovered.end.is_some_and(|end| end.end == BLOCK as u64)
            && !has_stray_frames
        {
            unneeded.push(last.seq);
            seal = last.seal;
            kept = before;
        }
        Self { seq, prepared, seal, unneeded, oldest: kept.first().copied() }
    }
}
