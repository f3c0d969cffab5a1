//! Rot: a copy of the disk is damaged in one place, opened and read. What was damaged stands in the trial itself, so that
//! a report of damage is held against it: refused by the name of that file, told by the queries that need it, or without
//! an effect; never another value.

use super::model::{FREQUENCIES, Model};
use super::oracle::{Checked, Failure, Oracle, o2_no_invention};
use super::read;
use super::report::Probe;
use super::world::{DIRECTORY, World, archive_on};
use crate::disk::sim::SimDisk;
use crate::disk::{BLOCK, Disk};
use crate::env::Env;
use crate::error::OpenError;
use crate::format::frame;
use crate::model::SeriesError;
use crate::paths;
use crate::store::{OpenReport, Options, Progress, Store, salvage};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A sector of the device.
const SECTOR: usize = 512;

/// The damaged copy.
struct Trial<'a> {
    world: &'a World,
    disk: SimDisk,
    path: PathBuf,
    told: String,
    /// Whether the damage may look like the end of the log.
    may_be_torn: bool,
}

/// Damages a copy of the disk of a world whose operations are all settled.
pub(super) fn trial(world: &mut World, file: u8, at: u16, how: u8) -> Checked {
    let files = files(&world.disk);
    let Some((path, bytes)) = files.get(usize::from(file) % files.len().max(1)) else { return Ok(()) };
    let used = used(bytes);
    if used == 0 {
        return Ok(());
    }
    let at = used * usize::from(at) / 65_536;
    // What may stand there instead: a block of another file of the same kind.
    let other = files.iter().find(|(other, _)| other != path && other.extension() == path.extension());
    let change = |bytes: &mut Vec<u8>| damage(bytes, at, how, other.map(|(_, bytes)| &**bytes));
    let change: Option<Change<'_>> = if how % 8 == 7 { None } else { Some(&change) };
    let seed = world.rng.number();
    let told = format!("kind {} of {used}", how % 8);
    if let Some(probe) = Trial::run(world, seed, (path, bytes), at, change, &told)? {
        world.report.reach(probe);
    }
    Ok(())
}

/// What became of damage that was done on purpose, and to how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// A start refused it.
    pub refused: u64,
    /// A query told it.
    pub told: u64,
    /// It had no effect.
    pub unseen: u64,
    /// It was taken for the torn end of the log.
    pub torn: u64,
    /// Bytes that were in use of the longest segment.
    pub segment: usize,
    /// Bytes of the longest snapshot.
    pub snapshot: usize,
    /// Bytes of the manifest.
    pub manifest: usize,
}

/// Damages every byte, every sector and every length of every file, one after the other.
pub(super) fn sweep(world: &World, stride: usize, (part, parts): (usize, usize)) -> Result<Swept, Failure> {
    let mut swept = Swept::default();
    let mut trials = 0_usize;
    let files = files(&world.disk);
    for (number, (path, bytes)) in files.iter().enumerate() {
        let used = used(bytes);
        let longest = match path.extension().and_then(|extension| extension.to_str()) {
            Some("wal") => &mut swept.segment,
            Some("snap") => &mut swept.snapshot,
            _ => &mut swept.manifest,
        };
        *longest = used.max(*longest);
        let mut judge = |at: usize, change: Change<'_>, told: &str| -> Checked {
            trials += 1;
            if trials % parts != part {
                return Ok(());
            }
            let judged = Trial::run(world, 1, (path, bytes), at, Some(change), told)?;
            match judged {
                Some(Probe::DamageRefused | Probe::Salvaged) => swept.refused += 1,
                Some(Probe::DamageTold) => swept.told += 1,
                Some(Probe::DamageUnseen) => swept.unseen += 1,
                Some(_) => swept.torn += 1,
                None => {}
            }
            Ok(())
        };
        // Behind what is used there are zeros, all alike.
        for at in (number % stride..(used + SECTOR).min(bytes.len())).step_by(stride) {
            judge(at, &|bytes| bytes[at] ^= 1 << (at % 8), "a bit flipped")?;
            judge(at, &|bytes| bytes[at] = 0, "a byte zeroed")?;
            judge(at, &|bytes| bytes.truncate(at), "cut off")?;
        }
        for sector in (0..used).step_by(SECTOR) {
            let end = (sector + SECTOR).min(bytes.len());
            judge(sector, &|bytes| bytes[sector..end].fill(0), "a sector zeroed")?;
            for other in [sector + SECTOR, sector + BLOCK, sector.wrapping_sub(BLOCK)] {
                if other < used && other + (end - sector) <= bytes.len() {
                    let low = sector.min(other);
                    judge(sector, &|bytes| bytes.copy_within(other..other + end - sector, sector), "a sector twice")?;
                    let swap = |bytes: &mut Vec<u8>| {
                        let kept = bytes[sector..end].to_vec();
                        bytes.copy_within(other..other + end - sector, sector);
                        bytes[other..other + end - sector].copy_from_slice(&kept);
                    };
                    judge(low, &swap, "two sectors swapped")?;
                }
            }
        }
    }
    Ok(swept)
}

/// The files of a store and their content, without the lock.
fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().filter(|(path, _)| path.starts_with(DIRECTORY) && !path.ends_with("LOCK")).collect()
}

/// Where the last block ends that is not zero.
fn used(bytes: &[u8]) -> usize {
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    used.next_multiple_of(BLOCK).min(bytes.len())
}

/// What damage does to the bytes of a file.
type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

/// One kind of damage: a flipped bit, a zeroed sector, one that was erased, one that stands twice, a block in the place
/// of another, a block of another file, the end of the file. A stale sector is a zeroed one: no sector of a file is written
/// twice, but those of a segment over their zeros.
fn damage(bytes: &mut Vec<u8>, at: usize, how: u8, other: Option<&[u8]>) {
    let sector = at / SECTOR * SECTOR;
    let block = at / BLOCK * BLOCK;
    let end = (sector + SECTOR).min(bytes.len());
    match how % 8 {
        0 => bytes[at] ^= 1 << (how / 8 % 8),
        1 => bytes[sector..end].fill(0),
        2 => bytes[sector..end].fill(0xff),
        3 => {
            let from = (sector + SECTOR) % (bytes.len() / SECTOR).max(1) * SECTOR % bytes.len();
            let len = (end - sector).min(bytes.len() - from);
            bytes.copy_within(from..from + len, sector);
        }
        4 if block >= BLOCK && block + BLOCK <= bytes.len() => bytes.copy_within(block - BLOCK..block, block),
        5 => {
            if let Some(other) = other.and_then(|other| other.get(block..block + BLOCK))
                && block + BLOCK <= bytes.len()
            {
                bytes[block..block + BLOCK].copy_from_slice(other);
            }
        }
        6 => bytes.truncate(at),
        _ => bytes[sector..end].reverse(),
    }
}

impl<'a> Trial<'a> {
    /// Damages a file at an offset, or lets it be unreadable there. `None` where that changes nothing.
    fn run(
        world: &'a World,
        seed: u64,
        (path, bytes): (&Path, &[u8]),
        at: usize,
        change: Option<Change<'_>>,
        told: &str,
    ) -> Result<Option<Probe>, Failure> {
        let mut damaged = bytes.to_vec();
        if let Some(change) = change {
            change(&mut damaged);
            if damaged == bytes {
                return Ok(None);
            }
        }
        let disk = world.disk.fork(seed);
        let done = match change {
            Some(_) => disk.corrupt(path, |bytes| *bytes = damaged),
            None => disk.set_unreadable(path, at),
        };
        if done.is_err() {
            return Ok(None);
        }
        // A frame that may have been torn is the last one, wherever a length ends.
        let last_frame = (BLOCK..bytes.len()).step_by(BLOCK).rfind(|&at| bytes[at..].starts_with(&frame::MAGIC));
        let may_be_torn = world.setup.is_interval || at + BLOCK > last_frame.unwrap_or(0);
        let told = format!("{} damaged at {at}: {told}", path.display());
        let trial = Self { world, disk, path: path.to_owned(), told, may_be_torn };
        trial.judge(change.is_none()).map(Some)
    }

    fn fail<T>(&self, oracle: Oracle, what: impl std::fmt::Display) -> Result<T, Failure> {
        Err(Failure::new(oracle, format!("{}: {what}", self.told)))
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    fn open(&self) -> Result<(Store, OpenReport), OpenError> {
        let clock = Arc::clone(&self.world.clock) as Arc<dyn Env>;
        Store::open(self.disk(), clock, self.options())
    }

    /// Those of the world, with the archive of the copy.
    fn options(&self) -> Options {
        let options = self.world.options.clone();
        let archive = options.archive.is_some().then(|| archive_on(&self.disk));
        Options { archive, ..options }
    }

    fn is_segment(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "wal")
    }

    /// O9: damage is refused or told where it is, and nowhere else.
    fn judge(&self, is_unreadable: bool) -> Result<Probe, Failure> {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let before = self.disk.files();
        match self.open() {
            Ok((store, report)) => {
                if !report.losses.is_empty() {
                    return self.fail(Oracle::O9, "losses are recorded that nobody has asked for");
                }
                let probe = self.read(&store, name)?;
                if is_unreadable && probe == Probe::DamagedTail {
                    return self.fail(Oracle::O9, "a read that failed was taken for the end of the log");
                }
                Ok(probe)
            }
            Err(error) => {
                // A segment whose header is all zeros looks prepared, and the one before it, which was removed, missing.
                let is_neighbour = self.is_segment() && matches!(error, OpenError::Missing { .. });
                if !is_neighbour && !error.to_string().contains(name) {
                    return self.fail(Oracle::O9, format!("refused without its name: {error}"));
                }
                let is_same = |path: &Path| before.get(path) == self.disk.files().get(path);
                if !before.keys().filter(|path| !path.ends_with("LOCK")).all(|path| is_same(path)) {
                    return self.fail(Oracle::O9, "a start that was refused has changed files");
                }
                match error {
                    OpenError::Damaged { .. } | OpenError::Missing { .. } if self.is_segment() => self.salvage(),
                    _ => Ok(Probe::DamageRefused),
                }
            }
        }
    }

    /// P2: a salvage gives what was written, and what it lost stays visible.
    fn salvage(&self) -> Result<Probe, Failure> {
        let clock = Arc::clone(&self.world.clock) as Arc<dyn Env>;
        match salvage(&self.disk(), &clock, &self.options(), true) {
            Ok(report) if report.problems.is_empty() => return self.fail(Oracle::O9, "a salvage finds no damage"),
            Ok(_) => {}
            // A version that is not ours is nothing to salvage.
            Err(_) => return Ok(Probe::DamageRefused),
        }
        for _ in 0..2 {
            let (store, report) = match self.open() {
                Ok(opened) => opened,
                Err(error) => return self.fail(Oracle::O10, format!("does not open after the salvage: {error}")),
            };
            if report.losses.is_empty() {
                return self.fail(Oracle::O9, "a salvage has forgotten what it lost");
            }
            self.read_written(&store)?;
            if store.commit_step() == Progress::Failed {
                return self.fail(Oracle::O10, "the log fails after the salvage");
            }
        }
        Ok(Probe::Salvaged)
    }

    /// What a store that opened reads: all there is, or an error with the name of the file.
    fn read(&self, store: &Store, name: &str) -> Result<Probe, Failure> {
        let mut model: Model = self.world.model.clone();
        let mut is_told = false;
        let mut is_shorter = false;
        for (series, slots) in std::mem::take(&mut model.settled) {
            let step = FREQUENCIES[usize::from(series.1)];
            let mut rest = &slots.into_iter().collect::<Vec<_>>()[..];
            while let Some(&(first, _)) = rest.first() {
                let end = first + 400 * step;
                let (piece, behind) = rest.split_at(rest.partition_point(|(time, _)| *time < end));
                rest = behind;
                match read::values(store, series, (first, end)) {
                    Ok(found) if found.iter().map(|(&time, &bits)| (time, bits)).eq(piece.iter().copied()) => {}
                    // Without data of its own a host shows those of its components.
                    Ok(_) | Err(SeriesError::InvalidAggregation) if series.2 == 0 => is_shorter = true,
                    Ok(found) => {
                        is_shorter = true;
                        let mut found = found.into_iter();
                        found
                            .try_for_each(|(time, bits)| o2_no_invention(&model, series, time, bits))
                            .or_else(|failure| self.fail(Oracle::O2, failure.what))?;
                    }
                    Err(SeriesError::Damaged(text)) if text.contains(name) => is_told = true,
                    Err(error) => return self.fail(Oracle::O9, format!("{:?}: {error}", read::names(series))),
                }
            }
        }
        match (is_shorter, is_told) {
            // The last frame of the log, which nothing seals yet, cannot be told from one that was torn.
            (true, _) if self.may_be_torn && paths::segment_seq(name) == Some(self.newest()) => Ok(Probe::DamagedTail),
            (true, _) => self.fail(Oracle::O9, "values are missing, and nobody says so"),
            (false, true) => Ok(Probe::DamageTold),
            (false, false) => Ok(Probe::DamageUnseen),
        }
    }

    /// The number of the newest segment before the damage that has anything in it.
    fn newest(&self) -> u64 {
        let begun = self.world.disk.files().into_iter().filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0));
        let names = begun.filter_map(|(path, _)| paths::segment_seq(path.file_name()?.to_str()?));
        names.max().unwrap_or(0)
    }

    /// O2: whatever is there was written.
    fn read_written(&self, store: &Store) -> Checked {
        let read = read::content(store)?;
        for (series, slots) in read {
            for (time, bits) in slots {
                o2_no_invention(&self.world.model, series, time, bits)
                    .or_else(|failure| self.fail(Oracle::O2, failure.what))?;
            }
        }
        Ok(())
    }
}
