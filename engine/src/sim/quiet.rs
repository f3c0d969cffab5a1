//! The end of every run: the faults are over, and the store must go on, stay within its bounds and leave nothing behind.

use super::model::{FREQUENCIES, Sample};
use super::oracle::{self, Checked, Failure, Oracle, o10_liveness, o11_bounded};
use super::read;
use super::world::{DIRECTORY, LOG_BOUND, World};
use crate::disk::Disk;
use crate::disk::sim::Crash;
use crate::env::Env;
use crate::paths::{self, Paths};
use crate::store::Progress;
use std::path::Path;

/// Work steps after which something must have come to an end.
const MANY: usize = 2000;

/// Lets a run end. A brief end leaves the background work out.
pub(super) fn end(world: &mut World, is_brief: bool) -> Checked {
    world.is_at_end = true;
    world.calm()?;
    write_all(world)?;
    if is_brief {
        world.crash(Crash::Power)?;
        return world.check();
    }
    o7_twice_is_once(world)?;
    world.clock.pass(3 * 86_400);
    write_all(world)?;
    work_off(world)?;
    world.check()?;
    world.restart_cleanly()?;
    nothing_left_over(world)?;
    write_all(world)?;
    world.crash(Crash::Power)?;
    world.check()
}

/// O10: writes are taken and committed.
fn write_all(world: &mut World) -> Checked {
    let now = world.clock.unix_now();
    let samples: Vec<Sample> = read::all_series(world.hosts)
        .map(|series| {
            let step = FREQUENCIES[usize::from(series.1)];
            let value = f64::from(series.0) + f64::from(series.2) / 7.0;
            Sample { series, time: now.div_euclid(step) * step, bits: value.to_bits() }
        })
        .collect();
    world.write(&samples, &[], 0)?;
    let is_done = world.commit()?;
    o10_liveness(is_done, || "commits do not end in peace".to_owned())?;
    world.prepare()
}

/// O7: opening twice is opening once.
fn o7_twice_is_once(world: &mut World) -> Checked {
    world.crash(Crash::Kill)?;
    let (read, files) = (world.read_all()?, world.disk.files());
    world.crash(Crash::Kill)?;
    let again = (world.read_all()?, world.disk.files());
    let snapshots = Paths::new(DIRECTORY).snapshots();
    let are_equal = files
        .iter()
        .filter(|(path, _)| path.starts_with(&snapshots))
        .eq(again.1.iter().filter(|(path, _)| path.starts_with(&snapshots)));
    oracle::o7_twice_is_once(read == again.0, are_equal && files.len() == again.1.len())
}

/// O10: the background work comes to an end, and keeps the log within its bound.
fn work_off(world: &mut World) -> Checked {
    for now in [false, true, false] {
        world.compact(now, MANY)?;
        world.archive(MANY, false)?;
        world.retain()?;
    }
    let store = world.store()?;
    let rest = store.compact_step(false);
    o10_liveness(matches!(rest, Ok(Progress::Idle)), || format!("the work never ends: {rest:?}"))?;
    o10_liveness(store.retention_is_due().is_none(), || "retention never ends".to_owned())?;
    let stats = store.stats();
    o11_bounded(stats.head_bytes == 0, || format!("{} bytes stay in the head", stats.head_bytes))?;
    o11_bounded(stats.log_bytes <= LOG_BOUND, || format!("{} bytes stay in the log", stats.log_bytes))
}

/// O11: after a clean end there are the files that are listed, and the log is empty.
fn nothing_left_over(world: &World) -> Checked {
    let store = world.store()?;
    let stats = store.stats();
    let paths = Paths::new(DIRECTORY);
    let list = |path: &Path| world.disk.list(path).map_err(|error| Failure::new(Oracle::O9, error.to_string()));
    let snapshots = list(&paths.snapshots())?;
    o11_bounded(snapshots.len() == stats.snapshots, || format!("{} live of {snapshots:?}", stats.snapshots))?;
    let segments = list(&paths.wal())?;
    let is_log = segments.len() <= 3 && segments.iter().all(|entry| paths::segment_seq(&entry.name).is_some());
    o11_bounded(is_log, || format!("the log is {segments:?}"))?;
    let root = list(paths.root())?;
    let names: Vec<&str> = root.iter().map(|entry| &*entry.name).collect();
    o11_bounded(names == ["LOCK", "MANIFEST", "snapshots", "wal"], || format!("{names:?}"))
}
