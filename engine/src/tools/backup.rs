//! A copy of a store that opens as a data directory, taken beside a running server or not.
//!
//! Snapshots never change once they have their name, so they are shared by hard links where the file system allows it,
//! and copied otherwise. Of the log the frames that verify are copied; the last segment of the copy ends as one does after
//! a power cut, and is sealed when the copy is opened. The manifest comes last: before it there is no store.
//!
//! The files of an archive in a directory are shared or copied in the same way, into `archive` of the copy.
//!
//! A manifest, all its snapshots, and all of the log from its floor on are one state of the store, also if the server
//! has gone on to a newer manifest meanwhile. Only if it has removed a file before it was copied is there another try.

use super::log::{self, LogRead};
use super::verify::{FileReport, Verified, verify};
use crate::archive::{ArchiveStore, LocalDirectory, Sidecar};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::format::FormatError;
use crate::format::manifest::Manifest;
use crate::paths::Paths;
use crate::wal::{Problem, Recovered};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often the copy is begun again because the server has removed a file of it.
const TRIES: usize = 100;

/// What was copied.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The generation of the manifest.
    pub generation: u64,
    /// Snapshots that share their blocks with those of the store by a hard link.
    pub linked: u64,
    /// Snapshots that were copied.
    pub copied: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Rows in those.
    pub rows: u64,
    /// Files of the archive that share their blocks with those of the archive.
    pub archive_linked: u64,
    /// Files of the archive that were copied.
    pub archive_copied: u64,
    /// Parts of the archive that the copy does not have.
    pub archive_left: u64,
    /// What the check of the copy found.
    pub verified: Verified,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store cannot be read, or the copy cannot be written.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// There is something at the destination.
    #[error("{} is not empty: a backup goes to a directory that is new or empty", path.display())]
    NotEmpty {
        /// The destination.
        path: PathBuf,
    },
    /// The destination lies in the store.
    #[error("{} is inside of the data directory", path.display())]
    Inside {
        /// The destination.
        path: PathBuf,
    },
    /// The store is damaged where the copy would need it.
    #[error("{} is damaged at offset {offset}: {what}; nothing is left of the backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The server removed files faster than they were copied.
    #[error("the files of the store change faster than they can be copied; nothing is left of the backup")]
    Busy,
}

/// Copies the store in `directory`, and its archive if the directory of that is given, to `destination`, which is new or
/// empty, and checks the copy; `each` gets what that check finds of each file. A damaged snapshot or file of the archive
/// is copied as it is, and found by the check.
pub fn backup(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    destination: &Path,
    archive: Option<&Path>,
    each: &mut dyn FnMut(&FileReport),
) -> Result<BackupReport, BackupError> {
    let shared = disk;
    let disk = &**disk;
    // Also tells whether there is a store, before anything is made.
    log::read_manifest(disk, &Paths::new(directory))?;
    refuse_inside(directory, destination)?;
    let mut copy = Copy {
        disk,
        from: Paths::new(directory),
        to: Paths::new(destination),
        archive,
        snapshots: BTreeMap::new(),
        segments: BTreeMap::new(),
        archived: BTreeMap::new(),
    };
    copy.begin()?;
    let taken = copy.take();
    let (manifest, rows) = taken.inspect_err(|_| copy.undo())?;
    let place: Option<Arc<dyn ArchiveStore>> =
        archive.map(|_| Arc::new(LocalDirectory::new(Arc::clone(shared), copy.to.archive_copy())) as _);
    let verified = verify(disk, destination, place.as_ref(), &mut |_| (), each)?;
    let count = |ways: &BTreeMap<PathBuf, Way>, wanted| ways.values().filter(|&&way| way == wanted).count() as u64;
    Ok(BackupReport {
        generation: manifest.generation,
        linked: count(&copy.snapshots, Way::Linked),
        copied: count(&copy.snapshots, Way::Copied),
        archive_linked: count(&copy.archived, Way::Linked),
        archive_copied: count(&copy.archived, Way::Copied),
        archive_left: verified.unchecked_parts,
        segments: copy.segments.len() as u64,
        rows,
        verified,
    })
}

fn refuse_inside(directory: &Path, destination: &Path) -> Result<(), BackupError> {
    let store = fs::canonicalize(directory).map_err(OpenError::io("find", directory))?;
    let exists = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::canonicalize(path).ok()
    };
    match destination.ancestors().find_map(exists) {
        Some(path) if path.starts_with(store) => Err(BackupError::Inside { path: destination.to_owned() }),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Linked,
    Copied,
}

struct Copy<'a> {
    disk: &'a dyn Disk,
    from: Paths,
    to: Paths,
    /// The directory of the archive, if that is copied.
    archive: Option<&'a Path>,
    snapshots: BTreeMap<PathBuf, Way>,
    archived: BTreeMap<PathBuf, Way>,
    /// Where each copied segment ends, by its number.
    segments: BTreeMap<u64, u64>,
}

impl Copy<'_> {
    fn begin(&self) -> Result<(), BackupError> {
        let root = self.to.root();
        self.disk.create_dir_all(root).map_err(OpenError::io("create", root))?;
        if !self.disk.list(root).map_err(OpenError::io("list", root))?.is_empty() {
            return Err(BackupError::NotEmpty { path: root.to_owned() });
        }
        for directory in [self.to.wal(), self.to.snapshots()] {
            self.disk.create_dir_all(&directory).map_err(OpenError::io("create", directory))?;
        }
        Ok(())
    }

    /// Copies all, the manifest last. Gives that, and the rows of the log.
    fn take(&mut self) -> Result<(Manifest, u64), BackupError> {
        for _ in 0..TRIES {
            let LogRead { manifest, recovered } = log::read(self.disk, &self.from, &mut |_| ())?;
            if let Some(problem) = recovered.chain.problems.first() {
                return Err(self.damaged(problem));
            }
            if self.copy_snapshots(&manifest)? && self.copy_log(&recovered)? {
                self.copy_archive(&manifest)?;
                self.remove_others(&manifest, &recovered)?;
                for directory in [self.to.snapshots(), self.to.wal()] {
                    self.disk.sync_dir(&directory).map_err(OpenError::io("sync", directory))?;
                }
                let written = self.disk.replace(&self.to.manifest(), &manifest.to_bytes());
                written.map_err(OpenError::io("write", self.to.manifest()))?;
                return Ok((manifest, recovered.rows));
            }
        }
        Err(BackupError::Busy)
    }

    fn damaged(&self, problem: &Problem) -> BackupError {
        let what = problem.what.as_ref().map_or_else(|| "is missing".to_owned(), FormatError::to_string);
        BackupError::Damaged { path: self.from.segment(problem.seq), offset: problem.offset, what }
    }

    /// Copies the snapshots that are not yet there; false where one is gone that a newer manifest does without.
    fn copy_snapshots(&mut self, manifest: &Manifest) -> Result<bool, BackupError> {
        for live in &manifest.snapshots {
            let name = |paths: &Paths| paths.snapshot(live.partition, live.lsn_lo, live.lsn_hi, live.edition);
            let (from, to) = (name(&self.from), name(&self.to));
            if self.snapshots.contains_key(&to) {
                continue;
            }
            match self.link_or_copy(&from, &to) {
                Ok(way) => drop(self.snapshots.insert(to, way)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if log::read_manifest(self.disk, &self.from)?.snapshots.contains(live) {
                        let what = "is listed by the manifest and missing".to_owned();
                        return Err(BackupError::Damaged { path: from, offset: 0, what });
                    }
                    return Ok(false);
                }
                Err(error) => return Err(OpenError::io("copy", from)(error).into()),
            }
        }
        Ok(true)
    }

    /// Copies the files of the archived parts; what is missing or damaged is found by the check. Nothing of an archive
    /// goes while it is looked at.
    fn copy_archive(&mut self, manifest: &Manifest) -> Result<(), OpenError> {
        let Some(root) = self.archive else { return Ok(()) };
        let copy = self.to.archive_copy();
        for part in manifest.archived.iter().filter(|part| part.rows > 0) {
            let sidecar = part.names.sidecar();
            let content = fs::read(root.join(&sidecar)).ok();
            let listed = content.and_then(|content| Sidecar::parse(&sidecar, &content).ok());
            let files = listed.into_iter().flat_map(|listed| listed.files).map(|file| part.names.key(&file.name));
            let folder = copy.join(part.names.folder());
            self.disk.create_dir_all(&folder).map_err(OpenError::io("create", &folder))?;
            for key in files.chain([sidecar]) {
                let (from, to) = (root.join(&key), copy.join(&key));
                match self.link_or_copy(&from, &to) {
                    Ok(way) => drop(self.archived.insert(to, way)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(OpenError::io("copy", from)(error)),
                }
            }
            self.disk.sync_dir(&folder).map_err(OpenError::io("sync", folder))?;
        }
        Ok(())
    }

    fn link_or_copy(&self, from: &Path, to: &Path) -> io::Result<Way> {
        match fs::hard_link(from, to) {
            Ok(()) => return Ok(Way::Linked),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            // Another file system, one without links, or a file of another owner.
            Err(_) => {}
        }
        let temporary = to.with_extension("copy.tmp");
        fs::copy(from, &temporary)?;
        File::open(&temporary)?.sync_all()?;
        self.disk.rename(&temporary, to)?;
        Ok(Way::Copied)
    }

    /// Copies the frames that verify, with zeros behind them; false where a segment is gone.
    fn copy_log(&mut self, recovered: &Recovered) -> Result<bool, BackupError> {
        for (file, header) in recovered.segments.iter().zip(&recovered.chain.segments) {
            // What was copied up to the same end has not changed: a written block is never written again.
            if self.segments.get(&file.seq) == Some(&file.end) {
                continue;
            }
            let path = self.from.segment(file.seq);
            let frames = match self.disk.read_prefix(&path, usize::try_from(file.end).unwrap_or(usize::MAX)) {
                Ok(frames) => frames,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(OpenError::io("read", path)(error).into()),
            };
            let mut content = frames.to_vec();
            // The header was checked: the file is that long.
            content.resize(usize::try_from(header.len).unwrap_or(usize::MAX), 0);
            let to = self.to.segment(file.seq);
            self.disk.replace(&to, &content).map_err(OpenError::io("write", to))?;
            self.segments.insert(file.seq, file.end);
        }
        Ok(true)
    }

    /// Removes what was copied for an earlier manifest.
    fn remove_others(&mut self, manifest: &Manifest, recovered: &Recovered) -> Result<(), OpenError> {
        let listed: BTreeSet<PathBuf> = (manifest.snapshots.iter())
            .map(|live| self.to.snapshot(live.partition, live.lsn_lo, live.lsn_hi, live.edition))
            .collect();
        let kept: BTreeSet<u64> = recovered.segments.iter().map(|segment| segment.seq).collect();
        let snapshots = self.snapshots.keys().filter(|path| !listed.contains(*path)).cloned();
        let segments = self.segments.keys().filter(|seq| !kept.contains(seq)).map(|&seq| self.to.segment(seq));
        for path in snapshots.chain(segments).collect::<Vec<_>>() {
            self.disk.unlink(&path).map_err(OpenError::io("remove", &path))?;
        }
        self.snapshots.retain(|path, _| listed.contains(path));
        self.segments.retain(|seq, _| kept.contains(seq));
        Ok(())
    }

    /// Removes the directories that were made here; the error that led to this is the one to tell.
    fn undo(&self) {
        for directory in [self.to.wal(), self.to.snapshots(), self.to.archive_copy()] {
            fs::remove_dir_all(directory).ok();
        }
    }
}
