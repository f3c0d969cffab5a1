//! The open end of the log: rows become bytes of the next frame.

use crate::canary::{self, Canary};
use crate::disk::{BLOCK, Disk};
use crate::error::Unavailable;
use crate::format::StoreId;
use crate::format::frame::write::{self, RowValues};
use crate::format::frame::{FRAME_HEADER_LEN, Key};
use crate::model::Lsn;
use crate::names::{Layout, Layouts};
use crate::paths::Paths;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of a segment, a multiple of the block and at least [`super::SEGMENT_LEN_MIN`].
    pub segment_len: u64,
    /// Bytes that may wait for the device before writes are refused.
    pub pending_max: usize,
}

/// Something that a frame does to the head when it is durable.
#[derive(Clone, Debug)]
pub enum Link {
    /// A row of a host.
    Row {
        /// The host's number in this process.
        host: u32,
        /// Where the record begins in the frame.
        offset: u32,
    },
    /// A free.
    Free {
        /// The names that it selects.
        selector: Vec<String>,
        /// Runs that ended before this are gone, in unix seconds.
        to: i64,
    },
}

/// A closed frame on its way to the device. Each link has the next LSN.
#[derive(Debug)]
pub struct PendingFrame {
    /// The number of its segment.
    pub seq: u64,
    /// Where it stands there.
    pub offset: u64,
    /// The LSN of its first link.
    pub first_lsn: Lsn,
    /// Room for the header, then the records.
    pub bytes: Vec<u8>,
    /// What it does to the head.
    pub links: Vec<Link>,
}

impl PendingFrame {
    /// The LSN of its last link, or the one before its first.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + self.links.len() as u64 - 1)
    }

    /// Bytes in the segment.
    pub fn padded_len(&self) -> usize {
        self.bytes.len().next_multiple_of(BLOCK)
    }
}

type Waiter = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;

/// The log of a store, shared by those who append and the one who commits.
pub struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) paths: Paths,
    pub(super) store: StoreId,
    pub(super) options: LogOptions,
    layouts: Arc<Layouts>,
    open: Mutex<Open>,
    work: Condvar,
    durable: AtomicU64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("store", &self.store).field("durable", &self.durable()).finish_non_exhaustive()
    }
}

struct Open {
    next_lsn: Lsn,
    seq: u64,
    offset: u64,
    frame: Vec<u8>,
    first_lsn: Lsn,
    links: Vec<Link>,
    /// The memory of frames that were committed, for the next ones.
    spare: Vec<(Vec<u8>, Vec<Link>)>,
    local: LocalIds,
    closed: VecDeque<PendingFrame>,
    /// Bytes of the frames that were closed and are not durable yet.
    closed_bytes: usize,
    waiters: VecDeque<(Lsn, Waiter)>,
    failed: Option<Unavailable>,
    full: Option<Unavailable>,
    ending: bool,
}

/// Ids that the segment under construction has given.
#[derive(Default)]
struct LocalIds {
    hosts: HashMap<u32, u32, foldhash::fast::RandomState>,
    layouts: HashMap<u32, u32, foldhash::fast::RandomState>,
    next_layout: u32,
}

/// How the log is doing, for metrics and readiness.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// The highest durable LSN.
    pub durable: Lsn,
    /// The highest LSN that was given.
    pub last: Lsn,
    /// Bytes that wait for the device.
    pub pending_bytes: usize,
    /// Why writes are refused at present.
    pub refuses: Option<Unavailable>,
}

/// Frames whose memory is kept: one on its way to the device, one whose rows are linked.
const SPARE_FRAMES: usize = 2;

/// Bytes of definitions in one record: a layout with more keys is a chain of records.
const LAYOUT_CHUNK: usize = 32 << 10;

impl Log {
    /// A log whose next row is `next_lsn` and whose next segment is `seq`.
    pub fn new(
        disk: Arc<dyn Disk>,
        paths: Paths,
        store: StoreId,
        layouts: Arc<Layouts>,
        options: LogOptions,
        seq: u64,
        next_lsn: Lsn,
    ) -> Self {
        let open = Open {
            next_lsn,
            seq,
            offset: BLOCK as u64,
            frame: new_frame(),
            first_lsn: next_lsn,
            links: Vec::new(),
            spare: Vec::new(),
            local: LocalIds::default(),
            closed: VecDeque::new(),
            closed_bytes: 0,
            waiters: VecDeque::new(),
            failed: None,
            full: None,
            ending: false,
        };
        Self {
            disk,
            paths,
            store,
            options,
            layouts,
            open: Mutex::new(open),
            work: Condvar::new(),
            durable: AtomicU64::new(next_lsn.0.saturating_sub(1)),
        }
    }

    /// The highest durable LSN.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Whether rows are taken; the reason if not.
    pub fn admit(&self) -> Result<(), Unavailable> {
        self.open.lock().admit(self.options.pending_max)
    }

    /// Appends a row of at most [`super::ROW_VALUES_MAX`] values. The caller holds the host's lock, so that the LSNs
    /// of a host rise in the order in which its samples were placed.
    pub fn append_row(
        &self,
        (host, cluster, name): (u32, &str, &str),
        layout: &Layout,
        row: &RowValues<'_>,
    ) -> Result<Lsn, Unavailable> {
        let mut open = self.open.lock();
        open.check_alive()?;
        let row_len = row.record_len();
        let new_host = !open.local.hosts.contains_key(&host);
        let new_layout = !open.local.layouts.contains_key(&layout.id());
        let host_len = if new_host { write::host_len(cluster, name) } else { 0 };
        // A chunk ends early by at most one key, and has a header and padding.
        let layout_len =
            if new_layout { layout.encoded_len() / LAYOUT_CHUNK * 1024 + layout.encoded_len() + 1024 } else { 0 };
        if !open.has_room(self, host_len + layout_len + row_len) {
            open.next_segment();
        }
        let host_id = open.local_host(self, host, cluster, name);
        let layout_id = open.local_layout(self, layout);
        open.make_room(self, row_len);
        let offset = open.frame.len();
        write::row(&mut open.frame, host_id, layout_id, row);
        Ok(self.link(&mut open, |offset| Link::Row { host, offset }, offset))
    }

    /// Appends a free: everything that `selector` names and that ended before `to` is gone. At most four names, each
    /// at most 255 bytes.
    pub fn append_free(&self, selector: &[String], to: i64) -> Result<Lsn, Unavailable> {
        let mut open = self.open.lock();
        open.check_alive()?;
        let len = write::free_len(selector);
        if !open.has_room(self, len) {
            open.next_segment();
        }
        open.make_room(self, len);
        let offset = open.frame.len();
        write::free(&mut open.frame, selector, to);
        Ok(self.link(&mut open, |_| Link::Free { selector: selector.to_vec(), to }, offset))
    }

    fn link(&self, open: &mut Open, link: impl FnOnce(u32) -> Link, offset: usize) -> Lsn {
        let lsn = open.next_lsn;
        // Frames are far shorter than 4 GiB.
        open.links.push(link(u32::try_from(offset).unwrap_or(u32::MAX)));
        open.next_lsn.0 += 1;
        self.work.notify_one();
        lsn
    }

    /// Goes on behind the end of a segment that was recovered, as must not be, with ids that it has not given.
    #[cfg(feature = "sim")]
    pub(super) fn append_to_recovered(&self, end: crate::format::segment::Seal) {
        let mut open = self.open.lock();
        (open.seq, open.offset) = (end.seq, end.end);
        let blocks = u32::try_from(end.end / BLOCK as u64).unwrap_or(0);
        open.local.next_layout = 64 * blocks;
        open.local.hosts.extend((0..8 * blocks).map(|used| (u32::MAX - used, 0)));
    }

    /// The number of the segment that rows are appended to.
    pub fn seq(&self) -> u64 {
        self.open.lock().seq
    }

    /// Calls `done` when all up to `lsn` is durable, at once if it is, or with the reason why it never will be.
    pub fn when_durable(&self, lsn: Lsn, done: Waiter) {
        let outcome = {
            let mut open = self.open.lock();
            if lsn <= self.durable() {
                Ok(())
            } else if let Some(cause) = &open.failed {
                Err(cause.clone())
            } else {
                let at = open.waiters.partition_point(|(waiting, _)| *waiting <= lsn);
                open.waiters.insert(at, (lsn, done));
                return;
            }
        };
        done(outcome);
    }

    /// Waits until there may be something to commit, at most `patience`.
    pub fn wait_for_work(&self, patience: Duration) {
        let mut open = self.open.lock();
        if !open.has_work() && !open.ending {
            // A timeout and a wake-up are the same to the caller, who looks again.
            self.work.wait_for(&mut open, patience);
        }
    }

    /// Takes no more rows; those that were taken are still committed.
    pub fn end(&self) {
        self.open.lock().ending = true;
        self.work.notify_all();
    }

    /// How the log is doing.
    pub fn pulse(&self) -> Pulse {
        let open = self.open.lock();
        Pulse {
            durable: self.durable(),
            last: Lsn(open.next_lsn.0 - 1),
            pending_bytes: open.pending_bytes(),
            refuses: open.admit(self.options.pending_max).err(),
        }
    }

    /// The next frame for the device: the open one is closed if no other waits.
    pub(super) fn take(&self) -> Option<PendingFrame> {
        let mut open = self.open.lock();
        if open.closed.is_empty() {
            open.close_frame();
        }
        open.closed.pop_front()
    }

    /// Ends the segment that rows are appended to: later rows go to the next one. Returns the last LSN before.
    pub fn rotate(&self) -> Lsn {
        let mut open = self.open.lock();
        open.next_segment();
        self.work.notify_one();
        Lsn(open.next_lsn.0 - 1)
    }

    /// The number of the segment after the last one that rows were appended to, for sealing at the end.
    pub(super) fn begin_next_segment(&self) -> u64 {
        let mut open = self.open.lock();
        open.next_segment();
        open.seq
    }

    /// Everything up to the end of `frame` is durable.
    pub(super) fn advance(&self, frame: PendingFrame) {
        let lsn = frame.last_lsn();
        let ready: Vec<Waiter> = {
            let mut open = self.open.lock();
            open.full = None;
            open.closed_bytes -= frame.bytes.len();
            open.keep_memory(frame);
            self.durable.store(lsn.0, Ordering::Release);
            let count = open.waiters.partition_point(|(waiting, _)| *waiting <= lsn);
            open.waiters.drain(..count).map(|(_, waiter)| waiter).collect()
        };
        for waiter in ready {
            waiter(Ok(()));
        }
    }

    /// The log has failed; the first cause is kept.
    pub(super) fn fail(&self, cause: String) {
        self.stop(Unavailable::Failed(cause));
    }

    /// Nothing is committed any more: whoever still waits is told why.
    pub fn stop(&self, cause: Unavailable) {
        let (waiters, cause) = {
            let mut open = self.open.lock();
            let cause = open.failed.get_or_insert(cause).clone();
            (std::mem::take(&mut open.waiters), cause)
        };
        for (_, waiter) in waiters {
            waiter(Err(cause.clone()));
        }
    }

    /// There is no space for the next segment, until [`Log::has_space`] or a commit.
    pub fn is_full(&self, why: String) {
        self.open.lock().full = Some(Unavailable::Full(why));
    }

    /// There is space for the next segment.
    pub fn has_space(&self) {
        self.open.lock().full = None;
    }
}

fn new_frame() -> Vec<u8> {
    vec![0; FRAME_HEADER_LEN]
}

impl Open {
    fn check_alive(&self) -> Result<(), Unavailable> {
        match &self.failed {
            Some(cause) => Err(cause.clone()),
            None if self.ending => Err(Unavailable::Closed),
            None => Ok(()),
        }
    }

    fn admit(&self, pending_max: usize) -> Result<(), Unavailable> {
        self.check_alive()?;
        if let Some(full) = &self.full {
            return Err(full.clone());
        }
        let pending_bytes = self.pending_bytes();
        if pending_bytes > pending_max {
            return Err(Unavailable::Overloaded(pending_bytes));
        }
        Ok(())
    }

    /// Bytes of frames that are not durable; definitions are among them.
    fn pending_bytes(&self) -> usize {
        self.closed_bytes + self.frame.len() - FRAME_HEADER_LEN
    }

    fn has_work(&self) -> bool {
        !self.closed.is_empty() || self.frame.len() > FRAME_HEADER_LEN
    }

    /// Whether the segment has room for records of `len` bytes, split into frames.
    fn has_room(&self, log: &Log, len: usize) -> bool {
        let frame_max = frame_max(log.options.segment_len);
        let frames = (self.frame.len() + len) / frame_max + 2;
        let need = self.frame.len() + len + frames * (2 * BLOCK);
        self.offset.saturating_add(need as u64) <= log.options.segment_len
    }

    fn make_room(&mut self, log: &Log, len: usize) {
        if self.frame.len() + len > frame_max(log.options.segment_len) {
            self.close_frame();
        }
    }

    fn close_frame(&mut self) {
        if self.frame.len() == FRAME_HEADER_LEN {
            return;
        }
        let (bytes, links) = self.spare.pop().unwrap_or_else(|| (new_frame(), Vec::new()));
        let frame = PendingFrame {
            seq: self.seq,
            offset: self.offset,
            first_lsn: self.first_lsn,
            bytes: std::mem::replace(&mut self.frame, bytes),
            links: std::mem::replace(&mut self.links, links),
        };
        self.first_lsn = self.next_lsn;
        self.closed_bytes += frame.bytes.len();
        self.offset += frame.padded_len() as u64;
        self.closed.push_back(frame);
    }

    /// Keeps the memory of a frame, of as many as can be under way.
    fn keep_memory(&mut self, PendingFrame { mut bytes, mut links, .. }: PendingFrame) {
        if self.spare.len() < SPARE_FRAMES {
            links.clear();
            bytes.clear();
            bytes.resize(FRAME_HEADER_LEN, 0);
            self.spare.push((bytes, links));
        }
    }

    fn next_segment(&mut self) {
        self.close_frame();
        if self.offset > BLOCK as u64 {
            self.seq += 1;
            self.offset = BLOCK as u64;
            if !canary::is(Canary::SegmentsShareDefinitions) {
                self.local = LocalIds::default();
            }
        }
    }

    fn local_host(&mut self, log: &Log, host: u32, cluster: &str, name: &str) -> u32 {
        if let Some(&known) = self.local.hosts.get(&host) {
            return known;
        }
        let id = u32::try_from(self.local.hosts.len()).unwrap_or(u32::MAX) + 1;
        self.make_room(log, write::host_len(cluster, name));
        write::host(&mut self.frame, id, cluster, name);
        self.local.hosts.insert(host, id);
        id
    }

    fn local_layout(&mut self, log: &Log, layout: &Layout) -> u32 {
        if let Some(&known) = self.local.layouts.get(&layout.id()) {
            return known;
        }
        let mut id = 0;
        log.layouts.with_key_names(layout, |metrics, keys| {
            let named = |key: &crate::names::Key| write::key_len(&named(metrics, key));
            let mut rest = keys;
            while !rest.is_empty() {
                let mut len = 0;
                let count = rest.iter().take_while(|key| {
                    len += named(key);
                    len <= LAYOUT_CHUNK
                });
                let (chunk, after) = rest.split_at(count.count().max(1));
                rest = after;
                let chunk = chunk.iter().map(|key| self::named(metrics, key));
                self.make_room(log, write::layout_len(chunk.clone()));
                let parent = std::mem::replace(&mut id, self.local.next_layout + 1);
                self.local.next_layout = id;
                write::layout(&mut self.frame, id, parent, chunk);
            }
        });
        self.local.layouts.insert(layout.id(), id);
        id
    }
}

fn named<'a>(metrics: &'a [Arc<str>], key: &'a crate::names::Key) -> Key<'a> {
    Key {
        metric: metrics.get(key.metric.0 as usize).map_or("", |name| name),
        component: &key.component,
        subcomponent: &key.subcomponent,
    }
}

/// Bytes of the longest frame in segments of a length.
pub(super) fn frame_max(segment_len: u64) -> usize {
    usize::try_from(segment_len / 4).unwrap_or(usize::MAX).min(1 << 20)
}
