//! `kymo estimate`.

use super::ToolError;
use super::out::{Object, size, stdout, unless_closed};
use kymo_engine::tools::estimate::{self, Estimate, Shape};
use std::io::{self, Write};

/// Says what a store of this shape will need.
pub fn estimate(shape: &Shape, as_json: bool) -> Result<(), ToolError> {
    let estimate = estimate::estimate(shape);
    let mut out = stdout();
    let written = if as_json { json(&mut out, shape, &estimate) } else { text(&mut out, shape, &estimate) };
    Ok(unless_closed(written.and_then(|()| out.flush()))?)
}

fn json(out: &mut impl Write, shape: &Shape, estimate: &Estimate) -> io::Result<()> {
    let mut object = Object::begin(out)?;
    object.field("hosts", shape.hosts)?;
    object.field("series_per_host", shape.series)?;
    object.field("interval_seconds", shape.interval)?;
    object.field("retention_seconds", shape.retention)?;
    object.field("f32_share", shape.f32_share)?;
    object.field("log_bound_bytes", shape.log_bound)?;
    object.field("samples_per_second", estimate.samples_per_second)?;
    object.field("heap_bytes", estimate.heap)?;
    object.field("heap_names_bytes", estimate.names)?;
    object.field("heap_rows_bytes", estimate.rows)?;
    object.field("heap_most_bytes", estimate.heap_most)?;
    object.field("page_cache_day_bytes", estimate.day)?;
    object.field("disk_snapshots_bytes", estimate.snapshots)?;
    object.field("disk_merge_bytes", estimate.merge)?;
    object.field("disk_log_bytes", estimate.log)?;
    object.field("disk_bytes", estimate.snapshots + estimate.merge + estimate.log)?;
    object.field("log_bytes_per_second", estimate.log_per_second)?;
    object.field("snapshot_every_seconds", estimate.snapshot_every)?;
    object.end()?;
    writeln!(out)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for a person to read")]
fn text(out: &mut impl Write, shape: &Shape, estimate: &Estimate) -> io::Result<()> {
    let Shape { hosts, series, interval, retention, f32_share, log_bound, .. } = *shape;
    let Estimate { names, rows, heap, heap_most, day, snapshots, merge, log, .. } = *estimate;
    let hours = retention / 3600;
    let lines = [
        ("samples", format!("{:.0}/s", estimate.samples_per_second)),
        ("heap", format!("{}: {} of names, {} of rows", size(heap), size(names), size(rows))),
        ("", format!("{} at most, where snapshots do not keep up", size(heap_most))),
        ("page cache", format!("{} for a day", size(day))),
        (
            "disk",
            format!(
                "{}: {} of snapshots, {} of log, {} for merging",
                size(snapshots + log + merge),
                size(snapshots),
                size(log),
                size(merge)
            ),
        ),
        (
            "log",
            format!("{}/s, a snapshot every {:.0} s", size(estimate.log_per_second as u64), estimate.snapshot_every),
        ),
    ];
    writeln!(out, "{hosts} hosts with {series} series each, a sample every {interval} s, kept for {hours} h")?;
    for (name, value) in lines {
        writeln!(out, "  {name:<11} {value}")?;
    }
    writeln!(
        out,
        "Assumed: hosts are alike and send all their series at once; a value takes 8 bytes, 4 where it is the same as \
         an f32\n({:.0} % here), hardly any in a column where nothing changes; a log bound of {}; the server itself, \
         its connections\nand queries come on top of the heap. The page cache is the kernel's and can be taken back.",
        f32_share * 100.0,
        size(log_bound)
    )
}
