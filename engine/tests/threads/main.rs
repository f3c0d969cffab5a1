//! The store with threads: writers, the one who commits, work on files, readers. Run here as the machine schedules them,
//! under the thread sanitizer by `.ci/torture`, and in thousands of chosen orders by `tests/schedules`.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not the functions that they share")]

mod scenarios;

/// Threads of the system.
mod threads {
    pub(crate) use std::sync::mpsc::channel;
    pub(crate) use std::thread::spawn;
}

/// So often each scenario runs.
const ROUNDS: usize = 20;

fn repeat(scenario: fn()) {
    for _ in 0..ROUNDS {
        scenario();
    }
}

#[test]
fn who_is_told_that_a_sample_is_durable_can_read_it() {
    repeat(scenarios::acknowledged_is_readable);
}

#[test]
fn readers_never_see_a_slot_go_back_while_rows_move_into_snapshots() {
    repeat(scenarios::reads_never_go_back);
}

#[test]
fn writers_that_were_refused_for_what_waits_get_in_when_it_is_written() {
    repeat(scenarios::back_pressure_lets_go);
}

#[test]
fn when_the_log_fails_everyone_is_told_once() {
    repeat(scenarios::failure_reaches_everyone);
}
