//! The commit step: one frame to the device.

use super::open::{Log, PendingFrame};
use super::prepare::Preparer;
use crate::canary::{self, Canary};
use crate::disk::{AlignedBuf, BLOCK, LogFile};
use crate::format::frame::Place;
use crate::format::frame::write;
use crate::format::segment::{Seal, Segment};
use crate::model::Lsn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// When a sample is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the device.
    #[default]
    Sync,
    /// When the operating system has it; the device has it at most this long after.
    Interval(Duration),
}

/// What a step did.
#[derive(Debug)]
pub enum Step {
    /// Nothing waits.
    Idle,
    /// A frame is durable and is now to be published, then acknowledged with [`Committer::acknowledge`]. The next one is
    /// on its way meanwhile, if there is one.
    Committed {
        /// The frame.
        frame: PendingFrame,
        /// How long it was on its way to the device.
        took: Duration,
    },
    /// There is no space for the next segment; the frame is kept for the next step.
    Full,
    /// The log has failed and takes nothing more.
    Failed,
}

/// Writes frames, one after the other. There is one, and it owns the file that is written.
///
/// With durability `sync` a step begins the next frame before it hands on the one that has become durable: publishing
/// and waking those who wait then cost the device no time.
#[derive(Debug)]
pub struct Committer {
    log: Arc<Log>,
    preparer: Arc<Preparer>,
    durability: Durability,
    file: Option<Box<dyn LogFile>>,
    /// How the segment that is written would be sealed now.
    end: Option<Seal>,
    /// The number of the segment that is written.
    seq: u64,
    frame: Option<PendingFrame>,
    /// The frame that is on its way to the device, and since when.
    under_way: Option<(PendingFrame, Duration)>,
    /// What has failed behind a frame that was durable before: told by the next step.
    failure: Option<(&'static str, io::Error)>,
    buf: AlignedBuf,
    unsynced_since: Option<Duration>,
    /// The highest LSN that the device is known to have; each frame tells it to recovery.
    synced: Lsn,
    failed: bool,
}

impl Committer {
    /// A committer that goes on behind `end`.
    pub fn new(log: Arc<Log>, preparer: Arc<Preparer>, durability: Durability, end: Option<Seal>) -> Self {
        Self {
            log,
            preparer,
            durability,
            file: None,
            seq: 0,
            end,
            frame: None,
            under_way: None,
            failure: None,
            buf: AlignedBuf::default(),
            unsynced_since: None,
            synced: end.map_or(Lsn(0), |end| end.last_lsn),
            failed: false,
        }
    }

    /// Begins the first segment of this life, which seals what recovery found. Before any row is acknowledged.
    pub fn begin(&mut self, seq: u64, first_lsn: Lsn) -> io::Result<()> {
        self.preparer.ensure(seq)?;
        self.begin_prepared(seq, first_lsn)
    }

    fn begin_prepared(&mut self, seq: u64, first_lsn: Lsn) -> io::Result<()> {
        let mut file = self.log.disk.open_log(&self.log.paths.segment(seq))?;
        let seal = self.end.filter(|_| !canary::is(Canary::NoSeal));
        let segment = Segment { store: self.log.store, seq, first_lsn, len: self.log.options.segment_len, seal };
        self.buf.resize(BLOCK);
        self.buf.as_bytes_mut().copy_from_slice(&segment.to_block());
        file.write(0, &self.buf, true)?;
        self.file = Some(file);
        self.seq = seq;
        self.end = Some(Seal { seq, end: BLOCK as u64, last_lsn: Lsn(first_lsn.0 - 1) });
        Ok(())
    }

    /// Takes the next frame to the device. `clock` is any monotonic one.
    pub fn step(&mut self, clock: &dyn Fn() -> Duration) -> Step {
        if self.failed {
            return Step::Failed;
        }
        if let Some((what, error)) = self.failure.take() {
            return self.fail(what, &error);
        }
        if self.under_way.is_none() {
            let now = clock();
            if let Err(error) = self.sync_if_due(now) {
                return self.fail("sync", &error);
            }
            let Some(frame) = self.frame.take().or_else(|| self.log.take()) else { return Step::Idle };
            if frame.seq != self.seq || self.file.is_none() {
                if let Err(error) = self.preparer.ensure(frame.seq) {
                    let path = self.log.paths.segment(frame.seq);
                    self.log.is_full(format!("cannot prepare {}: {error}", path.display()));
                    self.frame = Some(frame);
                    return Step::Full;
                }
                if let Err(error) = self.rotate(frame.seq, frame.first_lsn) {
                    return self.fail("begin", &error);
                }
            }
            if let Err(error) = self.begin_frame(frame, now) {
                return self.fail("write", &error);
            }
        }
        match self.end_frame(clock) {
            Ok(step) => step,
            Err(error) => self.fail("write", &error),
        }
    }

    fn rotate(&mut self, seq: u64, first_lsn: Lsn) -> io::Result<()> {
        self.sync()?;
        self.begin_prepared(seq, first_lsn)
    }

    fn file(&mut self) -> io::Result<&mut Box<dyn LogFile>> {
        self.file.as_mut().ok_or_else(|| io::Error::other("no segment is open"))
    }

    /// Sends a frame of the segment that is written on its way.
    fn begin_frame(&mut self, frame: PendingFrame, now: Duration) -> io::Result<()> {
        let mut buf = std::mem::take(&mut self.buf);
        buf.resize(frame.padded_len());
        let bytes = buf.as_bytes_mut();
        let (records, padding) = bytes.split_at_mut(frame.bytes.len());
        records.copy_from_slice(&frame.bytes);
        padding.fill(0);
        let place = Place { store: self.log.store, seq: frame.seq, offset: frame.offset };
        let rows = u32::try_from(frame.links.len()).unwrap_or(u32::MAX);
        write::seal(bytes, frame.bytes.len(), place, frame.first_lsn, rows, self.synced);
        #[cfg(feature = "sim")]
        if canary::is(Canary::RewriteSyncedBlock) {
            self.rewrite_block_before(&frame)?;
        }
        match self.durability {
            Durability::Sync if canary::is(Canary::AckBeforeSync) => self.file()?.write(frame.offset, &buf, false)?,
            Durability::Sync => self.file()?.begin(frame.offset, buf)?,
            Durability::Interval(_) => {
                self.file()?.write(frame.offset, &buf, false)?;
                self.buf = buf;
                self.unsynced_since.get_or_insert(now);
            }
        }
        self.under_way = Some((frame, now));
        Ok(())
    }

    /// Waits for the frame that is on its way, and begins the next one if it belongs into the same segment.
    fn end_frame(&mut self, clock: &dyn Fn() -> Duration) -> io::Result<Step> {
        if self.durability == Durability::Sync && !canary::is(Canary::AckBeforeSync) {
            match self.file()?.finish() {
                Err(_) if canary::is(Canary::RetryFailedSync) => self.file()?.sync()?,
                finished => self.buf = finished?,
            }
        }
        let Some((frame, begun)) = self.under_way.take() else { return Ok(Step::Idle) };
        let end = frame.offset + frame.padded_len() as u64;
        self.end = Some(Seal { seq: frame.seq, end, last_lsn: frame.last_lsn() });
        let now = clock();
        if self.durability == Durability::Sync {
            self.synced = frame.last_lsn();
            self.frame = self.log.take();
            if let Some(next) = self.frame.take_if(|next| next.seq == self.seq)
                && let Err(error) = self.begin_frame(next, now)
            {
                self.failure = Some(("write", error));
            }
        }
        Ok(Step::Committed { frame, took: now.saturating_sub(begun) })
    }

    /// Goes on in the segment that recovery found last, as must not be.
    #[cfg(feature = "sim")]
    pub(crate) fn append_to_recovered(&mut self, end: Seal) -> io::Result<()> {
        self.file = Some(self.log.disk.open_log(&self.log.paths.segment(end.seq))?);
        self.seq = end.seq;
        self.end = Some(end);
        self.log.append_to_recovered(end);
        Ok(())
    }

    /// Writes the block in front of a frame once more, as must not be.
    #[cfg(feature = "sim")]
    fn rewrite_block_before(&mut self, frame: &PendingFrame) -> io::Result<()> {
        let end = usize::try_from(frame.offset).map_err(io::Error::other)?;
        let bytes = self.log.disk.read_prefix(&self.log.paths.segment(frame.seq), end)?;
        let mut block = AlignedBuf::zeroed(BLOCK);
        block.as_bytes_mut().copy_from_slice(&bytes[end - BLOCK..]);
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("no segment is open"))?;
        file.write(frame.offset - BLOCK as u64, &block, true)
    }

    /// Acknowledges a committed frame, after it was published.
    pub fn acknowledge(&self, frame: PendingFrame) {
        self.log.advance(frame);
    }

    /// How long the next step may wait before it has to sync.
    pub fn patience(&self, now: Duration) -> Option<Duration> {
        let Durability::Interval(interval) = self.durability else { return None };
        Some((self.unsynced_since? + interval).saturating_sub(now))
    }

    fn sync_if_due(&mut self, now: Duration) -> io::Result<()> {
        if self.patience(now).is_some_and(|patience| patience.is_zero()) { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.unsynced_since.take().is_some()
            && let Some(file) = &mut self.file
        {
            file.sync()?;
        }
        self.synced = self.end.map_or(self.synced, |end| end.last_lsn);
        Ok(())
    }

    fn fail(&mut self, what: &str, error: &io::Error) -> Step {
        self.failed = true;
        self.file = None;
        let path = self.log.paths.segment(self.seq.max(1));
        self.log.fail(format!("cannot {what} {}: {error}", path.display()));
        Step::Failed
    }

    /// Seals the log: the header of the next segment says where it ends, so that damage behind it cannot look like a
    /// power cut. After a step that was idle; prepares one more segment, for the next start.
    ///
    /// Returns the number of that segment, `None` where the log has failed or was never begun.
    pub fn close(mut self) -> io::Result<Option<u64>> {
        if self.failed || self.file.is_none() {
            return Ok(None);
        }
        self.sync()?;
        let seq = self.log.begin_next_segment();
        if seq != self.seq {
            self.preparer.ensure(seq)?;
            // Rows that could not be committed were never acknowledged: their LSNs are free.
            self.rotate(seq, Lsn(self.synced.0 + 1))?;
        }
        self.preparer.ensure(seq + 1)?;
        Ok(Some(seq))
    }

    /// The number of the segment that is written.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}
