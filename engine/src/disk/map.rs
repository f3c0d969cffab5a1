//! Finished files as memory, and what happens when a page of them cannot be read.
//!
//! Owns the mappings, the table in which the signal handler finds them, and the process's SIGBUS handler. A [`Region`]
//! promises that reading it never ends the process: [`Region::touch`] gives an error where a load would fault, and a
//! load that faults all the same reads zeros and poisons its mapping for good. So a reader touches what it is about to
//! read, verifies the checksum of what it touched first, and asks [`Region::is_poisoned`] before it lets a result out.
//!
//! # Why the `unsafe` here is sound
//!
//! **The bytes.** A mapping is a shared slice of memory that the kernel fills from a file. Only finished files are
//! mapped: they got their name behind their last write and sync, nothing of ours writes or shortens them afterwards, and
//! what takes their name or unlinks them leaves the mapped file as it is. The lock of the data directory keeps a second
//! store away. The length is taken once, when the file is opened, and the slice never ends elsewhere. What is left is
//! somebody else who writes into our files, and a device that fails. Then bytes change that the compiler was told do not:
//! readers see other numbers, which checksums and the poison flag are there for, and nothing worse follows, for every bit
//! pattern is a valid byte, and no length or offset read from a mapping is used before it is checked in a copy.
//!
//! **The faults.** A page that cannot be loaded (a device error, or a file that somebody made shorter) raises SIGBUS in
//! the thread that reads it. That thread borrows the mapping, so the mapping is in the table, cannot leave it, and no
//! other can overlap it. The handler finds it, sets its poison flag and puts a page of zeros in place of the one that
//! failed: within the mapping, which nobody else may write or unmap, and which is unmapped as a whole later. The load is
//! then run again by the return from the handler. Every other SIGBUS goes to the handler that was there before ours.
//!
//! **The handler** may run between any two instructions of any thread. It takes no lock, allocates nothing, panics
//! nowhere, reads and writes atomics, and makes one system call, which leaves `errno` as it was when it succeeds.
#![expect(unsafe_code, reason = "mapped memory and a signal handler")]

mod table;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use libc::{c_int, c_void, siginfo_t};
use memmap2::{Advice, Mmap, MmapOptions};
use parking_lot::Mutex;

use super::{FileBytes, invalid};
use table::{Slot, Table};

/// How many files are mapped at once, which is about what Linux lets a process have. A store has some hundred, one with years
/// of days, or a host with as many checkpoints, has thousands. What is never used takes no memory.
const SLOTS: usize = 65_536;

static TABLE: Table<SLOTS> = Table::new();

/// Set once the kernel has refused to load mapped pages ahead: Linux before 5.14, and some sandboxes.
static NO_POPULATE: AtomicBool = AtomicBool::new(false);

/// The content of a finished file, mapped or copied. Clones are the same memory, which goes with the last of them.
#[derive(Clone, Debug)]
pub struct Region {
    bytes: Arc<Bytes>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mapping),
    Copied(FileBytes),
    /// Simulated: a load of these bytes would fault.
    #[cfg(any(test, feature = "sim"))]
    Faulty(FileBytes, Range<usize>),
}

impl Region {
    /// A copy of these bytes, aligned as a mapping is.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self { bytes: Arc::new(Bytes::Copied(FileBytes::copy_of(bytes))) }
    }

    /// These bytes, of which some cannot be loaded: only [`Region::touch`] tells.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn simulated(bytes: FileBytes, bad: Option<Range<usize>>) -> Self {
        let bytes = match bad {
            Some(bad) => Bytes::Faulty(bytes, bad),
            None => Bytes::Copied(bytes),
        };
        Self { bytes: Arc::new(bytes) }
    }

    /// Maps a finished file. An empty one has nothing to map; Miri maps no files and reads them.
    pub(super) fn of(mut file: File) -> io::Result<Self> {
        let known = file.metadata()?;
        if known.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let len = usize::try_from(known.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len > 0 && !cfg!(miri) {
            return Ok(Self { bytes: Arc::new(Bytes::Mapped(Mapping::new(&file, len)?)) });
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(Self::copy_of(&content))
    }

    /// Loads these bytes, so that reading them does not fault unless the kernel takes them back in between. An error
    /// where a load would fault, where the mapping is poisoned, and for a range outside of it. Where the kernel does
    /// not load ahead this does nothing, and [`Region::is_poisoned`] alone tells; the notes of the disk then say so.
    pub fn touch(&self, range: Range<usize>) -> io::Result<()> {
        if range.start > range.end || range.end > self.len() {
            return Err(invalid("a range ends within its region"));
        }
        #[cfg(any(test, feature = "sim"))]
        if let Bytes::Faulty(_, bad) = &*self.bytes
            && range.start < bad.end
            && bad.start < range.end
        {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let Bytes::Mapped(mapping) = &*self.bytes else { return Ok(()) };
        if mapping.slot.is_poisoned() {
            return Err(io::Error::other("a page of the mapping could not be read earlier"));
        }
        while !range.is_empty() && !NO_POPULATE.load(Ordering::Relaxed) {
            let Err(error) = mapping.map.advise_range(Advice::PopulateRead, range.start, range.len()) else { break };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EINVAL | libc::ENOSYS) => NO_POPULATE.store(true, Ordering::Relaxed),
                Some(libc::EFAULT | libc::EHWPOISON) => {
                    let what = "a page of the mapping cannot be read: the device fails, or the file was made shorter";
                    return Err(io::Error::other(what));
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the kernel that these bytes are read soon. A range outside of the region, or a kernel that does not care,
    /// is none of the reader's concern.
    pub fn will_need(&self, range: Range<usize>) {
        if let Bytes::Mapped(mapping) = &*self.bytes
            && range.start < range.end
            && range.end <= self.len()
        {
            mapping.map.advise_range(Advice::WillNeed, range.start, range.len()).ok();
        }
    }

    /// Whether a load has read zeros in place of what the file has. Then nothing that was computed from this memory
    /// can be relied on. Never taken back.
    pub fn is_poisoned(&self) -> bool {
        match &*self.bytes {
            Bytes::Mapped(mapping) => mapping.slot.is_poisoned(),
            Bytes::Copied(_) => false,
            #[cfg(any(test, feature = "sim"))]
            Bytes::Faulty(..) => false,
        }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.bytes {
            Bytes::Mapped(mapping) => &mapping.map,
            Bytes::Copied(bytes) => bytes,
            #[cfg(any(test, feature = "sim"))]
            Bytes::Faulty(bytes, _) => bytes,
        }
    }
}

/// What the operator should know of mapping on this system.
pub(super) fn notes() -> Vec<String> {
    let note = "the kernel does not load mapped pages ahead (MADV_POPULATE_READ, Linux 5.14), a page that cannot be \
                read is noticed only when it is used";
    if NO_POPULATE.load(Ordering::Relaxed) { vec![note.to_owned()] } else { Vec::new() }
}

/// A mapping of a whole file, in the table for as long as it lives.
#[derive(Debug)]
struct Mapping {
    map: Mmap,
    slot: &'static Slot,
}

impl Mapping {
    fn new(file: &File, len: usize) -> io::Result<Self> {
        handle_bus_errors()?;
        // SAFETY: the file is finished: nobody of ours writes or shortens it any more (module documentation).
        let map = unsafe { MmapOptions::new().len(len).map(file) }?;
        let Some(slot) = TABLE.enter(map.as_ptr().addr(), len) else {
            return Err(io::Error::other(format!("{SLOTS} files are mapped, and the table has no place for more")));
        };
        Ok(Self { map, slot })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before the memory goes: a fault at an address that is somebody else's by then must not be taken for ours.
        self.slot.leave();
    }
}

/// What the handler needs to know, and finds before it can run.
struct Before {
    /// The handler that was there before ours.
    previous: libc::sigaction,
    page_len: usize,
}

static BEFORE: OnceLock<Before> = OnceLock::new();

/// Installs the handler of the process, once.
fn handle_bus_errors() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock();
    if *installed {
        return Ok(());
    }
    // SAFETY: integers, a set of bits and an optional function are all valid as zeros.
    let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call writes the old one, to memory that is ours.
    check(unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) })?;
    // SAFETY: asks for a number and changes nothing.
    let page_len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page_len = usize::try_from(page_len).map_err(|_| io::Error::last_os_error())?;
    let before = BEFORE.get_or_init(|| Before { previous, page_len });
    let mut ours = before.previous;
    ours.sa_sigaction = on_bus_error as *const () as usize;
    // The mask of the previous handler is kept: it may run inside of ours.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, and does what a handler may (module
    // documentation).
    check(unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) })?;
    *installed = true;
    Ok(())
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Repairs a fault in one of our mappings, and passes every other on.
extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(before) = BEFORE.get() else { return };
    // SAFETY: the kernel gives a handler with SA_SIGINFO a pointer to a valid value.
    let known = unsafe { &*info };
    // The faults of a load; a signal that somebody sent carries no address.
    let is_fault = matches!(known.si_code, libc::BUS_ADRERR | libc::BUS_OBJERR | libc::BUS_MCEERR_AR);
    // SAFETY: the kernel fills the address in for signals with these codes.
    let address = is_fault.then(|| unsafe { known.si_addr() }.addr());
    if let Some(address) = address
        && let Some(slot) = TABLE.find(address)
    {
        // Before the zeros can be seen.
        slot.poison();
        if map_zeros(address, before.page_len) {
            return;
        }
    }
    pass_on(&before.previous, signal, info, context);
}

/// Puts zeros in place of the page of an address that lies in one of our mappings; false where the kernel refuses.
fn map_zeros(address: usize, page_len: usize) -> bool {
    let page = ptr::with_exposed_provenance_mut::<c_void>(address - address % page_len);
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the page is one of a mapping of ours, which is read only and which the faulting load borrows: nobody
    // else owns the memory that is replaced, and bytes take the place of bytes.
    let mapped = unsafe { libc::mmap(page, page_len, libc::PROT_READ, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// Does what would have been done without our handler.
fn pass_on(previous: &libc::sigaction, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: as in `on_bus_error`.
    let was_sent = unsafe { &*info }.si_code <= 0;
    match previous.sa_sigaction {
        libc::SIG_IGN if was_sent => {}
        // The kernel lets nobody ignore a fault.
        libc::SIG_DFL | libc::SIG_IGN => {
            let mut default = *previous;
            default.sa_sigaction = libc::SIG_DFL;
            default.sa_flags = 0;
            // SAFETY: the default action needs no handler. The result is of no use: the fault recurs either way.
            unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) };
            if was_sent {
                // SAFETY: sends a signal to this thread, which gets it when the handler returns.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            let handler = ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: who installed it with SA_SIGINFO gave a function of this signature.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            let handler = ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: who installed it without SA_SIGINFO gave a function of this signature.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
