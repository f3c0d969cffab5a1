//! What is live and what is durable, of a file and of a directory, and what a power cut makes of the difference.
//!
//! Files are pages that copies share until one is written, and a page of zeros takes no memory: disks are cheap to
//! copy, and a crash costs what was written since the last sync.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::rng::Rng;
use crate::disk::{BLOCK, FileBytes};

/// The unit that a device writes wholly or not, in bytes; we also let it tear.
pub(super) const SECTOR: usize = 512;
/// Sectors of a page.
const SECTORS: usize = BLOCK / SECTOR;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A page of bytes.
#[derive(Clone, Debug, Default)]
struct Bytes(Option<Arc<[u8; BLOCK]>>);

impl Bytes {
    fn get(&self) -> &[u8; BLOCK] {
        self.0.as_deref().unwrap_or(&ZEROS)
    }

    fn get_mut(&mut self) -> &mut [u8; BLOCK] {
        Arc::make_mut(self.0.get_or_insert_with(|| Arc::new(ZEROS)))
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other) || own == other,
            (None, None) => true,
            _ => self.get() == other.get(),
        }
    }

    /// Puts bytes at an offset.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if bytes.len() == BLOCK && bytes == ZEROS {
            self.0 = None;
        } else if self.0.is_some() || bytes.iter().any(|&byte| byte != 0) {
            self.get_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// What reads see of a page, what the device has of it, and which of its sectors were written since the last sync.
#[derive(Clone, Debug, Default)]
struct Page {
    live: Bytes,
    durable: Bytes,
    dirty: u8,
}

impl Page {
    /// Takes the live bytes of some sectors to the device, as far as both images reach.
    fn persist(&mut self, sectors: u8, reach: usize) {
        if sectors == u8::MAX && reach == BLOCK {
            self.durable = self.live.clone();
            return;
        }
        for sector in (0..SECTORS).filter(|sector| sectors & 1 << sector != 0) {
            let range = (sector * SECTOR).min(reach)..((sector + 1) * SECTOR).min(reach);
            self.durable.put(range.start, &self.live.get()[range]);
        }
    }
}

/// A file: what reads see, what the device has, and where they may differ. Behind its length an image is zero.
#[derive(Clone, Debug, Default)]
pub(super) struct FileImage {
    pages: Vec<Page>,
    live_len: usize,
    durable_len: usize,
    is_dirty: bool,
    /// Whether reads may see pages that a failed sync has not written, and that nobody will write.
    has_ghosts: bool,
    /// A sector that the device cannot read, until it is written.
    bad: Option<usize>,
}

/// What a power cut does to the unsynced sectors of one file.
#[derive(Clone, Copy)]
enum Profile {
    Lost,
    Kept,
    LostOrKept,
    LostOrKeptOrTorn,
    /// Page by page: written, lost, or a mixture of good, old and random sectors.
    Pages,
}

impl FileImage {
    /// The length that reads see.
    pub(super) fn len(&self) -> usize {
        self.live_len
    }

    /// The first bytes that reads see.
    pub(super) fn read(&self, len: usize) -> FileBytes {
        let len = len.min(self.live_len);
        FileBytes::build(len, |bytes| {
            for (page, bytes) in self.pages.iter().zip(bytes.chunks_mut(BLOCK)) {
                if let Some(page) = &page.live.0 {
                    bytes.copy_from_slice(&page[..bytes.len()]);
                }
            }
        })
    }

    /// Whether a sector in front of this length cannot be read, and where.
    pub(super) fn bad_before(&self, len: usize) -> Option<Range<usize>> {
        self.bad.map(|sector| sector * SECTOR..(sector + 1) * SECTOR).filter(|range| range.start < len)
    }

    /// Lets a sector be unreadable.
    pub(super) fn set_bad(&mut self, at: usize) {
        self.bad = Some(at / SECTOR);
    }

    /// How many bytes of each page both images have.
    fn reach(&self, page: usize) -> usize {
        self.live_len.min(self.durable_len).saturating_sub(page * BLOCK).min(BLOCK)
    }

    /// Writes, and grows the file where the bytes end behind it.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if self.pages.len() < end.div_ceil(BLOCK) {
            self.pages.resize_with(end.div_ceil(BLOCK), Page::default);
        }
        if end > self.live_len {
            self.mark(self.live_len..end);
            self.live_len = end;
        }
        self.mark(offset..end);
        let mut at = offset;
        while at < end {
            let (page, within) = (at / BLOCK, at % BLOCK);
            let len = (BLOCK - within).min(end - at);
            self.pages[page].live.put(within, &bytes[at - offset..at - offset + len]);
            at += len;
        }
        if self.bad.is_some_and(|sector| (offset / SECTOR..end.div_ceil(SECTOR)).contains(&sector)) {
            self.bad = None;
        }
    }

    /// Notes the sectors of some bytes as written.
    fn mark(&mut self, bytes: Range<usize>) {
        self.is_dirty = true;
        for sector in bytes.start / SECTOR..bytes.end.div_ceil(SECTOR) {
            self.pages[sector / SECTORS].dirty |= 1 << (sector % SECTORS);
        }
    }

    /// Writes some of the sectors of this write and not the others.
    pub(super) fn write_partly(&mut self, offset: usize, bytes: &[u8], rng: &mut Rng) {
        let sectors = bytes.len().div_ceil(SECTOR);
        // Sometimes all of them, or the first ones.
        let prefix = match rng.below(8) {
            0 => Some(sectors),
            1 => Some(rng.below(sectors + 1)),
            _ => None,
        };
        let (mut at, mut sector) = (0, 0);
        while at < bytes.len() {
            let end = ((offset + at) / SECTOR + 1) * SECTOR;
            let end = (end - offset).min(bytes.len());
            if prefix.map_or_else(|| rng.coin(), |prefix| sector < prefix) {
                self.write(offset + at, &bytes[at..end]);
            }
            at = end;
            sector += 1;
        }
    }

    /// Makes the file empty for readers.
    pub(super) fn clear(&mut self) {
        self.mark(0..self.live_len);
        self.is_dirty = true;
        for page in &mut self.pages {
            page.live = Bytes::default();
        }
        self.live_len = 0;
        self.bad = None;
    }

    /// Cuts the durable image off, or lets it grow by zeros.
    fn set_durable_len(&mut self, len: usize) {
        for (at, page) in self.pages.iter_mut().enumerate().skip(len / BLOCK) {
            let keep = len.saturating_sub(at * BLOCK).min(BLOCK);
            if keep == 0 {
                page.durable = Bytes::default();
            } else if page.durable.0.is_some() {
                page.durable.get_mut()[keep..].fill(0);
            }
        }
        self.durable_len = len;
    }

    /// Makes content and length durable.
    pub(super) fn sync(&mut self) {
        if !std::mem::take(&mut self.is_dirty) && self.live_len == self.durable_len {
            return;
        }
        self.set_durable_len(self.live_len);
        for at in 0..self.pages.len() {
            let reach = self.reach(at);
            let page = &mut self.pages[at];
            let dirty = std::mem::take(&mut page.dirty);
            page.persist(dirty, reach);
        }
    }

    /// Makes the sectors of one write durable, and the length if they need it; the others stay as they are.
    pub(super) fn sync_range(&mut self, offset: usize, len: usize) {
        let sectors = offset / SECTOR..(offset + len).div_ceil(SECTOR);
        let end = (sectors.end * SECTOR).min(self.live_len);
        if self.durable_len < end {
            self.set_durable_len(end);
        }
        for at in sectors.start / SECTORS..sectors.end.div_ceil(SECTORS) {
            let within = (0..SECTORS).filter(|sector| sectors.contains(&(at * SECTORS + sector)));
            let mask = within.fold(0, |mask, sector| mask | 1 << sector);
            let reach = self.reach(at);
            let page = &mut self.pages[at];
            page.persist(page.dirty & mask, reach);
            page.dirty &= !mask;
        }
    }

    /// A sync that fails: some pages reach the device, none is dirty any more, all are still seen by reads. The
    /// length stays as it was.
    pub(super) fn sync_fails(&mut self, rng: &mut Rng) {
        self.is_dirty = false;
        self.has_ghosts = true;
        for at in 0..self.pages.len() {
            let reach = self.reach(at);
            let page = &mut self.pages[at];
            let dirty = std::mem::take(&mut page.dirty);
            if dirty != 0 {
                page.persist(dirty & rng.byte(), reach);
            }
        }
    }

    /// The system needs memory: of the pages that a failed sync has left clean, reads see again what the device has of
    /// some. How many have changed by that.
    pub(super) fn evict_ghosts(&mut self, rng: &mut Rng) -> u64 {
        let mut evicted = 0;
        if std::mem::take(&mut self.has_ghosts) {
            for page in self.pages.iter_mut().filter(|page| !page.live.is_same(&page.durable)) {
                if page.dirty == 0 && rng.coin() {
                    page.live = page.durable.clone();
                    evicted += 1;
                } else {
                    self.has_ghosts = true;
                }
            }
        }
        evicted
    }

    pub(super) fn has_ghosts(&self) -> bool {
        self.has_ghosts
    }

    /// Drops the cache: reads see the device. Nothing may be dirty.
    pub(super) fn evict(&mut self) {
        debug_assert!(!self.is_dirty);
        self.has_ghosts = false;
        for page in &mut self.pages {
            page.live = page.durable.clone();
        }
        self.live_len = self.durable_len;
    }

    /// What reads see is what the device has, as of a file that was copied.
    pub(super) fn settle(&mut self) {
        (self.is_dirty, self.has_ghosts) = (false, false);
        for page in &mut self.pages {
            page.dirty = 0;
            page.durable = page.live.clone();
        }
        self.durable_len = self.live_len;
    }

    /// Puts damage where reads and the device see it.
    pub(super) fn corrupt(&mut self, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.read(usize::MAX).to_vec();
        damage(&mut content);
        *self = Self::default();
        self.write(0, &content);
        self.sync();
    }

    /// What is left after a power cut.
    pub(super) fn power_cut(&mut self, rng: &mut Rng) {
        let profile = match rng.below(10) {
            0 => Profile::Lost,
            1 => Profile::Kept,
            2..5 => Profile::LostOrKept,
            5 => Profile::Pages,
            _ => Profile::LostOrKeptOrTorn,
        };
        if std::mem::take(&mut self.is_dirty) {
            self.set_durable_len(self.length_after(rng));
            for at in 0..self.pages.len() {
                let dirty = std::mem::take(&mut self.pages[at].dirty);
                if dirty != 0 {
                    self.power_cut_page(at, dirty, profile, rng);
                }
            }
        }
        self.evict();
    }

    fn power_cut_page(&mut self, at: usize, dirty: u8, profile: Profile, rng: &mut Rng) {
        let reach = self.reach(at);
        match profile {
            Profile::Kept => self.pages[at].persist(dirty, reach),
            Profile::Lost => {}
            Profile::LostOrKept => self.pages[at].persist(dirty & rng.byte(), reach),
            Profile::Pages => match rng.below(3) {
                0 => self.pages[at].persist(dirty, reach),
                1 => {}
                _ => self.each_dirty(
                    at,
                    dirty,
                    |page, range, rng| match rng.below(12) {
                        0..3 => page.durable.put(range.start, &page.live.get()[range]),
                        3..9 => tear(page, &range, rng),
                        _ => {}
                    },
                    rng,
                ),
            },
            Profile::LostOrKeptOrTorn => self.each_dirty(
                at,
                dirty,
                |page, range, rng| match rng.below(4) {
                    0 => {}
                    1 => page.durable.put(range.start, &page.live.get()[range]),
                    _ => tear(page, &range, rng),
                },
                rng,
            ),
        }
    }

    /// Does something to the bytes of each of these sectors that both images have.
    fn each_dirty(
        &mut self,
        at: usize,
        dirty: u8,
        mut change: impl FnMut(&mut Page, Range<usize>, &mut Rng),
        rng: &mut Rng,
    ) {
        let reach = self.reach(at);
        for sector in (0..SECTORS).filter(|sector| dirty & 1 << sector != 0) {
            change(&mut self.pages[at], (sector * SECTOR).min(reach)..((sector + 1) * SECTOR).min(reach), rng);
        }
    }

    /// The old length, the new one, or one between.
    fn length_after(&self, rng: &mut Rng) -> usize {
        let (low, high) = (self.durable_len.min(self.live_len), self.durable_len.max(self.live_len));
        match rng.below(3) {
            0 => self.durable_len,
            1 => self.live_len,
            _ => low + rng.below(high - low + 1),
        }
    }
}

/// Leaves a sector new up to a point and old behind it, or the other way round, or garbage behind it.
fn tear(page: &mut Page, range: &Range<usize>, rng: &mut Rng) {
    let split = range.start + rng.below(range.len() + 1);
    let (head, tail) = (range.start..split, split..range.end);
    let Page { live, durable, .. } = page;
    match rng.below(3) {
        0 => durable.put(head.start, &live.get()[head]),
        1 => durable.put(tail.start, &live.get()[tail]),
        _ => {
            durable.put(head.start, &live.get()[head]);
            durable.get_mut()[tail].fill_with(|| rng.byte());
        }
    }
}

/// A change of the entries of a directory; each happens wholly or not at all.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Link { name: String, node: u64 },
    Unlink { name: String, node: u64 },
    Rename { from: String, to: String, node: u64 },
}

/// A directory: the entries that are seen, those that are durable, and the changes between them in order.
#[derive(Clone, Debug, Default)]
pub(super) struct DirImage {
    pub(super) live: BTreeMap<String, u64>,
    pub(super) durable: BTreeMap<String, u64>,
    pending: Vec<Change>,
}

impl DirImage {
    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }

    /// Makes the entries durable.
    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.pending.clear();
    }

    /// The nodes that entries lead to now, or may after a power cut.
    pub(super) fn reachable(&self) -> impl Iterator<Item = u64> {
        let pending = self.pending.iter().map(|change| match change {
            Change::Link { node, .. } | Change::Unlink { node, .. } | Change::Rename { node, .. } => *node,
        });
        self.live.values().chain(self.durable.values()).copied().chain(pending)
    }

    /// What is left after a power cut: mostly a prefix of the changes, sometimes any subset.
    pub(super) fn power_cut(&mut self, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let in_order = rng.below(10) < 7;
        let prefix = rng.below(pending.len() + 1);
        for (i, change) in pending.iter().enumerate() {
            if if in_order { i < prefix } else { rng.coin() } {
                apply(&mut self.durable, change);
            }
        }
        self.live.clone_from(&self.durable);
    }
}

/// A change that did not become durable may have been the ground of a later one that did: entries are only taken
/// away from the node they were taken from.
fn apply(entries: &mut BTreeMap<String, u64>, change: &Change) {
    let mut take = |name: &String, node: u64| {
        if entries.get(name) == Some(&node) {
            entries.remove(name);
        }
    };
    match change {
        Change::Link { name, node } => {
            entries.insert(name.clone(), *node);
        }
        Change::Unlink { name, node } => take(name, *node),
        Change::Rename { from, to, node } => {
            take(from, *node);
            entries.insert(to.clone(), *node);
        }
    }
}
