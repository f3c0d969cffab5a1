//! SIGKILL at random moments on the file system of the machine, and an immediate restart.

use crate::cycle;
use crate::fleet::{Counter, Fleet, Size};
use crate::random::Random;
use crate::server::Setup;
use crate::tally::Tally;
use crate::{Failure, Run};
use rustix::fs::{FallocateFlags, fallocate};
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

const SIZE: Size = Size { writers: 8, hosts: 3 };

/// Cycles until there were `cycles` of them, or `limit` has passed.
pub(crate) fn run(run: &Run, io: &str, cycles: u64, limit: Duration) -> Result<Tally, Failure> {
    let work = tempfile::tempdir_in(&run.work)?;
    let data = work.path().join("data");
    let setup = Setup::new(&run.program, work.path(), &data, &json!({"io": io}))?;
    let mut random = Random(run.seed);
    let fleet = Fleet::new(SIZE, &mut random);
    let (ticks, mut tally, begun) = (Counter::default(), Tally::default(), Instant::now());
    while tally.cycles < cycles && begun.elapsed() < limit {
        cycle::sometimes_dies_young(&setup, 60_000, &mut random)?;
        cycle::live(&setup, &fleet, &ticks, &mut random, &mut tally)?;
        tally.cycles += 1;
    }
    cycle::ends(&setup, &fleet, &ticks, &mut tally)?;
    Ok(tally)
}

/// The same with a block of the log that goes missing at each kill. Must end in a refusal to open, or in losses.
pub(crate) fn canary(run: &Run) -> Result<bool, Failure> {
    let work = tempfile::tempdir_in(&run.work)?;
    let data = work.path().join("data");
    let setup = Setup::new(&run.program, work.path(), &data, &json!({}))?;
    let mut random = Random(run.seed);
    let fleet = Fleet::new(SIZE, &mut random);
    let (ticks, mut tally) = (Counter::default(), Tally::quiet());
    let (mut server, _) = setup.serve()?;
    fleet.load(server.address(), &ticks, |load| {
        load.wait_acknowledged(60)?;
        load.expect_end();
        server.kill();
        Ok(())
    })?;
    lose_last_frame(&data.join("wal"))?;
    match setup.serve() {
        Ok((server, _)) => fleet.audit_and_settle(&server, &ticks, &mut tally)?,
        Err(error) => return Ok(error.to_string().contains("damage")),
    }
    Ok(tally.faults() > 0)
}

/// Makes zeros of the last 256 KiB of the log that are none.
fn lose_last_frame(wal: &Path) -> Result<(), Failure> {
    let mut segments: Vec<_> = fs::read_dir(wal)?.map_while(Result::ok).map(|entry| entry.path()).collect();
    segments.sort();
    for path in segments.iter().rev() {
        let bytes = fs::read(path)?;
        let Some(last) = bytes.iter().rposition(|&byte| byte != 0).filter(|&last| last > 4096) else { continue };
        let from = last.saturating_sub(1 << 18).max(4096);
        let file = OpenOptions::new().write(true).open(path)?;
        fallocate(
            &file,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            from as u64,
            (last + 1 - from) as u64,
        )?;
        return Ok(());
    }
    Err("the log has no frame".into())
}
