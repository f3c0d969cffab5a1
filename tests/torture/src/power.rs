//! SIGKILL and a power cut at random moments, on the file system that drops what was not synced.

use crate::dropfs::DropFs;
use crate::fleet::{Counter, Fleet, Size};
use crate::random::Random;
use crate::server::Setup;
use crate::tally::Tally;
use crate::{Failure, Run};
use serde_json::{Value, json};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

const SIZE: Size = Size { writers: 6, hosts: 2 };

/// Cycles until there were `cycles` of them, or `limit` has passed.
pub(crate) fn run(run: &Run, io: &str, cycles: u64, limit: Duration) -> Result<Tally, Failure> {
    cycle(run, &json!({"io": io}), cycles, limit, Tally::default())
}

/// The same without a sync before a write is acknowledged. Must lose something.
pub(crate) fn canary(run: &Run) -> Result<bool, Failure> {
    let tally = cycle(run, &json!({"durability": {"interval": "60s"}}), 10, Duration::from_mins(1), Tally::quiet())?;
    Ok(tally.faults() > 0)
}

fn cycle(run: &Run, storage: &Value, cycles: u64, limit: Duration, mut tally: Tally) -> Result<Tally, Failure> {
    let work = tempfile::tempdir_in(&run.work)?;
    let mount = work.path().join("mount");
    fs::create_dir(&mount)?;
    let disk = DropFs::mount(&mount)?;
    let setup = Setup::new(&run.program, work.path(), &mount.join("data"), storage)?;
    let mut random = Random(run.seed);
    let fleet = Fleet::new(SIZE, &mut random);
    let (ticks, begun) = (Counter::default(), Instant::now());
    while tally.cycles < cycles && begun.elapsed() < limit {
        // Some lose power while they start.
        if random.once_in(4) {
            let mut starting = setup.spawn()?;
            thread::sleep(Duration::from_micros(random.below(100_000)));
            starting.kill();
            disk.cut_power(&mut random)?;
        }
        let (mut server, took) = setup.serve()?;
        tally.opens.push(took);
        fleet.audit_and_settle(&server, &ticks, &mut tally)?;
        fleet.load(server.address(), &ticks, |load| {
            load.random_moment(&mut random, &server.client(), &mut tally)?;
            load.expect_end();
            server.kill();
            Ok(())
        })?;
        disk.cut_power(&mut random)?;
        tally.cycles += 1;
    }
    let (server, _) = setup.serve()?;
    fleet.audit_and_settle(&server, &ticks, &mut tally)?;
    server.stop()?;
    tally.acknowledged = fleet.acknowledged();
    let (bytes, names) = disk.disk().taken;
    tally.notes.push(format!("{bytes} unsynced bytes and {names} names taken"));
    Ok(tally)
}
