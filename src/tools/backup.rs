//! `kymo backup`.

use super::out::size;
use super::verify::{Files, summary_json, verdict};
use super::{ToolError, open_disk};
use kymo_engine::tools::backup;
use std::io::Write;
use std::path::Path;

/// Copies a store to a new or empty directory, and checks the copy.
pub fn backup(directory: &Path, destination: &Path, as_json: bool) -> Result<(), ToolError> {
    let disk = open_disk()?;
    let mut files = Files::new(destination, as_json);
    let report = backup::backup(&*disk, directory, destination, &mut |file| {
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
            return summary_json(out, found);
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
