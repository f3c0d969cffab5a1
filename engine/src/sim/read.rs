//! Names of series, lines of samples, and everything that can be read of a store through its public face.

use super::model::{Content, DAY, FREQUENCIES, Model, Sample, Series, day};
use super::oracle::{Checked, Failure, Oracle, o5_runs_apart, o12_archived_once};
use super::world::ARCHIVE;
use crate::disk::sim::SimDisk;
use crate::model::{Aggregation, Metric, Metrics, Query, Request, SeriesError};
use crate::store::{DebugRun, DebugTree, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

const HOSTS: [&str; 4] = ["n0", "n1", "n2", "n3"];
const METRICS: [(&str, Aggregation); 3] =
    [("load", Aggregation::Sum), ("power", Aggregation::Avg), ("temp", Aggregation::None)];
const COMPONENTS: [&str; 4] = ["", "core0", "core1", "socket0"];

/// Slots between two runs that are read as if they were one.
const NEAR: i64 = 400;

/// The metrics of all runs.
pub(super) fn metrics() -> Metrics {
    let metric = |(&(name, aggregation), frequency): (&(&str, Aggregation), i64)| Metric {
        name: name.into(),
        frequency: u32::try_from(frequency).unwrap_or(1),
        aggregation,
    };
    Metrics::new(METRICS.iter().zip(FREQUENCIES).map(metric).collect()).expect("names differ, frequencies are not zero")
}

/// The series of a number, among those of so many hosts.
pub(super) fn series(number: u8, hosts: u8) -> Series {
    let rest = number / hosts;
    // Half of them are of the first metric.
    let metric = [0, 0, 1, 2][usize::from(rest % 4)];
    (number % hosts, metric, rest / 4 % 4)
}

/// All series of so many hosts.
pub(super) fn all_series(hosts: u8) -> impl Iterator<Item = Series> {
    (0..hosts).flat_map(|host| (0..3).flat_map(move |metric| (0..4).map(move |component| (host, metric, component))))
}

/// The names of host, metric and component.
pub(super) fn names((host, metric, component): Series) -> (&'static str, &'static str, &'static str) {
    (HOSTS[usize::from(host)], METRICS[usize::from(metric)].0, COMPONENTS[usize::from(component)])
}

fn number(names: &[&str], name: &str) -> Option<u8> {
    names.iter().position(|&known| known == name).and_then(|at| u8::try_from(at).ok())
}

fn split(component: &str) -> (&str, &str) {
    component.split_at(component.find(|c: char| c.is_ascii_digit()).unwrap_or(component.len()))
}

/// Appends the line of a sample.
pub(super) fn put_line(body: &mut String, sample: Sample) {
    let (host, metric, component) = names(sample.series);
    let value = f64::from_bits(sample.bits);
    let component = match split(component) {
        ("", _) => String::new(),
        (kind, id) => format!(",type={kind},type-id={id}"),
    };
    // A string takes everything.
    writeln!(body, "{metric},cluster=c,hostname={host}{component} value={value} {}", sample.time).ok();
}

/// The selector of a free.
pub(super) fn selector(number: u8, hosts: u8) -> Vec<String> {
    let host = HOSTS[usize::from(number / 8 % hosts)].to_owned();
    let component = COMPONENTS[usize::from(number / 64 % 4)].to_owned();
    match number % 8 {
        0 => vec!["c".to_owned()],
        1..5 => vec!["c".to_owned(), host],
        _ if component.is_empty() => vec!["c".to_owned(), host],
        _ => vec!["c".to_owned(), host, component],
    }
}

/// Whether a selector names a series.
pub(super) fn selects(selector: &[String], series: Series) -> bool {
    let (host, _, component) = names(series);
    selector.iter().zip(["c", host, component]).all(|(wanted, name)| wanted == name)
}

/// The values of a series that are not missing, from an instant of its grid up to another.
pub(super) fn values(store: &Store, of: Series, (from, to): (i64, i64)) -> Result<BTreeMap<i64, u64>, SeriesError> {
    let (host, metric, component) = names(of);
    let (kind, id) = split(component);
    let query = Query {
        metric: metric.to_owned(),
        host: host.to_owned(),
        component: (!kind.is_empty()).then(|| kind.to_owned()),
        component_ids: if kind.is_empty() { Vec::new() } else { vec![id.to_owned()] },
        ..Query::default()
    };
    let request =
        Request { cluster: "c".to_owned(), from, to, with_padding: false, with_stats: false, ..Request::default() };
    let mut values = BTreeMap::new();
    for answer in store.evaluate(&request, &query) {
        let answer = answer?;
        let instants = (answer.from..).step_by(usize::try_from(answer.resolution).unwrap_or(1));
        values.extend(
            instants.zip(&answer.data).filter(|(_, value)| !value.is_nan()).map(|(at, value)| (at, value.to_bits())),
        );
    }
    Ok(values)
}

/// The runs of each series.
pub(super) fn runs(tree: &DebugTree) -> Result<Vec<(Series, &[DebugRun])>, String> {
    let mut all = Vec::new();
    for (host, level) in tree.children.values().flat_map(|cluster| &cluster.children) {
        let levels = std::iter::once(("", level)).chain(level.children.iter().map(|(name, level)| (&**name, level)));
        for (component, level) in levels {
            for (metric, runs) in &level.metrics {
                let metric_number = METRICS.iter().position(|(name, _)| name == metric);
                let metric_number = metric_number.and_then(|at| u8::try_from(at).ok());
                let series = (number(&HOSTS, host), metric_number, number(&COMPONENTS, component));
                let (Some(host), Some(metric), Some(component)) = series else {
                    return Err(format!("{host} {metric} {component} was never written"));
                };
                all.push(((host, metric, component), &runs[..]));
            }
        }
    }
    Ok(all)
}

/// Everything that can be read: each run of each series, and what is told of each. The error says which series cannot
/// be read, or which has runs that lie over each other.
pub(super) fn content(store: &Store) -> Result<Content, Failure> {
    let mut content = Content::new();
    let Some(root) = store.debug(&[]) else { return Ok(content) };
    for (series, runs) in runs(&root).map_err(|what| Failure::new(Oracle::O2, what))? {
        let step = FREQUENCIES[usize::from(series.1)];
        let slots = content.entry(series).or_default();
        o5_runs_apart(series, runs)?;
        // Runs with little between them are read in one go.
        for near in runs.chunk_by(|run, next| next.start - run.end < NEAR * step) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
            let behind = runs.iter().find(|run| run.start > last.start).map_or(i64::MAX, |next| next.start);
            let read = values(store, series, (first.start + step / 2, last.end.min(behind)));
            let fail = |error| Failure::new(Oracle::O9, format!("{:?}: {error}", names(series)));
            slots.extend(read.map_err(fail)?);
        }
        if slots.is_empty() {
            content.remove(&series);
        }
    }
    Ok(content)
}

/// Adds what the archive has of the days that may have left the snapshots, which are in no list. A look that is not
/// thorough takes the model's word for it, until the next that is.
pub(super) fn add_archived(store: &Store, model: &Model, content: &mut Content, thorough: bool) -> Result<(), Failure> {
    for (&series, slots) in &model.settled {
        let old = slots.iter().filter(|(time, _)| day(series, **time) < model.archived);
        if !thorough {
            let known = content.entry(series).or_default();
            old.for_each(|(&time, &bits)| _ = known.entry(time).or_insert(bits));
            continue;
        }
        let days: BTreeSet<i64> = old.map(|(time, _)| time.div_euclid(DAY)).collect();
        for day in days {
            let read = values(store, series, (day * DAY, (day + 1) * DAY));
            // A host without data of its own in a day has those of its components, which may not have a sum.
            if series.2 == 0 && matches!(read, Err(SeriesError::InvalidAggregation)) {
                continue;
            }
            let read = read.map_err(|error| Failure::new(Oracle::O12, format!("{:?}: {error}", names(series))))?;
            content.entry(series).or_default().extend(read);
        }
    }
    content.retain(|_, slots| !slots.is_empty());
    Ok(())
}

/// Holds the rows of each archived day against what was written to it.
pub(super) fn check_archived(store: &Store, model: &Model) -> Checked {
    let mut rows = BTreeMap::<i64, u64>::new();
    for (day, count) in store.archived_rows() {
        *rows.entry(day).or_default() += count;
    }
    rows.into_iter().try_for_each(|(day, rows)| o12_archived_once(model, day, rows))
}

/// The files of the archive that are complete and not published.
pub(super) fn files_aside(disk: &SimDisk) -> Vec<PathBuf> {
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.starts_with(ARCHIVE) && name.starts_with('_') && name.ends_with(".parquet")
    };
    disk.files().into_keys().filter(is_aside).collect()
}
