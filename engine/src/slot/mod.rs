//! From a time to a run and a slot: the one place that knows the rule. Pure arithmetic, no clock, no memory.
//!
//! A *run* is a grid: slot `i` holds what happens in `[start + i * frequency, start + (i + 1) * frequency)`. The first
//! sample of a run stands in the middle of slot 0, so a sender may be half an interval early or late. A run has
//! [`RUN_SLOTS`] slots when written, and it ends where the next run of the series begins: runs
//! never overlap, though the last slot of one may be cut short by the next.

/// Slots of a run that writing fills: 8.5 hours at one a minute (the predecessor's buffer, contract of the wire).
pub const RUN_SLOTS: u32 = 512;

/// A grid: where slot 0 begins and how long a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// First instant of slot 0, in unix seconds.
    pub start: i64,
    /// Seconds of one slot, at least 1.
    pub frequency: u32,
}

impl Run {
    /// The run that a sample at `time` opens: the sample is in the middle of slot 0.
    pub fn opened_by(time: i64, frequency: u32) -> Self {
        Self { start: time.saturating_sub(i64::from(frequency / 2)), frequency }
    }

    /// The end of `slots` slots, exclusive.
    pub fn end_after(self, slots: u32) -> i64 {
        self.start.saturating_add(i64::from(slots).saturating_mul(i64::from(self.frequency)))
    }

    /// The end of what writing may fill, exclusive.
    pub fn span_end(self) -> i64 {
        self.end_after(RUN_SLOTS)
    }

    /// The slot that holds `time`, which is not before the start; `None` beyond the span.
    pub fn slot_of(self, time: i64) -> Option<u32> {
        let slot = time.checked_sub(self.start)?.checked_div(i64::from(self.frequency))?;
        u32::try_from(slot).ok().filter(|&slot| slot < RUN_SLOTS)
    }

    /// The instant that a slot stands for, the middle of it.
    pub fn nominal(self, slot: u32) -> i64 {
        self.end_after(slot).saturating_add(i64::from(self.frequency / 2))
    }
}

/// A run that a series has, and how far it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The run.
    pub run: Run,
    /// The highest slot that was written.
    pub last_slot: u32,
    /// Whether nothing new is to be written behind that slot: the phase of the run is not that of a sender, or runs that
    /// are not known may lie there.
    pub is_closed: bool,
}

impl Written {
    /// The end of the last slot that was written.
    pub fn end(&self) -> i64 {
        self.run.end_after(self.last_slot.saturating_add(1))
    }
}

/// Finds the place of a sample in a series.
///
/// `newest_first` gives the series' runs by falling start; `frequency` is what is configured now. The rule: the newest
/// run whose span covers the time; behind the newest run a new one with its own phase, or with the old one where that has
/// the time in the middle half of a slot: a steady sender keeps its grid, and one that has come near the edges of its
/// slots, where jitter puts two samples into one, is in the middle of them again; before a run a new one with that run's
/// phase. A run behind a full one may take up to half of the last slot of that. Where the configured frequency has changed,
/// or the newest run is closed, it is left as soon as time passes what was written to it. The runs are all that has slots
/// behind `known_from`: a run before all of them does not begin earlier, and a closed one that ended by then is not gone on
/// with.
///
/// `None`: the time falls between two runs that have no room for a slot between them.
pub fn place(
    mut newest_first: impl Iterator<Item = Written>,
    known_from: i64,
    time: i64,
    frequency: u32,
) -> Option<(Run, u32)> {
    let Some(newest) = newest_first.next() else {
        return Some((Run::opened_by(time, frequency), 0));
    };
    let run = newest.run;
    if time >= run.start {
        let is_written = time < newest.end();
        let goes_on = run.frequency == frequency && !newest.is_closed;
        if (goes_on || is_written)
            && let Some(slot) = run.slot_of(time)
        {
            return Some((run, slot));
        }
        return Some(behind(newest, time, frequency));
    }
    let mut next = run;
    let known_from = known_from.min(time);
    for written in newest_first {
        let run = written.run;
        if time >= run.start {
            return match run.slot_of(time) {
                // Others may lie behind it.
                _ if written.is_closed && written.end() <= known_from => before(next, known_from, time),
                Some(slot) => Some((run, slot)),
                None if written.is_closed || run.frequency != next.frequency => before(next, run.span_end(), time),
                None => before(next, from_half_of_last_slot(run), time),
            };
        }
        next = run;
    }
    before(next, known_from, time)
}

/// The place of a sample behind all that `newest` can take.
fn behind(newest: Written, time: i64, frequency: u32) -> (Run, u32) {
    let own = Run::opened_by(time, frequency);
    let start = if newest.run.frequency == frequency && !newest.is_closed {
        let end = newest.run.span_end();
        let is_steady = own.start.abs_diff(end) <= u64::from(frequency / 4);
        if is_steady { end } else { own.start.max(from_half_of_last_slot(newest.run)) }
    } else {
        own.start.max(newest.end())
    };
    let run = Run { start, frequency };
    (run, run.slot_of(time).unwrap_or(0))
}

/// Where a run behind a full one may begin: the instant that the last slot stands for is left to that.
fn from_half_of_last_slot(run: Run) -> i64 {
    run.span_end().saturating_sub(i64::from(run.frequency.saturating_sub(1) / 2))
}

/// The place of a sample before `next`, in whose phase it goes, and not before `floor`.
fn before(next: Run, floor: i64, time: i64) -> Option<(Run, u32)> {
    let step = i64::from(next.frequency);
    let slots_back = next.start.checked_sub(time)?.checked_add(step - 1)? / step;
    let runs_back = slots_back.checked_add(i64::from(RUN_SLOTS) - 1)? / i64::from(RUN_SLOTS);
    let mut start = next.start.checked_sub(runs_back.checked_mul(i64::from(RUN_SLOTS))?.checked_mul(step)?)?;
    if start < floor {
        let room = next.start.checked_sub(floor)? / step;
        if room == 0 {
            return None;
        }
        start = next.start - room * step;
    }
    let run = Run { start, frequency: next.frequency };
    // In the fraction of an interval between the floor and the first whole slot, the first slot is the nearest.
    Some((run, run.slot_of(time.max(start))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(start: i64, frequency: u32, last_slot: u32) -> Written {
        Written { run: Run { start, frequency }, last_slot, is_closed: false }
    }

    #[test]
    fn first_sample_stands_in_the_middle_of_slot_zero() {
        assert_eq!(place([].into_iter(), i64::MIN, 1000, 60), Some((Run { start: 970, frequency: 60 }, 0)));
        assert_eq!(place([].into_iter(), i64::MIN, 1000, 1), Some((Run { start: 1000, frequency: 1 }, 0)));
        assert_eq!(place([].into_iter(), i64::MIN, 1000, 7), Some((Run { start: 997, frequency: 7 }, 0)));
    }

    #[test]
    fn jitter_of_half_an_interval_stays_in_the_slot() {
        let run = written(970, 60, 0);
        for (time, slot) in [(1029, 0), (1030, 1), (1089, 1), (1090, 2), (970, 0)] {
            assert_eq!(place([run].into_iter(), i64::MIN, time, 60), Some((run.run, slot)), "{time}");
        }
    }

    #[test]
    fn a_full_run_is_followed_by_one_with_the_phase_of_its_first_sample() {
        let run = written(970, 60, 511);
        let end = 970 + 512 * 60;
        for (behind, start) in [(30, 0), (15, 0), (45, 0), (14, -16), (46, 16), (0, -29), (59, 29), (100_017, 99_987)] {
            let opened = Run { start: end + start, frequency: 60 };
            assert_eq!(place([run].into_iter(), i64::MIN, end + behind, 60), Some((opened, 0)), "{behind}");
            assert!(opened.start > run.run.nominal(511));
        }
    }

    #[test]
    fn neighbours_at_the_end_of_a_full_run_may_come_the_other_way_round() {
        // But for one whose samples stand exactly on the edges of the old slots.
        for offset in 1..60 {
            let mut runs = vec![written(0, 60, 511)];
            let time = runs[0].run.span_end() + offset;
            for time in [time + 60, time] {
                let place = place(runs.iter().rev().copied(), i64::MIN, time, 60);
                let (run, slot) = place.unwrap_or_else(|| panic!("{offset}: no room at {time}"));
                runs.push(written(run.start, run.frequency, slot));
                runs.sort_by_key(|known| known.run);
                runs.dedup_by_key(|known| known.run);
            }
        }
    }

    #[test]
    fn a_sender_whose_phase_has_changed_is_in_the_middle_of_its_slots_when_the_run_is_full() {
        for (frequency, offset) in (0..60).map(|offset| (60, offset)).chain((0..10).map(|offset| (10, offset))) {
            let mut runs = vec![written(0, frequency, 0)];
            let mut last = None;
            let mut shared = 0;
            for at in 0..2000_i64 {
                // It jitters by a second, in no order.
                let time = 600 + offset + at * i64::from(frequency) + (at * at / 3) % 2;
                let place = place(runs.iter().rev().copied(), i64::MIN, time, frequency).unwrap();
                let (run, slot) = place;
                if runs.iter().all(|known| known.run != run) {
                    runs.push(written(run.start, frequency, slot));
                }
                shared += usize::from(last.replace(place) == Some(place) && run.start > 0);
            }
            assert_eq!(shared, 0, "every {frequency} s at {offset}");
            assert!(runs.len() > 3);
        }
    }

    #[test]
    fn a_late_sample_goes_before_in_the_phase_of_the_next_run() {
        let run = written(100_010, 60, 3);
        let (before, slot) = place([run].into_iter(), i64::MIN, 100_009, 60).unwrap();
        assert_eq!((before.span_end(), slot), (100_010, 511));
        let older = written(50_000, 60, 511);
        let (between, slot) = place([run, older].into_iter(), i64::MIN, 90_000, 60).unwrap();
        assert!(between.start >= older.run.span_end());
        assert_eq!((100_010 - between.start) % 60, 0);
        assert_eq!(between.slot_of(90_000), Some(slot));
        assert_eq!(place([run, older].into_iter(), i64::MIN, 50_061, 60), Some((older.run, 1)));
    }

    #[test]
    fn a_changed_frequency_leaves_the_run_behind_what_is_written() {
        let run = written(970, 60, 2);
        assert_eq!(place([run].into_iter(), i64::MIN, 1100, 10), Some((run.run, 2)));
        assert_eq!(place([run].into_iter(), i64::MIN, 1150, 10), Some((Run { start: 1150, frequency: 10 }, 0)));
        assert_eq!(place([run].into_iter(), i64::MIN, 1200, 10), Some((Run { start: 1195, frequency: 10 }, 0)));
    }

    #[test]
    fn a_closed_run_takes_what_falls_into_it_and_a_sender_behind_it_has_its_own_phase() {
        let run = Written { is_closed: true, ..written(970, 60, 2) };
        assert_eq!(place([run].into_iter(), i64::MIN, 1100, 60), Some((run.run, 2)));
        assert_eq!(place([run].into_iter(), i64::MIN, 1155, 60), Some((Run { start: 1150, frequency: 60 }, 0)));
        assert_eq!(place([run].into_iter(), i64::MIN, 1209, 60), Some((Run { start: 1179, frequency: 60 }, 0)));
    }

    #[test]
    fn a_closed_run_before_what_is_known_is_not_gone_on_with() {
        let run = Written { is_closed: true, ..written(970, 60, 2) };
        let place = |known_from, time| place([written(2000, 60, 0), run].into_iter(), known_from, time, 60);
        assert_eq!(place(i64::MIN, 1500), Some((run.run, 8)));
        assert_eq!(place(1149, 1500), Some((run.run, 8)));
        assert_eq!(place(1150, 1500), Some((Run { start: 1160, frequency: 60 }, 5)));
        assert_eq!(place(1400, 1500), Some((Run { start: 1400, frequency: 60 }, 1)));
    }

    proptest! {
        /// Whatever arrives in whatever order: a place is found, holds its time, and runs never overlap.
        #[test]
        fn runs_never_overlap_and_a_slot_holds_its_time(
            samples in prop::collection::vec((0_i64..200_000, prop::sample::select(vec![1_u32, 7, 60]), 0..20), 1..200)
        ) {
            let mut runs: Vec<Written> = Vec::new();
            for (time, frequency, what) in samples {
                for run in &mut runs {
                    run.is_closed |= what == 0;
                }
                let Some((run, slot)) = place(runs.iter().rev().copied(), i64::MIN, time, frequency) else { continue };
                prop_assert!(slot < RUN_SLOTS);
                let from = run.end_after(slot);
                let nearest = from > time && slot == 0 && from - time < i64::from(run.frequency);
                prop_assert!(nearest || (from <= time && time < from + i64::from(run.frequency)));
                match runs.iter_mut().find(|known| known.run == run) {
                    Some(known) => known.last_slot = known.last_slot.max(slot),
                    None => runs.push(Written { run, last_slot: slot, is_closed: false }),
                }
                runs.sort_by_key(|known| known.run);
                for pair in runs.windows(2) {
                    prop_assert!(pair[0].run.end_after(pair[0].last_slot) < pair[1].run.start, "{runs:?}");
                }
            }
        }

        #[test]
        fn no_time_and_no_run_overflows(start: i64, frequency in 1_u32.., time: i64, last_slot in 0_u32..512, other: i64) {
            let _ = place([written(start, frequency, last_slot)].into_iter(), i64::MIN, time, 60);
            let (newer, older) = (start.max(other), start.min(other));
            let _ = place([written(newer, frequency, 1), written(older, 60, last_slot)].into_iter(), i64::MIN, time, frequency);
        }
    }
}
