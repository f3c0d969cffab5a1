//! The layers below the head: the live snapshots and the frees, as one value that is replaced as a whole.

use crate::format::manifest::{Archived, Free, LiveSnapshot};
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
    /// What is below the snapshots, by partition, part and cluster.
    pub(super) archived: Arc<[Archived]>,
}

impl Layers {
    /// The frees that may concern a host.
    pub(super) fn frees_of(&self, cluster: &str, host: &str) -> Vec<Free> {
        let concerns = |free: &&Free| !free.is_import() && selects_host(&free.selector, cluster, host);
        self.frees.iter().filter(concerns).cloned().collect()
    }

    /// Whether a snapshot holds what an import brought, and nothing else.
    pub(super) fn is_import(&self, loaded: &Loaded) -> bool {
        let LiveSnapshot { lsn_lo, lsn_hi, .. } = loaded.live;
        lsn_lo == lsn_hi && self.frees.iter().any(|free| free.lsn == lsn_hi && free.is_import())
    }

    /// Whether any snapshot has a host.
    pub(super) fn has_host(&self, cluster: &str, host: &str) -> bool {
        self.snapshots.iter().any(|loaded| loaded.file.find(cluster, host).is_some())
    }

    /// Neighbours among some snapshots that may become one file: those of one partition, and no free between them. What
    /// is older than a free says which runs it took, in other partitions too: it must not be mixed with what is younger.
    /// What an import brought stays by itself, for no sender goes on with its runs.
    pub(super) fn joinable<'a>(&'a self, snapshots: &'a [Loaded]) -> impl Iterator<Item = &'a [Loaded]> {
        snapshots.chunk_by(|a, b| {
            let (older, younger) = (a.live.lsn_hi, b.live.lsn_hi);
            let splits = |free: &Free| {
                let is_between = older <= free.lsn && free.lsn < younger;
                is_between || free.is_import() && free.lsn == younger
            };
            a.live.partition == b.live.partition && !self.frees.iter().any(splits)
        })
    }

    /// Up to which LSN a partition is archived.
    pub(super) fn archived_up_to(&self, partition: i64) -> Lsn {
        let parts = self.archived.iter().filter(|part| part.names.partition == partition);
        parts.map(|part| part.lsn).max().unwrap_or_default()
    }

    /// Adds what was archived. Where nothing was left to archive, that is remembered as long as there are snapshots.
    pub(super) fn add_archived(&mut self, fresh: Vec<Archived>) {
        let mut all: Vec<Archived> = self.archived.iter().cloned().chain(fresh).collect();
        all.sort_by(|a, b| {
            let key = |part: &Archived| (part.names.partition, part.names.part);
            key(a).cmp(&key(b)).then_with(|| a.names.cluster.cmp(&b.names.cluster))
        });
        self.archived = all.into();
    }

    /// Forgets that there was nothing to archive of partitions that are gone.
    pub(super) fn drop_spent_marks(&mut self) {
        let is_gone = |part: &Archived| {
            part.names.cluster.is_empty()
                && self.snapshots.iter().all(|loaded| loaded.live.partition != part.names.partition)
        };
        if self.archived.iter().any(is_gone) {
            self.archived = self.archived.iter().filter(|part| !is_gone(part)).cloned().collect();
        }
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
