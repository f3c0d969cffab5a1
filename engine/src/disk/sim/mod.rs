//! A disk in memory that crashes, tears, fills up and fails on request, the same way for the same seed.
//!
//! Every file has a live image (the page cache) and a durable one, every directory live and durable entries. A crash
//! leaves what the promises of [`Disk`] allow and no more: unsynced sectors are kept, lost or torn one by one, also
//! beside synced ones; entries of a directory that was not synced are a prefix or any subset of the changes; a sync
//! that failed drops its pages although reads still see them. Damage beyond that is put there by
//! [`SimDisk::corrupt`].
//!
//! One *life* lasts from the creation or a crash to the next crash. Its operations are numbered from 1, and handles
//! and locks end with it. Paths are taken from the root, whether or not they begin with a slash.

mod image;
mod rng;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::durable::{self, Steps, check_rename};
use super::log::{Attempt, Device, Log};
use super::stream::Stream;
use super::{AlignedBuf, BLOCK, Disk, Entry, FileBytes, Lock, LogFile, NewFile, Region, invalid};
use image::Change;
pub use rng::Rng;
use state::State;

/// Zeros are written in pieces of this many bytes, so that preparation can stop halfway.
const ZERO_LEN: usize = 1 << 20;

static ZEROS: [u8; ZERO_LEN] = [0; ZERO_LEN];

/// Streamed files are written in pieces of this many bytes: small, so that files of tests can stop halfway too.
const PIECE_LEN: usize = 2 * BLOCK;

/// The end of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: the page cache lives on.
    Kill,
    /// The power is cut: the page cache is gone.
    Power,
}

/// The operations that a fault may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of them.
    Any,
    /// Writes.
    Write,
    /// Syncs of files and directories, durable writes among them; not those of [`Disk::read`].
    Sync,
    /// Reads, listings and mappings.
    Read,
    /// Creating, naming, renaming, removing.
    Name,
}

/// Operations that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub target: Target,
    /// Which one of them, 1 being the next.
    pub nth: u64,
    /// How.
    pub errno: i32,
    /// Whether all later ones of this life fail, too.
    pub is_sticky: bool,
}

/// What has come true of what may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Operations that met a fault.
    pub faults: u64,
    /// Writes that were short or interrupted.
    pub short_writes: u64,
    /// Writes that landed after their process was dead.
    pub late_writes: u64,
    /// Pages that a failed sync had left unwritten, and that reads then no longer saw.
    pub ghosts_evicted: u64,
}

/// The error of every operation after the machine has stopped, and of handles from an earlier life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated machine has stopped")]
pub struct Stopped;

impl Stopped {
    /// Whether this is such an error.
    pub fn caused(error: &io::Error) -> bool {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).is_some()
    }

    fn error() -> io::Error {
        io::Error::other(Self)
    }
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk without bounds, whose chance is the seed's.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// How many operations this life has had, those included that were refused because the machine had stopped.
    pub fn ops(&self) -> u64 {
        self.state.lock().ops
    }

    /// Stops the machine at the operation of this number: it happens wholly, in part or not at all, and it and all
    /// later ones of this life fail with [`Stopped`]. None lets the machine run.
    pub fn set_crash_at(&self, op: Option<u64>) {
        self.state.lock().crash_at = op;
    }

    /// Whether an operation has met the stop.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Ends this life and begins the next: locks are released, handles are dead, faults are forgotten, the machine
    /// runs, and files are as they are found after a crash of that kind.
    pub fn crash(&self, kind: Crash) {
        self.state.lock().crash(kind);
    }

    /// Bounds the bytes in all files; writes that need more fail with ENOSPC behind what fits. Removing files makes
    /// room.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Another disk with what is on this one now, whose chance is another seed's: nothing is locked, no fault is due.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().fork(seed))) }
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Lets operations of this life fail, beside those that are to fail already. A write that fails has written some
    /// of its sectors; a file of which a sync fails loses its unsynced pages although [`SimDisk::files`] still shows
    /// them; a directory keeps its changes pending; what is interrupted has done nothing.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Takes back all faults that are still to come.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// Lets something be done that no fault and no stop disturbs, and that counts no operation.
    pub fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        let kept = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.faults), state.crash_at.take(), state.ops)
        };
        let done = work();
        let mut state = self.state.lock();
        (state.faults, state.crash_at, state.ops) = kept;
        done
    }

    /// Whether any fault is still to come.
    pub fn is_faulty(&self) -> bool {
        !self.state.lock().faults.is_empty()
    }

    /// Lets writes be short or interrupted now and then, for good or not.
    pub fn set_short_writes(&self, are_short: bool) {
        self.state.lock().short_writes = are_short;
    }

    /// Lets the write that a killed process had under way land up to the moment when the next one takes the lock.
    pub fn set_late_writes(&self, are_late: bool) {
        self.state.lock().late_writes = are_late;
    }

    /// Lets the sector at an offset of a file be unreadable until it is written. No operation.
    pub fn set_unreadable(&self, path: &Path, offset: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        let node = state.find(path)?;
        state.file(node)?.set_bad(offset);
        Ok(())
    }

    /// What has come true of what may happen, in all lives.
    pub fn seen(&self) -> Seen {
        self.state.lock().seen
    }

    /// A number that tells runs apart: it mixes all operations of all lives.
    pub fn trace(&self) -> u64 {
        self.state.lock().trace
    }

    /// Fails one write with EIO, 1 being the next: some of its sectors are written. None takes that back.
    pub fn fail_write(&self, nth: Option<u64>) {
        self.fail_one(Target::Write, nth);
    }

    fn fail_one(&self, target: Target, nth: Option<u64>) {
        let mut state = self.state.lock();
        state.faults.retain(|fault| fault.target != target);
        state.faults.extend(nth.map(|nth| Fault { target, nth, errno: libc::EIO, is_sticky: false }));
    }

    /// Fails one sync with EIO, 1 being the next; durable writes and syncs of directories are counted too, those of
    /// [`Disk::read`] are not. A file loses its unsynced pages although [`SimDisk::files`] still shows them; a
    /// directory keeps its changes pending. None takes that back.
    pub fn fail_sync(&self, nth: Option<u64>) {
        self.fail_one(Target::Sync, nth);
    }

    /// Changes the bytes of a file behind everyone's back, on the device too. No operation; it works when stopped.
    pub fn corrupt(&self, path: &Path, damage: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.state.lock();
        let node = state.find(path)?;
        state.file(node)?.corrupt(damage);
        Ok(())
    }

    /// All files as reads through the page cache see them, by absolute path. No operation; it works when stopped.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.state.lock().files()
    }

    fn open(&self, path: &Path) -> io::Result<(SimFile, u64)> {
        self.state.lock().step(Target::Name, |state| {
            let node = state.find(path)?;
            let len = state.file(node)?.len() as u64;
            Ok((SimFile { disk: self.clone(), node, life: state.life }, len))
        })
    }

    fn fill(&self, path: &Path, fill: impl FnOnce(&mut SimFile) -> io::Result<()>) -> io::Result<()> {
        durable::replace_with(self, path, fill)
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        durable::create_dir_all(self, dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.state.lock().step(Target::Read, |state| state.list(dir))
    }

    fn read_prefix(&self, path: &Path, len: usize) -> io::Result<FileBytes> {
        self.state.lock().step(Target::Read, |state| state.read(path, len))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.fill(path, |file| file.write_all(0, content))
    }

    fn prepare(&self, path: &Path, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(BLOCK as u64) {
            return Err(invalid("a prepared file has whole blocks"));
        }
        if self.state.lock().room() < len {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.fill(path, |file| {
            let mut offset = 0;
            while offset < len {
                let piece = usize::try_from(len - offset).map_or(ZERO_LEN, |rest| rest.min(ZERO_LEN));
                file.write_all(offset, &ZEROS[..piece])?;
                offset += piece as u64;
            }
            Ok(())
        })
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let (file, len) = self.open(path)?;
        Ok(Box::new(Log::new(file, len)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let stream = Stream::create(self, path, PIECE_LEN, |temporary| Ok(self.open(temporary)?.0))?;
        Ok(Box::new(stream))
    }

    fn map(&self, path: &Path) -> io::Result<Region> {
        self.state.lock().step(Target::Read, |state| state.map(path))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.state.lock().step(Target::Name, |state| {
            let (dir, name) = state.find_parent(path)?;
            let node = state.find(path)?;
            state.file(node)?;
            state.change(dir, Change::Unlink { name, node })
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        check_rename(from, to)?;
        self.state.lock().step(Target::Name, |state| {
            let node = state.find(from)?;
            if let Ok(taken) = state.find(to) {
                // Only files are replaced, and only by files.
                state.file(taken)?;
                state.file(node)?;
            }
            let (dir, from) = state.find_parent(from)?;
            let (_, to) = state.find_parent(to)?;
            state.change(dir, Change::Rename { from, to, node })
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state.lock().step(Target::Sync, |state| state.sync_dir(dir))
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn Lock>> {
        let ticket = self.state.lock().step(Target::Name, |state| state.lock(path, owner))?;
        Ok(Box::new(SimLock { disk: self.clone(), ticket }))
    }

    fn name(&self) -> &'static str {
        "simulated"
    }
}

impl Steps for SimDisk {
    type File = SimFile;

    fn create_file(&self, path: &Path) -> io::Result<SimFile> {
        self.state.lock().step(Target::Name, |state| {
            let node = state.create(path)?;
            Ok(SimFile { disk: self.clone(), node, life: state.life })
        })
    }

    fn sync_file(&self, file: &mut SimFile) -> io::Result<()> {
        file.sync()
    }

    fn discard(&self, path: &Path, file: &SimFile) -> io::Result<()> {
        // What a dead process leaves behind may be a new life's by now.
        self.state.lock().check_life(file.life)?;
        self.unlink(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.state.lock().step(Target::Name, |state| state.create_dir(dir))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.state.lock().find(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Debug for SimDisk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

/// An open file of one life.
#[derive(Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    node: u64,
    life: u64,
}

impl SimFile {
    /// For tests that put something between the file and its log.
    #[cfg(test)]
    pub(super) fn open(disk: &SimDisk, path: &Path) -> io::Result<(Self, u64)> {
        disk.open(path)
    }

    fn write_all(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        super::log::write_all(offset, bytes, 1, |at, rest| self.write_some(at, rest, false))
    }
}

/// A write that is under way: some of its sectors have landed, the others do when it is waited for. A killed process
/// leaves it as it is.
#[derive(Debug)]
struct SimWrite {
    file: SimFile,
    offset: u64,
    blocks: AlignedBuf,
}

impl Attempt for SimWrite {
    fn finish(mut self: Box<Self>) -> (AlignedBuf, io::Result<usize>) {
        let written = self.file.write_some(self.offset, self.blocks.as_bytes(), true);
        (self.blocks, written)
    }
}

impl Device for SimFile {
    fn begin(&mut self, offset: u64, blocks: AlignedBuf) -> Result<Box<dyn Attempt>, AlignedBuf> {
        let begun = {
            let mut state = self.disk.state.lock();
            state.check_life(self.life).and_then(|()| state.begin_write(self.node, offset, blocks.as_bytes()))
        };
        match begun {
            Ok(()) => {
                let file = SimFile { disk: self.disk.clone(), ..*self };
                Ok(Box::new(SimWrite { file, offset, blocks }))
            }
            // A write that waits tells why.
            Err(_) => Err(blocks),
        }
    }

    fn write_some(&mut self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        state.check_life(self.life)?;
        state.write(self.node, offset, bytes, durable)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.check_life(self.life)?;
        state.step(Target::Sync, |state| state.sync_file(self.node))
    }
}

/// A held lock of one life.
#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    ticket: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state.lock().unlock(self.ticket);
    }
}
