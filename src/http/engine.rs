//! What the HTTP face asks of a store.
//!
//! Owns the trait and the values that pass through it. The store is adapted to it outside of this folder, and the
//! tests put a small one in memory behind it.

use super::diagnose::Diagnosis;
use kymo_engine::model::{Lsn, Query, Request};
pub use kymo_engine::store::EachAnswer;

/// A store as the HTTP face sees it. All calls may be made from any thread at the same time.
///
/// `write` with a small body, `when_durable` and `ready` are called on the threads that serve connections and must be
/// short; the others are called where waiting is allowed.
pub trait Engine: Send + Sync + 'static {
    /// Decodes and takes over all good lines of `body`; they are not durable yet. Lines that name no cluster belong to
    /// `default_cluster`. `complete` is false when the body was cut: its last, partial line is dropped. Lines of a
    /// cluster that is not one of `clusters`, if they are given, are refused.
    fn write(
        &self,
        body: &[u8],
        default_cluster: &str,
        complete: bool,
        clusters: Option<&[String]>,
    ) -> Result<Written, Unavailable>;

    /// Calls `done` once everything up to `lsn` is durable, maybe at once and in this thread, or with the reason why it
    /// never will be.
    fn when_durable(&self, lsn: Lsn, done: Box<dyn FnOnce(Result<(), Unavailable>) + Send>);

    /// The hosts of a cluster that have data, by name: of what is archived those with data between two times, in unix
    /// seconds.
    fn hosts(&self, cluster: &str, from: i64, to: i64) -> Result<Vec<String>, Unavailable>;

    /// Answers one query of a request: its series in order, one after the other, until `each` breaks off.
    fn evaluate(&self, request: &Request, query: &Query, each: &mut EachAnswer<'_>);

    /// Frees the runs at and below some selectors that end before `to`, in unix seconds. Durable once its LSN is. `None`
    /// if it gets late before anything is freed.
    fn free(
        &self,
        selectors: &[Vec<String>],
        to: i64,
        is_late: &dyn Fn() -> bool,
    ) -> Result<Option<Freed>, Unavailable>;

    /// What is stored at and below a selector; `None` where there is no such place. An empty selector is the root.
    fn debug(&self, selector: &[String]) -> Result<Option<DebugTree>, Unavailable>;

    /// How fresh the metrics of a node are; `None` where the node is unknown.
    fn health(&self, cluster: &str, node: &str, metrics: &[String]) -> Result<Option<NodeHealth>, Unavailable>;

    /// What is known of a metric at a host, in one cluster or in all; not put into words.
    fn diagnose(&self, cluster: Option<&str>, metric: &str, host: &str) -> Diagnosis;

    /// Whether writes are accepted, or why not.
    fn ready(&self) -> Result<(), String>;

    /// What an operator should know although writes are accepted; a line each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The engine's part of `/metrics`: Prometheus text, each line ended.
    fn metrics_text(&self) -> String;
}

/// What became of the lines of one body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Durable means: durable up to here.
    pub lsn: Lsn,
    /// Lines taken over.
    pub accepted: u64,
    /// Lines refused.
    pub refused: u64,
    /// The refused lines by reason.
    pub reasons: Vec<(&'static str, u64)>,
    /// The text for the first line that deserves the status 400.
    pub first_client_error: Option<String>,
}

/// What a `free` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Runs that are gone.
    pub runs: u64,
    /// Durable means: durable up to here.
    pub lsn: Lsn,
}

/// One place of the machine with what is stored there and below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugTree {
    /// The metrics stored here with their runs, oldest first.
    pub metrics: Vec<(String, Vec<DebugRun>)>,
    /// The places below by name.
    pub children: Vec<(String, DebugTree)>,
}

/// One run of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugRun {
    /// Its begin in unix seconds.
    pub start: i64,
    /// Its slots.
    pub len: u64,
    /// Its end in unix seconds, exclusive.
    pub end: i64,
}

/// How fresh the metrics of one node are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeHealth {
    /// Metrics with a stale series, in the order asked for.
    pub degraded: Vec<String>,
    /// Metrics without any series, in the order asked for.
    pub missing: Vec<String>,
    /// How many are neither.
    pub healthy: usize,
}

/// Why the store does not take or keep writes now, or cannot tell what it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// For people: part of the answer and of the log.
    pub reason: String,
}
