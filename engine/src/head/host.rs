//! One host in the head.

use super::runs::RunTable;
use crate::format::frame::{RecordHeader, Row};
use crate::model::Lsn;
use crate::names::{Key, Layout};
use crate::slot::Run;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
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
    rows: Vec<HeadRow>,
    /// Runs that were freed: what a lower LSN wrote to them is gone.
    freed: HashMap<(u32, Run), Lsn, foldhash::fast::RandomState>,
}

/// The records of a frame, kept for the rows in it.
#[derive(Debug)]
pub struct RowsFrame {
    words: Box<[u64]>,
}

impl RowsFrame {
    /// Copies the records of a frame.
    pub fn of_records(records: &[u8]) -> Self {
        let mut words = vec![0_u64; records.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..records.len()].copy_from_slice(records);
        Self { words: words.into() }
    }

    /// The row whose record begins at an offset. Rows are linked after they were parsed once, so this finds one.
    pub fn row(&self, offset: u32) -> Option<Row<'_>> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        let bytes = bytes.get(offset as usize..)?;
        let (header, _) = RecordHeader::read_from_prefix(bytes).ok()?;
        Row::parse(bytes.get(..header.len.get() as usize)?).ok()
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.words.len() * 8
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

    /// The instant of the slot after the last one, plus the half interval by which a sample may be early.
    fn end(&self) -> i64 {
        let slots = self.first_slot.saturating_add(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
        self.run.nominal(slots)
    }
}

impl HostState {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        Self { layout, runs: RunTable::default(), rows: Vec::new(), freed: HashMap::default() }
    }

    /// Links a durable row. Rows come in LSN order.
    pub fn link(&mut self, row: HeadRow) {
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The stored slots of some series, per series the runs by rising start.
    pub fn collect(&self, ordinals: &[u32]) -> Vec<Vec<SlotRun>> {
        self.collect_below(ordinals, Lsn(u64::MAX))
    }

    fn collect_below(&self, ordinals: &[u32], limit: Lsn) -> Vec<Vec<SlotRun>> {
        let mut series = vec![Vec::<SlotRun>::new(); ordinals.len()];
        for head_row in self.rows.iter().take_while(|row| row.lsn < limit) {
            let Some(row) = head_row.frame.row(head_row.offset) else { continue };
            let run = Run { start: row.start(), frequency: row.frequency() };
            for (&ordinal, runs) in ordinals.iter().zip(&mut series) {
                let value = row.value(ordinal);
                if value.is_nan() || self.is_freed(ordinal, run, head_row.lsn) {
                    continue;
                }
                match runs.iter_mut().rfind(|known| known.run == run) {
                    Some(known) => known.set(row.slot(), value),
                    None => runs.push(SlotRun { run, first_slot: row.slot(), values: vec![value] }),
                }
            }
        }
        for runs in &mut series {
            runs.sort_unstable_by_key(|known| known.run);
        }
        series
    }

    #[inline]
    fn is_freed(&self, ordinal: u32, run: Run, lsn: Lsn) -> bool {
        !self.freed.is_empty() && self.freed.get(&(ordinal, run)).is_some_and(|&freed| lsn < freed)
    }

    /// The runs that ended before `to`, of the series that `selects` names, as far as rows below `lsn` wrote them.
    pub fn ended_before(&self, selects: impl Fn(&Key) -> bool, to: i64, lsn: Lsn) -> Vec<(u32, Run)> {
        let ordinals: Vec<u32> =
            (0_u32..).zip(self.layout.keys()).filter(|(_, key)| selects(key)).map(|(ordinal, _)| ordinal).collect();
        let series = self.collect_below(&ordinals, lsn);
        let ended = ordinals.into_iter().zip(series).flat_map(|(ordinal, runs)| {
            runs.into_iter().filter(|run| run.end() < to).map(move |run| (ordinal, run.run))
        });
        ended.collect()
    }

    /// Takes away what [`HostState::ended_before`] gives. The same rows and the same call give the same result, at
    /// replay too.
    pub fn free(&mut self, selects: impl Fn(&Key) -> bool, to: i64, lsn: Lsn) {
        let ended = self.ended_before(selects, to, lsn);
        if ended.is_empty() {
            return;
        }
        for (ordinal, run) in ended {
            self.freed.insert((ordinal, run), lsn);
            self.runs.forget(ordinal, run);
        }
        self.drop_rows(|_| false);
    }

    /// Drops the rows below an LSN, and the frees that only hid those.
    pub fn drop_below(&mut self, lsn: Lsn) {
        self.drop_rows(|row| row.lsn < lsn);
    }

    /// Drops the rows that `drop` names and those of which nothing is left.
    fn drop_rows(&mut self, drop: impl Fn(&HeadRow) -> bool) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.retain(|head_row| {
            let Some(row) = head_row.frame.row(head_row.offset) else { return false };
            let run = Run { start: row.start(), frequency: row.frequency() };
            !drop(head_row) && row.present().any(|(ordinal, _)| !self.is_freed(ordinal, run, head_row.lsn))
        });
        let oldest = rows.first().map_or(Lsn(u64::MAX), |row| row.lsn);
        self.freed.retain(|_, &mut freed| freed > oldest);
        self.rows = rows;
    }

    /// Calls `visit` with what is left of each row: run, slot, ordinals and values.
    pub fn for_each_row(&self, mut visit: impl FnMut(Run, u32, &[u32], &[f64])) {
        for head_row in &self.rows {
            let Some(row) = head_row.frame.row(head_row.offset) else { continue };
            let run = Run { start: row.start(), frequency: row.frequency() };
            let left = row.present().filter(|&(ordinal, _)| !self.is_freed(ordinal, run, head_row.lsn));
            let (ordinals, values): (Vec<u32>, Vec<f64>) = left.unzip();
            if !ordinals.is_empty() {
                visit(run, row.slot(), &ordinals, &values);
            }
        }
    }

    /// Rows that are linked.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of heap without names and without the frames, which rows share.
    pub fn heap_bytes(&self) -> usize {
        self.runs.heap_bytes() + self.rows.capacity() * size_of::<HeadRow>() + self.freed.allocation_size()
    }
}
