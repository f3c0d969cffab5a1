//! The world that the server gives to the store: the clocks of the system, and all of its cores.

use kymo_engine::env::{Env, Parallel, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The machine as the store sees it.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    system: System,
}

impl Env for Machine {
    fn unix_now(&self) -> i64 {
        self.system.unix_now()
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }

    fn unique(&self) -> [u8; 16] {
        self.system.unique()
    }

    fn parallel(&self) -> &dyn Parallel {
        self
    }
}

impl Parallel for Machine {
    fn width(&self) -> usize {
        thread::available_parallelism().map_or(1, NonZeroUsize::get)
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= pieces {
                    return;
                }
                piece(at);
            }
        };
        thread::scope(|scope| {
            // This thread works too; where no other one is to be had, it does all of it.
            for _ in 1..pieces.min(self.width()) {
                drop(thread::Builder::new().spawn_scoped(scope, work));
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for pieces in [0, 1, 2, 100] {
            let done: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            Machine::default().run(pieces, &|piece| {
                done[piece].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{done:?}");
        }
    }
}
