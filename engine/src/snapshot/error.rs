//! What is wrong with a snapshot file, and where in it; why one is not written.

use crate::format::FormatError;
use crate::format::snapshot::Identity;
use crate::slot::Run;
use std::fmt;
use std::io;

/// A part of a snapshot file cannot be read. What other parts say stays true.
#[derive(Debug, thiserror::Error)]
#[error("{part} at offset {offset}: {cause}")]
pub struct SnapshotError {
    /// Which part.
    pub part: Box<Part>,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// What is wrong with it.
    pub cause: Cause,
}

/// Why a part cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The bytes are not what was written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The device does not give the bytes.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A page was lost after it had been checked: what was read since then may be zeros.
    #[error("a page could not be read; what was read through this mapping is not to be used")]
    Poisoned,
}

/// A part of a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The file as a whole.
    File,
    /// The header block.
    Header,
    /// The index of the hosts.
    HostIndex,
    /// The column sets.
    ColumnSets,
    /// The names.
    Names,
    /// The bytes between two parts.
    Padding,
    /// The directory of a host.
    Directory {
        /// Its cluster.
        cluster: String,
        /// Its name.
        host: String,
    },
    /// The columns of a stripe.
    Stripe {
        /// The cluster.
        cluster: String,
        /// The host.
        host: String,
        /// The metric.
        metric: String,
        /// First instant of its first slot, in unix seconds.
        begin: i64,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Header => f.write_str("header"),
            Self::HostIndex => f.write_str("host index"),
            Self::ColumnSets => f.write_str("column sets"),
            Self::Names => f.write_str("names"),
            Self::Padding => f.write_str("padding"),
            Self::Directory { cluster, host } => write!(f, "directory of host {host} of cluster {cluster}"),
            Self::Stripe { cluster, host, metric, begin } => {
                write!(f, "metric {metric} of host {host} of cluster {cluster} from {begin}")
            }
        }
    }
}

impl SnapshotError {
    pub(super) fn new(part: Part, offset: u64, cause: impl Into<Cause>) -> Self {
        Self { part: Box::new(part), offset, cause: cause.into() }
    }

    pub(super) fn at(part: Part, offset: u64) -> impl Fn(FormatError) -> Self {
        move |error| Self::new(part.clone(), offset, error)
    }
}

/// Why a snapshot is not written. After any of these the writer takes nothing more, and the file never appears.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The disk refused.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    /// A host came that is not behind the one before it.
    #[error("host {host} of cluster {cluster} comes out of order")]
    HostOrder {
        /// Its cluster.
        cluster: String,
        /// Its name.
        host: String,
    },
    /// A host has two stripes of one metric with one start and frequency.
    #[error("two stripes of metric {metric} have the run {run:?}")]
    StripeTwice {
        /// The metric.
        metric: String,
        /// The run.
        run: Run,
    },
    /// A stripe has two columns of one name.
    #[error("metric {metric} has two columns {component}/{subcomponent}")]
    ColumnTwice {
        /// The metric.
        metric: String,
        /// The component.
        component: String,
        /// The part of it.
        subcomponent: String,
    },
    /// A column has another number of values than its stripe has slots.
    #[error("a column of metric {metric} has {values} values for {slots} slots")]
    Ragged {
        /// The metric.
        metric: String,
        /// Values of the column.
        values: usize,
        /// Slots of the stripe.
        slots: u32,
    },
    /// A value stands in a slot that does not begin in the partition.
    #[error("metric {metric} has values outside the partition, in the run {run:?}")]
    OtherDay {
        /// The metric.
        metric: String,
        /// The run.
        run: Run,
    },
    /// The identity is not one: its day is out of range, or its lowest LSN is above the highest.
    #[error("{0:?} cannot be the identity of a snapshot")]
    Identity(Identity),
    /// More than the fields of the format can count.
    #[error("there are too many {0} for one file")]
    TooMany(&'static str),
    /// A file that is merged cannot be read.
    #[error("input {input} of the merge: {source}")]
    Input {
        /// Its position among the inputs.
        input: usize,
        /// What is wrong with it.
        source: Box<SnapshotError>,
    },
    /// The inputs of a merge are not those parts of one partition, oldest first, that the result says to hold.
    #[error("inputs of the merge are not neighbours in one partition")]
    NotNeighbours,
    /// An earlier call failed.
    #[error("an earlier part was not written")]
    Broken,
}
