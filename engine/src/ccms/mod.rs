//! The files of the predecessor, cc-metric-store: parsers and writers.
//!
//! The parsers take bytes and give what can be told from them: arrays of values at even distances ([`Array`]), single
//! samples ([`wal::Record`]), and what was passed over and why ([`Skips`]). Any bytes survive them: no length is
//! followed or allocated from before it was compared with what is there, levels nest to a bound, and work is linear in
//! the length. They decide nothing about a store: neither which metrics are wanted nor where a value goes.
//!
//! Values of `.wal` and `.bin` are binary32; each is exact as an `f64`. NaN is a missing value.

pub mod bin;
pub mod directory;
pub mod json;
pub mod parquet;
#[cfg(test)]
mod tests;
pub mod wal;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Levels below the host that have a place in a store: component and subcomponent.
const LEVELS: usize = 2;

/// Values of one metric at one place, one every `frequency` seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'a> {
    /// The name of the metric, not empty.
    pub metric: Name<'a>,
    /// The component, empty for the host itself.
    pub component: Name<'a>,
    /// The part of the component, empty for the component itself.
    pub subcomponent: Name<'a>,
    /// The instant of the first value in unix seconds. Value `i` is that of the slot that contains
    /// `start + i * frequency`: the true time of the sample is less than half an interval away.
    pub start: i64,
    /// Seconds between two values, at least 1.
    pub frequency: u32,
    /// The values, at least one.
    pub values: Values<'a>,
}

/// A name: a part of a file, or text that arrays have in common. It is never copied for an array.
#[derive(Clone, Debug)]
pub enum Name<'a> {
    /// As it stands in a file.
    Borrowed(&'a str),
    /// As it was parsed.
    Shared(Arc<str>),
}

impl Deref for Name<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(name) => name,
            Self::Shared(name) => name,
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// Some values; NaN is missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// Little-endian binary32 numbers, as they stand in a file.
    F32(&'a [[u8; 4]]),
    /// Little-endian binary64 numbers, as they stand in a file.
    F64(&'a [[u8; 8]]),
    /// Numbers that were parsed.
    Parsed(Vec<f64>),
}

impl Values<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Parsed(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them; missing where there is none.
    #[inline]
    pub fn get(&self, at: usize) -> f64 {
        match self {
            Self::F32(values) => values.get(at).map_or(f64::NAN, |&bytes| f32::from_le_bytes(bytes).into()),
            Self::F64(values) => values.get(at).map_or(f64::NAN, |&bytes| f64::from_le_bytes(bytes)),
            Self::Parsed(values) => values.get(at).copied().unwrap_or(f64::NAN),
        }
    }
}

/// What a snapshot file (`.bin` or `.json`) holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot<'a> {
    /// The begin of the interval that it covers, in unix seconds, if that could be read.
    pub from: Option<i64>,
    /// The end, exclusive, likewise.
    pub to: Option<i64>,
    /// Its arrays, in the order of the file.
    pub arrays: Vec<Array<'a>>,
    /// What was passed over.
    pub skips: Skips,
}

/// Why a part of a file was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The file does not begin as one of its kind.
    #[error("the file does not begin as its kind does")]
    Header,
    /// The file ends within something.
    #[error("the file ends within a record")]
    Cut,
    /// Bytes between two good records that are none.
    #[error("the bytes are no record")]
    Garbage,
    /// A record whose checksum is that of other bytes.
    #[error("the checksum of a record does not match")]
    Checksum,
    /// A record whose fields do not fill it.
    #[error("the fields of a record do not fill it")]
    Fields,
    /// An array that says to have more values than its file has room or time for; how many it has was told from what
    /// follows it.
    #[error("an array says to have more values than there is room or time for in its file")]
    Count,
    /// A name that is empty or not UTF-8.
    #[error("a name is empty or not UTF-8")]
    Name,
    /// A level below the part of a component.
    #[error("a level is deeper than the part of a component")]
    Deep,
    /// An interval or a start that no array can have.
    #[error("an interval or start makes no sense")]
    Grid,
    /// The text is not the JSON of a snapshot.
    #[error("the text is not the JSON of a snapshot")]
    Json,
    /// A Parquet file that is not the predecessor's archive.
    #[error("the columns are not those of an archive of cc-metric-store")]
    Columns,
    /// A page that does not hold what it says.
    #[error("a page does not hold what its header says")]
    Page,
    /// A page of a form that no version of the predecessor writes.
    #[error("a page has a compression or encoding that is not read")]
    Encoding,
    /// A page with nulls, which no version of the predecessor writes.
    #[error("a value is null")]
    Null,
    /// Row groups that no file of this length can have.
    #[error("a row group says to have more rows or bytes than there can be in a file of this length")]
    Rows,
    /// More of the file is damaged than it pays to search through.
    #[error("too much of the file is damaged to search it further")]
    Hopeless,
}

/// A part of a file that was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Why.
    pub why: Reason,
}

/// The parts of a file that were passed over: the first few, and how much it was in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skips {
    /// The first ones.
    pub first: Vec<Skip>,
    /// How many there were.
    pub count: u64,
    /// Bytes in all of them.
    pub bytes: u64,
}

impl Skips {
    /// So many are kept one by one.
    const KEPT: usize = 16;

    pub(crate) fn add(&mut self, offset: usize, bytes: usize, why: Reason) {
        let skip = Skip { offset: offset as u64, bytes: bytes as u64, why };
        if self.first.len() < Self::KEPT {
            self.first.push(skip);
        }
        self.count += 1;
        self.bytes += skip.bytes;
    }
}

/// A name that a store can have.
fn name(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

/// An interval that an array can have, if it does not run out of time.
pub(crate) fn interval(start: i64, frequency: i64, count: usize) -> Option<u32> {
    let frequency = u32::try_from(frequency).ok().filter(|&frequency| frequency > 0)?;
    let span = i64::try_from(count).ok()?.checked_add(1)?.checked_mul(frequency.into())?;
    start.checked_add(span)?;
    start.checked_sub(frequency.into())?;
    Some(frequency)
}
