//! Which segments belong to the log, and in what order: the newest header names its predecessor, and so on back to the
//! floor. What a power cut leaves is accepted; everything else is a [`Problem`] with a place.

use super::replay::{Behind, End, Replay, Tail, is_zero, replay};
use crate::canary::{self, Canary};
use crate::disk::{BLOCK, Disk, FileBytes};
use crate::env::Parallel;
use crate::error::OpenError;
use crate::format::segment::{Seal, Segment};
use crate::format::{FormatError, StoreId};
use crate::model::Lsn;
use crate::paths::{self, Paths};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the manifest says that the log begins.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// The number of the first segment that is needed.
    pub seq: u64,
    /// The highest LSN that is kept elsewhere: the next one is above it.
    pub snapshot_lsn: Lsn,
    /// Whether that segment is known to exist.
    pub begun: bool,
}

/// A file in the directory of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A segment of this store.
    Segment(Segment),
    /// Prepared and not yet begun: it holds no header.
    Unused,
    /// The header does not verify.
    Unreadable(FormatError),
}

/// A segment of the log after replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number.
    pub seq: u64,
    /// Where its last frame ends.
    pub end: u64,
    /// The highest LSN up to its end.
    pub last_lsn: Lsn,
}

/// Something that a power cut cannot have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The segment.
    pub seq: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// The first LSN that is not readable.
    pub first_lsn: Lsn,
    /// The last LSN that is not readable, if something behind it tells.
    pub last_lsn: Option<Lsn>,
    /// Bytes that are lost.
    pub bytes: u64,
    /// What is wrong; `None`: the file is missing.
    pub what: Option<FormatError>,
}

/// The files of a log, sorted out.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The segments of the log, oldest first.
    pub segments: Vec<Segment>,
    /// Files that are not needed: below the floor, prepared and never begun, or empty and passed over.
    pub unneeded: Vec<u64>,
    /// Files of a salvage that did not end; they do not count.
    pub unfinished: Vec<u64>,
    /// A prepared file that the next segment can use: its number and length.
    pub prepared: Option<(u64, u64)>,
    /// Names in the directory that are not ours.
    pub foreign: Vec<String>,
    /// Temporary files of a writer that was killed.
    pub temporary: Vec<String>,
    /// The highest number that any file has.
    pub highest_seq: u64,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What recovery found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The sorted files.
    pub chain: Chain,
    /// The replayed segments, oldest first.
    pub segments: Vec<SegmentFile>,
    /// The LSN that the next row gets.
    pub next_lsn: Lsn,
    /// How the last segment is to be sealed.
    pub end: Option<Seal>,
    /// What stood behind the last good frame.
    pub tail: Tail,
    /// Rows that were replayed.
    pub rows: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// What the directory of the log holds, by number.
#[derive(Default)]
struct Files {
    found: BTreeMap<u64, Found>,
    lens: BTreeMap<u64, u64>,
    foreign: BTreeSet<u64>,
}

/// Looks at the files of the log.
fn files(disk: &dyn Disk, paths: &Paths, store: StoreId, floor: u64, chain: &mut Chain) -> Result<Files, OpenError> {
    let mut files = Files::default();
    let unfinished = unfinished_salvage(disk, paths, floor)?;
    // A name that a killed process gave may not be durable yet: it is, before anything is written behind it.
    disk.sync_dir(&paths.wal()).map_err(OpenError::io("sync", paths.wal()))?;
    for entry in disk.list(&paths.wal()).map_err(OpenError::io("list", paths.wal()))? {
        let Some(seq) = paths::segment_seq(&entry.name).filter(|_| !entry.is_dir) else {
            if paths::is_temporary(&entry.name) {
                chain.temporary.push(entry.name);
            } else if !paths::is_set_aside(&entry.name) {
                chain.foreign.push(entry.name);
            }
            continue;
        };
        // A number that any file has is not given again, whoever the file belongs to.
        chain.highest_seq = chain.highest_seq.max(seq);
        let path = paths.segment(seq);
        let block = disk.read_prefix(&path, BLOCK).map_err(OpenError::io("read", &path))?;
        let kind = match Segment::check(&block, entry.len) {
            Err(what @ FormatError::Version { .. }) => {
                let remedy = "Nothing was changed".to_owned();
                return Err(OpenError::Damaged { path, offset: 0, lsn: Lsn(0), what, remedy });
            }
            Ok(segment) if segment.store != store => {
                files.foreign.insert(seq);
                chain.foreign.push(entry.name);
                continue;
            }
            _ if unfinished.is_some_and(|first| seq >= first) => {
                chain.unfinished.push(seq);
                continue;
            }
            Ok(segment) if segment.seq != seq => {
                Found::Unreadable(FormatError::Field("header is that of a segment with another number"))
            }
            Ok(segment) => Found::Segment(segment),
            Err(_) if block.len() == BLOCK && is_zero(&block) => Found::Unused,
            Err(error) => Found::Unreadable(error),
        };
        files.found.insert(seq, kind);
        files.lens.insert(seq, entry.len);
    }
    Ok(files)
}

/// Sorts out the files of the log.
fn chain(disk: &dyn Disk, paths: &Paths, store: StoreId, floor: &Floor) -> Result<Chain, OpenError> {
    let Floor { seq: floor, begun, .. } = *floor;
    let mut chain = Chain::default();
    let Files { found, lens, foreign } = files(disk, paths, store, floor, &mut chain)?;
    let newest = found.iter().rev().find_map(|(&seq, kind)| match kind {
        Found::Segment(segment) if seq >= floor => Some(*segment),
        _ => None,
    });
    let mut next = newest;
    while let Some(segment) = next {
        chain.segments.push(segment);
        next = None;
        if let Some(seal) = segment.seal.filter(|seal| seal.seq >= floor) {
            match found.get(&seal.seq) {
                Some(Found::Segment(before)) => next = Some(*before),
                other => {
                    let headless = headless(disk, paths, store, seal.seq, other.is_some())?;
                    chain.problems.push(Problem {
                        seq: seal.seq,
                        offset: 0,
                        first_lsn: headless.map_or(Lsn(0), |segment| segment.first_lsn),
                        last_lsn: Some(seal.last_lsn),
                        bytes: if headless.is_some() { BLOCK as u64 } else { seal.end },
                        what: other.map(|kind| match kind {
                            Found::Unreadable(error) => error.clone(),
                            _ => FormatError::Field("segment is sealed by its successor but has no header"),
                        }),
                    });
                    chain.segments.extend(headless);
                    next = found.range(floor..seal.seq).rev().find_map(|(_, kind)| match kind {
                        Found::Segment(before) => Some(*before),
                        _ => None,
                    });
                }
            }
        }
    }
    chain.segments.reverse();
    let newest_seq = newest.map_or(0, |segment| segment.seq);
    for (&seq, kind) in &found {
        let is_ours = chain.segments.iter().any(|segment| segment.seq == seq);
        if is_ours || chain.problems.iter().any(|problem| problem.seq == seq) {
            continue;
        }
        let frames = if seq >= floor { headless(disk, paths, store, seq, true)? } else { None };
        if let Some(problem) = passed_over(seq, kind, frames).filter(|_| seq >= floor) {
            chain.problems.push(problem);
            match frames.filter(|_| seq > newest_seq) {
                // Its rows are behind all others, so they can be read without its header.
                Some(segment) => chain.segments.push(segment),
                None => chain.unneeded.push(seq),
            }
        } else if *kind == Found::Unused && seq > newest_seq && seq == chain.highest_seq && seq > floor {
            chain.prepared = lens.get(&seq).map(|&len| (seq, len));
            // They are prepared one after the other, behind the files of others, and go only when one behind them is begun.
            let behind_foreign = foreign.range(..seq).next_back().map_or(0, |foreign| foreign + 1);
            let first = floor.max(newest_seq + 1).max(behind_foreign);
            chain.problems.extend((first..seq).filter(|seq| !found.contains_key(seq)).map(missing));
        } else {
            chain.unneeded.push(seq);
        }
    }
    let floor_is_begun = matches!(found.get(&floor), Some(Found::Segment(_)));
    if begun && !floor_is_begun && chain.problems.iter().all(|problem| problem.seq != floor) {
        let what = found.get(&floor).map(|_| FormatError::Field("the log begins with it, but it has no header"));
        chain.problems.push(Problem { what, ..missing(floor) });
    }
    Ok(chain)
}

/// The first segment of a salvage that began and did not end: the manifest does not let the log begin there. Its rows
/// are old ones that were written again: behind newer ones they would be wrong.
fn unfinished_salvage(disk: &dyn Disk, paths: &Paths, floor: u64) -> Result<Option<u64>, OpenError> {
    match disk.read(&paths.salvage()) {
        Ok(text) => {
            let first = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<u64>().ok());
            Ok(first.filter(|&first| first > floor))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io("read", paths.salvage())(error)),
    }
}

fn missing(seq: u64) -> Problem {
    Problem { seq, offset: 0, first_lsn: Lsn(0), last_lsn: None, bytes: 0, what: None }
}

/// What can be known of a segment without its header, from its frames.
fn headless(
    disk: &dyn Disk,
    paths: &Paths,
    store: StoreId,
    seq: u64,
    exists: bool,
) -> Result<Option<Segment>, OpenError> {
    if !exists {
        return Ok(None);
    }
    let path = paths.segment(seq);
    let bytes = disk.read(&path).map_err(OpenError::io("read", &path))?;
    let segment = Segment { store, seq, first_lsn: Lsn(0), len: bytes.len() as u64, seal: None };
    let first = Behind::scan(&bytes, &segment, 0).first;
    Ok(first.map(|(_, first_lsn)| Segment { first_lsn, ..segment }))
}

/// What is wrong with a file at or above the floor that no header names: it must never have held a durable frame, and a
/// header that was torn while it was written fails its checksum, nothing else.
fn passed_over(seq: u64, kind: &Found, frames: Option<Segment>) -> Option<Problem> {
    let is_torn = |error: &FormatError| matches!(error, FormatError::Checksum { .. } | FormatError::Magic(_));
    let what = match (kind, frames) {
        (Found::Unreadable(error), None) if is_torn(error) => return None,
        (Found::Unreadable(error), _) => error.clone(),
        (Found::Unused | Found::Segment(_), None) => return None,
        (Found::Unused, Some(_)) => FormatError::Field("holds frames, but has no header"),
        (Found::Segment(_), Some(_)) => FormatError::Field("holds frames, but no other segment names it"),
    };
    let first_lsn = frames.map_or(Lsn(0), |segment| segment.first_lsn);
    Some(Problem { what: Some(what), first_lsn, bytes: BLOCK as u64, ..missing(seq) })
}

/// How the successor of a segment seals it.
fn seal_of(segments: &[Segment], index: usize) -> Option<Seal> {
    let segment = segments.get(index)?;
    segments.get(index + 1)?.seal.filter(|seal| seal.seq == segment.seq)
}

/// Where a segment ends, in bytes.
fn stop_of(segments: &[Segment], index: usize) -> u64 {
    seal_of(segments, index).map_or_else(|| segments.get(index).map_or(0, |segment| segment.len), |seal| seal.end)
}

/// The segments as they are on the device, in their order, some of them read at the same time.
struct Reads<'a> {
    disk: &'a dyn Disk,
    parallel: &'a dyn Parallel,
    /// What to read of which file.
    files: Vec<(PathBuf, usize)>,
    /// What was read and not yet taken, from the file of that number on.
    read: VecDeque<io::Result<FileBytes>>,
}

impl<'a> Reads<'a> {
    fn new(disk: &'a dyn Disk, parallel: &'a dyn Parallel, paths: &Paths, segments: &[Segment]) -> Self {
        let file = |(index, segment): (usize, &Segment)| {
            (paths.segment(segment.seq), usize::try_from(stop_of(segments, index)).unwrap_or(usize::MAX))
        };
        let files = segments.iter().enumerate().map(file).collect();
        Self { disk, parallel, files, read: VecDeque::new() }
    }

    /// The next file, which is the one of this number.
    fn take(&mut self, index: usize) -> Result<Arc<FileBytes>, OpenError> {
        let wanted = &self.files[index..];
        if self.read.is_empty() {
            let pieces = wanted.len().min(self.parallel.width());
            let read: Vec<Mutex<Option<io::Result<FileBytes>>>> = (0..pieces).map(|_| Mutex::default()).collect();
            self.parallel.run(pieces, &|piece| {
                let (path, len) = &wanted[piece];
                *read[piece].lock() = Some(self.disk.read_prefix(path, *len));
            });
            let lost = || Err(io::Error::other("the read did not end"));
            self.read.extend(read.into_iter().map(|read| read.into_inner().unwrap_or_else(lost)));
        }
        let read = self.read.pop_front().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        read.map(Arc::new).map_err(OpenError::io("read", &wanted[0].0))
    }
}

/// Replays the log of a store from its floor on. `parallel` may read several segments at a time; they are replayed
/// one after the other, so that the result does not depend on it.
///
/// Every problem is in the result: the caller decides whether to refuse. After a problem replay goes on with what
/// verifies, so that a salvage gets all there is.
pub fn recover(
    disk: &dyn Disk,
    parallel: &dyn Parallel,
    paths: &Paths,
    store: StoreId,
    floor: &Floor,
    to: &mut impl Replay,
) -> Result<Recovered, OpenError> {
    let mut chain = chain(disk, paths, store, floor)?;
    let mut reads = Reads::new(disk, parallel, paths, &chain.segments);
    let mut problems = std::mem::take(&mut chain.problems);
    let mut segments = Vec::new();
    let mut next_lsn = Lsn(0);
    let mut end = None;
    let (mut rows, mut bytes_read) = (0, 0);
    let mut tail = Tail::Clean;
    for (index, segment) in chain.segments.iter().enumerate() {
        let seal = seal_of(&chain.segments, index);
        let durable = seal.map_or(Lsn(0), |seal| seal.last_lsn);
        let stop = stop_of(&chain.segments, index);
        let bytes = match reads.take(index) {
            Err(_) if canary::is(Canary::ReadErrorEndsLog) => Arc::default(),
            read => read?,
        };
        bytes_read += bytes.len() as u64;
        // One that is not sealed may be mostly empty.
        to.file(seal.map(|_| &bytes));
        to.segment(segment);
        let mut offset = BLOCK as u64;
        next_lsn = next_lsn.max(segment.first_lsn);
        let last = loop {
            let run = replay(&bytes, segment, (offset, stop), next_lsn, durable, to);
            rows += run.rows;
            next_lsn = run.next_lsn;
            let Tail::Damaged { what } = &run.tail else { break run };
            let behind = Behind::scan(&bytes, segment, run.offset);
            let resume = behind.first.unwrap_or((stop.max(run.offset), Lsn(durable.0.saturating_add(1))));
            problems.push(Problem {
                seq: segment.seq,
                offset: run.offset,
                first_lsn: run.next_lsn,
                last_lsn: Some(Lsn(resume.1.0.saturating_sub(1))).filter(|&last| last >= run.next_lsn),
                bytes: resume.0 - run.offset,
                what: Some(what.clone()),
            });
            next_lsn = next_lsn.max(resume.1);
            if behind.first.is_none() {
                break End { offset: resume.0, next_lsn, rows: 0, tail: run.tail };
            }
            offset = resume.0;
        };
        if let Some(seal) = seal
            && last.tail == Tail::Clean
            && (last.offset, last.next_lsn.0) != (seal.end, seal.last_lsn.0.saturating_add(1))
        {
            problems.push(Problem {
                seq: segment.seq,
                offset: last.offset,
                first_lsn: last.next_lsn,
                last_lsn: None,
                bytes: seal.end.abs_diff(last.offset),
                what: Some(FormatError::Field("ends elsewhere than its successor says")),
            });
        }
        let last_lsn = Lsn(next_lsn.0.saturating_sub(1));
        segments.push(SegmentFile { seq: segment.seq, end: last.offset, last_lsn });
        end = Some(Seal { seq: segment.seq, end: last.offset, last_lsn });
        tail = last.tail;
    }
    next_lsn = next_lsn.max(Lsn(floor.snapshot_lsn.0.saturating_add(1)));
    if canary::is(Canary::ReuseLsn) {
        next_lsn = Lsn(next_lsn.0.saturating_sub(1).max(1));
    }
    problems.sort_by_key(|problem| (problem.seq, problem.offset));
    chain.problems = problems;
    Ok(Recovered { chain, segments, next_lsn, end, tail, rows, bytes: bytes_read })
}
