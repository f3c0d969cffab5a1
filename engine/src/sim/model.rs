//! The naive model: the bits of a value by series and slot, and what is not yet known to be durable.
//!
//! All samples stand on the grid of their metric, so that the instant of a slot names it, whatever the run.

use std::collections::{BTreeMap, BTreeSet};

/// A series by the numbers of its host, metric and component.
pub(super) type Series = (u8, u8, u8);
/// Bits of the values by series and instant.
pub(super) type Content = BTreeMap<Series, BTreeMap<i64, u64>>;

/// Seconds of a slot of each metric.
pub(super) const FREQUENCIES: [i64; 3] = [60, 10, 3600];
/// Seconds of a partition.
pub(super) const DAY: i64 = 86_400;

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) series: Series,
    pub(super) time: i64,
    pub(super) bits: u64,
}

/// What an operation does to the content.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Write(Vec<Sample>),
    /// Takes these instants, from the first up to the second, of each of these series.
    Free(Vec<(Series, i64, i64)>),
}

/// An operation that the log has taken, from its first LSN to its last.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) effect: Effect,
}

/// What a store must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) settled: Content,
    pub(super) pending: Vec<Pending>,
    /// Values that may be there instead, or nothing may: of bodies that are known to be there in part.
    loose: BTreeMap<(Series, i64), Vec<u64>>,
    /// Slots of earlier days may be gone.
    pub(super) expired: i64,
    /// Slots of earlier days may be in the archive alone.
    pub(super) archived: i64,
    /// End of the newest slot that was ever written.
    pub(super) newest: i64,
    /// All that was ever written to a slot.
    history: BTreeMap<(Series, i64), Vec<u64>>,
}

/// The day that the slot of an instant begins in.
pub(super) fn day(series: Series, time: i64) -> i64 {
    (time - FREQUENCIES[usize::from(series.1)] / 2).div_euclid(DAY)
}

/// Where a store differs from the model.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) series: Series,
    pub(super) time: i64,
    pub(super) found: Option<u64>,
    pub(super) expected: Option<u64>,
}

impl Model {
    /// The log has taken an operation.
    pub(super) fn take(&mut self, first: u64, last: u64, effect: Effect) {
        if let Effect::Write(samples) = &effect {
            for sample in samples {
                let Sample { series, time, bits } = *sample;
                self.history.entry((series, time)).or_default().push(bits);
                self.newest = self.newest.max(time + FREQUENCIES[usize::from(series.1)] / 2);
            }
        }
        self.pending.push(Pending { first, last, effect });
    }

    /// All up to an LSN is there for good.
    pub(super) fn settle(&mut self, lsn: u64) {
        let count = self.pending.partition_point(|pending| pending.last <= lsn);
        for pending in self.pending.drain(..count).collect::<Vec<_>>() {
            self.apply(&pending.effect);
        }
    }

    /// What is behind an LSN never was; what spans it is there in part. How many operations were kept, and whether
    /// one was in part.
    pub(super) fn cut(&mut self, lsn: u64) -> (usize, bool) {
        let kept = self.pending.partition_point(|pending| pending.last <= lsn);
        self.settle(lsn);
        let spanning = self.pending.first().filter(|pending| pending.first <= lsn).cloned();
        if let Some(Pending { effect: Effect::Write(samples), .. }) = &spanning {
            for Sample { series, time, bits } in samples {
                self.loose.entry((*series, *time)).or_default().push(*bits);
            }
        }
        self.pending.clear();
        (kept, spanning.is_some())
    }

    /// What is behind an LSN will never be, though later ones may come; what spans it is there in part.
    pub(super) fn give_up(&mut self, lsn: u64) {
        self.pending.retain(|pending| pending.first <= lsn);
        for pending in self.pending.iter_mut().filter(|pending| pending.last > lsn) {
            pending.last = u64::MAX;
        }
    }

    /// What readers see when all up to an LSN is published.
    pub(super) fn seen(&self, lsn: u64) -> Self {
        let mut seen = self.clone();
        seen.cut(lsn);
        seen
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Write(samples) => {
                for Sample { series, time, bits } in samples {
                    self.settled.entry(*series).or_default().insert(*time, *bits);
                    self.loose.remove(&(*series, *time));
                }
            }
            Effect::Free(gone) => {
                for (series, from, to) in gone {
                    if let Some(slots) = self.settled.get_mut(series) {
                        slots.retain(|time, _| !(*from..*to).contains(time));
                    }
                }
            }
        }
    }

    /// The first difference that is not allowed. Where there is none, what was read is what will be expected.
    pub(super) fn compare(&mut self, read: &Content) -> Option<Difference> {
        let none = BTreeMap::new();
        let all: BTreeSet<Series> = self.settled.keys().chain(read.keys()).copied().collect();
        let mut gone = Vec::new();
        for series in all {
            let (expected, found) = (self.settled.get(&series).unwrap_or(&none), read.get(&series).unwrap_or(&none));
            if expected == found {
                continue;
            }
            let times: BTreeSet<i64> = expected.keys().chain(found.keys()).copied().collect();
            for time in times {
                let (expected, found) = (expected.get(&time).copied(), found.get(&time).copied());
                if expected == found {
                    continue;
                }
                let is_part = found
                    .is_some_and(|found| self.loose.get(&(series, time)).is_some_and(|values| values.contains(&found)));
                let is_expired = found.is_none() && day(series, time) < self.expired;
                if !is_part && !is_expired {
                    return Some(Difference { series, time, found, expected });
                }
                gone.push((series, time, found));
            }
        }
        for (series, time, found) in gone {
            let slots = self.settled.entry(series).or_default();
            match found {
                Some(bits) => slots.insert(time, bits),
                None => slots.remove(&time),
            };
        }
        self.loose.clear();
        None
    }

    /// How many values were ever written to the slots of a day.
    pub(super) fn written_in(&self, day: i64) -> usize {
        let of_day = self.history.iter().filter(|((series, time), _)| self::day(*series, *time) == day);
        of_day.map(|(_, values)| values.len()).sum()
    }

    /// Whether a value was ever written to a slot.
    pub(super) fn was_written(&self, series: Series, time: i64, bits: u64) -> bool {
        self.history.get(&(series, time)).is_some_and(|values| values.contains(&bits))
    }
}
