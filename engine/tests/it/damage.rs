//! A small log is damaged at every byte of what is used of it, in every way: the store does not open and names a
//! file, or what it reads was written for that slot. It never panics.

use crate::world::{Content, Life, Model, World, content, sample};
use kymo_engine::disk::Disk;
use kymo_engine::disk::sim::Crash;
use kymo_engine::env::Env;
use kymo_engine::error::OpenError;
use kymo_engine::store::Durability;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const BLOCK: usize = 4096;

/// A log that was written in two lives, and what can be read of it.
struct Log {
    world: World,
    /// A copy of it that no store has changed.
    copy: RefCell<Option<World>>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    content: Content,
}

/// Two lives of a few frames. The last one was killed, so that the newest segment has frames and no successor.
fn log() -> Log {
    let (world, mut model) = (World::new(1), Model::default());
    for base in [0, 100] {
        let mut life = Life::open(&world, &mut model).unwrap();
        for at in 0..3 {
            let slot = base + at;
            life.write(&[
                sample("n1", "", slot, slot_value(slot)),
                sample("n2", "core0", slot, slot_value(slot) + 0.5),
            ]);
            life.write(&[sample("n3", "", slot, -slot_value(slot))]);
            life.commit();
        }
        world.clock.pass(100 * 60);
    }
    let content = content(&world.copy(9).store());
    let files = world.disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect();
    Log { world, copy: RefCell::default(), files, content }
}

fn slot_value(slot: i64) -> f64 {
    f64::from(i32::try_from(slot).unwrap()) + 0.25
}

/// Where the last byte that is not zero ends, in whole blocks.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1).next_multiple_of(BLOCK)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Refused,
    Shorter,
    Whole,
}

impl Log {
    /// Opens the log with the damage and puts the files back as they were.
    fn outcome(&self, told: &str, damage: impl FnOnce(&World)) -> Outcome {
        let mut copy = self.copy.borrow_mut();
        let world = copy.take().unwrap_or_else(|| self.world.copy(3));
        damage(&world);
        match world.open() {
            Err(error) => {
                // It changed nothing, so that putting the files back is all.
                for (path, bytes) in &self.files {
                    if world.disk.corrupt(path, |damaged| damaged.clone_from(bytes)).is_err() {
                        world.disk.replace(path, bytes).unwrap();
                    }
                }
                assert!(world.disk.files().len() == self.files.len() + 1, "{told}: files were made");
                *copy = Some(world);
                let path = named(&error).unwrap_or_else(|| panic!("{told}: {error} names no file"));
                assert!(path.starts_with("/data"), "{told}: {error}");
                Outcome::Refused
            }
            Ok((store, _)) => {
                let read = content(&store);
                for (series, slots) in &read {
                    for (time, bits) in slots {
                        let written = self.content.get(series).and_then(|slots| slots.get(time));
                        assert_eq!(written, Some(bits), "{told}: {series:?} at {time}");
                    }
                }
                if read == self.content { Outcome::Whole } else { Outcome::Shorter }
            }
        }
    }

    fn segment(&self, seq: u64) -> &[u8] {
        &self.files[&World::segment(seq)]
    }
}

fn named(error: &OpenError) -> Option<&Path> {
    match error {
        OpenError::Io { path, .. }
        | OpenError::InUse { path, .. }
        | OpenError::Damaged { path, .. }
        | OpenError::Missing { path, .. }
        | OpenError::NotAStore { path, .. } => Some(path),
        _ => None,
    }
}

fn corrupt(path: PathBuf, damage: impl FnOnce(&mut Vec<u8>)) -> impl FnOnce(&World) {
    move |world| world.disk.corrupt(&path, damage).unwrap()
}

/// Where the frames of a segment begin, and where the last one ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    (BLOCK..=used(bytes)).step_by(BLOCK).collect()
}

#[test]
fn a_flipped_byte_is_an_error_or_the_end_of_the_log_and_never_another_value() {
    let log = log();
    for (path, bytes) in &log.files {
        let last_frame = frames(bytes).iter().rev().nth(1).copied().unwrap_or(0);
        let is_newest = *path == World::segment(2);
        // Every byte of headers and records, some of the padding and of the zeros behind the frames.
        let spots = (0..(used(bytes) + BLOCK).min(bytes.len()))
            .filter(|&at| bytes[at] != 0 || at % BLOCK < 100 || at % 509 == 0 || at % BLOCK == BLOCK - 1);
        for at in spots {
            let told = format!("{} with byte {at} flipped", path.display());
            let outcome = log.outcome(&told, corrupt(path.clone(), |bytes| bytes[at] ^= 1 << (at % 8)));
            // Only the last frame of the newest segment may look like a write that a power cut interrupted.
            let may_be_short = is_newest && (last_frame..used(bytes)).contains(&at);
            let is_behind = at >= used(bytes);
            assert!(
                outcome == Outcome::Refused || (may_be_short || is_behind) && outcome != Outcome::Refused,
                "{told}: {outcome:?}"
            );
            assert!(!is_behind || outcome == Outcome::Whole, "{told}: {outcome:?}");
        }
    }
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    let log = log();
    for (path, bytes) in &log.files {
        let lens =
            (0..used(bytes).min(bytes.len())).filter(|len| len % 61 == 0 || len % BLOCK == 0 || len % BLOCK == 80);
        for len in lens.chain([bytes.len() - 1]) {
            let told = format!("{} cut to {len}", path.display());
            assert_eq!(
                log.outcome(&told, corrupt(path.clone(), |bytes| bytes.truncate(len))),
                Outcome::Refused,
                "{told}"
            );
        }
    }
}

#[test]
fn a_zeroed_block_is_refused_except_at_the_very_end() {
    let log = log();
    for seq in [1, 2] {
        let ends = frames(log.segment(seq));
        for at in (0..used(log.segment(seq))).step_by(BLOCK) {
            let told = format!("segment {seq} with zeros at {at}");
            let outcome = log.outcome(&told, corrupt(World::segment(seq), |bytes| bytes[at..at + BLOCK].fill(0)));
            let is_last_frame = seq == 2 && at + BLOCK == *ends.last().unwrap();
            let expected = if is_last_frame { Outcome::Shorter } else { Outcome::Refused };
            assert_eq!(outcome, expected, "{told}");
        }
    }
}

#[test]
fn blocks_in_each_others_place_are_refused() {
    let log = log();
    for seq in [1, 2] {
        let end = used(log.segment(seq));
        for a in (0..end).step_by(BLOCK) {
            for b in (a + BLOCK..end + BLOCK).step_by(BLOCK) {
                let swapped = |bytes: &mut Vec<u8>| {
                    let (low, high) = bytes.split_at_mut(b);
                    low[a..a + BLOCK].swap_with_slice(&mut high[..BLOCK]);
                };
                let told = format!("segment {seq} with blocks at {a} and {b} swapped");
                let outcome = log.outcome(&told, corrupt(World::segment(seq), swapped));
                // The last frame moved behind its place is a last frame that is missing.
                let is_last_frame = seq == 2 && a + BLOCK == end;
                assert_eq!(outcome != Outcome::Refused, is_last_frame, "{told}: {outcome:?}");

                let copied = |bytes: &mut Vec<u8>| bytes.copy_within(a..a + BLOCK, b);
                let told = format!("segment {seq} with the block at {a} over that at {b}");
                let outcome = log.outcome(&told, corrupt(World::segment(seq), copied));
                // Behind a seal nobody looks; a header is no frame, so it may be what is left of one.
                let is_unseen = seq == 1 && b >= end || seq == 2 && a == 0 && b + BLOCK >= end;
                assert_eq!(outcome != Outcome::Refused, is_unseen, "{told}: {outcome:?}");
            }
        }
    }
}

#[test]
fn whole_files_that_are_empty_missing_or_swapped_are_refused() {
    let log = log();
    let unlink = |path: PathBuf| {
        move |world: &World| {
            world.disk.unlink(&path).unwrap();
        }
    };
    for seq in [1, 2] {
        let told = format!("segment {seq} of length zero");
        assert_eq!(log.outcome(&told, corrupt(World::segment(seq), Vec::clear)), Outcome::Refused, "{told}");
        let told = format!("segment {seq} all zeros");
        let outcome = log.outcome(&told, corrupt(World::segment(seq), |bytes| bytes.fill(0)));
        assert_eq!(outcome == Outcome::Refused, seq == 1, "{told}: {outcome:?}");
    }
    assert_eq!(log.outcome("segment 1 missing", unlink(World::segment(1))), Outcome::Refused);
    assert_ne!(log.outcome("segment 2 missing", unlink(World::segment(2))), Outcome::Whole);
    assert_eq!(log.outcome("manifest missing", unlink(World::manifest())), Outcome::Refused);
    assert_eq!(log.outcome("manifest empty", corrupt(World::manifest(), Vec::clear)), Outcome::Refused);
    let swap = |world: &World| {
        let (one, two) = (log.segment(1).to_vec(), log.segment(2).to_vec());
        world.disk.corrupt(&World::segment(1), |bytes| *bytes = two).unwrap();
        world.disk.corrupt(&World::segment(2), |bytes| *bytes = one).unwrap();
    };
    assert_eq!(log.outcome("segments swapped", swap), Outcome::Refused);
}

#[test]
fn a_missing_newest_segment_is_noticed_where_the_next_one_is_prepared() {
    let world = World::new(1);
    let mut model = Model::default();
    for at in 0..2 {
        let mut life = Life::open(&world, &mut model).unwrap();
        life.write(&[sample("n1", "", at, 1.0)]);
        life.commit();
        life.prepare();
    }
    // More than one is, where the device is slow.
    let ahead = world.copy(2);
    ahead.disk.prepare(&World::segment(4), world.options.segment_len).unwrap();
    for world in [world, ahead] {
        world.disk.unlink(&World::segment(2)).unwrap();
        assert!(matches!(world.open(), Err(OpenError::Missing { path, .. }) if path == World::segment(2)));
    }
}

#[test]
fn numbers_that_were_passed_over_for_a_file_of_another_store_are_not_missed() {
    let (world, other) = (World::new(1), World::new(2));
    other.clock.unique();
    for world in [&world, &other] {
        let mut model = Model::default();
        let mut life = Life::open(world, &mut model).unwrap();
        life.write(&[sample("n1", "", 0, 1.0)]);
        life.commit();
        life.prepare();
    }
    let foreign = other.disk.files()[&World::segment(1)].clone();
    world.disk.replace(&World::segment(50), &foreign).unwrap();
    // As a start leaves them that was cut off before it began its segment.
    world.disk.prepare(&World::segment(51), world.options.segment_len).unwrap();
    let (_store, report) = world.open().unwrap();
    assert_eq!((report.rows, report.foreign.len()), (1, 1));
}

#[test]
fn files_of_another_store_are_left_alone_and_never_read() {
    let log = log();
    let other = World::new(2);
    other.clock.pass(1);
    let mut model = Model::default();
    // Another id than the first store has.
    other.clock.unique();
    for slot in 0..3 {
        let mut life = Life::open(&other, &mut model).unwrap();
        life.write(&[sample("n1", "", slot, 666.0)]);
        life.commit();
    }
    let files = other.disk.files();
    for seq in [1, 2] {
        let foreign = files[&World::segment(seq)].clone();
        let told = format!("segment {seq} of another store");
        let outcome = log.outcome(&told, |world: &World| {
            world.disk.corrupt(&World::segment(seq), |bytes| bytes.clone_from(&foreign)).unwrap();
        });
        assert_eq!(outcome == Outcome::Refused, seq == 1, "{told}: {outcome:?}");

        // Opening or salvaging does not take it away.
        let world = log.world.copy(5);
        world.disk.corrupt(&World::segment(seq), |bytes| bytes.clone_from(&foreign)).unwrap();
        if let Ok((store, report)) = world.open() {
            assert_eq!(report.foreign, [World::segment(seq).file_name().unwrap().to_str().unwrap()]);
            drop(store);
        }
        let _ = world.salvage(true).unwrap();
        assert!(world.disk.files().get(&World::segment(seq)) == Some(&foreign), "{told}");
    }
    let manifest = files[&World::manifest()].clone();
    let outcome = log.outcome("manifest of another store", |world: &World| {
        world.disk.corrupt(&World::manifest(), |bytes| *bytes = manifest).unwrap();
    });
    assert_eq!(outcome, Outcome::Refused);
}

#[test]
fn what_a_power_cut_leaves_of_unsynced_frames_is_no_damage_at_the_next_start_either() {
    for seed in 0..40 {
        let (mut world, mut model) = (World::new(seed), Model::default());
        world.options.durability = Durability::Interval(Duration::from_hours(1));
        let mut life = Life::open(&world, &mut model).unwrap();
        for slot in 0..4 {
            life.write(&[sample("n1", "", slot, 1.0)]);
            life.commit();
        }
        drop(life);
        model.forgive();
        world.disk.crash(Crash::Power);
        for at in 1..60 {
            world.disk.set_crash_at(Some(at));
            if world.open().is_ok() {
                break;
            }
            world.disk.crash(Crash::Kill);
        }
        world.disk.crash(Crash::Kill);
        let (store, _) = world.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.check(&content(&store)).unwrap();
    }
}
