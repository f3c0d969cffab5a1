//! Transposing: rows of one host, slot after slot, become stripes, series after series.
//!
//! Rows that follow each other on one grid, which is nearly all of them, are turned eight at a time, so that each write
//! fills a line of the cache; [`scatter`] is the plain way, and what the other one is tested against. Where the rows have
//! few of the values that the grids have places for, as those of series that each have a grid of their own, the values
//! are sorted instead, so that what is taken in never costs more memory than a multiple of itself.

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

/// Places for values that the grids of a partition may have, however few values there are: 8 MiB.
const PLACES_MIN: usize = 1 << 20;
/// Places that they may have for each value, else.
const PLACES_EACH: usize = 4;

/// What the stripes of a host come as.
pub(super) enum Part<'a> {
    /// Those of a partition follow.
    Begin,
    /// One of them, in the order of a snapshot.
    Stripe(Piece<'a>),
    /// There are no more in this partition.
    End,
}

/// Turns the rows of hosts, one after the other, and keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Transposer {
    /// By the number of the layout.
    plans: HashMap<u32, Plan>,
    values: Vec<f64>,
    cells: Vec<Cell>,
}

/// A value and its place in a partition: that of its column among those of its metric, and its grid among those of the
/// partition. Ordered as stripes are.
#[derive(Clone, Copy, Debug)]
struct Cell {
    metric: u32,
    grid: u32,
    column: u32,
    slot: u32,
    value: f64,
}

impl Cell {
    fn stripe(&self) -> (u32, u32) {
        (self.metric, self.grid)
    }
}

/// The series of a layout in the order of a snapshot: by metric, component, subcomponent.
#[derive(Debug)]
struct Plan {
    /// The layout lives as long, so that its number is its own.
    layout: Arc<Layout>,
    metrics: Vec<(Arc<str>, Vec<usize>)>,
    /// Where each series stands there: its metric, and its place among the series of that.
    places: Vec<(u32, u32)>,
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
        let metrics: Vec<_> = by_metric.into_iter().collect();
        let mut places = vec![(0, 0); layout.keys().len()];
        for (metric, (_, ordinals)) in (0..).zip(&metrics) {
            for (column, &ordinal) in (0..).zip(ordinals) {
                places[ordinal] = (metric, column);
            }
        }
        Self { layout: Arc::clone(layout), metrics, places }
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
        mut each: impl FnMut(i64, Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { plans, values, cells } = self;
        let plan = plans.entry(layout.id()).or_insert_with(|| Plan::new(layout, layouts));
        let mut partitions: BTreeMap<i64, BTreeMap<Run, Grid<'_>>> = BTreeMap::new();
        for row in rows.iter().filter_map(|head_row| head_row.frame.row(head_row.offset)) {
            let run = Run { start: row.start(), frequency: row.frequency() };
            let partition = run.end_after(row.slot()).div_euclid(PARTITION);
            partitions.entry(partition).or_default().entry(run).or_default().push(row);
        }
        for (partition, grids) in partitions {
            let mut grids: Vec<_> = grids.into_iter().collect();
            each(partition, Part::Begin)?;
            let to = |piece: Piece<'_>| each(partition, Part::Stripe(piece));
            if are_dense(&grids, plan.layout.len()) {
                plan.turn_grids(&mut grids, values, to)?;
            } else {
                plan.sort_grids(&grids, cells, values, to)?;
            }
            each(partition, Part::End)?;
        }
        Ok(())
    }
}

/// Whether the grids may have a place for each series in each slot.
fn are_dense(grids: &[(Run, Grid<'_>)], series: usize) -> bool {
    let places: usize = grids.iter().map(|(_, grid)| grid.slots() * series).sum();
    let values = || grids.iter().flat_map(|(_, grid)| &grid.rows).map(Row::places).sum::<usize>();
    places <= PLACES_MIN || places <= PLACES_EACH * values()
}

impl Plan {
    /// The stripes of grids that have a place for each series in each slot.
    fn turn_grids<E>(
        &self,
        grids: &mut [(Run, Grid<'_>)],
        values: &mut Vec<f64>,
        mut to: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let keys = self.layout.keys();
        values.clear();
        for (_, grid) in &mut *grids {
            grid.at = values.len();
            values.resize(grid.at + grid.slots() * keys.len(), f64::NAN);
            fill(&mut values[grid.at..], grid.slots(), grid.first, &grid.rows);
        }
        for (metric, ordinals) in &self.metrics {
            for (run, grid) in &*grids {
                let slots = grid.slots();
                let column = |&ordinal: &usize| {
                    let at = grid.at + ordinal * slots;
                    (column_name(keys[ordinal].name()), &values[at..at + slots])
                };
                let (first_slot, slots) = (grid.first, grid.last - grid.first + 1);
                to(Piece { metric, run: *run, first_slot, slots, columns: ordinals.iter().map(column).collect() })?;
            }
        }
        Ok(())
    }

    /// The stripes of grids that have few values for their size: only columns with values, one stripe in memory at a time.
    fn sort_grids<E>(
        &self,
        grids: &[(Run, Grid<'_>)],
        cells: &mut Vec<Cell>,
        values: &mut Vec<f64>,
        mut to: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let keys = self.layout.keys();
        cells.clear();
        for (grid, (_, Grid { rows, .. })) in (0..).zip(grids) {
            for row in rows {
                cells.extend(row.present().map(|(ordinal, value)| {
                    let (metric, column) = self.places[ordinal as usize];
                    Cell { metric, grid, column, slot: row.slot(), value }
                }));
            }
        }
        // Stable: of two values of a slot the one of the higher LSN stays behind.
        cells.sort_by_key(|cell| (cell.stripe(), cell.column));
        for cells in cells.chunk_by(|a, b| a.stripe() == b.stripe()) {
            let (metric, ordinals) = &self.metrics[cells[0].metric as usize];
            let (run, _) = grids[cells[0].grid as usize];
            let first_slot = cells.iter().map(|cell| cell.slot).min().unwrap_or(0);
            let slots = cells.iter().map(|cell| cell.slot - first_slot).max().unwrap_or(0) + 1;
            let columns = || cells.chunk_by(|a, b| a.column == b.column);
            values.clear();
            values.resize(columns().count() * slots as usize, f64::NAN);
            for (cells, values) in columns().zip(values.chunks_exact_mut(slots as usize)) {
                for cell in cells {
                    values[(cell.slot - first_slot) as usize] = cell.value;
                }
            }
            let names = columns().map(|cells| column_name(keys[ordinals[cells[0].column as usize]].name()));
            let columns = names.zip(values.chunks_exact(slots as usize)).collect();
            to(Piece { metric, run, first_slot, slots, columns })?;
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
    use crate::model::{Lsn, Metrics};
    use proptest::prelude::*;

    const SERIES: usize = 12;

    /// A row: start, frequency, slot, values by ordinal.
    type Told = (i64, u32, u32, Vec<(u32, f64)>);

    fn head_rows(rows: &[Told]) -> Vec<HeadRow> {
        let mut bytes = Vec::new();
        let mut offsets = Vec::new();
        for (start, frequency, slot, values) in rows {
            offsets.push(u32::try_from(bytes.len()).unwrap());
            let (ordinals, values): (Vec<u32>, Vec<f64>) = values.iter().copied().unzip();
            let (start, frequency, slot) = (*start, *frequency, *slot);
            write::row(&mut bytes, 1, 1, &RowValues { start, frequency, slot, ordinals: &ordinals, values: &values });
        }
        let frame = Arc::new(RowsFrame::of_records(&bytes, &Arc::default()));
        let row = |(lsn, (offset, (start, frequency, slot, _))): (u64, (u32, &Told))| HeadRow {
            lsn: Lsn(lsn),
            frame: Arc::clone(&frame),
            offset,
            run: Run { start: *start, frequency: *frequency },
            slot: *slot,
        };
        (1..).zip(offsets.into_iter().zip(rows)).map(row).collect()
    }

    /// A layout of so many series, of three metrics in turns.
    fn layout(layouts: &Layouts, series: usize) -> Arc<Layout> {
        let components: Vec<String> = (0..series).map(|at| format!("hwthread{}", at / 3)).collect();
        let metrics = ["b", "a", "c"].map(|name| layouts.metric(name));
        let names = components.iter().enumerate();
        let names = names.map(|(at, component)| KeyName { metric: metrics[at % 3], component, subcomponent: "" });
        layouts.extend(&layouts.empty(), &names.collect::<Vec<_>>())
    }

    /// The values of stripes, by metric, run, column and slot, as they come.
    type Content = Vec<((String, Run, String, u32), u64)>;

    fn add(content: &mut Content, piece: &Piece<'_>) {
        for ((component, _), values) in &piece.columns {
            for (slot, value) in (piece.first_slot..).zip(*values).filter(|(_, value)| !value.is_nan()) {
                let place = (piece.metric.to_owned(), piece.run, (*component).to_owned(), slot);
                content.push((place, value.to_bits()));
            }
        }
    }

    proptest! {
        /// Grids with a place for everything and sorted values give the same stripes.
        #[test]
        fn sorting_says_what_turning_says(
            rows in prop::collection::vec(
                (0_i64..3, 0_u32..9, prop::collection::btree_map(0_u32..12, -3_i8..3, 1..12)), 1..40)
        ) {
            let rows: Vec<Told> = rows.into_iter().map(|(start, slot, values)| {
                (start * 7, 60, slot, values.into_iter().map(|(ordinal, value)| (ordinal, value.into())).collect())
            }).collect();
            let layouts = Layouts::new(&Metrics::default());
            let plan = Plan::new(&layout(&layouts, SERIES), &layouts);
            let rows = head_rows(&rows);
            let mut grids: BTreeMap<Run, Grid<'_>> = BTreeMap::new();
            for row in &rows {
                grids.entry(row.run).or_default().push(row.frame.row(row.offset).unwrap());
            }
            let mut grids: Vec<_> = grids.into_iter().collect();
            let (mut turned, mut sorted) = (Content::new(), Content::new());
            let told = |content: &mut Content, piece: Piece<'_>| {
                add(content, &piece);
                Ok::<(), ()>(())
            };
            plan.turn_grids(&mut grids, &mut Vec::new(), |piece| told(&mut turned, piece)).unwrap();
            plan.sort_grids(&grids, &mut Vec::new(), &mut Vec::new(), |piece| told(&mut sorted, piece)).unwrap();
            prop_assert_eq!(turned, sorted);
        }
    }

    #[test]
    fn series_that_each_have_a_run_of_their_own_take_no_memory_for_each_other() {
        const MANY: usize = 2_000;
        let layouts = Layouts::new(&Metrics::default());
        let layout = layout(&layouts, MANY);
        // The second value of each is at the other end of its run.
        let row = |at: usize| (i64::try_from(at / 2).unwrap(), 1, u32::from(at % 2 == 1) * 500, at / 2);
        let rows = (0..2 * MANY).map(row).map(|(start, frequency, slot, ordinal)| {
            (start, frequency, slot, vec![(u32::try_from(ordinal).unwrap(), 1.5)])
        });
        let rows: Vec<Told> = rows.collect();
        let mut transposer = Transposer::default();
        let mut content = Content::new();
        let each = |_, part: Part<'_>| {
            if let Part::Stripe(piece) = part {
                add(&mut content, &piece);
            }
            Ok::<(), ()>(())
        };
        transposer.stripes(&head_rows(&rows), &layout, &layouts, each).unwrap();
        assert_eq!(content.len(), rows.len());
        let taken = transposer.values.capacity() * size_of::<f64>() + transposer.cells.capacity() * size_of::<Cell>();
        assert!(taken < 1 << 20, "{taken} bytes");
    }

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
