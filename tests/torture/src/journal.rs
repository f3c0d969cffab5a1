//! What a writer knows of its slots, and the verdict on what is read back. Pure: the oracle of all rigs.
//!
//! Events are numbered by whoever drives the rig: by a counter, or by the length of a recording of the disk. A slot is
//! judged for two moments: what was acknowledged up to the first must be there, nothing sent after the second may be.

use std::collections::HashMap;
use std::hash::Hash;

/// One value that was sent to a slot.
#[derive(Clone, Copy, Debug)]
struct Sent {
    bits: u64,
    at: u64,
    /// When it was acknowledged, or seen by a reader: from then on it, or a later one, has to be there.
    settled: Option<u64>,
}

/// What is wrong with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What was acknowledged is missing, or an older value stands in its place.
    Lost,
    /// A value that was sent to another slot.
    Wrong,
    /// A value that nobody sent, or that was sent only later.
    Invented,
}

/// The slots of one writer, which has one request in flight: values of a slot are in the order in which they were sent.
#[derive(Debug)]
pub(crate) struct Journal<P> {
    slots: HashMap<P, Vec<Sent>>,
    /// Which slot a value was sent to; no value is sent twice.
    values: HashMap<u64, P>,
}

impl<P: Copy + Eq + Hash> Journal<P> {
    pub(crate) fn new() -> Self {
        Self { slots: HashMap::new(), values: HashMap::new() }
    }

    /// A value is about to be sent to `place`.
    pub(crate) fn send(&mut self, place: P, value: f64, at: u64) {
        let bits = value.to_bits();
        self.slots.entry(place).or_default().push(Sent { bits, at, settled: None });
        self.values.insert(bits, place);
    }

    /// All that was sent to `places` so far is acknowledged.
    pub(crate) fn acknowledge(&mut self, places: &[P], at: u64) {
        for place in places {
            if let Some(sent) = self.slots.get_mut(place).and_then(|slot| slot.last_mut()) {
                sent.settled.get_or_insert(at);
            }
        }
    }

    /// Judges what was read from `place`.
    pub(crate) fn judge(&self, place: P, read: Option<f64>, acknowledged_by: u64, sent_by: u64) -> Result<(), Fault> {
        let sent = self.slots.get(&place).map_or(&[][..], Vec::as_slice);
        let settled = sent.iter().rposition(|sent| sent.settled.is_some_and(|at| at <= acknowledged_by));
        let Some(bits) = read.map(f64::to_bits) else {
            return if settled.is_none() { Ok(()) } else { Err(Fault::Lost) };
        };
        match sent.iter().rposition(|sent| sent.bits == bits) {
            Some(index) if sent[index].at > sent_by => Err(Fault::Invented),
            Some(index) if settled.is_some_and(|settled| index < settled) => Err(Fault::Lost),
            Some(_) => Ok(()),
            None if self.values.contains_key(&bits) => Err(Fault::Wrong),
            None => Err(Fault::Invented),
        }
    }

    /// A reader has seen this value: no crash from `at` on may take it back.
    pub(crate) fn see(&mut self, place: P, read: Option<f64>, at: u64) {
        let bits = read.map(f64::to_bits);
        if let Some(sent) = self.slots.get_mut(&place).into_iter().flatten().rfind(|sent| Some(sent.bits) == bits) {
            let settled = sent.settled.get_or_insert(at);
            *settled = at.min(*settled);
        }
    }

    /// What was read after a crash is what there is: values that were in flight and are not there will not come.
    pub(crate) fn recovered(&mut self, place: P, read: Option<f64>, at: u64) {
        let Some(slot) = self.slots.get_mut(&place) else { return };
        for sent in slot.iter() {
            self.values.remove(&sent.bits);
        }
        slot.clear();
        if let Some(value) = read {
            slot.push(Sent { bits: value.to_bits(), at: 0, settled: Some(at) });
            self.values.insert(value.to_bits(), place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slot 7: 1.0 and 2.0 are acknowledged, at 2 and 4; 3.0 is in flight from 5 on.
    fn journal() -> Journal<u8> {
        let mut journal = Journal::new();
        for (value, at, settled) in [(1.0, 1, Some(2)), (2.0, 3, Some(4)), (3.0, 5, None)] {
            journal.send(7, value, at);
            if let Some(at) = settled {
                journal.acknowledge(&[7], at);
            }
        }
        journal
    }

    #[test]
    fn the_last_acknowledged_value_or_a_later_one_is_good() {
        assert_eq!(journal().judge(7, Some(2.0), 9, 9), Ok(()));
        assert_eq!(journal().judge(7, Some(3.0), 9, 9), Ok(()));
    }

    #[test]
    fn an_older_value_or_none_is_lost() {
        assert_eq!(journal().judge(7, Some(1.0), 9, 9), Err(Fault::Lost));
        assert_eq!(journal().judge(7, None, 9, 9), Err(Fault::Lost));
        assert_eq!(journal().judge(7, Some(1.0), 3, 9), Ok(()));
        assert_eq!(journal().judge(7, None, 1, 9), Ok(()));
    }

    #[test]
    fn a_value_of_another_slot_is_wrong_and_one_from_nowhere_invented() {
        let mut journal = journal();
        journal.send(8, 4.0, 6);
        assert_eq!(journal.judge(7, Some(4.0), 9, 9), Err(Fault::Wrong));
        assert_eq!(journal.judge(7, Some(5.0), 9, 9), Err(Fault::Invented));
        assert_eq!(journal.judge(7, Some(3.0), 4, 4), Err(Fault::Invented));
        assert_eq!(journal.judge(9, Some(-0.0), 9, 9), Err(Fault::Invented));
    }

    #[test]
    fn what_was_seen_or_recovered_stays() {
        let mut seen = journal();
        seen.see(7, Some(3.0), 6);
        assert_eq!(seen.judge(7, Some(2.0), 6, 6), Err(Fault::Lost));
        let mut recovered = journal();
        recovered.recovered(7, Some(2.0), 6);
        assert_eq!(recovered.judge(7, Some(2.0), 6, 6), Ok(()));
        assert_eq!(recovered.judge(7, Some(3.0), 6, 6), Err(Fault::Invented));
        assert_eq!(recovered.judge(7, None, 6, 6), Err(Fault::Lost));
    }
}
