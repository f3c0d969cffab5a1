//! The layers below the head: the live snapshots and the frees, as one value that is replaced as a whole.

use crate::format::manifest::{Free, LiveSnapshot};
use crate::model::Lsn;
use crate::snapshot::Snapshot;
use std::path::PathBuf;
use std::sync::Arc;

/// Seconds of a partition: one UTC day.
pub(super) const PARTITION: i64 = 86_400;

/// A mapped snapshot.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) live: LiveSnapshot,
    pub(super) path: PathBuf,
    pub(super) file: Arc<Snapshot>,
}

/// What readers capture after the head.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    /// By partition, then by LSN.
    pub(super) snapshots: Vec<Loaded>,
    /// By LSN.
    pub(super) frees: Vec<Free>,
}

impl Layers {
    /// The frees that may concern a host.
    pub(super) fn frees_of(&self, cluster: &str, host: &str) -> Vec<Free> {
        self.frees.iter().filter(|free| selects_host(&free.selector, cluster, host)).cloned().collect()
    }

    /// Whether any snapshot has a host.
    pub(super) fn has_host(&self, cluster: &str, host: &str) -> bool {
        self.snapshots.iter().any(|loaded| loaded.file.find(cluster, host).is_some())
    }

    /// Neighbours among some snapshots that may become one file: those of one partition, and no free between them. What
    /// is older than a free says which runs it took, in other partitions too: it must not be mixed with what is younger.
    pub(super) fn joinable<'a>(&'a self, snapshots: &'a [Loaded]) -> impl Iterator<Item = &'a [Loaded]> {
        snapshots.chunk_by(|a, b| {
            let (older, younger) = (a.live.lsn_hi, b.live.lsn_hi);
            let splits = |free: &Free| older <= free.lsn && free.lsn < younger;
            a.live.partition == b.live.partition && !self.frees.iter().any(splits)
        })
    }

    /// Drops the frees that nothing older than they is left for.
    pub(super) fn drop_spent_frees(&mut self, snapshot_lsn: Lsn) {
        let oldest = self.snapshots.iter().map(|loaded| loaded.live.lsn_hi).min().unwrap_or(Lsn(u64::MAX));
        self.frees.retain(|free| free.lsn > snapshot_lsn || oldest <= free.lsn);
    }
}

/// Whether a free's selector names something of a host.
pub(super) fn selects_host(selector: &[String], cluster: &str, host: &str) -> bool {
    selector.first().is_none_or(|wanted| wanted == cluster) && selector.get(1).is_none_or(|wanted| wanted == host)
}

/// Whether a free's selector that names something of a host names this series of it.
pub(super) fn selects_series(selector: &[String], component: &str, subcomponent: &str) -> bool {
    selector.get(2).is_none_or(|wanted| wanted == component)
        && selector.get(3).is_none_or(|wanted| wanted == subcomponent)
        && selector.len() <= 4
}
