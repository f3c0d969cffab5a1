//! The disk as the store sees it: one small trait, and the implementations behind it.
//!
//! Everything that reaches a device goes through here, so that the rules of durability stand in one place: a new
//! file appears complete or not at all, a directory is synced before anyone relies on its entries, and what recovery
//! reads is what the device has, not what the page cache remembers.

mod buf;
#[cfg(test)]
mod conformance;
mod direct;
mod durable;
mod log;
mod map;
mod posix;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod stream;
mod uring;

pub use buf::{AlignedBuf, BLOCK, FileBytes};
pub use map::Region;
pub use posix::Posix;
pub use uring::Uring;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name without the directory; names that are not UTF-8 are given with replacement characters.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// What the store needs of a disk. Errors are the operating system's; the caller adds operation and path.
pub trait Disk: Debug + Send + Sync {
    /// Creates a directory and those above it, durably: every directory that gains an entry is synced.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// The whole content of a file as the device has it: syncs, drops the cached pages, then reads.
    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        self.read_prefix(path, usize::MAX)
    }

    /// The first `len` bytes of a file as the device has them, or all where it is shorter.
    fn read_prefix(&self, path: &Path, len: usize) -> io::Result<FileBytes>;

    /// Puts a file with this content in place of whatever has that name, atomically and durably: a temporary name,
    /// write, sync, rename, sync of the directory.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Creates a file of `len` zero bytes, written and synced as [`Disk::replace`] does, so that later writes
    /// into it change no metadata. `len` is a multiple of [`BLOCK`].
    fn prepare(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Opens an existing prepared file for writing in place.
    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;

    /// Begins a new file that is written front to back under a temporary name; it appears when it is finished.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Maps a finished file that never changes. Reading goes through [`Region::touch`] first.
    fn map(&self, path: &Path) -> io::Result<Region>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Renames within one directory. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock file, creating it if needed, and writes `owner` into it. Fails with
    /// [`io::ErrorKind::WouldBlock`] where another holder lives; the error's text then names what it wrote.
    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn Lock>>;

    /// The name of the implementation, for logs and metrics: `io_uring`, `posix`, `simulated`.
    fn name(&self) -> &'static str;

    /// What the operator should know of this disk so far, a sentence each, for the log: what the system refused and
    /// what is done instead. Nothing is taken away by asking.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A log file that is written in place, in whole blocks.
pub trait LogFile: Debug + Send {
    /// Writes whole blocks at a block boundary within the prepared length. With `durable` the bytes are on the
    /// device when this returns. The whole buffer is written or an error is returned: short writes are resubmitted,
    /// a write of no bytes is an error.
    fn write(&mut self, offset: u64, blocks: &AlignedBuf, durable: bool) -> io::Result<()>;

    /// Makes all earlier writes durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Begins a durable write of whole blocks, as [`LogFile::write`] does one. It goes on beside the caller where the
    /// implementation can do that, else [`LogFile::finish`] does it. Writes that are under way at one time may land in
    /// any order.
    fn begin(&mut self, offset: u64, blocks: AlignedBuf) -> io::Result<()>;

    /// Waits for the end of the oldest write that was begun, and gives its buffer back.
    fn finish(&mut self) -> io::Result<AlignedBuf>;
}

/// A file in the making. Dropping it removes the temporary file.
pub trait NewFile: Debug + Send {
    /// Appends bytes. They are gathered and written in pieces, one at a time; the caller paces the pieces. After an
    /// error the file is gone, and every later call is an error.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes `head` over the first bytes, which were appended before, syncs the file, puts it in place of whatever
    /// has its name, and syncs the directory. An error leaves no temporary file behind.
    fn finish(self: Box<Self>, head: &[u8]) -> io::Result<()>;
}

/// A held lock; dropping it releases it, after the last write in flight has ended.
pub trait Lock: Debug + Send + Sync {}

/// Which implementation to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoKind {
    /// `io_uring`, or `posix` where that is refused.
    #[default]
    Auto,
    /// `io_uring`, or an error.
    IoUring,
    /// Plain system calls.
    Posix,
}

/// Opens the disk of the operating system, with a note for the log where it is not the first choice.
pub fn open(kind: IoKind) -> io::Result<(Arc<dyn Disk>, Option<String>)> {
    choose(kind, || Ok(Arc::new(Uring::new()?)))
}

fn choose(
    kind: IoKind,
    uring: impl FnOnce() -> io::Result<Arc<dyn Disk>>,
) -> io::Result<(Arc<dyn Disk>, Option<String>)> {
    const LOOK_AT: &str = "look at kernel.io_uring_disabled and at the seccomp profile of the container";
    if kind == IoKind::Posix {
        return Ok((Arc::new(Posix), None));
    }
    match uring() {
        Ok(disk) => Ok((disk, None)),
        Err(refusal) if kind == IoKind::Auto => {
            Ok((Arc::new(Posix), Some(format!("io_uring refused ({refusal}), posix is used: {LOOK_AT}"))))
        }
        Err(refusal) => Err(io::Error::new(refusal.kind(), format!("io_uring refused ({refusal}): {LOOK_AT}"))),
    }
}

/// The error of a lock that another holder has, who wrote `owner` into the file.
fn held_by(owner: &str) -> io::Error {
    let owner = if owner.is_empty() { "a holder that left no name" } else { owner };
    io::Error::new(io::ErrorKind::WouldBlock, format!("held by {owner}"))
}

/// The error of a call that breaks the contract of the trait.
fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> io::Result<Arc<dyn Disk>> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    #[test]
    fn a_refused_ring_falls_back_with_a_note_that_says_where_to_look() {
        let (disk, note) = choose(IoKind::Auto, refused).unwrap();
        let note = note.unwrap();
        assert_eq!(disk.name(), "posix");
        assert!(note.contains("kernel.io_uring_disabled") && note.contains("seccomp"), "{note}");
    }

    #[test]
    fn a_ring_that_was_asked_for_by_name_is_not_replaced() {
        let error = choose(IoKind::IoUring, refused).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("kernel.io_uring_disabled"), "{error}");
    }

    #[test]
    fn posix_never_asks_for_a_ring() {
        let (disk, note) = choose(IoKind::Posix, || panic!("asked")).unwrap();
        assert_eq!((disk.name(), note), ("posix", None));
    }
}
