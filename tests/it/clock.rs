//! The tests' only clock: what time it is for timestamps, and how long a wait may last.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest wait for anything that happens at once on an idle machine; tests run on busy ones.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The time now in unix seconds.
#[expect(clippy::disallowed_methods, reason = "the server under test reads the real clock, so its tests must")]
pub(crate) fn unix_seconds() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(elapsed.as_secs()).expect("the clock is before the year 292 billion")
}

/// The instant at which a wait that begins now is given up.
#[expect(clippy::disallowed_methods, reason = "waits for another process are bounded by real time")]
pub(crate) fn deadline(patience: Duration) -> Instant {
    Instant::now() + patience
}

/// What is left until `deadline`; `None` when it has passed.
#[expect(clippy::disallowed_methods, reason = "waits for another process are bounded by real time")]
pub(crate) fn remaining(deadline: Instant) -> Option<Duration> {
    deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

/// Polls `ready` until it gives something; `None` when `patience` is used up.
pub(crate) fn poll<T>(patience: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = deadline(patience);
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        remaining(deadline)?;
        thread::sleep(Duration::from_millis(2));
    }
}
