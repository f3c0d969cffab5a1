//! The disk by `io_uring`: log files are written and synced through one ring, everything else is [`Posix`].
//!
//! Owns the ring, and the table of files registered with it, which holds the locks: the kernel keeps a registered
//! file open until the ring is torn down behind its last operation, so a killed process lets go of its lock only
//! after its last write has landed.
//!
//! # Why the `unsafe` here is sound
//!
//! The kernel reads the memory that an operation names, at any time between its submission and its completion; the
//! descriptor it takes at the submission. The ring is used under one mutex and in one way: [`RingState::submit`] pushes
//! an operation under a number of its own and hands it to the kernel, [`RingState::wait`] returns with the completion
//! of that number. Whoever submits keeps the memory until `wait` has returned:
//!
//! * [`Ring::complete`] does both within one call, for memory that its caller has borrowed.
//! * [`RingWrite`] owns its buffer and gives it away only behind `wait`; dropping it waits too. Where it is leaked, so
//!   is the buffer.
//!
//! So it remains to show what the two promise:
//!
//! * `wait` returns only with the completion in hand, and numbers are not used twice. Completions of others that come
//!   meanwhile are kept for them.
//! * `submit` returns an error only while the operation lies in the submission queue unread. It then waits for all
//!   others without handing the queue to the kernel, and drops the ring: nobody can hand it over any more. Later calls
//!   find no ring and fail; what was under way before is found complete.
//! * Neither unwinds between push and completion: there is no indexing, no formatting, and no call of foreign code
//!   beyond the system calls, none of which panics; the memory for completions that are kept is reserved before the push.
#![expect(unsafe_code, reason = "the kernel reads memory that the borrow checker does not see it read")]

use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, Probe, opcode, squeue};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use super::direct::DirectFile;
use super::log::{Attempt, Device, Log};
use super::posix::{open_prepared, take_lock};
use super::{AlignedBuf, Disk, Entry, FileBytes, Lock, LogFile, NewFile, Posix, Region};

/// Room in the submission queue. Operations are submitted one by one, and need one; the queue of completions is twice as
/// long.
const RING_ENTRIES: u32 = 32;

/// Operations that are under way at a time at most: as many as the queue of completions has room for.
const UNDER_WAY_MAX: usize = 64;

/// Room for registered locks: stores that are open at once in one process.
const LOCK_SLOTS: usize = 8;

/// An empty place in the table of registered files.
const HOLE: i32 = -1;

/// The most that one write moves, in bytes: what the kernel cuts a write to, in whole pages.
const WRITE_LEN_MAX: usize = 0x7fff_f000;

/// A kernel short of memory is asked again this often, this far apart.
const SUBMIT_TRIES: u32 = 100;
const SUBMIT_PAUSE: Duration = Duration::from_millis(1);

/// The disk of the operating system, with log files written through `io_uring`.
#[derive(Debug)]
pub struct Uring {
    ring: Arc<Ring>,
    notes: Mutex<Vec<String>>,
}

impl Uring {
    /// Sets the ring up and sends one empty operation through it. An error where the system refuses any of that, or
    /// does not know the operations we need.
    pub fn new() -> io::Result<Self> {
        let io = IoUring::new(RING_ENTRIES)?;
        let mut known = Probe::new();
        io.submitter().register_probe(&mut known)?;
        if ![opcode::Nop::CODE, opcode::Write::CODE, opcode::Fsync::CODE].iter().all(|&code| known.is_supported(code)) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel's ring knows no plain writes"));
        }
        let state = RingState { io: Some(io), next: 0, under_way: 0, ended: Vec::new(), slots: Vec::new() };
        let ring = Ring { state: Mutex::new(state) };
        ring.nop()?;
        let disk = Self { ring: Arc::new(ring), notes: Mutex::default() };
        if let Err(refusal) = disk.ring.register_table() {
            disk.note_refusal(&refusal);
        }
        Ok(disk)
    }

    /// Said once: without a table every lock is refused a place.
    fn note_refusal(&self, refusal: &io::Error) {
        let mut notes = self.notes.lock();
        if notes.is_empty() {
            notes.push(format!(
                "io_uring took no registered files ({refusal}), after a kill the lock may be free before the last \
                 write has landed: look at RLIMIT_MEMLOCK and RLIMIT_NOFILE"
            ));
        }
    }
}

impl Disk for Uring {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        Posix.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        Posix.list(dir)
    }

    fn read_prefix(&self, path: &Path, len: usize) -> io::Result<FileBytes> {
        Posix.read_prefix(path, len)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        Posix.replace(path, content)
    }

    fn prepare(&self, path: &Path, len: u64) -> io::Result<()> {
        Posix.prepare(path, len)
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let (file, len) = open_prepared(path)?;
        Ok(Box::new(Log::new(RingFile { file, ring: Arc::clone(&self.ring) }, len)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Posix.create(path)
    }

    fn map(&self, path: &Path) -> io::Result<Region> {
        Posix.map(path)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        Posix.unlink(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Posix.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Posix.sync_dir(dir)
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn Lock>> {
        let file = take_lock(path, owner)?;
        let slot = match self.ring.register(&file) {
            Ok(slot) => Some(slot),
            Err(refusal) => {
                self.note_refusal(&refusal);
                None
            }
        };
        Ok(Box::new(RingLock { file, slot, ring: Arc::clone(&self.ring) }))
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn notes(&self) -> Vec<String> {
        [self.notes.lock().clone(), Posix.notes()].concat()
    }
}

/// A lock that the ring's table keeps beside the descriptor.
#[derive(Debug)]
struct RingLock {
    file: File,
    slot: Option<usize>,
    ring: Arc<Ring>,
}

impl Lock for RingLock {}

impl Drop for RingLock {
    fn drop(&mut self) {
        self.ring.unregister(self.slot);
        // The kernel may be late in letting go of a registered file; the lock must not wait for that. Where this
        // fails, closing the descriptor releases the lock.
        flock(&self.file, FlockOperation::Unlock).ok();
    }
}

/// Single attempts through the ring.
#[derive(Debug)]
struct RingFile {
    file: DirectFile,
    ring: Arc<Ring>,
}

impl Device for RingFile {
    fn write_some(&mut self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        self.ring.write(self.file.as_fd(), offset, bytes, durable)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.ring.sync(self.file.as_fd())
    }

    fn unit(&self) -> usize {
        self.file.unit()
    }

    fn leave_direct(&mut self) -> io::Result<bool> {
        self.file.leave_direct()
    }

    fn begin(&mut self, offset: u64, blocks: AlignedBuf) -> Result<Box<dyn Attempt>, AlignedBuf> {
        if blocks.len() > WRITE_LEN_MAX {
            return Err(blocks);
        }
        let entry = write_entry(self.file.as_fd(), offset, blocks.as_bytes(), true);
        // SAFETY: the write owns the buffer from here on, and keeps it until `wait` has returned; where there is no
        // number, the kernel has not seen the entry.
        match unsafe { self.ring.state.lock().submit(entry) } {
            Ok(number) => Ok(Box::new(RingWrite { blocks, number: Some(number), ring: Arc::clone(&self.ring) })),
            // A write that waits tells why.
            Err(_) => Err(blocks),
        }
    }
}

/// A write that is under way.
#[derive(Debug)]
struct RingWrite {
    // INVARIANT: neither moved out nor changed while there is a number: the kernel reads it.
    blocks: AlignedBuf,
    /// None once it has ended.
    number: Option<u64>,
    ring: Arc<Ring>,
}

impl RingWrite {
    fn end(&mut self) -> io::Result<usize> {
        let Some(number) = self.number else { return Err(io::Error::other("the write has ended before")) };
        let result = self.ring.state.lock().wait(number);
        self.number = None;
        result.map(|count| usize::try_from(count).expect("a count of bytes that are in memory"))
    }
}

impl Attempt for RingWrite {
    fn finish(mut self: Box<Self>) -> (AlignedBuf, io::Result<usize>) {
        let result = self.end();
        (std::mem::take(&mut self.blocks), result)
    }
}

impl Drop for RingWrite {
    fn drop(&mut self) {
        if self.number.is_some() {
            // Nobody asks any more how it ended.
            self.end().ok();
        }
    }
}

/// A write of the bytes, or of as many as one operation takes.
fn write_entry(file: BorrowedFd<'_>, offset: u64, bytes: &[u8], durable: bool) -> squeue::Entry {
    let len = u32::try_from(bytes.len().min(WRITE_LEN_MAX)).expect("the maximum is below 2^31");
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), len).offset(offset).rw_flags(flags).build()
}

/// The ring.
struct Ring {
    state: Mutex<RingState>,
}

struct RingState {
    /// Gone after an operation could not be submitted.
    // INVARIANT: between calls its submission queue is empty.
    io: Option<IoUring>,
    /// The number of the next operation.
    next: u64,
    /// Operations that the kernel has and whose completions were not taken out of the ring.
    // INVARIANT: 0 where there is no ring.
    under_way: usize,
    /// Completions that nobody has asked for yet: number and result.
    ended: Vec<(u64, i32)>,
    /// Which places of the table of registered files are taken; empty if there is no table.
    slots: Vec<bool>,
}

impl Ring {
    fn nop(&self) -> io::Result<()> {
        // SAFETY: the operation names no memory and no file.
        unsafe { self.complete(opcode::Nop::new().build()) }.map(drop)
    }

    fn write(&self, file: BorrowedFd<'_>, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        let entry = write_entry(file, offset, bytes, durable);
        // SAFETY: the entry names these bytes or fewer, which are borrowed until the call returns; so is the file.
        let count = unsafe { self.complete(entry) }?;
        Ok(usize::try_from(count).expect("a count of bytes that are in memory"))
    }

    fn sync(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let entry = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC);
        // SAFETY: the operation names no memory, and the file is borrowed until the call returns.
        unsafe { self.complete(entry.build()) }.map(drop)
    }

    /// Runs one operation to its end and gives its result; a negative one is the error of that number.
    ///
    /// # Safety
    /// The memory and the descriptor that the entry names stay valid until this returns.
    unsafe fn complete(&self, entry: squeue::Entry) -> io::Result<u32> {
        let mut state = self.state.lock();
        // SAFETY: the caller keeps what the entry names until we return, which is behind `wait`, or where the kernel
        // has not seen it.
        let number = unsafe { state.submit(entry) }?;
        state.wait(number)
    }

    /// Makes room for registered files.
    fn register_table(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let Some(io) = &state.io else { return Err(io::ErrorKind::NotConnected.into()) };
        io.submitter().register_files(&[HOLE; LOCK_SLOTS])?;
        state.slots = vec![false; LOCK_SLOTS];
        Ok(())
    }

    /// Puts a file into a free place of the table.
    fn register(&self, file: &File) -> io::Result<usize> {
        let mut state = self.state.lock();
        let RingState { io: Some(io), slots, .. } = &mut *state else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let Some((slot, taken)) = slots.iter_mut().enumerate().find(|(_, taken)| !**taken) else {
            return Err(io::Error::other("no place in the table"));
        };
        update(io, slot, file.as_raw_fd())?;
        *taken = true;
        Ok(slot)
    }

    /// Waits for the operation in flight, then takes a file out of the table. Where the kernel refuses, the place
    /// stays taken.
    fn unregister(&self, slot: Option<usize>) {
        let mut state = self.state.lock();
        let (RingState { io: Some(io), slots, .. }, Some(slot)) = (&mut *state, slot) else { return };
        if update(io, slot, HOLE).is_ok()
            && let Some(taken) = slots.get_mut(slot)
        {
            *taken = false;
        }
    }
}

impl RingState {
    /// Hands one operation to the kernel; its number is for [`RingState::wait`]. Where this is an error, the kernel never
    /// sees the operation.
    ///
    /// # Safety
    /// The memory that the entry names stays valid until `wait` has returned with this number.
    unsafe fn submit(&mut self, entry: squeue::Entry) -> io::Result<u64> {
        let Some(io) = self.io.as_mut() else {
            return Err(io::Error::other("the ring was given up after an operation that could not be submitted"));
        };
        if self.under_way >= UNDER_WAY_MAX {
            return Err(io::Error::other("the ring is full"));
        }
        self.ended.reserve(self.under_way + 1);
        let number = self.next;
        let entry = entry.user_data(number);
        // SAFETY: the caller keeps what the entry names until it has waited, or for ever, and where we return an error
        // the ring is gone with the entry unread (module documentation).
        let pushed = unsafe { io.submission().push(&entry) };
        if pushed.is_err() {
            return Err(io::Error::other("the ring is full"));
        }
        let mut refusals = 0;
        loop {
            match io.submit() {
                _ if io.submission().is_empty() => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if !is_passing(&error) || refusals >= SUBMIT_TRIES => {
                    self.give_up();
                    return Err(error);
                }
                _ => {
                    refusals += 1;
                    if refusals > SUBMIT_TRIES {
                        self.give_up();
                        return Err(io::Error::other("the kernel takes no operation"));
                    }
                    std::thread::sleep(SUBMIT_PAUSE);
                }
            }
        }
        self.next += 1;
        self.under_way += 1;
        Ok(number)
    }

    /// Waits for the end of an operation and gives its result; a negative one is the error of that number. Each number
    /// is waited for once.
    fn wait(&mut self, number: u64) -> io::Result<u32> {
        loop {
            self.collect();
            if let Some(at) = self.ended.iter().position(|&(ended, _)| ended == number) {
                let (_, result) = self.ended.swap_remove(at);
                let failed = |_| io::Error::from_raw_os_error(result.saturating_neg());
                return u32::try_from(result).map_err(failed);
            }
            // There is a ring while something is under way.
            let entered = self.io.as_ref().map(|io| io.submit_and_wait(1));
            match entered {
                Some(Ok(_)) => {}
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel has the operation: there is no way out but its completion, whatever the wait says.
                _ => std::thread::sleep(SUBMIT_PAUSE),
            }
        }
    }

    /// Takes the completions out of the ring.
    fn collect(&mut self) {
        let Some(io) = self.io.as_mut() else { return };
        for completion in io.completion() {
            // Room was reserved for it.
            self.ended.push((completion.user_data(), completion.result()));
            self.under_way -= 1;
        }
    }

    /// Lets everything that is under way end, and drops the ring with what lies unread in its queue.
    fn give_up(&mut self) {
        self.collect();
        while self.under_way > 0 {
            // Waiting in the kernel would hand it the queue.
            std::thread::sleep(SUBMIT_PAUSE);
            self.collect();
        }
        self.io = None;
    }
}

impl Debug for Ring {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// Whether a refusal to submit is for want of something that comes back.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM))
}

fn update(io: &IoUring, slot: usize, fd: i32) -> io::Result<()> {
    let slot = u32::try_from(slot).expect("the table is small");
    io.submitter().register_files_update(slot, &[fd]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    /// None where the system has no rings for us, or half ones.
    fn disk() -> Option<Uring> {
        Uring::new().ok().filter(|disk| disk.notes().is_empty())
    }

    #[test]
    fn a_refused_table_is_noted_and_the_lock_is_taken_all_the_same() {
        let Some(disk) = disk() else { return };
        let dir = tempfile::tempdir().unwrap();
        // A ring has one table.
        assert_eq!(disk.ring.register_table().unwrap_err().raw_os_error(), Some(libc::EBUSY));
        disk.ring.state.lock().slots.clear();
        let lock = disk.lock(&dir.path().join("LOCK"), "first").unwrap();
        assert!(disk.notes()[0].contains("RLIMIT_MEMLOCK"), "{:?}", disk.notes());
        disk.lock(&dir.path().join("LOCK"), "second").unwrap_err();
        drop(lock);
        disk.lock(&dir.path().join("LOCK"), "second").unwrap();
    }

    #[test]
    fn a_lock_outlives_its_descriptor_while_it_is_registered() {
        let Some(disk) = disk() else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let file = take_lock(&path, "killed").unwrap();
        let slot = disk.ring.register(&file).unwrap();
        drop(file);
        let error = take_lock(&path, "next").unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::WouldBlock, "held by killed"));
        disk.ring.unregister(Some(slot));
        drop(take_lock(&path, "next").unwrap());
    }

    #[test]
    fn places_in_the_table_are_given_back() {
        let Some(disk) = disk() else { return };
        let dir = tempfile::tempdir().unwrap();
        for turn in 0..3 * LOCK_SLOTS {
            drop(disk.lock(&dir.path().join("LOCK"), &turn.to_string()).unwrap());
        }
        assert_eq!(disk.notes(), Vec::<String>::new());
    }

    #[test]
    fn an_error_of_the_kernel_is_the_error_of_the_call_and_the_ring_goes_on() {
        let Some(disk) = disk() else { return };
        let (read_end, write_end) = io::pipe().unwrap();
        let (read_end, write_end): (OwnedFd, OwnedFd) = (read_end.into(), write_end.into());
        let refused = disk.ring.write(read_end.as_fd(), 0, b"x", false).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
        assert_eq!(disk.ring.sync(write_end.as_fd()).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(disk.ring.write(write_end.as_fd(), u64::MAX, b"xyz", false).unwrap(), 3);
        disk.ring.nop().unwrap();
    }

    #[test]
    fn a_ring_that_was_given_up_refuses_and_does_not_panic() {
        let Some(disk) = disk() else { return };
        let dir = tempfile::tempdir().unwrap();
        let lock = disk.lock(&dir.path().join("LOCK"), "first").unwrap();
        disk.ring.state.lock().io = None;
        disk.ring.nop().unwrap_err();
        drop(lock);
        drop(disk.lock(&dir.path().join("LOCK"), "second").unwrap());
        assert_eq!(disk.notes().len(), 1);
    }

    #[test]
    fn many_threads_share_the_ring() {
        let Some(disk) = disk() else { return };
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for id in 1..=4u8 {
                let (disk, path) = (&disk, dir.path().join(id.to_string()));
                scope.spawn(move || {
                    disk.prepare(&path, 4 * 4096).unwrap();
                    let mut log = disk.open_log(&path).unwrap();
                    let mut block = super::super::AlignedBuf::zeroed(4096);
                    block.as_bytes_mut().fill(id);
                    for offset in [0, 4096, 8192, 12288] {
                        log.write(offset, &block, offset % 8192 == 0).unwrap();
                    }
                    log.sync().unwrap();
                    assert!(disk.read(&path).unwrap().iter().all(|&byte| byte == id));
                });
            }
        });
    }
}
