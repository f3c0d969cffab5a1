//! What is live and what is durable, of a file and of a directory, and what a power cut makes of the difference.

use std::collections::{BTreeMap, BTreeSet};

use super::rng::Rng;

/// The unit that a device writes wholly or not, in bytes; we also let it tear.
pub(super) const SECTOR: usize = 512;

/// A file: what reads see, what the device has, and where they may differ.
#[derive(Debug, Default)]
pub(super) struct FileImage {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Sectors written since they were last synced, by number.
    dirty: BTreeSet<usize>,
}

/// What a power cut does to the unsynced sectors of one file.
#[derive(Clone, Copy)]
enum Profile {
    Lost,
    Kept,
    LostOrKept,
    LostOrKeptOrTorn,
}

impl FileImage {
    /// Writes, and grows the file where the bytes end behind it.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        let grown_from = self.live.len();
        if end > grown_from {
            self.live.resize(end, 0);
            self.dirty.extend(grown_from / SECTOR..end.div_ceil(SECTOR));
        }
        self.live[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    /// Writes some of the sectors of this write and not the others.
    pub(super) fn write_partly(&mut self, offset: usize, bytes: &[u8], rng: &mut Rng) {
        let mut at = 0;
        while at < bytes.len() {
            let end = ((offset + at) / SECTOR + 1) * SECTOR;
            let end = (end - offset).min(bytes.len());
            if rng.coin() {
                self.write(offset + at, &bytes[at..end]);
            }
            at = end;
        }
    }

    /// Makes this the content.
    pub(super) fn set(&mut self, content: &[u8]) {
        self.dirty.extend(0..self.live.len().max(content.len()).div_ceil(SECTOR));
        self.live = content.to_vec();
    }

    /// Makes content and length durable.
    pub(super) fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.persist(sector);
        }
    }

    /// Makes the sectors of one write durable, and the length if they need it; the others stay as they are.
    pub(super) fn sync_range(&mut self, offset: usize, len: usize) {
        let sectors = offset / SECTOR..(offset + len).div_ceil(SECTOR);
        let end = (sectors.end * SECTOR).min(self.live.len());
        self.durable.resize(self.durable.len().max(end), 0);
        for sector in sectors {
            if self.dirty.remove(&sector) {
                self.persist(sector);
            }
        }
    }

    /// A sync that fails: some pages reach the device, none is dirty any more, all are still seen by reads. The
    /// length stays as it was.
    pub(super) fn sync_fails(&mut self, rng: &mut Rng) {
        for sector in std::mem::take(&mut self.dirty) {
            if rng.coin() {
                self.persist(sector);
            }
        }
    }

    /// Drops the cache: reads see the device. Nothing may be dirty.
    pub(super) fn evict(&mut self) {
        debug_assert!(self.dirty.is_empty());
        self.live.clone_from(&self.durable);
    }

    /// Puts damage where reads and the device see it.
    pub(super) fn corrupt(&mut self, damage: impl FnOnce(&mut Vec<u8>)) {
        damage(&mut self.live);
        self.durable.clone_from(&self.live);
        self.dirty.clear();
    }

    /// What is left after a power cut.
    pub(super) fn power_cut(&mut self, rng: &mut Rng) {
        let profile = match rng.below(8) {
            0 => Profile::Lost,
            1 => Profile::Kept,
            2..5 => Profile::LostOrKept,
            _ => Profile::LostOrKeptOrTorn,
        };
        if !self.dirty.is_empty() {
            let len = self.length_after(rng);
            self.durable.resize(len, 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            match profile {
                Profile::Kept => self.persist(sector),
                Profile::LostOrKept if rng.coin() => self.persist(sector),
                Profile::Lost | Profile::LostOrKept => {}
                Profile::LostOrKeptOrTorn => match rng.below(4) {
                    0 => {}
                    1 => self.persist(sector),
                    _ => self.tear(sector, rng),
                },
            }
        }
        self.evict();
    }

    /// The old length, the new one, or one between.
    fn length_after(&self, rng: &mut Rng) -> usize {
        let (low, high) = (self.durable.len().min(self.live.len()), self.durable.len().max(self.live.len()));
        match rng.below(3) {
            0 => self.durable.len(),
            1 => self.live.len(),
            _ => low + rng.below(high - low + 1),
        }
    }

    /// The bytes of a sector that both images have.
    fn range(&self, sector: usize) -> std::ops::Range<usize> {
        let end = ((sector + 1) * SECTOR).min(self.live.len()).min(self.durable.len());
        (sector * SECTOR).min(end)..end
    }

    fn persist(&mut self, sector: usize) {
        let range = self.range(sector);
        self.durable[range.clone()].copy_from_slice(&self.live[range]);
    }

    /// Leaves a sector new up to a point and old behind it, or the other way round, or garbage behind it.
    fn tear(&mut self, sector: usize, rng: &mut Rng) {
        let range = self.range(sector);
        let split = range.start + rng.below(range.len() + 1);
        let (head, tail) = (range.start..split, split..range.end);
        match rng.below(3) {
            0 => self.durable[head.clone()].copy_from_slice(&self.live[head]),
            1 => self.durable[tail.clone()].copy_from_slice(&self.live[tail]),
            _ => {
                self.durable[head.clone()].copy_from_slice(&self.live[head]);
                self.durable[tail].fill_with(|| rng.byte());
            }
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
#[derive(Debug, Default)]
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
