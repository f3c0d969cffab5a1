//! One host in the head.

use super::runs::RunTable;
use crate::disk::{BLOCK, FileBytes};
use crate::format::frame::{RecordHeader, Row};
use crate::model::Lsn;
use crate::names::{Layout, Sender};
use crate::slot::Run;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::FromBytes;

/// A host: its names, and its state behind a lock that is never held while something waits.
#[derive(Debug)]
pub struct Host {
    /// Its number in this process.
    pub id: u32,
    /// Its cluster.
    pub cluster: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Everything else.
    pub state: Mutex<HostState>,
}

/// What changes about a host.
#[derive(Debug)]
pub struct HostState {
    /// The series it may have; those without data do not exist for readers.
    pub layout: Arc<Layout>,
    /// What new samples are placed by.
    pub runs: RunTable,
    /// How its lines are spelled.
    pub sender: Sender,
    rows: Vec<HeadRow>,
    /// The LSN of the last row that was given to the log.
    pub last_lsn: Lsn,
}

/// The records of a frame, kept for the rows in it.
#[derive(Debug)]
pub struct RowsFrame {
    records: Records,
    /// Bytes of all frames that live.
    gauge: Arc<AtomicU64>,
}

/// Where the records are, from a multiple of eight in memory on.
#[derive(Debug)]
enum Records {
    Own(Box<[u64]>),
    /// In what was read of their segment.
    InFile {
        file: Arc<FileBytes>,
        at: Range<usize>,
    },
}

impl Drop for RowsFrame {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.heap_bytes() as u64, Ordering::Relaxed);
    }
}

impl RowsFrame {
    /// Copies the records of a frame. `gauge` counts the bytes of all frames that live.
    pub fn of_records(records: &[u8], gauge: &Arc<AtomicU64>) -> Self {
        let (whole, rest) = records.as_chunks::<8>();
        let mut words: Vec<u64> = Vec::with_capacity(records.len().div_ceil(8));
        words.extend(whole.iter().map(|&word| bytemuck::cast::<[u8; 8], u64>(word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            words.push(bytemuck::cast(last));
        }
        Self::counted(Records::Own(words.into()), gauge)
    }

    /// The records at a place in what was read of their segment, without a copy: the file lives as long as they do.
    pub fn in_file(file: &Arc<FileBytes>, at: Range<usize>, gauge: &Arc<AtomicU64>) -> Self {
        Self::counted(Records::InFile { file: Arc::clone(file), at }, gauge)
    }

    fn counted(records: Records, gauge: &Arc<AtomicU64>) -> Self {
        let frame = Self { records, gauge: Arc::clone(gauge) };
        gauge.fetch_add(frame.heap_bytes() as u64, Ordering::Relaxed);
        frame
    }

    /// The row whose record begins at an offset. Rows are linked after they were parsed once, so this finds one.
    pub fn row(&self, offset: u32) -> Option<Row<'_>> {
        let bytes = match &self.records {
            Records::Own(words) => bytemuck::cast_slice(words),
            Records::InFile { file, at } => file.get(at.clone())?,
        };
        let bytes = bytes.get(offset as usize..)?;
        let (header, _) = RecordHeader::read_from_prefix(bytes).ok()?;
        Row::parse(bytes.get(..header.len.get() as usize)?).ok()
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.records {
            Records::Own(words) => words.len() * 8,
            // With the header in front and the padding behind, which live as long.
            Records::InFile { at, .. } => at.len().next_multiple_of(BLOCK),
        }
    }
}

/// A durable row.
#[derive(Clone, Debug)]
pub struct HeadRow {
    /// Its number in the log.
    pub lsn: Lsn,
    /// Where its bytes are.
    pub frame: Arc<RowsFrame>,
    /// Where they begin in it.
    pub offset: u32,
    /// The run of its values.
    pub run: Run,
    /// The slot of them.
    pub slot: u32,
}

/// Consecutive slots of one run of one series; NaN is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotRun {
    /// The run.
    pub run: Run,
    /// The slot of the first value.
    pub first_slot: u32,
    /// The values.
    pub values: Vec<f64>,
}

impl SlotRun {
    fn set(&mut self, slot: u32, value: f64) {
        if slot < self.first_slot {
            let missing = (self.first_slot - slot) as usize;
            self.values.splice(0..0, std::iter::repeat_n(f64::NAN, missing));
            self.first_slot = slot;
        }
        let at = (slot - self.first_slot) as usize;
        if at >= self.values.len() {
            self.values.resize(at + 1, f64::NAN);
        }
        self.values[at] = value;
    }

    /// The slot after the last one.
    pub fn end_slot(&self) -> u32 {
        self.first_slot.saturating_add(u32::try_from(self.values.len()).unwrap_or(u32::MAX))
    }

    /// When the run ended for the predecessor: the instant for which the slot after the last one stands.
    pub fn end(&self) -> i64 {
        self.run.nominal(self.end_slot())
    }
}

impl HostState {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        Self { layout, runs: RunTable::default(), sender: Sender::default(), rows: Vec::new(), last_lsn: Lsn(0) }
    }

    /// Links a durable row. Rows come in LSN order.
    pub fn link(&mut self, row: HeadRow) {
        self.rows.push(row);
    }

    /// Notes the runs of all rows, of which some may have been forgotten.
    pub fn recall_runs(&mut self) {
        let Self { rows, runs, .. } = self;
        for head_row in rows {
            if let Some(row) = head_row.frame.row(head_row.offset) {
                runs.record_all(row.present().map(|(ordinal, _)| ordinal), head_row.run, head_row.slot);
            }
        }
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it has a row whose slot begins in some times (unix seconds).
    pub fn has_rows_in(&self, times: &Range<i64>) -> bool {
        self.rows.iter().any(|row| times.contains(&row.run.end_after(row.slot)))
    }

    /// The slots of some series that rows in a range of LSNs hold, per series the runs by rising start.
    ///
    /// Of `times` (unix seconds) all slots are given. Of what lies before there is one slot at least, if there is any;
    /// of what lies behind, all slots of runs that begin before its end; all, where a series has nothing else.
    pub fn collect(&self, ordinals: &[u32], lsns: Range<Lsn>, times: &Range<i64>) -> Vec<Vec<SlotRun>> {
        let mut series = vec![Vec::<SlotRun>::new(); ordinals.len()];
        let mut without_past: Vec<usize> = (0..ordinals.len()).collect();
        let mut is_in_sight = vec![false; ordinals.len()];
        for head_row in self.rows.iter().filter(|row| lsns.contains(&row.lsn)) {
            let HeadRow { run, slot, .. } = *head_row;
            let is_past = run.end_after(slot.saturating_add(1)) <= times.start;
            let is_out_of_sight = run.start >= times.end;
            if is_out_of_sight && is_in_sight.iter().all(|&it| it) || is_past && without_past.is_empty() {
                continue;
            }
            let Some(row) = head_row.frame.row(head_row.offset) else { continue };
            let mut set = |at: usize| {
                let value = row.value(ordinals[at]);
                if value.is_nan() {
                    return false;
                }
                match series[at].iter_mut().rfind(|known| known.run == run) {
                    Some(known) => known.set(slot, value),
                    None => series[at].push(SlotRun { run, first_slot: slot, values: vec![value] }),
                }
                true
            };
            if is_past {
                without_past.retain(|&at| !set(at));
            } else {
                for (at, is_in_sight) in is_in_sight.iter_mut().enumerate() {
                    *is_in_sight |= set(at) && !is_out_of_sight;
                }
            }
        }
        for runs in &mut series {
            runs.sort_unstable_by_key(|known| known.run);
        }
        series
    }

    /// The rows up to an LSN, cheaply: what a snapshot takes while writing goes on.
    pub fn rows_up_to(&self, lsn: Lsn) -> Vec<HeadRow> {
        self.rows.iter().take_while(|row| row.lsn <= lsn).cloned().collect()
    }

    /// Drops the rows up to an LSN.
    pub fn drop_up_to(&mut self, lsn: Lsn) {
        let count = self.rows.partition_point(|row| row.lsn <= lsn);
        self.rows.drain(..count);
        self.rows.shrink_to(self.rows.len() * 2);
    }

    /// Rows that are linked.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of heap without names and without the frames, which rows share.
    pub fn heap_bytes(&self) -> usize {
        self.runs.heap_bytes() + self.rows.capacity() * size_of::<HeadRow>()
    }
}
