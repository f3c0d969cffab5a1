//! The table of mappings: fixed, without locks, so that a signal handler can look an address up at any moment.
//!
//! It promises that a mapping that stays in the table during a search is found, and that nothing is found that was
//! never in it as a whole. A place that changes during a search may be passed over: it is not that of the mapping that
//! faulted, for that one is borrowed by the load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// What `turn` says of a place, modulo 4. It grows for ever, so no change goes unnoticed.
const FREE: usize = 0;
const FILLING: usize = 1;
const TAKEN: usize = 2;

/// A place in the table.
#[derive(Debug)]
pub(super) struct Slot {
    turn: AtomicUsize,
    // INVARIANT: start and length are written only while the turn says that the place is being filled.
    start: AtomicUsize,
    len: AtomicUsize,
    poisoned: AtomicBool,
}

impl Slot {
    const fn new() -> Self {
        Self {
            turn: AtomicUsize::new(FREE),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Takes the place if it is free.
    fn enter(&self, start: usize, len: usize) -> bool {
        let turn = self.turn.load(Ordering::Relaxed);
        let filling = turn.wrapping_add(FILLING - FREE);
        if turn % 4 != FREE || self.turn.compare_exchange(turn, filling, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // Who reads what follows reads the turn of now, or a later one, behind its own fence.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.poisoned.store(false, Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(TAKEN - FREE), Ordering::Release);
        true
    }

    /// Gives the place back. Called by its holder, once.
    pub(super) fn leave(&self) {
        self.turn.fetch_add(4 - TAKEN, Ordering::Release);
    }

    /// Whether the place was taken, all along, for memory that has this address.
    fn holds(&self, address: usize) -> bool {
        let turn = self.turn.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let len = self.len.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        turn % 4 == TAKEN
            && self.turn.load(Ordering::Relaxed) == turn
            && address.checked_sub(start).is_some_and(|offset| offset < len)
    }

    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        // The bytes were loaded before; without the fence the flag might be, too.
        fence(Ordering::SeqCst);
        self.poisoned.load(Ordering::SeqCst)
    }
}

/// Room for `N` mappings.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    slots: [Slot; N],
}

impl<const N: usize> Table<N> {
    pub(super) const fn new() -> Self {
        Self { slots: [const { Slot::new() }; N] }
    }

    /// Takes a place for this memory, unpoisoned; none where all are taken.
    pub(super) fn enter(&self, start: usize, len: usize) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.enter(start, len))
    }

    /// The place of the mapping that has this address. Safe to call from a signal handler.
    pub(super) fn find(&self, address: usize) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.holds(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_from_the_first_byte_to_the_last() {
        let table = Table::<2>::new();
        assert!(table.find(0).is_none());
        table.enter(4096, 10).unwrap();
        let second = table.enter(8192, 1).unwrap();
        for (address, is_in) in [(0, false), (4095, false), (4096, true), (4105, true), (4106, false), (8192, true)] {
            assert_eq!(table.find(address).is_some(), is_in, "{address}");
        }
        table.find(8192).unwrap().poison();
        assert!(second.is_poisoned());
        assert!(!table.find(4096).unwrap().is_poisoned());
    }

    #[test]
    fn a_full_table_takes_no_more_until_a_place_is_given_back() {
        let table = Table::<2>::new();
        let first = table.enter(4096, 1).unwrap();
        table.enter(8192, 1).unwrap();
        assert!(table.enter(12288, 1).is_none());
        first.poison();
        first.leave();
        assert!(table.find(4096).is_none());
        assert!(!table.enter(12288, 1).unwrap().is_poisoned(), "poison ends with the mapping");
        assert!(table.enter(4096, 1).is_none());
    }

    #[test]
    fn what_stays_is_found_and_nothing_else_while_others_come_and_go() {
        const TURNS: usize = if cfg!(miri) { 50 } else { 20_000 };
        let table = Table::<8>::new();
        std::thread::scope(|scope| {
            for thread in 1..=2 {
                let table = &table;
                scope.spawn(move || {
                    for turn in 0..TURNS {
                        // A start below the address and a length that would reach it belong to different mappings.
                        let (start, len) = if turn % 2 == 0 { (1000, 10 * thread) } else { (900_000, 700_000) };
                        if let Some(slot) = table.enter(start, len) {
                            slot.leave();
                        }
                    }
                });
            }
            for _ in 0..TURNS {
                let stays = table.enter(500_000, 100).expect("the others take one place each");
                assert!(std::ptr::eq(table.find(500_050).unwrap(), stays));
                assert!(table.find(600_000).is_none());
                stays.leave();
            }
        });
    }
}
