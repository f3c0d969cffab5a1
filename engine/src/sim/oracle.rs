//! The oracles: what must hold, each as a check of its name.
//!
//! P1 (acknowledged is durable) is O1, O3, O6 and O8; P2 (nothing vanishes in silence) is O4 and O9; P3 (what comes
//! back is what went in) is O2, O5 and O12; P4 and P5 (restarts, memory) are O11; P6 (recovery is total and
//! idempotent) is O7 and O10. O13 makes a finding worth something.

use super::model::{Difference, FREQUENCIES, Model, Series};
use super::read::names;
use super::report::Report;
use crate::store::{DebugRun, Written};
use std::fmt;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// Durability: what was acknowledged is there, bit for bit, after any number of crashes.
    O1,
    /// No invention: what is read was written for that slot.
    O2,
    /// No hole: what is recovered is the beginning of what the log took.
    O3,
    /// Bodies: every good line is taken, every other one is counted.
    O4,
    /// No duplicates: runs do not lie over each other, and what comes again changes nothing.
    O5,
    /// Stability: what was read once no crash takes back.
    O6,
    /// Recovery twice is recovery once.
    O7,
    /// An acknowledged value does not give way to an older one.
    O8,
    /// Honesty: errors come where something failed, nothing is acknowledged after the log has failed, damage is
    /// reported with its file and only where it is.
    O9,
    /// Liveness: without faults everything goes on.
    O10,
    /// Resources: files, log and memory stay within their bounds, and no file is left over.
    O11,
    /// Layers: snapshots, merges, retention and the head together are what was written.
    O12,
    /// Determinism: the same seed gives the same run.
    O13,
    /// None of them: the run panicked.
    Panic,
}

/// A broken promise, and how it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub oracle: Oracle,
    /// How it showed.
    pub what: String,
}

impl Failure {
    pub(super) fn new(oracle: Oracle, what: impl Into<String>) -> Self {
        Self { oracle, what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.oracle, self.what)
    }
}

impl std::error::Error for Failure {}

pub(super) type Checked = Result<(), Failure>;

fn hold(oracle: Oracle, holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Failure::new(oracle, what())) }
}

/// O1: the log that was recovered reaches behind all that was acknowledged.
pub(super) fn o1_durability(next_lsn: u64, acknowledged: u64) -> Checked {
    hold(Oracle::O1, next_lsn > acknowledged, || {
        format!("LSN {acknowledged} was acknowledged, and the next one is {next_lsn}")
    })
}

/// O2: what is read of a slot was once written to it.
pub(super) fn o2_no_invention(model: &Model, series: Series, time: i64, bits: u64) -> Checked {
    hold(Oracle::O2, model.was_written(series, time, bits), || {
        format!("{:?} at {time} is {:?}, which was never written", names(series), f64::from_bits(bits))
    })
}

/// O3: nothing was recovered that the log never took.
pub(super) fn o3_no_hole(next_lsn: u64, given: u64) -> Checked {
    hold(Oracle::O3, next_lsn <= given + 1, || format!("LSN {given} was the last one, and the next one is {next_lsn}"))
}

/// O4: of a body every good line is taken and every other one is counted.
pub(super) fn o4_every_line(written: &Written, good: u64, bad: u64) -> Checked {
    let reasons: u64 = written.reasons.iter().map(|(_, count)| count).sum();
    hold(Oracle::O4, (written.accepted, written.refused, reasons) == (good, bad, bad), || {
        format!("{good} good lines and {bad} others: {written:?}")
    })
}

/// O5: no run of a series lies over the next one, but for a slot at its edge.
pub(super) fn o5_runs_apart(series: Series, runs: &[DebugRun]) -> Checked {
    let step = FREQUENCIES[usize::from(series.1)];
    let are_apart = runs.windows(2).all(|pair| pair[0].end <= pair[1].start.saturating_add(step));
    hold(Oracle::O5, are_apart, || format!("{:?} has runs that lie over each other: {runs:?}", names(series)))
}

/// O6: the log that was recovered reaches behind all that was ever read.
pub(super) fn o6_stability(next_lsn: u64, served: u64) -> Checked {
    hold(Oracle::O6, next_lsn > served, || format!("LSN {served} was read, and the next one is {next_lsn}"))
}

/// O7: a second start reads and leaves what the first one did.
pub(super) fn o7_twice_is_once(reads_same: bool, leaves_same: bool) -> Checked {
    hold(Oracle::O7, reads_same, || "a second start reads something else".to_owned())?;
    hold(Oracle::O7, leaves_same, || "a second start leaves other files".to_owned())
}

/// O9: where nothing failed, nothing is an error.
pub(super) fn o9_no_error_without_cause(has_cause: bool, what: impl FnOnce() -> String) -> Checked {
    hold(Oracle::O9, has_cause, what)
}

/// O10: without faults this is done.
pub(super) fn o10_liveness(is_done: bool, what: impl FnOnce() -> String) -> Checked {
    hold(Oracle::O10, is_done, what)
}

/// O11: this stays within its bounds.
pub(super) fn o11_bounded(is_within: bool, what: impl FnOnce() -> String) -> Checked {
    hold(Oracle::O11, is_within, what)
}

/// O12: no day has more rows in the archive than values were ever written to it: none is there twice.
pub(super) fn o12_archived_once(model: &Model, day: i64, rows: u64) -> Checked {
    let written = model.written_in(day) as u64;
    hold(Oracle::O12, rows <= written, || format!("{rows} rows of day {day} are archived, {written} were written"))
}

/// O13: two runs of the same script are one.
pub fn o13_determinism(run: &Report, again: &Report) -> Result<(), Failure> {
    hold(Oracle::O13, run == again, || format!("another run at the second time: {run:?}, then {again:?}"))
}

/// O1, O2, O8, O12: what was read is what the model has. `when` tells which: after a crash O1 and O8, else O12.
pub(super) fn o12_union_is_model(model: &mut Model, read: &super::model::Content, after_crash: bool) -> Checked {
    let Some(difference) = model.compare(read) else { return Ok(()) };
    let Difference { series, time, found, expected } = difference;
    let was_written = found.is_some_and(|bits| model.was_written(series, time, bits));
    let oracle = match (found, after_crash) {
        (Some(_), _) if !was_written => Oracle::O2,
        (Some(_), true) if expected.is_some() => Oracle::O8,
        (None, true) => Oracle::O1,
        (Some(_), true) => Oracle::O3,
        _ => Oracle::O12,
    };
    let show = |bits: Option<u64>| bits.map_or("nothing".to_owned(), |bits| format!("{:?}", f64::from_bits(bits)));
    let what = format!("{:?} at {time} is {}, not {}", names(series), show(found), show(expected));
    Err(Failure::new(oracle, what))
}
