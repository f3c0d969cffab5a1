//! `current.wal`: a header, then records, each with a length and the CRC-32 of its payload.
//!
//! The predecessor appends behind a torn tail and stops at it when it reads. [`read`] goes on: behind bytes that are no
//! record it looks for the next magic whose record verifies.

use super::{LEVELS, Reason, Skips, name};
use memchr::memmem;

/// The first bytes of the file.
pub const MAGIC: [u8; 4] = [0x01, 0xa7, 0x1d, 0xcc];
/// The first bytes of a record.
pub const RECORD_MAGIC: [u8; 4] = [0xa1, 0xa7, 0x1d, 0xcc];
/// The longest payload that the predecessor reads.
const PAYLOAD_MAX: usize = 1 << 20;
/// Bytes of a record beside its payload.
const AROUND: usize = 12;
/// Payloads whose checksum fails are hashed up to so many times the length of the file: a file that is full of
/// beginnings of records must not take for ever.
const WORK: u64 = 64;

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// The name of the metric.
    pub metric: &'a str,
    /// The component, empty for the host itself.
    pub component: &'a str,
    /// The part of the component, empty for the component itself.
    pub subcomponent: &'a str,
    /// Unix seconds.
    pub time: i64,
    /// The value; NaN is missing.
    pub value: f32,
}

/// Reads a file; `each` gets the records in their order.
pub fn read<'a>(bytes: &'a [u8], mut each: impl FnMut(Record<'a>)) -> Skips {
    let mut skips = Skips::default();
    let mut work = WORK.saturating_mul(bytes.len() as u64);
    let mut at = 0;
    if bytes.starts_with(&MAGIC) {
        at = MAGIC.len();
    } else if !bytes.is_empty() {
        at = next(bytes, 0, &mut work);
        skips.add(0, at, Reason::Header);
    }
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match Framed::check(rest, &mut work) {
            Ok(framed) => {
                match framed.record() {
                    Ok(record) => each(record),
                    Err(why) => skips.add(at, framed.len(), why),
                }
                at += framed.len();
            }
            Err(why) => {
                let why = if work == 0 { Reason::Hopeless } else { why };
                let found = if work == 0 { bytes.len() } else { next(bytes, at + 1, &mut work) };
                skips.add(at, found - at, why);
                at = found;
            }
        }
    }
    skips
}

/// Where the next record that verifies begins, from `from` on; the end of the file where there is none.
fn next(bytes: &[u8], from: usize, work: &mut u64) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let mut places = memmem::find_iter(rest, &RECORD_MAGIC).map(|at| from + at);
    let good = places.find(|&at| *work > 0 && Framed::check(bytes.get(at..).unwrap_or_default(), work).is_ok());
    good.unwrap_or(bytes.len())
}

/// A payload whose checksum is right.
#[derive(Clone, Copy)]
struct Framed<'a> {
    payload: &'a [u8],
}

impl<'a> Framed<'a> {
    /// The record at the begin of `bytes`.
    fn check(bytes: &'a [u8], work: &mut u64) -> Result<Self, Reason> {
        let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(if RECORD_MAGIC.starts_with(bytes) { Reason::Cut } else { Reason::Garbage });
        };
        if *magic != RECORD_MAGIC {
            return Err(Reason::Garbage);
        }
        let (len, rest) = rest.split_first_chunk::<4>().ok_or(Reason::Cut)?;
        let len = u32::from_le_bytes(*len) as usize;
        if len > PAYLOAD_MAX {
            return Err(Reason::Garbage);
        }
        let (payload, rest) = rest.split_at_checked(len).ok_or(Reason::Cut)?;
        let (crc, _) = rest.split_first_chunk::<4>().ok_or(Reason::Cut)?;
        if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
            *work = work.saturating_sub(len as u64 + 1);
            return Err(Reason::Checksum);
        }
        Ok(Self { payload })
    }

    /// Bytes of the whole record.
    fn len(self) -> usize {
        self.payload.len() + AROUND
    }

    /// The fields. A payload that they do not fill was written from a name that was too long for its length.
    fn record(self) -> Result<Record<'a>, Reason> {
        let (time, rest) = self.payload.split_first_chunk::<8>().ok_or(Reason::Fields)?;
        let (len, rest) = rest.split_first_chunk::<2>().ok_or(Reason::Fields)?;
        let (metric, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into()).ok_or(Reason::Fields)?;
        let (&count, mut rest) = rest.split_first().ok_or(Reason::Fields)?;
        let mut parts = [""; LEVELS];
        let mut is_named = true;
        for number in 0..usize::from(count) {
            let (&len, after) = rest.split_first().ok_or(Reason::Fields)?;
            let (part, after) = after.split_at_checked(len.into()).ok_or(Reason::Fields)?;
            rest = after;
            let part = name(part);
            is_named &= part.is_some();
            if let (Some(place), Some(part)) = (parts.get_mut(number), part) {
                *place = part;
            }
        }
        let value: [u8; 4] = rest.try_into().map_err(|_| Reason::Fields)?;
        if usize::from(count) > LEVELS {
            return Err(Reason::Deep);
        }
        let metric = name(metric).filter(|_| is_named).ok_or(Reason::Name)?;
        let [component, subcomponent] = parts;
        let (time, value) = (i64::from_le_bytes(*time), f32::from_le_bytes(value));
        Ok(Record { metric, component, subcomponent, time, value })
    }
}

/// Appends a record, or the reason why the format cannot hold it: names have one or two bytes for their length.
pub fn write(to: &mut Vec<u8>, record: &Record<'_>) -> Result<(), Reason> {
    let mut payload = record.time.to_le_bytes().to_vec();
    payload.extend(u16::try_from(record.metric.len()).map_err(|_| Reason::Name)?.to_le_bytes());
    payload.extend(record.metric.as_bytes());
    let parts = [record.component, record.subcomponent];
    let count = parts.iter().take_while(|part| !part.is_empty()).count();
    payload.push(u8::try_from(count).unwrap_or(u8::MAX));
    for part in &parts[..count] {
        payload.push(u8::try_from(part.len()).map_err(|_| Reason::Name)?);
        payload.extend(part.as_bytes());
    }
    payload.extend(record.value.to_le_bytes());
    to.extend(RECORD_MAGIC);
    to.extend(u32::try_from(payload.len()).map_err(|_| Reason::Name)?.to_le_bytes());
    to.extend(&payload);
    to.extend(crc32fast::hash(&payload).to_le_bytes());
    Ok(())
}
