//! Which runs the series of a host have: what a new sample is placed by.
//!
//! Series of one host mostly share their history of runs, so the histories are chains of shared nodes, newest first:
//! a series costs the four bytes that name its newest node.

use crate::canary::{self, Canary};
use crate::slot::{self, Run, Written};
use hashbrown::HashMap;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    written: Written,
    older: u32,
}

/// Where a sample was placed: most that come with it go there as well.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The run.
    pub run: Run,
    /// The slot of it.
    pub slot: u32,
    time: i64,
    frequency: u32,
    /// The newest node of the series, which says all of its history.
    newest: u32,
    /// The numbers of nodes that this is about.
    renumbered: u32,
}

/// The runs of each series of one host, by ordinal.
#[derive(Debug, Default)]
pub struct RunTable {
    newest: Vec<u32>,
    /// How many series have runs.
    series: usize,
    nodes: Vec<Node>,
    /// Where a series of the chain at a node went when it got a run: others that do the same share the result.
    moves: HashMap<(u32, Run), u32, foldhash::fast::RandomState>,
    compact_at: usize,
    /// As many nodes and one a series may there be before those that no series uses are dropped.
    collect_at: usize,
    /// How often nodes got other numbers.
    renumbered: u32,
    /// What was written from this instant on is in runs that are known here; `None` before anything was looked for.
    known_from: Option<i64>,
}

impl RunTable {
    /// Heap of a run that is kept, in bytes.
    pub const NODE_BYTES: usize = size_of::<Node>();
    /// Heap of a bucket that leads series on to a new run, with its control byte.
    pub const MOVE_BYTES: usize = size_of::<((u32, Run), u32)>() + 1;

    /// The place of a sample; `None` where there is no room for one (see [`slot::place`]).
    #[inline]
    pub fn place(&self, ordinal: u32, time: i64, frequency: u32) -> Option<(Run, u32)> {
        slot::place(self.runs(ordinal), self.known_from.unwrap_or(i64::MIN), time, frequency)
    }

    /// Whether it knows the runs of all that was written from an instant on.
    pub fn knows_from(&self, time: i64) -> bool {
        self.known_from.is_some_and(|known| known <= time)
    }

    /// The runs of all that was written from an instant on have been recorded.
    pub fn set_known_from(&mut self, time: i64) {
        self.known_from = Some(time);
    }

    /// The runs of a series, newest first.
    pub fn runs(&self, ordinal: u32) -> impl Iterator<Item = Written> {
        let mut at = self.newest.get(ordinal as usize).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.older;
            Some(node.written)
        })
    }

    /// Whether a series has no run yet.
    pub fn is_new(&self, ordinal: u32) -> bool {
        self.newest.get(ordinal as usize).is_none_or(|&at| at == NONE)
    }

    /// How many series have runs.
    pub fn series_count(&self) -> usize {
        self.series
    }

    /// What a sample of a series at `run` and `slot`, which was recorded, says about others of its time and interval.
    /// `None` if it says nothing.
    pub fn placed(&self, ordinal: u32, time: i64, frequency: u32, run: Run, slot: u32) -> Option<Placed> {
        let newest = *self.newest.get(ordinal as usize)?;
        let is_newest = self.nodes.get(newest as usize)?.written.run == run;
        (is_newest && run.slot_of(time) == Some(slot) && time >= run.start).then_some(Placed {
            run,
            slot,
            time,
            frequency,
            newest,
            renumbered: self.renumbered,
        })
    }

    /// Whether a place still says something, after more was recorded.
    pub fn is_current(&self, placed: &Placed) -> bool {
        placed.renumbered == self.renumbered
    }

    /// Whether a sample goes where another one went, with nothing to record. The place is current.
    ///
    /// Its series has the same history, and the newest run of that holds the time in a slot that is written: the rule
    /// of [`slot::place`] then looks no further.
    #[inline]
    pub fn goes_to(&self, placed: &Placed, ordinal: u32, time: i64, frequency: u32) -> bool {
        placed.time == time
            && placed.frequency == frequency
            && self.newest.get(ordinal as usize) == Some(&placed.newest)
    }

    /// Notes that a slot of a run was written.
    pub fn record(&mut self, ordinal: u32, run: Run, slot: u32) {
        let index = ordinal as usize;
        if index >= self.newest.len() {
            self.newest.resize(index + 1, NONE);
        }
        let head = self.newest[index];
        let mut at = head;
        while let Some(node) = self.nodes.get_mut(at as usize) {
            if node.written.run == run {
                node.written.last_slot = node.written.last_slot.max(slot);
                return;
            }
            if node.written.run < run {
                break;
            }
            at = node.older;
        }
        let moved = match self.moves.get(&(head, run)) {
            Some(&moved) => {
                self.raise(head, moved, run);
                moved
            }
            None => self.insert(head, Written { run, last_slot: slot, is_closed: false }),
        };
        self.series += usize::from(head == NONE);
        self.newest[index] = moved;
        self.record_known(moved, run, slot);
        if self.nodes.len() > self.collect_at.saturating_add(self.newest.len()) {
            self.collect(i64::MIN);
        }
    }

    /// Notes what was written to the runs of a chain behind `run` in the copy that another chain has of them.
    fn raise(&mut self, mut from: u32, mut to: u32, run: Run) {
        while let Some(&Node { written, older }) = self.nodes.get(from as usize)
            && written.run > run
            && let Some(copy) = self.nodes.get_mut(to as usize)
        {
            copy.written.last_slot = copy.written.last_slot.max(written.last_slot);
            copy.written.is_closed |= written.is_closed;
            (from, to) = (older, copy.older);
        }
    }

    /// Notes that a slot of a run was written for each of these series.
    pub fn record_all(&mut self, ordinals: impl Iterator<Item = u32>, run: Run, slot: u32) {
        // Most series of a host share their newest node: what is noted there is noted for all of them.
        let mut noted = NONE;
        for ordinal in ordinals {
            let newest = self.newest.get(ordinal as usize);
            if noted == NONE || newest != Some(&noted) {
                self.record(ordinal, run, slot);
                noted = self.newest.get(ordinal as usize).copied().unwrap_or(NONE);
            }
        }
    }

    /// Notes a run behind whose slots nothing is to be written. Series that are noted in one go share it.
    pub fn record_closed(&mut self, ordinal: u32, run: Run, slot: u32) {
        self.record(ordinal, run, slot);
        let mut at = self.newest.get(ordinal as usize).copied().unwrap_or(NONE);
        while let Some(node) = self.nodes.get_mut(at as usize) {
            if node.written.run == run {
                node.written.is_closed = true;
                return;
            }
            at = node.older;
        }
    }

    /// Lets nothing be written any more behind the slots of runs that all end by an instant.
    pub fn close_before(&mut self, instant: i64) {
        for Node { written, .. } in &mut self.nodes {
            written.is_closed |= written.end() <= instant;
        }
    }

    fn record_known(&mut self, mut at: u32, run: Run, slot: u32) {
        while let Some(node) = self.nodes.get_mut(at as usize) {
            if node.written.run == run {
                node.written.last_slot = node.written.last_slot.max(slot);
                return;
            }
            at = node.older;
        }
    }

    /// A chain like the one at `head`, with one more run.
    fn insert(&mut self, head: u32, written: Written) -> u32 {
        let mut newer = Vec::new();
        let mut at = head;
        while let Some(node) = self.nodes.get(at as usize).filter(|node| node.written.run > written.run) {
            newer.push(node.written);
            at = node.older;
        }
        let mut chain = self.push(written, at);
        for written in newer.into_iter().rev() {
            chain = self.push(written, chain);
        }
        self.moves.insert((head, written.run), chain);
        chain
    }

    fn push(&mut self, written: Written, older: u32) -> u32 {
        // Nodes are fewer than twice the samples in the late window; compaction keeps them far below 2^32.
        let at = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(Node { written, older });
        at
    }

    /// Drops nodes that no series uses, and runs that ended before `keep_after`, when enough has gathered to pay.
    /// The newest run of a series is kept: it holds the phase. So is the newest that ended before `keep_after`: what
    /// comes late must not be placed over it. Nothing earlier may be placed until [`Self::knows_from`] says so again.
    pub fn compact(&mut self, keep_after: i64) {
        let forgets_silently = canary::is(Canary::ForgottenRunsStay);
        // It forgets at once then, lest it takes long to be found.
        let compact_at = if forgets_silently { 0 } else { self.compact_at };
        if self.nodes.len() <= compact_at {
            return;
        }
        if !forgets_silently {
            self.known_from = self.known_from.map(|known| known.max(keep_after));
        }
        self.collect(keep_after);
        self.compact_at = self.collect_at;
    }

    /// Drops nodes that no series uses, and all but the newest of the runs of a series that ended before `keep_after`.
    fn collect(&mut self, keep_after: i64) {
        let mut nodes: Vec<Node> = Vec::new();
        let mut moved: HashMap<u32, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut path = Vec::new();
        for newest in &mut self.newest {
            let mut at = *newest;
            let mut chain = NONE;
            path.clear();
            while let Some(node) = self.nodes.get(at as usize) {
                if let Some(&known) = moved.get(&at) {
                    chain = known;
                    break;
                }
                path.push((at, node.written));
                if node.written.run.span_end() <= keep_after {
                    break;
                }
                at = node.older;
            }
            for &(old, written) in path.iter().rev() {
                let new = u32::try_from(nodes.len()).unwrap_or(NONE);
                nodes.push(Node { written, older: chain });
                moved.insert(old, new);
                chain = new;
            }
            *newest = chain;
        }
        self.nodes = nodes;
        self.renumbered = self.renumbered.wrapping_add(1);
        // What was forgotten is not the same to those that move later.
        let moves = std::mem::take(&mut self.moves);
        if keep_after == i64::MIN {
            let numbers = |((head, run), to)| Some(((*moved.get(&head)?, run), *moved.get(&to)?));
            self.moves = moves.into_iter().filter_map(numbers).collect();
        }
        self.collect_at = self.nodes.len() * 2 + 64;
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.newest.capacity() * size_of::<u32>()
            + self.nodes.capacity() * size_of::<Node>()
            + self.moves.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn starts(table: &RunTable, ordinal: u32) -> Vec<i64> {
        table.runs(ordinal).map(|written| written.run.start).collect()
    }

    #[test]
    fn series_in_step_share_their_nodes() {
        let mut table = RunTable::default();
        for round in 0..100_i64 {
            for ordinal in 0..50 {
                table.record(ordinal, Run { start: round * 1000, frequency: 1 }, 3);
            }
        }
        assert_eq!(table.nodes.len(), 100);
        table.compact(98_000);
        assert_eq!(starts(&table, 7), [99_000, 98_000, 97_000]);
        assert_eq!(table.nodes.len(), 3);
    }

    #[test]
    fn a_late_sample_is_not_placed_over_a_run_that_ended_before_the_late_window() {
        let mut table = RunTable::default();
        table.record(0, Run { start: 0, frequency: 1 }, 511);
        table.record(0, Run { start: 1000, frequency: 1 }, 3);
        table.compact(900);
        let (run, _) = table.place(0, 950, 1).unwrap();
        assert!(run.start >= 512, "{run:?}");
    }

    #[test]
    fn runs_that_come_from_the_newest_to_the_oldest_leave_no_memory_behind() {
        let mut table = RunTable::default();
        let mut most = 0;
        for ordinal in 0..200 {
            for back in 0..80 {
                table.record(ordinal, Run { start: i64::from(ordinal) - 512 * back, frequency: 1 }, 0);
                most = most.max(table.nodes.len());
            }
        }
        assert_eq!(starts(&table, 7).len(), 80);
        let live = 200 * 80;
        assert!(most < 3 * live, "{most} nodes for {live} runs");
    }

    #[test]
    fn what_others_wrote_to_a_run_is_known_of_its_copy() {
        let mut table = RunTable::default();
        let (older, newer) = (Run { start: 0, frequency: 1 }, Run { start: 1000, frequency: 1 });
        for ordinal in [0, 1] {
            table.record(ordinal, newer, 0);
        }
        table.record(0, older, 5);
        table.record(1, newer, 100);
        table.record(1, older, 5);
        assert_eq!(table.runs(1).map(|written| written.last_slot).collect::<Vec<_>>(), [100, 5]);
    }

    #[test]
    fn a_place_of_before_nodes_were_numbered_anew_is_nobodys() {
        let mut table = RunTable::default();
        let run = Run { start: 0, frequency: 1 };
        table.record(0, run, 3);
        let placed = table.placed(0, 3, 1, run, 3).unwrap();
        assert!(table.is_current(&placed) && table.goes_to(&placed, 0, 3, 1));
        table.compact(i64::MIN);
        assert!(!table.is_current(&placed));
    }

    proptest! {
        /// The shared chains say what a plain list for each series says, whatever happens in whatever order.
        #[test]
        fn the_table_equals_a_list_for_each_series(
            steps in prop::collection::vec((0_u32..6, 0_i64..12, 0_u32..5, 0_u8..20), 1..120)
        ) {
            let mut table = RunTable::default();
            let mut lists: BTreeMap<u32, BTreeMap<Run, u32>> = BTreeMap::new();
            for (ordinal, start, slot, what) in steps {
                let run = Run { start: start * 10, frequency: 1 };
                match what {
                    0 | 1 => table.compact(i64::MIN),
                    _ => {
                        table.record(ordinal, run, slot);
                        let last = lists.entry(ordinal).or_default().entry(run).or_default();
                        *last = slot.max(*last);
                    }
                }
            }
            for (ordinal, list) in lists {
                let found: Vec<Written> = table.runs(ordinal).collect();
                let runs: Vec<Run> = found.iter().map(|written| written.run).collect();
                let expected: Vec<Run> = list.keys().rev().copied().collect();
                prop_assert_eq!(runs, expected);
                for written in found {
                    prop_assert!(written.last_slot >= list[&written.run], "{written:?} of {ordinal}: {list:?}");
                }
            }
        }
    }
}
