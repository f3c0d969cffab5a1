//! The directory of a host and the columns of a stripe.

use super::super::{FormatError, pad8};
use super::index::{ColumnSets, Names};
use super::{Identity, STRIPE_ALIGN};
use crate::slot::Run;
use std::borrow::Cow;
use std::mem::{offset_of, size_of};
use std::ops::Range;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A column of `f64`.
pub const TAG_F64: u8 = 1;
/// A column of `f32`: each value is the same as `f64`, bit by bit, or missing.
pub const TAG_F32: u8 = 2;
/// One `f64` that stands in every slot.
pub const TAG_CONSTANT: u8 = 3;

/// A missing value of an `f64` column. Readers take any NaN for missing.
pub const MISSING_F64: f64 = f64::from_bits(0x7ff8_0000_0000_0000);
/// A missing value of an `f32` column.
pub const MISSING_F32: f32 = f32::from_bits(0x7fc0_0000);

/// A stripe, in the order of (metric by the bytes of its name, start, frequency).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StripeEntry {
    /// Name id of the metric.
    pub metric: U32,
    /// Its column set.
    pub column_set: U32,
    /// First instant of slot 0 of the run, in unix seconds.
    pub start: I64,
    /// Seconds of one slot, at least 1.
    pub frequency: U32,
    /// The slot of the run that its columns begin with.
    pub first_slot: U32,
    /// The slots of each column, at least 1.
    pub slots: U32,
    /// The columns, as many as the set has.
    pub columns: U32,
    /// Where its data begin, a multiple of [`STRIPE_ALIGN`].
    pub offset: U64,
    /// Bytes of its data, a multiple of eight.
    pub len: U64,
    /// CRC-32 of its data.
    pub crc: U32,
    /// Zero.
    pub reserved: U32,
}

/// Bytes of a [`StripeEntry`].
pub const ENTRY_LEN: u64 = size_of::<StripeEntry>() as u64;

const _: () = assert!(ENTRY_LEN == 56 && offset_of!(StripeEntry, offset) == 32);

impl StripeEntry {
    /// The grid that its slots are on.
    pub fn run(&self) -> Run {
        Run { start: self.start.get(), frequency: self.frequency.get() }
    }
}

/// The stripes in the bytes of a directory.
pub fn split_directory(bytes: &[u8]) -> Result<&[StripeEntry], FormatError> {
    <[StripeEntry]>::ref_from_bytes(bytes).map_err(|_| FormatError::Field("directory ends within a stripe"))
}

/// What the stripes of a directory are checked against.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The file.
    pub identity: Identity,
    /// The time that the header names.
    pub times: Range<i64>,
    /// The bytes of the file that the data of the host's stripes fill.
    pub data: Range<u64>,
    /// The file's names.
    pub names: Names<'a>,
    /// The file's column sets.
    pub column_sets: ColumnSets<'a>,
}

impl Surroundings<'_> {
    /// Checks that stripes rise by their key, lie in the partition, and fill the host's data one behind the other.
    pub fn check(&self, stripes: &[StripeEntry]) -> Result<(), FormatError> {
        let mut at = self.data.start;
        let mut before = None;
        for stripe in stripes {
            let key = (self.names.bytes(stripe.metric), stripe.start.get(), stripe.frequency.get());
            if !self.names.has(stripe.metric) || stripe.reserved.get() != 0 {
                return Err(FormatError::Field("stripe has no metric or reserved bytes that are not zero"));
            }
            if before.is_some_and(|before| before >= key) {
                return Err(FormatError::Field("stripes do not rise by metric, start and frequency"));
            }
            let columns = self.column_sets.get(stripe.column_set).len();
            if columns == 0 || columns != stripe.columns.get() as usize {
                return Err(FormatError::Field("stripe has another number of columns than its set"));
            }
            let times = self.identity.times(stripe.run(), stripe.first_slot.get(), stripe.slots.get());
            if !times.is_some_and(|times| self.times.start <= times.start && times.end <= self.times.end) {
                return Err(FormatError::Field("slots of a stripe are not in the time of its file"));
            }
            let offset = stripe.offset.get();
            if at.checked_next_multiple_of(STRIPE_ALIGN) != Some(offset) || !stripe.len.get().is_multiple_of(8) {
                return Err(FormatError::Field("data of a stripe are not behind those of the one before"));
            }
            at = offset.saturating_add(stripe.len.get());
            before = Some(key);
        }
        if at == self.data.end {
            Ok(())
        } else {
            Err(FormatError::Field("data of the stripes do not end at their directory"))
        }
    }
}

/// The columns of a stripe, in place.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    tags: &'a [u8],
    arrays: &'a [u8],
    slots: usize,
}

/// One column, in place. Missing values are NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Column<'a> {
    /// As written.
    F64(&'a [f64]),
    /// Values that are the same as `f32`.
    F32(&'a [f32]),
    /// The same value, never missing, in every slot.
    Constant {
        /// The value.
        value: f64,
        /// How often it stands.
        slots: usize,
    },
}

impl<'a> Columns<'a> {
    /// Checks the data of a stripe: known tags, arrays that fill the bytes, padding of zeros. `bytes` begins at a
    /// multiple of eight in memory.
    pub fn check(bytes: &'a [u8], columns: u32, slots: u32) -> Result<Self, FormatError> {
        let (columns, slots) = (columns as usize, slots as usize);
        let short = FormatError::Field("stripe has fewer bytes than tags");
        let (tags, arrays) = bytes.split_at_checked(pad8(columns)).ok_or_else(|| short.clone())?;
        let (tags, padding) = tags.split_at_checked(columns).ok_or(short)?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(FormatError::Field("reserved bytes of a stripe are not zero"));
        }
        let columns = Self { tags, arrays, slots };
        let mut at = 0_usize;
        for &tag in tags {
            let len = array_len(tag, slots).ok_or(FormatError::Field("column of an unknown encoding"))?;
            let wrong = FormatError::Field("columns of a stripe do not fill it, or are not aligned");
            columns.read(tag, at).ok_or(wrong)?;
            at = at.saturating_add(len);
        }
        if at == arrays.len() { Ok(columns) } else { Err(FormatError::Field("stripe is longer than its columns")) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Never for a stripe of a file.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The slots of each.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// A column by its position in the stripe's column set. Skips those before it by their tags; whoever wants
    /// all takes [`Columns::iter`].
    pub fn column(&self, at: usize) -> Option<Column<'a>> {
        let (before, from) = self.tags.split_at_checked(at)?;
        let skipped = before.iter().map(|&tag| array_len(tag, self.slots).unwrap_or(0));
        self.read(*from.first()?, skipped.fold(0, usize::saturating_add))
    }

    /// The columns in their order.
    pub fn iter(&self) -> impl Iterator<Item = Column<'a>> + use<'a> {
        let (columns, mut at) = (*self, 0_usize);
        self.tags.iter().map_while(move |&tag| {
            let column = columns.read(tag, at);
            at = at.saturating_add(array_len(tag, columns.slots)?);
            column
        })
    }

    fn read(&self, tag: u8, at: usize) -> Option<Column<'a>> {
        let array = self.arrays.get(at..)?.get(..array_len(tag, self.slots)?)?;
        match tag {
            TAG_F64 => bytemuck::try_cast_slice(array).ok().map(Column::F64),
            TAG_F32 => {
                let (values, padding) = bytemuck::try_cast_slice(array).ok()?.split_at_checked(self.slots)?;
                padding.iter().all(|&value: &f32| value.to_bits() == 0).then_some(Column::F32(values))
            }
            _ => {
                let value = f64::from_le_bytes(array.try_into().ok()?);
                (!value.is_nan()).then_some(Column::Constant { value, slots: self.slots })
            }
        }
    }
}

impl<'a> Column<'a> {
    /// Its slots.
    pub fn len(&self) -> usize {
        match *self {
            Self::F64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Constant { slots, .. } => slots,
        }
    }

    /// Whether it has no slot, which no column of a file has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a slot, counted from the stripe's first; NaN where it is missing or there is no such slot.
    #[inline]
    pub fn get(&self, slot: usize) -> f64 {
        match *self {
            Self::F64(values) => values.get(slot).copied().unwrap_or(f64::NAN),
            Self::F32(values) => values.get(slot).copied().map_or(f64::NAN, f64::from),
            Self::Constant { value, slots } if slot < slots => value,
            Self::Constant { .. } => f64::NAN,
        }
    }

    /// All values as `f64`: in place where they are, a copy otherwise.
    pub fn to_cow(&self) -> Cow<'a, [f64]> {
        match *self {
            Self::F64(values) => Cow::Borrowed(values),
            Self::F32(values) => values.iter().copied().map(f64::from).collect(),
            Self::Constant { value, slots } => Cow::Owned(vec![value; slots]),
        }
    }
}

/// Bytes of a column's array; `None` for an unknown tag.
fn array_len(tag: u8, slots: usize) -> Option<usize> {
    match tag {
        TAG_F64 => slots.checked_mul(8),
        TAG_F32 => slots.checked_mul(4).map(pad8),
        TAG_CONSTANT => Some(8),
        _ => None,
    }
}
