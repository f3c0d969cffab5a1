//! The store's crash tests are only as good as this disk: one that keeps too much hides bugs, one that loses too much
//! invents them. Each test pins one rule from both sides where it can: what must stay stays for every seed, and what
//! may go goes for some.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::disk::AlignedBuf;

const SEEDS: std::ops::Range<u64> = 0..200;

fn block(fill: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(BLOCK);
    buf.as_bytes_mut().fill(fill);
    buf
}

/// A disk with a prepared log of four blocks, and that log.
fn with_log(seed: u64) -> (SimDisk, Box<dyn LogFile>) {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.prepare(Path::new("/d/log"), 4 * BLOCK as u64).unwrap();
    let log = disk.open_log(Path::new("/d/log")).unwrap();
    (disk, log)
}

fn read(disk: &SimDisk) -> Vec<u8> {
    disk.read(Path::new("/d/log")).unwrap().to_vec()
}

fn is_eio(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

#[test]
fn durable_and_synced_writes_survive_every_power_cut_and_others_may_be_lost_kept_or_torn() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in SEEDS {
        let (disk, mut log) = with_log(seed);
        log.write(0, &block(1), false).unwrap();
        log.sync().unwrap();
        log.write(4096, &block(2), false).unwrap();
        log.write(8192, &block(3), true).unwrap();
        disk.crash(Crash::Power);
        let bytes = read(&disk);
        assert!(bytes[..4096].iter().all(|&byte| byte == 1), "seed {seed}");
        assert!(bytes[8192..12288].iter().all(|&byte| byte == 3), "seed {seed}");
        assert!(bytes[12288..].iter().all(|&byte| byte == 0), "seed {seed}");
        for sector in bytes[4096..8192].chunks(512) {
            match sector {
                all if all.iter().all(|&byte| byte == 0) => lost += 1,
                all if all.iter().all(|&byte| byte == 2) => kept += 1,
                _ => torn += 1,
            }
        }
    }
    assert!(lost > 100 && kept > 100 && torn > 100, "{lost} {kept} {torn}");
}

#[test]
fn a_kill_loses_no_write_and_a_power_cut_after_it_may() {
    let mut outcomes = BTreeSet::new();
    for seed in SEEDS {
        let (disk, mut log) = with_log(seed);
        log.write(0, &block(1), false).unwrap();
        disk.crash(Crash::Kill);
        assert_eq!(disk.files()[Path::new("/d/log")][..4096], *block(1).as_bytes());
        disk.crash(Crash::Power);
        outcomes.insert(read(&disk)[..4096] == *block(1).as_bytes());
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn what_recovery_has_read_a_later_power_cut_does_not_take_back() {
    for seed in SEEDS {
        let (disk, mut log) = with_log(seed);
        log.write(0, &block(1), false).unwrap();
        disk.crash(Crash::Kill);
        let served = read(&disk);
        disk.crash(Crash::Power);
        assert_eq!(read(&disk), served);
    }
}

#[test]
fn pages_of_a_failed_sync_are_seen_by_the_cache_and_not_by_the_device() {
    let (mut gone, mut evicted) = (0, 0);
    for seed in SEEDS {
        let (disk, mut log) = with_log(seed);
        log.write(0, &block(1), false).unwrap();
        disk.fail_sync(Some(1));
        assert!(is_eio(&log.sync().unwrap_err()));
        log.sync().expect("the pages are clean now");
        let is_seen = disk.files()[Path::new("/d/log")][..4096] == *block(1).as_bytes();
        assert_eq!(u64::from(!is_seen), disk.seen().ghosts_evicted);
        evicted += usize::from(!is_seen);
        disk.crash(Crash::Kill);
        gone += usize::from(read(&disk)[..4096] != *block(1).as_bytes());
    }
    assert!(gone > 150, "{gone}");
    assert!((1..50).contains(&evicted), "memory is short now and then: {evicted}");
}

#[test]
fn a_copy_has_what_was_read_and_keeps_it() {
    for seed in SEEDS {
        let (disk, mut log) = with_log(seed);
        log.write(0, &block(1), false).unwrap();
        disk.fail_sync(Some(1));
        log.sync().unwrap_err();
        let copy = disk.fork(seed);
        let before = copy.files();
        assert_eq!(before, disk.files());
        for _ in 0..20 {
            copy.list(Path::new("/d")).unwrap();
        }
        copy.crash(Crash::Power);
        assert_eq!(copy.files(), before, "seed {seed}");
    }
}

#[test]
fn a_durable_write_is_a_write_and_a_sync_that_fail_apart() {
    let (disk, mut log) = with_log(1);
    disk.fail_write(Some(2));
    log.write(0, &block(1), true).unwrap();
    assert!(is_eio(&log.write(4096, &block(2), true).unwrap_err()));
    log.write(4096, &block(2), true).unwrap();
    disk.fail_sync(Some(1));
    assert!(is_eio(&log.write(8192, &block(3), true).unwrap_err()));
    disk.fail_sync(Some(1));
    disk.fail_sync(None);
    log.write(8192, &block(4), true).unwrap();
    disk.crash(Crash::Power);
    let bytes = read(&disk);
    assert_eq!([bytes[0], bytes[4096], bytes[8192], bytes[12287]], [1, 2, 4, 4]);
}

#[test]
fn entries_of_an_unsynced_directory_may_go_and_those_of_a_synced_one_stay() {
    let mut outcomes = BTreeSet::new();
    for seed in SEEDS {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/d/e")).unwrap();
        for name in ["a", "b", "c"] {
            disk.replace(&Path::new("/d/e").join(name), name.as_bytes()).unwrap();
        }
        disk.unlink(Path::new("/d/e/a")).unwrap();
        disk.rename(Path::new("/d/e/b"), Path::new("/d/e/c")).unwrap();
        disk.crash(Crash::Power);
        let files = disk.files();
        let content = |name: &str| files.get(&Path::new("/d/e").join(name)).map(|bytes| bytes[0] as char);
        assert!(matches!(content("c"), Some('b' | 'c')), "a rename is never half done");
        assert_eq!(content("b").is_some(), content("c") == Some('c'), "a rename is never half done");
        outcomes.insert((content("a").is_some(), content("b").is_some()));
    }
    assert_eq!(outcomes.len(), 4, "prefixes, and subsets out of order");
}

#[test]
fn a_failed_sync_of_a_directory_makes_nothing_durable_and_can_be_repeated() {
    let (disk, _) = with_log(3);
    disk.unlink(Path::new("/d/log")).unwrap();
    disk.fail_sync(Some(1));
    assert!(is_eio(&disk.sync_dir(Path::new("/d")).unwrap_err()));
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.crash(Crash::Power);
    assert!(disk.files().is_empty());
}

/// A replacement stopped at each of its operations, and a machine that loses power then or is killed.
#[test]
fn a_replacement_is_whole_or_absent_at_every_operation() {
    let path = Path::new("/d/manifest");
    let start = |seed| {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.replace(path, b"old").unwrap();
        disk.crash(Crash::Kill);
        disk
    };
    let disk = start(0);
    disk.replace(path, b"newer").unwrap();
    let ops = disk.ops();
    assert_eq!(ops, 5, "create, write, sync, rename, sync of the directory");
    let mut outcomes = BTreeSet::new();
    for op in 1..=ops {
        for seed in SEEDS {
            for kind in [Crash::Kill, Crash::Power] {
                let disk = start(seed);
                disk.set_crash_at(Some(op));
                assert!(Stopped::caused(&disk.replace(path, b"newer").unwrap_err()));
                assert!(disk.is_stopped());
                disk.crash(kind);
                let content = disk.read(path).unwrap().to_vec();
                assert!(content == b"old" || content == b"newer", "op {op}, seed {seed}: {content:?}");
                outcomes.insert((op, content.len()));
            }
        }
    }
    assert_eq!(outcomes, BTreeSet::from([(1, 3), (2, 3), (3, 3), (4, 3), (4, 5), (5, 3), (5, 5)]));
}

/// A streamed file, as the store writes them: content, then the head.
fn stream(disk: &SimDisk, path: &Path, content: &[u8], head: &[u8]) -> io::Result<()> {
    let mut file = disk.create(path)?;
    for part in content.chunks(1000) {
        file.append(part)?;
    }
    file.finish(head)
}

/// Three pieces and a part of a block, a head of 100 bytes, and the whole as it is when it is finished.
fn streamed() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let content: Vec<u8> = (1..=251).cycle().take(3 * PIECE_LEN + 5000).collect();
    let head = vec![0xff; 100];
    let whole = [&head, &content[head.len()..]].concat();
    (content, head, whole)
}

#[test]
fn a_streamed_file_is_whole_or_absent_at_every_operation() {
    let path = Path::new("/d/1.snap");
    let (content, head, whole) = streamed();
    let disk = SimDisk::new(0);
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.crash(Crash::Kill);
    stream(&disk, path, &content, &head).unwrap();
    let ops = disk.ops();
    assert_eq!(ops, 11, "create, open, three pieces, blocks, rest, head, sync, rename, sync of the directory");
    let mut outcomes = BTreeSet::new();
    for op in 1..=ops {
        for seed in 0..50 {
            for kind in [Crash::Kill, Crash::Power] {
                let disk = SimDisk::new(seed);
                disk.create_dir_all(Path::new("/d")).unwrap();
                disk.crash(Crash::Kill);
                disk.set_crash_at(Some(op));
                assert!(Stopped::caused(&stream(&disk, path, &content, &head).unwrap_err()));
                disk.crash(kind);
                let found = match disk.map(path) {
                    Ok(region) => Some(region.to_vec()),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::NotFound);
                        None
                    }
                };
                assert!(found.as_ref().is_none_or(|found| *found == whole), "op {op}, seed {seed}");
                outcomes.insert((op, found.is_some()));
                // What was left under the temporary name is in nobody's way.
                stream(&disk, path, &content, &head).unwrap();
                disk.crash(Crash::Power);
                assert_eq!(*disk.read(path).unwrap(), *whole);
                assert_eq!(disk.files().len(), 1);
            }
        }
    }
    let whole_at: Vec<_> = outcomes.iter().filter(|(_, whole)| *whole).map(|(op, _)| *op).collect();
    assert_eq!(whole_at, [10, 11]);
    assert_eq!(outcomes.len(), 13, "absent at each of them too");
}

#[test]
fn a_streamed_file_that_meets_a_fault_is_given_up_and_leaves_nothing() {
    let path = Path::new("/d/1.snap");
    let (content, head, _) = streamed();
    let refused = |prepare: &dyn Fn(&SimDisk)| {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/d")).unwrap();
        prepare(&disk);
        let error = stream(&disk, path, &content, &head).unwrap_err();
        // A failed sync of the directory comes behind the name, and only makes it uncertain.
        (error, disk.files().into_keys().next())
    };
    for nth in 1..=6 {
        let (error, left) = refused(&|disk| disk.fail_write(Some(nth)));
        assert!(is_eio(&error) && left.is_none(), "write {nth}: {error} {left:?}");
    }
    let (error, left) = refused(&|disk| disk.fail_sync(Some(1)));
    assert!(is_eio(&error) && left.is_none());
    let (error, left) = refused(&|disk| disk.fail_sync(Some(2)));
    assert!(is_eio(&error) && left.as_deref() == Some(path));
    for capacity in [0, 1, 8192, 20_000, content.len() as u64 - 1] {
        let (error, left) = refused(&|disk| disk.set_capacity(Some(capacity)));
        assert!(error.kind() == io::ErrorKind::StorageFull && left.is_none(), "{capacity}: {error}");
    }
}

#[test]
fn a_streamed_file_takes_nothing_more_after_an_error() {
    let disk = SimDisk::new(1);
    let mut file = disk.create(Path::new("/1.snap")).unwrap();
    disk.set_capacity(Some(PIECE_LEN as u64));
    file.append(&[1; 2 * PIECE_LEN]).unwrap_err();
    assert!(disk.files().is_empty(), "its room is given back at once");
    disk.set_capacity(None);
    file.append(b"more").unwrap_err();
    file.finish(b"").unwrap_err();
    assert!(disk.files().is_empty());
}

#[test]
fn a_streamed_file_of_a_dead_process_removes_nothing_of_the_next() {
    let disk = SimDisk::new(1);
    let path = Path::new("/1.snap");
    let mut dead = disk.create(path).unwrap();
    disk.crash(Crash::Kill);
    let mut alive = disk.create(path).unwrap();
    alive.append(b"alive").unwrap();
    assert!(Stopped::caused(&dead.append(&[1; PIECE_LEN]).unwrap_err()));
    drop(dead);
    alive.finish(b"").unwrap();
    assert_eq!(*disk.read(path).unwrap(), *b"alive");
}

#[test]
fn directories_are_there_after_creation_and_after_every_crash_can_be_made() {
    let dir = Path::new("/a/b/c");
    for seed in SEEDS {
        for op in 1..=12 {
            let disk = SimDisk::new(seed);
            disk.set_crash_at(Some(op));
            let made = disk.create_dir_all(dir).is_ok();
            // Killed in the middle; the successor must not trust what it finds.
            disk.crash(if made { Crash::Power } else { Crash::Kill });
            assert!(!made || disk.list(dir).is_ok());
            disk.create_dir_all(dir).unwrap();
            disk.replace(&dir.join("f"), b"x").unwrap();
            disk.crash(Crash::Power);
            assert_eq!(*disk.read(&dir.join("f")).unwrap(), *b"x", "op {op}, seed {seed}");
        }
    }
}

#[test]
fn a_write_at_the_stop_may_be_in_part() {
    let mut outcomes = BTreeSet::new();
    for seed in SEEDS {
        let (disk, mut log) = with_log(seed);
        disk.set_crash_at(Some(disk.ops() + 1));
        assert!(Stopped::caused(&log.write(0, &block(1), true).unwrap_err()));
        disk.crash(Crash::Kill);
        outcomes.insert(read(&disk).iter().step_by(512).take(8).filter(|&&byte| byte == 1).count());
    }
    assert!(outcomes.len() > 5, "{outcomes:?}");
}

#[test]
fn after_the_stop_everything_fails_and_after_the_crash_everything_old_does() {
    let (disk, mut log) = with_log(1);
    let lock = disk.lock(Path::new("/d/LOCK"), "first").unwrap();
    disk.set_crash_at(Some(0));
    for result in [
        log.write(0, &block(1), true),
        log.sync(),
        disk.read(Path::new("/d/log")).map(drop),
        disk.list(Path::new("/d")).map(drop),
        disk.replace(Path::new("/d/x"), b""),
        disk.unlink(Path::new("/d/log")),
        disk.create_dir_all(Path::new("/e")),
        disk.create(Path::new("/d/new")).map(drop),
        disk.map(Path::new("/d/log")).map(drop),
        disk.lock(Path::new("/d/OTHER"), "x").map(drop),
    ] {
        assert!(Stopped::caused(&result.unwrap_err()));
    }
    disk.crash(Crash::Kill);
    assert_eq!((disk.ops(), disk.is_stopped()), (0, false));
    assert!(Stopped::caused(&log.write(0, &block(1), true).unwrap_err()));
    let second = disk.lock(Path::new("/d/LOCK"), "second").expect("a crash releases locks");
    drop(lock);
    disk.lock(Path::new("/d/LOCK"), "third").expect_err("a dead holder releases nothing");
    drop(second);
    disk.lock(Path::new("/d/LOCK"), "third").unwrap();
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_until_something_is_removed() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(10_000));
    disk.prepare(Path::new("/log"), 8192).unwrap();
    let full = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    full(disk.prepare(Path::new("/next"), 4096));
    full(disk.replace(Path::new("/snap"), &[1; 1809]));
    assert_eq!(disk.files().len(), 1, "no temporary file is left");
    disk.replace(Path::new("/snap"), &[1; 1808]).unwrap();
    disk.open_log(Path::new("/log")).unwrap().write(4096, &block(1), true).expect("room that was prepared");
    let lock = disk.lock(Path::new("/LOCK"), "nobody reads this").expect("a full disk can be locked");
    disk.unlink(Path::new("/snap")).unwrap();
    disk.replace(Path::new("/snap"), &[2; 1000]).unwrap();
    drop(lock);
}

#[test]
fn damage_is_seen_at_once_and_after_every_crash() {
    let (disk, mut log) = with_log(1);
    log.write(0, &block(1), false).unwrap();
    disk.corrupt(Path::new("/d/log"), |bytes| {
        bytes[7] ^= 0x10;
        bytes.truncate(100);
    })
    .unwrap();
    disk.crash(Crash::Power);
    let bytes = read(&disk);
    assert_eq!((bytes.len(), bytes[6], bytes[7]), (100, 1, 0x11));
    disk.corrupt(Path::new("/none"), Vec::clear).unwrap_err();
}

/// What a random workload does.
#[derive(Clone, Debug)]
enum Op {
    Replace(u8, u16),
    Write(u8, u8, bool),
    Sync,
    Unlink(u8),
    SyncDir,
    FailSync,
    Crash(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..4u8, 0..5000u16).prop_map(|(name, len)| Op::Replace(name, len)),
        (0..4u8, any::<u8>(), any::<bool>()).prop_map(|(at, fill, durable)| Op::Write(at, fill, durable)),
        Just(Op::Sync),
        (0..4u8).prop_map(Op::Unlink),
        Just(Op::SyncDir),
        Just(Op::FailSync),
        any::<bool>().prop_map(Op::Crash),
    ];
    prop::collection::vec(op, 0..40)
}

/// Everything a run shows, errors included.
fn run(seed: u64, crash_at: u64, ops: &[Op]) -> Vec<String> {
    let (disk, mut log) = with_log(seed);
    disk.set_crash_at(Some(disk.ops() + crash_at));
    let mut seen = Vec::new();
    for op in ops {
        let name = |name: &u8| Path::new("/d").join(name.to_string());
        let result = match op {
            Op::Replace(file, len) => disk.replace(&name(file), &vec![*file; usize::from(*len)]),
            Op::Write(at, fill, durable) => log.write(u64::from(*at) * 4096, &block(*fill), *durable),
            Op::Sync => log.sync(),
            Op::Unlink(file) => disk.unlink(&name(file)),
            Op::SyncDir => disk.sync_dir(Path::new("/d")),
            Op::FailSync => {
                disk.fail_sync(Some(1));
                Ok(())
            }
            Op::Crash(power) => {
                disk.crash(if *power { Crash::Power } else { Crash::Kill });
                disk.open_log(Path::new("/d/log")).map(|opened| log = opened)
            }
        };
        seen.push(format!("{result:?} {} {:?}", disk.ops(), disk.files()));
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_seed_and_calls_give_the_same_run(seed: u64, crash_at in 0..60u64, ops in ops()) {
        prop_assert_eq!(run(seed, crash_at, &ops), run(seed, crash_at, &ops));
    }

    #[test]
    fn a_second_power_cut_changes_nothing(seed: u64, ops in ops()) {
        let (disk, mut log) = with_log(seed);
        for op in &ops {
            if let Op::Write(at, fill, durable) = op {
                log.write(u64::from(*at) * 4096, &block(*fill), *durable).unwrap();
            }
        }
        disk.crash(Crash::Power);
        let left = disk.files();
        disk.crash(Crash::Power);
        prop_assert_eq!(disk.files(), left);
    }
}
