//! `kymo export`: what a store holds in forms that other programs read, host by host.

use super::ToolError;
use super::out::{csv_field, stdout, unless_closed};
use crate::config::Config;
use crate::serve;
use clap::ValueEnum;
use kymo_engine::archive::{ArchiveError, ArchiveStore, LocalDirectory, Part, Writer, publish};
use kymo_engine::ccms::bin::{self, Series, Tree};
use kymo_engine::ccms::json;
use kymo_engine::disk::Disk;
use kymo_engine::env::{Env, System};
use kymo_engine::paths::{ArchiveLayout, ArchivePart};
use kymo_engine::store::{Export, ExportArray, JobError, Store};
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
    let disk = serve::open_disk(config)?;
    let env: Arc<dyn Env> = Arc::new(System::default());
    let (store, _) = Store::open(Arc::clone(&disk), env, serve::options(config, &disk)?)?;
    // Only a store that opens makes a file.
    let to = &*what.to;
    let by_host = |sink: io::Result<Sink>| {
        let mut sink = sink?;
        by_host(&store.begin_export()?, what, &mut sink)
    };
    let written = match what.format {
        ExportFormat::Lines => by_host(Sink::stream(to, false)),
        ExportFormat::Csv => by_host(Sink::stream(to, true)),
        ExportFormat::Bin => by_host(Sink::checkpoints(&disk, to, false)),
        ExportFormat::Json => by_host(Sink::checkpoints(&disk, to, true)),
        ExportFormat::Parquet => as_archive(&store, what, &disk, config.archive.layout),
    };
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

fn by_host(export: &Export<'_>, what: &Exported, sink: &mut Sink) -> Result<Count, ToolError> {
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
fn as_archive(store: &Store, what: &Exported, disk: &Arc<dyn Disk>, layout: ArchiveLayout) -> Result<Count, ToolError> {
    make_empty(&**disk, &what.to)?;
    let place: Arc<dyn ArchiveStore> = Arc::new(LocalDirectory::new(Arc::clone(disk), &what.to));
    let at_place = |error: ArchiveError| error.at(&*place);
    let failed = |error| JobError::from(at_place(error));
    let export = store.begin_export()?;
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
            let mut writer = Writer::new(Arc::clone(&place), part.clone()).map_err(failed)?;
            for host in hosts {
                export.rows(cluster, host, day, |metric, path, rows| {
                    if !rows.is_empty() {
                        found.insert((cluster.as_str(), host.as_str()));
                    }
                    writer.series((host, metric), path, rows).map_err(at_place)
                })?;
            }
            let sidecar = writer.finish().map_err(failed)?.sidecar;
            if sidecar.rows > 0 {
                publish(&*place, &part, &sidecar).map_err(failed)?;
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
}

/// Makes a directory, or takes one that is empty.
fn make_empty(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let names = disk.create_dir_all(path).and_then(|()| disk.list(path)).map_err(|error| named(path, &error))?;
    if names.is_empty() {
        return Ok(());
    }
    Err(named(path, &io::Error::other("the directory is not empty; name a new or an empty one")))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Sink {
    fn checkpoints(disk: &Arc<dyn Disk>, root: &Path, is_text: bool) -> io::Result<Self> {
        make_empty(&**disk, root)?;
        Ok(Self::Checkpoints { disk: Arc::clone(disk), root: root.to_owned(), is_text })
    }

    fn stream(to: &Path, is_csv: bool) -> io::Result<Self> {
        let (mut out, file): (Box<dyn Write>, _) = if to == Path::new("-") {
            (Box::new(stdout()), None)
        } else {
            let file = File::create_new(to).map_err(|error| named(to, &error))?;
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
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Stream { out, file, .. } => {
                out.flush()?;
                file.as_ref().map_or(Ok(()), File::sync_all)
            }
            Self::Checkpoints { .. } => Ok(()),
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
            let is_written = |(_, value): &(i64, f64)| !is_text || json::rounded(*value).is_some();
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
