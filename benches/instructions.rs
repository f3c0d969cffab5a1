//! A guard against getting slower that no other program on the machine can disturb: instructions of the hot paths, counted
//! by callgrind, against recorded bounds.
//!
//! `cargo bench --bench engine -- --instructions` runs each path in a child under valgrind and compares; with a path's name
//! behind it, that path runs alone, which is what the child does. The bounds stand in `benches/instructions.txt`.
#![expect(clippy::print_stdout, reason = "a bench speaks to stdout")]

use crate::ingest::Ingest;
use crate::workload::{self, CLUSTER, THREAD_METRICS, host_name, metrics};
use kymo_engine::disk::{self, IoKind};
use kymo_engine::model::{Query, Request};
use kymo_engine::store::{Options, Store};
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use tempfile::TempDir;

/// Hosts of the small cluster that is measured.
const HOSTS: u32 = 8;
/// Minutes that come before what is measured, and minutes that are measured.
const MINUTES: u32 = 4;
const BOUNDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// How far over its bound a path may be: other compilers and processors make a little difference.
const TOLERANCE: f64 = 0.05;

/// A hot path: what it does, and for how many of its units.
type PathOf = fn() -> u64;

const PATHS: [(&str, &str, PathOf); 4] = [
    ("ingest", "sample", ingest),
    ("first-contact", "sample", first_contact),
    ("replay", "sample", replay),
    ("query", "point", query),
];

/// Runs what the arguments behind `--instructions` ask for.
pub(crate) fn main(name: Option<&str>) -> ExitCode {
    match name.and_then(|name| PATHS.iter().find(|path| path.0 == name)) {
        Some((.., run)) => {
            println!("{}", run());
            ExitCode::SUCCESS
        }
        None => compare(),
    }
}

/// Callgrind counts only while this runs.
#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
    // Without something behind it, the call could become a jump, and its end would not be seen.
    black_box(());
}

fn ingest() -> u64 {
    let mut store = Ingest::without_disk(HOSTS);
    for _ in 0..MINUTES {
        store.prepare();
        store.write_untimed();
    }
    (0..MINUTES)
        .map(|_| {
            let samples = store.prepare();
            counted_by_callgrind(&mut || store.write_untimed());
            samples
        })
        .sum()
}

fn first_contact() -> u64 {
    let mut store = Ingest::without_disk(HOSTS);
    let samples = store.prepare();
    counted_by_callgrind(&mut || store.write_untimed());
    samples
}

fn replay() -> u64 {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
    let (disk, _) = disk::open(IoKind::Posix).expect("there is a disk");
    let options = || Options::new(directory.path(), metrics());
    let mut store = Ingest::new(Arc::clone(&disk), options(), HOSTS);
    let samples = (0..MINUTES).map(|_| {
        let samples = store.prepare();
        store.write_untimed();
        samples
    });
    let samples = samples.sum();
    // Not closed: that would put all of it into a snapshot.
    drop(store);
    let clock = Arc::new(crate::env::SetClock::at(workload::time(MINUTES)));
    counted_by_callgrind(&mut || {
        let (store, report) = Store::open(Arc::clone(&disk), Arc::<crate::env::SetClock>::clone(&clock), options())
            .expect("the store opens");
        assert_eq!(report.samples, samples);
        drop(store);
    });
    samples
}

fn query() -> u64 {
    let mut ingest = Ingest::without_disk(HOSTS);
    for _ in 0..60 {
        ingest.prepare();
        ingest.write_untimed();
    }
    let of = |host| Query { metric: THREAD_METRICS[0].to_owned(), host: host_name(host), ..Query::default() };
    let request = Request {
        cluster: CLUSTER.to_owned(),
        from: workload::time(0),
        to: workload::time(60),
        queries: (0..HOSTS).map(of).collect(),
        ..Request::default()
    };
    let mut points = 0;
    counted_by_callgrind(&mut || {
        for query in &ingest.store.plan(&request) {
            for series in ingest.store.evaluate(&request, query) {
                points += black_box(series.expect("the series is there")).data.len() as u64;
            }
        }
    });
    // 72 columns are added up for a point.
    points * 72
}

/// Counts each path in a child and compares it with its bound.
fn compare() -> ExitCode {
    let bounds = std::fs::read_to_string(BOUNDS).unwrap_or_default();
    let mut is_good = true;
    for (name, unit, _) in PATHS {
        let count = match count(name) {
            Ok(count) => count,
            Err(error) => {
                println!("{name}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let bound = bounds.lines().filter_map(|line| line.split_once(' ')).find(|(of, _)| *of == name);
        let verdict = match bound.and_then(|(_, bound)| bound.trim().parse::<f64>().ok()) {
            None => {
                is_good = false;
                "has no bound in benches/instructions.txt".to_owned()
            }
            Some(bound) if count > bound * (1.0 + TOLERANCE) => {
                is_good = false;
                format!("MORE than the bound of {bound}")
            }
            Some(bound) if count < bound * 0.8 => format!("far below the bound of {bound}: record the new one"),
            Some(bound) => format!("the bound is {bound}"),
        };
        println!("{name}: {count:.1} instructions a {unit}, {verdict}");
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Instructions a unit of a path.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn count(name: &str) -> Result<f64, String> {
    let tool = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/tools")).arg("valgrind").output();
    let tool = tool.map_err(|error| format!(".ci/tools: {error}"))?;
    if !tool.status.success() {
        return Err(String::from_utf8_lossy(&tool.stderr).into_owned());
    }
    let out = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let file = out.path().join("callgrind");
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = Command::new(String::from_utf8_lossy(&tool.stdout).trim())
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_by_callgrind*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(own)
        .args(["--instructions", name])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let units: u64 = String::from_utf8_lossy(&run.stdout)
        .trim()
        .parse()
        .map_err(|_| format!("the path failed: {}", String::from_utf8_lossy(&run.stderr)))?;
    let counts = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
    let total = total.filter(|&total| total > 0).ok_or_else(|| "callgrind counted nothing".to_owned())?;
    Ok(total as f64 / units as f64)
}
