//! A disk that is full: writes wait or are refused, reads go on, and so do writes when there is space again; a start on
//! a full disk serves reads and says why it takes no writes. And a limit on the length of files.

use crate::fleet::{Counter, Fleet, Size};
use crate::mounts::{EXT4, Loop, Mounted};
use crate::random::Random;
use crate::server::{Server, Setup};
use crate::tally::Tally;
use crate::{Failure, Run};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const SIZE: Size = Size { writers: 4, hosts: 2 };
/// Bytes of the disk.
const DISK: u64 = 24 << 20;

/// A file that takes all the space there is.
#[derive(Debug)]
struct Filler(PathBuf);

impl Filler {
    fn new(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("filler");
        let file = File::create(&path)?;
        let (mut len, mut step) = (0, 1 << 20);
        while step >= 1024 {
            match fallocate(&file, FallocateFlags::empty(), len, step) {
                Ok(()) => len += step,
                Err(Errno::NOSPC) => step /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(path))
    }

    fn remove(self) -> Result<(), Failure> {
        Ok(fs::remove_file(self.0)?)
    }
}

/// So many times full and not full again.
pub(crate) fn run(run: &Run, rounds: u64) -> Result<Tally, Failure> {
    let work = tempfile::tempdir_in(&run.work)?;
    let (image, mount) = (work.path().join("disk"), work.path().join("mount"));
    File::create(&image)?.set_len(DISK)?;
    fs::create_dir(&mount)?;
    let device = Loop::new(&image)?;
    device.make(EXT4)?;
    let _mounted = Mounted::new(device, EXT4, &mount)?;
    let (mut tally, mut random) = (Tally::default(), Random(run.seed));
    let fleet = Fleet::new(SIZE, &mut random);
    let ticks = Counter::default();
    for round in 0..rounds {
        let io = if round % 2 == 0 { "io_uring" } else { "posix" };
        let setup = Setup::new(&run.program, work.path(), &mount.join("data"), &json!({"io": io}))?;
        let (mut server, took) = setup.serve()?;
        tally.opens.push(took);
        fleet.audit_and_settle(&server, &ticks, &mut tally)?;
        let filler = fleet_meets_full_disk(&fleet, &ticks, &mut server, &mount, &mut random)?;
        starts_on_full_disk(&setup, &fleet, &ticks, &mut tally, filler)?;
        starts_with_short_files(&setup)?;
        tally.cycles += 1;
    }
    tally.acknowledged = fleet.acknowledged();
    Ok(tally)
}

/// Full and not full under load, then full again, and the server is killed. The disk is full when this returns.
fn fleet_meets_full_disk(
    fleet: &Fleet,
    ticks: &Counter,
    server: &mut Server,
    mount: &Path,
    random: &mut Random,
) -> Result<Filler, Failure> {
    let mut last = None;
    fleet.load(server.address(), ticks, |load| {
        load.wait_acknowledged(random.index(100))?;
        let filler = Filler::new(mount)?;
        load.wait_refused()?;
        check_says_why(server)?;
        filler.remove()?;
        load.wait_acknowledged(50)?;
        last = Some(Filler::new(mount)?);
        load.wait_refused()?;
        load.expect_end();
        server.kill();
        Ok(())
    })?;
    last.ok_or_else(|| "the disk was not filled".into())
}

/// Opens for reading, says why, and takes writes by itself when there is space.
fn starts_on_full_disk(
    setup: &Setup,
    fleet: &Fleet,
    ticks: &Counter,
    tally: &mut Tally,
    filler: Filler,
) -> Result<(), Failure> {
    let mut server = setup.spawn()?;
    server.wait_listening()?;
    // What is left between two allocations may do for the next segment: then it takes writes, which is as good.
    if server.client().get("/ready")?.status != 200 {
        check_says_why(&server)?;
        tally.notes = vec!["started on a full disk".to_owned()];
    }
    fleet.audit_and_settle(&server, ticks, tally)?;
    filler.remove()?;
    fleet.load(server.address(), ticks, |load| load.wait_acknowledged(30))?;
    fleet.audit_and_settle(&server, ticks, tally)?;
    server.stop()
}

/// Files may not get as long as a segment: a clear refusal, and nothing is changed by it.
fn starts_with_short_files(setup: &Setup) -> Result<(), Failure> {
    let mut limited = setup.clone();
    limited.file_limit = Some(256 << 10);
    let mut server = limited.spawn()?;
    if server.wait_listening().is_err() {
        let said = server.said();
        return if said.contains(".wal") {
            Ok(())
        } else {
            Err(format!("it does not say what failed:\n{said}").into())
        };
    }
    // A segment that was prepared before does for a while.
    if server.client().get("/ready")?.status == 200 { Ok(()) } else { check_says_why(&server) }
}

fn check_says_why(server: &Server) -> Result<(), Failure> {
    let answer = server.client().get("/ready")?;
    if answer.status == 503 && answer.text.contains(".wal") {
        return Ok(());
    }
    Err(format!("`/ready` does not say why writes are refused: {answer:?}").into())
}
