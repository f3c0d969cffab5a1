//! The reader: a mapped file, checked once piece by piece, read in place.

use super::error::{Cause, Part, SnapshotError};
use crate::disk::{BLOCK, Region};
use crate::format::FormatError;
use crate::format::snapshot::index::{ColumnSets, Hosts, Names};
use crate::format::snapshot::stripe::{Columns, StripeEntry, Surroundings, split_directory};
use crate::format::snapshot::{Header, Identity, Section, check_crc, piece};
use crate::slot::Run;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a manifest says of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Which snapshot it is.
    pub identity: Identity,
    /// The length of the file in bytes.
    pub file_len: u64,
    /// The checksum in its header.
    pub header_crc: u32,
}

/// An open snapshot file. Header, names, column sets and host index are good; the directory of a host and the data of a
/// stripe are checked when they are first asked for, and one that is damaged is an error each time, for itself alone.
///
/// On the heap: a bit a host and a bit a stripe, which tell what was checked.
#[derive(Debug)]
pub struct Snapshot {
    /// Never changes as long as it is mapped; a page that is lost reads as zeros and poisons it.
    region: Region,
    header: Header,
    header_crc: u32,
    good_directories: Bits,
    good_stripes: Bits,
}

/// A host of one [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRef(u32);

impl Snapshot {
    /// Opens the file that a manifest lists.
    pub fn open(region: Region, expected: &Expected) -> Result<Self, SnapshotError> {
        let snapshot = Self::open_unlisted(region)?;
        let wrong = SnapshotError::at(Part::Header, 0);
        let header = &snapshot.header;
        if header.identity.store != expected.identity.store {
            return Err(wrong(FormatError::OtherStore(header.identity.store)));
        }
        let Expected { identity, file_len, header_crc } = *expected;
        if (header.identity, header.file_len, snapshot.header_crc) != (identity, file_len, header_crc) {
            return Err(wrong(FormatError::Field("is not the snapshot that is listed")));
        }
        Ok(snapshot)
    }

    /// Opens a file of which nothing is known, for tools.
    pub fn open_unlisted(region: Region) -> Result<Self, SnapshotError> {
        let in_header = SnapshotError::at(Part::Header, 0);
        touch(&region, 0, (BLOCK as u64).min(region.len() as u64), &Part::Header)?;
        let (header, header_crc) = Header::check(&region, region.len() as u64).map_err(in_header)?;
        let shared =
            [(&header.names, Part::Names), (&header.column_sets, Part::ColumnSets), (&header.hosts, Part::HostIndex)];
        for (section, part) in shared {
            touch(&region, section.offset, section.len, &part)?;
            let bytes = section_bytes(&region, section);
            check_crc(bytes, section.crc).map_err(SnapshotError::at(part, section.offset))?;
        }
        let snapshot = Self {
            good_directories: Bits::new(header.hosts.count),
            good_stripes: Bits::new(header.stripes),
            region,
            header,
            header_crc,
        };
        snapshot.check_shared()?;
        Ok(snapshot)
    }

    /// Checks what names, column sets and host index say.
    fn check_shared(&self) -> Result<(), SnapshotError> {
        let Header { names, column_sets, hosts, .. } = &self.header;
        self.names().and_then(|names| names.check()).map_err(SnapshotError::at(Part::Names, names.offset))?;
        let names = self.names().map_err(SnapshotError::at(Part::Names, names.offset))?;
        self.column_sets()
            .and_then(|sets| sets.check(names))
            .map_err(SnapshotError::at(Part::ColumnSets, column_sets.offset))?;
        self.host_index()
            .and_then(|hosts| hosts.check(names, &self.header))
            .map_err(SnapshotError::at(Part::HostIndex, hosts.offset))
    }

    /// Which snapshot this is.
    pub fn identity(&self) -> Identity {
        self.header.identity
    }

    /// From the begin of the first slot to the end of the last one, in unix seconds; empty where there is no value.
    pub fn times(&self) -> Range<i64> {
        self.header.times.clone()
    }

    /// The checksum in its header.
    pub fn header_crc(&self) -> u32 {
        self.header_crc
    }

    /// The length of the file in bytes.
    pub fn file_len(&self) -> u64 {
        self.header.file_len
    }

    /// How many hosts it has.
    pub fn host_count(&self) -> u32 {
        self.header.hosts.count
    }

    /// How many stripes it has.
    pub fn stripe_count(&self) -> u32 {
        self.header.stripes
    }

    /// Bytes on the heap, apart from the mapping.
    pub fn heap_bytes(&self) -> usize {
        8 * (self.good_directories.0.len() + self.good_stripes.0.len())
    }

    /// Whether a page could not be read after it had been checked. Whoever has used slices asks before the result is
    /// relied on.
    pub fn is_poisoned(&self) -> bool {
        self.region.is_poisoned()
    }

    /// The error of a mapping that is poisoned.
    pub fn check_poison(&self) -> Result<(), SnapshotError> {
        if self.is_poisoned() {
            return Err(SnapshotError::new(Part::File, 0, Cause::Poisoned));
        }
        Ok(())
    }

    /// The hosts: cluster, name, and where to go on. In the order of (cluster, name).
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &str, HostRef)> {
        (0..self.host_count()).map_while(|at| self.host_at(at))
    }

    pub(super) fn host_at(&self, at: u32) -> Option<(&str, &str, HostRef)> {
        self.host_name(HostRef(at)).map(|(cluster, host)| (cluster, host, HostRef(at)))
    }

    /// The cluster and name of a host.
    pub fn host_name(&self, host: HostRef) -> Option<(&str, &str)> {
        let (names, hosts) = (self.names().ok()?, self.host_index().ok()?);
        let entry = hosts.get(host.0)?;
        Some((names.get(entry.cluster), names.get(entry.host)))
    }

    /// The host of this name: a binary search over the index.
    pub fn find(&self, cluster: &str, host: &str) -> Option<HostRef> {
        self.host_index().ok()?.find(self.names().ok()?, cluster, host).map(HostRef)
    }

    /// The stripes of a host, in the order of (metric, start, frequency).
    pub fn stripes(&self, host: HostRef) -> Result<Stripes<'_>, SnapshotError> {
        let stripes = self.split_stripes(host)?;
        if !self.good_directories.has(host.0) {
            self.check_directory(host)?;
            self.good_directories.set(host.0);
        }
        Ok(stripes)
    }

    /// The stripes of one metric of a host, in the order of (start, frequency). Their data lie side by side.
    pub fn stripes_of(&self, host: HostRef, metric: &str) -> Result<Stripes<'_>, SnapshotError> {
        Ok(self.stripes(host)?.of_metric(metric))
    }

    /// Checks a directory, whether or not that was done before, and returns its length in bytes.
    pub(super) fn check_directory(&self, host: HostRef) -> Result<u64, SnapshotError> {
        let entry = *self.host_index().ok().and_then(|hosts| hosts.get(host.0)).ok_or_else(|| self.lost())?;
        let (offset, len) = (entry.directory.get(), entry.directory_end().saturating_sub(entry.directory.get()));
        let part = self.directory_part(host);
        touch(&self.region, offset, len, &part)?;
        let check = || {
            let bytes = piece(&self.region, offset, len)?;
            check_crc(bytes, entry.crc.get())?;
            let surroundings = Surroundings {
                identity: self.header.identity,
                times: self.times(),
                data: self.data_begin(host)?..offset,
                names: self.names()?,
                column_sets: self.column_sets()?,
            };
            surroundings.check(split_directory(bytes)?)?;
            Ok(len)
        };
        check().map_err(SnapshotError::at(part, offset))
    }

    pub(super) fn split_stripes(&self, host: HostRef) -> Result<Stripes<'_>, SnapshotError> {
        let entry = *self.host_index().ok().and_then(|hosts| hosts.get(host.0)).ok_or_else(|| self.lost())?;
        let offset = entry.directory.get();
        let bytes = piece(&self.region, offset, entry.directory_end().saturating_sub(offset));
        let entries = bytes.and_then(split_directory);
        let entries = entries.map_err(|error| SnapshotError::new(self.directory_part(host), offset, error))?;
        Ok(Stripes { snapshot: self, host, first: entry.first_stripe.get(), entries })
    }

    /// Where the data of a host begin.
    pub(super) fn data_begin(&self, host: HostRef) -> Result<u64, FormatError> {
        Ok(self.host_index()?.data_begin(host.0))
    }

    /// Where the data of a host end, which is where its directory begins.
    pub(super) fn data_end(&self, host: HostRef) -> Option<u64> {
        Some(self.host_index().ok()?.get(host.0)?.directory.get())
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    fn names(&self) -> Result<Names<'_>, FormatError> {
        Names::split(section_bytes(&self.region, &self.header.names), self.header.names.count)
    }

    fn column_sets(&self) -> Result<ColumnSets<'_>, FormatError> {
        ColumnSets::split(section_bytes(&self.region, &self.header.column_sets), self.header.column_sets.count)
    }

    fn host_index(&self) -> Result<Hosts<'_>, FormatError> {
        Hosts::split(section_bytes(&self.region, &self.header.hosts), self.header.hosts.count)
    }

    fn directory_part(&self, host: HostRef) -> Part {
        let (cluster, host) = self.host_name(host).unwrap_or_default();
        Part::Directory { cluster: cluster.to_owned(), host: host.to_owned() }
    }

    /// There is no such host: it is another file's, or the index is gone from under us.
    fn lost(&self) -> SnapshotError {
        SnapshotError::at(Part::HostIndex, self.header.hosts.offset)(FormatError::Field("has no such host"))
    }
}

/// Consecutive stripes of one host, in the order of (metric, start, frequency).
#[derive(Clone, Copy, Debug)]
pub struct Stripes<'a> {
    snapshot: &'a Snapshot,
    host: HostRef,
    /// The number of the first one in the file.
    first: u32,
    entries: &'a [StripeEntry],
}

impl<'a> Stripes<'a> {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Stripe<'a>> + use<'a> {
        let Self { snapshot, host, first, entries } = *self;
        // As many as a file has stripes, which are counted in 32 bits.
        (first..).zip(entries).map(move |(number, &entry)| Stripe { snapshot, host, number, entry })
    }

    /// Those of one metric: a binary search.
    #[must_use]
    pub fn of_metric(&self, metric: &str) -> Self {
        let Ok(names) = self.snapshot.names() else { return Self { entries: &[], ..*self } };
        let metric = metric.as_bytes();
        let begin = self.entries.partition_point(|entry| names.bytes(entry.metric) < metric);
        let rest = self.entries.get(begin..).unwrap_or_default();
        let len = rest.partition_point(|entry| names.bytes(entry.metric) == metric);
        let first = self.first.saturating_add(u32::try_from(begin).unwrap_or(u32::MAX));
        Self { first, entries: rest.get(..len).unwrap_or_default(), ..*self }
    }

    /// Tells the kernel that their data will be read.
    pub fn will_need(&self) {
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last())
            && let Some(range) = byte_range(first.offset.get(), last.offset.get().saturating_add(last.len.get()))
        {
            self.snapshot.region.will_need(range);
        }
    }
}

/// One metric of a host over consecutive slots of a run.
#[derive(Clone, Copy, Debug)]
pub struct Stripe<'a> {
    snapshot: &'a Snapshot,
    host: HostRef,
    /// Its number in the file.
    number: u32,
    /// A copy: what was read once stays consistent, whatever happens to the page.
    entry: StripeEntry,
}

impl<'a> Stripe<'a> {
    /// The name of the metric.
    pub fn metric(&self) -> &'a str {
        self.snapshot.names().map_or("", |names| names.get(self.entry.metric))
    }

    /// The grid.
    pub fn run(&self) -> Run {
        self.entry.run()
    }

    /// What stripes of a host are sorted by.
    pub(super) fn key(&self) -> (&'a str, Run) {
        (self.metric(), self.run())
    }

    /// The slot that its columns begin with.
    pub fn first_slot(&self) -> u32 {
        self.entry.first_slot.get()
    }

    /// The slots of each column, 1 to 86,400. The first and the last have a value in some column.
    pub fn slots(&self) -> u32 {
        self.entry.slots.get()
    }

    /// From the begin of its first slot to the end of its last one, in unix seconds.
    pub fn times(&self) -> Range<i64> {
        let end = self.first_slot().saturating_add(self.slots());
        self.run().end_after(self.first_slot())..self.run().end_after(end)
    }

    /// The number of its column set: stripes of one file that have the same one have the same columns.
    pub fn column_set(&self) -> u32 {
        self.entry.column_set.get()
    }

    /// How many columns it has.
    pub fn column_count(&self) -> usize {
        self.entry.columns.get() as usize
    }

    /// (component, subcomponent) of its columns, rising. Each column has a value.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a> {
        let names = self.snapshot.names().ok();
        let columns = self.snapshot.column_sets().map_or(&[] as &[_], |sets| sets.get(self.entry.column_set));
        columns.iter().map(move |column| {
            names.map_or(("", ""), |names| (names.get(column.component), names.get(column.subcomponent)))
        })
    }

    /// The position of the column of this name.
    pub fn position(&self, component: &str, subcomponent: &str) -> Option<usize> {
        let (names, sets) = (self.snapshot.names().ok()?, self.snapshot.column_sets().ok()?);
        let wanted = (component.as_bytes(), subcomponent.as_bytes());
        sets.get(self.entry.column_set).binary_search_by(|column| column.cmp_name(names, wanted)).ok()
    }

    /// Bytes of its data in the file.
    pub fn data_len(&self) -> u64 {
        self.entry.len.get()
    }

    /// Its columns, in place. The first time, pages are fetched and the checksum is compared. What is computed from
    /// the slices counts only if [`Snapshot::is_poisoned`] is false afterwards.
    pub fn data(&self) -> Result<Columns<'a>, SnapshotError> {
        let good = &self.snapshot.good_stripes;
        if !good.has(self.number) {
            self.check_data()?;
            good.set(self.number);
        }
        self.split_data()
    }

    /// Checks its data, whether or not that was done before.
    pub(super) fn check_data(&self) -> Result<(), SnapshotError> {
        let (offset, len) = (self.entry.offset.get(), self.entry.len.get());
        touch(&self.snapshot.region, offset, len, &self.part())?;
        piece(&self.snapshot.region, offset, len)
            .and_then(|bytes| check_crc(bytes, self.entry.crc.get()))
            .map_err(SnapshotError::at(self.part(), offset))?;
        self.split_data().map(|_| ())
    }

    fn split_data(&self) -> Result<Columns<'a>, SnapshotError> {
        let offset = self.entry.offset.get();
        piece(&self.snapshot.region, offset, self.entry.len.get())
            .and_then(|bytes| Columns::check(bytes, self.entry.columns.get(), self.slots()))
            .map_err(|error| SnapshotError::new(self.part(), offset, error))
    }

    pub(super) fn data_range(&self) -> Range<u64> {
        self.entry.offset.get()..self.entry.offset.get().saturating_add(self.data_len())
    }

    fn part(&self) -> Part {
        let (cluster, host) = self.snapshot.host_name(self.host).unwrap_or_default();
        Part::Stripe {
            cluster: cluster.to_owned(),
            host: host.to_owned(),
            metric: self.metric().to_owned(),
            begin: self.times().start,
        }
    }
}

/// What was found good, a bit each. They order nothing: the bytes that they speak of never change.
#[derive(Debug)]
struct Bits(Box<[AtomicU64]>);

impl Bits {
    /// For `len` things, of which the file is known to have the bytes.
    fn new(len: u32) -> Self {
        Self((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (at % 64) & 1 == 1)
    }

    fn set(&self, at: u32) {
        if let Some(word) = self.0.get(at as usize / 64) {
            word.fetch_or(1 << (at % 64), Ordering::Relaxed);
        }
    }
}

/// The bytes of a section, which the header's check found inside the file.
fn section_bytes<'a>(region: &'a Region, section: &Section) -> &'a [u8] {
    piece(region, section.offset, section.len).unwrap_or_default()
}

pub(super) fn touch(region: &Region, offset: u64, len: u64, part: &Part) -> Result<(), SnapshotError> {
    // What is outside of the file is told by the check that follows.
    match byte_range(offset, offset.saturating_add(len)).filter(|range| range.end <= region.len()) {
        Some(range) => region.touch(range).map_err(|error| SnapshotError::new(part.clone(), offset, error)),
        None => Ok(()),
    }
}

fn byte_range(begin: u64, end: u64) -> Option<Range<usize>> {
    Some(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)
}
