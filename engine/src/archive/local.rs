//! An archive in a directory.

use super::place::{ArchiveStore, NewObject};
use crate::disk::{Disk, NewFile};
use crate::paths::is_temporary;
use parking_lot::Mutex;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of a [`Disk`]. Objects are files; a lock file in it keeps two writers apart.
#[derive(Debug)]
pub struct LocalDirectory {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// One conditional write at a time in this process; the lock file is for the others.
    writing: Mutex<()>,
}

impl LocalDirectory {
    /// An archive in this directory, which need not exist yet.
    pub fn new(disk: Arc<dyn Disk>, root: impl Into<PathBuf>) -> Self {
        Self { disk, root: root.into(), writing: Mutex::new(()) }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn content(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let region = match self.disk.map(path) {
            Ok(region) => region,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        region.touch(0..region.len())?;
        let bytes = region.to_vec();
        if region.is_poisoned() { Err(lost_page()) } else { Ok(Some(bytes)) }
    }
}

fn lost_page() -> io::Error {
    io::Error::other("a page cannot be read: the device fails, or the file was made shorter")
}

impl ArchiveStore for LocalDirectory {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self, key: &str) -> io::Result<Box<dyn NewObject>> {
        let path = self.path(key);
        if let Some(folder) = path.parent() {
            self.disk.create_dir_all(folder)?;
        }
        Ok(Box::new(LocalObject(self.disk.create(&path)?)))
    }

    fn publish(&self, aside: &str, key: &str) -> io::Result<()> {
        let to = self.path(key);
        self.disk.rename(&self.path(aside), &to)?;
        self.disk.sync_dir(to.parent().unwrap_or(&self.root))
    }

    fn put_if(&self, key: &str, expected: Option<&[u8]>, content: &[u8]) -> io::Result<bool> {
        let path = self.path(key);
        let _writing = self.writing.lock();
        self.disk.create_dir_all(path.parent().unwrap_or(&self.root))?;
        let _lock = self.disk.lock(&self.root.join("_LOCK"), "a writer of the archive")?;
        if self.content(&path)?.as_deref() != expected {
            return Ok(false);
        }
        self.disk.replace(&path, content)?;
        Ok(true)
    }

    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.content(&self.path(key))
    }

    fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        let region = self.disk.map(&self.path(key))?;
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let range = bounds.filter(|&(begin, end)| begin <= end && end <= region.len());
        let (begin, end) = range.ok_or(io::ErrorKind::UnexpectedEof)?;
        region.touch(begin..end)?;
        let bytes = region[begin..end].to_vec();
        if region.is_poisoned() { Err(lost_page()) } else { Ok(bytes) }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match self.disk.list(&self.path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let files = entries.into_iter().filter(|entry| !entry.is_dir && !is_temporary(&entry.name));
        Ok(files.map(|entry| format!("{folder}/{}", entry.name)).collect())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key);
        match self.disk.unlink(&path) {
            Ok(()) => self.disk.sync_dir(path.parent().unwrap_or(&self.root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug)]
struct LocalObject(Box<dyn NewFile>);

impl NewObject for LocalObject {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.0.finish(&[])
    }
}
