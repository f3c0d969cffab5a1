//! Every checksum of a store and of its archive, and the manifest against the files that are there.
//!
//! Runs beside a server: it takes no lock and writes nothing. A file that goes while it is looked at is no damage if
//! the manifest has let go of it; an unfinished frame at the end of the log is being written.

use super::Damage;
use super::inspect::{self, Item, Sample, Show, Sink, Value};
use super::log::{self, LogRead};
use crate::archive::{self, ArchiveStore, Looked};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::format::StoreId;
use crate::format::manifest::{Archived, LiveSnapshot, Loss, Manifest};
use crate::paths::{self, Paths};
use crate::snapshot::{Expected, Identity, Snapshot, SnapshotError};
use crate::wal::{Problem, Tail};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a new manifest is taken because a file of the last one is gone.
const TRIES: usize = 100;
/// Places of one file that are told; more are only counted.
const DAMAGE_MAX: usize = 1000;

/// What was found of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// `manifest`, `snapshot`, `segment`, `archive`, or `other` for what the store does not need.
    pub kind: &'static str,
    /// Bytes that were checked.
    pub bytes: u64,
    /// What is wrong with it; nothing where it is good.
    pub damage: Vec<Damage>,
    /// What is worth knowing of it.
    pub note: Option<String>,
}

impl FileReport {
    fn new(path: PathBuf, kind: &'static str) -> Self {
        Self { path, kind, bytes: 0, damage: Vec::new(), note: None }
    }

    fn damaged(mut self, offset: u64, what: impl Into<String>) -> Self {
        self.add(offset, what);
        self
    }

    fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    fn add(&mut self, offset: u64, what: impl Into<String>) {
        if self.damage.len() < DAMAGE_MAX {
            self.damage.push(Damage { offset, what: what.into() });
        } else {
            self.note = Some(format!("more than {DAMAGE_MAX} places are damaged"));
        }
    }

    fn add_error(&mut self, error: &SnapshotError) {
        self.add(error.offset, format!("{}: {}", error.part, error.cause));
    }
}

/// What was found of a store.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// The store; `None` where its manifest is damaged.
    pub store: Option<StoreId>,
    /// The generation of the manifest that was checked.
    pub generation: u64,
    /// Snapshots that were checked.
    pub snapshots: u64,
    /// Segments that were checked.
    pub segments: u64,
    /// Rows in those.
    pub rows: u64,
    /// Parts of the archive that were checked.
    pub archived_parts: u64,
    /// Parts of the archive that were not, because it is not known where they are.
    pub unchecked_parts: u64,
    /// Bytes that were checked.
    pub bytes: u64,
    /// Damage that was set aside before, as the manifest records.
    pub losses: Vec<Loss>,
    /// Files that are damaged or missing.
    pub damaged: u64,
}

/// Checks a data directory, and the parts of the archive that it has recorded, at the place that is given. `pace` is called with the bytes of each piece that was checked, and may wait; `each` gets
/// the report of each file. An error means that the check could not be made.
pub fn verify(
    disk: &dyn Disk,
    directory: &Path,
    archive: Option<&Arc<dyn ArchiveStore>>,
    pace: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(&FileReport),
) -> Result<Verified, OpenError> {
    let mut verifier = Verifier { disk, paths: Paths::new(directory), archive, pace, each, found: Verified::default() };
    verifier.run()?;
    Ok(verifier.found)
}

struct Verifier<'a> {
    disk: &'a dyn Disk,
    paths: Paths,
    archive: Option<&'a Arc<dyn ArchiveStore>>,
    pace: &'a mut dyn FnMut(u64),
    each: &'a mut dyn FnMut(&FileReport),
    found: Verified,
}

impl Verifier<'_> {
    fn run(&mut self) -> Result<(), OpenError> {
        let root = self.paths.root().to_owned();
        let entries = self.disk.list(&root).map_err(OpenError::io("list", &root))?;
        let has = |path: &Path| entries.iter().any(|entry| path.file_name().is_some_and(|name| *name == *entry.name));
        if !has(&self.paths.manifest()) {
            if !has(&self.paths.wal()) && !has(&self.paths.snapshots()) {
                return Err(OpenError::NotAStore { path: root, what: "it has no MANIFEST".to_owned() });
            }
            self.tell(&FileReport::new(self.paths.manifest(), "manifest").damaged(0, "is missing"));
            return self.one_by_one();
        }
        let manifest = match log::read_manifest(self.disk, &self.paths) {
            Ok(manifest) => manifest,
            Err(OpenError::Damaged { path, what, .. }) => {
                self.tell(&FileReport::new(path, "manifest").damaged(0, what.to_string()));
                return self.one_by_one();
            }
            Err(error) => return Err(error),
        };
        let mut report = FileReport::new(self.paths.manifest(), "manifest");
        report.bytes = manifest.to_bytes().len() as u64;
        self.tell(&report);
        let (checked, archived) = self.snapshots(manifest)?;
        self.archive(&archived);
        if has(&self.paths.wal()) {
            self.log()?;
        } else {
            self.tell(&FileReport::new(self.paths.wal(), "segment").damaged(0, "is missing, and the log with it"));
        }
        self.others(&checked)
    }

    fn tell(&mut self, report: &FileReport) {
        self.found.bytes += report.bytes;
        self.found.damaged += u64::from(!report.damage.is_empty());
        (self.each)(report);
    }

    /// Checks the parts of the archive.
    fn archive(&mut self, archived: &[Archived]) {
        let parts = archived.iter().filter(|part| part.rows > 0);
        let Some(place) = self.archive else {
            self.found.unchecked_parts = parts.count() as u64;
            return;
        };
        let location = place.location();
        for part in parts {
            let mut reports = Vec::new();
            archive::verify(place, &part.names, part.sidecar, self.pace, &mut |looked| {
                let Looked { key, bytes, damage } = looked;
                let mut report = FileReport::new(PathBuf::from(format!("{location}/{key}")), "archive");
                report.bytes = bytes;
                for (offset, error) in &damage {
                    report.add(*offset, error.to_string());
                }
                reports.push(report);
            });
            self.found.archived_parts += 1;
            for report in &reports {
                self.tell(report);
            }
        }
    }

    /// Checks the snapshots of a manifest, or of those that follow it while its files go; which ones they were, and what
    /// is archived.
    fn snapshots(&mut self, mut manifest: Manifest) -> Result<(BTreeSet<PathBuf>, Vec<Archived>), OpenError> {
        let mut checked = BTreeSet::new();
        let mut tries = 0;
        loop {
            let mut newer = None;
            for live in &manifest.snapshots {
                let path = self.paths.snapshot(live.partition, live.lsn_lo, live.lsn_hi, live.edition);
                if checked.contains(&path) {
                    continue;
                }
                let report = if let Some(report) = self.snapshot(manifest.store, live, &path) {
                    report
                } else {
                    let now = log::read_manifest(self.disk, &self.paths)?;
                    if tries < TRIES && now.generation != manifest.generation && !now.snapshots.contains(live) {
                        newer = Some(now);
                        break;
                    }
                    FileReport::new(path.clone(), "snapshot").damaged(0, "is listed by the manifest and missing")
                };
                self.found.snapshots += 1;
                self.tell(&report);
                checked.insert(path);
            }
            let Some(now) = newer else {
                (self.found.store, self.found.generation) = (Some(manifest.store), manifest.generation);
                self.found.losses = manifest.losses;
                return Ok((checked, manifest.archived));
            };
            manifest = now;
            tries += 1;
        }
    }

    /// Checks one snapshot; `None` where there is no such file.
    fn snapshot(&mut self, store: StoreId, live: &LiveSnapshot, path: &Path) -> Option<FileReport> {
        let mut report = FileReport::new(path.to_owned(), "snapshot");
        let region = match self.disk.map(path) {
            Ok(region) => region,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(report.damaged(0, format!("cannot be read: {error}"))),
        };
        report.bytes = region.len() as u64;
        let LiveSnapshot { partition, lsn_lo, lsn_hi, file_len, header_crc, .. } = *live;
        let identity = Identity { store, partition, lsn_lo, lsn_hi };
        match Snapshot::open(region, &Expected { identity, file_len, header_crc }) {
            Ok(snapshot) => {
                for piece in snapshot.verify() {
                    match piece {
                        Ok(bytes) => (self.pace)(bytes),
                        Err(error) => report.add_error(&error),
                    }
                }
            }
            Err(error) => {
                report.add_error(&error);
                self.look_into(path, &mut report);
            }
        }
        Some(report)
    }

    /// Adds what is wrong with a file that does not open, part by part.
    fn look_into(&mut self, path: &Path, report: &mut FileReport) {
        struct Collect<'a>(&'a mut FileReport);
        impl Sink for Collect<'_> {
            fn item(&mut self, item: &Item) -> io::Result<()> {
                let what = item.fields.iter().find_map(|(_, value)| match value {
                    Value::Text(what) => Some(what),
                    _ => None,
                });
                if let (Some(what), false) = (what, self.0.damage.iter().any(|known| known.offset == item.offset)) {
                    self.0.add(item.offset, what);
                }
                Ok(())
            }
            fn sample(&mut self, _: &Sample<'_>) -> io::Result<()> {
                Ok(())
            }
        }
        // What the file cannot even be opened for is told already.
        if let Err(error) = inspect::inspect(self.disk, path, Show::Damage, &mut Collect(report))
            && report.damage.is_empty()
        {
            report.add(0, error.to_string());
        }
        (self.pace)(report.bytes);
    }

    fn log(&mut self) -> Result<(), OpenError> {
        let LogRead { recovered, .. } = match log::read(self.disk, &self.paths, &mut *self.pace) {
            Ok(read) => read,
            Err(OpenError::Damaged { path, offset, what, .. }) => {
                self.tell(&FileReport::new(path, "segment").damaged(offset, what.to_string()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.found.rows = recovered.rows;
        let mut problems: Vec<&Problem> = recovered.chain.problems.iter().collect();
        let last = recovered.segments.len();
        for (at, segment) in (1..).zip(&recovered.segments) {
            let mut report = FileReport::new(self.paths.segment(segment.seq), "segment");
            report.bytes = segment.end;
            problems.retain(|problem| {
                let is_here = problem.seq == segment.seq;
                if is_here {
                    report.add(problem.offset, told(problem));
                }
                !is_here
            });
            if let (true, Tail::Torn { what, .. }) = (at == last, &recovered.tail) {
                report.note = Some(format!("ends with a write that was interrupted, or is under way ({what})"));
            }
            self.found.segments += 1;
            self.tell(&report);
        }
        for problem in problems {
            let report = FileReport::new(self.paths.segment(problem.seq), "segment");
            self.tell(&report.damaged(problem.offset, told(problem)));
        }
        let other = |name: &str, note: &str| FileReport::new(self.paths.wal().join(name), "other").noted(note);
        let mut others = Vec::new();
        for &seq in &recovered.chain.unneeded {
            others.push(FileReport::new(self.paths.segment(seq), "other").noted("segment that is not needed"));
        }
        for &seq in &recovered.chain.unfinished {
            others.push(FileReport::new(self.paths.segment(seq), "other").noted("of a salvage that did not end"));
        }
        for name in &recovered.chain.foreign {
            others.push(other(name, "not of this store"));
        }
        for name in &recovered.chain.temporary {
            others.push(other(name, "unfinished"));
        }
        let wal = self.paths.wal();
        for entry in self.disk.list(&wal).map_err(OpenError::io("list", &wal))? {
            if paths::is_set_aside(&entry.name) {
                others.push(other(&entry.name, "set aside by a salvage"));
            }
        }
        for report in &others {
            self.tell(report);
        }
        Ok(())
    }

    /// Names the files that the store does not need.
    fn others(&mut self, checked: &BTreeSet<PathBuf>) -> Result<(), OpenError> {
        let directory = self.paths.snapshots();
        let entries = match self.disk.list(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(OpenError::io("list", directory)(error)),
        };
        // A running server may have listed some since.
        let manifest = log::read_manifest(self.disk, &self.paths)?;
        let is_listed = |path: &PathBuf| {
            let of = |live: &LiveSnapshot| {
                self.paths.snapshot(live.partition, live.lsn_lo, live.lsn_hi, live.edition) == *path
            };
            checked.contains(path) || manifest.snapshots.iter().any(of)
        };
        let mut others = Vec::new();
        for entry in entries {
            let path = directory.join(&entry.name);
            if !is_listed(&path) {
                let note = if paths::is_temporary(&entry.name) {
                    "unfinished"
                } else if paths::is_snapshot(&entry.name) {
                    "snapshot that the manifest does not list"
                } else {
                    "not of kymo"
                };
                others.push(FileReport::new(path, "other").noted(note));
            }
        }
        let root = self.paths.root().to_owned();
        let known = [
            self.paths.lock(),
            self.paths.manifest(),
            self.paths.wal(),
            self.paths.snapshots(),
            self.paths.archive_copy(),
        ];
        for entry in self.disk.list(&root).map_err(OpenError::io("list", &root))? {
            let path = root.join(&entry.name);
            if !known.contains(&path) {
                let note = match &*entry.name {
                    "MANIFEST.tmp" => "unfinished",
                    _ if path == self.paths.salvage() => "mark of a salvage that did not end",
                    _ => "not of kymo",
                };
                others.push(FileReport::new(path, "other").noted(note));
            }
        }
        for report in &others {
            self.tell(report);
        }
        Ok(())
    }

    /// Without a manifest: each file for itself.
    fn one_by_one(&mut self) -> Result<(), OpenError> {
        for (directory, kind) in [(self.paths.snapshots(), "snapshot"), (self.paths.wal(), "segment")] {
            let entries = match self.disk.list(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(OpenError::io("list", directory)(error)),
            };
            for entry in entries {
                if !paths::is_snapshot(&entry.name) && paths::segment_seq(&entry.name).is_none() {
                    continue;
                }
                let path = directory.join(&entry.name);
                let mut report = FileReport::new(path.clone(), kind).noted("checked without a manifest");
                report.bytes = entry.len;
                self.look_into(&path, &mut report);
                match kind {
                    "snapshot" => self.found.snapshots += 1,
                    _ => self.found.segments += 1,
                }
                self.tell(&report);
            }
        }
        Ok(())
    }
}

fn told(problem: &Problem) -> String {
    match &problem.what {
        None => "is missing".to_owned(),
        Some(what) => format!("{what} (LSN {}, {} bytes)", problem.first_lsn, problem.bytes),
    }
}
