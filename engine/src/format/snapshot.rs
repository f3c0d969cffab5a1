//! The bytes of a snapshot file: its header block here, the sections that are read at open in [`index`], directories
//! and columns in [`stripe`].
//!
//! Views borrow from the mapping and are made again at each use: the *shape* (lengths, counts) is checked each time,
//! contents (checksum, order, ids) once by whoever opens or first touches. Accessors answer for any id, with nothing
//! where there is nothing, so a mapping that is lost under a reader cannot bring it down.

pub mod index;
pub mod stripe;
#[cfg(test)]
mod tests;

use super::{FormatError, StoreId, checksum_around, put_front};
use crate::disk::BLOCK;
use crate::model::Lsn;
use crate::slot::Run;
use std::mem::{offset_of, size_of};
use std::ops::Range;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of every snapshot.
pub const MAGIC: [u8; 8] = *b"kymo-snp";
/// The version this program writes and reads.
pub const VERSION: u32 = 1;
/// The data of a stripe begin at a multiple of this: a cache line, and more than the alignment of any column.
pub const STRIPE_ALIGN: u64 = 64;

const KIND: &str = "snapshot";
const DAY: i64 = 86_400;

/// The first block of a snapshot; the rest of the block is zero.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SnapshotHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32 of the whole block without this field.
    pub crc: U32,
    /// The store it belongs to.
    pub store: [u8; 16],
    /// The UTC day in which its slots begin, in days since 1970-01-01.
    pub partition: I64,
    /// The lowest LSN that a row inside may have.
    pub lsn_lo: U64,
    /// The highest that one may have.
    pub lsn_hi: U64,
    /// The length of the file in bytes.
    pub file_len: U64,
    /// Where its first slot begins, in unix seconds.
    pub min_time: I64,
    /// Where its last slot ends, in unix seconds.
    pub max_time: I64,
    /// The stripes of all hosts.
    pub stripes: U32,
    /// Zero.
    pub reserved: U32,
    /// The host index.
    pub hosts: SectionEntry,
    /// The column sets.
    pub column_sets: SectionEntry,
    /// The names.
    pub names: SectionEntry,
}

/// Where a section lies.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SectionEntry {
    /// Its first byte, a multiple of eight.
    pub offset: U64,
    /// Its length in bytes.
    pub len: U64,
    /// What it has: hosts, column sets, names.
    pub count: U32,
    /// CRC-32 of its bytes.
    pub crc: U32,
}

const _: () = assert!(
    size_of::<SnapshotHeader>() == 160
        && offset_of!(SnapshotHeader, hosts) == 88
        && offset_of!(SnapshotHeader, names) == 136
        && size_of::<SectionEntry>() == 24
);

/// Which snapshot this is: its name, in values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The store.
    pub store: StoreId,
    /// The UTC day in which its slots begin, in days since 1970-01-01.
    pub partition: i64,
    /// The lowest LSN that a row inside may have.
    pub lsn_lo: Lsn,
    /// The highest that one may have.
    pub lsn_hi: Lsn,
}

impl Identity {
    /// The partition's seconds, in unix time; `None` for a day too far away to be one.
    pub fn day(&self) -> Option<Range<i64>> {
        let begin = self.partition.checked_mul(DAY)?;
        Some(begin..begin.checked_add(DAY)?)
    }

    /// The time of `slots` slots of a run, of which each must begin in the partition; `None` where one does not.
    /// So a stripe has at most 86,400 slots.
    pub fn times(&self, run: Run, first_slot: u32, slots: u32) -> Option<Range<i64>> {
        let day = self.day()?;
        // In 128 bits nothing overflows: two factors of 32 bits and a sum of 64.
        let begin_of = |slot: u64| {
            let since = u128::from(slot).checked_mul(u128::from(run.frequency))?;
            i128::from(run.start).checked_add(i128::try_from(since).ok()?)
        };
        let end_slot = u64::from(first_slot).checked_add(u64::from(slots))?;
        let begin = i64::try_from(begin_of(u64::from(first_slot))?).ok()?;
        let last = i64::try_from(begin_of(end_slot.checked_sub(1)?)?).ok()?;
        let is_inside = slots > 0 && run.frequency > 0 && day.contains(&begin) && day.contains(&last);
        is_inside.then_some(begin..i64::try_from(begin_of(end_slot)?).ok()?)
    }
}

/// The partition in which a slot lies that begins at `time`, in unix seconds.
pub fn partition_of(time: i64) -> i64 {
    time.div_euclid(DAY)
}

/// A section that lies inside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What it has: hosts, column sets, names.
    pub count: u32,
    /// CRC-32 of its bytes.
    pub crc: u32,
}

impl Section {
    fn entry(self) -> SectionEntry {
        SectionEntry {
            offset: self.offset.into(),
            len: self.len.into(),
            count: self.count.into(),
            crc: self.crc.into(),
        }
    }

    fn of(entry: &SectionEntry) -> Self {
        Self { offset: entry.offset.get(), len: entry.len.get(), count: entry.count.get(), crc: entry.crc.get() }
    }

    /// Its end, exclusive; `None` where that is beyond any file.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

/// What a good header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which snapshot this is.
    pub identity: Identity,
    /// The length of the file in bytes.
    pub file_len: u64,
    /// From the begin of the first slot to the end of the last one, in unix seconds; empty where there is no slot.
    pub times: Range<i64>,
    /// The stripes of all hosts.
    pub stripes: u32,
    /// The host index.
    pub hosts: Section,
    /// The column sets.
    pub column_sets: Section,
    /// The names.
    pub names: Section,
}

impl Header {
    /// The header block, and the checksum in it.
    pub fn to_block(&self) -> ([u8; BLOCK], u32) {
        let mut header = SnapshotHeader {
            magic: MAGIC,
            version: VERSION.into(),
            crc: 0.into(),
            store: self.identity.store.0,
            partition: I64::new(self.identity.partition),
            lsn_lo: self.identity.lsn_lo.0.into(),
            lsn_hi: self.identity.lsn_hi.0.into(),
            file_len: self.file_len.into(),
            min_time: I64::new(self.times.start),
            max_time: I64::new(self.times.end),
            stripes: self.stripes.into(),
            reserved: 0.into(),
            hosts: self.hosts.entry(),
            column_sets: self.column_sets.entry(),
            names: self.names.entry(),
        };
        let mut block = [0; BLOCK];
        put_front(&mut block, header.as_bytes());
        let crc = checksum_around(&block, offset_of!(SnapshotHeader, crc));
        header.crc = crc.into();
        put_front(&mut block, header.as_bytes());
        (block, crc)
    }

    /// Checks the header block of a file that is `file_len` bytes long, and returns its checksum too.
    pub fn check(block: &[u8], file_len: u64) -> Result<(Self, u32), FormatError> {
        let short = FormatError::Short { have: block.len() as u64, need: BLOCK as u64 };
        let block = block.get(..BLOCK).ok_or_else(|| short.clone())?;
        let (header, rest) = SnapshotHeader::read_from_prefix(block).map_err(|_| short)?;
        if header.magic != MAGIC {
            return Err(FormatError::Magic(KIND));
        }
        let crc = header.crc.get();
        let computed = checksum_around(block, offset_of!(SnapshotHeader, crc));
        if crc != computed {
            return Err(FormatError::Checksum { found: crc, computed });
        }
        if header.version.get() != VERSION {
            return Err(FormatError::Version { kind: KIND, found: header.version.get(), known: VERSION });
        }
        if header.reserved.get() != 0 || rest.iter().any(|&byte| byte != 0) {
            return Err(FormatError::Field("reserved bytes of the snapshot header are not zero"));
        }
        let said = header.file_len.get();
        if said > file_len {
            return Err(FormatError::Short { have: file_len, need: said });
        }
        if said < file_len {
            return Err(FormatError::Field("file is longer than its header says"));
        }
        let header = Self {
            identity: Identity {
                store: StoreId(header.store),
                partition: header.partition.get(),
                lsn_lo: Lsn(header.lsn_lo.get()),
                lsn_hi: Lsn(header.lsn_hi.get()),
            },
            file_len: said,
            times: header.min_time.get()..header.max_time.get(),
            stripes: header.stripes.get(),
            hosts: Section::of(&header.hosts),
            column_sets: Section::of(&header.column_sets),
            names: Section::of(&header.names),
        };
        header.check_values()?;
        header.check_sections().ok_or(FormatError::Field("sections of the snapshot do not follow each other"))?;
        Ok((header, crc))
    }

    fn check_values(&self) -> Result<(), FormatError> {
        let day = self.identity.day().ok_or(FormatError::Field("partition is no day"))?;
        if self.times.start > self.times.end || !day.contains(&self.times.start) {
            return Err(FormatError::Field("times of the snapshot are not those of its partition"));
        }
        if self.identity.lsn_lo > self.identity.lsn_hi {
            return Err(FormatError::Field("lowest LSN of the snapshot is above the highest"));
        }
        Ok(())
    }

    /// The sections end the file, in their order, with nothing but padding between them, and their counts fit in.
    fn check_sections(&self) -> Option<()> {
        let Self { hosts, column_sets, names, .. } = self;
        let directories = u64::from(self.stripes).checked_mul(stripe::ENTRY_LEN)?;
        let is_laid_out = hosts.offset.checked_sub(BLOCK as u64)? >= directories
            && hosts.offset.is_multiple_of(8)
            && hosts.len == u64::from(hosts.count).checked_mul(index::HOST_ENTRY_LEN)?
            && column_sets.offset == hosts.end()?
            && column_sets.len >= u64::from(column_sets.count).checked_add(1)?.checked_mul(4)?
            && names.offset == column_sets.end()?.checked_next_multiple_of(8)?
            && names.len >= u64::from(names.count).checked_add(1)?.checked_mul(4)?
            && names.end()? == self.file_len;
        is_laid_out.then_some(())
    }
}

/// The store that a file says to belong to, if it begins with a good header block of this kind and version.
pub fn store_of(block: &[u8]) -> Option<StoreId> {
    let (header, _) = SnapshotHeader::read_from_prefix(block).ok()?;
    Header::check(block, header.file_len.get()).ok().map(|(header, _)| header.identity.store)
}

/// `len` bytes of the file from `offset`, or what is missing.
pub fn piece(file: &[u8], offset: u64, len: u64) -> Result<&[u8], FormatError> {
    let range = || {
        let begin = usize::try_from(offset).ok()?;
        file.get(begin..begin.checked_add(usize::try_from(len).ok()?)?)
    };
    range().ok_or(FormatError::Short { have: file.len() as u64, need: offset.saturating_add(len) })
}

/// Compares the checksum of `bytes` with the stored one.
pub fn check_crc(bytes: &[u8], found: u32) -> Result<(), FormatError> {
    let computed = crc32fast::hash(bytes);
    if found == computed { Ok(()) } else { Err(FormatError::Checksum { found, computed }) }
}
