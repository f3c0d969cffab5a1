//! Data directories of every version of the format, as they were written then, are read as they were meant.
//!
//! One that is missing is written by the code of today; with a new version of the format comes a new directory, and the
//! old ones stay as they are.

use crate::lab::{START, ask, clock, compact_all, options, present, put};
use crate::model::{Model, Question, Sample};
use kymo_engine::disk::{Disk, Posix};
use kymo_engine::env::Env;
use kymo_engine::store::{Options, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The samples of each of the three parts: two snapshots and a tail of the log.
fn samples(part: i64) -> Vec<Sample> {
    let mut samples = Vec::new();
    for host in ["n1", "n2"] {
        for (metric, component, step) in
            [("load", "", 60), ("flops", "core0", 30), ("flops", "core1", 30), ("temp", "socket0", 600)]
        {
            for slot in 0..20 {
                // Around midnight, the parts overlapping, with gaps.
                let time = START + 6600 + part * 600 + slot * step;
                let number = f64::from(u16::try_from(100 * part + slot).unwrap());
                let value = match component {
                    "core0" => number,
                    "core1" => 1.0,
                    _ => number / 3.0,
                };
                if slot % 7 != part {
                    let key = (host.to_owned(), metric.to_owned(), component.to_owned());
                    samples.push(Sample { key, time, value });
                }
            }
        }
    }
    samples
}

fn open(directory: &Path) -> Store {
    let (disk, env): (Arc<dyn Disk>, Arc<dyn Env>) = (Arc::new(Posix), clock(START + 5 * 3600, 1));
    let options = Options { skew: 86_400, ..options(directory) };
    Store::open(disk, env, options).unwrap().0
}

/// Writes a directory with two snapshots of each of two days, and a log that has more.
fn write(directory: &Path) {
    let mut store = open(directory);
    for part in 0..3 {
        let lines = samples(part).into_iter().map(|Sample { key: (host, metric, component), time, value }| {
            crate::lab::line((&host, &metric, &component), time, value)
        });
        put(&store, &lines.collect::<String>());
        if part < 2 {
            compact_all(&store, true);
        }
        if part == 1 {
            // A clean end leaves nothing in the log: what comes then is its only segment.
            store.close().unwrap();
            drop(store);
            store = open(directory);
        }
    }
    drop(store);
    fs::remove_file(directory.join("LOCK")).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn check(directory: &Path) {
    let mut model = Model::default();
    (0..3).for_each(|part| model.write(&samples(part)));
    let store = open(directory);
    assert_eq!(store.stats().snapshots, 4);
    for (host, metric, component) in model.values.keys() {
        let components = Some(component.clone()).into_iter().filter(|name| !name.is_empty()).collect();
        let question = Question { host: host.clone(), metric: metric.clone(), components };
        let answer = ask(&store, &question, START, START + 86_400).unwrap();
        assert_eq!(present(answer.as_ref()), model.answer(&question, START, START + 86_400), "{question:?}");
    }
    // It goes on as a store of today.
    put(&store, &crate::lab::line(("n1", "load", ""), START + 5 * 3600, 0.5));
    store.close().unwrap();
}

#[test]
fn a_data_directory_of_version_1_is_read_to_the_last_bit() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/v1/store");
    if !fixture.exists() {
        write(&fixture);
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&fixture, directory.path());
    check(directory.path());
}

#[test]
fn what_the_code_of_today_writes_is_read_by_it() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path());
    check(directory.path());
}
