//! Segments are filled with zeros ahead of use: overwriting written blocks halves the latency of a sync against a
//! growing file, and a full disk shows here, where waiting is possible, and not in the middle of a commit.

use crate::disk::Disk;
use crate::paths::Paths;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// Prepares segments, from one thread or several.
#[derive(Debug)]
pub struct Preparer {
    disk: Arc<dyn Disk>,
    paths: Paths,
    segment_len: u64,
    /// Segments up to this number are prepared.
    prepared: Mutex<u64>,
}

impl Preparer {
    /// Segments up to `prepared` exist.
    pub fn new(disk: Arc<dyn Disk>, paths: Paths, segment_len: u64, prepared: u64) -> Self {
        Self { disk, paths, segment_len, prepared: Mutex::new(prepared) }
    }

    /// Makes sure that the segments up to `seq` are prepared; returns whether there was something to do.
    pub fn ensure(&self, seq: u64) -> io::Result<bool> {
        let mut prepared = self.prepared.lock();
        let first = *prepared + 1;
        for next in first..=seq {
            self.disk.prepare(&self.paths.segment(next), self.segment_len)?;
            *prepared = next;
        }
        Ok(first <= seq)
    }

    /// The highest number that is prepared.
    pub fn prepared(&self) -> u64 {
        *self.prepared.lock()
    }
}
