//! How fast the background work on files goes. The device and the cores belong to the commits first: work without a
//! pause was seen to raise the slowest commits more than ten times.

use super::Store;
use crate::model::Lsn;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The work rests this many times as long as it has worked, while there are commits: a fifth of a core, and a fifth of
/// the time of the device.
const REST: u32 = 4;
/// The shortest rest, which lets a commit that waits pass.
const REST_MIN: Duration = Duration::from_micros(100);
/// The longest one: a device that is slow for once does not stop the work.
const REST_MAX: Duration = Duration::from_millis(20);
/// How many times its bound the log may have before the work hurries, as a percentage.
const HURRY: u64 = 150;
/// From when on it does not rest at all: rows that come faster than they can go must not fill the memory.
const RUSH: u64 = 200;

/// Says how long the owner rests between two steps of the work on files.
#[derive(Debug, Default)]
pub struct Pace {
    durable: Lsn,
}

impl Pace {
    /// How long to rest after a step that took this long.
    pub fn rest(&mut self, store: &Store, took: Duration) -> Duration {
        let durable = store.log.durable();
        let is_idle = std::mem::replace(&mut self.durable, durable) == durable;
        rest(took, is_idle, store.log_fill())
    }
}

/// `fill` is what the log has, in percent of its bound.
fn rest(took: Duration, is_idle: bool, fill: u64) -> Duration {
    match fill {
        // Nobody waits for the device; the next commit may come any time.
        _ if is_idle => Duration::ZERO,
        RUSH.. => Duration::ZERO,
        HURRY.. => took.clamp(REST_MIN, REST_MAX),
        _ => took.saturating_mul(REST).clamp(REST_MIN, REST_MAX),
    }
}

impl Store {
    /// Bytes of the log that are in no snapshot, in percent of the bound.
    fn log_fill(&self) -> u64 {
        let options = self.options();
        let bytes: u64 = self.segments.lock().iter().map(|segment| segment.end).sum();
        let by_memory = match options.memory_cap {
            // Half of the cap is for rows: a snapshot is due when they have it.
            Some(cap) => self.head_bytes.load(Ordering::Relaxed).saturating_mul(100) / (cap / 2).max(1),
            None => 0,
        };
        by_memory.max(bytes.saturating_mul(100) / self.log_bound().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_rests_beside_commits_hurries_behind_its_bound_and_never_stops() {
        let step = Duration::from_micros(300);
        assert_eq!(rest(step, true, 0), Duration::ZERO);
        assert_eq!(rest(step, false, 100), 4 * step);
        assert_eq!(rest(Duration::ZERO, false, 100), REST_MIN);
        assert_eq!(rest(Duration::from_secs(1), false, 100), REST_MAX);
        assert_eq!(rest(step, false, HURRY), step);
        assert_eq!(rest(step, false, RUSH), Duration::ZERO);
    }
}
