//! The manifest: which store this is, where its log begins, and what was lost from it.

use super::{FormatError, StoreId, checksum_around, put_front};
use crate::model::Lsn;
use std::mem::{offset_of, size_of};
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of a manifest.
pub const MAGIC: [u8; 8] = *b"kymo-man";
/// The version this program writes and reads.
pub const VERSION: u32 = 1;

/// In front of the losses.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ManifestHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32 of the whole file without this field.
    pub crc: U32,
    /// The store.
    pub store: [u8; 16],
    /// Grows by one with each replacement.
    pub generation: U64,
    /// The number of the first segment that is needed.
    pub log_floor: U64,
    /// No row of the log above the floor has an LSN below this one.
    pub floor_lsn: U64,
    /// Losses that follow.
    pub losses: U32,
    /// Zero.
    pub reserved: U32,
}

/// A part of the log that was set aside, on request, because it was damaged.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LossRecord {
    /// The number of the segment.
    pub seq: U64,
    /// Where the damage begins in it.
    pub offset: U64,
    /// Bytes that were set aside.
    pub bytes: U64,
    /// The first LSN that is gone.
    pub first_lsn: U64,
    /// The last LSN that is known to be gone, 0 where nobody knows.
    pub last_lsn: U64,
    /// When it was set aside, in unix seconds.
    pub time: I64,
}

const _: () = assert!(
    size_of::<ManifestHeader>() == 64 && offset_of!(ManifestHeader, losses) == 56 && size_of::<LossRecord>() == 48
);

/// A part of the log that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The number of the segment.
    pub seq: u64,
    /// Where the damage begins in it, in bytes.
    pub offset: u64,
    /// Bytes that were set aside.
    pub bytes: u64,
    /// The first LSN that is gone.
    pub first_lsn: Lsn,
    /// The last LSN that is known to be gone.
    pub last_lsn: Option<Lsn>,
    /// When it was set aside, in unix seconds.
    pub time: i64,
}

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The store.
    pub store: StoreId,
    /// Grows by one with each replacement.
    pub generation: u64,
    /// The number of the first segment that is needed.
    pub log_floor: u64,
    /// No row at or above the floor has a lower LSN; the next LSN of the store is never below it.
    pub floor_lsn: Lsn,
    /// What was lost, oldest first.
    pub losses: Vec<Loss>,
}

impl Manifest {
    /// The manifest of a store that has nothing yet.
    pub fn new(store: StoreId) -> Self {
        Self { store, generation: 1, log_floor: 1, floor_lsn: Lsn(1), losses: Vec::new() }
    }

    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = ManifestHeader {
            magic: MAGIC,
            version: VERSION.into(),
            crc: 0.into(),
            store: self.store.0,
            generation: self.generation.into(),
            log_floor: self.log_floor.into(),
            floor_lsn: self.floor_lsn.0.into(),
            losses: u32::try_from(self.losses.len()).unwrap_or(u32::MAX).into(),
            reserved: 0.into(),
        };
        let mut bytes = header.as_bytes().to_vec();
        for loss in &self.losses {
            let record = LossRecord {
                seq: loss.seq.into(),
                offset: loss.offset.into(),
                bytes: loss.bytes.into(),
                first_lsn: loss.first_lsn.0.into(),
                last_lsn: loss.last_lsn.map_or(0, |lsn| lsn.0).into(),
                time: I64::new(loss.time),
            };
            bytes.extend_from_slice(record.as_bytes());
        }
        let hole = offset_of!(ManifestHeader, crc);
        let crc = U32::new(checksum_around(&bytes, hole));
        put_front(bytes.get_mut(hole..).unwrap_or_default(), crc.as_bytes());
        bytes
    }

    /// Checks the content of a manifest.
    pub fn check(bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, rest) = ManifestHeader::read_from_prefix(bytes)
            .map_err(|_| FormatError::Short { have: bytes.len() as u64, need: size_of::<ManifestHeader>() as u64 })?;
        if header.magic != MAGIC {
            return Err(FormatError::Magic("manifest"));
        }
        let computed = checksum_around(bytes, offset_of!(ManifestHeader, crc));
        if header.crc.get() != computed {
            return Err(FormatError::Checksum { found: header.crc.get(), computed });
        }
        if header.version.get() != VERSION {
            return Err(FormatError::Version { kind: "manifest", found: header.version.get(), known: VERSION });
        }
        let count = header.losses.get() as usize;
        let (losses, end) = <[LossRecord]>::ref_from_prefix_with_elems(rest, count)
            .map_err(|_| FormatError::Field("manifest has more losses than bytes"))?;
        if !end.is_empty() || header.reserved.get() != 0 || header.log_floor.get() == 0 {
            return Err(FormatError::Field(
                "manifest has bytes behind its losses, or reserved bytes that are not zero",
            ));
        }
        let losses = losses
            .iter()
            .map(|record| Loss {
                seq: record.seq.get(),
                offset: record.offset.get(),
                bytes: record.bytes.get(),
                first_lsn: Lsn(record.first_lsn.get()),
                last_lsn: Some(Lsn(record.last_lsn.get())).filter(|lsn| lsn.0 != 0),
                time: record.time.get(),
            })
            .collect();
        Ok(Self {
            store: StoreId(header.store),
            generation: header.generation.get(),
            log_floor: header.log_floor.get(),
            floor_lsn: Lsn(header.floor_lsn.get()),
            losses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_reads_back_and_every_flipped_or_missing_byte_is_refused() {
        let mut manifest = Manifest::new(StoreId([7; 16]));
        manifest.losses.push(Loss {
            seq: 4,
            offset: 8192,
            bytes: 12288,
            first_lsn: Lsn(99),
            last_lsn: None,
            time: 1_700_000_000,
        });
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::check(&bytes), Ok(manifest));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Manifest::check(&flipped).is_err(), "byte {at}");
            assert!(Manifest::check(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn manifest_bytes_are_pinned() {
        let bytes = Manifest::new(StoreId([0xab; 16])).to_bytes();
        let mut expected = b"kymo-man\x01\0\0\0".to_vec();
        expected.extend(0_u32.to_le_bytes());
        expected.extend([0xab; 16]);
        for field in [1_u64, 1, 1, 0] {
            expected.extend(field.to_le_bytes());
        }
        let crc = checksum_around(&expected, 12);
        expected[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(bytes, expected);
    }
}
