//! The tree of files and directories, the count of operations, and the faults that are due.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::image::{Change, DirImage, FileImage};
use super::rng::Rng;
use super::{Crash, Stopped};
use crate::disk::{Entry, held_by, invalid};

const ROOT: u64 = 0;

#[derive(Debug)]
enum Node {
    File(FileImage),
    Dir(DirImage),
}

/// A held lock: the ticket is its holder's.
#[derive(Debug)]
struct Held {
    owner: String,
    ticket: u64,
}

#[derive(Debug)]
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
    pub(super) write_fault: Option<u64>,
    pub(super) sync_fault: Option<u64>,
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
            write_fault: None,
            sync_fault: None,
        }
    }

    /// Counts an operation. True if the machine stops in the middle of it.
    fn begin(&mut self) -> io::Result<bool> {
        self.ops += 1;
        if self.stopped {
            return Err(Stopped::error());
        }
        self.stopped = self.crash_at.is_some_and(|at| self.ops >= at);
        Ok(self.stopped)
    }

    /// Runs an operation that happens wholly or not at all.
    pub(super) fn step<T>(&mut self, op: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let last = self.begin()?;
        if last && self.rng.coin() {
            return Err(Stopped::error());
        }
        let result = op(self);
        if last { Err(Stopped::error()) } else { result }
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
                self.file(node)?.set(&[]);
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
                Node::File(file) => Entry { name, len: file.live.len() as u64, is_dir: false },
                Node::Dir(_) => Entry { name, len: 0, is_dir: true },
            })
        });
        Ok(entries.collect())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        self.dir(node)?;
        if self.sync_fails() {
            return Err(eio());
        }
        self.dir(node)?.sync();
        self.drop_unlinked();
        Ok(())
    }

    /// Writes what fits. The operation that stops the machine, and one that fails, write some of the sectors.
    pub(super) fn write(&mut self, node: u64, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        let last = self.begin()?;
        let room = self.room();
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // A file without a name takes what nobody will read.
        let Some(Node::File(file)) = self.nodes.get_mut(&node) else { return Ok(bytes.len()) };
        let fits = usize::try_from(room).unwrap_or(usize::MAX);
        let count = bytes.len().min(file.live.len().saturating_add(fits).saturating_sub(at));
        let bytes = &bytes[..count];
        if last {
            file.write_partly(at, bytes, &mut self.rng);
            return Err(Stopped::error());
        }
        if is_due(&mut self.write_fault) {
            file.write_partly(at, bytes, &mut self.rng);
            return Err(eio());
        }
        if count == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        file.write(at, bytes);
        if durable {
            if is_due(&mut self.sync_fault) {
                file.sync_fails(&mut self.rng);
                return Err(eio());
            }
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
            let fits = bytes.len().min(file.live.len().saturating_sub(at));
            file.write_partly(at, &bytes[..fits], &mut self.rng);
        }
        if last { Err(Stopped::error()) } else { Ok(()) }
    }

    pub(super) fn sync_file(&mut self, node: u64) -> io::Result<()> {
        let fails = self.sync_fails();
        let Some(Node::File(file)) = self.nodes.get_mut(&node) else { return Ok(()) };
        if fails {
            file.sync_fails(&mut self.rng);
            return Err(eio());
        }
        file.sync();
        Ok(())
    }

    fn sync_fails(&mut self) -> bool {
        is_due(&mut self.sync_fault)
    }

    /// The bytes that files may still grow by.
    pub(super) fn room(&self) -> u64 {
        let Some(capacity) = self.capacity else { return u64::MAX };
        let mut used = 0;
        self.walk(ROOT, &mut PathBuf::new(), &mut |_, file| used += file.live.len() as u64);
        capacity.saturating_sub(used)
    }

    pub(super) fn lock(&mut self, path: &Path, owner: &str) -> io::Result<u64> {
        if let Ok(node) = self.find(path)
            && let Some(held) = self.locks.get(&node)
        {
            return Err(held_by(&held.owner));
        }
        let node = self.create(path)?;
        if self.room() >= owner.len() as u64 {
            self.file(node)?.write(0, owner.as_bytes());
        }
        let ticket = self.number();
        self.locks.insert(node, Held { owner: owner.to_owned(), ticket });
        Ok(ticket)
    }

    pub(super) fn unlock(&mut self, ticket: u64) {
        self.locks.retain(|_, held| held.ticket != ticket);
    }

    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.walk(ROOT, &mut PathBuf::from("/"), &mut |path, file| {
            files.insert(path.to_owned(), file.live.clone());
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
        if kind == Crash::Power {
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
        self.write_fault = None;
        self.sync_fault = None;
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

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// Counts down to a fault.
fn is_due(fault: &mut Option<u64>) -> bool {
    let due = fault.is_some_and(|nth| nth <= 1);
    *fault = fault.map(|nth| nth - u64::from(nth > 0)).filter(|_| !due);
    due
}
