//! A mapped page that cannot be read used to end the process, wherever the load stood. Files that are made shorter under
//! a mapping raise the same signal as a failing device, so that is how these tests break them.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use super::*;
use crate::disk::{Disk, Posix};

const PAGE: usize = 4096;

/// A directory with a file of this content.
fn file(content: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    Posix.replace(&path, content).unwrap();
    (dir, path)
}

fn pattern(len: usize) -> Vec<u8> {
    (1..=251).cycle().take(len).collect()
}

fn set_len(path: &Path, len: usize) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len as u64).unwrap();
}

#[test]
fn a_copy_has_the_bytes_the_alignment_and_the_ranges_of_a_mapping() {
    let region = Region::copy_of(&pattern(5000));
    assert_eq!(*region, *pattern(5000));
    assert!(region.as_ptr().addr().is_multiple_of(PAGE));
    for range in [0..0, 1..2, 4095..5000, 5000..5000] {
        region.touch(range.clone()).unwrap();
        region.will_need(range);
    }
    region.will_need(0..5001);
    assert_eq!(region.touch(0..5001).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(!region.is_poisoned());
    assert!(Region::copy_of(b"").is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "maps a file")]
fn any_range_of_a_mapping_is_touched_and_none_beyond() {
    let content = pattern(3 * PAGE + 100);
    let (_dir, path) = file(&content);
    let region = Posix.map(&path).unwrap();
    let end = content.len();
    for range in [0..0, 0..1, 1..2, 4095..4097, 5000..9000, 3 * PAGE..end, end - 1..end, end..end, 0..end] {
        region.touch(range.clone()).unwrap();
        region.will_need(range.clone());
        assert_eq!(region[range.clone()], content[range]);
    }
    for range in [0..end + 1, end..end + 1, end + 1..end + 1, usize::MAX..usize::MAX, 0..4 * PAGE] {
        region.will_need(range.clone());
        assert_eq!(region.touch(range).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "a range from a file may be anything")]
    region.touch(2..1).unwrap_err();
    assert!(!region.is_poisoned());
}

#[test]
#[cfg_attr(miri, ignore = "maps a file")]
fn touching_what_cannot_be_read_is_an_error_and_poisons_nothing() {
    let (_dir, path) = file(&pattern(4 * PAGE));
    let region = Posix.map(&path).unwrap();
    set_len(&path, PAGE);
    assert!(region.touch(PAGE..PAGE + 1).unwrap_err().to_string().contains("cannot be read"));
    region.touch(0..4 * PAGE).unwrap_err();
    region.touch(0..PAGE).unwrap();
    assert_eq!(region[..PAGE], pattern(PAGE));
    assert!(!region.is_poisoned());
}

#[test]
#[cfg_attr(miri, ignore = "maps a file")]
fn reading_what_cannot_be_read_gives_zeros_and_poisons_that_mapping_for_ever() {
    let content = pattern(4 * PAGE);
    let (_dir, path) = file(&content);
    let (_other_dir, other_path) = file(&content);
    let (region, other) = (Posix.map(&path).unwrap(), Posix.map(&other_path).unwrap());
    let clone = region.clone();
    set_len(&path, PAGE);
    assert_eq!(black_box(&region)[2 * PAGE + 7], 0);
    assert!(region.is_poisoned() && clone.is_poisoned());
    assert!(black_box(&region)[PAGE..].iter().all(|&byte| byte == 0));
    assert_eq!(region[..PAGE], content[..PAGE]);
    set_len(&path, 4 * PAGE);
    for range in [0..0, 0..1, 3 * PAGE..4 * PAGE] {
        assert!(region.touch(range).unwrap_err().to_string().contains("earlier"));
    }
    other.touch(0..4 * PAGE).unwrap();
    assert_eq!(*other, *content);
    assert!(!other.is_poisoned());
    drop((region, clone));
    let again = Posix.map(&path).unwrap();
    again.touch(0..4 * PAGE).unwrap();
    assert!(!again.is_poisoned(), "the file is what it is, and its checksums tell");
}

#[test]
#[cfg_attr(miri, ignore = "maps a file")]
fn threads_that_meet_the_same_bad_pages_all_go_on() {
    const PAGES: usize = 64;
    let (_dir, path) = file(&pattern(PAGES * PAGE));
    let region = Posix.map(&path).unwrap();
    set_len(&path, 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert!(black_box(&region).iter().all(|&byte| byte == 0));
                assert!(region.is_poisoned());
            });
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "maps a file")]
fn a_mapping_outlives_the_name_of_its_file() {
    let content = pattern(2 * PAGE);
    let (_dir, path) = file(&content);
    let region = Posix.map(&path).unwrap();
    Posix.replace(&path, b"another").unwrap();
    Posix.unlink(&path).unwrap();
    region.touch(0..2 * PAGE).unwrap();
    assert_eq!(*region, *content);
}

#[test]
#[cfg_attr(miri, ignore = "maps a file")]
fn places_in_the_table_are_given_back() {
    let (_dir, path) = file(b"content");
    for _ in 0..2 * SLOTS {
        assert_eq!(*Posix.map(&path).unwrap(), *b"content");
    }
}

/// Runs the test of this name again, alone in a process of its own, and tells it the case.
fn in_child(test: &str, case: &str) -> ExitStatus {
    let (_, module) = module_path!().split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("{module}::{test}")])
        .env(CASE, case)
        .output()
        .unwrap()
        .status
}

const CASE: &str = "KYMO_TEST_CASE";
const SEEN: c_int = 42;

extern "C" fn exit(_: c_int) {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(SEEN) }
}

extern "C" fn exit_at(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's own value, passed on.
    let code = unsafe { (*info).si_code };
    exit(if code == libc::BUS_ADRERR { SEEN } else { 1 });
}

fn install(handler: usize, flags: c_int) {
    // SAFETY: all zeros are a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the callers give functions that fit the flags.
    check(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) }).unwrap();
}

/// Reads a mapping that is none of ours behind the end of its file.
fn fault_elsewhere() {
    let (_dir, path) = file(&pattern(2 * PAGE));
    // SAFETY: the file is changed only to make the load fail.
    let map = unsafe { Mmap::map(&File::open(&path).unwrap()) }.unwrap();
    set_len(&path, 0);
    black_box(map[PAGE]);
}

/// What the child does: whoever was there first, then our handler, then a signal that is not ours.
fn meet_a_foreign_signal(case: &str) {
    match case {
        "plain" => install(exit as *const () as usize, 0),
        "with information" => install(exit_at as *const () as usize, libc::SA_SIGINFO),
        "ignored" | "ignored and sent" => install(libc::SIG_IGN, 0),
        "default" | "default and sent" => install(libc::SIG_DFL, 0),
        _ => {}
    }
    let (_dir, path) = file(&pattern(2 * PAGE));
    let ours = Posix.map(&path).unwrap();
    set_len(&path, PAGE);
    assert_eq!(black_box(&ours)[PAGE], 0);
    if case.ends_with("sent") {
        // SAFETY: a signal to this thread.
        unsafe { libc::raise(libc::SIGBUS) };
    } else {
        fault_elsewhere();
    }
}

#[test]
#[cfg_attr(miri, ignore = "spawns a process")]
fn a_signal_that_is_not_ours_goes_where_it_went_before() {
    if let Ok(case) = std::env::var(CASE) {
        return meet_a_foreign_signal(&case);
    }
    let run = |case| in_child("a_signal_that_is_not_ours_goes_where_it_went_before", case);
    for case in ["plain", "with information"] {
        assert_eq!(run(case).code(), Some(SEEN), "{case}");
    }
    for case in ["the runtime's own", "default", "default and sent", "ignored"] {
        assert_eq!(run(case).signal(), Some(libc::SIGBUS), "{case}");
    }
    assert_eq!(run("ignored and sent").code(), Some(0));
}
