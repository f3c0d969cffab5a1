//! Log segments.

use crate::repair;
use crate::samples::Fact;
use kymo_engine::disk::{BLOCK, Region};
use kymo_engine::format::FormatError;
use kymo_engine::format::frame::{Frame, Record};
use kymo_engine::format::segment::Segment;
use kymo_engine::model::Lsn;
use kymo_engine::wal::{End, Replay, replay};

/// Walks all records, and checks what holds of each.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    next_lsn: u64,
    /// The LSN of the first row of each frame, and the values in it.
    pub(crate) frames: Vec<(u64, Vec<Fact>)>,
}

impl Replay for Walk {
    fn segment(&mut self, segment: &Segment) {
        self.next_lsn = segment.first_lsn.0;
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), FormatError> {
        assert_eq!(frame.first_lsn().0, self.next_lsn, "frames continue the LSNs before them");
        let mut lsn = self.next_lsn;
        self.next_lsn = frame.next_lsn().0;
        let mut facts = Vec::new();
        let mut behind = 0;
        for record in frame.records() {
            let (offset, record) = record?;
            assert!(offset > behind, "records follow each other");
            behind = offset;
            if let Record::Row(row) = &record {
                assert!(row.frequency() > 0, "a row has an interval");
                let mut before = None;
                for (ordinal, value) in row.present() {
                    assert!(before < Some(ordinal) && ordinal <= row.last_ordinal(), "ordinals rise up to the last");
                    assert_eq!(row.value(ordinal).to_bits(), value.to_bits(), "a value is found by its ordinal");
                    before = Some(ordinal);
                    facts.push(Fact { lsn, start: row.start(), slot: row.slot(), ordinal, bits: value.to_bits() });
                }
            }
            lsn = lsn.saturating_add(record.has_lsn().into());
        }
        self.frames.push((frame.first_lsn().0, facts));
        Ok(())
    }
}

/// Replays a whole file, if its header is one, and checks what holds of each replay.
pub(crate) fn replay_file(bytes: &[u8]) -> Option<(Walk, End)> {
    let file = Region::copy_of(bytes);
    let segment = Segment::check(&file, file.len() as u64).ok()?;
    let again = Segment::check(&segment.to_block(), file.len() as u64);
    assert_eq!(again, Ok(segment), "an accepted header reads back");
    let run = || {
        let mut walk = Walk::default();
        walk.segment(&segment);
        let end = replay(&file, &segment, (BLOCK as u64, u64::MAX), segment.first_lsn, Lsn(0), &mut walk);
        (walk, end)
    };
    let (walk, end) = run();
    let (again, end_again) = run();
    assert_eq!((&walk.frames, &end), (&again.frames, &end_again), "a segment replays the same each time");
    assert!(end.offset.is_multiple_of(BLOCK as u64), "frames end at blocks");
    assert!(end.offset <= (BLOCK as u64).max(segment.len), "frames lie in the segment");
    assert_eq!(end.next_lsn.0, segment.first_lsn.0.saturating_add(end.rows), "rows and LSNs count the same");
    Some((walk, end))
}

/// The bytes of a segment.
///
/// Replay is total and the same each time; frames continue each other's LSNs and lie in the segment; a row gives the
/// same value by order and by ordinal; an accepted header reads back.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn segment(data: &[u8]) {
    replay_file(data);
}

/// [`segment`] once the checksums of header and frames were repaired, so that what is behind them is reached.
///
/// # Panics
///
/// As [`segment`].
pub fn segment_repaired(data: &[u8]) {
    let mut repaired = data.to_vec();
    repair::segment(&mut repaired);
    segment(&repaired);
}
