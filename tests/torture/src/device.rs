//! Errors of the device below a real file system: writes and flushes fail, once and for ever. The file system may go
//! on, believe pages clean that are not, or turn itself off; what was acknowledged is there when the device is well
//! again, first on the same mount, with its page cache, then on a new one.

use crate::blockfs::Site;
use crate::fleet::{Counter, Fleet, Size, wait};
use crate::mounts::Kind;
use crate::random::Random;
use crate::tally::Tally;
use crate::tape::Asked;
use crate::{Failure, Run};
use serde_json::json;
use std::thread;
use std::time::Duration;

const SIZE: Size = Size { writers: 3, hosts: 2 };

/// All cases of one file system, over and over for `rounds`.
pub(crate) fn run(run: &Run, kind: Kind, rounds: u64) -> Result<Tally, Failure> {
    let (mut random, mut tally) = (Random(run.seed), Tally::default());
    for _ in 0..rounds {
        for io in ["io_uring", "posix"] {
            for asked in [Asked::Write, Asked::Flush] {
                for times in [1, u64::MAX] {
                    one(run, kind, io, (asked, times), &mut random, &mut tally)
                        .map_err(|error| format!("{asked:?} under {} with {io}, {times} times: {error}", kind.name))?;
                }
            }
        }
    }
    Ok(tally)
}

fn one(
    run: &Run,
    kind: Kind,
    io: &str,
    trouble: (Asked, u64),
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let site = Site::new(run, kind, &json!({"io": io}))?;
    let Site { disk, setup, mount, .. } = &site;
    let fleet = Fleet::new(SIZE, random);
    let ticks = Counter::default();
    {
        let _mounted = site.make()?;
        let (mut server, _) = setup.serve()?;
        fleet.load(server.address(), &ticks, |load| {
            load.wait_acknowledged(20 + random.index(60))?;
            disk.tape().order(Some(trouble));
            wait("the device is never asked", || disk.tape().troubled > 0)?;
            // Whether the log was hit is up to the file system; what is acknowledged from here on counts like the rest.
            thread::sleep(Duration::from_millis(50 + random.below(400)));
            load.expect_end();
            server.kill();
            Ok(())
        })?;
        disk.tape().order(None);
        // The file system may have turned itself off: then nothing starts here, and that is said.
        let mut server = setup.spawn()?;
        if server.wait_listening().is_ok() {
            fleet.audit_and_settle(&server, &ticks, tally)?;
            tally.cycles += 1;
        } else if !server.said().contains(&mount.display().to_string()) {
            return Err(format!("it does not say what failed:\n{}", server.said()).into());
        }
    }
    let _mounted = site.mount(&disk.disk())?;
    let (server, took) = setup.serve()?;
    tally.opens.push(took);
    fleet.audit_and_settle(&server, &ticks, tally)?;
    fleet.load(server.address(), &ticks, |load| load.wait_acknowledged(10))?;
    server.stop()?;
    tally.cycles += 1;
    tally.acknowledged += fleet.acknowledged();
    Ok(())
}
