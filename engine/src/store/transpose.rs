//! Transposing: rows of one host, slot after slot, become stripes, series after series.
//!
//! Rows that follow each other on one grid, which is nearly all of them, are turned eight at a time, so that each write
//! fills a line of the cache; [`scatter`] is the plain way, and what the other one is tested against.

use super::layers::PARTITION;
use crate::format::frame::Row;
use crate::head::HeadRow;
use crate::names::{KeyName, Layout, Layouts};
use crate::slot::Run;
use crate::snapshot::Piece;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows that are turned together: as many values as a line of the cache has.
const TILE: usize = 8;

/// Turns the rows of hosts, one after the other, and keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Transposer {
    /// By the number of the layout.
    plans: HashMap<u32, Plan>,
    values: Vec<f64>,
}

/// The series of a layout in the order of a snapshot: by metric, component, subcomponent.
#[derive(Debug)]
struct Plan {
    /// The layout lives as long, so that its number is its own.
    layout: Arc<Layout>,
    metrics: Vec<(Arc<str>, Vec<usize>)>,
}

impl Plan {
    fn new(layout: &Arc<Layout>, layouts: &Layouts) -> Self {
        let mut by_metric: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
        let names: HashMap<_, _> =
            layout.keys().iter().map(|key| (key.metric.0, layouts.metric_name(key.metric))).collect();
        for (ordinal, key) in layout.keys().iter().enumerate() {
            if let Some(name) = names.get(&key.metric.0) {
                by_metric.entry(Arc::clone(name)).or_default().push(ordinal);
            }
        }
        for ordinals in by_metric.values_mut() {
            ordinals.sort_by_key(|&ordinal| column_name(layout.keys()[ordinal].name()));
        }
        Self { layout: Arc::clone(layout), metrics: by_metric.into_iter().collect() }
    }
}

fn column_name(name: KeyName<'_>) -> (&str, &str) {
    (name.component, name.subcomponent)
}

/// The slots of one run in one partition, and the rows that have them.
#[derive(Default)]
struct Grid<'a> {
    first: u32,
    last: u32,
    rows: Vec<Row<'a>>,
    /// Where its columns begin among all values: one a series of the layout, one after the other.
    at: usize,
}

impl<'a> Grid<'a> {
    fn push(&mut self, row: Row<'a>) {
        self.first = if self.rows.is_empty() { row.slot() } else { self.first.min(row.slot()) };
        self.last = self.last.max(row.slot());
        self.rows.push(row);
    }

    fn slots(&self) -> usize {
        (self.last - self.first) as usize + 1
    }
}

impl Transposer {
    /// Hands on the stripes of some rows of one host, partition by partition; those without any value among them. Rows
    /// come in LSN order; the highest LSN wins a slot.
    pub(super) fn stripes<E>(
        &mut self,
        rows: &[HeadRow],
        layout: &Arc<Layout>,
        layouts: &Layouts,
        mut each: impl FnMut(i64, &mut dyn Iterator<Item = Piece<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { plans, values } = self;
        let Plan { layout, metrics } = plans.entry(layout.id()).or_insert_with(|| Plan::new(layout, layouts));
        let mut grids: BTreeMap<(i64, Run), Grid<'_>> = BTreeMap::new();
        for row in rows.iter().filter_map(|head_row| head_row.frame.row(head_row.offset)) {
            let run = Run { start: row.start(), frequency: row.frequency() };
            let partition = run.end_after(row.slot()).div_euclid(PARTITION);
            grids.entry((partition, run)).or_default().push(row);
        }
        values.clear();
        for grid in grids.values_mut() {
            grid.at = values.len();
            values.resize(grid.at + grid.slots() * layout.len(), f64::NAN);
            fill(&mut values[grid.at..], grid.slots(), grid.first, &grid.rows);
        }
        let keys = layout.keys();
        let grids: Vec<_> = grids.into_iter().collect();
        for of_partition in grids.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
            let mut pieces = metrics.iter().flat_map(|(metric, ordinals)| {
                of_partition.iter().map(|((_, run), grid)| {
                    let slots = grid.slots();
                    let column = |&ordinal: &usize| {
                        let at = grid.at + ordinal * slots;
                        (column_name(keys[ordinal].name()), &values[at..at + slots])
                    };
                    let (first_slot, slots) = (grid.first, grid.last - grid.first + 1);
                    Piece { metric, run: *run, first_slot, slots, columns: ordinals.iter().map(column).collect() }
                })
            });
            each(of_partition[0].0.0, &mut pieces)?;
        }
        Ok(())
    }
}

/// Puts the values of rows in LSN order into columns of `slots` values, of which the first is for the slot `first`.
fn fill(values: &mut [f64], slots: usize, first: u32, rows: &[Row<'_>]) {
    let have_slots_alone = rows.is_sorted_by(|a, b| a.slot() < b.slot());
    for tile in rows.chunks(TILE) {
        match ranges(tile) {
            Some(ranges) if have_slots_alone => {
                turn(&mut values[(tile[0].slot() - first) as usize..], slots, &ranges);
            }
            _ => tile.iter().for_each(|row| scatter(values, slots, first, row)),
        }
    }
}

/// The first ordinals and the values of eight rows with ranges whose slots follow each other.
fn ranges<'a>(rows: &[Row<'a>]) -> Option<[(u32, &'a [f64]); TILE]> {
    let rows: &[Row<'a>; TILE] = rows.try_into().ok()?;
    let follow = rows.is_sorted_by(|a, b| a.slot() + 1 == b.slot());
    let ranges = rows.each_ref().map(Row::range);
    let are_ranges = ranges.iter().all(Option::is_some);
    (follow && are_ranges).then(|| ranges.map(Option::unwrap_or_default))
}

/// Puts the values of ranges (the first ordinal and the values) of eight slots that follow each other into columns.
fn turn(values: &mut [f64], slots: usize, ranges: &[(u32, &[f64]); TILE]) {
    let begin = ranges.iter().map(|&(first, _)| first as usize).max().unwrap_or(0);
    let end = ranges.iter().map(|(first, range)| *first as usize + range.len()).min().unwrap_or(0).max(begin);
    // What all of them have, without looking for what is missing: no other row has these slots.
    let common = ranges.map(|(first, range)| range.get(begin - first as usize..end - first as usize).unwrap_or(&[]));
    let len = common.iter().map(|range| range.len()).min().unwrap_or(0);
    let common = common.map(|range| &range[..len]);
    let columns = values.get_mut(begin * slots..).unwrap_or_default();
    for (at, column) in columns.chunks_mut(slots).take(len).enumerate() {
        if let Some(line) = column.first_chunk_mut::<TILE>() {
            for (to, range) in line.iter_mut().zip(&common) {
                *to = range[at];
            }
        }
    }
    for (slot, &(first, range)) in ranges.iter().enumerate() {
        for (ordinal, &value) in (first as usize..).zip(range) {
            if !(begin..begin + len).contains(&ordinal) {
                values[ordinal * slots + slot] = value;
            }
        }
    }
}

/// Puts the values of a row into columns, over what is there.
fn scatter(values: &mut [f64], slots: usize, first: u32, row: &Row<'_>) {
    let slot = (row.slot() - first) as usize;
    for (ordinal, value) in row.present() {
        values[ordinal as usize * slots + slot] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::write::{self, RowValues};
    use crate::head::RowsFrame;
    use proptest::prelude::*;

    const SERIES: usize = 12;

    proptest! {
        /// Turning rows eight at a time says what putting one value after the other says.
        #[test]
        fn rows_that_are_turned_together_give_the_columns_that_single_values_give(
            rows in prop::collection::vec((0_u32..3, prop::collection::vec(prop::option::weighted(0.9, 0_i8..100), SERIES)), 1..60),
            is_in_order in prop::bool::weighted(0.8),
        ) {
            let mut bytes = Vec::new();
            let mut offsets = Vec::new();
            let mut slot = 5;
            for (step, values) in &rows {
                let present = (0_u32..).zip(values).filter_map(|(ordinal, value)| Some((ordinal, f64::from((*value)?))));
                let (ordinals, values): (Vec<u32>, Vec<f64>) = present.unzip();
                if !ordinals.is_empty() {
                    offsets.push(u32::try_from(bytes.len()).unwrap());
                    let row = RowValues { start: 0, frequency: 60, slot, ordinals: &ordinals, values: &values };
                    write::row(&mut bytes, 1, 1, &row);
                }
                // Mostly the next slot, sometimes the same or one further on, or back.
                slot = if is_in_order { slot + 1 + step / 2 } else { (slot + step).saturating_sub(1) };
            }
            let frame = RowsFrame::of_records(&bytes, &Arc::default());
            let rows: Vec<Row<'_>> = offsets.iter().map(|&offset| frame.row(offset).unwrap()).collect();
            let (first, last) = (rows.iter().map(Row::slot).min().unwrap_or(0), rows.iter().map(Row::slot).max().unwrap_or(0));
            let slots = (last - first) as usize + 1;
            let (mut turned, mut plain) = (vec![f64::NAN; slots * SERIES], vec![f64::NAN; slots * SERIES]);
            fill(&mut turned, slots, first, &rows);
            for row in &rows {
                scatter(&mut plain, slots, first, row);
            }
            let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
            prop_assert!(turned.iter().zip(&plain).all(same), "{turned:?} {plain:?}");
        }
    }
}
