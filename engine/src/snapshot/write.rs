//! The writer: hosts in their order, one in memory at a time; what all of them share comes last.

use super::encode;
use super::error::WriteError;
use crate::disk::{BLOCK, NewFile};
use crate::format::snapshot::index::{ColumnEntry, HostEntry};
use crate::format::snapshot::stripe::StripeEntry;
use crate::format::snapshot::{Header, Identity, STRIPE_ALIGN, Section};
use crate::slot::Run;
use hashbrown::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use zerocopy::little_endian::{I64, U32};
use zerocopy::{Immutable, IntoBytes};

/// Bytes that are collected before they go to the file: large enough that calls cost nothing, small enough that they are
/// in the cache when they are copied on.
const CHUNK: usize = 64 << 10;

/// One metric of a host over consecutive slots of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct StripeData {
    /// The name of the metric.
    pub metric: Arc<str>,
    /// The grid.
    pub run: Run,
    /// The slot that the columns begin with.
    pub first_slot: u32,
    /// The slots of each column.
    pub slots: u32,
    /// The columns, in any order.
    pub columns: Vec<ColumnData>,
}

/// The values of one series in a [`StripeData`].
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnData {
    /// The component, empty for the host itself.
    pub component: Arc<str>,
    /// The part of the component, empty for the component itself.
    pub subcomponent: Arc<str>,
    /// A value a slot; NaN is missing.
    pub values: Vec<f64>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The length of the file in bytes.
    pub file_len: u64,
    /// The checksum in its header, for the manifest.
    pub header_crc: u32,
    /// From the begin of the first slot to the end of the last one, in unix seconds; empty where there is no value.
    pub times: Range<i64>,
    /// Hosts inside.
    pub hosts: u32,
    /// Stripes inside.
    pub stripes: u32,
}

/// A snapshot that is being written. Dropped before [`Writer::finish`], it leaves no file of its name.
pub struct Writer {
    out: Out,
    identity: Identity,
    names: Names,
    sets: ColumnSets,
    hosts: Vec<HostEntry>,
    /// The stripes of the host that is being written.
    directory: Vec<StripeEntry>,
    last_host: Option<(Box<str>, Box<str>)>,
    last_stripe: Option<(Box<str>, Run)>,
    stripes: u32,
    times: Option<Range<i64>>,
    data: Vec<u8>,
    is_broken: bool,
}

/// A [`StripeData`], borrowed.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// The name of the metric.
    pub metric: &'a str,
    /// The grid.
    pub run: Run,
    /// The slot that the columns begin with.
    pub first_slot: u32,
    /// The slots of each column.
    pub slots: u32,
    /// The columns, in any order.
    pub columns: Vec<PieceColumn<'a>>,
}

/// (component, subcomponent), values.
pub type PieceColumn<'a> = ((&'a str, &'a str), &'a [f64]);

impl Writer {
    /// Begins a snapshot in a new file.
    pub fn new(file: Box<dyn NewFile>, identity: Identity) -> Result<Self, WriteError> {
        if identity.day().is_none() || identity.lsn_lo > identity.lsn_hi {
            return Err(WriteError::Identity(identity));
        }
        Ok(Self {
            // The header block takes the place of these zeros at the end.
            out: Out { file, chunk: vec![0; BLOCK], taken: 0 },
            identity,
            names: Names::default(),
            sets: ColumnSets::default(),
            hosts: Vec::new(),
            directory: Vec::new(),
            last_host: None,
            last_stripe: None,
            stripes: 0,
            times: None,
            data: Vec::new(),
            is_broken: false,
        })
    }

    /// Which snapshot this is going to be.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Bytes that the file has so far, for pacing.
    pub fn written(&self) -> u64 {
        self.out.offset()
    }

    /// Writes a host with all its stripes and returns how many bytes they took. Hosts come in rising order of
    /// (cluster, host). Stripes, columns and slots at either end that have no value are left out, and so is a host
    /// that has none.
    pub fn host(&mut self, cluster: &str, host: &str, stripes: &mut [StripeData]) -> Result<u64, WriteError> {
        let before = self.written();
        stripes.sort_by(|a, b| (&a.metric, a.run).cmp(&(&b.metric, b.run)));
        self.begin_host(cluster, host)?;
        for stripe in stripes.iter() {
            self.stripe(Piece {
                metric: &stripe.metric,
                run: stripe.run,
                first_slot: stripe.first_slot,
                slots: stripe.slots,
                columns: stripe.columns.iter().map(ColumnData::borrowed).collect(),
            })?;
        }
        self.end_host()?;
        Ok(self.written() - before)
    }

    /// Begins a host; its stripes follow, in rising order of (metric, start, frequency).
    pub(crate) fn begin_host(&mut self, cluster: &str, host: &str) -> Result<(), WriteError> {
        let out_of_order = || WriteError::HostOrder { cluster: cluster.to_owned(), host: host.to_owned() };
        self.guarded(|writer| {
            if writer.last_host.as_ref().is_some_and(|(c, h)| (&**c, &**h) >= (cluster, host)) {
                return Err(out_of_order());
            }
            writer.last_host = Some((cluster.into(), host.into()));
            writer.last_stripe = None;
            Ok(())
        })
    }

    pub(crate) fn stripe(&mut self, piece: Piece<'_>) -> Result<(), WriteError> {
        self.guarded(|writer| writer.put_stripe(piece))
    }

    fn put_stripe(&mut self, mut piece: Piece<'_>) -> Result<(), WriteError> {
        let Piece { metric, run, .. } = piece;
        if self.last_stripe.as_ref().is_some_and(|(m, r)| (&**m, *r) >= (metric, run)) {
            return Err(WriteError::StripeTwice { metric: metric.to_owned(), run });
        }
        self.last_stripe = Some((metric.into(), run));
        if !piece.columns.is_sorted_by(|(a, _), (b, _)| a < b) {
            piece.columns.sort_by_key(|&(name, _)| name);
            if let Some([((component, subcomponent), _), _]) =
                piece.columns.array_windows().find(|[(a, _), (b, _)]| a == b)
            {
                let [metric, component, subcomponent] = [metric, component, subcomponent].map(str::to_owned);
                return Err(WriteError::ColumnTwice { metric, component, subcomponent });
            }
        }
        if let Some((_, values)) = piece.columns.iter().find(|(_, values)| values.len() != piece.slots as usize) {
            return Err(WriteError::Ragged { metric: metric.to_owned(), values: values.len(), slots: piece.slots });
        }
        piece.columns.retain(|(_, values)| values.iter().any(|value| !value.is_nan()));
        let Some(present) = encode::present_range(piece.columns.iter().map(|&(_, values)| values)) else {
            return Ok(());
        };
        // Both are at most `slots`, which is an u32.
        let trimmed = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let slots = trimmed(present.len());
        let first_slot = piece.first_slot.checked_add(trimmed(present.start));
        let times = first_slot.and_then(|first| self.identity.times(run, first, slots));
        let (Some(first_slot), Some(times)) = (first_slot, times) else {
            return Err(WriteError::OtherDay { metric: metric.to_owned(), run });
        };
        self.times = Some(match self.times.take() {
            Some(known) => known.start.min(times.start)..known.end.max(times.end),
            None => times,
        });
        encode::encode(&mut self.data, piece.columns.iter().map(|(_, values)| &values[present.clone()]));
        let column_set = self.sets.id(&mut self.names, metric, piece.columns.iter().map(|&(name, _)| name))?;
        self.out.pad(STRIPE_ALIGN);
        self.directory.push(StripeEntry {
            metric: self.names.id(metric)?,
            column_set,
            start: I64::new(run.start),
            frequency: run.frequency.into(),
            first_slot: first_slot.into(),
            slots: slots.into(),
            columns: count(piece.columns.len(), "columns")?,
            offset: self.out.offset().into(),
            len: (self.data.len() as u64).into(),
            crc: crc32fast::hash(&self.data).into(),
            reserved: 0.into(),
        });
        self.out.put(&self.data)
    }

    /// Writes the directory of the host.
    pub(crate) fn end_host(&mut self) -> Result<(), WriteError> {
        self.guarded(|writer| {
            let Some((cluster, host)) = writer.last_host.as_ref().filter(|_| !writer.directory.is_empty()) else {
                return Ok(());
            };
            let stripes = count(writer.directory.len(), "stripes")?;
            writer.hosts.push(HostEntry {
                cluster: writer.names.id(cluster)?,
                host: writer.names.id(host)?,
                directory: writer.out.offset().into(),
                stripes,
                first_stripe: writer.stripes.into(),
                crc: crc32fast::hash(writer.directory.as_bytes()).into(),
                reserved: 0.into(),
            });
            writer.stripes = writer.stripes.checked_add(stripes.get()).ok_or(WriteError::TooMany("stripes"))?;
            writer.out.put(writer.directory.as_bytes())?;
            writer.directory.clear();
            Ok(())
        })
    }

    /// Writes what the hosts share and the header; the file then has its name, durably.
    pub fn finish(mut self) -> Result<Finished, WriteError> {
        if self.is_broken {
            return Err(WriteError::Broken);
        }
        let day = self.identity.day().ok_or(WriteError::Identity(self.identity))?;
        let hosts = self.out.section(&self.hosts, &[] as &[u8], self.hosts.len(), "hosts")?;
        let sets = self.sets.ends.len();
        let column_sets = self.out.section(&offsets(&self.sets.ends), &self.sets.columns, sets, "column sets")?;
        let names = self.names.ends.len();
        let names = self.out.section(&offsets(&self.names.ends), &self.names.bytes, names, "names")?;
        let header = Header {
            identity: self.identity,
            file_len: self.out.offset(),
            times: self.times.unwrap_or(day.start..day.start),
            stripes: self.stripes,
            hosts,
            column_sets,
            names,
        };
        let (block, header_crc) = header.to_block();
        self.out.flush()?;
        self.out.file.finish(&block)?;
        Ok(Finished {
            file_len: header.file_len,
            header_crc,
            times: header.times,
            hosts: hosts.count,
            stripes: header.stripes,
        })
    }

    /// Runs a part of the work, after which the file either goes on or never appears.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<(), WriteError>) -> Result<(), WriteError> {
        if self.is_broken {
            return Err(WriteError::Broken);
        }
        let result = work(self);
        self.is_broken = result.is_err();
        result
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("identity", &self.identity)
            .field("written", &self.written())
            .finish_non_exhaustive()
    }
}

impl ColumnData {
    fn borrowed(&self) -> PieceColumn<'_> {
        ((&self.component, &self.subcomponent), &self.values)
    }
}

/// The file and what is on the way to it.
struct Out {
    file: Box<dyn NewFile>,
    chunk: Vec<u8>,
    /// Bytes that the file has taken.
    taken: u64,
}

impl Out {
    fn offset(&self) -> u64 {
        self.taken + self.chunk.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn pad(&mut self, align: u64) {
        let missing = self.offset().next_multiple_of(align) - self.offset();
        self.chunk.extend((0..missing).map(|_| 0));
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.file.append(&self.chunk)?;
        self.taken = self.offset();
        self.chunk.clear();
        Ok(())
    }

    fn section<A, B>(&mut self, head: &[A], rest: &[B], len: usize, what: &'static str) -> Result<Section, WriteError>
    where
        A: IntoBytes + Immutable,
        B: IntoBytes + Immutable,
    {
        self.pad(8);
        let offset = self.offset();
        let mut crc = crc32fast::Hasher::new();
        for part in [head.as_bytes(), rest.as_bytes()] {
            crc.update(part);
            self.put(part)?;
        }
        Ok(Section { offset, len: self.offset() - offset, count: count(len, what)?.get(), crc: crc.finalize() })
    }
}

/// The names that were used so far; the first one to come is number 0.
#[derive(Default)]
struct Names {
    ids: HashMap<Box<str>, U32>,
    ends: Vec<U32>,
    bytes: Vec<u8>,
}

impl Names {
    /// The bytes of a name of ours.
    fn get(&self, id: U32) -> Option<&[u8]> {
        self.bytes.get(range_of(&self.ends, id))
    }

    fn id(&mut self, name: &str) -> Result<U32, WriteError> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        let id = count(self.ends.len(), "names")?;
        self.bytes.extend_from_slice(name.as_bytes());
        self.ends.push(count(self.bytes.len(), "bytes of names")?);
        self.ids.insert(name.into(), id);
        Ok(id)
    }
}

/// The column sets that were used so far; the first one to come is number 0.
#[derive(Default)]
struct ColumnSets {
    /// By the bytes of their entries.
    ids: HashMap<Box<[u8]>, U32>,
    ends: Vec<U32>,
    columns: Vec<ColumnEntry>,
    /// The largest set that a metric had: hosts are alike.
    largest_of: HashMap<Box<str>, U32>,
    /// The set that is looked for.
    wanted: Vec<ColumnEntry>,
}

impl ColumnSets {
    fn id<'a>(
        &mut self,
        names: &mut Names,
        metric: &str,
        columns: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<U32, WriteError> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.clear();
        let largest = self.largest_of.get(metric).copied();
        let largest_set = largest.map_or(&[][..], |largest| self.set(largest));
        // Both are in the order of names, and mostly of one kind: a walk along both finds nearly all of them.
        let mut rest = largest_set;
        for (component, subcomponent) in columns {
            let name = (Some(component.as_bytes()), Some(subcomponent.as_bytes()));
            let name_of = |known: &ColumnEntry| (names.get(known.component), names.get(known.subcomponent));
            if rest.first().is_none_or(|known| name_of(known) != name) {
                rest = &rest[rest.partition_point(|known| name_of(known) < name)..];
            }
            if let Some(&entry) = rest.first().filter(|known| name_of(known) == name) {
                wanted.push(entry);
                rest = &rest[1..];
            } else {
                wanted.push(ColumnEntry { component: names.id(component)?, subcomponent: names.id(subcomponent)? });
            }
        }
        let is_larger = wanted.len() > largest_set.len();
        let id = match largest.filter(|_| wanted == largest_set) {
            Some(largest) => largest,
            None => self.find_or_add(&wanted)?,
        };
        self.wanted = wanted;
        if is_larger {
            self.largest_of.insert(metric.into(), id);
        }
        Ok(id)
    }

    fn set(&self, id: U32) -> &[ColumnEntry] {
        self.columns.get(range_of(&self.ends, id)).unwrap_or_default()
    }

    fn find_or_add(&mut self, set: &[ColumnEntry]) -> Result<U32, WriteError> {
        if let Some(&id) = self.ids.get(set.as_bytes()) {
            return Ok(id);
        }
        let id = count(self.ends.len(), "column sets")?;
        self.columns.extend_from_slice(set);
        self.ends.push(count(self.columns.len(), "columns")?);
        self.ids.insert(set.as_bytes().into(), id);
        Ok(id)
    }
}

/// Where the thing of a number is, by where each ends.
fn range_of(ends: &[U32], id: U32) -> Range<usize> {
    let end = |at: usize| ends.get(at).map_or(0, |end| end.get() as usize);
    let at = id.get() as usize;
    at.checked_sub(1).map_or(0, end)..end(at)
}

/// Where things begin, and where the last one ends.
fn offsets(ends: &[U32]) -> Vec<U32> {
    std::iter::once(U32::ZERO).chain(ends.iter().copied()).collect()
}

fn count(len: usize, what: &'static str) -> Result<U32, WriteError> {
    u32::try_from(len).map(U32::new).map_err(|_| WriteError::TooMany(what))
}
