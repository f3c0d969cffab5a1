//! The header block of a log segment.

use super::{FormatError, StoreId, checksum_around, put_front};
use crate::disk::BLOCK;
use crate::model::Lsn;
use std::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of every segment.
pub const MAGIC: [u8; 8] = *b"kymo-wal";
/// The version this program writes and reads.
pub const VERSION: u32 = 1;

/// The first block of a segment; the rest of the block is zero.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SegmentHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32 of the whole block without this field.
    pub crc: U32,
    /// The store it belongs to.
    pub store: [u8; 16],
    /// Its number, the one in the file name; never reused.
    pub seq: U64,
    /// The LSN of its first row.
    pub first_lsn: U64,
    /// The prepared length of the file in bytes.
    pub len: U64,
    /// The number of the segment before it, 0 for none.
    pub seal_seq: U64,
    /// Where the last good frame of that segment ends.
    pub seal_end: U64,
    /// The last LSN in that segment.
    pub seal_lsn: U64,
}

const _: () = assert!(size_of::<SegmentHeader>() == 80 && offset_of!(SegmentHeader, seal_lsn) == 72);

/// How a segment ended, as its successor tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The number of the sealed segment.
    pub seq: u64,
    /// Where its last frame ends, in bytes.
    pub end: u64,
    /// The last LSN that it, or a segment before it, holds.
    pub last_lsn: Lsn,
}

/// What a good header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The store it belongs to.
    pub store: StoreId,
    /// Its number.
    pub seq: u64,
    /// The LSN that its first row has or would have.
    pub first_lsn: Lsn,
    /// The prepared length of the file in bytes.
    pub len: u64,
    /// How its predecessor ended; `None` in the first segment of a store.
    pub seal: Option<Seal>,
}

impl Segment {
    /// The header block of this segment.
    pub fn to_block(self) -> [u8; BLOCK] {
        let seal = self.seal.unwrap_or(Seal { seq: 0, end: 0, last_lsn: Lsn(0) });
        let mut header = SegmentHeader {
            magic: MAGIC,
            version: VERSION.into(),
            crc: 0.into(),
            store: self.store.0,
            seq: self.seq.into(),
            first_lsn: self.first_lsn.0.into(),
            len: self.len.into(),
            seal_seq: seal.seq.into(),
            seal_end: seal.end.into(),
            seal_lsn: seal.last_lsn.0.into(),
        };
        let mut block = [0; BLOCK];
        put_front(&mut block, header.as_bytes());
        header.crc = checksum_around(&block, offset_of!(SegmentHeader, crc)).into();
        put_front(&mut block, header.as_bytes());
        block
    }

    /// Checks the header block of a file that is `file_len` bytes long.
    pub fn check(block: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let need = BLOCK as u64;
        let short = FormatError::Short { have: block.len() as u64, need };
        let block = block.get(..BLOCK).ok_or_else(|| short.clone())?;
        let (header, rest) = SegmentHeader::read_from_prefix(block).map_err(|_| short)?;
        if header.magic != MAGIC {
            return Err(FormatError::Magic("log segment"));
        }
        let computed = checksum_around(block, offset_of!(SegmentHeader, crc));
        if header.crc.get() != computed {
            return Err(FormatError::Checksum { found: header.crc.get(), computed });
        }
        if header.version.get() != VERSION {
            return Err(FormatError::Version { kind: "log segment", found: header.version.get(), known: VERSION });
        }
        if rest.iter().any(|&byte| byte != 0) {
            return Err(FormatError::Field("reserved bytes of the segment header are not zero"));
        }
        if header.len.get() > file_len {
            return Err(FormatError::Short { have: file_len, need: header.len.get() });
        }
        let seal = (header.seal_seq.get() != 0).then(|| Seal {
            seq: header.seal_seq.get(),
            end: header.seal_end.get(),
            last_lsn: Lsn(header.seal_lsn.get()),
        });
        if header.seq.get() == 0 || seal.is_some_and(|seal| seal.seq >= header.seq.get()) {
            return Err(FormatError::Field("segment number is not above that of the segment it seals"));
        }
        Ok(Self {
            store: StoreId(header.store),
            seq: header.seq.get(),
            first_lsn: Lsn(header.first_lsn.get()),
            len: header.len.get(),
            seal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Segment {
        Segment {
            store: StoreId([0x11; 16]),
            seq: 3,
            first_lsn: Lsn(0x102),
            len: 0x0001_0000,
            seal: Some(Seal { seq: 2, end: 0x3000, last_lsn: Lsn(0x101) }),
        }
    }

    #[test]
    fn header_bytes_are_pinned() {
        let block = example().to_block();
        let mut expected = b"kymo-wal\x01\0\0\0".to_vec();
        expected.extend(0xe7f9_fb01_u32.to_le_bytes());
        expected.extend([0x11; 16]);
        for field in [3_u64, 0x102, 0x1_0000, 2, 0x3000, 0x101] {
            expected.extend(field.to_le_bytes());
        }
        assert_eq!(block[..80], expected[..]);
        assert!(block[80..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn header_reads_back_and_every_flipped_byte_is_refused() {
        let block = example().to_block();
        assert_eq!(Segment::check(&block, 0x1_0000), Ok(example()));
        for at in (0..block.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
            let mut flipped = block;
            flipped[at] ^= 0x40;
            assert!(Segment::check(&flipped, 0x1_0000).is_err(), "byte {at}");
        }
        for len in (0..block.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
            assert!(Segment::check(&block[..len], 0x1_0000).is_err(), "cut at {len}");
        }
        assert!(matches!(Segment::check(&block, 0xffff), Err(FormatError::Short { .. })));
    }

    #[test]
    fn unknown_version_is_named() {
        let mut block = example().to_block();
        block[8] = 9;
        let crc = checksum_around(&block, 12);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(
            Segment::check(&block, 0x1_0000),
            Err(FormatError::Version { kind: "log segment", found: 9, known: VERSION })
        );
    }
}
