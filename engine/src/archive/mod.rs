//! The archive: days that left the hot tier, as Parquet files that anything reads.
//!
//! Owns the way from series to files ([`Writer`]), the comparison of what was written with what it was written from
//! ([`Checker`]), the small index that stands beside the files ([`Sidecar`]), and the way back from a file to the rows
//! of one metric of a host ([`Reader`]). Promises: rows are sorted as the file says; memory does not grow with the
//! partition ([`BATCH_BYTES`]); names are a function of the partition, so that writing again replaces; each byte that is
//! read was compared with a checksum, so that damage is an error that names the file, never another number. Where the
//! files are is behind [`ArchiveStore`]. Never decides what is archived, and removes nothing that was published.
//!
//! The columns are a contract with others: `docs/archive.md`.

mod batch;
mod blocks;
mod check;
mod chunk;
mod error;
mod local;
mod place;
mod read;
mod schema;
mod sidecar;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub use batch::{BATCH_BYTES, Row};
pub use check::Checker;
pub use error::ArchiveError;
pub use local::LocalDirectory;
pub use place::{ArchiveStore, NewObject};
pub use read::{Reader, SeriesRows, Stretch};
pub use schema::{COLUMNS, join_path, scope_of, split_path};
pub use sidecar::{FileEntry, Sidecar};
pub use verify::{Looked, verify};
pub use write::{Part, Writer, Written, publish};
