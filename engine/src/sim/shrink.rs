//! Fewer operations that still fail.

use super::{Failure, Op, Report, Script};

/// How often a shrinking tries.
const TRIES: usize = 1000;

/// Takes operations away, many at a time and then one by one, as long as the same promise is broken. The script that is
/// left, and how it fails. `run` is how scripts are run: its caller says what becomes of a panic.
pub fn shrink(
    script: &Script,
    failure: &Failure,
    run: &dyn Fn(&Script) -> Result<Report, Failure>,
) -> (Script, Failure) {
    let (mut script, mut failure) = (script.clone(), failure.clone());
    let mut tries = 0;
    let mut len = script.ops.len().div_ceil(2).max(1);
    loop {
        let before = script.ops.len();
        let mut at = 0;
        while at < script.ops.len() && tries < TRIES {
            let mut fewer = script.clone();
            fewer.ops.drain(at..(at + len).min(fewer.ops.len()));
            tries += 1;
            match run(&fewer) {
                Err(found) if found.oracle == failure.oracle => (script, failure) = (fewer, found),
                _ => at += len,
            }
        }
        lines(&mut script, &mut failure, &mut tries, run);
        if tries >= TRIES || len == 1 && script.ops.len() == before {
            return (script, failure);
        }
        len = len.div_ceil(2);
    }
}

/// Takes lines away from the bodies.
fn lines(
    script: &mut Script,
    failure: &mut Failure,
    tries: &mut usize,
    run: &dyn Fn(&Script) -> Result<Report, Failure>,
) {
    for op in 0..script.ops.len() {
        let mut at = 0;
        while let Op::Write(lines) = &script.ops[op]
            && at < lines.len()
            && *tries < TRIES
        {
            let mut fewer = script.clone();
            if let Op::Write(lines) = &mut fewer.ops[op] {
                lines.remove(at);
            }
            *tries += 1;
            match run(&fewer) {
                Err(found) if found.oracle == failure.oracle => (*script, *failure) = (fewer, found),
                _ => at += 1,
            }
        }
    }
}
