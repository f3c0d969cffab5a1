//! Errors of the device, and a lack of space, at each kind of operation, once and for ever: what was acknowledged
//! stays, reads go on, and a restart recovers, with and without a power cut.

use crate::dropfs::Site;
use crate::fleet::{Counter, Fleet, Load, Size, Ticks, wait};
use crate::random::Random;
use crate::server::{Server, Setup};
use crate::tally::Tally;
use crate::volatile::{Asked, Trouble};
use crate::{Failure, Run};
use rustix::io::Errno;
use serde_json::json;

const SIZE: Size = Size { writers: 3, hosts: 2 };

/// What a failure must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The log has failed: writes are refused until a restart.
    Refuses,
    /// Work on files is tried again: writes go on.
    GoesOn,
}

/// An operation that fails.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    asked: Asked,
    path: &'static str,
    then: Then,
}

const CASES: [Case; 7] = [
    Case { name: "log write", asked: Asked::Write, path: ".wal", then: Then::Refuses },
    Case { name: "log sync", asked: Asked::Sync, path: ".wal", then: Then::Refuses },
    Case { name: "data write", asked: Asked::Write, path: ".snap", then: Then::GoesOn },
    Case { name: "data sync", asked: Asked::Sync, path: ".snap", then: Then::GoesOn },
    Case { name: "manifest write", asked: Asked::Write, path: "MANIFEST", then: Then::GoesOn },
    Case { name: "manifest sync", asked: Asked::Sync, path: "MANIFEST", then: Then::GoesOn },
    Case { name: "sync of a directory", asked: Asked::SyncDirectory, path: "/snapshots", then: Then::GoesOn },
];

/// The whole matrix, over and over for `rounds`.
pub(crate) fn run(run: &Run, rounds: u64) -> Result<Tally, Failure> {
    let (mut tally, mut random) = (Tally::default(), Random(run.seed));
    let mut refusals = 0_u64;
    for round in 0..rounds {
        let io = if round % 2 == 0 { "io_uring" } else { "posix" };
        for times in [1, u64::MAX] {
            for (case, errno) in CASES.into_iter().flat_map(|case| [(case, Errno::IO), (case, Errno::NOSPC)]) {
                for cut in [false, true] {
                    one(run, io, case, (errno, times), cut, &mut random, &mut tally).map_err(|error| {
                        format!("{} with {io}, {errno}, {times} times, power cut {cut}: {error}", case.name)
                    })?;
                    refusals += u64::from(case.then == Then::Refuses);
                }
            }
            unreadable(run, io, times, &mut random, &mut tally)
                .map_err(|error| format!("read under a map with {io}, {times} times: {error}"))?;
        }
    }
    tally.notes.push(format!("{refusals} logs failed as they must"));
    Ok(tally)
}

fn one(
    run: &Run,
    io: &str,
    case: Case,
    (errno, times): (Errno, u64),
    cut: bool,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let Site { disk, setup, .. } = &Site::new(run, &json!({"io": io}))?;
    let fleet = Fleet::new(SIZE, random);
    let ticks = Counter::default();
    let (mut server, _) = setup.serve()?;
    fleet.load(server.address(), &ticks, |load| {
        load.wait_acknowledged(20 + random.index(40))?;
        disk.order(vec![Trouble { asked: case.asked, path: case.path, times, errno }]);
        wait("the operation is never asked for", || disk.disk().troubled > 0)?;
        after(case, load, &server)?;
        load.expect_end();
        server.kill();
        Ok(())
    })?;
    disk.order(Vec::new());
    if cut {
        disk.cut_power(random)?;
    }
    recover(setup, &fleet, &ticks, tally)
}

/// What must hold once the trouble was made.
fn after(case: Case, load: &Load<'_>, server: &Server) -> Result<(), Failure> {
    match case.then {
        Then::GoesOn => load.wait_acknowledged(20),
        Then::Refuses => {
            wait("`/ready` does not say that the log has failed", || {
                server.client().get("/ready").is_ok_and(|answer| answer.status == 503 && answer.text.contains("wal"))
            })?;
            load.wait_refused()
        }
    }
}

/// Starts again: all is there, and writes are taken.
fn recover(setup: &Setup, fleet: &Fleet, ticks: &Counter, tally: &mut Tally) -> Result<(), Failure> {
    let (server, took) = setup.serve()?;
    tally.opens.push(took);
    fleet.audit_and_settle(&server, ticks, tally)?;
    fleet.load(server.address(), ticks, |load| load.wait_acknowledged(10))?;
    server.stop()?;
    let (mut server, _) = setup.serve()?;
    fleet.audit_and_settle(&server, ticks, tally)?;
    server.kill();
    tally.cycles += 1;
    tally.acknowledged += fleet.acknowledged();
    Ok(())
}

/// Pages of a mapped snapshot that cannot be read any more: the query says so or is right, the server lives, and when
/// the device is well again a restart serves everything.
fn unreadable(run: &Run, io: &str, times: u64, random: &mut Random, tally: &mut Tally) -> Result<(), Failure> {
    let Site { disk, setup, .. } = &Site::new(run, &json!({"io": io}))?;
    let fleet = Fleet::new(SIZE, random);
    let ticks = Counter::default();
    let (server, _) = setup.serve()?;
    fleet.load(server.address(), &ticks, |load| load.wait_acknowledged(60))?;
    server.stop()?;
    let (mut server, _) = setup.serve()?;
    disk.forget_pages();
    disk.order(vec![Trouble { asked: Asked::Read, path: ".snap", times, errno: Errno::IO }]);
    let now = ticks.tick();
    let answer = fleet.audit(&server, (now, now), tally);
    let troubled = disk.disk().troubled;
    if troubled == 0 {
        return Err("the snapshots are never read".into());
    }
    match answer {
        // Read again by the kernel, and right.
        Ok(_) if times == 1 => {}
        Ok(_) => return Err("data that cannot be read were answered".into()),
        Err(error) if error.to_string().contains(".snap") => {}
        Err(error) => return Err(format!("the error does not name the file: {error}").into()),
    }
    if server.client().get("/health")?.status != 200 {
        return Err("the server is not well after a page could not be read".into());
    }
    server.kill();
    disk.order(Vec::new());
    disk.forget_pages();
    recover(setup, &fleet, &ticks, tally)
}
