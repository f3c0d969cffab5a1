//! One file, piece by piece: everything that can be read of it, and what is wrong with it and where.
//!
//! A damaged part does not hide the others: a header is shown although its checksum does not fit, frames behind damage
//! are found, stripes are checked one by one. A value is given out only if everything that it is read by verifies.
//! Holds one segment, or the column that is printed; snapshots are read in place.

mod manifest;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;

use crate::disk::{Disk, Region};
use crate::format;
use crate::paths;
use std::io;
use std::path::{Path, PathBuf};

/// A longer segment or manifest is not looked into: kymo writes none, and it would have to be held in memory.
const LEN_MAX: usize = 1 << 30;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment of the log.
    Segment,
    /// A snapshot.
    Snapshot,
    /// A manifest.
    Manifest,
}

impl Kind {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Snapshot => "snapshot",
            Self::Manifest => "manifest",
        }
    }
}

/// What is handed out besides damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The structure: headers, frames, records, hosts, stripes.
    Items,
    /// The samples.
    Samples,
    /// Nothing.
    Damage,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count, a number, a length or an offset in bytes.
    Number(u64),
    /// Unix seconds, or days.
    Signed(i64),
    /// A name or a sentence.
    Text(String),
    /// Several.
    Texts(Vec<String>),
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it is; `damage` is something that no power cut can do.
    pub kind: &'static str,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What it says.
    pub fields: Vec<(&'static str, Value)>,
}

/// A value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// The host.
    pub host: &'a str,
    /// The metric.
    pub metric: &'a str,
    /// The component, empty for the host itself.
    pub component: &'a str,
    /// The part of it, empty for the component itself.
    pub subcomponent: &'a str,
    /// The nominal time of its slot, in unix seconds.
    pub time: i64,
    /// The value, never NaN.
    pub value: f64,
}

/// Takes what is found, in the order of the file as far as possible. An error ends the inspection.
pub trait Sink {
    /// A part.
    fn item(&mut self, item: &Item) -> io::Result<()>;
    /// A sample.
    fn sample(&mut self, sample: &Sample<'_>) -> io::Result<()>;
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the file is.
    pub kind: Kind,
    /// How many places are damaged.
    pub damage: u64,
}

/// Why a file is not inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The disk refused something.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Neither its first bytes nor its name are those of a file of kymo.
    #[error("{} is no segment, snapshot or manifest of kymo", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Samples were asked of a file that has none.
    #[error("{} is a manifest, which has no samples", path.display())]
    NoSamples {
        /// The file.
        path: PathBuf,
    },
    /// What was found could not be handed on.
    #[error("cannot write: {0}")]
    Sink(#[from] io::Error),
}

/// Shows a file. What kind it is its first bytes tell, or its name where those are damaged.
pub fn inspect(disk: &dyn Disk, path: &Path, show: Show, sink: &mut dyn Sink) -> Result<Report, InspectError> {
    let failed = |source| InspectError::Io { path: path.to_owned(), source };
    let region = disk.map(path).map_err(failed)?;
    let kind = kind_of(&region, path).ok_or_else(|| InspectError::Foreign { path: path.to_owned() })?;
    if kind == Kind::Manifest && show == Show::Samples {
        return Err(InspectError::NoSamples { path: path.to_owned() });
    }
    let mut out = Out { sink, show, damage: 0 };
    let what = vec![("kind", Value::Text(kind.name().to_owned())), ("bytes", Value::Number(region.len() as u64))];
    out.item("file", 0, what)?;
    if kind == Kind::Snapshot {
        snapshot::inspect(&region, &mut out)?;
    } else if region.len() > LEN_MAX {
        out.damage(0, "file", &format_args!("is longer than any {}", kind.name()))?;
    } else {
        // A segment may be written to at this moment: it is copied, and nothing of it stays mapped.
        drop(region);
        let bytes = disk.read_prefix(path, LEN_MAX).map_err(failed)?;
        match kind {
            Kind::Segment => segment::inspect(&bytes, &mut out)?,
            _ => manifest::inspect(&bytes, &mut out)?,
        }
    }
    Ok(Report { kind, damage: out.damage })
}

fn kind_of(region: &Region, path: &Path) -> Option<Kind> {
    const MAGIC_LEN: usize = 8;
    let is_readable = region.touch(0..MAGIC_LEN.min(region.len())).is_ok();
    let magic = region.get(..MAGIC_LEN).filter(|_| is_readable);
    let by_magic = match magic {
        Some(magic) if *magic == format::segment::MAGIC => Some(Kind::Segment),
        Some(magic) if *magic == format::snapshot::MAGIC => Some(Kind::Snapshot),
        Some(magic) if *magic == format::manifest::MAGIC => Some(Kind::Manifest),
        _ => None,
    };
    let by_name = || {
        let name = path.file_name()?.to_str()?;
        if paths::segment_seq(name).is_some() || paths::is_set_aside(name) {
            Some(Kind::Segment)
        } else if paths::is_snapshot(name) {
            Some(Kind::Snapshot)
        } else {
            (name == "MANIFEST").then_some(Kind::Manifest)
        }
    };
    by_magic.or_else(by_name)
}

/// Where the parsers put what they find.
struct Out<'a> {
    sink: &'a mut dyn Sink,
    show: Show,
    damage: u64,
}

impl Out<'_> {
    fn item(&mut self, kind: &'static str, offset: u64, fields: Vec<(&'static str, Value)>) -> io::Result<()> {
        if self.show == Show::Items { self.sink.item(&Item { kind, offset, fields }) } else { Ok(()) }
    }

    fn damage(&mut self, offset: u64, part: &str, what: &dyn std::fmt::Display) -> io::Result<()> {
        self.damage += 1;
        let what = Value::Text(format!("{part}: {what}"));
        self.sink.item(&Item { kind: "damage", offset, fields: vec![("what", what)] })
    }

    fn wants_samples(&self) -> bool {
        self.show == Show::Samples
    }
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn hex(value: u32) -> Value {
    Value::Text(format!("{value:08x}"))
}
