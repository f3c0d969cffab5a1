//! The bytes of kymo's files: headers as structs, records, and the one step from bytes to values.
//!
//! Bytes become values once: an `Unchecked` view is checked against the length of what is there, and only what
//! passed is used. No length or offset is followed or allocated from before its check. Parsers survive any bytes.
//! What follows is the description for readers without this source.
#![doc = include_str!("../../../docs/format.md")]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod frame;
pub mod manifest;
pub mod segment;
pub mod snapshot;

#[cfg(target_endian = "big")]
compile_error!("columns in kymo's files are native little-endian f64: a big-endian machine would read them wrongly");

/// Identifies a store: every file of it carries this, and files of another store are never taken for its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl std::fmt::Debug for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is wrong with bytes that should have been a file of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// There are fewer bytes than the structure needs.
    #[error("ends after {have} bytes where {need} are needed")]
    Short {
        /// Bytes that are there.
        have: u64,
        /// Bytes that are needed.
        need: u64,
    },
    /// The first bytes are not those of this kind of file.
    #[error("does not begin with the magic of a {0}")]
    Magic(&'static str),
    /// Written by a kymo that this one does not know.
    #[error(
        "{kind} version {found} is not known here (this is version {known}); use the kymo that wrote it or a newer one"
    )]
    Version {
        /// The kind of file.
        kind: &'static str,
        /// What the file says.
        found: u32,
        /// What this program writes.
        known: u32,
    },
    /// The checksum does not fit the bytes.
    #[error("checksum is {found:08x} where the bytes give {computed:08x}")]
    Checksum {
        /// The stored checksum.
        found: u32,
        /// The computed one.
        computed: u32,
    },
    /// The file belongs to another store.
    #[error("belongs to store {0}")]
    OtherStore(StoreId),
    /// The checksum holds but a field makes no sense.
    #[error("{0}")]
    Field(&'static str),
}

/// CRC-32 (IEEE 802.3) of `bytes` without the four at `hole`, where the checksum itself stands.
fn checksum_around(bytes: &[u8], hole: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..hole).unwrap_or(bytes));
    hasher.update(bytes.get(hole.saturating_add(4)..).unwrap_or_default());
    hasher.finalize()
}

/// Copies `bytes` to the front of `to`.
fn put_front(to: &mut [u8], bytes: &[u8]) {
    for (to, from) in to.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// `len` rounded up to a multiple of eight, the alignment of every record.
pub(crate) const fn pad8(len: usize) -> usize {
    len.saturating_add(7) & !7
}
