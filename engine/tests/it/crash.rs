//! The machine stops at every operation of the disk, and again at every operation of the recovery after it: what was
//! acknowledged is there, bit for bit, nothing else is, and the store goes on.

use crate::world::{FREQUENCY, Life, Model, START, World, crash_and_check, sample};
use kymo_engine::disk::sim::Crash;

/// Two short lives: new series, a free, a late sample, a clean end and a second start.
fn two_lives(world: &World, model: &mut Model) -> Option<()> {
    let mut life = Life::open(world, model)?;
    life.write(&[sample("n1", "", 0, 1.0), sample("n2", "core0", 0, 0.1), sample("n2", "core1", 0, -0.0)]);
    life.commit();
    life.write(&[sample("n1", "", 1, 2.0)]);
    life.write(&[sample("n2", "core1", -5, 1e300), sample("n3", "", 0, 5e-324)]);
    life.prepare();
    life.commit();
    life.free(&["c", "n2"], START + 100 * FREQUENCY);
    life.commit();
    life.write(&[sample("n1", "", 1, 2.5), sample("n2", "core0", 2, 4.0)]);
    life.close();
    let mut life = Life::open(world, model)?;
    life.write(&[sample("n1", "", 2, 3.0), sample("n1", "", 0, 1.5)]);
    life.commit();
    life.write(&[sample("n4", "socket0", 0, 7.0)]);
    life.prepare();
    life.commit();
    Some(())
}

/// A segment is filled and the next one begun, an old one is dropped.
fn rotation(world: &World, model: &mut Model) -> Option<()> {
    let mut life = Life::open(world, model)?;
    life.write(&[sample("old", "", 0, 1.0)]);
    life.commit();
    life.close();
    let mut life = Life::open(world, model)?;
    world.clock.pass(7200);
    // A commit takes a block, so that this ends some blocks before the end of the segment.
    for at in 0..121 {
        life.write(&[sample("n1", "", 60 + at % 50, f64::from(u32::try_from(at).unwrap()))]);
        life.commit();
    }
    life.prepare();
    for at in 0..6 {
        life.write(&[sample("n1", "", 111 + at, 0.25), sample("n2", "core0", 111 + at, 0.75)]);
        life.commit();
        life.retain();
        life.prepare();
    }
    assert!(world.disk.is_stopped() || life.world.disk.files().contains_key(&World::segment(3)));
    life.close();
    let mut life = Life::open(world, model)?;
    life.retain();
    life.write(&[sample("n1", "", 117, 9.0)]);
    life.commit();
    Some(())
}

type Work = fn(&World, &mut Model) -> Option<()>;

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.options.retention = Some(3600);
    world
}

/// Runs the work up to an operation, crashes, and recovers up to another one, crashes, and checks. False where the
/// recovery had fewer operations.
fn run(work: Work, seed: u64, first: (u64, Crash), second: Option<(u64, Crash)>) -> bool {
    let told = format!("seed {seed}, stopped at {first:?}, then at {second:?}");
    let (world, mut model) = (world(seed), Model::default());
    world.disk.set_crash_at(Some(first.0));
    work(&world, &mut model);
    let Some((at, kind)) = second else {
        crash_and_check(&world, &mut model, first.1, &told);
        return true;
    };
    world.disk.crash(first.1);
    world.disk.set_crash_at(Some(at));
    let is_stopped = world.open().is_err();
    assert_eq!(is_stopped, world.disk.is_stopped(), "{told}");
    crash_and_check(&world, &mut model, kind, &told);
    is_stopped
}

fn ops_of(work: Work) -> u64 {
    let (world, mut model) = (world(0), Model::default());
    work(&world, &mut model).unwrap();
    world.disk.ops()
}

#[test]
fn a_crash_at_any_operation_keeps_every_acknowledged_sample() {
    for at in 1..=ops_of(two_lives) + 1 {
        for (seed, kind) in (at..).zip([Crash::Power, Crash::Kill]) {
            run(two_lives, seed, (at, kind), None);
        }
    }
}

#[test]
fn a_crash_at_any_operation_of_the_recovery_keeps_every_acknowledged_sample() {
    const KINDS: [(Crash, Crash); 3] =
        [(Crash::Kill, Crash::Power), (Crash::Power, Crash::Kill), (Crash::Power, Crash::Power)];
    // Recoveries are much alike: of each, every seventh operation, beginning with another one.
    for at in 1..=ops_of(two_lives) + 1 {
        let mut second = 1 + at % 7;
        while {
            let (kind, then) = KINDS[usize::try_from((at + second) % 3).unwrap()];
            run(two_lives, at, (at, kind), Some((second, then)))
        } {
            second += 7;
        }
    }
}

#[test]
fn a_crash_while_segments_are_begun_and_dropped_keeps_every_acknowledged_sample() {
    let ops = ops_of(rotation);
    for at in (1..ops - 70).step_by(29).chain((ops - 70..=ops + 1).step_by(2)) {
        let kind = if at % 4 < 2 { Crash::Kill } else { Crash::Power };
        run(rotation, at, (at, kind), None);
    }
}
