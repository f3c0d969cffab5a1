//! What a snapshot file is read by: names, column sets and the host index.

use super::super::FormatError;
use super::stripe::ENTRY_LEN;
use super::{BLOCK, Header};
use std::cmp::Ordering;
use std::mem::size_of;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A column of a set, by the ids of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ColumnEntry {
    /// Name id of the component, empty for the host itself.
    pub component: U32,
    /// Name id of the part of the component, empty for the component itself.
    pub subcomponent: U32,
}

/// A host, in the order of (cluster, host) by the bytes of their names.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HostEntry {
    /// Name id of the cluster.
    pub cluster: U32,
    /// Name id of the host.
    pub host: U32,
    /// Where its directory begins, right behind the data of its stripes.
    pub directory: U64,
    /// Its stripes, at least 1.
    pub stripes: U32,
    /// The stripes of the hosts before it.
    pub first_stripe: U32,
    /// CRC-32 of its directory.
    pub crc: U32,
    /// Zero.
    pub reserved: U32,
}

/// Bytes of a [`HostEntry`].
pub const HOST_ENTRY_LEN: u64 = size_of::<HostEntry>() as u64;

const _: () = assert!(size_of::<ColumnEntry>() == 8 && HOST_ENTRY_LEN == 32);

impl HostEntry {
    /// The end of its directory, exclusive; saturates, which no check lets pass.
    pub fn directory_end(&self) -> u64 {
        self.directory.get().saturating_add(u64::from(self.stripes.get()).saturating_mul(ENTRY_LEN))
    }
}

/// The strings of a file: `count + 1` offsets, then the bytes of all names.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    offsets: &'a [U32],
    bytes: &'a [u8],
}

impl<'a> Names<'a> {
    /// The names in a section.
    pub fn split(section: &'a [u8], count: u32) -> Result<Self, FormatError> {
        let (offsets, bytes) = split_offsets(section, count)?;
        Ok(Self { offsets, bytes })
    }

    /// Checks that the names fill their bytes in order, and that each is UTF-8.
    pub fn check(&self) -> Result<(), FormatError> {
        let wrong = FormatError::Field("names do not fill their section in order");
        let text = std::str::from_utf8(self.bytes).map_err(|_| FormatError::Field("names are not UTF-8"))?;
        let mut at = 0;
        for (index, offset) in self.offsets.iter().enumerate() {
            let offset = offset.get() as usize;
            if offset < at || (index == 0 && offset != 0) || !text.is_char_boundary(offset) {
                return Err(wrong);
            }
            at = offset;
        }
        if at == text.len() { Ok(()) } else { Err(wrong) }
    }

    /// The place of each name among all of them by their bytes; equal names have the same.
    fn ranks(&self) -> Vec<u32> {
        let count = u32::try_from(self.offsets.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let name = |id: &u32| self.bytes(U32::new(*id));
        let mut sorted: Vec<u32> = (0..count).collect();
        sorted.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let mut ranks = vec![0; sorted.len()];
        for (rank, equal) in (0..).zip(sorted.chunk_by(|a, b| name(a) == name(b))) {
            for &id in equal {
                if let Some(place) = ranks.get_mut(id as usize) {
                    *place = rank;
                }
            }
        }
        ranks
    }

    /// Whether there is a name with this id.
    pub fn has(&self, id: U32) -> bool {
        (id.get() as usize) < self.offsets.len().saturating_sub(1)
    }

    /// The bytes of a name; none for an unknown id.
    pub fn bytes(&self, id: U32) -> &'a [u8] {
        let id = id.get() as usize;
        match self.offsets.get(id..) {
            Some([begin, end, ..]) => self.bytes.get(begin.get() as usize..end.get() as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    /// A name; empty for an unknown id.
    pub fn get(&self, id: U32) -> &'a str {
        std::str::from_utf8(self.bytes(id)).unwrap_or_default()
    }
}

/// The lists of columns that stripes have: `count + 1` offsets in columns, then the columns of all sets.
#[derive(Clone, Copy, Debug)]
pub struct ColumnSets<'a> {
    offsets: &'a [U32],
    columns: &'a [ColumnEntry],
}

impl<'a> ColumnSets<'a> {
    /// The sets in a section.
    pub fn split(section: &'a [u8], count: u32) -> Result<Self, FormatError> {
        let (offsets, columns) = split_offsets(section, count)?;
        let columns = <[ColumnEntry]>::ref_from_bytes(columns)
            .map_err(|_| FormatError::Field("column sets end within a column"))?;
        Ok(Self { offsets, columns })
    }

    /// Checks that the sets fill their section in order, and that the columns of each rise by their names.
    pub fn check(&self, names: Names<'_>) -> Result<(), FormatError> {
        let mut at = 0;
        // A file has few names and many columns: numbers are compared instead of the bytes of names.
        let ranks = names.ranks();
        let rank = |id: U32| ranks.get(id.get() as usize);
        for (set, end) in self.offsets.iter().enumerate() {
            let end = end.get() as usize;
            let columns = self.columns.get(at..end).ok_or(FormatError::Field("column sets are not in order"))?;
            if columns.is_empty() != (set == 0) {
                return Err(FormatError::Field("column set is empty"));
            }
            if !columns.iter().all(|column| names.has(column.component) && names.has(column.subcomponent)) {
                return Err(FormatError::Field("column has no name"));
            }
            let key = |column: &ColumnEntry| (rank(column.component), rank(column.subcomponent));
            if !columns.is_sorted_by(|a, b| key(a) < key(b)) {
                return Err(FormatError::Field("columns of a set do not rise by name"));
            }
            at = end;
        }
        if at == self.columns.len() { Ok(()) } else { Err(FormatError::Field("column sets do not fill their section")) }
    }

    /// The columns of a set; none for an unknown id.
    pub fn get(&self, set: U32) -> &'a [ColumnEntry] {
        match self.offsets.get(set.get() as usize..) {
            Some([begin, end, ..]) => self.columns.get(begin.get() as usize..end.get() as usize).unwrap_or_default(),
            _ => &[],
        }
    }
}

impl<'a> Names<'a> {
    /// The names of a column, as bytes.
    fn pair(&self, column: ColumnEntry) -> (&'a [u8], &'a [u8]) {
        (self.bytes(column.component), self.bytes(column.subcomponent))
    }
}

impl ColumnEntry {
    /// How it sorts against the column with these names.
    pub fn cmp_name(self, names: Names<'_>, other: (&[u8], &[u8])) -> Ordering {
        names.pair(self).cmp(&other)
    }
}

/// The host index.
#[derive(Clone, Copy, Debug)]
pub struct Hosts<'a>(&'a [HostEntry]);

impl<'a> Hosts<'a> {
    /// The entries in a section.
    pub fn split(section: &'a [u8], count: u32) -> Result<Self, FormatError> {
        <[HostEntry]>::ref_from_bytes(section)
            .ok()
            .filter(|entries| entries.len() == count as usize)
            .map(Self)
            .ok_or(FormatError::Field("host index does not fill its section"))
    }

    /// Checks that hosts rise by name, and that their directories and stripes follow each other inside the file.
    pub fn check(&self, names: Names<'_>, header: &Header) -> Result<(), FormatError> {
        let (mut end, mut stripes) = (BLOCK as u64, 0_u32);
        let mut before = None;
        for host in self.0 {
            let name = (names.bytes(host.cluster), names.bytes(host.host));
            if !names.has(host.cluster) || !names.has(host.host) || host.reserved.get() != 0 {
                return Err(FormatError::Field("host has no name or reserved bytes that are not zero"));
            }
            if before.is_some_and(|before| before >= name) {
                return Err(FormatError::Field("hosts do not rise by name"));
            }
            let directory = host.directory.get();
            if host.stripes.get() == 0 || directory <= end || !directory.is_multiple_of(8) {
                return Err(FormatError::Field("directory of a host is not behind the one before"));
            }
            if host.first_stripe.get() != stripes {
                return Err(FormatError::Field("stripes of the hosts do not follow each other"));
            }
            stripes = stripes.saturating_add(host.stripes.get());
            end = host.directory_end();
            before = Some(name);
        }
        if stripes != header.stripes || end != header.hosts.offset {
            return Err(FormatError::Field("directories of the hosts do not fill the file"));
        }
        Ok(())
    }

    /// A host by its position.
    pub fn get(&self, at: u32) -> Option<&'a HostEntry> {
        self.0.get(at as usize)
    }

    /// Where the data of a host begin: behind the directory of the host before.
    pub fn data_begin(&self, at: u32) -> u64 {
        at.checked_sub(1).and_then(|before| self.get(before)).map_or(BLOCK as u64, HostEntry::directory_end)
    }

    /// The position of a host.
    pub fn find(&self, names: Names<'_>, cluster: &str, host: &str) -> Option<u32> {
        let wanted = (cluster.as_bytes(), host.as_bytes());
        let at = self.0.binary_search_by(|entry| (names.bytes(entry.cluster), names.bytes(entry.host)).cmp(&wanted));
        at.ok().and_then(|at| u32::try_from(at).ok())
    }
}

fn split_offsets(section: &[u8], count: u32) -> Result<(&[U32], &[u8]), FormatError> {
    let count = (count as usize).saturating_add(1);
    <[U32]>::ref_from_prefix_with_elems(section, count)
        .map_err(|_| FormatError::Field("section has fewer bytes than offsets"))
}
