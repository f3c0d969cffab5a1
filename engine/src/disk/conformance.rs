//! What every disk does alike. The rules of [`Disk`] stand in prose; a rule that only one implementation keeps would
//! be found by the store, at the worst time. So one suite runs on all of them: the system calls, the ring, the
//! simulation, and two *trickle* disks whose log files and new files move a few bytes at a time and are interrupted in
//! between.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::durable::Steps;
use super::log::{Device, Log};
use super::posix::{SystemCalls, open_prepared};
use super::sim::{Crash, SimDisk, SimFile};
use super::stream::Stream;
use super::*;

/// A disk with an empty directory.
struct Bed {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Removed when the bed goes.
    _dir: Option<TempDir>,
}

impl Bed {
    fn real(disk: Arc<dyn Disk>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { disk, root: dir.path().to_owned(), _dir: Some(dir) }
    }

    fn simulated(disk: Arc<dyn Disk>) -> Self {
        let root = PathBuf::from("/data");
        disk.create_dir_all(&root).unwrap();
        Self { disk, root, _dir: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn names(&self) -> Vec<String> {
        self.disk.list(&self.root).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    /// What a new holder of the same files sees.
    fn content(&self, name: &str) -> Vec<u8> {
        self.disk.read(&self.path(name)).unwrap().to_vec()
    }
}

fn posix() -> Bed {
    Bed::real(Arc::new(Posix))
}

/// None where the system refuses rings; then the fallback is what is asserted.
fn uring() -> Option<Bed> {
    if let Ok(disk) = Uring::new() {
        Some(Bed::real(Arc::new(disk)))
    } else {
        let (disk, note) = open(IoKind::Auto).unwrap();
        assert_eq!(disk.name(), "posix");
        assert!(note.unwrap().contains("io_uring"));
        None
    }
}

fn sim() -> Bed {
    Bed::simulated(Arc::new(SimDisk::new(1)))
}

fn trickle_sim() -> Bed {
    let sim = SimDisk::new(1);
    let open = sim.clone();
    let open_file = move |path: &Path| SimFile::open(&open, path);
    Bed::simulated(Arc::new(Trickle { inner: sim, open_file }))
}

fn trickle_posix() -> Bed {
    let open_file = |path: &Path| {
        let (mut file, len) = open_prepared(path)?;
        // Direct transfers are whole sectors; these are not.
        file.leave_direct()?;
        Ok((SystemCalls(file), len))
    };
    Bed::real(Arc::new(Trickle { inner: Posix, open_file }))
}

/// A disk whose log files and new files move a few bytes at a time.
struct Trickle<D, O> {
    inner: D,
    open_file: O,
}

impl<D: Debug, O> Debug for Trickle<D, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trickle({:?})", self.inner)
    }
}

impl<D, O, F> Disk for Trickle<D, O>
where
    D: Steps + 'static,
    O: Fn(&Path) -> io::Result<(F, u64)> + Send + Sync,
    F: Device + 'static,
{
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }
    fn read_prefix(&self, path: &Path, len: usize) -> io::Result<FileBytes> {
        self.inner.read_prefix(path, len)
    }
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.inner.replace(path, content)
    }
    fn prepare(&self, path: &Path, len: u64) -> io::Result<()> {
        self.inner.prepare(path, len)
    }
    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let (file, len) = (self.open_file)(path)?;
        Ok(Box::new(Log::new(TrickleFile { file, turn: 0 }, len)))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let open = |temporary: &Path| Ok(TrickleFile { file: (self.open_file)(temporary)?.0, turn: 0 });
        Ok(Box::new(Stream::create(&self.inner, path, 2 * BLOCK, open)?))
    }
    fn map(&self, path: &Path) -> io::Result<Region> {
        self.inner.map(path)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path, owner)
    }
    fn name(&self) -> &'static str {
        "trickle"
    }
}

#[derive(Debug)]
struct TrickleFile<F> {
    file: F,
    turn: usize,
}

impl<F: Device> Device for TrickleFile<F> {
    fn write_some(&mut self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        const STEPS: [usize; 6] = [1, 511, 0, 512, 97, 2];
        let step = STEPS[self.turn % STEPS.len()];
        self.turn += 1;
        if step == 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        self.file.write_some(offset, &bytes[..step.min(bytes.len())], durable)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.turn += 1;
        if self.turn.is_multiple_of(2) { Err(ErrorKind::Interrupted.into()) } else { self.file.sync() }
    }
}

/// Blocks whose bytes tell where they belong.
fn blocks(count: usize, salt: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(count * BLOCK);
    for (byte, pattern) in buf.as_bytes_mut().iter_mut().zip((0..251).cycle()) {
        *byte = pattern ^ salt;
    }
    buf
}

fn replaced_content_reads_back_and_leaves_no_temporary_file(bed: &Bed) {
    for content in [&b"first"[..], b"", &[7; 4096], &vec![8; 100_001], b"last"] {
        bed.disk.replace(&bed.path("manifest"), content).unwrap();
        assert_eq!(bed.content("manifest"), content);
        assert_eq!(bed.names(), ["manifest"]);
    }
}

fn a_replacement_that_fails_leaves_the_old_content_and_no_temporary_file(bed: &Bed) {
    bed.disk.create_dir_all(&bed.path("taken")).unwrap();
    bed.disk.replace(&bed.path("taken/kept"), b"kept").unwrap();
    // A directory with content is in the way of the rename.
    bed.disk.replace(&bed.path("taken"), b"new").unwrap_err();
    assert_eq!(bed.names(), ["taken"]);
    assert_eq!(bed.content("taken/kept"), b"kept");
}

fn what_an_earlier_crash_left_under_the_temporary_name_is_written_over(bed: &Bed) {
    bed.disk.replace(&bed.path("a.tmp"), &[9; 9000]).unwrap();
    bed.disk.replace(&bed.path("a"), b"short").unwrap();
    assert_eq!(bed.content("a"), b"short");
    assert_eq!(bed.names(), ["a"]);
}

fn a_prepared_file_is_zeros_of_the_asked_length(bed: &Bed) {
    for len in [0, 4096, (1 << 20) - 4096, 1 << 20, (2 << 20) + 8192] {
        bed.disk.prepare(&bed.path("1.wal"), len).unwrap();
        let content = bed.disk.read(&bed.path("1.wal")).unwrap();
        assert_eq!(content.len() as u64, len);
        assert!(content.iter().all(|&byte| byte == 0));
        assert_eq!(bed.names(), ["1.wal"]);
    }
    assert_eq!(bed.disk.prepare(&bed.path("2.wal"), 100).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(bed.names(), ["1.wal"]);
}

fn log_writes_read_back_and_touch_nothing_else(bed: &Bed) {
    let path = bed.path("1.wal");
    bed.disk.prepare(&path, 16 * 4096).unwrap();
    let mut expected = vec![0; 16 * 4096];
    let mut log = bed.disk.open_log(&path).unwrap();
    for (block, count, durable) in [(0, 1, true), (1, 3, false), (15, 1, true), (6, 4, true), (6, 2, false)] {
        let data = blocks(count, 0x55 ^ block);
        let at = usize::from(block) * 4096;
        log.write(at as u64, &data, durable).unwrap();
        expected[at..at + data.len()].copy_from_slice(data.as_bytes());
    }
    log.sync().unwrap();
    assert!(bed.content("1.wal") == expected);
    // Written on while someone has read.
    log.write(4096, &blocks(1, 9), true).unwrap();
    expected[4096..8192].copy_from_slice(blocks(1, 9).as_bytes());
    drop(log);
    assert!(bed.content("1.wal") == expected);
}

fn writes_that_are_under_way_together_end_in_their_order_and_read_back(bed: &Bed) {
    let path = bed.path("1.wal");
    bed.disk.prepare(&path, 16 * 4096).unwrap();
    let mut expected = vec![0; 16 * 4096];
    let mut log = bed.disk.open_log(&path).unwrap();
    assert_eq!(log.finish().unwrap_err().kind(), ErrorKind::InvalidInput);
    for round in 0..3_u8 {
        let writes = [(1, 1), (2, 3), (9, 4), (5, 1)];
        for (block, count) in writes {
            let data = blocks(count, round ^ u8::try_from(block).unwrap());
            expected[block * 4096..block * 4096 + data.len()].copy_from_slice(data.as_bytes());
            log.begin(block as u64 * 4096, data).unwrap();
        }
        // One that is waited for, in between.
        log.write(0, &blocks(1, round), true).unwrap();
        expected[..4096].copy_from_slice(blocks(1, round).as_bytes());
        for (block, count) in writes {
            let data = log.finish().unwrap();
            assert_eq!(data.as_bytes(), &expected[block * 4096..][..count * 4096], "the buffer comes back");
        }
        assert!(bed.content("1.wal") == expected);
    }
    assert_eq!(log.begin(16 * 4096, blocks(1, 1)).unwrap_err().kind(), ErrorKind::InvalidInput);
    // One that nobody waits for ends before the file does.
    log.begin(4096, blocks(1, 77)).unwrap();
    drop(log);
}

fn log_writes_stay_within_the_prepared_length(bed: &Bed) {
    bed.disk.prepare(&bed.path("1.wal"), 8192).unwrap();
    let mut log = bed.disk.open_log(&bed.path("1.wal")).unwrap();
    for (offset, count) in [(8192, 1), (4096, 2), (512, 1), (u64::MAX - 4095, 1)] {
        assert_eq!(log.write(offset, &blocks(count, 1), true).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    log.write(8192, &AlignedBuf::default(), true).unwrap();
    assert_eq!(bed.content("1.wal"), [0; 8192]);
}

fn an_open_log_survives_renaming_and_removal(bed: &Bed) {
    bed.disk.prepare(&bed.path("next"), 8192).unwrap();
    let mut log = bed.disk.open_log(&bed.path("next")).unwrap();
    bed.disk.rename(&bed.path("next"), &bed.path("1.wal")).unwrap();
    bed.disk.sync_dir(&bed.root).unwrap();
    log.write(4096, &blocks(1, 3), true).unwrap();
    assert_eq!(bed.content("1.wal")[4096..], *blocks(1, 3).as_bytes());
    bed.disk.unlink(&bed.path("1.wal")).unwrap();
    bed.disk.sync_dir(&bed.root).unwrap();
    log.write(0, &blocks(2, 4), true).unwrap();
    log.sync().unwrap();
    assert!(bed.names().is_empty());
}

/// Bytes that tell where they belong.
fn bytes(len: usize) -> Vec<u8> {
    (0..251).cycle().take(len).collect()
}

fn a_new_file_appears_when_it_is_finished_and_not_before(bed: &Bed) {
    const MIB: usize = 1 << 20;
    let path = bed.path("1.snap");
    for len in [0, 1, 4095, 4096, 4097, 8192, 20_000, MIB - 1, MIB, MIB + 1, 2 * MIB + 4096, 3 * MIB + 5] {
        let expected = bytes(len);
        let mut file = bed.disk.create(&path).unwrap();
        // In steps that fit no boundary.
        for part in expected.chunks(100_003) {
            file.append(part).unwrap();
            file.append(b"").unwrap();
        }
        assert_eq!(bed.disk.read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        file.finish(b"").unwrap();
        assert!(bed.content("1.snap") == expected, "{len}");
        assert!(*bed.disk.map(&path).unwrap() == *expected, "{len}");
        assert_eq!(bed.names(), ["1.snap"]);
        bed.disk.unlink(&path).unwrap();
    }
}

fn the_head_of_a_new_file_is_written_last(bed: &Bed) {
    for len in [1, 5000, 100_000, (1 << 20) + 1] {
        for head_len in [1, 64, 4096, 5000, 100_000] {
            let head = vec![0xff; head_len.min(len)];
            let mut expected = bytes(len);
            let mut file = bed.disk.create(&bed.path("1.snap")).unwrap();
            file.append(&expected).unwrap();
            file.finish(&head).unwrap();
            expected[..head.len()].copy_from_slice(&head);
            assert!(bed.content("1.snap") == expected, "{len} {head_len}");
        }
    }
    assert_eq!(bed.names(), ["1.snap"]);
}

fn a_new_file_that_is_not_finished_leaves_nothing(bed: &Bed) {
    bed.disk.replace(&bed.path("1.snap"), b"old").unwrap();
    for len in [0, 5, 3 << 20] {
        let mut file = bed.disk.create(&bed.path("1.snap")).unwrap();
        file.append(&bytes(len)).unwrap();
        drop(file);
        assert_eq!(bed.names(), ["1.snap"]);
    }
    let mut file = bed.disk.create(&bed.path("1.snap")).unwrap();
    file.append(&bytes(5)).unwrap();
    assert_eq!(file.finish(&[1; 6]).unwrap_err().kind(), ErrorKind::InvalidInput);
    // A directory with content is in the way of the rename.
    bed.disk.create_dir_all(&bed.path("dir/inside")).unwrap();
    bed.disk.create(&bed.path("dir")).unwrap().finish(b"").unwrap_err();
    assert_eq!(bed.names(), ["1.snap", "dir"]);
    assert_eq!(bed.content("1.snap"), b"old");
}

fn a_new_file_is_written_over_what_an_earlier_crash_left(bed: &Bed) {
    bed.disk.replace(&bed.path("1.snap.tmp"), &[9; 9000]).unwrap();
    let mut file = bed.disk.create(&bed.path("1.snap")).unwrap();
    file.append(b"short").unwrap();
    file.finish(b"").unwrap();
    assert_eq!(bed.content("1.snap"), b"short");
    assert_eq!(bed.names(), ["1.snap"]);
}

fn a_mapping_is_the_content_and_outlives_the_name(bed: &Bed) {
    for len in [0, 1, 4096, 10_000] {
        bed.disk.replace(&bed.path("1.snap"), &bytes(len)).unwrap();
        let region = bed.disk.map(&bed.path("1.snap")).unwrap();
        region.will_need(0..len);
        region.touch(0..len).unwrap();
        region.touch(len / 2..len / 2).unwrap();
        assert_eq!(region.touch(0..len + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(*region, *bytes(len));
        assert!(region.as_ptr().addr().is_multiple_of(BLOCK));
        bed.disk.replace(&bed.path("1.snap"), b"next").unwrap();
        bed.disk.unlink(&bed.path("1.snap")).unwrap();
        region.touch(0..len).unwrap();
        assert_eq!(*region, *bytes(len));
        assert!(!region.is_poisoned());
    }
}

fn listing_is_sorted_and_follows_unlink_and_rename(bed: &Bed) {
    for (name, len) in [("b", 5), ("a", 0), ("c", 4097)] {
        bed.disk.replace(&bed.path(name), &vec![1; len]).unwrap();
    }
    bed.disk.create_dir_all(&bed.path("d/e/f")).unwrap();
    bed.disk.create_dir_all(&bed.path("d/e/f")).unwrap();
    let file = |name: &str, len| Entry { name: name.into(), len, is_dir: false };
    let listed = bed.disk.list(&bed.root).unwrap();
    assert_eq!(listed[..3], [file("a", 0), file("b", 5), file("c", 4097)]);
    assert_eq!((listed[3].name.as_str(), listed[3].is_dir), ("d", true));
    bed.disk.unlink(&bed.path("a")).unwrap();
    bed.disk.rename(&bed.path("c"), &bed.path("b")).unwrap();
    bed.disk.sync_dir(&bed.root).unwrap();
    assert_eq!(bed.disk.list(&bed.root).unwrap()[..1], [file("b", 4097)]);
    assert_eq!(bed.names(), ["b", "d"]);
    assert!(bed.disk.list(&bed.path("d/e/f")).unwrap().is_empty());
    bed.disk.unlink(&bed.path("d")).unwrap_err();
}

fn what_is_missing_is_not_found(bed: &Bed) {
    let (file, inside) = (bed.path("none"), bed.path("none/file"));
    let results = [
        bed.disk.read(&file).map(drop),
        bed.disk.open_log(&file).map(drop),
        bed.disk.map(&file).map(drop),
        bed.disk.unlink(&file),
        bed.disk.rename(&file, &bed.path("other")),
        bed.disk.list(&file).map(drop),
        bed.disk.sync_dir(&file),
        bed.disk.replace(&inside, b"x"),
        bed.disk.prepare(&inside, 4096),
        bed.disk.create(&inside).map(drop),
        bed.disk.lock(&inside, "x").map(drop),
    ];
    for (i, result) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound, "call {i}");
    }
    assert!(bed.names().is_empty());
}

fn a_file_is_no_directory_and_a_directory_no_file(bed: &Bed) {
    bed.disk.replace(&bed.path("file"), b"x").unwrap();
    bed.disk.create_dir_all(&bed.path("dir")).unwrap();
    bed.disk.list(&bed.path("file")).unwrap_err();
    bed.disk.create_dir_all(&bed.path("file")).unwrap_err();
    bed.disk.create_dir_all(&bed.path("file/dir")).unwrap_err();
    bed.disk.read(&bed.path("dir")).unwrap_err();
    bed.disk.open_log(&bed.path("dir")).unwrap_err();
    bed.disk.map(&bed.path("dir")).unwrap_err();
    bed.disk.create(&bed.path("file/x")).unwrap_err();
    bed.disk.rename(&bed.path("file"), &bed.path("dir/file")).unwrap_err();
    assert_eq!(bed.names(), ["dir", "file"]);
}

fn a_second_lock_names_the_first_holder_and_the_first_drop_releases(bed: &Bed) {
    let path = bed.path("LOCK");
    let first = bed.disk.lock(&path, "kymo, process 17 of a long name").unwrap();
    let refused = bed.disk.lock(&path, "kymo 18").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    assert!(refused.to_string().contains("kymo, process 17 of a long name"), "{refused}");
    drop(first);
    let second = bed.disk.lock(&path, "kymo 18").unwrap();
    let refused = bed.disk.lock(&path, "kymo 19").unwrap_err();
    assert_eq!(refused.to_string(), "held by kymo 18");
    let other = bed.disk.lock(&bed.path("OTHER"), "kymo 19").unwrap();
    drop((second, other));
    assert_eq!(bed.names(), ["LOCK", "OTHER"]);
}

fn check(bed: impl Into<Option<Bed>>, test: fn(&Bed)) {
    if let Some(bed) = bed.into() {
        test(&bed);
    }
}

/// One test for each implementation and behaviour.
macro_rules! suite {
    ($($disk:ident)+ : $tests:tt) => { $(mod $disk { suite!(@ $disk $tests); })+ };
    (@ $disk:ident { $($test:ident)+ }) => {
        $(#[test]
        fn $test() {
            super::check(super::$disk(), super::$test);
        })+
    };
}

suite! { posix uring sim trickle_sim trickle_posix: {
    replaced_content_reads_back_and_leaves_no_temporary_file
    a_replacement_that_fails_leaves_the_old_content_and_no_temporary_file
    what_an_earlier_crash_left_under_the_temporary_name_is_written_over
    a_prepared_file_is_zeros_of_the_asked_length
    log_writes_read_back_and_touch_nothing_else
    log_writes_stay_within_the_prepared_length
    writes_that_are_under_way_together_end_in_their_order_and_read_back
    an_open_log_survives_renaming_and_removal
    a_new_file_appears_when_it_is_finished_and_not_before
    the_head_of_a_new_file_is_written_last
    a_new_file_that_is_not_finished_leaves_nothing
    a_new_file_is_written_over_what_an_earlier_crash_left
    a_mapping_is_the_content_and_outlives_the_name
    listing_is_sorted_and_follows_unlink_and_rename
    what_is_missing_is_not_found
    a_file_is_no_directory_and_a_directory_no_file
    a_second_lock_names_the_first_holder_and_the_first_drop_releases
} }

#[test]
fn a_durable_write_that_trickles_survives_every_power_cut() {
    for seed in 0..50 {
        let sim = SimDisk::new(seed);
        let path = Path::new("/1.wal");
        sim.prepare(path, 8192).unwrap();
        let (file, len) = SimFile::open(&sim, path).unwrap();
        let mut log = Log::new(TrickleFile { file, turn: 0 }, len);
        log.write(0, &blocks(1, 1), true).unwrap();
        log.write(4096, &blocks(1, 2), false).unwrap();
        sim.crash(Crash::Power);
        assert_eq!(sim.read(path).unwrap()[..4096], *blocks(1, 1).as_bytes(), "seed {seed}");
    }
}
