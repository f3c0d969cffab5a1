//! `<from>.bin` snapshots, and `CCMS`, the same with binary64 values, which was never released.
//!
//! There is no checksum. What can be told from the file itself is held against it: an array cannot have more values than
//! the file has bytes, or than its interval has time for, and all arrays together end where the file does. Where a count
//! is damaged, the one count is taken with which the rest of the file reads whole; where there is none, as in a file that
//! was cut, reading ends before that array.

use super::{Array, LEVELS, Name, Reason, Snapshot, Values, interval, name};
use std::collections::BTreeMap;

/// The first bytes of a snapshot.
pub const MAGIC: [u8; 4] = [0x01, 0x00, 0x5b, 0xcc];
/// The first bytes of a snapshot with binary64 values; the version follows.
pub const MAGIC_F64: [u8; 4] = *b"CCMS";
const VERSION_F64: u32 = 1;
/// Levels that are followed; the predecessor has three.
const DEPTH: usize = 16;
/// Steps that are spent in a file on finding the right counts in place of damaged ones.
const WORK: u32 = 1 << 20;

/// Reads a file.
pub fn read(bytes: &[u8]) -> Snapshot<'_> {
    let mut snapshot = Snapshot::default();
    let Some((width, header)) = Width::of(bytes) else {
        snapshot.skips.add(0, bytes.len(), Reason::Header);
        return snapshot;
    };
    let mut reader =
        Reader { bytes, at: header, width, interval: None, levels: Vec::new(), work: u32::MAX, is_whole: true };
    let (Some(from), Some(to)) = (reader.i64(), reader.i64()) else {
        snapshot.skips.add(0, bytes.len(), Reason::Cut);
        return snapshot;
    };
    snapshot.from = Some(from);
    snapshot.to = Some(to);
    reader.interval = Some((from, to));
    let mut whole = reader.clone();
    reader.is_whole = whole.enter([&[]; LEVELS]).is_ok() && whole.walk().is_some();
    reader.work = WORK;
    if let Err(why) = reader.enter([&[]; LEVELS]).and_then(|()| reader.run(&mut snapshot)) {
        snapshot.skips.add(reader.at, bytes.len() - reader.at, why);
    }
    // Bytes behind the end mean nothing; the predecessor passes over them too.
    if reader.levels.is_empty() && reader.at < bytes.len() {
        snapshot.skips.add(reader.at, bytes.len() - reader.at, Reason::Garbage);
    }
    snapshot
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    F32,
    F64,
}

impl Width {
    /// What a file has, and the length of its magic.
    fn of(bytes: &[u8]) -> Option<(Self, usize)> {
        if bytes.starts_with(&MAGIC) {
            return Some((Self::F32, MAGIC.len()));
        }
        let (version, _) = bytes.strip_prefix(&MAGIC_F64)?.split_first_chunk::<4>()?;
        (u32::from_le_bytes(*version) == VERSION_F64).then_some((Self::F64, 8))
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn values(self, bytes: &[u8]) -> Values<'_> {
        match self {
            Self::F32 => Values::F32(bytes.as_chunks().0),
            Self::F64 => Values::F64(bytes.as_chunks().0),
        }
    }
}

/// Where reading is: levels that have begun, with what is left of them.
#[derive(Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    width: Width,
    /// From and to of the file, as it says.
    interval: Option<(i64, i64)>,
    levels: Vec<Level<'a>>,
    /// Steps that may be spent on following the structure ahead.
    work: u32,
    /// Whether the structure closes within the file: then no count is damaged.
    is_whole: bool,
}

#[derive(Clone, Copy)]
struct Level<'a> {
    path: [&'a [u8]; LEVELS],
    /// Whether a place in a store is that deep.
    is_kept: bool,
    metrics: u32,
    /// `None` until the metrics are read.
    children: Option<u32>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_le_bytes)
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let len = self.chunk().map(u16::from_le_bytes)?;
        self.take(len.into())
    }

    /// Begins a level.
    fn enter(&mut self, path: [&'a [u8]; LEVELS]) -> Result<(), Reason> {
        let metrics = self.u32().ok_or(Reason::Cut)?;
        if self.levels.len() == DEPTH {
            return Err(Reason::Deep);
        }
        self.levels.push(Level { path, is_kept: self.levels.len() <= LEVELS, metrics, children: None });
        Ok(())
    }

    /// Reads to the end of the outermost level.
    fn run(&mut self, to: &mut Snapshot<'a>) -> Result<(), Reason> {
        while let Some(level) = self.levels.last().copied() {
            let depth = self.levels.len();
            if level.metrics > 0 {
                self.array(&level, to)?;
                self.change(|level| level.metrics -= 1);
            } else if level.children.is_none() {
                let children = self.u32().ok_or(Reason::Cut)?;
                self.change(|level| level.children = Some(children));
            } else if level.children == Some(0) {
                self.levels.pop();
            } else {
                self.change(|level| level.children = level.children.map(|left| left - 1));
                let child = self.name().ok_or(Reason::Cut)?;
                let mut path = level.path;
                if let Some(place) = path.get_mut(depth - 1) {
                    *place = child;
                }
                self.enter(path)?;
            }
        }
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Level<'a>)) {
        if let Some(level) = self.levels.last_mut() {
            change(level);
        }
    }

    fn array(&mut self, level: &Level<'a>, to: &mut Snapshot<'a>) -> Result<(), Reason> {
        let begin = self.at;
        let fields = (|| Some((self.name()?, self.i64()?, self.i64()?, self.u32()?)))();
        let Some((metric, frequency, start, count)) = fields else {
            self.at = begin;
            return Err(Reason::Cut);
        };
        let count = count as usize;
        let there = (self.bytes.len() - self.at) / self.width.bytes();
        let most = self.possible(start, frequency).unwrap_or(there).min(there);
        let count = if count <= most && (self.is_whole || self.fits(count)) {
            count
        } else if let Some(matching) = self.matching_count(most) {
            to.skips.add(begin, 0, Reason::Count);
            self.is_whole = true;
            matching
        } else if count <= most {
            count
        } else {
            self.at = begin;
            return Err(if count > there { Reason::Cut } else { Reason::Count });
        };
        let values = self.take(count * self.width.bytes()).unwrap_or_default();
        let names = (name(metric), self.path(level));
        match (names, interval(start, frequency, count)) {
            _ if count == 0 => {}
            _ if !level.is_kept => to.skips.add(begin, self.at - begin, Reason::Deep),
            ((Some(metric), Some([component, subcomponent])), Some(frequency)) => to.arrays.push(Array {
                metric: Name::Borrowed(metric),
                component: Name::Borrowed(component),
                subcomponent: Name::Borrowed(subcomponent),
                start,
                frequency,
                values: self.width.values(values),
            }),
            (_, None) => to.skips.add(begin, self.at - begin, Reason::Grid),
            _ => to.skips.add(begin, self.at - begin, Reason::Name),
        }
        Ok(())
    }

    /// The names of the level; `None` if one of them is none.
    fn path(&self, level: &Level<'a>) -> Option<[&'a str; LEVELS]> {
        let depth = self.levels.len() - 1;
        let mut path = [""; LEVELS];
        for (part, bytes) in path.iter_mut().zip(level.path).take(depth) {
            *part = name(bytes)?;
        }
        Some(path)
    }

    /// How many values an array can have in the interval of the file; `None` where that says nothing about it.
    fn possible(&self, start: i64, frequency: i64) -> Option<usize> {
        let (_, to) = self.interval.filter(|&(from, to)| from <= start && start < to)?;
        let span = to.checked_sub(start)?;
        let most = span.checked_add(frequency.checked_sub(1)?)?.checked_div(frequency)?;
        usize::try_from(most).ok()
    }

    /// The count of at most `most` with which the rest of the file reads to its very end.
    fn matching_count(&mut self, most: usize) -> Option<usize> {
        for count in (0..=most).rev() {
            // Without steps left nothing fits: going through the counts would be quadratic work.
            if self.work == 0 {
                return None;
            }
            if self.fits(count) {
                return Some(count);
            }
        }
        None
    }

    /// Whether the rest of the file reads to its very end behind so many values.
    fn fits(&mut self, count: usize) -> bool {
        if self.work == 0 {
            return false;
        }
        let mut trial = self.clone();
        trial.at += count * self.width.bytes();
        trial.change(|level| level.metrics -= 1);
        let end = trial.walk();
        self.work = trial.work;
        end == Some(self.bytes.len())
    }

    /// Follows the structure without looking at values; where it ends. `None` at the first thing that does not fit.
    fn walk(&mut self) -> Option<usize> {
        while let Some(level) = self.levels.last().copied() {
            self.work = self.work.saturating_sub(1);
            if self.work == 0 {
                return None;
            }
            if level.metrics > 0 {
                self.change(|level| level.metrics -= 1);
                name(self.name()?)?;
                let (frequency, start, count) = (self.i64()?, self.i64()?, self.u32()? as usize);
                interval(start, frequency, count)?;
                if self.possible(start, frequency).is_some_and(|most| count > most) {
                    return None;
                }
                self.take(count.checked_mul(self.width.bytes())?)?;
            } else if level.children.is_none() {
                let children = self.u32()?;
                self.change(|level| level.children = Some(children));
            } else if level.children == Some(0) {
                self.levels.pop();
            } else {
                self.change(|level| level.children = level.children.map(|left| left - 1));
                name(self.name()?)?;
                self.enter([&[]; LEVELS]).ok()?;
            }
        }
        Some(self.at)
    }
}

/// A level of a snapshot that is to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The arrays of this level by metric.
    pub metrics: BTreeMap<String, Series>,
    /// The levels below by name.
    pub children: BTreeMap<String, Tree>,
}

/// An array that is to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The instant of the first value, in unix seconds.
    pub start: i64,
    /// Seconds between two values.
    pub frequency: u32,
    /// The values; NaN is missing.
    pub values: Vec<f64>,
}

impl Tree {
    /// The array of a metric at a place, which is made if it is not there yet.
    pub fn at(&mut self, metric: &str, component: &str, subcomponent: &str) -> &mut Series {
        let mut level = self;
        for part in [component, subcomponent].into_iter().filter(|part| !part.is_empty()) {
            level = level.children.entry(part.to_owned()).or_default();
        }
        level.metrics.entry(metric.to_owned()).or_default()
    }
}

/// The bytes of a snapshot. Values are rounded to binary32, as the format has it. Names are cut at 65,535 bytes.
pub fn write(from: i64, to: i64, tree: &Tree) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(from.to_le_bytes());
    bytes.extend(to.to_le_bytes());
    write_level(&mut bytes, tree);
    bytes
}

fn write_level(to: &mut Vec<u8>, tree: &Tree) {
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    to.extend(count(tree.metrics.len()));
    for (metric, series) in &tree.metrics {
        write_name(to, metric);
        to.extend(i64::from(series.frequency).to_le_bytes());
        to.extend(series.start.to_le_bytes());
        to.extend(count(series.values.len()));
        #[expect(clippy::cast_possible_truncation, reason = "the format has binary32")]
        to.extend(series.values.iter().flat_map(|&value| (value as f32).to_le_bytes()));
    }
    to.extend(count(tree.children.len()));
    for (name, child) in &tree.children {
        write_name(to, name);
        write_level(to, child);
    }
}

fn write_name(to: &mut Vec<u8>, name: &str) {
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    to.extend(len.to_le_bytes());
    to.extend(&name.as_bytes()[..len.into()]);
}
