//! One stored series and its reading rule.
//!
//! A *run* is known by its start and its frequency `f`. Its slot `i` covers the instants from `start + i * f` up to
//! `start + (i + 1) * f` and stands for a sample at the nominal time `start + f / 2 + i * f`. Runs are ordered by
//! start; a run is read from its start up to the start of the next run. Of two runs with one start the one with the
//! longer interval is read. A run without any value does not exist.
//!
//! A series is read at the points of a [`Grid`]: `from`, `from + frequency`, ... with the configured frequency, which
//! need not be the one that a run was stored with:
//! * stored with the same one: a point takes the slot that contains it;
//! * stored finer: the last present one of the slots that begin in the interval `(point - frequency, point]`;
//! * stored coarser: a slot is seen at the one point whose interval of `frequency` seconds, beginning `frequency / 2`
//!   seconds before the point, contains the nominal time of the slot; other points are missing.
//!
//! In all three cases a slot is seen at exactly one point: the first one at or after the slot's *anchor*. This is its
//! begin, or for a coarser run the nominal time plus `frequency / 2 - frequency + 1`.
//!
//! Instants and their sums are `i128` inside this module, so that nothing here can overflow.

use super::Values;
use crate::canary::{self, Canary};
use std::ops::Range;

/// One piece of a stored series: consecutive slots of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece<'a> {
    /// The start of the run: the first instant of its slot 0, in unix seconds.
    pub start: i64,
    /// The interval of the run in seconds; a piece with 0 is ignored.
    pub frequency: u32,
    /// The slot of the first value.
    pub first_slot: u32,
    /// One value a slot; NaN is missing.
    pub values: Values<'a>,
}

/// What is known of one series in and around a range.
///
/// Besides the slots of the range, widened by one interval at both ends, a series needs those that tell where it begins
/// and ends:
/// * a present slot at or before `from` if the store has one, else the first present slot of the store;
/// * of each run that begins inside the range, and of the newest one that begins before it, the last present slot.
#[derive(Clone, Debug, Default)]
pub struct Series<'a> {
    /// Ordered by run, the pieces of a run in layer order. Each has a value.
    pieces: Vec<Piece<'a>>,
}

/// One run: pieces that stand side by side in their series.
#[derive(Clone, Copy, Debug)]
struct Run<'s, 'a> {
    start: i128,
    frequency: i128,
    pieces: &'s [Piece<'a>],
}

/// The instants at which series are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    /// The first point.
    pub(super) first: i128,
    /// Seconds between two points, at least 1.
    pub(super) frequency: i128,
    /// How many points there are.
    pub(super) len: usize,
}

impl<'a> Series<'a> {
    /// Takes the pieces in layer order, oldest layer first. Pieces may cover the same slots of the same run: in each
    /// slot the newest value that is not missing wins.
    pub fn new(mut pieces: Vec<Piece<'a>>) -> Self {
        pieces.retain(|piece| piece.frequency > 0 && piece.values.first_present().is_some());
        pieces.sort_by_key(Piece::run);
        Self { pieces }
    }

    /// Its runs, ordered by start.
    fn runs(&self) -> impl Iterator<Item = Run<'_, 'a>> {
        self.pieces.chunk_by(|a, b| a.run() == b.run()).filter_map(Run::of)
    }

    /// Whether reading this series alone from `from` up to `to` yields a value that is not missing.
    /// `frequency` is the configured one.
    pub fn has_data(&self, from: i64, to: i64, frequency: u32) -> bool {
        let grid = Grid::new(&self.window(from, to, frequency), frequency);
        self.covering(&grid).any(|(run, points)| {
            let slots = run.seen_slots(&grid, &points);
            run.pieces.iter().any(|piece| {
                let (_, values) = piece.slots(&slots);
                values.first_present().is_some()
            })
        })
    }

    /// The part of the range in which this series has an answer: from its first present slot on, up to the end of the
    /// last present slot of the newest run that begins before `to`; empty if its end is not after its start. Behind
    /// that slot lies no gap but the end of what is known, so nothing is answered there.
    pub(super) fn window(&self, from: i64, to: i64, frequency: u32) -> Range<i128> {
        let (from, to) = (i128::from(from), i128::from(to));
        let Some(oldest) = self.runs().next() else { return from..from };
        let first = from.max(oldest.begin());
        let before_end = self.pieces.partition_point(|piece| i128::from(piece.start) < to);
        let newest = self.pieces[..before_end].chunk_by(|a, b| a.run() == b.run()).next_back().and_then(Run::of);
        first..newest.map_or(first, |newest| newest.end(frequency).min(to))
    }

    /// Reads the series at every point of the grid. `values` has one value a point, all of them missing.
    pub(super) fn read(&self, grid: &Grid, values: &mut [f64]) {
        for (run, points) in self.covering(grid) {
            run.read(grid, &points, &mut values[points.clone()]);
        }
    }

    /// Adds what is read at every point of the grid to the sums: one that is missing makes the sum missing. `copy` is
    /// memory for what cannot be added where it stands.
    pub(super) fn add_to(&self, grid: &Grid, sums: &mut [f64], copy: &mut Vec<f64>) {
        let mut at = 0;
        for (run, points) in self.covering(grid) {
            sums[at..points.start].fill(f64::NAN);
            at = points.end;
            let sums = &mut sums[points.clone()];
            if run.frequency == grid.frequency && run.pieces.is_sorted_by(Piece::ends_before) {
                // They stand side by side, as mostly.
                let slots = run.seen_slots(grid, &points);
                let mut done = 0;
                for piece in run.pieces {
                    let (first, values) = piece.slots(&slots);
                    let begin = index(first - slots.start).max(done);
                    sums[done..begin].fill(f64::NAN);
                    done = begin + values.len();
                    values.add_to(&mut sums[begin..done]);
                }
                sums[done..].fill(f64::NAN);
            } else {
                copy.clear();
                copy.resize(sums.len(), f64::NAN);
                run.read(grid, &points, copy);
                for (sum, value) in sums.iter_mut().zip(&*copy) {
                    *sum += *value;
                }
            }
        }
        sums[at..].fill(f64::NAN);
    }

    /// The runs that are read at some points of the grid, with these points.
    fn covering(&self, grid: &Grid) -> impl Iterator<Item = (Run<'_, 'a>, Range<usize>)> {
        let mut runs = self.runs().map(|run| (run, grid.index_from(run.start))).peekable();
        let points = std::iter::from_fn(move || {
            let (run, begin) = runs.next()?;
            Some((run, begin..runs.peek().map_or(grid.len, |&(_, next)| next)))
        });
        points.filter(|(_, points)| !points.is_empty())
    }
}

impl<'s, 'a> Run<'s, 'a> {
    /// The run of these pieces.
    fn of(pieces: &'s [Piece<'a>]) -> Option<Self> {
        let piece = pieces.first()?;
        Some(Self { start: i128::from(piece.start), frequency: i128::from(piece.frequency), pieces })
    }

    /// The instant for which its first present slot stands.
    fn begin(&self) -> i128 {
        let first = |piece: &Piece<'_>| Some(piece.slot(piece.values.first_present()?));
        self.nominal(self.pieces.iter().filter_map(first).min().unwrap_or(0))
    }

    fn nominal(&self, slot: i128) -> i128 {
        self.start + self.frequency / 2 + slot * self.frequency
    }

    /// The end of the last present slot. If the run is finer than the grid it is the end of the grid interval that the
    /// slot may begin, since the slot is seen at a point inside it.
    fn end(&self, grid_frequency: u32) -> i128 {
        let last = |piece: &Piece<'_>| Some(piece.slot(piece.values.last_present()?));
        let last_slot = self.pieces.iter().filter_map(last).max().unwrap_or(0);
        self.start + last_slot * self.frequency + self.frequency.max(i128::from(grid_frequency))
    }

    /// How long after its begin the anchor of a slot lies.
    fn anchor_offset(&self, grid: &Grid) -> i128 {
        if self.frequency > grid.frequency { self.frequency / 2 + grid.frequency / 2 - grid.frequency + 1 } else { 0 }
    }

    /// The slots that are seen at these points of the grid.
    fn seen_slots(&self, grid: &Grid, points: &Range<usize>) -> Range<i128> {
        let anchored_after_point_before = |point: usize| {
            let instant = grid.instant(point) - grid.frequency + 1;
            div_ceil(instant - self.anchor_offset(grid) - self.start, self.frequency)
        };
        anchored_after_point_before(points.start)..anchored_after_point_before(points.end)
    }

    /// Reads its pieces at some points of the grid. `values` has one value for each of them, all missing.
    fn read(&self, grid: &Grid, points: &Range<usize>, values: &mut [f64]) {
        let slots = self.seen_slots(grid, points);
        if self.frequency == grid.frequency {
            for piece in self.pieces {
                let (first, newer) = piece.slots(&slots);
                newer.overlay(&mut values[index(first - slots.start)..]);
            }
        } else {
            self.read_regridded(&slots, grid, points.start, values);
        }
    }

    /// Reads `slots` of a run that has another frequency than the grid into the points from `first_point` on.
    fn read_regridded(&self, slots: &Range<i128>, grid: &Grid, first_point: usize, values: &mut [f64]) {
        // Several slots may be seen at one point: the last present one wins, whatever the layers are.
        let mut taken = vec![i128::MIN; values.len()];
        for piece in self.pieces {
            let (first, newer) = piece.slots(slots);
            for (slot, value) in (first..).zip(newer.iter()) {
                let anchor = self.start + slot * self.frequency + self.anchor_offset(grid);
                let point = grid.index_from(anchor) - first_point;
                let is_there = !value.is_nan() || canary::is(Canary::MissingOverwritesInReads);
                if is_there && slot >= taken[point] {
                    values[point] = value;
                    taken[point] = slot;
                }
            }
        }
    }
}

impl Piece<'_> {
    /// The same piece, with values that stay where they are.
    #[must_use]
    pub fn borrow(&self) -> Piece<'_> {
        let Self { start, frequency, first_slot, values } = self;
        Piece { start: *start, frequency: *frequency, first_slot: *first_slot, values: values.borrow() }
    }

    /// What its run is known by.
    fn run(&self) -> (i64, u32) {
        (self.start, self.frequency)
    }

    /// The slot of the value at `index`.
    fn slot(&self, index: usize) -> i128 {
        i128::from(self.first_slot) + index as i128
    }

    /// Whether its slots lie before those of another piece.
    fn ends_before(&self, next: &Self) -> bool {
        self.slot(self.values.len()) <= i128::from(next.first_slot)
    }

    /// The values of those of `slots` that the piece has, and the first such slot (`slots.start` if there is none).
    fn slots(&self, slots: &Range<i128>) -> (i128, Values<'_>) {
        let base = i128::from(self.first_slot);
        let begin = index(slots.start - base).min(self.values.len());
        let end = index(slots.end - base).min(self.values.len());
        let first = if begin < end { self.slot(begin) } else { slots.start };
        (first, self.values.part(begin..end))
    }
}

impl Grid {
    /// The points from the start of the window on, one every `frequency` seconds, that lie before its end.
    pub(super) fn new(window: &Range<i128>, frequency: u32) -> Self {
        let frequency = i128::from(frequency.max(1));
        Self { first: window.start, frequency, len: index(div_ceil(window.end - window.start, frequency)) }
    }

    /// The instant of a point, which may lie behind the last one.
    pub(super) fn instant(&self, point: usize) -> i128 {
        self.first + point as i128 * self.frequency
    }

    /// The first point at or after an instant, or the number of points.
    fn index_from(&self, instant: i128) -> usize {
        index(div_ceil(instant - self.first, self.frequency)).min(self.len)
    }
}

/// The quotient rounded up; the divisor is positive.
fn div_ceil(a: i128, b: i128) -> i128 {
    // Nearly all are short, and those a processor divides by itself.
    match (i64::try_from(-a), i64::try_from(b)) {
        (Ok(negative), Ok(b)) => -i128::from(negative.div_euclid(b)),
        _ => -(-a).div_euclid(b),
    }
}

/// A number of points or slots, 0 if it is negative.
fn index(n: i128) -> usize {
    usize::try_from(n.max(0)).unwrap_or(usize::MAX)
}
