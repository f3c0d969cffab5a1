//! The parts of a snapshot, each read by what verifies of the parts before it.

use super::{Out, Sample, Value, hex, text};
use crate::disk::{BLOCK, Region};
use crate::format::snapshot::index::{ColumnSets, HostEntry, Hosts, Names};
use crate::format::snapshot::stripe::{Column, Columns, StripeEntry, Surroundings, split_directory};
use crate::format::snapshot::{Header, SectionEntry, SnapshotHeader, check_crc, piece};
use crate::format::{FormatError, StoreId};
use crate::paths::date;
use crate::snapshot::Snapshot;
use std::io;
use zerocopy::FromBytes;

/// A section without anything, for one that cannot be read: a single offset.
const NOTHING: [u8; 4] = [0; 4];

pub(super) fn inspect(region: &Region, out: &mut Out<'_>) -> io::Result<()> {
    let file_len = region.len() as u64;
    let block = match load(region, 0, file_len.min(BLOCK as u64)) {
        Ok(block) => block,
        Err(error) => return out.damage(0, "header", &error),
    };
    let header = Header::check(block, file_len);
    if let Ok((raw, _)) = SnapshotHeader::read_from_prefix(block) {
        show_header(&raw, out)?;
        if let Err(error) = &header {
            out.damage(0, "header", error)?;
        }
        File::read(region, &raw, header.ok().map(|(header, _)| header), out)?.hosts(&raw, out)?;
    } else if let Err(error) = &header {
        out.damage(0, "header", error)?;
    }
    if out.damage == 0 {
        strictly(region, out)?;
    }
    Ok(())
}

/// Checks what is not shown too: order, padding.
fn strictly(region: &Region, out: &mut Out<'_>) -> io::Result<()> {
    let snapshot = match Snapshot::open_unlisted(region.clone()) {
        Ok(snapshot) => snapshot,
        Err(error) => return out.damage(error.offset, &error.part.to_string(), &error.cause),
    };
    for checked in snapshot.verify() {
        if let Err(error) = checked {
            out.damage(error.offset, &error.part.to_string(), &error.cause)?;
        }
    }
    Ok(())
}

fn show_header(raw: &SnapshotHeader, out: &mut Out<'_>) -> io::Result<()> {
    let fields = vec![
        ("version", Value::Number(raw.version.get().into())),
        ("crc", hex(raw.crc.get())),
        ("store", text(StoreId(raw.store).to_string())),
        ("partition", text(date(raw.partition.get()))),
        ("lsn_lo", Value::Number(raw.lsn_lo.get())),
        ("lsn_hi", Value::Number(raw.lsn_hi.get())),
        ("file_len", Value::Number(raw.file_len.get())),
        ("min_time", Value::Signed(raw.min_time.get())),
        ("max_time", Value::Signed(raw.max_time.get())),
        ("hosts", Value::Number(raw.hosts.count.get().into())),
        ("stripes", Value::Number(raw.stripes.get().into())),
        ("column_sets", Value::Number(raw.column_sets.count.get().into())),
        ("names", Value::Number(raw.names.count.get().into())),
    ];
    out.item("header", 0, fields)
}

/// Loads a piece of the file, wherever it is said to be.
fn load(region: &Region, offset: u64, len: u64) -> Result<&[u8], String> {
    let bytes = piece(region, offset, len).map_err(|error| error.to_string())?;
    // What `piece` has found is inside of the memory.
    let begin = usize::try_from(offset).unwrap_or(usize::MAX);
    region.touch(begin..begin.saturating_add(bytes.len())).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(bytes)
}

/// Loads a section and compares its checksum; its bytes, and whether it is good.
fn section<'a>(
    region: &'a Region,
    entry: &SectionEntry,
    part: &str,
    out: &mut Out<'_>,
) -> io::Result<(Option<&'a [u8]>, bool)> {
    let offset = entry.offset.get();
    match load(region, offset, entry.len.get()) {
        Ok(bytes) => match check_crc(bytes, entry.crc.get()) {
            Ok(()) => Ok((Some(bytes), true)),
            Err(error) => out.damage(offset, part, &error).map(|()| (Some(bytes), false)),
        },
        Err(error) => out.damage(offset, part, &error).map(|()| (None, false)),
    }
}

/// What stripes are read by.
struct File<'a> {
    region: &'a Region,
    /// None where the header block is damaged.
    header: Option<Header>,
    names: Names<'a>,
    column_sets: ColumnSets<'a>,
    hosts: Option<Hosts<'a>>,
    /// Whether all of that verifies, so that a value gets the right name.
    is_good: bool,
    /// Bytes that are still looked at: a damaged index may name the same bytes again and again.
    budget: u64,
}

impl<'a> File<'a> {
    fn read(region: &'a Region, raw: &SnapshotHeader, header: Option<Header>, out: &mut Out<'_>) -> io::Result<Self> {
        let mut is_good = true;
        let mut parts = [None; 3];
        let entries = [(&raw.names, "names"), (&raw.column_sets, "column sets"), (&raw.hosts, "host index")];
        for ((entry, part), bytes) in entries.into_iter().zip(&mut parts) {
            let verifies;
            (*bytes, verifies) = section(region, entry, part, out)?;
            is_good &= verifies;
        }
        let [names, sets, hosts] = parts;
        let mut complain = |entry: &SectionEntry, part, error: FormatError| {
            // One complaint a section.
            let told = if is_good { out.damage(entry.offset.get(), part, &error) } else { Ok(()) };
            is_good = false;
            told
        };
        let checked = Names::split(names.unwrap_or(&NOTHING), names.map_or(0, |_| raw.names.count.get()));
        let names = match checked.and_then(|names| names.check().map(|()| names)) {
            Ok(names) => Some(names),
            Err(error) => complain(&raw.names, "names", error).map(|()| checked_or_none(names, raw))?,
        };
        let nameless = Names::split(&NOTHING, 0).map_err(io::Error::other)?;
        let names = names.unwrap_or(nameless);
        let checked = ColumnSets::split(sets.unwrap_or(&NOTHING), sets.map_or(0, |_| raw.column_sets.count.get()));
        let column_sets = match checked.and_then(|sets| sets.check(names).map(|()| sets)) {
            Ok(sets) => sets,
            Err(error) => {
                complain(&raw.column_sets, "column sets", error)?;
                ColumnSets::split(&NOTHING, 0).map_err(io::Error::other)?
            }
        };
        let mut index = None;
        if let Some(hosts) = hosts {
            match Hosts::split(hosts, raw.hosts.count.get()) {
                Ok(hosts) => {
                    let checked = header.as_ref().map_or(Ok(()), |header| hosts.check(names, header));
                    if let Err(error) = checked {
                        complain(&raw.hosts, "host index", error)?;
                    }
                    index = Some(hosts);
                }
                Err(error) => complain(&raw.hosts, "host index", error)?,
            }
        }
        let budget = (region.len() as u64).saturating_mul(4);
        Ok(Self { region, header, names, column_sets, hosts: index, is_good, budget })
    }

    fn hosts(mut self, raw: &SnapshotHeader, out: &mut Out<'_>) -> io::Result<()> {
        let Some(hosts) = self.hosts else { return Ok(()) };
        for at in 0..raw.hosts.count.get() {
            let Some(entry) = hosts.get(at) else { break };
            self.host(entry, hosts.data_begin(at), out)?;
            if self.budget == 0 {
                return out.damage(raw.hosts.offset.get(), "host index", &"names more bytes than the file has");
            }
        }
        Ok(())
    }

    fn host(&mut self, entry: &HostEntry, data_begin: u64, out: &mut Out<'_>) -> io::Result<()> {
        let (cluster, host) = (self.names.get(entry.cluster), self.names.get(entry.host));
        let offset = entry.directory.get();
        let fields = vec![
            ("cluster", text(cluster)),
            ("host", text(host)),
            ("stripes", Value::Number(entry.stripes.get().into())),
        ];
        out.item("host", offset, fields)?;
        let part = format!("directory of host {host} of cluster {cluster}");
        let bytes = match load(self.region, offset, entry.directory_end().saturating_sub(offset)) {
            Ok(bytes) => bytes,
            Err(error) => return out.damage(offset, &part, &error),
        };
        self.budget = self.budget.saturating_sub(bytes.len() as u64);
        let checked = check_crc(bytes, entry.crc.get()).and_then(|()| {
            let Some(header) = &self.header else { return Ok(()) };
            let surroundings = Surroundings {
                identity: header.identity,
                times: header.times.clone(),
                data: data_begin..offset,
                names: self.names,
                column_sets: self.column_sets,
            };
            // Where names are damaged, every directory would seem so.
            if self.is_good { surroundings.check(split_directory(bytes)?) } else { Ok(()) }
        });
        if let Err(error) = &checked {
            out.damage(offset, &part, error)?;
        }
        for stripe in split_directory(bytes).unwrap_or_default() {
            self.stripe((cluster, host), stripe, checked.is_ok(), out)?;
            if self.budget == 0 {
                break;
            }
        }
        Ok(())
    }

    fn stripe(
        &mut self,
        (cluster, host): (&str, &str),
        entry: &StripeEntry,
        is_listed: bool,
        out: &mut Out<'_>,
    ) -> io::Result<()> {
        let (offset, len) = (entry.offset.get(), entry.len.get());
        let metric = self.names.get(entry.metric);
        self.budget = self.budget.saturating_sub(len.max(1));
        let columns = load(self.region, offset, len).and_then(|bytes| {
            check_crc(bytes, entry.crc.get())
                .and_then(|()| Columns::check(bytes, entry.columns.get(), entry.slots.get()))
                .map_err(|error| error.to_string())
        });
        let count = |is_it: fn(&Column<'_>) -> bool| {
            Value::Number(columns.as_ref().map_or(0, |columns| columns.iter().filter(is_it).count() as u64))
        };
        let fields = vec![
            ("metric", text(metric)),
            ("start", Value::Signed(entry.start.get())),
            ("frequency", Value::Number(entry.frequency.get().into())),
            ("first_slot", Value::Number(entry.first_slot.get().into())),
            ("slots", Value::Number(entry.slots.get().into())),
            ("columns", Value::Number(entry.columns.get().into())),
            ("len", Value::Number(len)),
            ("f64", count(|column| matches!(column, Column::F64(_)))),
            ("f32", count(|column| matches!(column, Column::F32(_)))),
            ("constant", count(|column| matches!(column, Column::Constant { .. }))),
        ];
        out.item("stripe", offset, fields)?;
        match columns {
            // Where the directory is damaged, this is one damage, not one for each of its entries.
            Err(error) if is_listed => {
                let begin = entry.run().end_after(entry.first_slot.get());
                let part = format!("metric {metric} of host {host} of cluster {cluster} from {begin}");
                out.damage(offset, &part, &error)
            }
            Ok(columns) if self.is_good && is_listed && out.wants_samples() => {
                self.samples((cluster, host, metric), entry, &columns, out)
            }
            _ => Ok(()),
        }
    }

    fn samples(
        &self,
        (cluster, host, metric): (&str, &str, &str),
        entry: &StripeEntry,
        columns: &Columns<'_>,
        out: &mut Out<'_>,
    ) -> io::Result<()> {
        let run = entry.run();
        for (column, values) in self.column_sets.get(entry.column_set).iter().zip(columns.iter()) {
            let (component, subcomponent) = (self.names.get(column.component), self.names.get(column.subcomponent));
            for (slot, at) in (entry.first_slot.get()..).zip(0..values.len()) {
                let value = values.get(at);
                if !value.is_nan() {
                    let time = run.nominal(slot);
                    out.sink.sample(&Sample { cluster, host, metric, component, subcomponent, time, value })?;
                }
            }
        }
        Ok(())
    }
}

/// Names that do not verify but can be told apart.
fn checked_or_none<'a>(bytes: Option<&'a [u8]>, raw: &SnapshotHeader) -> Option<Names<'a>> {
    Names::split(bytes?, raw.names.count.get()).ok()
}
