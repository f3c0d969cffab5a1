//! The steps that the owner of the store calls: commit, prepare, retention, close.

use super::replayer::apply_free;
use super::{SegmentInfo, Store};
use crate::format::frame::FRAME_HEADER_LEN;
use crate::head::{HeadRow, RowsFrame};
use crate::model::Lsn;
use crate::slot::Run;
use crate::wal::{Link, PendingFrame, Step};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There was nothing to do.
    Idle,
    /// Something was done; there may be more.
    Done,
    /// It cannot be done at present; try again after a while.
    Blocked,
    /// It will never be done: the log has failed.
    Failed,
}

impl Store {
    /// Takes one frame to the device, publishes its rows, acknowledges them. One thread calls this.
    pub fn commit_step(&self) -> Progress {
        let mut committer = self.committer.lock();
        let Some(committer) = committer.as_mut() else { return Progress::Idle };
        let begun = self.env.monotonic();
        match committer.step(begun) {
            Step::Idle => Progress::Idle,
            Step::Full => Progress::Blocked,
            Step::Failed => Progress::Failed,
            Step::Committed(frame) => {
                let took = self.env.monotonic().saturating_sub(begun);
                self.count_commit(&frame, took);
                self.publish(&frame);
                committer.acknowledge(&frame);
                Progress::Done
            }
        }
    }

    /// Waits until there may be something to commit, at most `patience`.
    pub fn wait_for_work(&self, patience: Duration) {
        let now = self.env.monotonic();
        let until_sync = self.committer.lock().as_ref().and_then(|committer| committer.patience(now));
        self.log.wait_for_work(until_sync.map_or(patience, |until| until.min(patience)));
    }

    fn count_commit(&self, frame: &PendingFrame, took: Duration) {
        self.counters.commit(frame.padded_len() as u64, took);
        self.counters.rows.fetch_add(frame.links.len() as u64, Ordering::Relaxed);
    }

    /// Links the rows of a durable frame into the head.
    fn publish(&self, frame: &PendingFrame) {
        let rows = Arc::new(RowsFrame::of_records(&frame.bytes[FRAME_HEADER_LEN..]));
        self.counters.head_bytes.fetch_add(rows.heap_bytes() as u64, Ordering::Relaxed);
        let mut newest = i64::MIN;
        let mut lsn = frame.first_lsn;
        for link in &frame.links {
            match link {
                Link::Row { host, offset } => {
                    let offset = offset.saturating_sub(u32::try_from(FRAME_HEADER_LEN).unwrap_or(0));
                    if let Some(row) = rows.row(offset) {
                        let run = Run { start: row.start(), frequency: row.frequency() };
                        newest = newest.max(run.end_after(row.slot().saturating_add(1)));
                    }
                    if let Some(host) = self.hosts.by_id(*host) {
                        host.state.lock().link(HeadRow { lsn, frame: Arc::clone(&rows), offset });
                    }
                }
                Link::Free { selector, to } => apply_free(&self.hosts, selector, *to, lsn),
            }
            lsn.0 += 1;
        }
        self.newest.fetch_max(newest, Ordering::Relaxed);
        let mut segments = self.segments.lock();
        match segments.last_mut().filter(|segment| segment.seq == frame.seq) {
            Some(segment) => {
                segment.last_lsn = frame.last_lsn();
                segment.newest = segment.newest.max(newest);
            }
            None => segments.push(SegmentInfo { seq: frame.seq, last_lsn: frame.last_lsn(), newest }),
        }
    }

    /// Prepares the segment after the one that is written, off the way of the commits.
    pub fn prepare_step(&self) -> io::Result<Progress> {
        let written = self.segments.lock().last().map_or(0, |segment| segment.seq);
        let did = self.preparer.ensure(written.max(self.preparer.prepared().min(written)) + 1)?;
        self.log.has_space();
        Ok(if did { Progress::Done } else { Progress::Idle })
    }

    /// Drops the oldest segments whose data are all older than the retention, and their rows.
    ///
    /// The present is the wall clock, but never later than the newest sample: a machine that starts with a wrong
    /// clock must not delete history. One call drops one segment.
    pub fn retention_step(&self) -> io::Result<Progress> {
        let Some(retention) = self.options.retention else { return Ok(Progress::Idle) };
        let now = self.env.unix_now().min(self.newest.load(Ordering::Relaxed));
        let limit = now.saturating_sub(retention);
        let (dropped, kept) = {
            let segments = self.segments.lock();
            match &segments[..] {
                [first, second, ..] if first.newest < limit => (*first, *second),
                _ => return Ok(Progress::Idle),
            }
        };
        let floor_lsn = Lsn(dropped.last_lsn.0 + 1);
        {
            let mut manifest = self.manifest.lock();
            manifest.log_floor = kept.seq;
            manifest.floor_lsn = floor_lsn;
            self.replace_manifest(&mut manifest)?;
        }
        self.segments.lock().remove(0);
        self.disk.unlink(&self.paths.segment(dropped.seq))?;
        self.disk.sync_dir(&self.paths.wal())?;
        for host in self.hosts.all() {
            host.state.lock().drop_below(floor_lsn);
        }
        Ok(Progress::Done)
    }

    /// Takes no more writes, commits what was taken, and seals the log.
    pub fn close(&self) -> io::Result<()> {
        self.log.end();
        while self.commit_step() == Progress::Done {}
        match self.committer.lock().take() {
            Some(committer) => committer.close(),
            None => Ok(()),
        }
    }
}
