//! Puts checksums right that a mutation broke, so that what stands behind them is reached. Bytes that make no sense are
//! left alone, and the work is bounded by a multiple of the length.

use kymo_engine::disk::BLOCK;
use kymo_engine::format::frame::{self, FrameHeader};
use kymo_engine::format::manifest::ManifestHeader;
use kymo_engine::format::segment::SegmentHeader;
use kymo_engine::format::snapshot::index::HostEntry;
use kymo_engine::format::snapshot::stripe::StripeEntry;
use kymo_engine::format::snapshot::{SectionEntry, SnapshotHeader};
use std::mem::offset_of;
use std::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// Directories and stripes of a snapshot may overlap in hostile files: so many times its length is checksummed.
const WORK: u64 = 16;

/// The checksum of a manifest.
pub(crate) fn manifest(bytes: &mut [u8]) {
    around(bytes, offset_of!(ManifestHeader, crc));
}

/// The checksum of a segment's header block.
pub(crate) fn segment_header(bytes: &mut [u8]) {
    if let Some(block) = bytes.get_mut(..BLOCK) {
        around(block, offset_of!(SegmentHeader, crc));
    }
}

/// The checksum of the frame at `offset`, if there is one by its magic and length. Returns its bytes.
pub(crate) fn frame(bytes: &mut [u8], offset: usize) -> Option<Range<usize>> {
    let (header, _) = FrameHeader::read_from_prefix(bytes.get(offset..)?).ok()?;
    let len = header.len.get() as usize;
    let range = offset..offset.checked_add(len)?;
    let is_frame = header.magic == frame::MAGIC && len >= BLOCK && len.is_multiple_of(BLOCK);
    around(bytes.get_mut(range.clone()).filter(|_| is_frame)?, offset_of!(FrameHeader, crc));
    Some(range)
}

/// The checksums of a segment's header and of the frames that follow each other behind it.
pub(crate) fn segment(bytes: &mut [u8]) {
    segment_header(bytes);
    let mut offset = BLOCK;
    while offset < bytes.len() {
        offset = frame(bytes, offset).map_or(offset + BLOCK, |range| range.end);
    }
}

/// The checksums of a snapshot, from the inside out.
pub(crate) fn snapshot(bytes: &mut [u8]) {
    let Ok((mut header, _)) = SnapshotHeader::read_from_prefix(bytes) else { return };
    let mut work = WORK * bytes.len() as u64;
    if let Some(section) = section(&header.hosts, bytes.len()) {
        for entry in items::<HostEntry>(section) {
            host(bytes, entry, &mut work);
        }
    }
    for entry in [&mut header.hosts, &mut header.column_sets, &mut header.names] {
        if let Some(section) = section(entry, bytes.len()) {
            entry.crc = crc32fast::hash(&bytes[section]).into();
        }
    }
    bytes[..size_of::<SnapshotHeader>()].copy_from_slice(header.as_bytes());
    if let Some(block) = bytes.get_mut(..BLOCK) {
        around(block, offset_of!(SnapshotHeader, crc));
    }
}

/// The checksums of a host's stripes and of its directory. `at` is its entry in the host index.
fn host(bytes: &mut [u8], at: Range<usize>, work: &mut u64) {
    let Ok(mut host) = HostEntry::read_from_bytes(&bytes[at.clone()]) else { return };
    let Some(directory) = range(host.directory.get(), host.directory_end(), bytes.len()) else { return };
    for at in items::<StripeEntry>(directory.clone()) {
        let Ok(mut stripe) = StripeEntry::read_from_bytes(&bytes[at.clone()]) else { return };
        let end = stripe.offset.get().saturating_add(stripe.len.get());
        let Some(data) = range(stripe.offset.get(), end, bytes.len()) else { continue };
        if !spend(work, data.len() + at.len()) {
            return;
        }
        stripe.crc = crc32fast::hash(&bytes[data]).into();
        bytes[at].copy_from_slice(stripe.as_bytes());
    }
    if spend(work, directory.len()) {
        host.crc = crc32fast::hash(&bytes[directory]).into();
        bytes[at].copy_from_slice(host.as_bytes());
    }
}

fn spend(work: &mut u64, bytes: usize) -> bool {
    *work = work.saturating_sub(bytes as u64);
    *work > 0
}

fn section(entry: &SectionEntry, len: usize) -> Option<Range<usize>> {
    range(entry.offset.get(), entry.offset.get().checked_add(entry.len.get())?, len)
}

/// A range of bytes that lies inside `len`.
fn range(begin: u64, end: u64, len: usize) -> Option<Range<usize>> {
    let range = usize::try_from(begin).ok()?..usize::try_from(end).ok()?;
    (range.start <= range.end && range.end <= len).then_some(range)
}

/// Where the items of an array stand that fills `range`.
fn items<T>(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let count = range.len() / size_of::<T>();
    (0..count).map(move |at| range.start + at * size_of::<T>()..range.start + (at + 1) * size_of::<T>())
}

/// Writes the checksum of `bytes` without the four at `hole` there.
fn around(bytes: &mut [u8], hole: usize) {
    if bytes.len() < hole + 4 {
        return;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..hole]);
    hasher.update(&bytes[hole + 4..]);
    bytes[hole..hole + 4].copy_from_slice(&hasher.finalize().to_le_bytes());
}
