//! Salvage of a damaged log: a dry run touches nothing; a confirmed one keeps all that verifies, records the loss and
//! sets the damaged file aside; one that is cut off anywhere can be done again and gives the same.

use crate::world::{Content, FREQUENCY, Life, Model, START, World, content, line, put_all, read, sample};
use kymo_engine::disk::Disk;
use kymo_engine::disk::sim::Crash;
use kymo_engine::error::OpenError;
use std::collections::BTreeMap;
use std::path::PathBuf;

const BLOCK: usize = 4096;

/// Two segments. Slots were written twice, so that an old value that comes back is seen, and some were freed.
fn world(seed: u64) -> World {
    let (world, mut model) = (World::new(seed), Model::default());
    for base in [0, 10] {
        let mut life = Life::open(&world, &mut model).unwrap();
        for at in 0..3 {
            let value = f64::from(i32::try_from(base + at).unwrap());
            life.write(&[sample("n1", "", 0, value), sample("n2", "core0", base + at, value)]);
            life.write(&[sample("n1", "", base + at, -value)]);
            life.commit();
        }
        life.write(&[sample("n3", "", base, 0.5)]);
        life.commit();
        life.free(&["c", "n3"], START + 5 * FREQUENCY);
        life.write(&[sample("n1", "", 0, 1000.5)]);
        life.commit();
    }
    world
}

/// The segments without the directory's other files.
fn files(world: &World) -> BTreeMap<PathBuf, Vec<u8>> {
    world.disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}

fn damage(world: &World, seq: u64, block: usize) {
    world.disk.corrupt(&World::segment(seq), |bytes| bytes[block * BLOCK + 40] ^= 1).unwrap();
}

/// Host, component and slot.
type Slot<'a> = (&'a str, &'a str, i64);

/// What is not lost, where the damage is one block.
fn expected(whole: &Content, gone: &[Slot<'_>]) -> Content {
    let mut expected = whole.clone();
    for &(host, component, slot) in gone {
        let series = (host.to_owned(), "load".to_owned(), component.to_owned());
        expected.get_mut(&series).unwrap().remove(&(START + slot * FREQUENCY)).unwrap();
    }
    expected
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_is_wrong() {
    let world = world(1);
    damage(&world, 1, 2);
    let before = files(&world);
    let report = world.salvage(false).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].0, World::segment(1));
    assert_eq!(report.problems[0].1.offset, 2 * BLOCK as u64);
    assert!(report.set_aside.is_empty() && report.rows > 0);
    assert!(before == files(&world));
    assert!(matches!(world.open(), Err(OpenError::Damaged { path, .. }) if path == World::segment(1)));
}

#[test]
fn a_healthy_log_has_nothing_to_salvage() {
    let world = world(1);
    let before = files(&world);
    let report = world.salvage(true).unwrap();
    assert!(report.problems.is_empty() && report.set_aside.is_empty());
    assert!(before == files(&world));
}

#[test]
fn a_directory_without_a_store_is_refused_and_left_as_it_is() {
    let world = World::new(1);
    assert!(matches!(world.salvage(true), Err(OpenError::Io { .. } | OpenError::NotAStore { .. })));
    assert!(world.disk.files().is_empty());
}

#[test]
fn what_verifies_is_kept_the_loss_is_recorded_and_the_file_set_aside() {
    let whole = content(&world(1).store());
    // A frame in the middle of the older segment, one of the newest, and the headers.
    let cases: [(u64, usize, &[Slot<'_>]); 4] = [
        (1, 2, &[("n2", "core0", 1), ("n1", "", 1)]),
        (2, 3, &[("n2", "core0", 12), ("n1", "", 12)]),
        (1, 0, &[]),
        (2, 0, &[]),
    ];
    for (seq, block, gone) in cases {
        let told = format!("segment {seq}, block {block}");
        let world = world(1);
        damage(&world, seq, block);
        let damaged = world.disk.files()[&World::segment(seq)].clone();
        let report = world.salvage(true).unwrap();
        let aside = PathBuf::from(format!("{}.damaged", World::segment(seq).display()));
        assert_eq!(report.set_aside, *std::slice::from_ref(&aside), "{told}");
        assert!(world.disk.files()[&aside] == damaged, "{told}");
        for _ in 0..2 {
            let (store, report) = world.open().unwrap();
            assert_eq!(content(&store), expected(&whole, gone), "{told}");
            assert_eq!(report.losses.len(), 1, "{told}");
            assert_eq!((report.losses[0].seq, report.losses[0].offset), (seq, (block * BLOCK) as u64), "{told}");
            assert_eq!(store.stats().losses, report.losses, "{told}");
        }
        assert!(world.disk.files()[&aside] == damaged, "{told}");
        let store = world.store();
        put_all(&store, "load,cluster=c,hostname=n9 value=1\n");
    }
}

#[test]
fn a_missing_segment_is_a_loss_of_which_the_end_is_known() {
    let world = world(1);
    world.disk.unlink(&World::segment(1)).unwrap();
    assert!(matches!(world.open(), Err(OpenError::Missing { path, .. }) if path == World::segment(1)));
    let report = world.salvage(true).unwrap();
    assert!(report.set_aside.is_empty());
    assert_eq!(world.open().unwrap().1.losses.len(), 1);
}

#[test]
fn a_salvage_that_is_cut_off_anywhere_can_be_done_again_with_the_same_result() {
    for (seq, block) in [(1, 2), (2, 1), (2, 0)] {
        let base = world(1);
        damage(&base, seq, block);
        let complete = base.copy(1);
        complete.salvage(true).unwrap();
        let expected = content(&complete.store());
        for at in 1.. {
            let kind = if at % 2 == 0 { Crash::Kill } else { Crash::Power };
            let told = format!("segment {seq}, block {block}, stopped at {at}, {kind:?}");
            let world = base.copy(at);
            let copied = world.disk.ops();
            world.disk.set_crash_at(Some(copied + at));
            let is_done = world.salvage(true).is_ok();
            world.disk.crash(kind);
            match world.open() {
                Ok((store, report)) => {
                    assert_eq!(report.losses.len(), 1, "{told}");
                    assert_eq!(content(&store), expected, "{told}: complete");
                }
                Err(error) => {
                    assert!(!is_done && matches!(error, OpenError::Damaged { .. }), "{told}: {error}");
                    world.salvage(false).unwrap();
                    world.salvage(true).unwrap();
                    let (store, report) = world.open().unwrap();
                    assert_eq!(content(&store), expected, "{told}: done again");
                    assert_eq!(report.losses.len(), 1, "{told}: {:?}", report.losses);
                }
            }
            let aside = PathBuf::from(format!("{}.damaged", World::segment(seq).display()));
            assert!(world.disk.files().contains_key(&aside), "{told}: the damaged file is gone");
            if is_done {
                break;
            }
        }
    }
}

#[test]
fn rows_that_a_salvage_wrote_before_it_was_cut_off_do_not_hide_newer_ones() {
    // One host whose rows do not fit into one frame, so that a salvage can end between an old value and its successor.
    let base = World::new(1);
    let store = base.store();
    put_all(&store, &line(("x", "load", ""), START, 1.0));
    for value in 0..11 {
        let value = f64::from(value);
        let body: String = (0..1900).map(|at| line(("n1", "load", &format!("core{at}")), START, value)).collect();
        put_all(&store, &body);
    }
    drop(store);
    damage(&base, 1, 1);
    let read = |world: &World| {
        let values = read(&world.store(), ("c", "n1", "load", "core7"), (START, START + FREQUENCY));
        values.values().map(|&bits| f64::from_bits(bits)).collect::<Vec<f64>>()
    };
    for at in (1..).step_by(2) {
        let told = format!("stopped at {at}");
        let world = base.copy(at);
        let before = files(&world);
        let copied = world.disk.ops();
        world.disk.set_crash_at(Some(copied + at));
        let is_done = world.salvage(true).is_ok();
        world.disk.crash(Crash::Kill);
        // The damaged file is put back from a copy: what the salvage has written so far does not count.
        let restored = world.copy(at);
        let is_recorded = !is_done && restored.open().is_err();
        if is_recorded {
            restored.disk.corrupt(&World::segment(1), |bytes| bytes.clone_from(&before[&World::segment(1)])).unwrap();
            damage(&restored, 1, 1);
            assert_eq!(read(&restored), [10.0], "{told}: restored");
            put_all(&restored.store(), &line(("n1", "load", "core7"), START, 11.0));
            assert_eq!(read(&restored), [11.0], "{told}: and written to");
            world.salvage(true).unwrap();
        }
        assert_eq!(read(&world), [10.0], "{told}");
        if is_done {
            break;
        }
    }
}

#[test]
fn a_log_of_which_all_is_gone_is_a_loss_and_its_numbers_are_not_given_again() {
    let base = World::new(1);
    let mut model = Model::default();
    for at in 0..3 {
        let mut life = Life::open(&base, &mut model).unwrap();
        life.write(&[sample("n1", "", at, 1.0)]);
        life.commit();
        life.compact(true);
    }
    let whole = content(&base.store());
    let logs =
        |world: &World| world.disk.files().into_keys().filter(|path| path.extension().is_some_and(|it| it == "wal"));
    let floor = logs(&base).max().unwrap();
    // One that should have been removed before is left.
    base.disk.prepare(&World::segment(1), base.options.segment_len).unwrap();
    for path in logs(&base).filter(|path| *path != World::segment(1)).collect::<Vec<_>>() {
        base.disk.unlink(&path).unwrap();
    }
    assert!(matches!(base.open(), Err(OpenError::Missing { .. })));
    for at in 1.. {
        let told = format!("stopped at {at}");
        let world = base.copy(at);
        let copied = world.disk.ops();
        world.disk.set_crash_at(Some(copied + at));
        let is_done = world.salvage(true).is_ok();
        world.disk.crash(Crash::Power);
        if world.open().is_err() {
            assert!(!is_done, "{told}");
            world.salvage(true).unwrap();
        }
        assert_eq!(world.open().unwrap().1.losses.len(), 1, "{told}");
        assert_eq!(content(&world.store()), whole, "{told}");
        assert!(logs(&world).all(|path| path > floor), "{told}: {:?}", logs(&world).collect::<Vec<_>>());
        if is_done {
            break;
        }
    }
}
