//! The scenarios of `engine/tests/threads` in thousands of chosen orders: random ones, and ones in which few changes of
//! thread stand at the worst places. A failure prints its schedule, which `shuttle::replay` repeats.
//!
//! Atomic values are not places where the order changes, and memory is as the locks leave it; the thread sanitizer looks
//! at those.
#![cfg(test)]

#[path = "../../../engine/tests/threads/scenarios.rs"]
mod scenarios;

/// Threads of the scheduler.
mod threads {
    pub(crate) use shuttle::sync::mpsc::channel;
    pub(crate) use shuttle::thread::spawn;
}

use kymo_engine::sim::{Canary, set_canary};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// Changes of thread at the worst places, per schedule.
const CHANGES: usize = 3;

/// Runs a scenario in as many orders of each kind as `KYMO_SCHEDULES` says.
fn explore(scenario: fn()) {
    let orders = std::env::var("KYMO_SCHEDULES").ok().and_then(|orders| orders.parse().ok()).unwrap_or(100);
    let mut config = Config::new();
    config.stack_size = 4 << 20;
    Runner::new(RandomScheduler::new(orders), config.clone()).run(scenario);
    Runner::new(PctScheduler::new(CHANGES, orders), config).run(scenario);
}

#[test]
fn who_is_told_that_a_sample_is_durable_can_read_it() {
    explore(scenarios::acknowledged_is_readable);
}

#[test]
fn readers_never_see_a_slot_go_back_while_rows_move_into_snapshots() {
    explore(scenarios::reads_never_go_back);
}

#[test]
fn writers_that_were_refused_for_what_waits_get_in_when_it_is_written() {
    explore(scenarios::back_pressure_lets_go);
}

#[test]
fn when_the_log_fails_everyone_is_told_once() {
    explore(scenarios::failure_reaches_everyone);
}

/// Shows that an order in which the store itself breaks is found: a reader that takes hold of the snapshots before the
/// head misses rows that move in between.
#[test]
fn a_reader_that_misses_rows_that_move_is_found() {
    // The scheduler's threads are all of this one.
    set_canary(Some(Canary::CaptureSnapshotsFirst));
    let found = std::panic::catch_unwind(|| explore(scenarios::reads_never_go_back));
    set_canary(None);
    let what = found.expect_err("no order shows it");
    let what = what.downcast_ref::<String>().expect("an assertion has a text");
    assert!(what.contains(" after Some(") || what.contains("left == right"), "{what}");
}

/// Shows that an order that breaks something is found: a value that was not waited for is not there yet in most.
#[test]
#[should_panic(expected = "the canary was found")]
fn the_canary_is_found() {
    explore(|| {
        let value = shuttle::sync::Arc::new(shuttle::sync::Mutex::new(0));
        let other = shuttle::sync::Arc::clone(&value);
        let thread = shuttle::thread::spawn(move || *other.lock().unwrap() += 1);
        assert_eq!(*value.lock().unwrap(), 1, "the canary was found");
        thread.join().unwrap();
    });
}
