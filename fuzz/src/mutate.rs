//! A valid segment with edits.

use crate::repair;
use crate::samples::{self, WrittenSegment};
use crate::segment::replay_file;
use kymo_engine::disk::BLOCK;
use kymo_engine::wal::Tail;
use std::sync::LazyLock;

static WRITTEN: LazyLock<WrittenSegment> = LazyLock::new(samples::segment);

const SECTOR: usize = 512;

/// Applies one edit: what, where (two bytes each for place and source), and a value.
fn edit(bytes: &mut [u8], [what, at_low, at_high, from_low, from_high, value]: [u8; 6]) {
    let place = |low, high| usize::from(u16::from_le_bytes([low, high])) % bytes.len();
    let (at, from) = (place(at_low, at_high), place(from_low, from_high));
    let sector = |at: usize| at / SECTOR * SECTOR..at / SECTOR * SECTOR + SECTOR;
    let block = |at: usize| at / BLOCK * BLOCK..at / BLOCK * BLOCK + BLOCK;
    match what % 7 {
        0 => bytes[at] ^= value,
        1 => bytes[at] = value,
        2 => bytes[sector(at)].fill(0),
        3 => bytes.copy_within(sector(from), sector(at).start),
        4 => bytes.copy_within(block(from), block(at).start),
        // A field of four bytes gets a value at the edges of its range.
        5 => {
            let field = at / 4 * 4..at / 4 * 4 + 4;
            let wanted = u32::from(value & 0x3f).wrapping_sub(u32::from(value >> 7) * 0x40);
            bytes[field].copy_from_slice(&wanted.to_le_bytes());
        }
        _ => bytes[at..].fill(0),
    }
}

/// A valid segment, the edits that the bytes describe (the first byte says in which frames checksums are repaired, then
/// six bytes an edit), and a replay.
///
/// A frame that was not edited gives exactly what was written; one that was edited gives nothing unless its checksum was
/// repaired; all frames before the first edit are there; damage in front of a good frame is told as damage and never as
/// the torn end of the log.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn replay_mutated(data: &[u8]) {
    let Some((&repairs, edits)) = data.split_first() else { return };
    let written = &*WRITTEN;
    let mut bytes = written.bytes.clone();
    for edit_bytes in edits.as_chunks().0.iter().take(64) {
        edit(&mut bytes, *edit_bytes);
    }
    if repairs & 1 != 0 {
        repair::segment_header(&mut bytes);
    }
    let repaired = |index: &usize| repairs & (2 << index) != 0;
    for index in (0..written.frames.len()).filter(repaired) {
        repair::frame(&mut bytes, written.frames[index].range.start);
    }
    let is_same = |range: std::ops::Range<usize>| bytes[range.clone()] == written.bytes[range];
    let header_is_same = is_same(0..BLOCK);
    let Some((walk, end)) = replay_file(&bytes) else {
        assert!(!header_is_same, "a header that was not edited is good");
        return;
    };
    assert!(header_is_same || repairs & 1 != 0, "an edited header is refused");
    if !header_is_same {
        return;
    }
    let good = written.frames.iter().take_while(|frame| is_same(frame.range.clone())).count();
    assert!(walk.frames.len() >= good, "all {good} frames before the first edit are there, of {}", walk.frames.len());
    for ((_, facts), frame) in walk.frames.iter().zip(&written.frames).take(good) {
        assert_eq!(facts, &frame.facts, "a frame gives what was written into it");
    }
    // A repaired frame may say anything, also of its length, and so hide those behind it.
    if (0..written.frames.len()).any(|index| repaired(&index)) {
        return;
    }
    assert_eq!(walk.frames.len(), good, "an edited frame gives nothing, and ends the log");
    let is_damage = written.frames[good..].iter().any(|frame| is_same(frame.range.clone()));
    assert!(!is_damage || matches!(end.tail, Tail::Damaged { .. }), "damage is told as {:?}", end.tail);
}
