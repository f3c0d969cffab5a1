//! Small workloads, every point of them: the machine stops at each operation of the disk and at each operation of the
//! recovery after it, each operation fails, and every byte of the files rots.

use crate::outcome::caught;
use kymo_engine::disk::sim::{Fault, Target};
use kymo_engine::sim::{Failure, Line, Op, Script, Setup, Start, Swept, When, run, run_from, sweep};

fn write(samples: &[(u8, When, u8)]) -> Op {
    let line = |&(series, when, value): &(u8, When, u8)| Line::Sample { series, when, value };
    Op::Write(samples.iter().map(line).collect())
}

/// New series, late samples, a free, snapshots of two days, a merge, retention, a clean end and a second start.
fn work(seed: u64, is_interval: bool) -> Script {
    let setup = Setup {
        is_interval,
        has_retention: true,
        has_archive: false,
        has_short_window: false,
        has_short_writes: false,
        has_late_writes: seed % 2 == 1,
        hosts: 1,
    };
    let ops = vec![
        write(&[(0, When::Now, 7), (1, When::Now, 2), (25, When::Late(3000), 7)]),
        Op::Commit,
        write(&[(0, When::Back(3), 7), (9, When::Ahead(2), 4)]),
        Op::Prepare,
        Op::Commit,
        Op::Compact { now: true, steps: 64 },
        Op::Free { selector: 1, age: 300 },
        Op::Pass(90),
        write(&[(0, When::Now, 7), (25, When::Now, 7)]),
        Op::Restart,
        write(&[(1, When::Now, 7)]),
        Op::Commit,
        Op::Compact { now: true, steps: 64 },
        Op::Pass(4000),
        write(&[(0, When::Now, 7)]),
        Op::Commit,
        Op::Compact { now: true, steps: 64 },
        Op::Compact { now: false, steps: 64 },
        Op::Retain,
        write(&[(0, When::Now, 7), (1, When::Back(1), 7)]),
        Op::Commit,
        Op::Prepare,
        write(&[(0, When::Now, 7)]),
        Op::CommitOne,
    ];
    Script { seed, setup, ops }
}

/// Ends a test with a failure, where it was, and the command that comes to it again.
fn give_up(test: &str, at: &str, failure: &Failure) -> ! {
    panic!("{at}: {failure}\nagain: cargo test -p kymo-engine --test sim -- exhaustive::{test}")
}

/// Runs work with crashes at these operations; how many of them came.
fn crashes_that_came(seed: u64, is_interval: bool, crashes: &[(u64, bool)]) -> u64 {
    let start = Start { crashes: crashes.to_vec(), ..Start::default() };
    let script = work(seed, is_interval);
    let report = caught(|| run_from(&script, start)).unwrap_or_else(|failure| {
        let at = format!("seed {seed}, interval {is_interval}, stopped at {crashes:?}");
        give_up("a_crash_at_any_operation_and_at_any_of_the_recovery_loses_nothing", &at, &failure)
    });
    report.planned
}

#[test]
fn a_crash_at_any_operation_and_at_any_of_the_recovery_loses_nothing() {
    let mut runs = 0_u64;
    for is_interval in [false, true] {
        for at in 1.. {
            let mut is_over = false;
            for power in [false, true] {
                runs += 1;
                is_over = crashes_that_came(at, is_interval, &[(at, power)]) == 0;
                if is_over {
                    break;
                }
                // An interval changes the frames alone: there every third recovery is gone through.
                if is_interval && at % 3 > 0 {
                    continue;
                }
                for (second, power_then) in (1..).zip([true, false, true].into_iter().cycle()) {
                    runs += 1;
                    if crashes_that_came(at + second, is_interval, &[(at, power), (second, power_then)]) < 2 {
                        break;
                    }
                }
            }
            if is_over {
                assert!(at > 100, "the work has but {at} operations");
                break;
            }
        }
    }
    eprintln!("{runs} runs");
}

#[test]
fn any_operation_may_fail_once_or_for_good_in_any_way() {
    let mut runs = 0;
    for is_interval in [false, true] {
        for (target, errno) in [
            (Target::Any, libc_errno::EIO),
            (Target::Any, libc_errno::ENOSPC),
            (Target::Write, libc_errno::EINTR),
            (Target::Sync, libc_errno::EINTR),
        ] {
            for is_sticky in [false, true] {
                if is_sticky && errno == libc_errno::EINTR {
                    continue;
                }
                for nth in 1.. {
                    runs += 1;
                    let start = Start { fault: Some(Fault { target, nth, errno, is_sticky }), ..Start::default() };
                    let report = caught(|| run_from(&work(nth, is_interval), start)).unwrap_or_else(|failure| {
                        let at = format!(
                            "seed {nth}, interval {is_interval}, {target:?} {nth} fails with {errno}, for good {is_sticky}"
                        );
                        give_up("any_operation_may_fail_once_or_for_good_in_any_way", &at, &failure)
                    });
                    if report.faults == 0 {
                        break;
                    }
                }
            }
        }
    }
    eprintln!("{runs} runs");
}

/// Runs work that stops once, and whose recovery meets a fault; whether both came.
fn recovery_fails(at: u64, power: bool, fault: Fault) -> (bool, bool) {
    let start = Start { crashes: vec![(at, power)], fault_then: Some(fault), ..Start::default() };
    let report = caught(|| run_from(&work(at, false), start)).unwrap_or_else(|failure| {
        let at = format!("seed {at}, stopped at {at}, power {power}, then {fault:?}");
        give_up("any_operation_of_a_recovery_may_fail_once_or_for_good", &at, &failure)
    });
    (report.planned > 0, report.faults > 0)
}

#[test]
fn any_operation_of_a_recovery_may_fail_once_or_for_good() {
    let mut runs = 0;
    let kinds = [(libc_errno::EIO, false), (libc_errno::EIO, true), (libc_errno::ENOSPC, false)];
    // Each point is gone through as a crash by another test: here every third one, after kills and power cuts in turn.
    'work: for at in (1..).step_by(3) {
        for (errno, is_sticky) in kinds {
            for nth in 1.. {
                runs += 1;
                let fault = Fault { target: Target::Any, nth, errno, is_sticky };
                match recovery_fails(at, at % 2 == 0, fault) {
                    (false, _) => break 'work,
                    (true, false) => break,
                    (true, true) => {}
                }
            }
        }
    }
    eprintln!("{runs} runs");
    assert!(runs > 1000, "but {runs} runs");
}

/// The numbers of Linux.
mod libc_errno {
    pub(super) const EINTR: i32 = 4;
    pub(super) const EIO: i32 = 5;
    pub(super) const ENOSPC: i32 = 28;
}

#[test]
fn the_same_script_gives_the_same_run() {
    assert_eq!(run(&work(3, false)).unwrap(), run(&work(3, false)).unwrap());
}

fn give_up_sweep(stride: usize, failure: &Failure) -> ! {
    let at = format!("with KYMO_SIM_STRIDE={stride}");
    give_up("no_damage_of_any_byte_or_sector_of_any_file_is_silent", &at, failure)
}

/// `KYMO_SIM_STRIDE=1` damages every byte.
#[test]
fn no_damage_of_any_byte_or_sector_of_any_file_is_silent() {
    let stride = std::env::var("KYMO_SIM_STRIDE").ok().and_then(|stride| stride.parse().ok()).unwrap_or(31);
    let mut script = work(2, false);
    // A day of a series that is read every ten seconds: a snapshot of about 60 KiB.
    for lines in (0..8640_u32).collect::<Vec<_>>().chunks(400) {
        let late = |slot: &u32| When::Late(u16::try_from(slot * 65_536 / 8640).unwrap());
        script.ops.push(write(&lines.iter().map(|slot| (4, late(slot), 7)).collect::<Vec<_>>()));
        script.ops.extend([Op::Commit, Op::Prepare]);
    }
    script.ops.push(Op::Compact { now: true, steps: 255 });
    // Three days of one more series, so that the log has a full segment and the snapshots some columns.
    for round in 0..14 {
        script.ops.push(write(&[(0, When::Back(round), 7), (1, When::Now, 4), (9, When::Now, 7), (25, When::Now, 2)]));
        script.ops.push(Op::Pass(3));
        script.ops.push(Op::Commit);
    }
    let parts = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let swept: Vec<Swept> = std::thread::scope(|scope| {
        let script = &script;
        let swept = |part| caught(|| sweep(script, stride, (part, parts)));
        let sweeps: Vec<_> = (0..parts).map(|part| scope.spawn(move || swept(part))).collect();
        let ended = sweeps.into_iter().map(|part| part.join().unwrap());
        ended.map(|swept| swept.unwrap_or_else(|failure| give_up_sweep(stride, &failure))).collect()
    });
    let sum = |of: fn(&Swept) -> u64| swept.iter().map(of).sum::<u64>();
    let (refused, told) = (sum(|it| it.refused), sum(|it| it.told));
    let (unseen, torn) = (sum(|it| it.unseen), sum(|it| it.torn));
    let Swept { segment, snapshot, manifest, .. } = swept[0];
    eprintln!(
        "every {stride}th byte of segments of {segment}, snapshots of {snapshot}, a manifest of {manifest}: {refused} \
         refused, {told} told, {unseen} without effect, {torn} taken for a torn end, 0 silent"
    );
    assert!(segment >= 48 << 10 && snapshot >= 56 << 10, "{segment} and {snapshot} bytes");
    assert!(refused > 100 && told > 10, "{refused} refused, {told} told");
}
