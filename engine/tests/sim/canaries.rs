//! Bugs that are put there on purpose are found, each within so many seeds. One that is not shows that the simulator
//! sees less than it says.

use kymo_engine::sim::{Canary, Failure, Op, Script, run, set_canary};
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

/// Whether a script does at all what a canary is about; the others need not be run.
fn may_sing(canary: Canary, script: &Script) -> bool {
    let jumps = |is_back: bool| script.ops.iter().any(|op| matches!(op, Op::Jump(hours) if (*hours < 0) == is_back));
    match canary {
        Canary::DropBeforeArchived | Canary::ArchiveUnchecked => script.setup.has_archive,
        Canary::RetentionTrustsClock => script.setup.has_retention && jumps(false),
        Canary::ForgottenRunsStay => jumps(true),
        _ => true,
    }
}

/// The first seed that finds a canary.
fn find(canary: Canary) -> Option<(u64, String)> {
    set_canary(Some(canary));
    let scripts = (0..SEEDS).map(Script::of_seed).filter(|script| may_sing(canary, script));
    let found = { scripts }.find_map(|script| failure(&script).map(|what| (script.seed, what)));
    set_canary(None);
    found
}

/// What users are told was broken on purpose is what is broken.
#[test]
fn the_documentation_names_every_canary() {
    let told = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md")).unwrap();
    let untold: Vec<_> = Canary::ALL.iter().filter(|canary| !told.contains(&format!("| `{canary:?}` |"))).collect();
    assert!(untold.is_empty(), "docs/reliability.md does not name {untold:?}");
    assert!(told.contains(&format!("{} bugs", Canary::ALL.len())), "docs/reliability.md says another number of bugs");
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
                Some((seed, what)) => eprintln!("| `{canary:?}` | {seed} | {:.1?} | {what}", begun.elapsed()),
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
