//! The tree of files and directories, the count of operations, and the faults that are due.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::image::{Change, DirImage, FileImage};
use super::rng::Rng;
use super::{Crash, Fault, Stopped, Target};
use crate::canary::{self, Canary};
use crate::disk::{Entry, FileBytes, Region, held_by, invalid};

const ROOT: u64 = 0;

#[derive(Clone, Debug)]
enum Node {
    File(FileImage),
    Dir(DirImage),
}

/// A write that a killed process had handed to the system.
#[derive(Clone, Debug)]
struct Late {
    node: u64,
    at: usize,
    bytes: Vec<u8>,
}

/// A held lock: the ticket is its holder's.
#[derive(Clone, Debug)]
struct Held {
    owner: String,
    ticket: u64,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each tells something of its own")]
pub(super) struct State {
    rng: Rng,
    nodes: BTreeMap<u64, Node>,
    /// The next number of a node or a ticket; never used twice.
    next: u64,
    locks: BTreeMap<u64, Held>,
    pub(super) life: u64,
    pub(super) ops: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) stopped: bool,
    pub(super) capacity: Option<u64>,
    pub(super) faults: Vec<Fault>,
    /// Whether attempts to write are sometimes short or interrupted.
    pub(super) short_writes: bool,
    /// Whether the last write of a killed process may land when the next one has begun.
    pub(super) late_writes: bool,
    late: Option<Late>,
    /// Whether a sync has failed: some of what reads see is not on its way to the device.
    has_ghosts: bool,
    /// What has come true of what may happen, for the curious: late writes that landed, syncs that failed, attempts
    /// that were short.
    pub(super) seen: super::Seen,
    /// Mixes all operations of all lives with their outcomes.
    pub(super) trace: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            nodes: BTreeMap::from([(ROOT, Node::Dir(DirImage::default()))]),
            next: ROOT + 1,
            locks: BTreeMap::new(),
            life: 0,
            ops: 0,
            crash_at: None,
            stopped: false,
            capacity: None,
            faults: Vec::new(),
            short_writes: false,
            late_writes: false,
            late: None,
            has_ghosts: false,
            seen: super::Seen::default(),
            trace: 0,
        }
    }

    /// Another disk that is like this one is now, as a machine would find it that is started on a copy.
    pub(super) fn fork(&self, seed: u64) -> Self {
        let mut fork = Self { rng: Rng::new(seed), late: None, has_ghosts: false, ..self.clone() };
        fork.crash(Crash::Kill);
        for node in fork.nodes.values_mut() {
            if let Node::File(file) = node {
                file.settle();
            }
        }
        fork
    }

    /// Counts an operation. True if the machine stops in the middle of it.
    fn begin(&mut self) -> io::Result<bool> {
        self.ops += 1;
        if self.stopped {
            return Err(Stopped::error());
        }
        if self.has_ghosts && self.rng.below(8) == 0 {
            self.evict_ghosts();
        }
        self.stopped = self.crash_at.is_some_and(|at| self.ops >= at);
        Ok(self.stopped)
    }

    fn evict_ghosts(&mut self) {
        self.has_ghosts = false;
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                self.seen.ghosts_evicted += file.evict_ghosts(&mut self.rng);
                self.has_ghosts |= file.has_ghosts();
            }
        }
    }

    /// Runs an operation that happens wholly or not at all.
    pub(super) fn step<T>(&mut self, target: Target, op: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let last = self.begin()?;
        if last && self.rng.coin() {
            return Err(Stopped::error());
        }
        if target != Target::Sync
            && let Some(error) = self.due(target)
        {
            return Err(error);
        }
        let result = op(self);
        self.mix(target as u64 ^ u64::from(result.is_ok()) << 8);
        if last { Err(Stopped::error()) } else { result }
    }

    fn mix(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }

    /// The error of the fault that an operation of this kind meets, if it meets one.
    fn due(&mut self, target: Target) -> Option<io::Error> {
        let mut errno = None;
        self.faults.retain_mut(|fault| {
            if fault.target != target && fault.target != Target::Any {
                return true;
            }
            if fault.nth > 1 {
                fault.nth -= 1;
                return true;
            }
            errno = errno.or(Some(fault.errno));
            fault.is_sticky
        });
        let errno = errno?;
        self.seen.faults += 1;
        self.mix(u64::from(errno.unsigned_abs()) << 16);
        Some(io::Error::from_raw_os_error(errno))
    }

    pub(super) fn check_life(&self, life: u64) -> io::Result<()> {
        if life == self.life { Ok(()) } else { Err(Stopped::error()) }
    }

    /// The node of a path.
    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        let mut node = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let Some(Node::Dir(dir)) = self.nodes.get(&node) else {
                        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
                    };
                    let entry = name.to_str().and_then(|name| dir.live.get(name));
                    node = *entry.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(invalid("a simulated path goes down")),
            }
        }
        Ok(node)
    }

    /// The directory of a path, and the name in it.
    pub(super) fn find_parent(&mut self, path: &Path) -> io::Result<(u64, String)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| invalid("a simulated file has a name of UTF-8"))?;
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.dir(dir)?;
        Ok((dir, name.to_owned()))
    }

    pub(super) fn file(&mut self, node: u64) -> io::Result<&mut FileImage> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    fn dir(&mut self, node: u64) -> io::Result<&mut DirImage> {
        match self.nodes.get_mut(&node) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    pub(super) fn change(&mut self, dir: u64, change: Change) -> io::Result<()> {
        self.dir(dir)?.change(change);
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn link(&mut self, path: &Path, new: Node) -> io::Result<u64> {
        let (dir, name) = self.find_parent(path)?;
        let node = self.number();
        self.nodes.insert(node, new);
        self.change(dir, Change::Link { name, node })?;
        Ok(node)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        match self.find(path) {
            Ok(node) => {
                self.file(node)?.clear();
                Ok(node)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.link(path, Node::File(FileImage::default())),
            Err(error) => Err(error),
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        match self.find(path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.link(path, Node::Dir(DirImage::default())).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<Entry>> {
        let dir = self.find(path)?;
        let live = self.dir(dir)?.live.clone();
        let entries = live.into_iter().filter_map(|(name, node)| {
            Some(match self.nodes.get(&node)? {
                Node::File(file) => Entry { name, len: file.len() as u64, is_dir: false },
                Node::Dir(_) => Entry { name, len: 0, is_dir: true },
            })
        });
        Ok(entries.collect())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        self.dir(node)?;
        if let Some(error) = self.due(Target::Sync) {
            return Err(error);
        }
        self.dir(node)?.sync();
        self.drop_unlinked();
        Ok(())
    }

    /// Writes what fits. The operation that stops the machine, and one that fails, write some of the sectors.
    pub(super) fn write(&mut self, node: u64, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        let last = self.begin()?;
        self.mix(offset ^ (bytes.len() as u64) << 32);
        let room = self.room();
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let Some(Node::File(file)) = self.nodes.get_mut(&node) else {
            // A file without a name takes what nobody will read.
            return if last { Err(Stopped::error()) } else { Ok(bytes.len()) };
        };
        let fits = usize::try_from(room).unwrap_or(usize::MAX);
        let mut count = bytes.len().min(file.len().saturating_add(fits).saturating_sub(at));
        if last {
            let bytes = &bytes[..count];
            if self.late_writes && self.rng.coin() {
                self.late = Some(Late { node, at, bytes: bytes.to_vec() });
            } else {
                file.write_partly(at, bytes, &mut self.rng);
                if durable && self.rng.below(4) == 0 {
                    file.sync_range(at, count);
                }
            }
            return Err(Stopped::error());
        }
        if let Some(error) = self.due(Target::Write) {
            if error.kind() != io::ErrorKind::Interrupted
                && let Some(Node::File(file)) = self.nodes.get_mut(&node)
            {
                file.write_partly(at, &bytes[..count], &mut self.rng);
            }
            return Err(error);
        }
        if count == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        if self.short_writes && self.rng.below(4) == 0 {
            self.seen.short_writes += 1;
            if self.rng.below(3) == 0 {
                return Err(io::Error::from_raw_os_error(libc::EINTR));
            }
            count = 1 + self.rng.below(count);
        }
        let sync_error = if durable { self.due(Target::Sync) } else { None };
        let Some(Node::File(file)) = self.nodes.get_mut(&node) else { return Ok(count) };
        file.write(at, &bytes[..count]);
        if let Some(error) = sync_error {
            file.sync_fails(&mut self.rng);
            self.has_ghosts = true;
            return Err(error);
        }
        if durable {
            file.sync_range(at, count);
        }
        Ok(count)
    }

    /// Begins a write: some of its sectors land now.
    pub(super) fn begin_write(&mut self, node: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let last = self.begin()?;
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // A file without a name takes what nobody will read.
        if let Some(Node::File(file)) = self.nodes.get_mut(&node) {
            let fits = bytes.len().min(file.len().saturating_sub(at));
            file.write_partly(at, &bytes[..fits], &mut self.rng);
        }
        if last { Err(Stopped::error()) } else { Ok(()) }
    }

    pub(super) fn sync_file(&mut self, node: u64) -> io::Result<()> {
        let error = self.due(Target::Sync);
        let Some(Node::File(file)) = self.nodes.get_mut(&node) else { return Ok(()) };
        if let Some(error) = error {
            if error.kind() != io::ErrorKind::Interrupted {
                file.sync_fails(&mut self.rng);
                self.has_ghosts = true;
            }
            return Err(error);
        }
        file.sync();
        Ok(())
    }

    /// What the device has of the first bytes of a file: it is synced, its cache dropped, then read.
    pub(super) fn read(&mut self, path: &Path, len: usize) -> io::Result<FileBytes> {
        let node = self.find(path)?;
        let file = self.file(node)?;
        if !canary::is(Canary::ReadWithoutSync) {
            file.sync();
            if !canary::is(Canary::ReadFromCache) {
                file.evict();
            }
        }
        if file.bad_before(len).is_some() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(file.read(len))
    }

    pub(super) fn map(&mut self, path: &Path) -> io::Result<Region> {
        let node = self.find(path)?;
        let file = self.file(node)?;
        Ok(Region::simulated(file.read(usize::MAX), file.bad_before(usize::MAX)))
    }

    /// Bytes in all files that have a name.
    pub(super) fn used(&self) -> u64 {
        let mut used = 0;
        self.walk(ROOT, &mut PathBuf::new(), &mut |_, file| used += file.len() as u64);
        used
    }

    /// The bytes that files may still grow by.
    pub(super) fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    pub(super) fn lock(&mut self, path: &Path, owner: &str) -> io::Result<u64> {
        if let Ok(node) = self.find(path)
            && let Some(held) = self.locks.get(&node)
        {
            return Err(held_by(&held.owner));
        }
        // The dead holder's lock lasts as long as its last write.
        self.land();
        let node = self.create(path)?;
        if self.room() >= owner.len() as u64 {
            self.file(node)?.write(0, owner.as_bytes());
        }
        let ticket = self.number();
        self.locks.insert(node, Held { owner: owner.to_owned(), ticket });
        Ok(ticket)
    }

    /// Lets the last write of a dead process land.
    fn land(&mut self) {
        if let Some(Late { node, at, bytes }) = self.late.take()
            && let Some(Node::File(file)) = self.nodes.get_mut(&node)
        {
            file.write(at, &bytes);
            self.seen.late_writes += 1;
        }
    }

    pub(super) fn unlock(&mut self, ticket: u64) {
        self.locks.retain(|_, held| held.ticket != ticket);
    }

    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.walk(ROOT, &mut PathBuf::from("/"), &mut |path, file| {
            files.insert(path.to_owned(), file.read(usize::MAX).to_vec());
        });
        files
    }

    fn walk<'a>(&'a self, node: u64, path: &mut PathBuf, visit: &mut impl FnMut(&Path, &'a FileImage)) {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => visit(path, file),
            Some(Node::Dir(dir)) => {
                for (name, &child) in &dir.live {
                    path.push(name);
                    self.walk(child, path, visit);
                    path.pop();
                }
            }
            None => {}
        }
    }

    pub(super) fn crash(&mut self, kind: Crash) {
        self.mix(1 << 40);
        if kind == Crash::Power {
            self.late = None;
            for node in self.nodes.values_mut() {
                match node {
                    Node::File(file) => file.power_cut(&mut self.rng),
                    Node::Dir(dir) => dir.power_cut(&mut self.rng),
                }
            }
        }
        self.drop_unlinked();
        self.locks.clear();
        self.life += 1;
        self.ops = 0;
        self.crash_at = None;
        self.stopped = false;
        self.faults.clear();
    }

    /// Forgets the nodes that no path can lead to any more, not even after a power cut.
    fn drop_unlinked(&mut self) {
        let mut reached = BTreeMap::new();
        let mut next = vec![ROOT];
        while let Some(node) = next.pop() {
            let Some(kept) = self.nodes.remove(&node) else { continue };
            if let Node::Dir(dir) = &kept {
                next.extend(dir.reachable());
            }
            reached.insert(node, kept);
        }
        self.nodes = reached;
    }
}
