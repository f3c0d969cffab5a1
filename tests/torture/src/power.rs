//! SIGKILL and a power cut at random moments, on the file system that drops what was not synced.

use crate::cycle;
use crate::dropfs::Site;
use crate::fleet::{Counter, Fleet, Size};
use crate::random::Random;
use crate::tally::Tally;
use crate::{Failure, Run};
use serde_json::{Value, json};
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
    let Site { disk, setup, .. } = &Site::new(run, storage)?;
    let mut random = Random(run.seed);
    let fleet = Fleet::new(SIZE, &mut random);
    let (ticks, begun) = (Counter::default(), Instant::now());
    while tally.cycles < cycles && begun.elapsed() < limit {
        if cycle::sometimes_dies_young(setup, 100_000, &mut random)? {
            disk.cut_power(&mut random)?;
        }
        cycle::live(setup, &fleet, &ticks, &mut random, &mut tally)?;
        disk.cut_power(&mut random)?;
        tally.cycles += 1;
    }
    cycle::ends(setup, &fleet, &ticks, &mut tally)?;
    let (bytes, names) = disk.disk().taken;
    tally.notes.push(format!("{bytes} unsynced bytes and {names} names taken"));
    Ok(tally)
}
