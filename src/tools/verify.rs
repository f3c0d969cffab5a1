//! `kymo verify`.

use super::out::{Object, Out, size, stdout, unless_closed};
use super::{ToolError, open_disk};
use crate::archive_place;
use crate::config::Config;
use kymo_engine::archive::{ArchiveStore, LocalDirectory};
use kymo_engine::disk::Disk;
use kymo_engine::env::{Env, System};
use kymo_engine::paths::Paths;
use kymo_engine::tools::verify::{self, FileReport, Verified};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Checks a data directory, and its archive if a configuration names it, at most so many bytes a second.
pub(crate) fn verify(
    directory: &Path,
    config: Option<&Config>,
    as_json: bool,
    pace: Option<u64>,
) -> Result<(), ToolError> {
    let disk = open_disk()?;
    let archive = archive_of(directory, config, &disk)?;
    let mut printer = Files::new(directory, as_json);
    let mut pacer = Pacer::new(pace);
    let (mut pace, mut each) = (|bytes| pacer.pass(bytes), |file: &FileReport| printer.file(file));
    let found = verify::verify(&*disk, directory, archive.as_ref(), &mut pace, &mut each)?;
    let told = found.clone();
    printer.end(|printer| {
        if printer.as_json { summary_json(&mut printer.out, &told) } else { summary(&mut printer.out, &told) }
    })?;
    verdict(&found, directory)
}

/// The archive of a store: the one that a configuration names, or else the copy that a backup has.
fn archive_of(
    directory: &Path,
    config: Option<&Config>,
    disk: &Arc<dyn Disk>,
) -> io::Result<Option<Arc<dyn ArchiveStore>>> {
    if let Some(config) = config {
        return Ok(archive_place::open(config, disk)?.map(|archive| archive.place));
    }
    let copy = Paths::new(directory).archive_copy();
    Ok(copy.is_dir().then(|| Arc::new(LocalDirectory::new(Arc::clone(disk), copy)) as _))
}

/// The error that a check with findings ends with.
pub(super) fn verdict(found: &Verified, directory: &Path) -> Result<(), ToolError> {
    match found.damaged {
        0 => Ok(()),
        1 => Err(ToolError::Damage(format!("1 file of {}", directory.display()))),
        count => Err(ToolError::Damage(format!("{count} files of {}", directory.display()))),
    }
}

/// Prints the reports of files as they come. The first error of stdout is kept; then nothing more is printed.
pub(super) struct Files {
    out: Out,
    as_json: bool,
    is_first: bool,
    failed: Option<io::Error>,
}

impl Files {
    pub(super) fn new(directory: &Path, as_json: bool) -> Self {
        let mut files = Self { out: stdout(), as_json, is_first: true, failed: None };
        if as_json {
            let name = serde_json::Value::from(directory.display().to_string());
            files.failed = write!(files.out, "{{\"directory\":{name},\"files\":[").err();
        }
        files
    }

    pub(super) fn file(&mut self, file: &FileReport) {
        if self.failed.is_none() {
            self.failed = if self.as_json { self.json(file) } else { self.text(file) }.err();
        }
    }

    fn json(&mut self, file: &FileReport) -> io::Result<()> {
        self.out.write_all(if std::mem::take(&mut self.is_first) { b"\n" } else { b",\n" })?;
        let mut object = Object::begin(&mut self.out)?;
        object.field("path", file.path.display().to_string())?;
        object.field("kind", file.kind)?;
        object.field("bytes", file.bytes)?;
        object.field("good", file.damage.is_empty())?;
        let damage = file.damage.iter().map(|place| serde_json::json!({"offset": place.offset, "what": place.what}));
        object.field("damage", damage.collect::<Vec<_>>())?;
        object.field("note", &file.note)?;
        object.end()
    }

    fn text(&mut self, file: &FileReport) -> io::Result<()> {
        let state = if !file.damage.is_empty() {
            "DAMAGED"
        } else if file.kind == "other" {
            "other"
        } else {
            "good"
        };
        write!(self.out, "{state:<8} {}", file.path.display())?;
        match &file.note {
            Some(note) => writeln!(self.out, ": {note}")?,
            None => writeln!(self.out, "  {}", size(file.bytes))?,
        }
        for place in &file.damage {
            writeln!(self.out, "         offset {}: {}", place.offset, place.what.escape_debug())?;
        }
        // With a pace, a file may take long: each is shown when it is done.
        self.out.flush()
    }

    /// Ends the output with what `rest` writes.
    pub(super) fn end(mut self, rest: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return unless_closed(Err(error));
        }
        let closed = if self.as_json { self.out.write_all(b"\n],") } else { Ok(()) };
        unless_closed(closed.and_then(|()| rest(&mut self)).and_then(|()| self.out.flush()))
    }

    /// Where to write.
    pub(super) fn out(&mut self) -> &mut Out {
        &mut self.out
    }
}

pub(super) fn summary_json(out: &mut Out, found: &Verified) -> io::Result<()> {
    let losses = found.losses.iter().map(|loss| {
        serde_json::json!({
            "seq": loss.seq,
            "offset": loss.offset,
            "bytes": loss.bytes,
            "first_lsn": loss.first_lsn.0,
            "last_lsn": loss.last_lsn.map(|lsn| lsn.0),
            "time": loss.time,
        })
    });
    // The fields of an object that is open already.
    let fields = [
        ("store", serde_json::json!(found.store.map(|store| store.to_string()))),
        ("generation", found.generation.into()),
        ("snapshots", found.snapshots.into()),
        ("segments", found.segments.into()),
        ("rows", found.rows.into()),
        ("archived_parts", found.archived_parts.into()),
        ("archived_parts_not_checked", found.unchecked_parts.into()),
        ("bytes", found.bytes.into()),
        ("losses", losses.collect()),
        ("damaged", found.damaged.into()),
        ("good", (found.damaged == 0).into()),
    ];
    for (at, (name, value)) in fields.into_iter().enumerate() {
        write!(out, "{}\"{name}\":{value}", if at == 0 { "" } else { "," })?;
    }
    writeln!(out, "}}")
}

pub(super) fn summary(out: &mut Out, found: &Verified) -> io::Result<()> {
    for loss in &found.losses {
        writeln!(
            out,
            "recorded loss: segment {}, offset {}, {} bytes, LSN {} and on",
            loss.seq, loss.offset, loss.bytes, loss.first_lsn
        )?;
    }
    let store = found.store.map_or_else(|| "without a manifest".to_owned(), |store| store.to_string());
    let Verified { generation, snapshots, segments, rows, bytes, damaged, archived_parts, unchecked_parts, .. } = found;
    if *unchecked_parts > 0 {
        writeln!(out, "{unchecked_parts} parts of the archive were not looked at: --config tells where they are")?;
    }
    let archived = if *archived_parts > 0 { format!("{archived_parts} archived parts, ") } else { String::new() };
    writeln!(
        out,
        "store {store}, generation {generation}: {snapshots} snapshots, {segments} segments with {rows} rows, \
         {archived}{} checked, {damaged} damaged",
        size(*bytes)
    )
}

/// Sees to it that no more than so many bytes pass a second.
struct Pacer {
    env: System,
    pace: Option<u64>,
    bytes: u64,
}

impl Pacer {
    fn new(pace: Option<u64>) -> Self {
        Self { env: System::default(), pace, bytes: 0 }
    }

    fn pass(&mut self, bytes: u64) {
        let Some(pace) = self.pace else { return };
        self.bytes = self.bytes.saturating_add(bytes);
        let due = Duration::from_millis(self.bytes.saturating_mul(1000) / pace.max(1));
        let ahead = due.saturating_sub(self.env.monotonic());
        if ahead > Duration::from_millis(2) {
            thread::sleep(ahead);
        }
    }
}
