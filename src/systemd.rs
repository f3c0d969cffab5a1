//! What the service manager is told: ready, reloading, stopping, how it goes, and that the server lives.
//!
//! Without `NOTIFY_SOCKET` nothing is told to anybody. The watchdog is fed only while the thread that commits makes its
//! rounds and this task is run: a device that does not answer, or a runtime that is stuck, ends in a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kymo_engine::store::Store;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

/// How often the status is looked at where no watchdog asks.
const LOOK: Duration = Duration::from_secs(5);

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager cannot be told");
    }
}

/// It opens the store.
pub(crate) fn opening() {
    tell(&[NotifyState::Status("opening the store")]);
}

/// It imports, and how far it is: that may take as long as it likes.
pub(crate) fn importing(how_far: &str) {
    const MORE_MICROSECONDS: u32 = 600 * 1_000_000;
    tell(&[NotifyState::ExtendTimeoutUsec(MORE_MICROSECONDS), NotifyState::Status(how_far)]);
}

/// It serves.
pub(crate) fn ready(store: &Store) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(store))]);
}

/// It reads its configuration again; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It takes no more requests.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn status(store: &Store) -> String {
    match store.ready() {
        Ok(()) => "taking writes".to_owned(),
        Err(why) => format!("refusing writes: {why}"),
    }
}

/// Keeps the status true and feeds the watchdog while `rounds` grows.
pub(crate) async fn watch(store: Arc<Store>, rounds: Arc<AtomicU64>) {
    let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
    let mut ticks = interval(watchdog.map_or(LOOK, |time| (time / 3).min(LOOK)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut life = Life::default();
    let mut told = String::new();
    loop {
        ticks.tick().await;
        if watchdog.is_some() && life.shows(rounds.load(Ordering::Relaxed)) {
            tell(&[NotifyState::Watchdog]);
        }
        let now = status(&store);
        if now != told {
            tell(&[NotifyState::Status(&now)]);
            told = now;
        }
    }
}

/// Whether a counter goes on.
#[derive(Debug, Default)]
struct Life {
    seen: Option<u64>,
}

impl Life {
    fn shows(&mut self, rounds: u64) -> bool {
        self.seen.replace(rounds) != Some(rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_still_does_not_feed_the_watchdog() {
        let mut life = Life::default();
        assert_eq!([7, 7, 7, 8, 8].map(|rounds| life.shows(rounds)), [true, false, false, true, false]);
    }
}
