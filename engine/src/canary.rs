//! Breaking the engine on purpose: a test that cannot find a bug that was put there shows little.
//!
//! Each [`Canary`] is a way in which a rule of the engine is not kept. Without the feature `sim` there is none: [`is`]
//! is a constant, and nothing of this is in the program. One thread breaks, not the process.

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "it is public with the feature"))]
#[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "some rules are broken by the simulated disk alone"))]
pub enum Canary {
    /// A frame is acknowledged before it is synced.
    AckBeforeSync,
    /// A new file's directory is not synced.
    SkipDirectorySync,
    /// Frames are taken whatever segment, offset and LSN they are for.
    AcceptMisplacedFrames,
    /// A failed write of the log is tried again, then acknowledged.
    RetryFailedSync,
    /// A recovered segment is written on, behind a torn tail.
    AppendToRecovered,
    /// Recovery reads without making durable what it reads.
    ReadWithoutSync,
    /// Recovery reads what the page cache has, not the device.
    ReadFromCache,
    /// Segments are removed before the manifest says so.
    UnlinkBeforeManifest,
    /// Retention believes the wall clock.
    RetentionTrustsClock,
    /// A snapshot is said to hold what was written while it was made.
    SnapshotClaimsMore,
    /// What a full log does not take is acknowledged.
    DropWhenFull,
    /// A read that fails is the end of the log.
    ReadErrorEndsLog,
    /// Definitions stand only in the first segment that needs them.
    SegmentsShareDefinitions,
    /// Replay places samples anew.
    ReplayDecides,
    /// The block before a frame is written again with it.
    RewriteSyncedBlock,
    /// A salvage does not record what it lost.
    SalvageForgetsLoss,
    /// After a restart the last LSN is given again.
    ReuseLsn,
    /// A snapshot does not wait for what it takes to be durable.
    SnapshotBeforeDurable,
    /// A snapshot that fails gives its rows up.
    FailedSnapshotDropsRows,
    /// A missing value takes the place of one that is there.
    MissingOverwrites,
    /// A merge passes over one of the neighbours.
    MergeSkipsNeighbour,
    /// Readers take hold of the snapshots before the head.
    CaptureSnapshotsFirst,
    /// The first sample of a host after a start begins a run of its own.
    ForgetRuns,
    /// A free is not kept when its log is gone.
    ForgetFrees,
    /// A day that is to be archived is dropped before it is.
    DropBeforeArchived,
    /// What was written to the archive is not read back.
    ArchiveUnchecked,
    /// Runs that were forgotten are not looked for when the clock goes back.
    ForgottenRunsStay,
    /// Damage in front of what was durable is the end of the log.
    DamageEndsLog,
    /// A segment does not say where the one before it ended.
    NoSeal,
    /// A missing value takes the place of one that is there, when it is read.
    MissingOverwritesInReads,
    /// After a restart nothing is known to be archived.
    ForgetArchived,
}

#[cfg(feature = "sim")]
mod switch {
    use super::Canary;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    type Hook = Rc<dyn Fn()>;

    thread_local! {
        static BROKEN: Cell<Option<Canary>> = const { Cell::new(None) };
        static AMIDST: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    impl Canary {
        /// All of them.
        pub const ALL: [Self; 31] = [
            Self::AckBeforeSync,
            Self::SkipDirectorySync,
            Self::AcceptMisplacedFrames,
            Self::RetryFailedSync,
            Self::AppendToRecovered,
            Self::ReadWithoutSync,
            Self::ReadFromCache,
            Self::UnlinkBeforeManifest,
            Self::RetentionTrustsClock,
            Self::SnapshotClaimsMore,
            Self::DropWhenFull,
            Self::ReadErrorEndsLog,
            Self::SegmentsShareDefinitions,
            Self::ReplayDecides,
            Self::RewriteSyncedBlock,
            Self::SalvageForgetsLoss,
            Self::ReuseLsn,
            Self::SnapshotBeforeDurable,
            Self::FailedSnapshotDropsRows,
            Self::MissingOverwrites,
            Self::MergeSkipsNeighbour,
            Self::CaptureSnapshotsFirst,
            Self::ForgetRuns,
            Self::ForgetFrees,
            Self::DropBeforeArchived,
            Self::ArchiveUnchecked,
            Self::ForgottenRunsStay,
            Self::DamageEndsLog,
            Self::NoSeal,
            Self::MissingOverwritesInReads,
            Self::ForgetArchived,
        ];
    }

    /// Breaks a rule in this thread, or none.
    pub fn set(canary: Option<Canary>) {
        BROKEN.set(canary);
    }

    pub(crate) fn is(canary: Canary) -> bool {
        BROKEN.get() == Some(canary)
    }

    /// Lets something happen at the next point of this thread where other threads could do it.
    pub(crate) fn set_amidst(hook: Option<Hook>) {
        AMIDST.set(hook);
    }

    pub(crate) fn amidst() {
        if let Some(hook) = AMIDST.take() {
            hook();
        }
    }
}

#[cfg(feature = "sim")]
pub use switch::set;
#[cfg(feature = "sim")]
pub(crate) use switch::{amidst, is, set_amidst};

/// Whether a rule is not kept.
#[cfg(not(feature = "sim"))]
#[inline]
pub(crate) const fn is(_canary: Canary) -> bool {
    false
}

/// A point where other threads could do something.
#[cfg(not(feature = "sim"))]
#[inline]
pub(crate) const fn amidst() {}
