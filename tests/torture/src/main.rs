//! Takes life, power and disk from a running kymo, again and again, and reads back what it had acknowledged.
//!
//! Each rig runs the real program on a real or a hostile file system, under writers that know which of their samples
//! were acknowledged. `tests/torture/README.md` tells what each does. A rig prints one line that sums it up; a rig in
//! which anything acknowledged is lost, or anything wrong is read, ends the program with an error. First each rig shows
//! that it can fail at all.
#![expect(clippy::disallowed_methods, reason = "a rig measures real time")]

mod blockfs;
mod client;
mod cycle;
mod device;
mod dropfs;
mod errors;
mod faces;
mod fleet;
mod full;
mod images;
mod journal;
mod kill;
mod mounts;
mod power;
mod random;
mod server;
mod soak;
mod tally;
mod tape;
mod volatile;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tally::Tally;

/// Why a rig could not do its work, or what it found, for people.
type Failure = Box<dyn Error>;

/// What all rigs need.
#[derive(Debug)]
struct Run {
    program: PathBuf,
    /// A directory on the file system of the machine.
    work: PathBuf,
    seed: u64,
}

const USAGE: &str = "usage: kymo-torture RIG KYMO [COUNT] [SECONDS] [SEED]
RIG is one of:
  kill-uring, kill-posix   SIGKILL on the file system of the machine
  power-uring, power-posix SIGKILL and a power cut, on a file system that drops what was not synced
  images-ext4, images-xfs, images-btrfs
                           power cuts on a recorded disk under that file system
  errors                   each operation of the device fails, once and for ever
  device-ext4, device-xfs, device-btrfs
                           writes and flushes of the device below that file system fail
  full                     a disk without space, and files that may not grow
  soak                     two phases of SECONDS each, at half of the rate that the server can take and beyond it";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rig, program, rest @ ..] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let number = |index: usize, default: u64| rest.get(index).map_or(Ok(default), |text| text.parse());
    let (Ok(count), Ok(seconds), Ok(seed)) = (number(0, 100), number(1, 600), number(2, 1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let program = PathBuf::from(program);
    let Ok(program) = program.canonicalize() else {
        eprintln!("{} is not there", program.display());
        return ExitCode::from(2);
    };
    let run = Run { program, work: std::env::temp_dir(), seed };
    match start(rig, &run, count, Duration::from_secs(seconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{rig}: seed {seed}: FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(rig: &str, run: &Run, count: u64, limit: Duration) -> Result<(), Failure> {
    // Bounded by time alone.
    if rig == "soak" {
        return soak::run(run, limit);
    }
    let is_seen = match rig {
        "kill-uring" | "kill-posix" | "full" => kill::canary(run)?,
        "power-uring" | "power-posix" | "errors" => power::canary(run)?,
        "images-ext4" | "device-ext4" => images::canary(run, mounts::EXT4)?,
        "images-xfs" | "device-xfs" => images::canary(run, mounts::XFS)?,
        "images-btrfs" | "device-btrfs" => images::canary(run, mounts::BTRFS)?,
        _ => return Err(format!("no such rig\n{USAGE}").into()),
    };
    if !is_seen {
        return Err("a loss that was made on purpose was not seen".into());
    }
    let tally = match rig {
        "kill-uring" => kill::run(run, "io_uring", count, limit)?,
        "kill-posix" => kill::run(run, "posix", count, limit)?,
        "power-uring" => power::run(run, "io_uring", count, limit)?,
        "power-posix" => power::run(run, "posix", count, limit)?,
        "images-ext4" => images::run(run, mounts::EXT4, count, limit)?,
        "images-xfs" => images::run(run, mounts::XFS, count, limit)?,
        "images-btrfs" => images::run(run, mounts::BTRFS, count, limit)?,
        // The rest goes through a fixed list so many times, however long that takes.
        "errors" => errors::run(run, count)?,
        "device-ext4" => device::run(run, mounts::EXT4, count)?,
        "device-xfs" => device::run(run, mounts::XFS, count)?,
        "device-btrfs" => device::run(run, mounts::BTRFS, count)?,
        _ => full::run(run, count)?,
    };
    verdict(rig, run, count, &tally)
}

/// A rig that was stopped by its time has not shown what it was asked for.
fn verdict(rig: &str, run: &Run, count: u64, tally: &Tally) -> Result<(), Failure> {
    println!("{rig}: seed {}: {tally}", run.seed);
    if tally.faults() > 0 {
        return Err(format!("{} slots are not what they must be", tally.faults()).into());
    }
    if tally.cycles < count {
        return Err(format!("{} cycles in the time that there was, and {count} were asked for", tally.cycles).into());
    }
    Ok(())
}
