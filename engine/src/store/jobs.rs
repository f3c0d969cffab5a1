//! The steps that the owner of the store calls: commit, prepare, retention, close.

use super::JobError;
use super::layers::Layers;
use super::{SegmentInfo, Store};
use crate::format::frame::FRAME_HEADER_LEN;
use crate::format::frame::write::host_len;
use crate::format::manifest::Free;
use crate::head::{HeadRow, RowsFrame};
use crate::slot::Run;
use crate::wal::{Link, PendingFrame, Step};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of a host without its series: its names, its state, its places in the tables.
pub(crate) const HOST_BYTES: u64 = 512;

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
        match committer.step(&|| self.env.monotonic()) {
            Step::Idle => Progress::Idle,
            Step::Full => Progress::Blocked,
            Step::Failed => Progress::Failed,
            Step::Committed { frame, took } => {
                self.count_commit(&frame, took);
                self.publish(&frame);
                committer.acknowledge(frame);
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

    /// Measures the memory of names and run tables, whose sum with the rows [`Store::write`] holds against the cap, and
    /// the length of all definitions in the log.
    pub fn measure_step(&self) {
        let hosts = self.hosts.all();
        let (mut bytes, mut definitions) = (hosts.len() as u64 * HOST_BYTES, 0);
        let mut layouts = BTreeMap::new();
        for host in &hosts {
            let state = host.state.lock();
            bytes += state.heap_bytes() as u64;
            definitions += host_len(&host.cluster, &host.name) as u64;
            layouts.insert(state.layout.id(), (state.layout.heap_bytes(), state.layout.encoded_len()));
        }
        bytes += self.templates.heap_bytes() as u64;
        for (heap_bytes, encoded_len) in layouts.into_values() {
            bytes += heap_bytes as u64;
            definitions += encoded_len as u64;
        }
        self.definition_bytes.store(definitions, Ordering::Relaxed);
        self.names_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Links the rows of a durable frame into the head.
    fn publish(&self, frame: &PendingFrame) {
        let rows = Arc::new(RowsFrame::of_records(&frame.bytes[FRAME_HEADER_LEN..], &self.head_bytes));
        let mut newest = i64::MIN;
        let mut lsn = frame.first_lsn;
        for link in &frame.links {
            match link {
                Link::Row { host, offset } => {
                    let offset = offset.saturating_sub(u32::try_from(FRAME_HEADER_LEN).unwrap_or(0));
                    if let (Some(row), Some(host)) = (rows.row(offset), self.hosts.by_id(*host)) {
                        let (run, slot) = (Run { start: row.start(), frequency: row.frequency() }, row.slot());
                        newest = newest.max(run.end_after(slot.saturating_add(1)));
                        host.state.lock().link(HeadRow { lsn, frame: Arc::clone(&rows), offset, run, slot });
                    }
                }
                Link::Free { selector, to } => {
                    let free = Free { lsn, to: *to, selector: selector.clone() };
                    let mut layers = self.layers.write();
                    let frees = layers.frees.iter().cloned().chain([free]).collect();
                    *layers = Arc::new(Layers { frees, ..Layers::clone(&layers) });
                }
            }
            lsn.0 += 1;
        }
        self.newest.fetch_max(newest, Ordering::Relaxed);
        let end = frame.offset + frame.padded_len() as u64;
        let mut segments = self.segments.lock();
        match segments.last_mut().filter(|segment| segment.seq == frame.seq) {
            Some(segment) => {
                segment.last_lsn = frame.last_lsn();
                segment.end = end;
            }
            None => segments.push(SegmentInfo { seq: frame.seq, last_lsn: frame.last_lsn(), end }),
        }
    }

    /// Prepares the segment after the one that is written, and the one that rows are appended to, off the way of the
    /// commits.
    pub fn prepare_step(&self) -> io::Result<Progress> {
        let written = self.segments.lock().last().map_or(0, |segment| segment.seq);
        let did = self.preparer.ensure(self.log.seq().max(written + 1))?;
        self.log.has_space();
        Ok(if did { Progress::Done } else { Progress::Idle })
    }

    /// Takes no more writes, commits what was taken, and moves the head into snapshots.
    pub(super) fn settle(&self) -> Result<(), JobError> {
        self.log.end();
        while self.commit_step() == Progress::Done {}
        while self.compact_step(true)? == Progress::Done {}
        Ok(())
    }

    /// Takes no more writes, commits what was taken, moves the head into snapshots, and seals the log. What cannot be
    /// moved stays in the log: the next start replays it.
    pub fn close(&self) -> Result<(), JobError> {
        let moved = self.settle();
        let committer = self.committer.lock().take();
        self.log.stop(super::Unavailable::Closed);
        let Some(committer) = committer else { return moved };
        let seq = committer.close().map_err(|source| JobError::Io { op: "close", path: self.paths.wal(), source })?;
        moved?;
        self.begin_log_at(seq)
    }
}
