//! How a run ends: a panic is a failure like others, with a seed, a script and a command.

use kymo_engine::sim::{Failure, Oracle, Report, Script, o13_determinism, run, shrink};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What work gives; a panic is a [`Failure`] that says where it was.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if IS_CAUGHT.get() {
                LAST.set(info.to_string());
            } else {
                before(info);
            }
        }));
    });
    IS_CAUGHT.set(true);
    // A run shares nothing with the next one.
    let ended = std::panic::catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(false);
    ended.unwrap_or_else(|_| Err(Failure { oracle: Oracle::Panic, what: LAST.take() }))
}

/// Runs a script to its end, whatever that is.
pub(crate) fn outcome(script: &Script) -> Result<Report, Failure> {
    caught(|| run(script))
}

/// Runs a script twice, which gives the same.
pub(crate) fn outcome_twice(script: &Script) -> Result<Report, Failure> {
    let report = outcome(script)?;
    o13_determinism(&report, &outcome(script)?)?;
    Ok(report)
}

/// How scripts are run.
pub(crate) type Runner<'a> = &'a dyn Fn(&Script) -> Result<Report, Failure>;

/// A failure with its seed, its shortest script and the command that repeats it.
pub(crate) fn explain(script: &Script, failure: &Failure, run: Runner<'_>) -> String {
    let (shrunk, failure_then) = shrink(script, failure, run);
    let seed = script.seed;
    let ops: Vec<String> = shrunk.ops.iter().map(|op| format!("  {op:?}")).collect();
    let ops = ops.join("\n");
    format!(
        "seed {seed}: {failure}\n{} of {} operations are enough ({failure_then}), with {:?}:\n{ops}\nagain: \
         KYMO_SIM_SEEDS={seed}..{} cargo test -p kymo-engine --test sim -- campaign",
        shrunk.ops.len(),
        script.ops.len(),
        shrunk.setup,
        seed + 1
    )
}

#[test]
fn a_run_that_panics_is_told_with_seed_script_and_command() {
    use kymo_engine::sim::Op;
    let broken = |script: &Script| {
        caught(|| {
            assert!(!script.ops.contains(&Op::Commit), "a commit of nothing");
            Ok(Report::default())
        })
    };
    let script = Script::of_seed(7);
    let failure = broken(&script).unwrap_err();
    assert_eq!(failure.oracle, Oracle::Panic);
    let told = explain(&script, &failure, &broken);
    let command = "KYMO_SIM_SEEDS=7..8 cargo test -p kymo-engine --test sim -- campaign";
    let enough = format!("1 of {} operations are enough", script.ops.len());
    for part in ["seed 7: Panic: ", "outcome.rs", "a commit of nothing", &enough, "Setup {", "\n  Commit\n", command] {
        assert!(told.contains(part), "{part} is missing of: {told}");
    }
}

#[test]
fn runs_that_differ_are_told_like_other_failures() {
    let often = Cell::new(0);
    let other_each_time = |_: &Script| -> Result<Report, Failure> {
        often.set(often.get() + 1);
        o13_determinism(&Report::default(), &Report { hash: often.get(), ..Report::default() })?;
        Ok(Report::default())
    };
    let script = Script::of_seed(100);
    let failure = other_each_time(&script).unwrap_err();
    assert_eq!(failure.oracle, Oracle::O13);
    assert!(explain(&script, &failure, &other_each_time).contains("seed 100: O13: "));
}
