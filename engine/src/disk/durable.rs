//! The sequences of operations that make names durable, the same for the devices and for the simulated disk, so that
//! what is tested by crashes is what runs.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use super::{Disk, invalid};
use crate::canary::{self, Canary};

/// The single steps that the sequences are made of, beside those of [`Disk`]. Clones are the same disk.
pub(super) trait Steps: Disk + Clone {
    /// A file open for writing.
    type File: Debug + Send;

    /// Creates a file, or empties the one of that name.
    fn create_file(&self, path: &Path) -> io::Result<Self::File>;

    /// Makes content and length of a file durable.
    fn sync_file(&self, file: &mut Self::File) -> io::Result<()>;

    /// Removes a file that was created and is not wanted; one that has this name by now for another reason may stay.
    fn discard(&self, path: &Path, _file: &Self::File) -> io::Result<()> {
        self.unlink(path)
    }

    /// Creates a directory; one that exists is left as it is.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether there is anything of that name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
}

/// A new file under its temporary name. Dropping it removes the file; only a crash leaves it behind, and then it is
/// removed at the next open.
#[derive(Debug)]
pub(super) struct Draft<D: Steps> {
    disk: D,
    path: PathBuf,
    temporary: PathBuf,
    file: D::File,
    is_named: bool,
}

impl<D: Steps> Draft<D> {
    /// Creates the file that will have this name, empty.
    pub(super) fn create(disk: &D, path: &Path) -> io::Result<Self> {
        let temporary = temporary_of(path)?;
        let file = disk.create_file(&temporary)?;
        Ok(Self { disk: disk.clone(), path: path.to_owned(), temporary, file, is_named: false })
    }

    /// Where the file is now.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Makes the file durable, and then puts it in place of whatever has its name, durably.
    pub(super) fn publish(mut self) -> io::Result<()> {
        self.disk.sync_file(&mut self.file)?;
        self.disk.rename(&self.temporary, &self.path)?;
        self.is_named = true;
        if canary::is(Canary::SkipDirectorySync) {
            return Ok(());
        }
        self.disk.sync_dir(parent_of(&self.path))
    }
}

impl<D: Steps> Drop for Draft<D> {
    fn drop(&mut self) {
        if !self.is_named {
            // Whatever went wrong before is the error to tell.
            self.disk.discard(&self.temporary, &self.file).ok();
        }
    }
}

/// Puts a file that `fill` writes in place of whatever has that name: complete, or not at all. An error leaves no
/// temporary file behind.
pub(super) fn replace_with<D: Steps>(
    disk: &D,
    path: &Path,
    fill: impl FnOnce(&mut D::File) -> io::Result<()>,
) -> io::Result<()> {
    let mut draft = Draft::create(disk, path)?;
    fill(&mut draft.file)?;
    draft.publish()
}

/// Creates a directory and those above it, from the top down, each durable before the next.
pub(super) fn create_dir_all<D: Steps>(disk: &D, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut present = dir;
    while !disk.exists(present)? {
        missing.push(present);
        present = parent_of(present);
    }
    // A predecessor may have been killed between creating the last one that exists and syncing its parent. The
    // parents of a directory that was given to us may be closed to us; then they are not our doing either.
    if let Err(error) = disk.sync_dir(parent_of(present)) {
        let theirs = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
        if !theirs.contains(&error.kind()) {
            return Err(error);
        }
    }
    for dir in missing.into_iter().rev() {
        disk.create_dir(dir)?;
        disk.sync_dir(parent_of(dir))?;
    }
    // Names a file that stands in the way, also where nothing was missing.
    disk.list(dir).map(drop)
}

/// The directory of a file; that of a bare name is the working directory, that of the root the root.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None if path.as_os_str().is_empty() => Path::new("."),
        None => path,
    }
}

/// Fails unless both names are of one directory.
pub(super) fn check_rename(from: &Path, to: &Path) -> io::Result<()> {
    if from.parent() == to.parent() { Ok(()) } else { Err(invalid("a rename stays within one directory")) }
}

fn temporary_of(path: &Path) -> io::Result<PathBuf> {
    let mut name = OsString::from(path.file_name().ok_or_else(|| invalid("a file needs a name"))?);
    name.push(".tmp");
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temporary_name_stands_beside_the_final_one() {
        assert_eq!(temporary_of(Path::new("/d/a.wal")).unwrap(), Path::new("/d/a.wal.tmp"));
        assert_eq!(temporary_of(Path::new("a")).unwrap(), Path::new("a.tmp"));
        temporary_of(Path::new("/")).unwrap_err();
    }

    #[test]
    fn every_path_has_a_parent_to_sync() {
        for (path, parent) in [("/a/b", "/a"), ("a/b", "a"), ("a", "."), (".", "."), ("", "."), ("/", "/")] {
            assert_eq!(parent_of(Path::new(path)), Path::new(parent), "{path}");
        }
    }
}
