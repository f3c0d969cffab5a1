//! Rows of one host under construction: samples of one slot go to the log together.

use crate::error::Unavailable;
use crate::format::frame::write::RowValues;
use crate::slot::Run;
use crate::wal::ROW_VALUES_MAX;
use hashbrown::HashMap;

/// Rows that a request makes. Their memory is used again by the next.
#[derive(Debug, Default)]
pub(super) struct Rows {
    builders: Vec<RowBuilder>,
    used: usize,
    index: HashMap<(Run, u32), usize, foldhash::fast::RandomState>,
    sorted: Sorted,
}

#[derive(Debug, Default)]
struct RowBuilder {
    place: Option<(Run, u32)>,
    ordinals: Vec<u32>,
    values: Vec<f64>,
}

/// A row by rising ordinal.
#[derive(Debug, Default)]
struct Sorted {
    order: Vec<u32>,
    ordinals: Vec<u32>,
    values: Vec<f64>,
    /// The numbers from 0 on: the ordinals of rows without gaps.
    all: Vec<u32>,
}

impl Rows {
    pub(super) fn clear(&mut self) {
        for row in &mut self.builders[..self.used] {
            row.ordinals.clear();
            row.values.clear();
        }
        self.used = 0;
        self.index.clear();
    }

    /// The row of a slot.
    pub(super) fn at(&mut self, run: Run, slot: u32) -> usize {
        let place = (run, slot);
        *self.index.entry(place).or_insert_with(|| {
            let at = self.used;
            self.used += 1;
            if at == self.builders.len() {
                self.builders.push(RowBuilder::default());
            }
            self.builders[at].place = Some(place);
            at
        })
    }

    /// Adds a sample to a row.
    #[inline]
    pub(super) fn push(&mut self, row: usize, ordinal: u32, value: f64) {
        let row = &mut self.builders[row];
        row.ordinals.push(ordinal);
        row.values.push(value);
    }

    /// Gives all rows to the log, in pieces that it takes.
    pub(super) fn for_each(
        &mut self,
        mut append: impl FnMut(&RowValues<'_>) -> Result<(), Unavailable>,
    ) -> Result<(), Unavailable> {
        let Self { builders, used, sorted, .. } = self;
        for row in &builders[..*used] {
            let Some((run, slot)) = row.place else { continue };
            let (ordinals, values) = row.sorted(sorted);
            for (ordinals, values) in ordinals.chunks(ROW_VALUES_MAX).zip(values.chunks(ROW_VALUES_MAX)) {
                if values.iter().any(|value| !value.is_nan()) {
                    append(&RowValues { start: run.start, frequency: run.frequency, slot, ordinals, values })?;
                }
            }
        }
        Ok(())
    }
}

impl RowBuilder {
    /// The samples by rising ordinal; of several for one ordinal the last one counts. A row with few gaps is filled up
    /// with NaN, so that it is written in one piece.
    fn sorted<'a>(&'a self, sorted: &'a mut Sorted) -> (&'a [u32], &'a [f64]) {
        let first = self.ordinals.iter().copied().min().unwrap_or_default();
        let last = self.ordinals.iter().copied().max().unwrap_or_default();
        let span = (last - first) as usize + 1;
        let count = self.ordinals.len();
        let is_sorted = self.ordinals.is_sorted_by(|a, b| a < b);
        if is_sorted && (span == count || is_sparse(span, count)) {
            (&self.ordinals, &self.values)
        } else if span > count.saturating_mul(SPREAD) {
            sorted.sort(self)
        } else {
            sorted.spread(self, first, span)
        }
    }
}

/// A row whose ordinals span more than this many times its samples is sorted, one that spans less is spread out.
const SPREAD: usize = 8;

/// Whether a row is shorter as a list than with its gaps: ordinals take half as much as values.
fn is_sparse(span: usize, count: usize) -> bool {
    span.saturating_mul(2) > count.saturating_mul(3)
}

impl Sorted {
    /// Puts each value at its ordinal, of which `first` is the lowest one.
    fn spread(&mut self, row: &RowBuilder, first: u32, span: usize) -> (&[u32], &[f64]) {
        let Self { ordinals, values, all, .. } = self;
        values.clear();
        values.resize(span, f64::NAN);
        for (&ordinal, &value) in row.ordinals.iter().zip(&row.values) {
            values[(ordinal - first) as usize] = value;
        }
        if is_sparse(span, row.ordinals.len()) {
            ordinals.clear();
            ordinals.extend((first..).zip(&*values).filter(|(_, value)| !value.is_nan()).map(|(ordinal, _)| ordinal));
            values.retain(|value| !value.is_nan());
            return (ordinals, values);
        }
        let (from, to) = (first as usize, first as usize + span);
        all.extend((0_u32..).skip(all.len()).take(to.saturating_sub(all.len())));
        (&all[from..to], values)
    }

    fn sort(&mut self, row: &RowBuilder) -> (&[u32], &[f64]) {
        let Self { order, ordinals, values, .. } = self;
        order.clear();
        order.extend(0..u32::try_from(row.ordinals.len()).unwrap_or(u32::MAX));
        order.sort_by_key(|&at| row.ordinals[at as usize]);
        ordinals.clear();
        values.clear();
        for &at in &*order {
            let (ordinal, value) = (row.ordinals[at as usize], row.values[at as usize]);
            match (ordinals.last(), values.last_mut()) {
                (Some(&last), Some(kept)) if last == ordinal => *kept = value,
                _ => {
                    ordinals.push(ordinal);
                    values.push(value);
                }
            }
        }
        (ordinals, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// In whatever order samples come, with or without gaps: the last of each series, by rising ordinal.
        #[test]
        fn a_row_holds_the_last_sample_of_each_series(
            samples in prop::collection::vec((prop_oneof![0_u32..40, 0_u32..40, 30_u32..9000], -9.0..9.0), 1..60)
        ) {
            let run = Run { start: 0, frequency: 60 };
            let mut rows = Rows::default();
            let mut expected = BTreeMap::new();
            let row = rows.at(run, 3);
            for (ordinal, value) in samples {
                rows.push(row, ordinal, value);
                expected.insert(ordinal, value);
            }
            let mut found = BTreeMap::new();
            rows.for_each(|row| {
                assert!(row.ordinals.is_sorted_by(|a, b| a < b) && row.ordinals.len() == row.values.len());
                let holds = row.values.iter().filter(|value| !value.is_nan()).count();
                assert!(holds == row.values.len() || row.ordinals.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                let present = row.ordinals.iter().zip(row.values).filter(|(_, value)| !value.is_nan());
                found.extend(present.map(|(&ordinal, &value)| (ordinal, value)));
                Ok(())
            }).unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}
