//! What stands where below a checkpoint directory of the predecessor: `<cluster>/<host>/<from>.bin`, `.json` and
//! `current.wal`; and below its archive: `<cluster>/<time>.parquet`.

use crate::disk::{Disk, Entry};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The files of a directory, sorted out by their names; no file is opened.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// By cluster and host.
    pub hosts: BTreeMap<(String, String), Vec<File>>,
    /// Archives, by the time in their names.
    pub archives: Vec<ArchiveFile>,
    /// What is there and not read, and why.
    pub others: Vec<(PathBuf, Other)>,
}

/// A file that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What it is by its name.
    pub kind: Kind,
    /// The number in its name, unix seconds; `None` where that is none.
    pub time: Option<i64>,
    /// Its length in bytes.
    pub len: u64,
}

/// An archive of a cluster: the time at which it was written, and the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveFile {
    /// Unix seconds, from its name; what is in it is older.
    pub time: i64,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
}

/// What a file is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A binary snapshot.
    Bin,
    /// A snapshot as text.
    Json,
    /// The log behind the last snapshot.
    Wal,
}

/// What is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Other {
    /// Samples that were sent without a host or a cluster: nothing can ask for them.
    #[error("samples that were sent without a host or without a cluster")]
    Stray,
    /// A snapshot that was never finished.
    #[error("left over by an interrupted write; what was to be in it is in current.wal")]
    Temporary,
    /// A Parquet file that is not where an archive would be, or not named so.
    #[error("not named as cc-metric-store names an archive: <cluster>/<number>.parquet")]
    Archive,
    /// A checkpoint of before 1.5.
    #[error("an Avro checkpoint of before version 1.5, which no version 1.5 reads either")]
    Avro,
    /// An archive of before 1.5.
    #[error("a zip archive of before version 1.5: unpack it into a directory of its host and import that")]
    Zip,
    /// Nested checkpoints of before 1.5.
    #[error("a directory in the directory of a host, as versions before 1.5 made; no version 1.5 reads it either")]
    Nested,
    /// None of the predecessor's.
    #[error("not a file of cc-metric-store")]
    Foreign,
    /// A name that is not UTF-8.
    #[error("its name is not UTF-8")]
    Name,
    /// A directory that this process may not look into.
    #[error("a directory that may not be listed: nothing below it was read")]
    Denied,
}

impl Contents {
    /// Whether there is something to read.
    pub fn has_files(&self) -> bool {
        !self.archives.is_empty() || self.hosts.values().any(|files| !files.is_empty())
    }

    /// A directory that may have something to read and may not be listed.
    pub fn hidden(&self) -> Option<&Path> {
        let is_hidden = |(path, what): &&(PathBuf, Other)| *what == Other::Denied && !path.ends_with("lost+found");
        self.others.iter().find(is_hidden).map(|(path, _)| &**path)
    }
}

/// Lists some directories as if they were one. What may not be listed below them is one of the others: it may be another
/// program's, as `lost+found` is. Any other error may pass, so nothing is left out for it.
pub fn read(disk: &dyn Disk, roots: &[PathBuf]) -> Result<Contents, (PathBuf, io::Error)> {
    let mut contents = Contents::default();
    for root in roots {
        read_into(disk, root, &mut contents)?;
    }
    contents.archives.sort();
    for files in contents.hosts.values_mut() {
        files.sort_by_key(|file| (file.kind == Kind::Wal, file.time, file.kind));
    }
    Ok(contents)
}

fn read_into(disk: &dyn Disk, root: &Path, contents: &mut Contents) -> Result<(), (PathBuf, io::Error)> {
    for cluster in disk.list(root).map_err(|error| (root.to_owned(), error))? {
        let path = root.join(&cluster.name);
        if !cluster.is_dir {
            contents.others.push((path, other(&cluster.name)));
            continue;
        }
        if !is_text(&cluster.name) {
            contents.others.push((path, Other::Name));
            continue;
        }
        for host in list(disk, &path, contents)? {
            let path = path.join(&host.name);
            if host.is_dir && !is_text(&host.name) {
                contents.others.push((path, Other::Name));
            } else if let Some(time) = archive_time(&host.name).filter(|_| !host.is_dir) {
                contents.archives.push(ArchiveFile { time, path, len: host.len });
            } else if host.is_dir {
                let files = files(disk, &path, contents)?;
                contents.hosts.entry((cluster.name.clone(), host.name)).or_default().extend(files);
            } else {
                contents.others.push((path, other(&host.name)));
            }
        }
    }
    Ok(())
}

/// What is in a directory below the root.
fn list(disk: &dyn Disk, directory: &Path, contents: &mut Contents) -> Result<Vec<Entry>, (PathBuf, io::Error)> {
    match disk.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            contents.others.push((directory.to_owned(), Other::Denied));
            Ok(Vec::new())
        }
        listed => listed.map_err(|error| (directory.to_owned(), error)),
    }
}

/// The files of a host.
fn files(disk: &dyn Disk, directory: &Path, contents: &mut Contents) -> Result<Vec<File>, (PathBuf, io::Error)> {
    let mut files = Vec::new();
    for entry in list(disk, directory, contents)? {
        let path = directory.join(&entry.name);
        match kind_of(&entry.name) {
            _ if entry.is_dir => contents.others.push((path, Other::Nested)),
            Some((kind, time)) => files.push(File { path, kind, time, len: entry.len }),
            _ => {
                let what = match other(&entry.name) {
                    Other::Stray => Other::Foreign,
                    what => what,
                };
                contents.others.push((path, what));
            }
        }
    }
    Ok(files)
}

/// The number in the name of an archive.
fn archive_time(name: &str) -> Option<i64> {
    name.strip_suffix(".parquet")?.parse().ok()
}

/// What a name says, and the number in it.
fn kind_of(name: &str) -> Option<(Kind, Option<i64>)> {
    if name == "current.wal" {
        return Some((Kind::Wal, None));
    }
    let (stem, extension) = name.rsplit_once('.')?;
    let kind = match extension {
        "bin" => Kind::Bin,
        "json" => Kind::Json,
        _ => return None,
    };
    Some((kind, stem.parse().ok()))
}

/// What a file is that is not read where it stands.
fn other(name: &str) -> Other {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("parquet") => Other::Archive,
        Some("avro") => Other::Avro,
        Some("zip") => Other::Zip,
        Some("tmp") => Other::Temporary,
        _ if kind_of(name).is_some() => Other::Stray,
        _ => Other::Foreign,
    }
}

/// Listings have replacement characters in place of what is not UTF-8.
fn is_text(name: &str) -> bool {
    !name.contains(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk, Target};

    /// In the order in which they are listed.
    const DIRECTORIES: [&str; 5] = ["/old", "/old/alpha", "/old/alpha/h1", "/old/alpha/h2", "/old/lost+found"];

    /// What is read where the system refuses to list the directory that comes at this place.
    fn read_without(nth: u64, errno: i32) -> Result<Contents, (PathBuf, io::Error)> {
        let disk = SimDisk::new(nth);
        for directory in DIRECTORIES {
            disk.create_dir_all(Path::new(directory)).unwrap();
        }
        for file in ["/old/alpha/h1/1.bin", "/old/alpha/h2/1.bin"] {
            disk.replace(Path::new(file), b"x").unwrap();
        }
        disk.fail(Fault { target: Target::Read, nth, errno, is_sticky: false });
        read(&disk, &["/old".into()])
    }

    #[test]
    fn a_directory_that_may_not_be_listed_is_named_and_what_stands_beside_it_is_read() {
        for (nth, denied) in (1..).zip(DIRECTORIES).skip(1) {
            let Contents { hosts, others, .. } = read_without(nth, libc::EACCES).unwrap();
            assert_eq!(others, [(denied.into(), Other::Denied)]);
            let files = hosts.values().flatten().map(|file| file.path.to_str().unwrap());
            let wanted = ["/old/alpha/h1/1.bin", "/old/alpha/h2/1.bin"].into_iter();
            assert!(files.eq(wanted.filter(|file| !file.starts_with(&format!("{denied}/")))), "{denied}");
        }
    }

    #[test]
    fn no_directory_is_left_out_for_an_error_that_may_pass() {
        let errors = (1..).zip(DIRECTORIES).map(|(nth, path)| (nth, path, libc::EMFILE));
        for (nth, path, errno) in errors.chain([(1, DIRECTORIES[0], libc::EACCES)]) {
            let (unlisted, error) = read_without(nth, errno).unwrap_err();
            assert_eq!((unlisted.to_str(), error.raw_os_error()), (Some(path), Some(errno)));
        }
    }
}
