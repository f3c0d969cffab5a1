//! What a rig has seen, in one line at the end.

use crate::client::Client;
use crate::journal::Fault;
use std::fmt;
use std::time::Duration;

/// Faults that are told one by one; the rest is counted.
const TOLD: u64 = 10;

/// The counts of one rig.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Times that power, disk or life was taken, and all was read back.
    pub(crate) cycles: u64,
    /// Samples that were acknowledged.
    pub(crate) acknowledged: usize,
    lost: u64,
    wrong: u64,
    invented: u64,
    /// From the start of a process until it takes writes.
    pub(crate) opens: Vec<Duration>,
    snapshots: u64,
    merges: u64,
    /// What else is to be said.
    pub(crate) notes: Vec<String>,
    is_quiet: bool,
}

impl Tally {
    /// A tally of a run that is meant to go wrong: faults are counted and not told.
    pub(crate) fn quiet() -> Self {
        Self { is_quiet: true, ..Self::default() }
    }

    pub(crate) fn fault(&mut self, fault: Fault, tell: impl FnOnce() -> String) {
        if !self.is_quiet && self.faults() < TOLD {
            eprintln!("{}", tell());
        }
        *match fault {
            Fault::Lost => &mut self.lost,
            Fault::Wrong => &mut self.wrong,
            Fault::Invented => &mut self.invented,
        } += 1;
    }

    /// Counts what a server has written besides its log, just before it dies.
    pub(crate) fn count_jobs(&mut self, client: &Client) {
        let count = |name| client.metric(name).unwrap_or_default();
        self.snapshots += count("kymo_snapshot_files_total");
        self.merges += count("kymo_merge_files_total");
    }

    /// All faults together.
    pub(crate) fn faults(&self) -> u64 {
        self.lost + self.wrong + self.invented
    }

    /// Milliseconds below which that share of the opens stayed.
    fn open_millis(&self, percent: usize) -> u128 {
        let mut opens = self.opens.clone();
        opens.sort();
        let at = (opens.len() * percent / 100).min(opens.len().saturating_sub(1));
        opens.get(at).map_or(0, Duration::as_millis)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cycles, acknowledged, lost, wrong, invented, .. } = self;
        write!(
            f,
            "{cycles} cycles, {acknowledged} samples acknowledged, {lost} lost, {wrong} wrong, {invented} invented"
        )?;
        // Some rigs do not count them.
        if self.snapshots > 0 {
            write!(f, ", {} snapshots and {} merges", self.snapshots, self.merges)?;
        }
        write!(f, ", open p50 {} ms, p99 {} ms", self.open_millis(50), self.open_millis(99))?;
        self.notes.iter().try_for_each(|note| write!(f, ", {note}"))
    }
}
