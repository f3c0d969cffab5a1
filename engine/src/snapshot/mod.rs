//! Snapshot files: the columns of one UTC day, written once and read in place.
//!
//! Owns the way from values in memory to a file ([`Writer`]), from a mapped file to slices ([`Snapshot`]), and from
//! several files of a day to one ([`Merge`]). Promises: what is read is what was written or an error that names the
//! place, never another value; the bytes of a file depend on nothing but its identity and its values, so merging
//! gives the file that writing everything at once would have given; opening costs what names and hosts cost, and
//! memory a bit a host and a bit a stripe. Never decides which files there are, what a free hides or when to merge.

mod encode;
mod error;
mod merge;
#[cfg(test)]
mod naive;
mod read;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub use crate::format::snapshot::stripe::{Column, Columns};
pub use crate::format::snapshot::{Identity, partition_of};
pub use error::{Cause, Part, SnapshotError, WriteError};
pub use merge::{Hide, Merge};
pub use read::{Expected, HostRef, Snapshot, Stripe, Stripes};
pub use write::{ColumnData, Finished, Piece, PieceColumn, StripeData, Writer};
