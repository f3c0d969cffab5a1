//! The world of a bench: a wall clock that the workload sets, a real monotonic clock, and whether this is a bench.

use kymo_engine::env::{Env, System};
use rustix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

static CLOCK: LazyLock<System> = LazyLock::new(System::default);

/// The monotonic clock.
pub(crate) fn now() -> Duration {
    CLOCK.monotonic()
}

/// How long `work` takes.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let begun = CLOCK.monotonic();
    work();
    CLOCK.monotonic().saturating_sub(begun)
}

/// How long this thread computes for `work`: on a machine that others use too, the time of one core.
pub(crate) fn cpu_time(work: impl FnOnce()) -> Duration {
    let now =
        || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("no thread computes less than nothing");
    let begun = now();
    work();
    now().saturating_sub(begun)
}

/// Whether everything runs once and small, to see that it runs.
pub(crate) fn is_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// The size of a workload: `full` in a bench, `small` in a test.
pub(crate) fn scale(full: u32, small: u32) -> u32 {
    if is_test() { small } else { full }
}

/// An environment whose wall clock stands where it is put.
#[derive(Debug)]
pub(crate) struct SetClock {
    now: AtomicI64,
}

impl SetClock {
    pub(crate) fn at(now: i64) -> Self {
        Self { now: AtomicI64::new(now) }
    }

    pub(crate) fn set(&self, now: i64) {
        self.now.store(now, Ordering::Relaxed);
    }
}

impl Env for SetClock {
    fn unix_now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        CLOCK.monotonic()
    }

    fn unique(&self) -> [u8; 16] {
        CLOCK.unique()
    }
}
