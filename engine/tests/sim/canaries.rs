//! Bugs that are put there on purpose are found, each within so many seeds. One that is not shows that the simulator
//! sees less than it says.

use kymo_engine::sim::{Canary, Failure, Script, run, set_canary};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Seeds after which a canary that sings is missed.
const SEEDS: u64 = 20_000;

/// How a script fails; a panic is a failure, too.
fn failure(script: &Script) -> Option<String> {
    match std::panic::catch_unwind(|| run(script)) {
        Ok(outcome) => outcome.err().map(|failure: Failure| failure.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Some(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

/// The first seed that finds a canary.
fn find(canary: Canary) -> Option<(u64, String)> {
    set_canary(Some(canary));
    let found = (0..SEEDS).find_map(|seed| failure(&Script::of_seed(seed)).map(|what| (seed, what)));
    set_canary(None);
    found
}

#[test]
fn every_canary_is_found() {
    let wanted = std::env::var("KYMO_SIM_CANARY").ok();
    let is_wanted = |canary: &&Canary| wanted.as_ref().is_none_or(|wanted| *wanted == format!("{canary:?}"));
    let canaries: Vec<Canary> = Canary::ALL.iter().filter(is_wanted).copied().collect();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(&canary) = canaries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            match find(canary) {
                Some((seed, what)) => eprintln!("{canary:?}: seed {seed}, {:?}: {what}", begun.elapsed()),
                None => missed.lock().unwrap().push(canary),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    assert_eq!(missed.into_inner().unwrap(), [], "not found in {SEEDS} seeds");
}
