//! The parts of a manifest.

use super::{Out, Value, hex, text};
use crate::format::StoreId;
use crate::format::manifest::{LossRecord, Manifest, ManifestHeader, SnapshotRecord};
use crate::paths::date;
use std::io;
use std::mem::size_of;
use zerocopy::FromBytes;

pub(super) fn inspect(bytes: &[u8], out: &mut Out<'_>) -> io::Result<()> {
    let checked = Manifest::check(bytes);
    if let Err(error) = &checked {
        out.damage(0, "manifest", error)?;
    }
    let Ok((header, rest)) = ManifestHeader::read_from_prefix(bytes) else { return Ok(()) };
    let fields = vec![
        ("version", Value::Number(header.version.get().into())),
        ("crc", hex(header.crc.get())),
        ("store", text(StoreId(header.store).to_string())),
        ("generation", Value::Number(header.generation.get())),
        ("log_floor", Value::Number(header.log_floor.get())),
        ("snapshot_lsn", Value::Number(header.snapshot_lsn.get())),
        ("losses", Value::Number(header.losses.get().into())),
        ("snapshots", Value::Number(header.snapshots.get().into())),
        ("frees", Value::Number(header.frees.get().into())),
        ("archived", Value::Number(header.archived.get().into())),
    ];
    out.item("header", 0, fields)?;
    // As many as there are, where the counts are damaged.
    let mut at = size_of::<ManifestHeader>() as u64;
    let count = (header.losses.get() as usize).min(rest.len() / size_of::<LossRecord>());
    let Ok((losses, rest)) = <[LossRecord]>::ref_from_prefix_with_elems(rest, count) else { return Ok(()) };
    for loss in losses {
        let fields = vec![
            ("seq", Value::Number(loss.seq.get())),
            ("offset", Value::Number(loss.offset.get())),
            ("bytes", Value::Number(loss.bytes.get())),
            ("first_lsn", Value::Number(loss.first_lsn.get())),
            ("last_lsn", Value::Number(loss.last_lsn.get())),
            ("time", Value::Signed(loss.time.get())),
        ];
        out.item("loss", at, fields)?;
        at += size_of::<LossRecord>() as u64;
    }
    let count = (header.snapshots.get() as usize).min(rest.len() / size_of::<SnapshotRecord>());
    let Ok((snapshots, _)) = <[SnapshotRecord]>::ref_from_prefix_with_elems(rest, count) else { return Ok(()) };
    for live in snapshots {
        let fields = vec![
            ("partition", text(date(live.partition.get()))),
            ("lsn_lo", Value::Number(live.lsn_lo.get())),
            ("lsn_hi", Value::Number(live.lsn_hi.get())),
            ("edition", Value::Number(live.edition.get().into())),
            ("file_len", Value::Number(live.file_len.get())),
            ("header_crc", hex(live.header_crc.get())),
        ];
        out.item("snapshot", at, fields)?;
        at += size_of::<SnapshotRecord>() as u64;
    }
    let Ok(Manifest { frees, archived, .. }) = checked else { return Ok(()) };
    for free in frees {
        let fields = vec![
            ("lsn", Value::Number(free.lsn.0)),
            ("to", Value::Signed(free.to)),
            ("selector", Value::Texts(free.selector)),
        ];
        // They have several lengths, so only the first one's place is given.
        out.item("free", at, fields)?;
    }
    for part in archived {
        let fields = vec![
            ("sidecar", text(part.names.sidecar())),
            ("partition", text(date(part.names.partition))),
            ("part", Value::Number(part.names.part.into())),
            ("archived_lsn", Value::Number(part.lsn.0)),
            ("rows", Value::Number(part.rows)),
            ("from", Value::Signed(part.times.start)),
            ("until", Value::Signed(part.times.end)),
            ("sidecar_len", Value::Number(part.sidecar.0)),
            ("sidecar_crc", hex(part.sidecar.1)),
        ];
        out.item("archived", at, fields)?;
    }
    Ok(())
}
