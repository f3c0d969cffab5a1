//! One loop over the frames of a segment: recovery, inspection and tests all pass through it. It never writes.

use crate::canary::{self, Canary};
use crate::disk::{BLOCK, FileBytes};
use crate::format::FormatError;
use crate::format::frame::{Frame, MISPLACED, Place};
use crate::format::segment::Segment;
use crate::model::Lsn;
use std::sync::Arc;

/// Takes the frames in their order.
pub trait Replay {
    /// The next segment was read into these bytes, which hold little but its frames and may be kept instead of copies;
    /// `None` where they may not.
    fn file(&mut self, _bytes: Option<&Arc<FileBytes>>) {}

    /// The frames that follow are of this segment; ids begin anew.
    fn segment(&mut self, segment: &Segment);

    /// One frame. An error means that its records make no sense though its checksum holds.
    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), FormatError>;
}

/// Why the frames end where they end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing follows: zeros, or the end of the file.
    Clean,
    /// Bytes that are no frame, and nothing behind them that was durable: a write that a power cut interrupted.
    Torn {
        /// Why they are no frame.
        what: FormatError,
        /// How many valid frames stand behind them, none of which was ever acknowledged as durable.
        frames_behind: u64,
    },
    /// Bytes that are no good frame though they were durable: a power cut does not do that.
    Damaged {
        /// What is wrong with them.
        what: FormatError,
    },
}

/// Where the frames end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The offset behind the last good frame.
    pub offset: u64,
    /// The LSN that the next row would have had.
    pub next_lsn: Lsn,
    /// Rows that were replayed.
    pub rows: u64,
    /// What is there.
    pub tail: Tail,
}

/// Hands on the frames of a segment from `offset` on, up to the first that does not verify.
///
/// `bytes` is the whole file; `next_lsn` is the LSN that the first row must have. `durable` is the highest LSN that
/// something else, a seal or a later segment, tells to be durable. Nothing at or behind `stop` is looked at: what
/// a dead process wrote behind a seal was never acknowledged.
pub fn replay(
    bytes: &[u8],
    segment: &Segment,
    (offset, stop): (u64, u64),
    mut next_lsn: Lsn,
    durable: Lsn,
    to: &mut impl Replay,
) -> End {
    let bytes = &bytes[..bytes.len().min(usize::try_from(stop).unwrap_or(usize::MAX))];
    let mut offset = offset;
    let mut rows = 0;
    let what = loop {
        let rest = rest_at(bytes, segment, offset);
        let place = Place { store: segment.store, seq: segment.seq, offset };
        let frame = match Frame::check(rest, place) {
            Ok(frame) if frame.first_lsn() == next_lsn || canary::is(Canary::AcceptMisplacedFrames) => frame,
            Ok(_) => break FormatError::Field("frame does not continue the LSNs before it"),
            Err(error) => break error,
        };
        if let Err(what) = to.frame(&frame) {
            return End { offset, next_lsn, rows, tail: Tail::Damaged { what } };
        }
        rows += frame.next_lsn().0.saturating_sub(next_lsn.0);
        next_lsn = frame.next_lsn();
        offset += frame.padded_len();
    };
    let behind = Behind::scan(bytes, segment, offset);
    let durable = durable.max(behind.durable);
    let is_damage = durable >= next_lsn || what == MISPLACED;
    let tail = if is_damage && !canary::is(Canary::DamageEndsLog) {
        Tail::Damaged { what }
    } else if is_zero(rest_at(bytes, segment, offset)) {
        Tail::Clean
    } else {
        Tail::Torn { what, frames_behind: behind.frames }
    };
    End { offset, next_lsn, rows, tail }
}

/// Whether all bytes are zero, at the speed of a comparison of memory: the rest of a segment is long.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    bytes.chunks(BLOCK).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

fn rest_at<'a>(bytes: &'a [u8], segment: &Segment, offset: u64) -> &'a [u8] {
    let len = usize::try_from(segment.len).unwrap_or(usize::MAX).min(bytes.len());
    let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(len);
    &bytes[offset..len]
}

/// What stands behind the first block that is no frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// The highest LSN that a frame there tells to be durable.
    pub(super) durable: Lsn,
    /// Valid frames.
    pub(super) frames: u64,
    /// Where the first of them is, and the LSN of its first row.
    pub(super) first: Option<(u64, Lsn)>,
}

impl Behind {
    pub(super) fn scan(bytes: &[u8], segment: &Segment, from: u64) -> Self {
        let mut behind = Self::default();
        let mut offset = from + BLOCK as u64;
        loop {
            let rest = rest_at(bytes, segment, offset);
            if rest.is_empty() {
                return behind;
            }
            let place = Place { store: segment.store, seq: segment.seq, offset };
            if let Ok(frame) = Frame::check(rest, place) {
                behind.durable = behind.durable.max(frame.durable_lsn());
                behind.frames += 1;
                behind.first.get_or_insert((offset, frame.first_lsn()));
                offset += frame.padded_len();
            } else {
                offset += BLOCK as u64;
            }
        }
    }
}
