//! Snapshots of a small data directory are flipped, cut off, lost and exchanged: the file is named at the open or by
//! the queries of the host that is hit, or nothing changes. Never another value, never a panic.

use crate::lab::{Lab, START, ask, bits, compact_all, line, put};
use crate::model::Question;
use kymo_engine::model::SeriesError;
use kymo_engine::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const HOSTS: [&str; 3] = ["n1", "n2", "n3"];

/// Two snapshots of one day and a tail of the log: of each host a constant, an `f32` and an `f64` column.
fn directory(first_id: u8) -> (Lab, BTreeMap<PathBuf, Vec<u8>>) {
    let mut lab = Lab::new(1);
    lab.clock = crate::lab::clock(START, first_id);
    let store = lab.open().unwrap().0;
    for round in 0..3 {
        let mut body = String::new();
        for slot in 0..4 {
            for host in HOSTS {
                let time = START + (4 * round + slot) * 60;
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let number = (round * 10 + slot) as f64 + f64::from(first_id);
                body += &line((host, "load", ""), time, number / 3.0);
                body += &line((host, "flops", "core0"), time, number);
                body += &line((host, "flops", "core1"), time, 1.0);
            }
        }
        put(&store, &body);
        if round < 2 {
            compact_all(&store, true);
        }
        lab.clock.pass(240);
    }
    drop(store);
    let files = lab.disk.files();
    assert_eq!(snapshots(&files).len(), 2);
    (lab, files)
}

fn snapshots(files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<&PathBuf> {
    files.keys().filter(|path| path.extension().is_some_and(|extension| extension == "snap")).collect()
}

fn answers(store: &Store) -> BTreeMap<(&'static str, usize), Result<Vec<u64>, SeriesError>> {
    let asked = [("load", &[][..]), ("flops", &["core0"]), ("flops", &["core1"]), ("flops", &["core0", "core1"])];
    let mut answers = BTreeMap::new();
    for host in HOSTS {
        for (at, (metric, components)) in asked.iter().enumerate() {
            let components = components.iter().map(|&name| name.to_owned()).collect();
            let question = Question { host: host.to_owned(), metric: (*metric).to_owned(), components };
            let answer = ask(store, &question, START - 600, START + 3600).map(|answer| bits(answer.as_ref()));
            answers.insert((host, at), answer);
        }
    }
    answers
}

/// What became of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Refused,
    Reported,
    Unchanged,
}

/// Opens a directory in which one file was damaged, and reads it all.
fn judge(lab: &Lab, path: &Path, good: &BTreeMap<(&str, usize), Result<Vec<u64>, SeriesError>>, told: &str) -> Outcome {
    let name = path.file_name().unwrap().to_str().unwrap();
    let store = match lab.open() {
        Ok((store, _)) => store,
        Err(error) => {
            assert!(error.to_string().contains(name), "{told}: {error}");
            return Outcome::Refused;
        }
    };
    let mut hit = BTreeSet::new();
    for (key, answer) in answers(&store) {
        match answer {
            Ok(answer) => assert_eq!(Ok(&answer), good[&key].as_ref(), "{told}: {key:?}"),
            Err(SeriesError::Damaged(text)) => {
                assert!(text.contains(name), "{told}: {text}");
                hit.insert(key.0);
            }
            Err(error) => panic!("{told}: {error}"),
        }
    }
    assert!(hit.len() <= 1, "{told}: {hit:?} are not served");
    // What walks over all files goes on, and so does writing.
    store.debug(&[]);
    put(&store, &line(("n2", "load", ""), START + 900, 9.0));
    if hit.is_empty() { Outcome::Unchanged } else { Outcome::Reported }
}

/// Where damage is worth a try: everywhere but for the middle of long stretches of zeros.
fn places(bytes: &[u8]) -> Vec<usize> {
    let is_dull = |at: usize| {
        let around = &bytes[at.saturating_sub(8)..bytes.len().min(at + 9)];
        around.iter().all(|&byte| byte == 0) && !at.is_multiple_of(509)
    };
    (0..bytes.len()).filter(|&at| !is_dull(at)).collect()
}

#[test]
fn a_flipped_byte_of_a_snapshot_is_reported_with_the_file_or_changes_nothing() {
    let (lab, files) = directory(1);
    let good = answers(&lab.of_files(&files).open().unwrap().0);
    let mut outcomes: BTreeMap<Outcome, usize> = BTreeMap::new();
    for path in snapshots(&files) {
        let damaged = lab.of_files(&files);
        for at in places(&files[path]) {
            // The directory is used again; only what an open leaves behind differs.
            let mask = 1 << (at % 8);
            damaged.disk.corrupt(path, |bytes| bytes[at] ^= mask).unwrap();
            let told = format!("{}, byte {at}", path.display());
            let outcome = judge(&damaged.of_files(&damaged.disk.files()), path, &good, &told);
            damaged.disk.corrupt(path, |bytes| bytes[at] ^= mask).unwrap();
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    assert!(outcomes[&Outcome::Refused] > 100 && outcomes[&Outcome::Reported] > 100, "{outcomes:?}");
    println!("{outcomes:?}");
}

#[test]
fn a_snapshot_that_was_cut_off_or_grew_is_refused_by_name() {
    let (lab, files) = directory(1);
    for path in snapshots(&files) {
        let bytes = &files[path];
        let mut files = files.clone();
        for len in places(bytes).into_iter().step_by(3).chain([0, 1, 4095, 4096, bytes.len() - 1]) {
            files.insert(path.clone(), bytes[..len].to_vec());
            let told = format!("{} of {len} bytes", path.display());
            assert_eq!(judge(&lab.of_files(&files), path, &BTreeMap::new(), &told), Outcome::Refused, "{told}");
        }
        for more in [1, 4096] {
            let mut grown = bytes.clone();
            grown.resize(bytes.len() + more, 0);
            files.insert(path.clone(), grown);
            let told = format!("{} and {more} bytes", path.display());
            assert_eq!(judge(&lab.of_files(&files), path, &BTreeMap::new(), &told), Outcome::Refused, "{told}");
        }
    }
}

#[test]
fn a_snapshot_whose_tail_is_zero_is_never_read_as_values() {
    let (lab, files) = directory(1);
    let good = answers(&lab.of_files(&files).open().unwrap().0);
    for path in snapshots(&files) {
        let bytes = &files[path];
        for from in (0..bytes.len()).step_by(64) {
            let mut files = files.clone();
            files.get_mut(path).unwrap()[from..].fill(0);
            if files[path] != *bytes {
                // More than one host is hit: it is enough that none is answered wrongly.
                let lab = lab.of_files(&files);
                let Ok((store, _)) = lab.open() else { continue };
                for (key, answer) in answers(&store) {
                    match answer {
                        Ok(answer) => assert_eq!(Ok(&answer), good[&key].as_ref(), "zeros from {from}"),
                        Err(error) => assert!(matches!(error, SeriesError::Damaged(_)), "{error}"),
                    }
                }
            }
        }
    }
}

/// The content of each file.
type Files = BTreeMap<PathBuf, Vec<u8>>;

#[test]
fn missing_swapped_and_foreign_snapshots_are_refused_by_name() {
    let (lab, files) = directory(1);
    let (other_lab, of_other) = directory(77);
    drop(other_lab);
    let paths: Vec<PathBuf> = snapshots(&files).into_iter().cloned().collect();
    let with = |change: &dyn Fn(&mut Files), path: &PathBuf, told: &str| {
        let mut files = files.clone();
        change(&mut files);
        assert_eq!(judge(&lab.of_files(&files), path, &BTreeMap::new(), told), Outcome::Refused, "{told}");
    };
    for path in &paths {
        with(&|files| drop(files.remove(path)), path, "missing");
        with(&|files| drop(files.insert(path.clone(), of_other[path].clone())), path, "of another store");
        with(
            &|files| drop(files.insert(path.clone(), files[&paths[0]].iter().rev().copied().collect())),
            path,
            "noise",
        );
    }
    let swap = |files: &mut BTreeMap<PathBuf, Vec<u8>>| {
        let (first, second) = (files[&paths[0]].clone(), files[&paths[1]].clone());
        files.insert(paths[0].clone(), second);
        files.insert(paths[1].clone(), first);
    };
    with(&swap, &paths[0], "swapped");
}

#[test]
fn a_manifest_with_a_flipped_byte_or_cut_off_is_refused_by_name() {
    let (lab, files) = directory(1);
    let path = Path::new("/data/MANIFEST");
    let bytes = &files[path];
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        for damaged in [flipped, bytes[..at].to_vec()] {
            let mut files = files.clone();
            files.insert(path.to_owned(), damaged);
            let told = format!("MANIFEST at {at}");
            assert_eq!(judge(&lab.of_files(&files), path, &BTreeMap::new(), &told), Outcome::Refused, "{told}");
        }
    }
}
