//! The log of a store that may be written to at this moment.
//!
//! A writer begins a frame only when the one before is written, begins a segment only when the one before is full, and
//! removes a segment only when the manifest no longer needs it. So whatever looks like damage because it was read too
//! early or too late looks different, or like nothing at all, when it is read again. Damage stays.

use super::records::{Definitions, check_frame};
use crate::disk::Disk;
use crate::env::Serial;
use crate::error::OpenError;
use crate::format::FormatError;
use crate::format::frame::Frame;
use crate::format::manifest::Manifest;
use crate::format::segment::Segment;
use crate::model::Lsn;
use crate::paths::Paths;
use crate::wal::{self, Floor, Problem, Recovered, Replay};
use std::io;

/// How often the log is read again at most, where it looks different each time.
const TRIES: usize = 32;

/// A manifest, and the log that begins where it says.
#[derive(Debug)]
pub(super) struct LogRead {
    pub(super) manifest: Manifest,
    pub(super) recovered: Recovered,
}

/// Reads the manifest.
pub(super) fn read_manifest(disk: &dyn Disk, paths: &Paths) -> Result<Manifest, OpenError> {
    let path = paths.manifest();
    let bytes = disk.read(&path).map_err(OpenError::io("read", &path))?;
    let remedy = "Restore it from a copy of the directory".to_owned();
    Manifest::check(&bytes).map_err(|what| OpenError::Damaged { path, offset: 0, lsn: Lsn(0), what, remedy })
}

/// Reads manifest and log, and checks every frame and record. `pace` is called with the bytes of each good frame.
/// Problems are in the result, if they were found twice.
pub(super) fn read(disk: &dyn Disk, paths: &Paths, pace: &mut dyn FnMut(u64)) -> Result<LogRead, OpenError> {
    let mut before: Option<(u64, Vec<Problem>)> = None;
    let mut tries = 0;
    loop {
        tries += 1;
        let manifest = read_manifest(disk, paths)?;
        let floor =
            Floor { seq: manifest.log_floor, snapshot_lsn: manifest.snapshot_lsn, begun: manifest.generation > 1 };
        let mut checker = Checker { definitions: Definitions::default(), pace: &mut *pace };
        match wal::recover(disk, &Serial, paths, manifest.store, &floor, &mut checker) {
            Ok(recovered) => {
                let found = Some((manifest.generation, recovered.chain.problems.clone()));
                if recovered.chain.problems.is_empty() || before == found || tries == TRIES {
                    return Ok(LogRead { manifest, recovered });
                }
                before = found;
            }
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

/// Checks what a checksum does not cover.
struct Checker<'a> {
    definitions: Definitions,
    pace: &'a mut dyn FnMut(u64),
}

impl Replay for Checker<'_> {
    fn segment(&mut self, _: &Segment) {
        self.definitions.clear();
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), FormatError> {
        (self.pace)(frame.padded_len());
        check_frame(frame, &mut self.definitions)
    }
}
