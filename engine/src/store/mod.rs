//! The store: the only place that joins the stages.
//!
//! A write goes decode, slot, log; the commit step makes a frame durable, links its rows into the head and only then
//! acknowledges them. A read copies what it needs out of the head under a short lock, and computes without one. No
//! thread and no clock live here: the owner calls the steps.

mod adjust;
mod archive;
mod cold;
mod compact;
mod counters;
mod diagnose;
mod export;
mod gather;
mod import;
mod jobs;
mod layers;
mod open;
mod pace;
mod read;
mod recent;
mod replayer;
mod salvage;
mod seed;
#[cfg(test)]
mod tests;
mod transpose;
mod write;

pub use crate::error::{OpenError, Unavailable};
pub use crate::wal::Durability;
pub use adjust::Adjustment;
pub use archive::ArchiveProgress;
pub use compact::{IsExempt, JobError};
pub use counters::{HistogramValues, JobStats, Refusal};
pub use diagnose::{Diagnosis, Place};
pub use export::{Export, ExportArray};
pub use import::{Import, ImportArray, ImportHost, ImportSeries, Imported};
pub(crate) use jobs::HOST_BYTES;
pub use jobs::Progress;
pub use open::OpenReport;
pub use pace::Pace;
pub use read::{DebugRun, DebugTree, EachAnswer, NodeHealth};
pub use recent::RecentRefusal;
pub use salvage::{SalvageReport, salvage};
pub use write::Written;

use crate::archive::{ArchiveStore, Reader};
use crate::decode;
use crate::disk::{Disk, Lock};
use crate::env::Env;
use crate::format::manifest::{Loss, Manifest};
use crate::head::Hosts;
use crate::model::{Lsn, Metrics};
use crate::names::{Layouts, Templates};
use crate::paths::{ArchiveLayout, Paths};
use crate::wal::{self, Committer, Log, Preparer, Pulse};
use counters::Counters;
use layers::Layers;
use parking_lot::{Mutex, RwLock};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// Rows may take as many bytes of memory as so many logs of the bound, and as many more, before writes are refused: a bound
/// that holds also where snapshots do not keep up.
const ROWS_BOUNDS: u64 = 4;
const ROWS_SLACK: u64 = 64 << 20;

/// How often the definitions of all that lives fit into the bound of the log, at least.
const DEFINITIONS: u64 = 4;

/// The most bytes that rows may take with a log of this bound.
pub(crate) const fn rows_cap(log_bound: u64) -> u64 {
    ROWS_SLACK.saturating_add(log_bound.saturating_mul(ROWS_BOUNDS))
}

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub directory: PathBuf,
    /// The metrics that are kept.
    pub metrics: Metrics,
    /// When a sample is acknowledged.
    pub durability: Durability,
    /// Seconds into the past that a sample may lie.
    pub late_window: i64,
    /// Seconds into the future that a sample may lie.
    pub skew: i64,
    /// Seconds after which data are dropped; `None` keeps them for ever.
    pub retention: Option<i64>,
    /// Where days that are older than the retention go, and are read from.
    pub archive: Option<Archive>,
    /// Bounds on what senders can make the store hold.
    pub limits: Limits,
    /// Bytes of rows and names in memory above which writes are refused; `None` is no cap.
    pub memory_cap: Option<u64>,
    /// Bytes that the log may have before its rows go into snapshots: what a restart replays at most.
    pub log_bound: u64,
    /// Bytes of a log segment, a multiple of the block.
    pub segment_len: u64,
    /// What the lock file says of the holder.
    pub owner: String,
}

/// The cold tier of a store.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Where the files are.
    pub place: Arc<dyn ArchiveStore>,
    /// How new files are named.
    pub layout: ArchiveLayout,
    /// Whether days are archived before they are dropped; otherwise what was archived is only read.
    pub is_fed: bool,
}

/// Bounds on what senders and readers can make the store hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Lengths of lines and names.
    pub decode: decode::Limits,
    /// Hosts.
    pub hosts: usize,
    /// Series of one host.
    pub series_per_host: usize,
    /// Series of all hosts.
    pub series: usize,
    /// Points that one query may compute.
    pub query_points: usize,
    /// Bytes that may wait for the device.
    pub pending_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            decode: decode::Limits::default(),
            hosts: 100_000,
            series_per_host: 20_000,
            series: 20_000_000,
            query_points: 20_000_000,
            pending_bytes: 512 << 20,
        }
    }
}

impl Options {
    /// The usual options for a directory and some metrics.
    pub fn new(directory: impl Into<PathBuf>, metrics: Metrics) -> Self {
        Self {
            directory: directory.into(),
            metrics,
            durability: Durability::Sync,
            late_window: 24 * 3600,
            skew: 3600,
            retention: None,
            archive: None,
            limits: Limits::default(),
            memory_cap: None,
            log_bound: 64 << 20,
            segment_len: wal::SEGMENT_LEN,
            owner: format!("process {}", std::process::id()),
        }
    }

    /// Bytes in the log of all the series that one host may have: their definition must fit into a segment, with room
    /// for the rows that need it.
    fn definition_max(&self) -> usize {
        usize::try_from(self.segment_len / 8).unwrap_or(usize::MAX)
    }
}

/// A store. All methods may be called from any thread.
#[derive(Debug)]
pub struct Store {
    env: Arc<dyn Env>,
    disk: Arc<dyn Disk>,
    paths: Paths,
    /// As they are in force; exchanged as a whole by [`Store::adjust`].
    options: RwLock<Arc<Options>>,
    layouts: Arc<Layouts>,
    templates: Templates,
    hosts: Hosts,
    log: Arc<Log>,
    preparer: Arc<Preparer>,
    committer: Mutex<Option<Committer>>,
    manifest: Mutex<Manifest>,
    layers: RwLock<Arc<Layers>>,
    compaction: Mutex<compact::Compaction>,
    archiving: Mutex<archive::Archiving>,
    /// Reads what was archived.
    cold: Option<Reader>,
    segments: Mutex<Vec<SegmentInfo>>,
    /// End of the newest slot that was written, in unix seconds.
    newest: AtomicI64,
    series: AtomicUsize,
    /// Bytes of the rows in the head.
    head_bytes: Arc<AtomicU64>,
    /// Bytes of names and run tables, as measured last.
    names_bytes: AtomicU64,
    /// Bytes in the log of the definitions of all that lives, as it was last measured.
    definition_bytes: AtomicU64,
    pool: Mutex<Vec<write::Batch>>,
    counters: Counters,
    _lock: Box<dyn Lock>,
}

/// A segment that the log still needs.
#[derive(Clone, Copy, Debug)]
struct SegmentInfo {
    seq: u64,
    /// The highest LSN in it or before it.
    last_lsn: Lsn,
    /// Where its last frame ends, in bytes.
    end: u64,
}

/// How the store is doing.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The log.
    pub pulse: Pulse,
    /// Seconds that commits took.
    pub commit_seconds: HistogramValues,
    /// Bytes of commits.
    pub commit_bytes: HistogramValues,
    /// What was refused since the start.
    pub refusals: Vec<Refusal>,
    /// Rows since the start.
    pub rows: u64,
    /// Samples since the start.
    pub samples: u64,
    /// Lines of samples since the start that were known from the sender's earlier ones.
    pub repeated: u64,
    /// Bytes of the rows in memory.
    pub head_bytes: u64,
    /// Bytes of names and run tables in memory, as measured last.
    pub names_bytes: u64,
    /// Hosts that are known.
    pub hosts: usize,
    /// Series that are known.
    pub series: usize,
    /// Bytes of the log that a restart would replay.
    pub log_bytes: u64,
    /// Bytes of the prepared files of the log.
    pub log_file_bytes: u64,
    /// Snapshots that live.
    pub snapshots: usize,
    /// Bytes of their files.
    pub snapshot_bytes: u64,
    /// Parts that are archived.
    pub archived_parts: usize,
    /// Rows of them.
    pub archived_rows: u64,
    /// Snapshots, merges and archived parts since the start.
    pub jobs: JobStats,
    /// What was lost from the log, on request, since the store was made.
    pub losses: Vec<Loss>,
    /// The implementation of the disk.
    pub disk: &'static str,
    /// When a sample is acknowledged.
    pub durability: Durability,
    /// The bounds.
    pub limits: Limits,
    /// Bytes of rows and names in memory above which writes are refused.
    pub memory_cap: Option<u64>,
    /// End of the interval of the newest sample, in unix seconds; `None` before the first one.
    pub newest: Option<i64>,
}

impl Store {
    /// Why writes are refused at present, if they are.
    pub fn ready(&self) -> Result<(), Unavailable> {
        self.log.admit()?;
        let options = self.options();
        let used = self.memory_bytes();
        match options.memory_cap {
            Some(cap) if used > cap => Err(Unavailable::Memory { used, cap }),
            _ => self.check_rows(),
        }
    }

    /// Whether snapshots keep up: rows are as many as a few logs of the bound have, or those who write have to wait.
    fn check_rows(&self) -> Result<(), Unavailable> {
        let used = self.head_bytes.load(Ordering::Relaxed);
        let cap = rows_cap(self.log_bound());
        if used > cap { Err(Unavailable::Memory { used, cap }) } else { Ok(()) }
    }

    /// Bytes of the log at which its rows go into snapshots: what is set, but enough for a few times the names of all
    /// that live, for these are written again into each segment.
    fn log_bound(&self) -> u64 {
        let definitions = self.definition_bytes.load(Ordering::Relaxed);
        self.options().log_bound.max(definitions.saturating_mul(DEFINITIONS))
    }

    /// Bytes of rows and names in memory.
    fn memory_bytes(&self) -> u64 {
        self.head_bytes.load(Ordering::Relaxed) + self.names_bytes.load(Ordering::Relaxed)
    }

    /// Whether rows should leave the memory before the log reaches its bound: half of the cap is for them.
    fn memory_is_short(&self) -> bool {
        self.options().memory_cap.is_some_and(|cap| {
            let rows = self.head_bytes.load(Ordering::Relaxed);
            self.memory_bytes() > cap / 2 && rows > cap / 16
        })
    }

    /// Calls `done` when all up to `lsn` is durable and can be read, at once if it is, or with the reason why it
    /// never will be.
    pub fn when_durable(&self, lsn: Lsn, done: Box<dyn FnOnce(Result<(), Unavailable>) + Send>) {
        self.log.when_durable(lsn, done);
    }

    /// The layers below the head, as they are now.
    fn layers(&self) -> Arc<Layers> {
        Arc::clone(&self.layers.read())
    }

    /// The settings that are in force now.
    pub fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read())
    }

    /// How the log is doing.
    pub fn pulse(&self) -> Pulse {
        self.log.pulse()
    }

    /// How the store is doing.
    pub fn stats(&self) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (segments, log_bytes) = {
            let segments = self.segments.lock();
            (segments.len() as u64 + 1, segments.iter().map(|segment| segment.end).sum())
        };
        let layers = self.layers();
        let options = self.options();
        Stats {
            pulse: self.log.pulse(),
            commit_seconds: self.counters.commit_seconds(),
            commit_bytes: self.counters.commit_sizes(),
            refusals: self.counters.refusals(),
            rows: load(&self.counters.rows),
            samples: load(&self.counters.samples),
            repeated: load(&self.counters.repeated),
            head_bytes: load(&self.head_bytes),
            names_bytes: load(&self.names_bytes),
            hosts: self.hosts.len(),
            series: self.series.load(Ordering::Relaxed),
            log_bytes,
            log_file_bytes: segments * options.segment_len,
            snapshots: layers.snapshots.len(),
            snapshot_bytes: layers.snapshots.iter().map(|loaded| loaded.live.file_len).sum(),
            archived_parts: layers.archived.iter().filter(|part| part.rows > 0).count(),
            archived_rows: layers.archived.iter().map(|part| part.rows).sum(),
            jobs: self.counters.jobs(),
            losses: self.manifest.lock().losses.clone(),
            disk: self.disk.name(),
            durability: options.durability,
            limits: options.limits.clone(),
            memory_cap: options.memory_cap,
            newest: Some(self.newest.load(Ordering::Relaxed)).filter(|newest| *newest > 0),
        }
    }
}
