//! The last refusals, by what they were about: the answer to "why is my metric not there".
//!
//! A table of fixed size. Whatever falls on the same place takes it over: a flood of names that nobody sends again
//! pushes others out, and those are back with their next line.

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::hash::BuildHasher as _;

/// Refusals that are remembered at most: with the longest names some 2 MiB.
const PLACES: usize = 4096;
/// Bytes of a name that is remembered.
const NAME_MAX: usize = 255;

/// The last refusal of lines about the same metric and host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRefusal {
    /// The metric; empty where the line was refused before it mattered.
    pub metric: String,
    /// The host; empty likewise.
    pub host: String,
    /// Why.
    pub reason: &'static str,
    /// When, in unix seconds.
    pub at: i64,
    /// How many were refused for this reason, one after the other.
    pub count: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Recent {
    hasher: RandomState,
    places: Mutex<Vec<Option<RecentRefusal>>>,
}

impl Recent {
    /// Remembers that a line was refused at `now`.
    pub(super) fn note(&self, reason: &'static str, metric: &str, host: &str, now: i64) {
        let (metric, host) = (short(metric), short(host));
        let place = self.place(metric, host);
        let mut places = self.places.lock();
        if places.is_empty() {
            places.resize(PLACES, None);
        }
        let Some(place) = places.get_mut(place) else { return };
        match place {
            Some(known) if known.metric == metric && known.host == host => {
                known.count = if known.reason == reason { known.count.saturating_add(1) } else { 1 };
                (known.reason, known.at) = (reason, now);
            }
            _ => {
                let (metric, host) = (metric.to_owned(), host.to_owned());
                *place = Some(RecentRefusal { metric, host, reason, at: now, count: 1 });
            }
        }
    }

    /// The last refusal of exactly this, if it is remembered.
    pub(super) fn find(&self, metric: &str, host: &str) -> Option<RecentRefusal> {
        let (metric, host) = (short(metric), short(host));
        let found = self.places.lock().get(self.place(metric, host))?.clone()?;
        (found.metric == metric && found.host == host).then_some(found)
    }

    fn place(&self, metric: &str, host: &str) -> usize {
        usize::try_from(self.hasher.hash_one((metric, host)) % PLACES as u64).unwrap_or(0)
    }
}

fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_is_told_with_how_often_it_was_the_same() {
        let recent = Recent::default();
        assert_eq!(recent.find("m", "h"), None);
        for (reason, now) in [("value", 1), ("too-late", 2), ("too-late", 3)] {
            recent.note(reason, "m", "h", now);
        }
        recent.note("no-host", "m", "", 4);
        let found = recent.find("m", "h").unwrap();
        assert_eq!((found.reason, found.at, found.count), ("too-late", 3, 2));
        assert_eq!(recent.find("m", "").unwrap().reason, "no-host");
        assert_eq!(recent.find("", "h"), None);
    }

    #[test]
    fn a_flood_of_names_takes_no_more_room_than_the_table_has() {
        let recent = Recent::default();
        for number in 0..20_000 {
            recent.note("unknown-metric", &format!("m{number}{}", "ä".repeat(200)), "h", number);
        }
        let places = recent.places.lock();
        assert_eq!(places.len(), PLACES);
        assert!(places.iter().flatten().all(|known| known.metric.len() <= NAME_MAX));
        drop(places);
        recent.note("too-late", "m", "h", 5);
        assert!(recent.find("m", "h").is_some());
    }
}
