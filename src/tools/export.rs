//! `kymo export`: what a store holds in forms that other programs read, host by host.

use super::ToolError;
use super::out::{csv_field, stdout, unless_closed};
use crate::config::Config;
use crate::serve;
use clap::ValueEnum;
use kymo_engine::archive::{ArchiveStore, LocalDirectory, Part, Writer, publish};
use kymo_engine::ccms::bin::{self, Series, Tree};
use kymo_engine::ccms::json;
use kymo_engine::disk::Disk;
use kymo_engine::env::{Env, System};
use kymo_engine::paths::{ArchiveLayout, ArchivePart, Paths};
use kymo_engine::store::{Export, ExportArray, JobError, OpenError, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Line protocol, a line a sample, as `/api/write` takes it
    Lines,
    /// A line a sample: cluster,host,metric,component,subcomponent,time,value
    Csv,
    /// Checkpoints of cc-metric-store, binary: a directory. Values are rounded to 32 bits
    Bin,
    /// Checkpoints of cc-metric-store, as text: a directory
    Json,
    /// The files that an archive would have: a directory
    Parquet,
}

/// What is exported, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// In which form.
    pub format: ExportFormat,
    /// A file, or a directory of checkpoints; `-` is stdout.
    pub to: PathBuf,
    /// Only this cluster.
    pub cluster: Option<String>,
    /// From the first instant to the end, exclusive, in unix seconds; whole UTC days.
    pub times: Range<i64>,
}

/// Exports from the store of a configuration.
pub(crate) fn export(what: &Exported, config: &Config) -> Result<(), ToolError> {
    let directory = &config.storage.directory;
    if !Paths::new(directory).manifest().exists() {
        let path = directory.clone();
        return Err(OpenError::NotAStore { path, what: "it has no MANIFEST".to_owned() }.into());
    }
    let disk = serve::open_disk(config)?;
    let env: Arc<dyn Env> = Arc::new(System::default());
    let (store, _) = Store::open(Arc::clone(&disk), env, serve::options(config, &disk)?)?;
    // Only a store that opens makes a file.
    let written = Sink::open(what, &disk).map_err(Into::into).and_then(|mut sink| {
        let export = store.begin_export()?;
        match &sink {
            Sink::Archive(place) => archive(&export, what, place, config.archive.layout),
            _ => write(&export, what, &mut sink),
        }
    });
    let closed = store.close();
    let samples = written?;
    closed?;
    let left_out = samples.offered - samples.written;
    if left_out > 0 {
        eprintln!(
            "kymo: {left_out} samples were left out: the format has no way to write their names, or what is infinite"
        );
    }
    eprintln!("kymo: {} samples of {} hosts exported to {}", samples.written, samples.hosts, what.to.display());
    Ok(())
}

/// How many.
#[derive(Default)]
struct Count {
    offered: u64,
    written: u64,
    hosts: usize,
}

fn write(export: &Export<'_>, what: &Exported, sink: &mut Sink) -> Result<Count, ToolError> {
    let mut count = Count::default();
    let days: BTreeSet<i64> =
        export.days().into_iter().filter(|day| what.times.contains(&day.saturating_mul(DAY))).collect();
    for (cluster, host) in export.hosts().map_err(JobError::from)? {
        if what.cluster.as_ref().is_some_and(|wanted| *wanted != cluster) {
            continue;
        }
        let before = count.written;
        for &day in &days {
            let arrays = export.day(&cluster, &host, day)?;
            count.offered += arrays.iter().map(|array| array.samples().count() as u64).sum::<u64>();
            match sink.day((&cluster, &host), day * DAY, &arrays) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(count),
                written => count.written += written?,
            }
        }
        count.hosts += usize::from(count.written > before);
    }
    unless_closed(sink.end())?;
    Ok(count)
}

/// Writes what an archive would have of each cluster and day.
fn archive(
    export: &Export<'_>,
    what: &Exported,
    place: &Arc<dyn ArchiveStore>,
    layout: ArchiveLayout,
) -> Result<Count, ToolError> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (cluster, host) in export.hosts().map_err(JobError::from)? {
        if what.cluster.as_ref().is_none_or(|wanted| *wanted == cluster) {
            hosts.entry(cluster).or_default().push(host);
        }
    }
    let mut samples = 0;
    let mut found = BTreeSet::new();
    for (cluster, hosts) in &hosts {
        for day in export.days().into_iter().filter(|day| what.times.contains(&day.saturating_mul(DAY))) {
            let names = ArchivePart { layout, cluster: cluster.clone(), partition: day, part: 0 };
            let part = Part { store: export.store(), names };
            let mut writer = Writer::new(Arc::clone(place), part.clone()).map_err(JobError::from)?;
            for host in hosts {
                export.rows(cluster, host, day, |metric, path, rows| {
                    if !rows.is_empty() {
                        found.insert((cluster.as_str(), host.as_str()));
                    }
                    writer.series((host, metric), path, rows)
                })?;
            }
            let sidecar = writer.finish().map_err(JobError::from)?.sidecar;
            if sidecar.rows > 0 {
                publish(&**place, &part, &sidecar).map_err(JobError::from)?;
                samples += sidecar.rows;
            }
        }
    }
    Ok(Count { offered: samples, written: samples, hosts: found.len() })
}

/// Where samples go.
enum Sink {
    /// One after the other.
    Stream { out: Box<dyn Write>, file: Option<File>, is_csv: bool },
    /// Into a directory of checkpoints.
    Checkpoints { disk: Arc<dyn Disk>, root: PathBuf, is_text: bool },
    /// Into an archive, day by day.
    Archive(Arc<dyn ArchiveStore>),
}

impl Sink {
    fn open(what: &Exported, disk: &Arc<dyn Disk>) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", what.to.display()));
        let is_csv = match what.format {
            ExportFormat::Bin | ExportFormat::Json | ExportFormat::Parquet => {
                disk.create_dir_all(&what.to).map_err(named)?;
                if !disk.list(&what.to).map_err(named)?.is_empty() {
                    return Err(named(io::Error::other("the directory is not empty; name a new or an empty one")));
                }
                if what.format == ExportFormat::Parquet {
                    return Ok(Self::Archive(Arc::new(LocalDirectory::new(Arc::clone(disk), &what.to))));
                }
                let is_text = what.format == ExportFormat::Json;
                return Ok(Self::Checkpoints { disk: Arc::clone(disk), root: what.to.clone(), is_text });
            }
            ExportFormat::Csv => true,
            ExportFormat::Lines => false,
        };
        let (mut out, file): (Box<dyn Write>, _) = if what.to == Path::new("-") {
            (Box::new(stdout()), None)
        } else {
            let file = File::create_new(&what.to).map_err(named)?;
            (Box::new(BufWriter::new(file.try_clone()?)), Some(file))
        };
        if is_csv {
            writeln!(out, "cluster,host,metric,component,subcomponent,time,value")?;
        }
        Ok(Self::Stream { out, file, is_csv })
    }

    /// Takes a day of a host that begins at `from`; how many samples were written.
    fn day(&mut self, (cluster, host): (&str, &str), from: i64, arrays: &[ExportArray]) -> io::Result<u64> {
        match self {
            Self::Stream { out, is_csv: true, .. } => csv(out, (cluster, host), arrays),
            Self::Stream { out, .. } => lines(out, (cluster, host), arrays),
            Self::Checkpoints { disk, root, is_text } => {
                checkpoints(&**disk, &directory(root, cluster, host)?, from, arrays, *is_text)
            }
            // It is not written host by host.
            Self::Archive(_) => Ok(0),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Stream { out, file, .. } => {
                out.flush()?;
                file.as_ref().map_or(Ok(()), File::sync_all)
            }
            Self::Checkpoints { .. } | Self::Archive(_) => Ok(()),
        }
    }
}

fn csv(out: &mut dyn Write, (cluster, host): (&str, &str), arrays: &[ExportArray]) -> io::Result<u64> {
    let mut written = 0;
    for array in arrays {
        let names = [cluster, host, &array.metric, &array.component, &array.subcomponent];
        let series = names.map(csv_field).join(",");
        for (time, value) in array.samples() {
            writeln!(out, "{series},{time},{value:?}")?;
            written += 1;
        }
    }
    Ok(written)
}

fn lines(out: &mut dyn Write, (cluster, host): (&str, &str), arrays: &[ExportArray]) -> io::Result<u64> {
    let mut written = 0;
    for array in arrays {
        let names = [cluster, host, &array.metric, &array.component, &array.subcomponent];
        // A backslash in a name and one of an escape could not be told apart.
        if names.iter().any(|name| name.contains(|char: char| char == '\\' || char.is_ascii_control())) {
            continue;
        }
        let mut series = format!("{},cluster={},hostname={}", escaped(&array.metric), escaped(cluster), escaped(host));
        push_tags(&mut series, &array.component, "type");
        push_tags(&mut series, &array.subcomponent, "stype");
        for (time, value) in array.samples().filter(|(_, value)| value.is_finite()) {
            writeln!(out, "{series} value={value:?} {time}")?;
            written += 1;
        }
    }
    Ok(written)
}

/// The tags of a level: `socket0` is the type `socket` with the id `0`, as senders have it.
fn push_tags(series: &mut String, name: &str, key: &str) {
    let kind = name.trim_end_matches(|char: char| char.is_ascii_digit());
    // The type `node` stands for no level.
    let (kind, id) = if kind == "node" { ("", name) } else { name.split_at(kind.len()) };
    for (suffix, part) in [("", kind), ("-id", id)] {
        if !part.is_empty() {
            series.extend([",", key, suffix, "=", &escaped(part)]);
        }
    }
}

fn escaped(name: &str) -> String {
    name.replace(' ', "\\ ").replace(',', "\\,").replace('=', "\\=")
}

/// Files have one array of a series: where a series changes its grid within a day, another file goes on.
fn checkpoints(disk: &dyn Disk, directory: &Path, from: i64, arrays: &[ExportArray], is_text: bool) -> io::Result<u64> {
    let mut trees: Vec<Tree> = Vec::new();
    let (mut last, mut number) = (None, 0);
    let mut written = 0;
    for array in arrays {
        let ExportArray { metric, component, subcomponent, .. } = array;
        let name = (metric, component, subcomponent);
        // Arrays of a series follow each other.
        number = if last == Some(name) { number + 1 } else { 0 };
        last = Some(name);
        if trees.len() == number {
            trees.push(Tree::default());
        }
        if let Some(tree) = trees.get_mut(number) {
            let ExportArray { start, frequency, ref values, .. } = *array;
            *tree.at(metric, component, subcomponent) = Series { start, frequency, values: values.clone() };
            // JSON has no number for what is infinite, or would be for a predecessor's 32 bits.
            #[expect(clippy::cast_possible_truncation, reason = "that is what the predecessor does")]
            let is_written = |(_, value): &(i64, f64)| !is_text || (*value as f32).is_finite();
            written += array.samples().filter(is_written).count() as u64;
        }
    }
    if !trees.is_empty() {
        disk.create_dir_all(directory)?;
    }
    for (name, tree) in (from..).zip(&trees) {
        let (extension, bytes) = if is_text {
            ("json", json::write(from, from + DAY, tree, None).into_bytes())
        } else {
            ("bin", bin::write(from, from + DAY, tree))
        };
        disk.replace(&directory.join(format!("{name}.{extension}")), &bytes)?;
    }
    Ok(written)
}

/// The directory of a host, which must be one below the root.
fn directory(root: &Path, cluster: &str, host: &str) -> io::Result<PathBuf> {
    let is_good = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('/');
    if is_good(cluster) && is_good(host) {
        return Ok(root.join(cluster).join(host));
    }
    Err(io::Error::other(format!("'{cluster}' and '{host}' are no names for directories")))
}
