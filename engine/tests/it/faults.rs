//! Writes and syncs that fail, a disk that is full, and acknowledgement before the sync.

use crate::world::{FREQUENCY, Life, Model, START, Told, World, commit, content, line, put, put_all, sample};
use kymo_engine::disk::Disk;
use kymo_engine::disk::sim::{Crash, Fault, Target};
use kymo_engine::error::{OpenError, Unavailable};
use kymo_engine::model::Lsn;
use kymo_engine::store::{Durability, Progress};
use std::time::Duration;

const HOST: (&str, &str, &str) = ("n1", "load", "");

fn at(slot: i64) -> i64 {
    START + slot * FREQUENCY
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_acknowledged_reads_go_on_and_a_restart_recovers() {
    type Fault = fn(&World, u64);
    let faults: [(&str, Fault); 2] = [
        ("write", |world, nth| world.disk.fail_write(Some(nth))),
        ("sync", |world, nth| world.disk.fail_sync(Some(nth))),
    ];
    for (what, fault) in faults {
        for nth in 1..5 {
            for kind in [Crash::Kill, Crash::Power] {
                let told = format!("{what} {nth}, {kind:?}");
                let (world, mut model) = (World::new(nth), Model::default());
                let mut life = Life::open(&world, &mut model).unwrap();
                life.write(&[sample("n1", "", 0, 0.5)]);
                assert_eq!(life.commit(), Progress::Idle);
                fault(&world, nth);
                let mut failed_at = None;
                for slot in 1..8 {
                    life.write(&[sample("n1", "", slot, 1.5)]);
                    if life.commit() == Progress::Failed {
                        failed_at = Some(slot);
                        break;
                    }
                }
                assert_eq!(failed_at, Some(i64::try_from(nth).unwrap()), "{told}");
                let told_before = Told::default();
                told_before.wait(&life.store, Lsn(u64::MAX));
                assert!(matches!(told_before.all()[..], [(_, Err(Unavailable::Failed(_)))]), "{told}");
                assert!(matches!(put(&life.store, &line(HOST, at(9), 9.0)), Err(Unavailable::Failed(_))), "{told}");
                assert!(matches!(life.store.free(&[vec![]], at(99)), Err(Unavailable::Failed(_))), "{told}");
                assert_eq!(life.store.commit_step(), Progress::Failed, "{told}");
                let read = content(&life.store);
                let slots = &read[&("n1".to_owned(), "load".to_owned(), String::new())];
                assert_eq!(slots.len() as u64, nth, "{told}: what was acknowledged before is read");
                assert!(life.store.close().is_err(), "{told}");
                drop(life);
                world.disk.crash(kind);
                let store = world.store();
                model.check(&content(&store)).unwrap_or_else(|why| panic!("{told}: {why}"));
                put_all(&store, &line(HOST, at(20), 2.0));
            }
        }
    }
}

/// Fills the first segment up to its end.
fn fill(world: &World, life: &mut Life<'_>) {
    for slot in 0.. {
        assert!(slot < 200, "the segment does not fill");
        life.write(&[sample("n1", "", slot % 30, f64::from(i32::try_from(slot).unwrap()))]);
        if life.commit() == Progress::Blocked {
            return;
        }
        let _ = world;
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space_and_then_goes_on_by_itself() {
    let (world, mut model) = (World::new(1), Model::default());
    let mut life = Life::open(&world, &mut model).unwrap();
    world.disk.set_capacity(Some(700 << 10));
    let told = Told::default();
    fill(&world, &mut life);
    let waiting = life.store.stats().pulse.last;
    told.wait(&life.store, waiting);
    assert!(life.store.stats().pulse.durable < waiting);
    assert!(matches!(put(&life.store, &line(HOST, at(40), 1.0)), Err(Unavailable::Full(_))));
    assert!(matches!(life.store.ready(), Err(Unavailable::Full(_))));
    assert!(life.store.prepare_step().is_err());
    assert!(matches!(life.store.ready(), Err(Unavailable::Full(_))), "a failed preparation does not make it ready");
    assert_eq!(life.store.commit_step(), Progress::Blocked);
    assert!(told.all().is_empty(), "what waits is neither acknowledged nor refused");

    world.disk.set_capacity(None);
    assert_eq!(life.store.prepare_step().unwrap(), Progress::Done);
    assert_eq!(life.store.ready(), Ok(()));
    assert_eq!(life.commit(), Progress::Idle);
    assert_eq!(told.acknowledged(), waiting);
    life.write(&[sample("n1", "", 41, 1.0)]);
    assert_eq!(life.commit(), Progress::Idle);
    drop(life);
    world.disk.crash(Crash::Power);
    model.check(&content(&world.store())).unwrap();
}

#[test]
fn a_commit_alone_ends_the_wait_for_space() {
    let (world, mut model) = (World::new(1), Model::default());
    let mut life = Life::open(&world, &mut model).unwrap();
    world.disk.set_capacity(Some(700 << 10));
    fill(&world, &mut life);
    world.disk.set_capacity(None);
    assert_eq!(life.commit(), Progress::Idle);
    assert_eq!(life.store.ready(), Ok(()));
}

#[test]
fn whoever_waits_when_a_full_store_is_closed_is_told_so() {
    let (world, mut model) = (World::new(1), Model::default());
    let mut life = Life::open(&world, &mut model).unwrap();
    world.disk.set_capacity(Some(700 << 10));
    fill(&world, &mut life);
    let told = Told::default();
    told.wait(&life.store, life.store.stats().pulse.last);
    // Sealing needs space, too; it is not what is asked here.
    drop(life.store.close());
    assert!(matches!(told.all()[..], [(_, Err(_))]), "{:?}", told.all());
    drop(life);
    world.disk.set_capacity(None);
    model.check(&content(&world.store())).unwrap();
}

#[test]
fn a_close_that_cannot_commit_all_leaves_no_hole_behind_what_was_acknowledged() {
    for crash in [Crash::Kill, Crash::Power] {
        let (world, mut model) = (World::new(1), Model::default());
        let mut life = Life::open(&world, &mut model).unwrap();
        life.write(&[sample("n1", "", 0, 0.5)]);
        assert_eq!(life.commit(), Progress::Idle);
        // The next row goes to a segment that has no space just then, and has it again for the seal.
        life.compact(true);
        let acknowledged = life.store.pulse().durable;
        world.disk.fail(Fault { target: Target::Name, nth: 1, errno: libc::ENOSPC, is_sticky: false });
        put(&life.store, &line(HOST, at(1), 1.5)).unwrap();
        life.store.close().unwrap();
        drop(life);
        world.disk.crash(crash);
        let (store, report) = world.open().unwrap();
        assert_eq!(report.next_lsn.0, acknowledged.0 + 1);
        model.check(&content(&store)).unwrap();
    }
}

#[test]
fn a_store_that_starts_on_a_full_disk_is_read_and_goes_on_when_there_is_space() {
    for is_empty in [false, true] {
        let (world, mut model) = (World::new(1), Model::default());
        let mut life = Life::open(&world, &mut model).unwrap();
        if !is_empty {
            life.write(&[sample("n1", "", 0, 0.5)]);
            assert_eq!(life.commit(), Progress::Idle);
        }
        drop(life);
        world.disk.set_capacity(Some(600 << 10));
        let mut life = Life::open(&world, &mut model).unwrap();
        life.check();
        assert!(matches!(life.store.ready(), Err(Unavailable::Full(_))));
        assert!(life.store.prepare_step().is_err());
        assert!(matches!(life.store.ready(), Err(Unavailable::Full(_))), "still full");
        world.disk.set_capacity(None);
        life.prepare();
        assert_eq!(life.store.ready(), Ok(()));
        life.write(&[sample("n1", "", 1, 1.5)]);
        assert_eq!(life.commit(), Progress::Idle);
        drop(life);
        // Not only the next start: what that one tidies up must not be missed by the one after it.
        for _ in 0..3 {
            world.disk.crash(Crash::Power);
            let mut life = Life::open(&world, &mut model).unwrap();
            life.check();
            assert_eq!(life.store.ready(), Ok(()));
        }
    }
}

#[test]
fn a_start_on_a_full_disk_that_finds_a_prepared_segment_is_no_failure() {
    let (world, mut model) = (World::new(1), Model::default());
    let mut life = Life::open(&world, &mut model).unwrap();
    life.write(&[sample("n1", "", 0, 0.5)]);
    assert_eq!(life.commit(), Progress::Idle);
    life.compact(true);
    life.prepare();
    drop(life);
    // A life that commits nothing leaves a segment that the next start passes over, and the log's begin with it.
    let mut life = Life::open(&world, &mut model).unwrap();
    life.prepare();
    life.close();
    drop(Life::open(&world, &mut model).unwrap());
    Life::open(&world, &mut model).unwrap().prepare();
    world.disk.set_capacity(Some(world.disk.used()));
    for slot in 1..4 {
        let mut life = Life::open(&world, &mut model).unwrap();
        life.check();
        if slot == 3 {
            world.disk.set_capacity(None);
            life.prepare();
        }
        if life.store.ready().is_ok() {
            life.write(&[sample("n1", "", slot, 1.5)]);
            life.commit();
        }
        drop(life);
        world.disk.crash(Crash::Power);
    }
    Life::open(&world, &mut model).unwrap().check();
}

#[test]
fn with_an_interval_a_kill_loses_nothing_and_a_power_cut_only_what_came_after_the_last_sync() {
    for seed in 0..30 {
        for kind in [Crash::Kill, Crash::Power] {
            let (mut world, mut model) = (World::new(seed), Model::default());
            world.options.durability = Durability::Interval(Duration::from_secs(10));
            let mut life = Life::open(&world, &mut model).unwrap();
            let told = Told::default();
            for slot in 0..12 {
                life.write(&[sample("n1", "", slot, 1.5), sample("n2", "core1", slot, 2.5)]);
                told.wait(&life.store, life.store.stats().pulse.last);
                assert_eq!(life.commit(), Progress::Idle);
                assert_eq!(told.acknowledged(), life.store.stats().pulse.last, "acknowledged at once");
                if slot == 5 {
                    // The interval passes: the step syncs though there is nothing to write.
                    world.clock.pass(11);
                    assert_eq!(life.store.commit_step(), Progress::Idle);
                    life.model.settle(told.acknowledged());
                }
            }
            drop(life);
            if kind == Crash::Power {
                model.forgive();
            }
            world.disk.crash(kind);
            for _ in 0..2 {
                let (store, _) = world.open().unwrap_or_else(|error| panic!("seed {seed}, {kind:?}: {error}"));
                model.check(&content(&store)).unwrap_or_else(|why| panic!("seed {seed}, {kind:?}: {why}"));
            }
        }
    }
}

#[test]
fn a_failed_sync_at_the_interval_fails_the_store() {
    let mut world = World::new(1);
    world.options.durability = Durability::Interval(Duration::from_secs(10));
    let store = world.store();
    put_all(&store, &line(HOST, at(0), 1.0));
    world.clock.pass(11);
    world.disk.fail_sync(Some(1));
    assert_eq!(commit(&store), Progress::Failed);
    assert!(matches!(store.ready(), Err(Unavailable::Failed(_))));
}

#[test]
fn what_the_system_refuses_while_a_store_opens_is_not_taken_for_damage() {
    let world = World::new(1);
    let store = world.store();
    put_all(&store, &line(HOST, at(0), 1.0));
    while store.compact_step(true).unwrap() == Progress::Done {}
    store.close().unwrap();
    drop(store);
    let mut refused = Vec::new();
    for nth in 1.. {
        let world = world.copy(nth);
        world.disk.fail(Fault { target: Target::Read, nth, errno: libc::EMFILE, is_sticky: false });
        match world.open() {
            Ok(_) => break,
            Err(OpenError::Io { op, source, .. }) => {
                assert_eq!(source.raw_os_error(), Some(libc::EMFILE));
                refused.push(op);
            }
            Err(other) => panic!("read {nth}: {other}"),
        }
    }
    assert!(refused.contains(&"map"), "{refused:?}");
    let snapshot = world.disk.files().into_keys().find(|path| path.extension().is_some_and(|it| it == "snap"));
    world.disk.unlink(&snapshot.unwrap()).unwrap();
    assert!(matches!(world.open(), Err(OpenError::Snapshot { .. })), "a file that is gone is damage");
}
