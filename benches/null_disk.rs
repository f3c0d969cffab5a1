//! A disk that drops everything at no cost, for what the engine does without one, or after a time that is always the
//! same, for what it does beside one. Nothing reads back: a store is made on it, never opened again.

use crate::env::now;
use kymo_engine::disk::{AlignedBuf, Disk, Entry, FileBytes, Lock, LogFile, NewFile, Region};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct NullDisk {
    /// How long a durable write of the log takes.
    pub(crate) latency: Duration,
}

#[derive(Debug, Default)]
struct NullFile {
    latency: Duration,
    /// What is under way, and when it ends.
    begun: VecDeque<(AlignedBuf, Duration)>,
}

impl NullFile {
    fn wait(until: Duration) {
        if !until.is_zero() {
            std::thread::sleep(until.saturating_sub(now()));
        }
    }
}

impl Disk for NullDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn read_prefix(&self, _: &Path, _: usize) -> io::Result<FileBytes> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn replace(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn prepare(&self, _: &Path, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn open_log(&self, _: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(NullFile { latency: self.latency, ..NullFile::default() }))
    }

    fn create(&self, _: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(NullFile::default()))
    }

    fn map(&self, _: &Path) -> io::Result<Region> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn unlink(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path, _: &str) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(NullFile::default()))
    }

    fn name(&self) -> &'static str {
        if self.latency.is_zero() { "null" } else { "timed" }
    }
}

impl LogFile for NullFile {
    fn write(&mut self, _: u64, _: &AlignedBuf, durable: bool) -> io::Result<()> {
        if durable && !self.latency.is_zero() {
            Self::wait(now() + self.latency);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn begin(&mut self, _: u64, blocks: AlignedBuf) -> io::Result<()> {
        let ends = if self.latency.is_zero() { Duration::ZERO } else { now() + self.latency };
        self.begun.push_back((blocks, ends));
        Ok(())
    }

    fn finish(&mut self) -> io::Result<AlignedBuf> {
        let (blocks, ends) = self.begun.pop_front().ok_or(io::ErrorKind::InvalidInput)?;
        Self::wait(ends);
        Ok(blocks)
    }
}

impl NewFile for NullFile {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl Lock for NullFile {}
