//! Power cuts on a recorded disk: kymo runs on a real file system whose block writes and flushes are recorded; then
//! what a cut at any point may have left is mounted, opened by kymo, and held against the journal of that point.

use crate::blockfs::{BlockFs, Site};
use crate::cycle;
use crate::fleet::{Fleet, Size, Ticks};
use crate::mounts::Kind;
use crate::random::Random;
use crate::tally::Tally;
use crate::{Failure, Run};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SIZE: Size = Size { writers: 4, hosts: 2 };
/// Images of one recording.
const IMAGES: u64 = 100;
/// Lives of the server in one recording.
const LIVES: u64 = 3;

/// What the disk has recorded so far is what a cut at this moment leaves; below it, the order of what happened between
/// two events of the disk.
#[derive(Debug)]
struct Recorded<'a> {
    disk: &'a BlockFs,
    order: AtomicU32,
}

impl Ticks for Recorded<'_> {
    fn tick(&self) -> u64 {
        let tape = self.disk.tape();
        (tape.events() as u64) << 32 | u64::from(self.order.fetch_add(1, Ordering::SeqCst))
    }
}

/// The last tick before the event `cut`.
fn last_tick(cut: usize) -> u64 {
    (cut as u64) << 32 | u64::from(u32::MAX)
}

/// Images until there were `images` of them, or `limit` has passed.
pub(crate) fn run(run: &Run, kind: Kind, images: u64, limit: Duration) -> Result<Tally, Failure> {
    let (mut tally, begun, mut random) = (Tally::default(), Instant::now(), Random(run.seed));
    while tally.cycles < images && begun.elapsed() < limit {
        let io = if random.once_in(2) { "io_uring" } else { "posix" };
        let wanted = IMAGES.min(images - tally.cycles);
        record_and_crash(run, kind, &json!({"io": io}), wanted, begun + limit, &mut random, &mut tally)?;
    }
    Ok(tally)
}

/// The same without a sync before a write is acknowledged. Must lose something.
pub(crate) fn canary(run: &Run, kind: Kind) -> Result<bool, Failure> {
    let mut tally = Tally::quiet();
    let limit = Instant::now() + Duration::from_mins(1);
    let storage = json!({"durability": {"interval": "60s"}});
    record_and_crash(run, kind, &storage, 20, limit, &mut Random(run.seed), &mut tally)?;
    Ok(tally.faults() > 0)
}

fn record_and_crash(
    run: &Run,
    kind: Kind,
    storage: &Value,
    images: u64,
    limit: Instant,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let site = Site::new(run, kind, storage)?;
    let Site { disk, setup, .. } = &site;
    let fleet = Fleet::new(SIZE, random);
    let ticks = Recorded { disk, order: AtomicU32::new(0) };
    {
        let _mounted = site.make()?;
        disk.tape().record();
        for _ in 0..LIVES {
            let (mut server, _) = setup.serve()?;
            cycle::dies_under_load(&mut server, &fleet, &ticks, random, tally)?;
        }
        disk.tape().stop();
    }
    tally.acknowledged += fleet.acknowledged();
    let events = disk.tape().events();
    let mut cuts: Vec<usize> = (0..images).map(|_| 1 + random.index(events)).collect();
    cuts.sort_unstable();
    for cut in cuts {
        if Instant::now() > limit {
            break;
        }
        disk.tape().crash(cut, random);
        let _mounted = site
            .mount(&disk.image())
            .map_err(|error| format!("the file system does not mount at event {cut}: {error}"))?;
        let (mut server, took) = setup.serve().map_err(|error| format!("at event {cut} of {events}: {error}"))?;
        tally.opens.push(took);
        fleet
            .audit(&server, (last_tick(cut), last_tick(cut - 1)), tally)
            .map_err(|error| format!("at event {cut}: {error}"))?;
        server.kill();
        tally.cycles += 1;
    }
    Ok(())
}
