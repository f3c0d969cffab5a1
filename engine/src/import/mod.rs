//! Import of the predecessor's checkpoints into a store.
//!
//! Goes through the hosts in their order and hands what their files hold to [`Store::begin_import`]. What is damaged is
//! taken as far as it can be told, and named. It either happens as a whole or not at all: one that was cut off leaves
//! the store as it was, and is simply begun again.

mod host;

use crate::ccms::Skips;
use crate::ccms::directory::{self, Contents, File, Other};
use crate::disk::Disk;
use crate::store::{Imported, JobError, Store};
use host::Reading;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Of damaged files, of files that are not read and of metrics so many are listed one by one; all are counted.
const LISTED: usize = 1000;

/// What an import did.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Hosts with files.
    pub hosts: u64,
    /// Files that were read.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
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
    /// The pass, from 1.
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
    /// It was told to stop.
    #[error("the import was told to stop; nothing of it was kept")]
    Stopped,
}

/// Whether there is anything to import.
pub fn has_files(disk: &dyn Disk, from: &Path) -> Result<bool, ImportError> {
    let contents = list(disk, from)?;
    Ok(contents.hosts.values().any(|files| !files.is_empty()))
}

/// Imports a directory into a store, which takes no writes any more and is to be closed then. `watch` is told how far
/// it is, and says whether to go on.
pub fn import(
    store: &Store,
    disk: &dyn Disk,
    from: &Path,
    watch: &mut dyn FnMut(&ImportProgress) -> bool,
) -> Result<ImportReport, ImportError> {
    let contents = list(disk, from)?;
    let mut report = ImportReport { other_files: contents.others.len() as u64, ..ImportReport::default() };
    report.others = contents.others.iter().take(LISTED).cloned().collect();
    let files = || contents.hosts.values().flatten();
    let mut progress = ImportProgress {
        hosts_total: contents.hosts.len() as u64,
        bytes_total: files().map(|file| file.len).sum(),
        ..ImportProgress::default()
    };
    let mut import = store.begin_import()?;
    loop {
        progress = ImportProgress { pass: progress.pass + 1, hosts: 0, bytes: 0, ..progress };
        for ((cluster, host), files) in &contents.hosts {
            if !watch(&progress) {
                return Err(ImportError::Stopped);
            }
            let reading = Reading::open(disk, files);
            let parsed = reading.parse();
            import.host(cluster, host, &parsed.by_metric())?;
            if let Some(path) = reading.lost() {
                return Err(ImportError::Lost { path: path.to_owned() });
            }
            if progress.pass == 1 {
                report.add(store, files, parsed.metrics());
                parsed.damaged.into_iter().for_each(|damaged| report.damage(damaged));
                reading.failed.into_iter().for_each(|damaged| report.damage(damaged));
            }
            progress.hosts += 1;
            progress.bytes += files.iter().map(|file| file.len).sum::<u64>();
        }
        watch(&progress);
        if !import.next_pass()? {
            break;
        }
    }
    report.imported = import.finish()?;
    Ok(report)
}

fn list(disk: &dyn Disk, from: &Path) -> Result<Contents, ImportError> {
    directory::read(disk, from).map_err(|(path, source)| ImportError::List { path, source })
}

impl ImportReport {
    fn add<'a>(&mut self, store: &Store, files: &[File], metrics: impl Iterator<Item = &'a str>) {
        self.hosts += u64::from(!files.is_empty());
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
