//! Where the values of one series go: stretches of slots that do not overlap.
//!
//! What counts more comes first: the slots of the store, then samples with exact times, then arrays from the last to
//! the first. A value whose instant falls into a stretch that is there already goes to the slot that contains it, if
//! that has none; otherwise it begins a stretch with the grid of its array, on which it stands in the middle of its
//! slot. So a value is never more than half an interval away from the instant that its file gives.

use super::{ImportArray, day_of};
use crate::ccms::Values;
use crate::slot::{self, RUN_SLOTS, Run, Written};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The stretches of a series.
#[derive(Debug)]
pub(super) struct Timeline<'a> {
    /// By the run that each begins with. A map: files come from the last to the first, so most go before all others.
    stretches: BTreeMap<Run, Stretch<'a>>,
    /// No value may be later.
    latest: i64,
    /// Values that found their slot taken.
    pub(super) known: u64,
    /// Values that were too late.
    pub(super) future: u64,
}

/// Slots on one grid.
#[derive(Debug)]
struct Stretch<'a> {
    /// Where slot 0 begins.
    run: Run,
    /// How many slots there are.
    len: u32,
    from: Source<'a>,
    /// What came for slots that had no value.
    fills: BTreeMap<u32, f64>,
}

#[derive(Debug)]
enum Source<'a> {
    /// Slots of a run of the store: they are there.
    Stored(&'a [f64]),
    /// So many values of an array, from one of them on.
    Array { values: &'a Values<'a>, first: usize, count: usize },
    /// Samples.
    Samples(Vec<f64>),
}

impl<'a> Timeline<'a> {
    /// Begins with the runs that the store has.
    pub(super) fn new(stored: Option<&'a BTreeMap<Run, Vec<f64>>>, latest: i64) -> Self {
        let stretches = stored.into_iter().flatten().map(|(&run, values)| {
            (run, Stretch { run, len: slots(values.len()), from: Source::Stored(values), fills: BTreeMap::new() })
        });
        Self { stretches: stretches.collect(), latest, known: 0, future: 0 }
    }

    /// Places samples as senders' samples are placed, the last one in a slot first of all. Comes before the arrays.
    pub(super) fn add_samples(&mut self, samples: &[(i64, f64)], frequency: u32) {
        let written = |stretch: &Stretch<'_>| Written {
            run: stretch.run,
            last_slot: stretch.len.saturating_sub(1),
            is_closed: true,
        };
        let mut runs: BTreeMap<Run, Written> =
            self.stretches.iter().map(|(&run, stretch)| (run, written(stretch))).collect();
        let mut placed: BTreeMap<Run, BTreeMap<u32, f64>> = BTreeMap::new();
        for &(time, value) in samples.iter().filter(|(_, value)| !value.is_nan()) {
            if time > self.latest {
                self.future += 1;
                continue;
            }
            // Only the run that begins behind the time and the one before that have a say; where there is none behind it,
            // the newest one.
            let behind = runs.range((Bound::Excluded(last_at(time)), Bound::Unbounded)).next();
            let before = runs.range(..=last_at(time)).next_back();
            let newest_first = behind.into_iter().chain(before).map(|(_, &known)| known);
            let Some((run, slot)) = slot::place(newest_first, i64::MIN, time, frequency) else {
                self.known += 1;
                continue;
            };
            let known = runs.entry(run).or_insert(Written { run, last_slot: slot, is_closed: false });
            known.last_slot = known.last_slot.max(slot);
            placed.entry(run).or_default().insert(slot, value);
        }
        for (run, values) in placed {
            match self.stretches.get_mut(&run) {
                Some(stretch) => {
                    for (slot, value) in values {
                        self.known += u64::from(!stretch.fill(slot, value));
                    }
                }
                None => self.insert_run(run, &values),
            }
        }
    }

    fn insert_run(&mut self, run: Run, values: &BTreeMap<u32, f64>) {
        let (Some((&first, _)), Some((&last, _))) = (values.first_key_value(), values.last_key_value()) else { return };
        let values = (first..=last).map(|slot| values.get(&slot).copied().unwrap_or(f64::NAN)).collect();
        let run = Run { start: run.end_after(first), ..run };
        let stretch = Stretch { run, len: last - first + 1, from: Source::Samples(values), fills: BTreeMap::new() };
        self.stretches.insert(run, stretch);
    }

    /// Adds an array under all that is there.
    pub(super) fn add(&mut self, array: &ImportArray<'a>) {
        let ImportArray { start, frequency, values } = *array;
        let step = i64::from(frequency);
        // The parser has made sure that no instant of the array runs out of time.
        let instant = |at: usize| start.saturating_add(step.saturating_mul(i64::try_from(at).unwrap_or(i64::MAX)));
        // The first value at or behind an instant.
        let index = |time: i64| {
            let distance = i128::from(time) - i128::from(start) + i128::from(step) - 1;
            usize::try_from(distance.max(0) / i128::from(step)).unwrap_or(usize::MAX)
        };
        let is_present = |at: &usize| !values.get(*at).is_nan();
        let count = values.len().min(index(self.latest.saturating_add(1)));
        self.future += (count..values.len()).filter(is_present).count() as u64;
        let mut at = 0;
        while at < count {
            let time = instant(at);
            let next = self.stretches.range((Bound::Excluded(last_at(time)), Bound::Unbounded)).next();
            let end = next.map_or(count, |(next, _)| count.min(index(next.start)));
            let before = self.stretches.range_mut(..=last_at(time)).next_back().map(|(_, before)| before);
            match before {
                Some(stretch) if time < stretch.end() => {
                    let end = end.min(index(stretch.end()));
                    for at in (at..end).filter(is_present) {
                        let slot = (instant(at) - stretch.run.start) / i64::from(stretch.run.frequency);
                        let is_new = u32::try_from(slot).is_ok_and(|slot| stretch.fill(slot, values.get(at)));
                        self.known += u64::from(!is_new);
                    }
                    at = end;
                }
                before => {
                    let Some(first) = (at..end).find(is_present) else {
                        at = end;
                        continue;
                    };
                    let run = Run::opened_by(instant(first), frequency);
                    // A run is read up to the start of the next one: this must not cut off the instant of a slot.
                    if let Some(stretch) = before.filter(|stretch| run.start <= stretch.last_instant()) {
                        let slot = (instant(first) - stretch.run.start) / i64::from(stretch.run.frequency);
                        let is_new = u32::try_from(slot).is_ok_and(|slot| stretch.append(slot, values.get(first)));
                        self.known += u64::from(!is_new);
                        at = first + 1;
                        continue;
                    }
                    let last = (first..end).rfind(is_present).unwrap_or(first);
                    let count = last - first + 1;
                    let from = Source::Array { values, first, count };
                    let stretch = Stretch { run, len: slots(count), from, fills: BTreeMap::new() };
                    self.stretches.insert(run, stretch);
                    at = end;
                }
            }
        }
    }

    /// Gives what is new, in pieces that lie within one day and are no longer than a run that is written: the day, the
    /// run, its first slot and the values. Days that are not wanted are passed over.
    pub(super) fn pieces(&self, mut wants: impl FnMut(i64) -> bool, mut each: impl FnMut(i64, Run, u32, Vec<f64>)) {
        for stretch in self.stretches.values() {
            let is_stored = matches!(stretch.from, Source::Stored(_));
            let mut slot = 0;
            while slot < stretch.len {
                let begin = stretch.run.end_after(slot);
                let day = day_of(begin);
                let end = stretch.end_in_day(slot, day);
                let bounds = if is_stored { stretch.fills_in(slot..end) } else { Some((slot, end)) };
                if let Some((first, end)) = bounds.filter(|_| wants(day)) {
                    let values: Vec<f64> = (first..end).map(|slot| stretch.new_value(slot)).collect();
                    if is_stored {
                        each(day, stretch.run, first, values);
                    } else if values.iter().any(|value| !value.is_nan()) {
                        each(day, Run { start: begin, ..stretch.run }, 0, values);
                    }
                }
                slot = end;
            }
        }
    }
}

impl Stretch<'_> {
    /// The end of the last slot.
    fn end(&self) -> i64 {
        self.run.end_after(self.len)
    }

    /// The instant that the last slot stands for.
    fn last_instant(&self) -> i64 {
        self.run.nominal(self.len.saturating_sub(1))
    }

    fn source(&self, slot: u32) -> f64 {
        let slot = slot as usize;
        match &self.from {
            Source::Stored(values) => values.get(slot).copied().unwrap_or(f64::NAN),
            Source::Array { values, first, count } if slot < *count => values.get(first + slot),
            Source::Array { .. } => f64::NAN,
            Source::Samples(values) => values.get(slot).copied().unwrap_or(f64::NAN),
        }
    }

    /// What is new in a slot.
    fn new_value(&self, slot: u32) -> f64 {
        let of_source = if matches!(self.from, Source::Stored(_)) { f64::NAN } else { self.source(slot) };
        if of_source.is_nan() { self.fills.get(&slot).copied().unwrap_or(f64::NAN) } else { of_source }
    }

    /// Puts a value into a slot that has none; whether it had none.
    fn fill(&mut self, slot: u32, value: f64) -> bool {
        if !self.source(slot).is_nan() || self.fills.contains_key(&slot) {
            return false;
        }
        self.fills.insert(slot, value);
        self.len = self.len.max(slot + 1);
        true
    }

    /// Puts a value into the slot behind the last one.
    fn append(&mut self, slot: u32, value: f64) -> bool {
        let has_room = !matches!(self.from, Source::Stored(_)) || slot < RUN_SLOTS;
        slot == self.len && has_room && self.fill(slot, value)
    }

    /// The first slot behind `slot` that another piece begins with.
    fn end_in_day(&self, slot: u32, day: i64) -> u32 {
        let is_there = |end: &u32| day_of(self.run.end_after(*end)) == day;
        let most = self.len.min(slot.saturating_add(RUN_SLOTS));
        // Days are long and runs are short: mostly all of it lies in the day.
        if is_there(&(most - 1)) { most } else { (slot + 1..most).find(|end| !is_there(end)).unwrap_or(most) }
    }

    /// From the first to behind the last fill of some slots.
    fn fills_in(&self, slots: std::ops::Range<u32>) -> Option<(u32, u32)> {
        let mut fills = self.fills.range(slots);
        let (&first, _) = fills.next()?;
        Some((first, fills.next_back().map_or(first, |(&last, _)| last) + 1))
    }
}

/// The last of all runs that could begin at a time.
fn last_at(time: i64) -> Run {
    Run { start: time, frequency: u32::MAX }
}

fn slots(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
