//! A file system in memory that loses power: what was not synced is kept, lost or torn, and so are directory changes
//! whose directory was not synced. Pure; `dropfs.rs` puts it behind a mount point.
//!
//! * Data become durable by a sync of their file, or by a write that says so, which makes its own bytes durable alone.
//! * Each unsynced sector is lost, kept, or torn in the middle; the length lies between the durable one and the last.
//! * Names become durable by a sync of their directory. Of the changes since, a prefix, any subset or none is there; a
//!   rename happens whole or not at all.
//! * A sync that fails drops what it should have written: the next one succeeds, and the data are not there.

use crate::random::Random;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::ops::Range;

const SECTOR: usize = 512;
/// The number of the root.
pub(crate) const ROOT: u64 = 1;

/// What is asked of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Read,
    Write,
    Sync,
    SyncDirectory,
}

/// Fails what is asked of files whose path contains `path`.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) asked: Asked,
    pub(crate) path: &'static str,
    /// How often; `u64::MAX` for ever.
    pub(crate) times: u64,
    pub(crate) errno: Errno,
}

#[derive(Debug)]
pub(crate) enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Debug, Default)]
pub(crate) struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last sync, in order.
    dirty: Vec<Range<usize>>,
    /// Below the root, as it was named last.
    path: String,
}

#[derive(Debug, Default)]
pub(crate) struct Directory {
    live: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    changes: Vec<Change>,
    path: String,
}

#[derive(Clone, Debug)]
enum Change {
    Named(OsString, u64),
    Gone(OsString),
    Renamed { from: OsString, to: OsString, number: u64 },
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<OsString, u64>) {
        match self {
            Self::Named(name, number) => drop(names.insert(name.clone(), *number)),
            Self::Gone(name) => drop(names.remove(name)),
            Self::Renamed { from, to, number } => {
                if names.get(from) == Some(number) {
                    names.remove(from);
                }
                names.insert(to.clone(), *number);
            }
        }
    }
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Volatile {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    troubles: Vec<Trouble>,
    /// How often trouble was made since it was ordered.
    pub(crate) troubled: u64,
    /// Files that are open.
    pub(crate) open: u64,
    /// What power cuts took: bytes, and changes of names.
    pub(crate) taken: (u64, u64),
}

impl Volatile {
    pub(crate) fn new() -> Self {
        let root = Node::Directory(Directory::default());
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            troubles: Vec::new(),
            troubled: 0,
            open: 0,
            taken: (0, 0),
        }
    }

    /// Makes this trouble from now on, instead of what was before.
    pub(crate) fn order(&mut self, troubles: Vec<Trouble>) {
        self.troubles = troubles;
        self.troubled = 0;
    }

    fn check(&mut self, number: u64, asked: Asked) -> Result<(), Errno> {
        let path = match self.nodes.get(&number).ok_or(Errno::STALE)? {
            Node::File(file) => &file.path,
            Node::Directory(directory) => &directory.path,
        };
        let due = |trouble: &&mut Trouble| trouble.asked == asked && trouble.times > 0 && path.contains(trouble.path);
        let Some(trouble) = self.troubles.iter_mut().find(due) else { return Ok(()) };
        if trouble.times < u64::MAX {
            trouble.times -= 1;
        }
        self.troubled += 1;
        Err(trouble.errno)
    }

    pub(crate) fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number)
    }

    /// All numbers, so that their pages can be forgotten.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    fn directory(&mut self, number: u64) -> Result<&mut Directory, Errno> {
        match self.nodes.get_mut(&number) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(Errno::NOTDIR),
            None => Err(Errno::STALE),
        }
    }

    fn file(&mut self, number: u64) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&number) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(Errno::ISDIR),
            None => Err(Errno::STALE),
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &OsStr) -> Option<u64> {
        match self.nodes.get(&parent)? {
            Node::Directory(directory) => directory.live.get(name).copied(),
            Node::File(_) => None,
        }
    }

    /// The names in a directory.
    pub(crate) fn list(&self, number: u64) -> Vec<(OsString, u64)> {
        match self.nodes.get(&number) {
            Some(Node::Directory(directory)) => {
                directory.live.iter().map(|(name, number)| (name.clone(), *number)).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn make(&mut self, parent: u64, name: &OsStr, is_directory: bool) -> Result<u64, Errno> {
        if self.lookup(parent, name).is_some() {
            return Err(Errno::EXIST);
        }
        let number = self.next;
        let directory = self.directory(parent)?;
        let path = format!("{}/{}", directory.path, name.display());
        let change = Change::Named(name.to_owned(), number);
        change.apply(&mut directory.live);
        directory.changes.push(change);
        let node = if is_directory {
            Node::Directory(Directory { path, ..Directory::default() })
        } else {
            Node::File(File { path, ..File::default() })
        };
        self.nodes.insert(number, node);
        self.next += 1;
        Ok(number)
    }

    pub(crate) fn unlink(&mut self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        let directory = self.directory(parent)?;
        if !directory.live.contains_key(name) {
            return Err(Errno::NOENT);
        }
        let change = Change::Gone(name.to_owned());
        change.apply(&mut directory.live);
        directory.changes.push(change);
        Ok(())
    }

    /// Renames within one directory.
    pub(crate) fn rename(&mut self, parent: u64, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        let directory = self.directory(parent)?;
        let number = *directory.live.get(from).ok_or(Errno::NOENT)?;
        let path = format!("{}/{}", directory.path, to.display());
        let change = Change::Renamed { from: from.to_owned(), to: to.to_owned(), number };
        change.apply(&mut directory.live);
        directory.changes.push(change);
        if let Ok(file) = self.file(number) {
            file.path = path;
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, number: u64, offset: usize, len: usize) -> Result<&[u8], Errno> {
        self.check(number, Asked::Read)?;
        let live = &self.file(number)?.live;
        let from = offset.min(live.len());
        Ok(&live[from..offset.saturating_add(len).min(live.len())])
    }

    /// Writes; with `durable` these bytes are durable when it returns.
    pub(crate) fn write(&mut self, number: u64, offset: usize, bytes: &[u8], durable: bool) -> Result<(), Errno> {
        let trouble = self
            .check(number, Asked::Write)
            .and_then(|()| if durable { self.check(number, Asked::Sync) } else { Ok(()) });
        let file = self.file(number)?;
        // What fails may have come to be all the same, in part.
        let bytes = if trouble.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let range = offset..offset + bytes.len();
        if file.live.len() < range.end {
            file.live.resize(range.end, 0);
        }
        file.live[range.clone()].copy_from_slice(bytes);
        if durable && trouble.is_ok() {
            file.harden(range);
        } else {
            file.dirty.push(range);
        }
        trouble
    }

    pub(crate) fn set_len(&mut self, number: u64, len: usize) -> Result<(), Errno> {
        let file = self.file(number)?;
        file.live.resize(len, 0);
        Ok(())
    }

    pub(crate) fn sync(&mut self, number: u64) -> Result<(), Errno> {
        let trouble = self.check(number, Asked::Sync);
        let file = self.file(number)?;
        let dirty = std::mem::take(&mut file.dirty);
        if trouble.is_err() {
            // The pages stay in the cache of the kernel, which believes them clean; behind it is what was there before.
            for range in dirty {
                for at in range {
                    let old = file.durable.get(at).copied().unwrap_or_default();
                    if let Some(byte) = file.live.get_mut(at) {
                        *byte = old;
                    }
                }
            }
            return trouble;
        }
        file.durable.resize(file.live.len(), 0);
        for range in dirty {
            file.harden(range);
        }
        Ok(())
    }

    pub(crate) fn sync_directory(&mut self, number: u64) -> Result<(), Errno> {
        self.check(number, Asked::SyncDirectory)?;
        let directory = self.directory(number)?;
        directory.durable.clone_from(&directory.live);
        directory.changes.clear();
        Ok(())
    }

    /// The power goes, and comes back.
    pub(crate) fn cut_power(&mut self, random: &mut Random) {
        let profile = random.below(4);
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => self.taken.0 += file.cut_power(random, profile),
                Node::Directory(directory) => self.taken.1 += directory.cut_power(random, profile),
            }
        }
        let mut reached = BTreeSet::new();
        let mut ahead = vec![ROOT];
        while let Some(number) = ahead.pop() {
            reached.insert(number);
            ahead.extend(self.list(number).into_iter().map(|(_, number)| number));
        }
        self.nodes.retain(|number, _| reached.contains(number));
        self.open = 0;
    }
}

impl File {
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Makes these bytes durable as they are.
    fn harden(&mut self, range: Range<usize>) {
        let range = range.start..range.end.min(self.live.len());
        if range.is_empty() {
            return;
        }
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.live[range]);
    }

    /// Returns how many bytes are gone.
    fn cut_power(&mut self, random: &mut Random, profile: u64) -> u64 {
        let mut lost = 0;
        let dirty = std::mem::take(&mut self.dirty);
        let kept = random.index(dirty.len() + 1);
        for (index, range) in dirty.into_iter().enumerate() {
            let mut at = range.start;
            while at < range.end {
                let end = ((at / SECTOR + 1) * SECTOR).min(range.end);
                let until = match profile {
                    1 if index < kept => end,
                    2.. if random.once_in(16) => at + random.index(end - at),
                    2.. if random.once_in(2) => end,
                    _ => at,
                };
                self.harden(at..until);
                lost += (end - until) as u64;
                at = end;
            }
        }
        if profile != 0 && self.durable.len() < self.live.len() && random.once_in(2) {
            self.durable.resize(self.live.len(), 0);
        }
        self.live.clone_from(&self.durable);
        lost
    }
}

impl Directory {
    /// Returns how many changes are gone.
    fn cut_power(&mut self, random: &mut Random, profile: u64) -> u64 {
        let mut lost = 0;
        let changes = std::mem::take(&mut self.changes);
        let kept = random.index(changes.len() + 1);
        for (index, change) in changes.iter().enumerate() {
            let is_kept = match profile {
                0 => false,
                1 => index < kept,
                _ => random.once_in(2),
            };
            if is_kept {
                change.apply(&mut self.durable);
            } else {
                lost += 1;
            }
        }
        self.live.clone_from(&self.durable);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file `a` in a synced directory, with `old` synced.
    fn disk(old: &[u8]) -> (Volatile, u64) {
        let mut disk = Volatile::new();
        let file = disk.make(ROOT, OsStr::new("a"), false).unwrap();
        disk.write(file, 0, old, false).unwrap();
        disk.sync(file).unwrap();
        disk.sync_directory(ROOT).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_whatever_the_choices() {
        for seed in 0..200 {
            let (mut disk, file) = disk(b"old");
            disk.write(file, 4096, b"durable", true).unwrap();
            disk.write(file, 0, b"new", false).unwrap();
            disk.cut_power(&mut Random(seed));
            assert_eq!(disk.read(file, 4096, 7).unwrap(), b"durable");
        }
    }

    #[test]
    fn what_was_not_synced_is_kept_lost_or_torn() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..500 {
            let (mut disk, file) = disk(b"oldold");
            disk.write(file, 0, b"newnew", false).unwrap();
            disk.make(ROOT, OsStr::new("b"), false).unwrap();
            disk.cut_power(&mut Random(seed));
            let is_there = disk.lookup(ROOT, OsStr::new("b")).is_some();
            outcomes.insert((disk.read(file, 0, 6).unwrap().to_vec(), is_there));
        }
        for wanted in [(b"newnew".to_vec(), true), (b"oldold".to_vec(), false), (b"newold".to_vec(), false)] {
            assert!(outcomes.contains(&wanted), "{outcomes:?}");
        }
    }

    #[test]
    fn a_failed_sync_drops_what_it_should_have_written_and_the_next_one_succeeds() {
        let (mut disk, file) = disk(b"old");
        disk.write(file, 0, b"new", false).unwrap();
        disk.order(vec![Trouble { asked: Asked::Sync, path: "/a", times: 1, errno: Errno::IO }]);
        assert_eq!(disk.sync(file), Err(Errno::IO));
        assert_eq!((disk.sync(file), disk.troubled), (Ok(()), 1));
        disk.cut_power(&mut Random(1));
        assert_eq!(disk.read(file, 0, 3).unwrap(), b"old");
    }

    #[test]
    fn a_rename_is_there_whole_or_not_at_all() {
        for seed in 0..200 {
            let (mut disk, old) = disk(b"old");
            let new = disk.make(ROOT, OsStr::new("a.tmp"), false).unwrap();
            disk.rename(ROOT, OsStr::new("a.tmp"), OsStr::new("a")).unwrap();
            disk.cut_power(&mut Random(seed));
            let found = disk.lookup(ROOT, OsStr::new("a"));
            assert!(found == Some(old) || found == Some(new));
        }
    }
}
