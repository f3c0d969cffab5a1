//! The small commands that look at a store from outside: they print what `kymo_engine::tools` finds.
//!
//! Data go to stdout, talk goes to stderr. A reader of stdout that has gone ends the command without an error.

mod backup;
mod cleanup;
mod estimate;
mod export;
mod import;
mod inspect;
pub(crate) mod out;
mod verify;

pub(crate) use backup::backup;
pub use cleanup::Due;
pub(crate) use cleanup::cleanup;
pub use estimate::estimate;
pub(crate) use export::export;
pub use export::{ExportFormat, Exported};
pub use import::import;
pub(crate) use import::{lines as import_lines, summary as import_summary};
pub use inspect::inspect;
pub(crate) use verify::verify;

use kymo_engine::disk::{self, Disk};
use kymo_engine::import::ImportError;
use kymo_engine::store::{JobError, OpenError};
use kymo_engine::tools::backup::BackupError;
use kymo_engine::tools::inspect::InspectError;
use std::io;
use std::sync::Arc;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// What was to be looked at is damaged, as the output tells.
    #[error("damage was found: {0}")]
    Damage(String),
    /// A store cannot be read.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// A file cannot be read.
    #[error("{0}")]
    Inspect(#[from] InspectError),
    /// There is no backup.
    #[error("{0}")]
    Backup(#[from] BackupError),
    /// Days were not archived, or not dropped; what was not done is still there.
    #[error("{0}")]
    Job(#[from] JobError),
    /// Nobody tells which hosts are in use.
    #[error("the backend does not tell which hosts are in use, nothing was done: {0}")]
    Nodes(String),
    /// There is no import.
    #[error("{0}")]
    Import(#[from] ImportError),
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ToolError {
    /// The exit code: 4 for damage, 2 for what cannot be asked for, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Damage(_) | Self::Backup(BackupError::Damaged { .. }) => 4,
            Self::Inspect(InspectError::NoSamples { .. })
            | Self::Backup(BackupError::NotEmpty { .. } | BackupError::Inside { .. }) => 2,
            Self::Open(error) | Self::Backup(BackupError::Open(error)) => open_exit_code(error),
            _ => 1,
        }
    }
}

/// The exit code for a store that does not open: 3 for a directory in use, 4 for damage, 1 for the rest.
pub(crate) fn open_exit_code(error: &OpenError) -> u8 {
    match error {
        OpenError::InUse { .. } => 3,
        OpenError::Damaged { .. } | OpenError::Missing { .. } | OpenError::Snapshot { .. } => 4,
        _ => 1,
    }
}

/// Plain system calls: nothing here is in a hurry.
fn open_disk() -> io::Result<Arc<dyn Disk>> {
    disk::open(disk::IoKind::Posix).map(|(disk, _)| disk)
}
