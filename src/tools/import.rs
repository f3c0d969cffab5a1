//! `kymo import`.

use super::ToolError;
use super::out::{Object, size, stdout, unless_closed};
use crate::config::Config;
use crate::serve;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kymo_engine::env::{Env, System};
use kymo_engine::import::{self, ImportProgress, ImportReport};
use kymo_engine::store::Store;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Imports directories of the predecessor, of checkpoints or of its archive, into the store of a configuration.
pub fn import(from: &[PathBuf], config: &Config, as_json: bool) -> Result<(), ToolError> {
    let env: Arc<dyn Env> = Arc::new(System::default());
    let disk = serve::open_disk(config)?;
    // Before a store is made, or an existing one is touched.
    import::has_files(&*disk, from)?;
    let (store, _) = Store::open(Arc::clone(&disk), env, serve::options(config, &disk)?)?;
    let mut bar = Bar::default();
    let imported = import::import(&store, &*disk, from, &mut |progress| {
        bar.show(progress);
        true
    });
    bar.clear();
    let closed = store.close();
    let report = imported?;
    closed?;
    let mut out = stdout();
    let directory = &config.storage.directory;
    let printed = if as_json { json(&mut out, &report) } else { text(&mut out, &report, directory) };
    unless_closed(printed.and_then(|()| out.flush()))?;
    match report.damaged_files {
        0 => Ok(()),
        count => {
            let from: Vec<String> = from.iter().map(|from| from.display().to_string()).collect();
            let files = if count == 1 { "file" } else { "files" };
            Err(ToolError::Damage(format!("{count} {files} of {}", from.join(" and "))))
        }
    }
}

/// A line on the terminal that tells how far it is; nothing where stderr is none.
#[derive(Default)]
struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    fn show(&mut self, progress: &ImportProgress) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(progress.bytes_total), ProgressDrawTarget::stderr_with_hz(5));
            let template = "{prefix} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_length(progress.bytes_total);
        bar.set_prefix(match progress.pass {
            0 => "archives".to_owned(),
            pass => format!("pass {pass}: {} of {} hosts", progress.hosts, progress.hosts_total),
        });
        bar.set_position(progress.bytes);
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn json(out: &mut impl Write, report: &ImportReport) -> io::Result<()> {
    let imported = &report.imported;
    let mut object = Object::begin(out)?;
    object.field("hosts", report.hosts)?;
    object.field("files", report.files)?;
    object.field("bytes", report.bytes)?;
    object.field("samples", imported.samples)?;
    object.field("samples_known", imported.known)?;
    object.field("samples_in_the_future", imported.future)?;
    object.field("samples_without_interval", imported.without_interval)?;
    object.field("snapshots", imported.files)?;
    object.field("snapshot_bytes", imported.bytes)?;
    object.field("damaged_files", report.damaged_files)?;
    object.field("skipped_bytes", report.skipped_bytes)?;
    let damaged: Vec<serde_json::Value> = report.damaged.iter().map(damaged_json).collect();
    object.field("damaged", damaged)?;
    object.field("not_imported_files", report.other_files)?;
    let others = report.others.iter();
    let others =
        others.map(|(path, why)| serde_json::json!({ "file": path.display().to_string(), "why": why.to_string() }));
    object.field("not_imported", others.collect::<Vec<_>>())?;
    object.field("unconfigured_metrics", &report.unconfigured)?;
    object.end()?;
    writeln!(out)
}

fn damaged_json(damaged: &import::Damaged) -> serde_json::Value {
    let skips = damaged
        .skips
        .first
        .iter()
        .map(|skip| serde_json::json!({ "offset": skip.offset, "bytes": skip.bytes, "why": skip.why.to_string() }));
    serde_json::json!({
        "file": damaged.path.display().to_string(),
        "skipped_bytes": damaged.skips.bytes,
        "skipped_parts": damaged.skips.count,
        "parts": skips.collect::<Vec<_>>(),
        "error": damaged.error.as_ref().map(ToString::to_string),
    })
}

fn text(out: &mut impl Write, report: &ImportReport, directory: &Path) -> io::Result<()> {
    lines(report).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "{}", summary(report, directory))
}

/// The sentence that tells what an import did.
pub(crate) fn summary(report: &ImportReport, directory: &Path) -> String {
    let imported = &report.imported;
    format!(
        "imported {} samples of {} hosts from {} files ({}) into {}: {} snapshots, {}",
        imported.samples,
        report.hosts,
        report.files,
        size(report.bytes),
        directory.display(),
        imported.files,
        size(imported.bytes)
    )
}

/// What the operator should know of an import beside that, a line each.
pub(crate) fn lines(report: &ImportReport) -> Vec<String> {
    let mut lines = Vec::new();
    for damaged in &report.damaged {
        let path = damaged.path.display();
        if let Some(error) = &damaged.error {
            lines.push(format!("{path}: cannot be read: {error}"));
        }
        for skip in &damaged.skips.first {
            let bytes = if skip.bytes > 0 { format!("{} bytes passed over: ", skip.bytes) } else { String::new() };
            lines.push(format!("{path}: offset {}: {bytes}{}", skip.offset, skip.why));
        }
        let told = damaged.skips.first.len() as u64;
        if damaged.skips.count > told {
            lines.push(format!(
                "{path}: {} more places, {} bytes in all",
                damaged.skips.count - told,
                damaged.skips.bytes
            ));
        }
    }
    let listed = report.damaged.len() as u64;
    if report.damaged_files > listed {
        lines.push(format!("{} more damaged files", report.damaged_files - listed));
    }
    lines.extend(report.others.iter().map(|(path, why)| format!("{}: not imported: {why}", path.display())));
    let listed = report.others.len() as u64;
    if report.other_files > listed {
        lines.push(format!("{} more files were not imported", report.other_files - listed));
    }
    let imported = &report.imported;
    let counted = [
        (imported.known, "samples were not needed: their slots have a value of the store or of a later file"),
        (imported.future, "samples are later than the clock of this machine and 'storage.skew' and were left out"),
        (imported.without_interval, "samples are of metrics whose interval nothing tells and were left out"),
    ];
    lines.extend(counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    if !report.unconfigured.is_empty() {
        let names: Vec<&str> = report.unconfigured.iter().map(String::as_str).collect();
        lines.push(format!("kept, and answered once 'metrics' of the configuration has them: {}", names.join(", ")));
    }
    lines
}
