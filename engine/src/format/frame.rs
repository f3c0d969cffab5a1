//! Frames of the log and the records in them.
//!
//! A frame is what one write makes durable: definitions of names, then rows. Ids of hosts and layouts are local to
//! the segment, so a segment can be read alone. A row carries the decision (run, slot), never the input.

#[cfg(test)]
mod tests;
pub mod write;

use super::{FormatError, StoreId, checksum_around, pad8};
use crate::canary::{self, Canary};
use crate::disk::BLOCK;
use crate::model::Lsn;
use std::mem::{offset_of, size_of};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"kfrm";

/// In front of the records of a frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// CRC-32 of the whole frame, padding included, without this field.
    pub crc: U32,
    /// Bytes of the frame with header and padding, a multiple of the block.
    pub len: U32,
    /// Bytes of header and records; zeros follow.
    pub used: U32,
    /// The store it belongs to.
    pub store: [u8; 16],
    /// The number of its segment: a frame of another file never verifies here.
    pub seq: U64,
    /// Its offset in the segment: a frame written to the wrong place never verifies there.
    pub offset: U64,
    /// The LSN of its first row.
    pub first_lsn: U64,
    /// The highest LSN that was durable when it was written.
    pub durable_lsn: U64,
    /// Rows in it; their LSNs are consecutive.
    pub rows: U32,
    /// Zero.
    pub reserved: U32,
}

/// What is wrong with a whole frame of the store that stands where it was not written: no power cut does that.
pub const MISPLACED: FormatError = FormatError::Field("frame was written for another place");

/// Bytes in front of the first record.
pub const FRAME_HEADER_LEN: usize = size_of::<FrameHeader>();
const _: () = assert!(FRAME_HEADER_LEN == 72 && offset_of!(FrameHeader, rows) == 64);

/// In front of each record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    /// What follows: one of the `TAG_` constants.
    pub tag: U32,
    /// Bytes of the record with this header and padding, a multiple of eight.
    pub len: U32,
}

/// A layout: its keys are those of the parent, then its own.
pub const TAG_LAYOUT: u32 = 1;
/// A host: its cluster and name.
pub const TAG_HOST: u32 = 2;
/// A row of values for consecutive ordinals; NaN is missing.
pub const TAG_ROW_RANGE: u32 = 3;
/// A row of values for listed ordinals.
pub const TAG_ROW_LIST: u32 = 4;
/// Everything of a selector that ended before a time is gone.
pub const TAG_FREE: u32 = 5;

/// Definition of a layout; `keys` keys follow, each three [`U16`] lengths and the bytes of metric, component and
/// subcomponent.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LayoutHeader {
    /// [`TAG_LAYOUT`] and the length.
    pub record: RecordHeader,
    /// Its id in this segment: one more than the last one.
    pub id: U32,
    /// The layout whose keys come first, 0 for none.
    pub parent: U32,
    /// Keys that follow.
    pub keys: U32,
    /// Zero.
    pub reserved: U32,
}

/// Definition of a host; the bytes of both names follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HostHeader {
    /// [`TAG_HOST`] and the length.
    pub record: RecordHeader,
    /// Its id in this segment: one more than the last one.
    pub id: U32,
    /// Bytes of the cluster's name.
    pub cluster_len: U16,
    /// Bytes of the host's name.
    pub host_len: U16,
}

/// A row: values of some series of one host in one slot. For a range, `count` values follow; for a list, `count`
/// ordinals (as [`U32`], ascending, padded to eight bytes), then as many values.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RowHeader {
    /// [`TAG_ROW_RANGE`] or [`TAG_ROW_LIST`], and the length.
    pub record: RecordHeader,
    /// The host's id in this segment.
    pub host: U32,
    /// The layout's id in this segment.
    pub layout: U32,
    /// First instant of slot 0 of the run, in unix seconds.
    pub start: I64,
    /// Seconds of one slot.
    pub frequency: U32,
    /// The slot of the run.
    pub slot: U32,
    /// The first ordinal of a range; zero in a list.
    pub first: U32,
    /// How many values there are.
    pub count: U32,
}

/// Bytes in front of the values of a range row.
pub const ROW_HEADER_LEN: usize = size_of::<RowHeader>();

/// A free; `parts` parts follow, each a [`U16`] length and its bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FreeHeader {
    /// [`TAG_FREE`] and the length.
    pub record: RecordHeader,
    /// Runs that ended before this time are gone, in unix seconds.
    pub to: I64,
    /// Names of the selector: cluster, host, component, subcomponent.
    pub parts: U32,
    /// Zero.
    pub reserved: U32,
}

const _: () = assert!(
    size_of::<RecordHeader>() == 8
        && size_of::<LayoutHeader>() == 24
        && size_of::<HostHeader>() == 16
        && ROW_HEADER_LEN == 40
        && size_of::<FreeHeader>() == 24
);

/// What a frame must be to stand where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The store.
    pub store: StoreId,
    /// The number of the segment.
    pub seq: u64,
    /// The offset in the segment.
    pub offset: u64,
}

/// A frame whose checksum and place were checked.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    header: FrameHeader,
}

impl<'a> Frame<'a> {
    /// Checks the frame that begins `bytes`, the rest of a segment.
    pub fn check(bytes: &'a [u8], place: Place) -> Result<Self, FormatError> {
        let short = |need: usize| FormatError::Short { have: bytes.len() as u64, need: need as u64 };
        let (header, _) = FrameHeader::read_from_prefix(bytes).map_err(|_| short(FRAME_HEADER_LEN))?;
        if header.magic != MAGIC {
            return Err(FormatError::Magic("log frame"));
        }
        let len = header.len.get() as usize;
        let frame = bytes.get(..len).ok_or_else(|| short(len))?;
        if len < BLOCK || !len.is_multiple_of(BLOCK) {
            return Err(FormatError::Field("length of a frame is not a multiple of the block"));
        }
        let computed = checksum_around(frame, offset_of!(FrameHeader, crc));
        if header.crc.get() != computed {
            return Err(FormatError::Checksum { found: header.crc.get(), computed });
        }
        if header.store != place.store.0 {
            return Err(FormatError::OtherStore(StoreId(header.store)));
        }
        let is_placed = header.seq.get() == place.seq && header.offset.get() == place.offset;
        if !is_placed && !canary::is(Canary::AcceptMisplacedFrames) {
            return Err(MISPLACED);
        }
        let used = header.used.get() as usize;
        let body = frame.get(FRAME_HEADER_LEN..used).ok_or(FormatError::Field("frame uses more than its length"))?;
        if header.reserved.get() != 0 || frame.get(used..).is_some_and(|rest| rest.iter().any(|&byte| byte != 0)) {
            return Err(FormatError::Field("reserved bytes of a frame are not zero"));
        }
        Ok(Self { bytes: body, header })
    }

    /// Where it begins in the segment.
    pub fn offset(&self) -> u64 {
        self.header.offset.get()
    }

    /// Bytes of the frame in the segment.
    pub fn padded_len(&self) -> u64 {
        u64::from(self.header.len.get())
    }

    /// The LSN of its first row.
    pub fn first_lsn(&self) -> Lsn {
        Lsn(self.header.first_lsn.get())
    }

    /// The LSN of the row after its last one.
    pub fn next_lsn(&self) -> Lsn {
        Lsn(self.header.first_lsn.get().saturating_add(u64::from(self.header.rows.get())))
    }

    /// The highest LSN that was durable when it was written.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.header.durable_lsn.get())
    }

    /// The bytes of the records.
    pub fn record_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records in their order. Offsets count from the first byte of the frame.
    pub fn records(&self) -> Records<'a> {
        Records { rest: self.bytes, offset: FRAME_HEADER_LEN }
    }
}

/// The records of a frame.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Records<'a> {
    /// The offset of the record in the frame, and what it says.
    type Item = Result<(usize, Record<'a>), FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset;
        let parsed = split_record(self.rest).and_then(|(tag, bytes, rest)| {
            self.rest = rest;
            self.offset = offset.saturating_add(bytes.len());
            Ok((offset, Record::parse(tag, bytes)?))
        });
        if parsed.is_err() {
            self.rest = &[];
        }
        Some(parsed)
    }
}

fn split_record(bytes: &[u8]) -> Result<(u32, &[u8], &[u8]), FormatError> {
    let (header, _) =
        RecordHeader::read_from_prefix(bytes).map_err(|_| FormatError::Field("record is shorter than its header"))?;
    let len = header.len.get() as usize;
    if len < size_of::<RecordHeader>() || !len.is_multiple_of(8) {
        return Err(FormatError::Field("length of a record is not a multiple of eight"));
    }
    let (record, rest) = bytes.split_at_checked(len).ok_or(FormatError::Field("record is longer than its frame"))?;
    Ok((header.tag.get(), record, rest))
}

/// One record, borrowed from the log.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    /// A layout.
    Layout {
        /// Its id in the segment.
        id: u32,
        /// The layout whose keys come first, 0 for none.
        parent: u32,
        /// Its own keys.
        keys: Vec<Key<'a>>,
    },
    /// A host.
    Host {
        /// Its id in the segment.
        id: u32,
        /// Its cluster.
        cluster: &'a str,
        /// Its name.
        host: &'a str,
    },
    /// A row.
    Row(Row<'a>),
    /// A free.
    Free {
        /// Runs that ended before this time, in unix seconds, are gone.
        to: i64,
        /// The names of the selector.
        selector: Vec<&'a str>,
    },
}

/// What a series is called below its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key<'a> {
    /// The name of the metric.
    pub metric: &'a str,
    /// The component, empty for the host itself.
    pub component: &'a str,
    /// The part of the component, empty for the component itself.
    pub subcomponent: &'a str,
}

impl<'a> Record<'a> {
    fn parse(tag: u32, bytes: &'a [u8]) -> Result<Self, FormatError> {
        match tag {
            TAG_LAYOUT => {
                let (header, mut rest) = read_header::<LayoutHeader>(bytes)?;
                if header.reserved.get() != 0 {
                    return Err(FormatError::Field("reserved bytes of a layout are not zero"));
                }
                let count = header.keys.get() as usize;
                // Each key has at least its lengths, so a count from the file cannot make us allocate more than it has.
                if count > rest.len() / 6 {
                    return Err(FormatError::Field("layout has more keys than bytes"));
                }
                let mut keys = Vec::with_capacity(count);
                for _ in 0..count {
                    let (lens, after) = <[U16; 3]>::read_from_prefix(rest)
                        .map_err(|_| FormatError::Field("layout ends within a key"))?;
                    rest = after;
                    let mut name = |len: U16| take_name(&mut rest, len);
                    let [metric, component, subcomponent] = lens;
                    let key =
                        Key { metric: name(metric)?, component: name(component)?, subcomponent: name(subcomponent)? };
                    keys.push(key);
                }
                check_padding(rest)?;
                Ok(Self::Layout { id: header.id.get(), parent: header.parent.get(), keys })
            }
            TAG_HOST => {
                let (header, mut rest) = read_header::<HostHeader>(bytes)?;
                let cluster = take_name(&mut rest, header.cluster_len)?;
                let host = take_name(&mut rest, header.host_len)?;
                check_padding(rest)?;
                Ok(Self::Host { id: header.id.get(), cluster, host })
            }
            TAG_ROW_RANGE | TAG_ROW_LIST => Row::parse(bytes).map(Self::Row),
            TAG_FREE => {
                let (header, mut rest) = read_header::<FreeHeader>(bytes)?;
                if header.reserved.get() != 0 || header.parts.get() > 4 {
                    return Err(FormatError::Field(
                        "free has more than four names or reserved bytes that are not zero",
                    ));
                }
                let mut selector = Vec::new();
                for _ in 0..header.parts.get() {
                    let (len, after) =
                        U16::read_from_prefix(rest).map_err(|_| FormatError::Field("free ends within a name"))?;
                    rest = after;
                    selector.push(take_name(&mut rest, len)?);
                }
                check_padding(rest)?;
                Ok(Self::Free { to: header.to.get(), selector })
            }
            _ => Err(FormatError::Field("record of an unknown kind")),
        }
    }

    /// Whether the record has an LSN of its own.
    pub fn has_lsn(&self) -> bool {
        matches!(self, Self::Row(_) | Self::Free { .. })
    }
}

fn read_header<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<(T, &[u8]), FormatError> {
    T::read_from_prefix(bytes).map_err(|_| FormatError::Field("record is shorter than its kind needs"))
}

fn take_name<'a>(rest: &mut &'a [u8], len: U16) -> Result<&'a str, FormatError> {
    let (name, after) =
        rest.split_at_checked(usize::from(len.get())).ok_or(FormatError::Field("name is longer than its record"))?;
    *rest = after;
    std::str::from_utf8(name).map_err(|_| FormatError::Field("name is not UTF-8"))
}

fn check_padding(rest: &[u8]) -> Result<(), FormatError> {
    if rest.len() >= 8 || rest.iter().any(|&byte| byte != 0) {
        return Err(FormatError::Field("record is followed by more than its padding"));
    }
    Ok(())
}

/// A row, its values in place.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    header: RowHeader,
    /// Empty for a range.
    ordinals: &'a [U32],
    values: &'a [f64],
}

impl<'a> Row<'a> {
    /// Checks the bytes of one row record. `bytes` begins at a multiple of eight in memory.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (header, rest) = read_header::<RowHeader>(bytes)?;
        let count = header.count.get() as usize;
        if header.frequency.get() == 0 || count == 0 {
            return Err(FormatError::Field("row without values or frequency"));
        }
        let is_list = header.record.tag.get() == TAG_ROW_LIST;
        let (ordinals, values) = if is_list {
            let (ordinals, values) = rest
                .split_at_checked(pad8(count.saturating_mul(4)))
                .ok_or(FormatError::Field("row has more ordinals than bytes"))?;
            let (ordinals, padding) = <[U32]>::ref_from_prefix_with_elems(ordinals, count)
                .map_err(|_| FormatError::Field("row has more ordinals than bytes"))?;
            check_padding(padding)?;
            if header.first.get() != 0 || ordinals.windows(2).any(|pair| matches!(pair, [a, b] if a.get() >= b.get())) {
                return Err(FormatError::Field("ordinals of a row do not ascend"));
            }
            (ordinals, values)
        } else {
            if header.first.get().checked_add(header.count.get()).is_none() {
                return Err(FormatError::Field("ordinals of a row overflow"));
            }
            (&[] as &[U32], rest)
        };
        let values: &[f64] =
            bytemuck::try_cast_slice(values).map_err(|_| FormatError::Field("values of a row are not aligned"))?;
        if values.len() != count {
            return Err(FormatError::Field("row has another number of values than it says"));
        }
        Ok(Self { header, ordinals, values })
    }

    /// The host's id in the segment.
    pub fn host(&self) -> u32 {
        self.header.host.get()
    }

    /// The layout's id in the segment.
    pub fn layout(&self) -> u32 {
        self.header.layout.get()
    }

    /// First instant of slot 0 of the run, in unix seconds.
    pub fn start(&self) -> i64 {
        self.header.start.get()
    }

    /// Seconds of one slot, at least 1.
    pub fn frequency(&self) -> u32 {
        self.header.frequency.get()
    }

    /// The slot of the run.
    pub fn slot(&self) -> u32 {
        self.header.slot.get()
    }

    /// The highest ordinal it has a place for.
    pub fn last_ordinal(&self) -> u32 {
        match self.ordinals.last() {
            Some(last) => last.get(),
            None => self.header.first.get().saturating_add(self.header.count.get()).saturating_sub(1),
        }
    }

    /// How many values it has a place for.
    pub fn places(&self) -> usize {
        self.values.len()
    }

    /// The first ordinal and all values, NaN where one is missing; `None` for a list.
    pub fn range(&self) -> Option<(u32, &'a [f64])> {
        self.ordinals.is_empty().then_some((self.header.first.get(), self.values))
    }

    /// The value of a series; NaN where the row has none.
    #[inline]
    pub fn value(&self, ordinal: u32) -> f64 {
        let at = if self.ordinals.is_empty() {
            ordinal.checked_sub(self.header.first.get())
        } else {
            self.ordinals.binary_search_by_key(&ordinal, |ordinal| ordinal.get()).ok().and_then(|at| at.try_into().ok())
        };
        at.and_then(|at| self.values.get(at as usize)).copied().unwrap_or(f64::NAN)
    }

    /// Its ordinals and values, without those that are missing.
    pub fn present(&self) -> impl Iterator<Item = (u32, f64)> + use<'a> {
        let (first, ordinals) = (self.header.first.get(), self.ordinals);
        self.values
            .iter()
            .enumerate()
            .map(move |(at, &value)| {
                // A row has fewer than 2^32 values, and first + count was checked.
                let ranged = || first.wrapping_add(u32::try_from(at).unwrap_or(u32::MAX));
                let ordinal = ordinals.get(at).map_or_else(ranged, |ordinal| ordinal.get());
                (ordinal, value)
            })
            .filter(|(_, value)| !value.is_nan())
    }
}
