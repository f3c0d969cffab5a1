//! Why something of the archive was not written or cannot be read.

use super::place::ArchiveStore;
use parquet::errors::ParquetError;
use std::io;

/// Why something of the archive was not written or cannot be read. Each names the object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The place refused.
    #[error("cannot {op} {key}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// With which object.
        key: String,
        /// What the system says.
        source: io::Error,
    },
    /// The object is not what was written. Restore it, or move it away with its day.
    #[error("{key} is damaged: {what}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// Rows could not be put into the form of the file.
    #[error("cannot write {key}: {source}")]
    Encode {
        /// The object.
        key: String,
        /// Why.
        source: ParquetError,
    },
    /// What was read back is not what was to be written. The source stays, and it is tried again.
    #[error("{key} does not read back as it was written: {what}")]
    Differs {
        /// The object.
        key: String,
        /// Where.
        what: String,
    },
    /// There are days in an archive, and nothing says where that is.
    #[error("days of {cluster} are in an archive, and the configuration does not say where: set 'cleanup.directory'")]
    NoPlace {
        /// The cluster.
        cluster: String,
    },
    /// Another store writes to the same place.
    #[error("{key} belongs to the store {owner}: give each store an archive of its own")]
    OtherStore {
        /// The object.
        key: String,
        /// The id of the other store.
        owner: String,
    },
}

impl ArchiveError {
    /// The same with the place before the object: what an operator looks for.
    #[must_use]
    pub fn at(mut self, place: &dyn ArchiveStore) -> Self {
        match &mut self {
            Self::Io { key, .. }
            | Self::Damaged { key, .. }
            | Self::Encode { key, .. }
            | Self::Differs { key, .. }
            | Self::OtherStore { key, .. } => *key = format!("{}/{key}", place.location()),
            Self::NoPlace { .. } => {}
        }
        self
    }

    pub(super) fn io(op: &'static str, key: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { op, key: key.to_owned(), source }
    }

    pub(super) fn damaged(key: &str, what: impl Into<String>) -> Self {
        Self::Damaged { key: key.to_owned(), what: what.into() }
    }

    pub(super) fn encode(key: &str) -> impl FnOnce(ParquetError) -> Self {
        move |source| Self::Encode { key: key.to_owned(), source }
    }
}
