//! Opening: lock, manifest, replay, a new segment that seals what was found. A refused open changes nothing.

use super::counters::Counters;
use super::replayer::Replayer;
use super::{Options, SegmentInfo, Store};
use crate::disk::BLOCK;
use crate::disk::{Disk, Lock};
use crate::env::Env;
use crate::error::OpenError;
use crate::format::StoreId;
use crate::format::manifest::{Loss, Manifest};
use crate::format::segment::Seal;
use crate::head::Hosts;
use crate::model::Lsn;
use crate::names::Layouts;
use crate::paths::{self, Paths};
use crate::wal::{self, Committer, Floor, Log, LogOptions, Preparer, Problem, Recovered, Tail};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
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
                let what = "it has a log but no MANIFEST".to_owned();
                return Err(OpenError::NotAStore { path: paths.root().to_owned(), what });
            }
        }
        disk.create_dir_all(&paths.wal()).map_err(OpenError::io("create", paths.wal()))?;
        let manifest = Manifest::new(StoreId(env.unique()));
        let replaced = disk.replace(&paths.manifest(), &manifest.to_bytes());
        replaced.map_err(OpenError::io("write", paths.manifest()))?;
        Ok(Self { paths, lock, manifest, is_new })
    }

    /// Replays the log into `replayer`.
    pub(super) fn recover(&self, disk: &dyn Disk, replayer: &mut Replayer<'_>) -> Result<Recovered, OpenError> {
        let Manifest { store, log_floor, floor_lsn, generation, .. } = self.manifest;
        let floor = Floor { seq: log_floor, lsn: floor_lsn, begun: generation > 1 };
        wal::recover(disk, &self.paths, store, &floor, replayer)
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
        let layouts = Arc::new(Layouts::new(&options.metrics));
        let hosts = Hosts::default();
        let mut replayer = Replayer::new(&layouts, &hosts);
        let recovered = base.recover(&*disk, &mut replayer)?;
        if let Some(problem) = recovered.chain.problems.first() {
            return Err(refusal(&base.paths, problem));
        }
        let Replayer { segments, newest, samples, head_bytes, .. } = replayer;
        let Base { paths, lock, manifest, is_new } = base;

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
        let mut read_only = None;
        if let Err(error) = committer.begin(plan.seq, next_lsn) {
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
                    let why = format!("cannot prepare {}: {error}", paths.segment(plan.seq).display());
                    log.is_full(why.clone());
                    read_only = Some(why);
                }
                _ => return Err(OpenError::io("begin", paths.segment(plan.seq))(error)),
            }
        }
        let counters = Counters::default();
        counters.head_bytes.store(head_bytes, Ordering::Relaxed);
        let store = Self {
            series: AtomicUsize::new(count_series(&hosts)),
            disk,
            paths,
            layouts,
            hosts,
            log,
            preparer,
            committer: Mutex::new(Some(committer)),
            manifest: Mutex::new(manifest),
            segments: Mutex::new(
                segments.into_iter().filter(|segment| !plan.unneeded.contains(&segment.seq)).collect(),
            ),
            newest: AtomicI64::new(newest),
            pool: Mutex::new(Vec::new()),
            counters,
            options,
            env,
            _lock: lock,
        };
        if read_only.is_none() {
            store.tidy(&plan, &recovered, next_lsn)?;
            store.segments.lock().push(SegmentInfo { seq: plan.seq, last_lsn: Lsn(next_lsn.0 - 1), newest: i64::MIN });
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
    fn tidy(&self, plan: &Plan, recovered: &Recovered, next_lsn: Lsn) -> Result<(), OpenError> {
        let mut manifest = self.manifest.lock();
        if manifest.generation == 1 || plan.moves_floor {
            if plan.moves_floor || recovered.segments.is_empty() {
                manifest.log_floor = plan.seq;
                manifest.floor_lsn = next_lsn;
            }
            self.replace_manifest(&mut manifest).map_err(OpenError::io("write", self.paths.manifest()))?;
        }
        let mut unlinked = false;
        let segments = plan.unneeded.iter().map(|&seq| self.paths.segment(seq));
        let temporary = recovered.chain.temporary.iter().map(|name| self.paths.wal().join(name));
        for path in segments.chain(temporary) {
            match self.disk.unlink(&path) {
                Ok(()) => unlinked = true,
                // Preparing the new segment took the place of an unfinished one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OpenError::io("remove", &path)(error)),
            }
        }
        if unlinked {
            self.disk.sync_dir(&self.paths.wal()).map_err(OpenError::io("sync", self.paths.wal()))?;
        }
        Ok(())
    }

    /// Makes a changed manifest durable under the next generation.
    pub(super) fn replace_manifest(&self, manifest: &mut Manifest) -> io::Result<()> {
        manifest.generation += 1;
        self.disk.replace(&self.paths.manifest(), &manifest.to_bytes())
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
    /// Whether the segment at the floor is among those.
    moves_floor: bool,
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
        // Segments at the end in which nothing was ever written are passed over, so that restarts leave no trail.
        let mut seal = recovered.end;
        let mut kept = recovered.segments.len();
        for (file, segment) in recovered.segments.iter().zip(&chain.segments).rev() {
            if file.end != BLOCK as u64 {
                break;
            }
            unneeded.push(file.seq);
            seal = segment.seal;
            kept -= 1;
        }
        Self { seq, prepared, seal, unneeded, moves_floor: kept == 0 && !recovered.segments.is_empty() }
    }
}
