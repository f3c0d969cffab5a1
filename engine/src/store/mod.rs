//! The store: the only place that joins the stages.
//!
//! A write goes decode, slot, log; the commit step makes a frame durable, links its rows into the head and only then
//! acknowledges them. A read copies what it needs out of the head under a short lock, and computes without one. No
//! thread and no clock live here: the owner calls the steps.

mod counters;
mod jobs;
mod open;
mod read;
mod replayer;
mod salvage;
mod write;

pub use crate::error::{OpenError, Unavailable};
pub use crate::wal::Durability;
pub use counters::{HistogramValues, Refusal};
pub use jobs::Progress;
pub use open::OpenReport;
pub use read::{DebugRun, DebugTree, NodeHealth};
pub use salvage::{SalvageReport, salvage};
pub use write::Written;

use crate::decode;
use crate::disk::{Disk, Lock};
use crate::env::Env;
use crate::format::manifest::{Loss, Manifest};
use crate::head::Hosts;
use crate::model::{Lsn, Metrics};
use crate::names::Layouts;
use crate::paths::Paths;
use crate::wal::{self, Committer, Log, Preparer, Pulse};
use counters::Counters;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

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
    /// Bounds on what senders can make the store hold.
    pub limits: Limits,
    /// Bytes of a log segment, a multiple of the block.
    pub segment_len: u64,
    /// What the lock file says of the holder.
    pub owner: String,
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
            limits: Limits::default(),
            segment_len: wal::SEGMENT_LEN,
            owner: format!("process {}", std::process::id()),
        }
    }
}

/// A store. All methods may be called from any thread.
#[derive(Debug)]
pub struct Store {
    env: Arc<dyn Env>,
    disk: Arc<dyn Disk>,
    paths: Paths,
    options: Options,
    layouts: Arc<Layouts>,
    hosts: Hosts,
    log: Arc<Log>,
    preparer: Arc<Preparer>,
    committer: Mutex<Option<Committer>>,
    manifest: Mutex<Manifest>,
    segments: Mutex<Vec<SegmentInfo>>,
    /// End of the newest slot that was written, in unix seconds.
    newest: AtomicI64,
    series: AtomicUsize,
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
    /// The end of the newest slot in it.
    newest: i64,
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
    /// Bytes of frames that were linked into the head since the start.
    pub head_bytes: u64,
    /// Hosts that are known.
    pub hosts: usize,
    /// Series that are known.
    pub series: usize,
    /// Bytes of prepared log files.
    pub log_bytes: u64,
    /// What was lost from the log, on request, since the store was made.
    pub losses: Vec<Loss>,
    /// The implementation of the disk.
    pub disk: &'static str,
    /// When a sample is acknowledged.
    pub durability: Durability,
}

impl Store {
    /// Why writes are refused at present, if they are.
    pub fn ready(&self) -> Result<(), Unavailable> {
        self.log.admit()
    }

    /// Calls `done` when all up to `lsn` is durable and can be read, at once if it is, or with the reason why it
    /// never will be.
    pub fn when_durable(&self, lsn: Lsn, done: Box<dyn FnOnce(Result<(), Unavailable>) + Send>) {
        self.log.when_durable(lsn, done);
    }

    /// The metrics that are kept.
    pub fn metrics(&self) -> &Metrics {
        &self.options.metrics
    }

    /// How the store is doing.
    pub fn stats(&self) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let segments = self.segments.lock().len() as u64 + 1;
        Stats {
            pulse: self.log.pulse(),
            commit_seconds: self.counters.commit_seconds(),
            commit_bytes: self.counters.commit_sizes(),
            refusals: self.counters.refusals(),
            rows: load(&self.counters.rows),
            samples: load(&self.counters.samples),
            head_bytes: load(&self.counters.head_bytes),
            hosts: self.hosts.len(),
            series: self.series.load(Ordering::Relaxed),
            log_bytes: segments * self.options.segment_len,
            losses: self.manifest.lock().losses.clone(),
            disk: self.disk.name(),
            durability: self.options.durability,
        }
    }
}

/// Whether a free's selector names something of a host; then which of its series.
fn selects_host(selector: &[String], cluster: &str, host: &str) -> bool {
    selector.first().is_none_or(|wanted| wanted == cluster) && selector.get(1).is_none_or(|wanted| wanted == host)
}

/// Whether a free's selector names a series of a host that it names.
fn selects_key(selector: &[String], key: &crate::names::Key) -> bool {
    selector.get(2).is_none_or(|wanted| **wanted == *key.component)
        && selector.get(3).is_none_or(|wanted| **wanted == *key.subcomponent)
        && selector.len() <= 4
}
