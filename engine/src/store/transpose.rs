//! Transposing: rows of one host, slot after slot, become stripes, series after series.

use super::layers::PARTITION;
use crate::head::HeadRow;
use crate::names::{Layout, Layouts};
use crate::slot::Run;
use crate::snapshot::{ColumnData, StripeData};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The stripes of some rows of one host, by partition. Rows come in LSN order; the highest LSN wins a slot.
pub(super) fn stripes(rows: &[HeadRow], layout: &Layout, layouts: &Layouts) -> BTreeMap<i64, Vec<StripeData>> {
    let mut grids: BTreeMap<(i64, Run), Grid> = BTreeMap::new();
    let parsed = || rows.iter().filter_map(|head_row| head_row.frame.row(head_row.offset));
    for row in parsed() {
        let run = Run { start: row.start(), frequency: row.frequency() };
        let partition = run.end_after(row.slot()).div_euclid(PARTITION);
        grids.entry((partition, run)).or_default().cover(row.slot());
    }
    for grid in grids.values_mut() {
        grid.values = vec![f64::NAN; grid.slots() * layout.len()];
    }
    for row in parsed() {
        let run = Run { start: row.start(), frequency: row.frequency() };
        let partition = run.end_after(row.slot()).div_euclid(PARTITION);
        if let Some(grid) = grids.get_mut(&(partition, run)) {
            let (slot, slots) = ((row.slot() - grid.first) as usize, grid.slots());
            for (ordinal, value) in row.present() {
                grid.values[ordinal as usize * slots + slot] = value;
            }
        }
    }
    let mut partitions: BTreeMap<i64, Vec<StripeData>> = BTreeMap::new();
    for ((partition, run), grid) in grids {
        partitions.entry(partition).or_default().extend(grid.into_stripes(run, layout, layouts));
    }
    partitions
}

/// The slots of one run in one partition: a column a series of the layout, one after the other.
struct Grid {
    first: u32,
    last: u32,
    values: Vec<f64>,
}

impl Default for Grid {
    fn default() -> Self {
        Self { first: u32::MAX, last: 0, values: Vec::new() }
    }
}

impl Grid {
    fn cover(&mut self, slot: u32) {
        self.first = self.first.min(slot);
        self.last = self.last.max(slot);
    }

    fn slots(&self) -> usize {
        (self.last - self.first) as usize + 1
    }

    fn into_stripes(self, run: Run, layout: &Layout, layouts: &Layouts) -> Vec<StripeData> {
        let mut by_metric: BTreeMap<_, Vec<ColumnData>> = BTreeMap::new();
        for (key, values) in layout.keys().iter().zip(self.values.chunks_exact(self.slots())) {
            if values.iter().any(|value| !value.is_nan()) {
                by_metric.entry(key.metric).or_default().push(ColumnData {
                    component: Arc::clone(&key.component),
                    subcomponent: Arc::clone(&key.subcomponent),
                    values: values.to_vec(),
                });
            }
        }
        let stripes = by_metric.into_iter().map(|(metric, columns)| StripeData {
            metric: layouts.metric_name(metric),
            run,
            first_slot: self.first,
            slots: self.last - self.first + 1,
            columns,
        });
        stripes.collect()
    }
}
