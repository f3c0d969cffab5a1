//! The disk by plain system calls: `pwritev2`, `fdatasync`, `flock`.
//!
//! Log files and streamed files go past the page cache where the file system takes it; everything else is written
//! through it and synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, FlockOperation, fadvise, flock, statvfs};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::direct::DirectFile;
use super::durable::{self, Steps, check_rename, parent_of};
use super::log::{Device, Log};
use super::stream::Stream;
use super::{AlignedBuf, BLOCK, Disk, Entry, FileBytes, Lock, LogFile, NewFile, Region, held_by, invalid, map};

/// Zeros and streamed files are written in pieces of this many bytes, one at a time: large enough for most of the
/// bandwidth of the device, small enough that a log sync does not wait long behind one.
const PIECE_LEN: usize = 256 << 10;

/// A lock is tried this often, this far apart: a predecessor that is being killed may have a write in flight, and on a
/// busy device the kernel lets go of its lock seconds later.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How much of a lock file is read to name its holder, in bytes.
const OWNER_LEN: u64 = 256;

/// The disk of the operating system, by plain system calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Posix;

impl Disk for Posix {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        durable::create_dir_all(self, dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(known) => entries.push(Entry {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    len: known.len(),
                    is_dir: known.is_dir(),
                }),
                // Removed while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read_prefix(&self, path: &Path, len: usize) -> io::Result<FileBytes> {
        let file = File::open(path)?;
        if let Err(error) = file.sync_all() {
            // Nothing of ours can be dirty in a file that cannot be written.
            let unwritable = [Errno::ROFS, Errno::BADF, Errno::INVAL];
            if !Errno::from_io_error(&error).is_some_and(|errno| unwritable.contains(&errno)) {
                return Err(error);
            }
        }
        fadvise(&file, 0, None, Advice::DontNeed)?;
        let file_len = file.metadata()?.len().min(len as u64);
        let len = usize::try_from(file_len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // The advice passes over pages that are in use; direct reads see the device all the same.
        Ok(FileBytes::new(DirectFile::new(file)?.read(len)?, len))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        durable::replace_with(self, path, |file| file.write_all(content))
    }

    fn prepare(&self, path: &Path, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(BLOCK as u64) {
            return Err(invalid("a prepared file has whole blocks"));
        }
        check_space(parent_of(path), len)?;
        // Real zeros: a sync after writing into unwritten extents takes twice as long, for it changes metadata.
        durable::replace_with(self, path, |file| fill_with_zeros(file, len))
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let (file, len) = open_prepared(path)?;
        Ok(Box::new(Log::new(SystemCalls(file), len)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let stream = Stream::create(self, path, PIECE_LEN, |temporary| Ok(SystemCalls(open_prepared(temporary)?.0)))?;
        Ok(Box::new(stream))
    }

    fn map(&self, path: &Path) -> io::Result<Region> {
        Region::of(File::open(path)?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        check_rename(from, to)?;
        Ok(rustix::fs::rename(from, to)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(PosixLock { _file: take_lock(path, owner)? }))
    }

    fn name(&self) -> &'static str {
        "posix"
    }

    fn notes(&self) -> Vec<String> {
        map::notes()
    }
}

impl Steps for Posix {
    type File = File;

    fn create_file(&self, path: &Path) -> io::Result<File> {
        File::create(path)
    }

    fn sync_file(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }
}

/// A lock that the descriptor holds, and the kernel lets go with it.
#[derive(Debug)]
struct PosixLock {
    _file: File,
}

impl Lock for PosixLock {}

/// Single attempts by system calls.
#[derive(Debug)]
pub(super) struct SystemCalls(pub(super) DirectFile);

impl Device for SystemCalls {
    fn write_some(&mut self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        if durable {
            Ok(pwritev2(&self.0, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC)?)
        } else {
            self.0.file().write_at(bytes, offset)
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.file().sync_data()
    }

    fn unit(&self) -> usize {
        self.0.unit()
    }

    fn leave_direct(&mut self) -> io::Result<bool> {
        self.0.leave_direct()
    }
}

/// Opens an existing file for writing in place; gives its length too.
pub(super) fn open_prepared(path: &Path) -> io::Result<(DirectFile, u64)> {
    let file = OpenOptions::new().write(true).open(path)?;
    let len = file.metadata()?.len();
    Ok((DirectFile::new(file)?, len))
}

/// Takes the lock of a file and writes the name of the holder into it.
pub(super) fn take_lock(path: &Path, owner: &str) -> io::Result<File> {
    take_lock_pausing(path, owner, || std::thread::sleep(LOCK_PAUSE))
}

fn take_lock_pausing(path: &Path, owner: &str, mut pause: impl FnMut()) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut tries = 0;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if tries < LOCK_TRIES => {
                tries += 1;
                pause();
            }
            Err(Errno::WOULDBLOCK) => {
                let mut holder = Vec::new();
                (&mut file).take(OWNER_LEN).read_to_end(&mut holder)?;
                return Err(held_by(String::from_utf8_lossy(&holder).trim()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    file.set_len(0)?;
    // The name is a courtesy: a full disk must not keep a store from opening for reading.
    file.write_all(owner.as_bytes()).ok();
    Ok(file)
}

/// Fails where the file system says that it has less room than this.
fn check_space(dir: &Path, len: u64) -> io::Result<()> {
    let space = statvfs(dir)?;
    // File systems that do not count their blocks say that they have none.
    if space.f_blocks > 0 && space.f_bavail.saturating_mul(space.f_frsize) < len {
        return Err(Errno::NOSPC.into());
    }
    Ok(())
}

fn fill_with_zeros(file: &File, len: u64) -> io::Result<()> {
    let mut log = Log::new(SystemCalls(DirectFile::new(file.try_clone()?)?), len);
    let mut zeros = AlignedBuf::zeroed(PIECE_LEN);
    let mut offset = 0;
    while offset < len {
        if let Ok(rest) = usize::try_from(len - offset) {
            zeros.resize(rest.min(PIECE_LEN));
        }
        log.write(offset, &zeros, false)?;
        offset += zeros.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_room_says_so_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        check_space(dir.path(), 0).unwrap();
        if statvfs(dir.path()).unwrap().f_blocks > 0 {
            assert_eq!(check_space(dir.path(), u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn a_lock_is_waited_for_as_long_as_a_dead_holder_may_take_to_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        for (seconds, is_long) in [(4, false), (6, true)] {
            let mut held = Some(Posix.lock(&path, "process 17").unwrap());
            let mut waited = Duration::ZERO;
            let taken = take_lock_pausing(&path, "process 18", || {
                waited += LOCK_PAUSE;
                held.take_if(|_| waited >= Duration::from_secs(seconds));
            });
            assert_eq!(taken.is_err(), is_long, "{seconds} s: {taken:?}");
        }
    }

    #[test]
    fn a_file_that_may_only_be_read_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealed");
        Posix.replace(&path, b"content").unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        assert_eq!(*Posix.read(&path).unwrap(), *b"content");
    }
}
