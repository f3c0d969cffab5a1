//! Import of the predecessor's checkpoints and archives into a store.
//!
//! Goes through the hosts in their order and hands what their files hold to [`Store::begin_import`]. What is damaged is
//! taken as far as it can be told, and named. It either happens as a whole or not at all: one that was cut off leaves
//! the store as it was, and is simply begun again.

mod host;
mod spool;
#[cfg(test)]
mod tests;

use crate::ccms::Skips;
use crate::ccms::directory::{self, Contents, File, Other};
use crate::disk::Disk;
use crate::store::{Imported, JobError, Store};
use host::Reading;
use spool::Spool;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

/// Of damaged files, of files that are not read and of metrics so many are listed one by one; all are counted.
const LISTED: usize = 1000;

/// What an import did.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Hosts of which there is something.
    pub hosts: u64,
    /// Files that were read.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Values of archives that were in memory at most.
    pub peak_values: usize,
    /// What became of the values.
    pub imported: Imported,
    /// Files of which something was passed over, the first thousand.
    pub damaged: Vec<Damaged>,
    /// How many there are.
    pub damaged_files: u64,
    /// Bytes that were passed over.
    pub skipped_bytes: u64,
    /// What is there and was not read, the first thousand.
    pub others: Vec<(PathBuf, Other)>,
    /// How much of that there is.
    pub other_files: u64,
    /// Metrics that are not configured, the first thousand: they are kept, and answered once they are configured.
    pub unconfigured: BTreeSet<String>,
}

/// A file of which something was passed over.
#[derive(Debug)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// What was passed over.
    pub skips: Skips,
    /// What the system says, if it could not be read at all.
    pub error: Option<io::Error>,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportProgress {
    /// Hosts that are done in this pass.
    pub hosts: u64,
    /// Hosts in all.
    pub hosts_total: u64,
    /// Bytes of files that are done in this pass.
    pub bytes: u64,
    /// Bytes in all files.
    pub bytes_total: u64,
    /// The pass, from 1; in pass 0 archives are read.
    pub pass: u32,
}

/// Why there is no import. The store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The directory cannot be listed.
    #[error("cannot list {}: {source}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file could be read at first and then not any more.
    #[error("{}: a page could not be read", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// The store cannot take it.
    #[error("{0}")]
    Store(#[from] JobError),
    /// What is kept aside of archives while hosts are imported cannot be written or read.
    #[error("cannot gather archives in {}: {source}", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It was told to stop.
    #[error("the import was told to stop; nothing of it was kept")]
    Stopped,
}

/// Whether there is anything to import. An error where all that is there may be in directories that may not be listed: to
/// import nothing of it would be to lose it.
pub fn has_files(disk: &dyn Disk, from: &[PathBuf]) -> Result<bool, ImportError> {
    let contents = list(disk, from)?;
    match contents.hidden() {
        Some(path) if !contents.has_files() => {
            Err(ImportError::List { path: path.to_owned(), source: io::ErrorKind::PermissionDenied.into() })
        }
        _ => Ok(contents.has_files()),
    }
}

/// Imports directories into a store, which takes no writes any more and is to be closed then. `watch` is told how far
/// it is, and says whether to go on.
pub fn import(
    store: &Store,
    disk: &dyn Disk,
    from: &[PathBuf],
    watch: &mut dyn FnMut(&ImportProgress) -> bool,
) -> Result<ImportReport, ImportError> {
    let Contents { mut hosts, archives, others } = list(disk, from)?;
    let mut report = ImportReport { other_files: others.len() as u64, ..ImportReport::default() };
    report.others = others.into_iter().take(LISTED).collect();
    hosts.retain(|_, files| !files.is_empty());
    let mut import = store.begin_import()?;
    let archived = archives.iter().map(|archive| archive.len).sum();
    let mut progress = ImportProgress { bytes_total: archived, ..ImportProgress::default() };
    let mut spool = Spool::fill(disk, import.spool(), &archives, &mut |bytes| {
        progress.bytes = bytes;
        watch(&progress)
    })?;
    report.files = archives.len() as u64;
    report.bytes = archived;
    report.peak_values = spool.peak;
    for damaged in std::mem::take(&mut spool.damaged) {
        report.damage(damaged);
    }
    for host in spool.hosts() {
        hosts.entry(host.clone()).or_default();
    }
    progress.hosts_total = hosts.len() as u64;
    progress.bytes_total = hosts.values().flatten().map(|file| file.len).sum();
    let mut failed = BTreeSet::new();
    loop {
        progress = ImportProgress { pass: progress.pass + 1, hosts: 0, bytes: 0, ..progress };
        for (names, files) in &hosts {
            if !watch(&progress) {
                return Err(ImportError::Stopped);
            }
            progress.hosts += 1;
            progress.bytes += files.iter().map(|file| file.len).sum::<u64>();
            if !import.wants_host(names) {
                continue;
            }
            let archived = spool.snapshots(names)?;
            let reading = Reading::open(disk, files, archived);
            let parsed = reading.parse();
            import.host(&names.0, &names.1, &parsed.by_metric())?;
            if let Some(path) = reading.lost().or_else(|| spool.lost()) {
                return Err(ImportError::Lost { path: path.to_owned() });
            }
            if progress.pass == 1 {
                failed.extend(reading.failed.iter().map(|damaged| damaged.path.clone()));
                report.add(store, files, parsed.metrics());
                parsed.damaged.into_iter().for_each(|damaged| report.damage(damaged));
                reading.failed.into_iter().for_each(|damaged| report.damage(damaged));
            } else if let Some(gone) = reading.failed.iter().find(|damaged| !failed.contains(&damaged.path)) {
                // What was there in the first pass has to be there in the others: days of it would be missing, and nobody
                // told.
                return Err(ImportError::Lost { path: gone.path.clone() });
            }
        }
        watch(&progress);
        if !import.next_pass()? {
            break;
        }
    }
    report.imported = import.finish()?;
    Ok(report)
}

fn list(disk: &dyn Disk, from: &[PathBuf]) -> Result<Contents, ImportError> {
    directory::read(disk, from).map_err(|(path, source)| ImportError::List { path, source })
}

impl ImportReport {
    fn add<'a>(&mut self, store: &Store, files: &[File], metrics: impl Iterator<Item = &'a str>) {
        self.hosts += 1;
        self.files += files.len() as u64;
        self.bytes += files.iter().map(|file| file.len).sum::<u64>();
        for metric in metrics {
            let is_new =
                store.options().metrics.find(metric.as_bytes()).is_none() && !self.unconfigured.contains(metric);
            if is_new && self.unconfigured.len() < LISTED {
                self.unconfigured.insert(metric.to_owned());
            }
        }
    }

    fn damage(&mut self, damaged: Damaged) {
        self.damaged_files += 1;
        self.skipped_bytes += damaged.skips.bytes;
        if self.damaged.len() < LISTED {
            self.damaged.push(damaged);
        }
    }
}
