//! The manifest: which store this is, which snapshots live, where the log begins, and what was lost from it.

use super::{FormatError, StoreId, checksum_around, pad8, put_front};
use crate::model::Lsn;
use crate::paths::{ArchiveLayout, ArchivePart};
use std::mem::{offset_of, size_of};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of a manifest.
pub const MAGIC: [u8; 8] = *b"kymo-man";
/// The version this program writes and reads.
pub const VERSION: u32 = 1;

/// In front of the records: losses, then snapshots, then frees, then archived parts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ManifestHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32 of the whole file without this field.
    pub crc: U32,
    /// The store.
    pub store: [u8; 16],
    /// Grows by one with each replacement.
    pub generation: U64,
    /// The number of the first segment that is needed.
    pub log_floor: U64,
    /// The highest LSN whose row is in a snapshot, or was dropped: replay passes over all up to it.
    pub snapshot_lsn: U64,
    /// Losses that follow.
    pub losses: U32,
    /// Snapshots that follow.
    pub snapshots: U32,
    /// Frees that follow.
    pub frees: U32,
    /// Archived parts that follow.
    pub archived: U32,
}

/// A part of the log that was set aside, on request, because it was damaged.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LossRecord {
    /// The number of the segment.
    pub seq: U64,
    /// Where the damage begins in it.
    pub offset: U64,
    /// Bytes that were set aside.
    pub bytes: U64,
    /// The first LSN that is gone.
    pub first_lsn: U64,
    /// The last LSN that is known to be gone, 0 where nobody knows.
    pub last_lsn: U64,
    /// When it was set aside, in unix seconds.
    pub time: I64,
}

/// A snapshot that lives.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SnapshotRecord {
    /// The UTC day of its slots, in days since 1970-01-01.
    pub partition: I64,
    /// The lowest LSN that it may hold.
    pub lsn_lo: U64,
    /// The highest LSN that it may hold.
    pub lsn_hi: U64,
    /// Bytes of the file.
    pub file_len: U64,
    /// The checksum that stands in its header.
    pub header_crc: U32,
    /// How often this range of LSNs was written again.
    pub edition: U32,
}

/// A free that some snapshot is older than; the names of its selector follow as in the log, padded to eight bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FreeRecord {
    /// Its LSN.
    pub lsn: U64,
    /// Runs that ended before this time are gone, in unix seconds.
    pub to: I64,
    /// Names of the selector.
    pub parts: U32,
    /// Bytes of the names with their lengths and padding.
    pub names_len: U32,
}

/// A part of a partition that was archived; the name of its cluster follows, padded to eight bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ArchivedRecord {
    /// The UTC day of its slots, in days since 1970-01-01.
    pub partition: I64,
    /// The highest LSN that it holds, or that it was found to hold nothing of.
    pub archived_lsn: U64,
    /// Its rows.
    pub rows: U64,
    /// First instant of its first slot, in unix seconds.
    pub from: I64,
    /// End of its last slot, in unix seconds.
    pub until: I64,
    /// Bytes of the manifest beside its files.
    pub sidecar_len: U64,
    /// The CRC-32 of that.
    pub sidecar_crc: U32,
    /// How often something of the partition was archived before.
    pub part: U32,
    /// How it is named: 1 in the layout `hive`, 2 in `flat`.
    pub naming: U32,
    /// Bytes of the name of the cluster; 0 where nothing was left to archive.
    pub cluster_len: U32,
}

const _: () = assert!(
    size_of::<ArchivedRecord>() == 64
        && offset_of!(ArchivedRecord, sidecar_crc) == 48
        && size_of::<ManifestHeader>() == 72
        && offset_of!(ManifestHeader, losses) == 56
        && size_of::<LossRecord>() == 48
        && size_of::<SnapshotRecord>() == 40
        && size_of::<FreeRecord>() == 24
);

/// A part of the log that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The number of the segment.
    pub seq: u64,
    /// Where the damage begins in it, in bytes.
    pub offset: u64,
    /// Bytes that were set aside.
    pub bytes: u64,
    /// The first LSN that is gone.
    pub first_lsn: Lsn,
    /// The last LSN that is known to be gone.
    pub last_lsn: Option<Lsn>,
    /// When it was set aside, in unix seconds.
    pub time: i64,
}

/// A snapshot that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSnapshot {
    /// The UTC day of its slots, in days since 1970-01-01.
    pub partition: i64,
    /// The lowest LSN that it may hold.
    pub lsn_lo: Lsn,
    /// The highest LSN that it may hold.
    pub lsn_hi: Lsn,
    /// Bytes of the file.
    pub file_len: u64,
    /// The checksum that stands in its header.
    pub header_crc: u32,
    /// How often this range of LSNs was written again; part of the file's name.
    pub edition: u32,
}

/// Everything of a selector that ended before a time is gone, as far as lower LSNs wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Free {
    /// Its LSN.
    pub lsn: Lsn,
    /// The time, in unix seconds.
    pub to: i64,
    /// Cluster, host, component, subcomponent: as many as are named.
    pub selector: Vec<String>,
}

/// A part of a partition that was archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The names of its objects. Where nothing was left to archive, the cluster has no name and there are none.
    pub names: ArchivePart,
    /// The highest LSN that it holds.
    pub lsn: Lsn,
    /// Its rows.
    pub rows: u64,
    /// From the begin of its first slot to the end of its last one, in unix seconds.
    pub times: std::ops::Range<i64>,
    /// Length in bytes and CRC-32 of the manifest beside its files.
    pub sidecar: (u64, u32),
}

impl Free {
    /// The mark of an import. It has an LSN, as every free, and takes nothing away, since nothing ends before its time;
    /// the snapshots of the import have that LSN alone. Like every free it keeps them apart from younger ones, so that
    /// they can be told from what senders wrote for as long as they live.
    pub fn of_import(lsn: Lsn) -> Self {
        Self { lsn, to: i64::MIN, selector: Vec::new() }
    }

    /// Whether it is such a mark.
    pub fn is_import(&self) -> bool {
        self.to == i64::MIN
    }
}

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The store.
    pub store: StoreId,
    /// Grows by one with each replacement.
    pub generation: u64,
    /// The number of the first segment that is needed.
    pub log_floor: u64,
    /// The highest LSN whose row is in a snapshot or was dropped; the next LSN of the store is above it.
    pub snapshot_lsn: Lsn,
    /// What was lost, oldest first.
    pub losses: Vec<Loss>,
    /// The snapshots, by partition and then by LSN.
    pub snapshots: Vec<LiveSnapshot>,
    /// Frees that are younger than some snapshot, by LSN.
    pub frees: Vec<Free>,
    /// What was archived, by partition, part and cluster.
    pub archived: Vec<Archived>,
}

impl Manifest {
    /// The manifest of a store that has nothing yet.
    pub fn new(store: StoreId) -> Self {
        Self {
            store,
            generation: 1,
            log_floor: 1,
            snapshot_lsn: Lsn(0),
            losses: Vec::new(),
            snapshots: Vec::new(),
            frees: Vec::new(),
            archived: Vec::new(),
        }
    }

    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = |len: usize| U32::new(u32::try_from(len).unwrap_or(u32::MAX));
        let header = ManifestHeader {
            magic: MAGIC,
            version: VERSION.into(),
            crc: 0.into(),
            store: self.store.0,
            generation: self.generation.into(),
            log_floor: self.log_floor.into(),
            snapshot_lsn: self.snapshot_lsn.0.into(),
            losses: count(self.losses.len()),
            snapshots: count(self.snapshots.len()),
            frees: count(self.frees.len()),
            archived: count(self.archived.len()),
        };
        let mut bytes = header.as_bytes().to_vec();
        for loss in &self.losses {
            let record = LossRecord {
                seq: loss.seq.into(),
                offset: loss.offset.into(),
                bytes: loss.bytes.into(),
                first_lsn: loss.first_lsn.0.into(),
                last_lsn: loss.last_lsn.map_or(0, |lsn| lsn.0).into(),
                time: I64::new(loss.time),
            };
            bytes.extend_from_slice(record.as_bytes());
        }
        for snapshot in &self.snapshots {
            let record = SnapshotRecord {
                partition: I64::new(snapshot.partition),
                lsn_lo: snapshot.lsn_lo.0.into(),
                lsn_hi: snapshot.lsn_hi.0.into(),
                file_len: snapshot.file_len.into(),
                header_crc: snapshot.header_crc.into(),
                edition: snapshot.edition.into(),
            };
            bytes.extend_from_slice(record.as_bytes());
        }
        for free in &self.frees {
            let mut names = Vec::new();
            for name in &free.selector {
                names.extend_from_slice(U16::new(u16::try_from(name.len()).unwrap_or(u16::MAX)).as_bytes());
                names.extend_from_slice(name.as_bytes());
            }
            names.resize(pad8(names.len()), 0);
            let record = FreeRecord {
                lsn: free.lsn.0.into(),
                to: I64::new(free.to),
                parts: count(free.selector.len()),
                names_len: count(names.len()),
            };
            bytes.extend_from_slice(record.as_bytes());
            bytes.extend_from_slice(&names);
        }
        for archived in &self.archived {
            let names = &archived.names;
            let record = ArchivedRecord {
                partition: I64::new(names.partition),
                archived_lsn: archived.lsn.0.into(),
                rows: archived.rows.into(),
                from: I64::new(archived.times.start),
                until: I64::new(archived.times.end),
                sidecar_len: archived.sidecar.0.into(),
                sidecar_crc: archived.sidecar.1.into(),
                part: names.part.into(),
                naming: match names.layout {
                    ArchiveLayout::Hive => 1,
                    ArchiveLayout::Flat => 2,
                }
                .into(),
                cluster_len: count(names.cluster.len()),
            };
            bytes.extend_from_slice(record.as_bytes());
            bytes.extend_from_slice(names.cluster.as_bytes());
            bytes.resize(pad8(bytes.len()), 0);
        }
        let hole = offset_of!(ManifestHeader, crc);
        let crc = U32::new(checksum_around(&bytes, hole));
        put_front(bytes.get_mut(hole..).unwrap_or_default(), crc.as_bytes());
        bytes
    }

    /// Checks the content of a manifest.
    pub fn check(bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, rest) = ManifestHeader::read_from_prefix(bytes)
            .map_err(|_| FormatError::Short { have: bytes.len() as u64, need: size_of::<ManifestHeader>() as u64 })?;
        if header.magic != MAGIC {
            return Err(FormatError::Magic("manifest"));
        }
        let computed = checksum_around(bytes, offset_of!(ManifestHeader, crc));
        if header.crc.get() != computed {
            return Err(FormatError::Checksum { found: header.crc.get(), computed });
        }
        if header.version.get() != VERSION {
            return Err(FormatError::Version { kind: "manifest", found: header.version.get(), known: VERSION });
        }
        let (losses, rest) = <[LossRecord]>::ref_from_prefix_with_elems(rest, header.losses.get() as usize)
            .map_err(|_| FormatError::Field("manifest has more losses than bytes"))?;
        let (snapshots, mut rest) =
            <[SnapshotRecord]>::ref_from_prefix_with_elems(rest, header.snapshots.get() as usize)
                .map_err(|_| FormatError::Field("manifest has more snapshots than bytes"))?;
        let mut frees = Vec::new();
        for _ in 0..header.frees.get() {
            let (free, after) = check_free(rest)?;
            frees.push(free);
            rest = after;
        }
        let mut archived = Vec::new();
        for _ in 0..header.archived.get() {
            let (part, after) = check_archived(rest)?;
            archived.push(part);
            rest = after;
        }
        if !rest.is_empty() || header.log_floor.get() == 0 {
            return Err(FormatError::Field("manifest has bytes behind its records, or no log"));
        }
        let losses = losses.iter().map(|record| Loss {
            seq: record.seq.get(),
            offset: record.offset.get(),
            bytes: record.bytes.get(),
            first_lsn: Lsn(record.first_lsn.get()),
            last_lsn: Some(Lsn(record.last_lsn.get())).filter(|lsn| lsn.0 != 0),
            time: record.time.get(),
        });
        let snapshots = snapshots.iter().map(|record| LiveSnapshot {
            partition: record.partition.get(),
            lsn_lo: Lsn(record.lsn_lo.get()),
            lsn_hi: Lsn(record.lsn_hi.get()),
            file_len: record.file_len.get(),
            header_crc: record.header_crc.get(),
            edition: record.edition.get(),
        });
        Ok(Self {
            store: StoreId(header.store),
            generation: header.generation.get(),
            log_floor: header.log_floor.get(),
            snapshot_lsn: Lsn(header.snapshot_lsn.get()),
            losses: losses.collect(),
            snapshots: snapshots.collect(),
            frees,
            archived,
        })
    }
}

fn check_free(bytes: &[u8]) -> Result<(Free, &[u8]), FormatError> {
    const SHORT: FormatError = FormatError::Field("manifest ends within a free");
    let (record, rest) = FreeRecord::read_from_prefix(bytes).map_err(|_| SHORT)?;
    let (mut names, rest) = rest.split_at_checked(record.names_len.get() as usize).ok_or(SHORT)?;
    let mut selector = Vec::new();
    for _ in 0..record.parts.get().min(4) {
        let (len, after) = U16::read_from_prefix(names).map_err(|_| SHORT)?;
        let (name, after) = after.split_at_checked(usize::from(len.get())).ok_or(SHORT)?;
        names = after;
        let name = std::str::from_utf8(name).map_err(|_| FormatError::Field("name is not UTF-8"))?;
        selector.push(name.to_owned());
    }
    if record.parts.get() > 4 || names.len() >= 8 || names.iter().any(|&byte| byte != 0) {
        return Err(FormatError::Field("free has more than its names"));
    }
    Ok((Free { lsn: Lsn(record.lsn.get()), to: record.to.get(), selector }, rest))
}

fn check_archived(bytes: &[u8]) -> Result<(Archived, &[u8]), FormatError> {
    const SHORT: FormatError = FormatError::Field("manifest ends within an archived part");
    let (record, rest) = ArchivedRecord::read_from_prefix(bytes).map_err(|_| SHORT)?;
    let len = record.cluster_len.get() as usize;
    let (name, rest) = rest.split_at_checked(pad8(len)).ok_or(SHORT)?;
    let (name, padding) = name.split_at_checked(len).ok_or(SHORT)?;
    let cluster = std::str::from_utf8(name).map_err(|_| FormatError::Field("name is not UTF-8"))?;
    let layout = match record.naming.get() {
        1 => ArchiveLayout::Hive,
        2 => ArchiveLayout::Flat,
        _ => return Err(FormatError::Field("archived part has an unknown layout")),
    };
    if padding.iter().any(|&byte| byte != 0) {
        return Err(FormatError::Field("archived part has more than its name"));
    }
    let (partition, part) = (record.partition.get(), record.part.get());
    let archived = Archived {
        names: ArchivePart { layout, cluster: cluster.to_owned(), partition, part },
        lsn: Lsn(record.archived_lsn.get()),
        rows: record.rows.get(),
        times: record.from.get()..record.until.get(),
        sidecar: (record.sidecar_len.get(), record.sidecar_crc.get()),
    };
    Ok((archived, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_reads_back_and_every_flipped_or_missing_byte_is_refused() {
        let mut manifest = Manifest::new(StoreId([7; 16]));
        manifest.losses.push(Loss {
            seq: 4,
            offset: 8192,
            bytes: 12288,
            first_lsn: Lsn(99),
            last_lsn: None,
            time: 1_700_000_000,
        });
        manifest.snapshots.push(LiveSnapshot {
            partition: -3,
            lsn_lo: Lsn(1),
            lsn_hi: Lsn(98),
            file_len: 12345,
            header_crc: 0xdead_beef,
            edition: 2,
        });
        let selector = vec!["alpha".to_owned(), "n1".to_owned()];
        manifest.frees.push(Free { lsn: Lsn(98), to: -600, selector });
        manifest.frees.push(Free { lsn: Lsn(99), to: 0, selector: Vec::new() });
        let names = |cluster: &str, layout| ArchivePart { layout, cluster: cluster.into(), partition: -3, part: 1 };
        let part = |names| Archived { names, lsn: Lsn(98), rows: 7, times: -900..-60, sidecar: (1234, 0x0bad_cafe) };
        manifest.archived.push(part(names("alpha", ArchiveLayout::Hive)));
        manifest.archived.push(part(names("", ArchiveLayout::Flat)));
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::check(&bytes), Ok(manifest));
        for at in (0..bytes.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Manifest::check(&flipped).is_err(), "byte {at}");
            assert!(Manifest::check(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn manifest_bytes_are_pinned() {
        let bytes = Manifest::new(StoreId([0xab; 16])).to_bytes();
        let mut expected = b"kymo-man\x01\0\0\0".to_vec();
        expected.extend(0_u32.to_le_bytes());
        expected.extend([0xab; 16]);
        for field in [1_u64, 1, 0, 0, 0] {
            expected.extend(field.to_le_bytes());
        }
        let crc = checksum_around(&expected, 12);
        expected[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(bytes, expected);
    }
}
