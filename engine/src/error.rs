//! Why a store does not open, or does not take a write.

use crate::format::FormatError;
use crate::model::Lsn;
use std::io;
use std::path::PathBuf;

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk refused something.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("{} is in use: {holder}", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who holds it, as it wrote itself.
        holder: String,
    },
    /// A file is damaged where damage cannot come from a power cut.
    #[error("{} is damaged at offset {offset} (LSN {lsn}): {what}. {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// The first LSN that cannot be read.
        lsn: Lsn,
        /// What is wrong there.
        what: FormatError,
        /// What can be done.
        remedy: String,
    },
    /// A snapshot does not open.
    #[error("{source}. The log is not touched; restore the file from a copy of the directory")]
    Snapshot {
        /// Which, and what is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file that must be there is not.
    #[error("{} is missing (LSN {lsn} and on). {remedy}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The first LSN that it held.
        lsn: Lsn,
        /// What can be done.
        remedy: String,
    },
    /// The directory holds files, but not those of a store.
    #[error("{} is not a data directory of kymo: {what}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is missing or strange.
        what: String,
    },
}

impl OpenError {
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { op, path, source }
    }
}

/// Why a write is not taken, or was taken and will never be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// A write or sync of the log failed: only a restart, which recovers, helps. The first cause is kept.
    #[error("the log has failed and takes no more writes until a restart: {0}")]
    Failed(String),
    /// There is no space for the next part of the log. Writes go on by themselves when there is.
    #[error("the disk is full: {0}")]
    Full(String),
    /// More is waiting for the device than may.
    #[error("{0} bytes wait for the device")]
    Overloaded(usize),
    /// Rows and names take more memory than they may; rows leave it as fast as snapshots are written.
    #[error(
        "rows and names take {used} bytes of memory where {cap} are allowed: snapshots do not keep up, or memory-cap is small"
    )]
    Memory {
        /// Bytes that they take.
        used: u64,
        /// Bytes that they may take.
        cap: u64,
    },
    /// The store is being closed.
    #[error("the store is being closed")]
    Closed,
}
