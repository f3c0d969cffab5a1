//! What runs have reached.

/// A rare state that campaigns must reach now and then, or they show little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A frame was torn by a crash.
    TornTail,
    /// The machine stopped inside a recovery.
    CrashInRecovery,
    /// A body was recovered in part: it was in two frames.
    PartOfABody,
    /// What was never acknowledged was recovered.
    UnacknowledgedKept,
    /// Acknowledged samples were lost by a power cut within the interval of the durability.
    IntervalLost,
    /// A store opened for reading alone.
    ReadOnly,
    /// A commit waited for space.
    Full,
    /// The log failed.
    LogFailed,
    /// An open failed for a fault.
    OpenFailed,
    /// An operation of the recovery after a crash failed.
    FaultInRecovery,
    /// A snapshot was written.
    Snapshot,
    /// A job failed.
    JobFailed,
    /// Snapshots were merged.
    Merge,
    /// Retention dropped a partition.
    Retained,
    /// A free took something.
    Freed,
    /// Rows moved to a snapshot in the middle of a read.
    MovedAmidst,
    /// A line was refused for its time.
    RefusedTime,
    /// The wall clock went back.
    ClockBack,
    /// A dead process's write landed.
    LateWrite,
    /// A write was short or interrupted.
    ShortWrite,
    /// Damage was refused at open.
    DamageRefused,
    /// Damage was told by a query.
    DamageTold,
    /// Damage changed nothing.
    DamageUnseen,
    /// Damage at the end of the log was taken for a torn write.
    DamagedTail,
    /// A damaged log was salvaged.
    Salvaged,
    /// A second segment was begun within a life.
    Rotated,
    /// A page that a failed sync had left unwritten went out of the cache.
    GhostEvicted,
    /// A piece of the archiving was done.
    Archived,
    /// What had rotted aside was not published.
    ArchiveRefused,
    /// The archive was read.
    ArchiveRead,
}

impl Probe {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::TornTail,
        Self::CrashInRecovery,
        Self::PartOfABody,
        Self::UnacknowledgedKept,
        Self::IntervalLost,
        Self::ReadOnly,
        Self::Full,
        Self::LogFailed,
        Self::OpenFailed,
        Self::FaultInRecovery,
        Self::Snapshot,
        Self::JobFailed,
        Self::Merge,
        Self::Retained,
        Self::Freed,
        Self::MovedAmidst,
        Self::RefusedTime,
        Self::ClockBack,
        Self::LateWrite,
        Self::ShortWrite,
        Self::DamageRefused,
        Self::DamageTold,
        Self::DamageUnseen,
        Self::DamagedTail,
        Self::Salvaged,
        Self::Rotated,
        Self::GhostEvicted,
        Self::Archived,
        Self::ArchiveRefused,
        Self::ArchiveRead,
    ];
}

/// What runs have done and reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Crashes with the recovery after them.
    pub cycles: u64,
    /// Crashes that were power cuts.
    pub power_cuts: u64,
    /// Samples that were acknowledged.
    pub acknowledged: u64,
    /// Times that everything was read and held against the model.
    pub checks: u64,
    /// Times that each probe was reached, in the order of [`Probe::ALL`].
    pub probes: [u64; Probe::ALL.len()],
    /// Crashes of a [`super::Start`] that came.
    pub planned: u64,
    /// Faults of the disk that were met.
    pub faults: u64,
    /// Mixes everything that happened and everything that was read.
    pub hash: u64,
}

impl Report {
    /// Notes that a state was reached.
    pub(super) fn reach(&mut self, probe: Probe) {
        self.reach_often(probe, 1);
    }

    pub(super) fn reach_often(&mut self, probe: Probe, times: u64) {
        self.probes[probe as usize] += times;
    }

    pub(super) fn mix(&mut self, what: u64) {
        self.hash = (self.hash ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// Adds another report.
    pub fn add(&mut self, other: &Self) {
        self.cycles += other.cycles;
        self.power_cuts += other.power_cuts;
        self.acknowledged += other.acknowledged;
        self.checks += other.checks;
        self.planned += other.planned;
        self.faults += other.faults;
        for (sum, more) in self.probes.iter_mut().zip(other.probes) {
            *sum += more;
        }
        self.mix(other.hash);
    }

    /// The probes that were never reached.
    pub fn missed(&self) -> Vec<Probe> {
        Probe::ALL.into_iter().filter(|&probe| self.probes[probe as usize] == 0).collect()
    }
}
