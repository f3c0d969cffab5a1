//! Writes records into the bytes of a frame under construction.
//!
//! What is written here comes from our own memory, so its lengths are bounded where it was made: names at 255 bytes,
//! frames at a mebibyte.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the writer handles its own values, not foreign bytes"
)]

use super::{
    FRAME_HEADER_LEN, FrameHeader, FreeHeader, HostHeader, I64, IntoBytes, Key, LayoutHeader, Lsn, MAGIC, Place,
    ROW_HEADER_LEN, RecordHeader, RowHeader, TAG_FREE, TAG_HOST, TAG_LAYOUT, TAG_ROW_LIST, TAG_ROW_RANGE, U16, U32,
    checksum_around, offset_of, pad8, size_of,
};

/// A row to be written: sorted by ordinal, no ordinal twice, no value NaN, at least one value.
#[derive(Clone, Copy, Debug)]
pub struct RowValues<'a> {
    /// First instant of slot 0 of the run, in unix seconds.
    pub start: i64,
    /// Seconds of one slot.
    pub frequency: u32,
    /// The slot of the run.
    pub slot: u32,
    /// Ordinals, ascending.
    pub ordinals: &'a [u32],
    /// As many values.
    pub values: &'a [f64],
}

impl RowValues<'_> {
    /// The ordinals from the first to the last, as one range.
    fn span(&self) -> usize {
        match (self.ordinals.first(), self.ordinals.last()) {
            (Some(&first), Some(&last)) => last.saturating_sub(first) as usize + 1,
            _ => 0,
        }
    }

    /// Whether a range with missing values is shorter than a list.
    fn as_range(&self) -> bool {
        self.span().saturating_mul(8) <= self.values.len().saturating_mul(12)
    }

    /// Bytes of the record.
    pub fn record_len(&self) -> usize {
        let body =
            if self.as_range() { self.span() * 8 } else { pad8(self.ordinals.len() * 4) + self.values.len() * 8 };
        ROW_HEADER_LEN + body
    }
}

fn record(tag: u32, len: usize) -> RecordHeader {
    // Lengths are bounded by the frame, far below 2^32.
    RecordHeader { tag: tag.into(), len: (len as u32).into() }
}

fn pad(out: &mut Vec<u8>, record_start: usize) {
    let len = out.len() - record_start;
    out.resize(record_start + pad8(len), 0);
}

/// Appends a row; the record takes [`RowValues::record_len`] bytes.
pub fn row(out: &mut Vec<u8>, host: u32, layout: u32, row: &RowValues<'_>) {
    let is_range = row.as_range();
    let first = row.ordinals.first().copied().unwrap_or_default();
    let count = if is_range { row.span() } else { row.values.len() };
    let header = RowHeader {
        record: record(if is_range { TAG_ROW_RANGE } else { TAG_ROW_LIST }, row.record_len()),
        host: host.into(),
        layout: layout.into(),
        start: I64::new(row.start),
        frequency: row.frequency.into(),
        slot: row.slot.into(),
        first: if is_range { first } else { 0 }.into(),
        count: (count as u32).into(),
    };
    out.extend_from_slice(header.as_bytes());
    if is_range && count == row.values.len() {
        out.extend_from_slice(bytemuck::cast_slice(row.values));
    } else if is_range {
        let mut next = first;
        for (&ordinal, &value) in row.ordinals.iter().zip(row.values) {
            while next < ordinal {
                out.extend_from_slice(&f64::NAN.to_le_bytes());
                next += 1;
            }
            out.extend_from_slice(&value.to_le_bytes());
            next += 1;
        }
    } else {
        for &ordinal in row.ordinals {
            out.extend_from_slice(&ordinal.to_le_bytes());
        }
        out.resize(pad8(out.len()), 0);
        out.extend_from_slice(bytemuck::cast_slice(row.values));
    }
}

/// Bytes of one key in a layout record.
pub fn key_len(key: &Key<'_>) -> usize {
    6 + key.metric.len() + key.component.len() + key.subcomponent.len()
}

/// Bytes of a layout record with these keys.
pub fn layout_len<'a>(keys: impl Iterator<Item = Key<'a>>) -> usize {
    pad8(size_of::<LayoutHeader>() + keys.map(|key| key_len(&key)).sum::<usize>())
}

/// Appends the definition of a layout. Names are at most 65535 bytes long.
pub fn layout<'a>(out: &mut Vec<u8>, id: u32, parent: u32, keys: impl Iterator<Item = Key<'a>> + Clone) {
    let at = out.len();
    let header = LayoutHeader {
        record: record(TAG_LAYOUT, layout_len(keys.clone())),
        id: id.into(),
        parent: parent.into(),
        keys: (keys.clone().count() as u32).into(),
        reserved: 0.into(),
    };
    out.extend_from_slice(header.as_bytes());
    for key in keys {
        let names = [key.metric, key.component, key.subcomponent];
        for name in names {
            out.extend_from_slice(U16::new(name.len() as u16).as_bytes());
        }
        for name in names {
            out.extend_from_slice(name.as_bytes());
        }
    }
    pad(out, at);
}

/// Bytes of a host record.
pub fn host_len(cluster: &str, host: &str) -> usize {
    pad8(size_of::<HostHeader>() + cluster.len() + host.len())
}

/// Appends the definition of a host. Names are at most 65535 bytes long.
pub fn host(out: &mut Vec<u8>, id: u32, cluster: &str, host: &str) {
    let at = out.len();
    let header = HostHeader {
        record: record(TAG_HOST, host_len(cluster, host)),
        id: id.into(),
        cluster_len: (cluster.len() as u16).into(),
        host_len: (host.len() as u16).into(),
    };
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(cluster.as_bytes());
    out.extend_from_slice(host.as_bytes());
    pad(out, at);
}

/// Bytes of a free record.
pub fn free_len(selector: &[String]) -> usize {
    pad8(size_of::<FreeHeader>() + selector.iter().map(|part| 2 + part.len()).sum::<usize>())
}

/// Appends a free. Names are at most 65535 bytes long, and at most four.
pub fn free(out: &mut Vec<u8>, selector: &[String], to: i64) {
    let at = out.len();
    let header = FreeHeader {
        record: record(TAG_FREE, free_len(selector)),
        to: I64::new(to),
        parts: (selector.len() as u32).into(),
        reserved: 0.into(),
    };
    out.extend_from_slice(header.as_bytes());
    for part in selector {
        out.extend_from_slice(U16::new(part.len() as u16).as_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    pad(out, at);
}

/// Fills the header of a frame whose records take `used` bytes of `frame`, header included; the rest is zero.
pub fn seal(frame: &mut [u8], used: usize, place: Place, first_lsn: Lsn, rows: u32, durable: Lsn) {
    let mut header = FrameHeader {
        magic: MAGIC,
        crc: 0.into(),
        len: U32::new(frame.len() as u32),
        used: U32::new(used as u32),
        store: place.store.0,
        seq: place.seq.into(),
        offset: place.offset.into(),
        first_lsn: first_lsn.0.into(),
        durable_lsn: durable.0.into(),
        rows: rows.into(),
        reserved: 0.into(),
    };
    frame[..FRAME_HEADER_LEN].copy_from_slice(header.as_bytes());
    header.crc = checksum_around(frame, offset_of!(FrameHeader, crc)).into();
    frame[..FRAME_HEADER_LEN].copy_from_slice(header.as_bytes());
}
