//! Long random lives against the model: writes of all shapes, frees, retention, snapshots, restarts, kills and power
//! cuts, at any operation. A failure names its seed.

use crate::world::{FREQUENCY, INTERVAL, Life, Model, Sample, World, content, sample};
use kymo_engine::disk::sim::Crash;
use kymo_engine::env::Env;
use kymo_engine::store::{Durability, Progress};
use std::time::Duration;

/// Chance from a seed: a linear congruential generator, of which the high bits are taken.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn slots(&mut self, bound: u64) -> i64 {
        i64::try_from(self.below(bound)).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// Samples on the grid, mostly of now, some late; no value comes twice.
fn samples(chance: &mut Chance, world: &World, next_value: &mut u32) -> Vec<Sample> {
    let now = (world.clock.unix_now() - crate::world::START) / FREQUENCY;
    let late = world.options.late_window / FREQUENCY - 1;
    let hosts = ["n1", "n2", "n3", "n4"];
    (0..=chance.below(5))
        .map(|_| {
            let slot = match chance.below(10) {
                0..5 => now,
                5..8 => now - chance.slots(20).min(late),
                _ => now - chance.slots(u64::try_from(late).unwrap()),
            };
            *next_value += 1;
            sample(chance.pick(&hosts), chance.pick(&["", "core0", "core1"]), slot, f64::from(*next_value) / 3.0)
        })
        .collect()
}

/// One life, up to its end or until the machine stops.
fn live(chance: &mut Chance, world: &World, model: &mut Model, next_value: &mut u32) -> Option<()> {
    let is_sync = world.options.durability == Durability::Sync;
    let mut life = Life::open(world, model)?;
    for _ in 0..chance.below(40) {
        match chance.below(100) {
            0..40 => {
                let samples = samples(chance, world, next_value);
                life.write(&samples);
            }
            40..65 => drop(life.commit()),
            65..75 => world.clock.pass(FREQUENCY * (1 + chance.slots(30))),
            75..77 => world.clock.pass(3600 * (1 + chance.slots(40))),
            77..82 => life.prepare(),
            82..86 => {
                let selector = chance.pick(&[&["c"][..], &["c", "n1"], &["c", "n2", "core0"], &["c", "n3"]]);
                let to = world.clock.unix_now() - chance.slots(2000) * FREQUENCY;
                life.free(selector, to);
            }
            86..89 => life.retain(),
            89..93 => life.compact(false),
            93..95 => life.compact(true),
            _ if is_sync => {
                if life.commit() == Progress::Idle {
                    life.check();
                }
            }
            _ => life.sync(),
        }
    }
    match chance.below(3) {
        0 => life.close(),
        1 => drop(life.commit()),
        _ => {}
    }
    Some(())
}

fn history(seed: u64) {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (mut world, mut model, mut next_value) = (World::new(seed), Model::default(), 0);
    world.options.retention = Some(3 * 86400);
    world.options.log_bound = 64 << 10;
    if chance.below(3) == 0 {
        world.options.durability = Durability::Interval(Duration::from_secs(INTERVAL.unsigned_abs()));
    }
    for life in 0..12 {
        if chance.below(2) == 0 {
            world.disk.set_crash_at(Some(1 + chance.below(120)));
        }
        live(&mut chance, &world, &mut model, &mut next_value);
        let crash = |chance: &mut Chance, model: &mut Model| {
            let kind = chance.pick(&[Crash::Kill, Crash::Power, Crash::Power]);
            if kind == Crash::Power && world.options.durability != Durability::Sync {
                model.forgive();
            }
            world.disk.crash(kind);
        };
        crash(&mut chance, &mut model);
        // Sometimes the recovery is cut off, too.
        for _ in 0..chance.below(3) {
            world.disk.set_crash_at(Some(1 + chance.below(25)));
            if world.open().is_ok() {
                break;
            }
            crash(&mut chance, &mut model);
        }
        world.disk.crash(Crash::Kill);
        let (store, report) = world.open().unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        let read = content(&store);
        model.check(&read).unwrap_or_else(|why| panic!("seed {seed}, life {life}: {why}\n{report:?}"));
        drop(store);
        assert_eq!(content(&world.store()), read, "seed {seed}, life {life}: opened twice");
    }
}

/// `KYMO_SEED` runs one seed.
#[test]
fn whatever_happens_the_store_has_what_the_model_has() {
    if let Some(seed) = std::env::var("KYMO_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return history(seed);
    }
    for seed in 0..24 {
        history(seed);
    }
}
