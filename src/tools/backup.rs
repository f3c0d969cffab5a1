//! `kymo backup`.

use super::out::size;
use super::verify::{Files, summary_json, verdict};
use super::{ToolError, open_disk};
use crate::config::Config;
use kymo_engine::tools::backup;
use std::io::Write;
use std::path::Path;

/// Copies a store to a new or empty directory, with its archive if a configuration names a directory of it, and checks
/// the copy.
pub(crate) fn backup(
    directory: &Path,
    destination: &Path,
    config: Option<&Config>,
    as_json: bool,
) -> Result<(), ToolError> {
    let disk = open_disk()?;
    let location = config.and_then(|config| config.archive.location.as_deref());
    let archive = location.filter(|location| !location.contains("://")).map(Path::new);
    let mut files = Files::new(destination, as_json);
    let report = backup::backup(&disk, directory, destination, archive, &mut |file| {
        // A backup is told in one line; of its files those that are bad are.
        if as_json || !file.damage.is_empty() {
            files.file(file);
        }
    })?;
    let found = &report.verified;
    files.end(|files| {
        if as_json {
            let out = files.out();
            write!(out, "\"linked\":{},\"copied\":{},", report.linked, report.copied)?;
            let (linked, copied) = (report.archive_linked, report.archive_copied);
            write!(out, "\"archive_linked\":{linked},\"archive_copied\":{copied},")?;
            return summary_json(out, found);
        }
        if report.archive_left > 0 {
            let left = report.archive_left;
            let why = location.map_or_else(
                || "--config tells where they are".to_owned(),
                |location| format!("they are in {location}, a bucket is copied by its own tools"),
            );
            writeln!(files.out(), "{left} parts of the archive are not in the backup: {why}")?;
        }
        if report.archive_linked + report.archive_copied > 0 {
            let (linked, copied) = (report.archive_linked, report.archive_copied);
            writeln!(files.out(), "archive: {linked} files linked, {copied} copied")?;
        }
        writeln!(
            files.out(),
            "generation {}: {} snapshots linked, {} copied, {} segments with {} rows, {} in {}",
            report.generation,
            report.linked,
            report.copied,
            report.segments,
            report.rows,
            size(found.bytes),
            destination.display()
        )
    })?;
    verdict(found, destination)
}
