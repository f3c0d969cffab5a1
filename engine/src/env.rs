//! What the store needs of the world besides a disk: the time, randomness, and who works beside it. Injected, so that
//! tests decide all of it.
#![expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Does pieces of work at the same time, or not: the engine starts no thread of its own.
pub trait Parallel: Debug + Send + Sync {
    /// How many pieces it may do at a time, at least 1.
    fn width(&self) -> usize;
    /// Calls `piece` once with each number below `pieces`, in any order, and returns when all calls have.
    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync));
}

/// One piece after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn width(&self) -> usize {
        1
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        (0..pieces).for_each(piece);
    }
}

/// Time and randomness.
pub trait Env: Debug + Send + Sync {
    /// The wall clock in unix seconds.
    fn unix_now(&self) -> i64;
    /// A clock that never goes back, from any origin.
    fn monotonic(&self) -> Duration;
    /// Sixteen bytes that no other store has.
    fn unique(&self) -> [u8; 16];
    /// Who does what can be done at the same time; the results are the same whoever it is.
    fn parallel(&self) -> &dyn Parallel {
        &Serial
    }
}

/// The real world.
#[derive(Debug)]
pub struct System {
    origin: Instant,
}

impl Default for System {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Env for System {
    fn unix_now(&self) -> i64 {
        let now = SystemTime::now();
        now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn unique(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        // Every Linux since 3.17 has it; mixing in the clock and the pid costs nothing and covers the others.
        if filled != Ok(bytes.len()) {
            let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
            bytes = (nanos ^ (u128::from(std::process::id()) << 96)).to_le_bytes();
        }
        bytes
    }
}
