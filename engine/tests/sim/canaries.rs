//! Bugs that are put there on purpose are found, each within so many seeds. One that is not shows that the simulator
//! sees less than it says.

use crate::outcome::{explain, outcome};
use kymo_engine::sim::{Canary, Failure, Op, Oracle, Script, set_canary};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Seeds after which a canary that sings is missed.
const SEEDS: u64 = 20_000;

/// Which oracles have to find a canary: what it breaks, and no accident of how it is broken. Nobody else counts, and no
/// panic does.
fn expected(canary: Canary) -> &'static [Oracle] {
    match canary {
        // What was acknowledged is not there, or what is left cannot have been left by a power cut.
        Canary::AckBeforeSync
        | Canary::RetryFailedSync
        | Canary::RewriteSyncedBlock
        | Canary::SkipDirectorySync
        | Canary::UnlinkBeforeManifest => &[Oracle::O1, Oracle::O10],
        // And what was read is taken back.
        Canary::ReadWithoutSync | Canary::ReadFromCache => &[Oracle::O1, Oracle::O6, Oracle::O10],
        Canary::ReuseLsn => &[Oracle::O1],
        // Values are gone, in a check or behind a crash.
        Canary::RetentionTrustsClock
        | Canary::DropWhenFull
        | Canary::SnapshotClaimsMore
        | Canary::SnapshotBeforeDurable
        | Canary::FailedSnapshotDropsRows
        | Canary::MissingOverwrites
        | Canary::MissingOverwritesInReads
        | Canary::DropBeforeArchived => &[Oracle::O1, Oracle::O12],
        Canary::CaptureSnapshotsFirst | Canary::ForgetArchived => &[Oracle::O12],
        // What a life left behind a torn tail comes to stand behind what the next one writes.
        Canary::AppendToRecovered => &[Oracle::O2, Oracle::O3, Oracle::O8],
        // Samples come to stand elsewhere.
        Canary::ReplayDecides => &[Oracle::O1, Oracle::O3, Oracle::O5, Oracle::O8],
        Canary::ForgetRuns | Canary::ForgottenRunsStay => &[Oracle::O5],
        // What was freed is there again.
        Canary::ForgetFrees => &[Oracle::O3],
        // Damage is taken for something else. The writer of snapshots refuses neighbours that are none.
        Canary::AcceptMisplacedFrames
        | Canary::ReadErrorEndsLog
        | Canary::DamageEndsLog
        | Canary::SalvageForgetsLoss
        | Canary::MergeSkipsNeighbour => &[Oracle::O9],
        // What is published has changed since.
        Canary::ArchiveUnchecked => &[Oracle::O9, Oracle::O12],
        // The next start misses the seal, or the definitions, and refuses.
        Canary::NoSeal | Canary::SegmentsShareDefinitions => &[Oracle::O10],
    }
}

/// Whether a script does at all what a canary is about; the others need not be run.
fn may_sing(canary: Canary, script: &Script) -> bool {
    let jumps = |is_back: bool| script.ops.iter().any(|op| matches!(op, Op::Jump(hours) if (*hours < 0) == is_back));
    match canary {
        Canary::DropBeforeArchived | Canary::ArchiveUnchecked | Canary::ForgetArchived => script.setup.has_archive,
        Canary::RetentionTrustsClock => script.setup.has_retention && jumps(false),
        Canary::ForgottenRunsStay => jumps(true),
        _ => true,
    }
}

/// Seeds before this one are passed over: a few thousand runs that find nothing take minutes.
fn first_seed(canary: Canary) -> u64 {
    if canary == Canary::AppendToRecovered { 4_200 } else { 0 }
}

/// The first script with which an oracle finds a canary that has to; told when it is looked into, the shortest one.
fn find(canary: Canary, is_told: bool) -> Option<(u64, Failure)> {
    set_canary(Some(canary));
    let seeds = first_seed(canary)..SEEDS;
    let mut scripts = seeds.map(Script::of_seed).filter(|script| may_sing(canary, script));
    let is_right = |failure: &Failure| expected(canary).contains(&failure.oracle);
    let found = scripts.find_map(|script| Some((outcome(&script).err().filter(is_right)?, script)));
    if is_told && let Some((failure, script)) = &found {
        eprintln!("{}", explain(script, failure, &outcome));
    }
    set_canary(None);
    found.map(|(failure, script)| (script.seed, failure))
}

/// What users are told was broken on purpose is what is broken.
#[test]
fn the_documentation_names_every_canary() {
    let told = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md")).unwrap();
    for canary in Canary::ALL {
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("| `{canary:?}` | ")));
        let line = line.unwrap_or_else(|| panic!("docs/reliability.md does not name {canary:?}"));
        let oracle = line.split(" | ").nth(1).unwrap_or_default();
        let is_expected = expected(canary).iter().any(|expected| format!("{expected:?}") == oracle);
        assert!(is_expected, "docs/reliability.md says that {oracle} finds {canary:?}");
    }
    assert!(told.contains(&format!("{} bugs", Canary::ALL.len())), "docs/reliability.md says another number of bugs");
}

/// `KYMO_SIM_CANARY` names one of them, and tells its shortest script.
#[test]
fn every_canary_is_found() {
    let wanted = std::env::var("KYMO_SIM_CANARY").ok();
    let is_wanted = |canary: &&Canary| wanted.as_ref().is_none_or(|wanted| *wanted == format!("{canary:?}"));
    let canaries: Vec<Canary> = Canary::ALL.iter().filter(is_wanted).copied().collect();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(&canary) = canaries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            match find(canary, wanted.is_some()) {
                Some((seed, failure)) => {
                    let oracle = failure.oracle;
                    eprintln!("| `{canary:?}` | {seed} | {oracle:?} | {:.1?} | {}", begun.elapsed(), failure.what);
                }
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
