//! Archives of the predecessor on their way into a store: in bounded memory, as a whole or not at all.

use super::{ImportReport, has_files, import};
use crate::ccms::bin::{self, Series, Tree};
use crate::ccms::parquet::tests::{archive, some_rows, zstd};
use crate::disk::Disk;
use crate::disk::sim::{Crash, Fault, SimDisk, Target};
use crate::env::Env;
use crate::model::{Aggregation, Metric, Metrics};
use crate::store::{Options, Store};
use parquet::file::properties::WriterProperties;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
struct Clock;

impl Env for Clock {
    fn unix_now(&self) -> i64 {
        1_701_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn unique(&self) -> [u8; 16] {
        [7; 16]
    }
}

fn open(disk: &SimDisk) -> Option<Store> {
    let metric = Metric { name: "metric0".into(), frequency: 60, aggregation: Aggregation::None };
    let mut options = Options::new("/data", Metrics::new(vec![metric]).unwrap());
    options.segment_len = crate::wal::SEGMENT_LEN_MIN;
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Some(Store::open(disk, Arc::new(Clock), options).ok()?.0)
}

/// A disk with an archive of so many rows in one row group.
fn disk_with(seed: u64, count: u32) -> SimDisk {
    let disk = SimDisk::new(seed);
    let properties = WriterProperties::builder().set_compression(zstd());
    let bytes = archive(&some_rows(count), count as usize, properties);
    disk.create_dir_all(Path::new("/old/alpha")).unwrap();
    disk.replace(Path::new("/old/alpha/1700600000.parquet"), &bytes).unwrap();
    disk
}

fn import_all(disk: &SimDisk) -> Option<ImportReport> {
    let store = open(disk)?;
    let report = import(&store, disk, &[PathBuf::from("/old")], &mut |_| true).ok();
    store.close().ok()?;
    report
}

/// All values by host, metric, component and time, as their bits.
fn values(store: &Store) -> BTreeMap<(String, String, String, i64), u64> {
    let export = store.begin_export().unwrap();
    let mut values = BTreeMap::new();
    for (cluster, host) in export.hosts().unwrap() {
        for day in export.days() {
            for array in export.day(&cluster, &host, day).unwrap() {
                for (time, value) in array.samples() {
                    let key = (host.clone(), array.metric.clone(), array.component.clone(), time);
                    values.insert(key, value.to_bits());
                }
            }
        }
    }
    values
}

/// What rows say; the last one of a slot is right.
fn expected(count: u32) -> BTreeMap<(String, String, String, i64), u64> {
    let row = |row: crate::ccms::parquet::tests::Plain| {
        let component = if row.3 == "node" { String::new() } else { format!("{}{}", row.3, row.4) };
        ((row.1, row.2, component, row.5), f64::from(f32::from_bits(row.7)).to_bits())
    };
    some_rows(count).into_iter().map(row).collect()
}

#[test]
fn an_archive_of_any_order_is_imported_in_bounded_memory() {
    const COUNT: u32 = 600_000;
    let disk = disk_with(1, COUNT);
    let report = import_all(&disk).unwrap();
    assert_eq!((report.hosts, report.files, report.damaged_files), (2, 1, 0));
    assert_eq!(report.imported.samples + report.imported.known, u64::from(COUNT));
    assert!(report.peak_values <= 1 << 18, "{}", report.peak_values);
    let (found, expected) = (values(&open(&disk).unwrap()), expected(COUNT));
    assert!(found == expected, "{} and {}", found.len(), expected.len());
}

#[test]
fn a_crash_at_any_operation_leaves_nothing_behind_and_the_next_try_brings_all() {
    let whole = disk_with(2, 3000);
    let before = whole.ops();
    import_all(&whole).unwrap();
    let after = whole.ops();
    let wanted = values(&open(&whole).unwrap());
    assert_eq!(wanted, expected(3000));
    for at in before + 1..after {
        for kind in [Crash::Kill, Crash::Power] {
            let disk = disk_with(2, 3000);
            disk.set_crash_at(Some(at));
            import_all(&disk);
            disk.crash(kind);
            let found = values(&open(&disk).unwrap());
            assert!(found.is_empty() || found == wanted, "operation {at}");
            let is_left = disk.files().into_keys().any(|path| path.to_string_lossy().contains("import.tmp"));
            assert!(!is_left, "operation {at}");
            import_all(&disk).unwrap();
            assert!(values(&open(&disk).unwrap()) == wanted, "operation {at}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_any_more_in_a_later_pass_is_not_left_out_silently() {
    let disk = |fault| {
        let disk = SimDisk::new(3);
        let mut tree = Tree::default();
        // More days than are written in one pass.
        let values = (0..60 * 24).map(f64::from).collect();
        *tree.at("metric0", "", "") = Series { start: 1_690_000_200, frequency: 3600, values };
        disk.create_dir_all(Path::new("/old/alpha/a1")).unwrap();
        disk.replace(Path::new("/old/alpha/a1/1690000200.bin"), &bin::write(0, 0, &tree)).unwrap();
        if let Some(nth) = fault {
            disk.fail(Fault { target: Target::Read, nth, errno: libc::EMFILE, is_sticky: false });
        }
        disk
    };
    let whole = disk(None);
    assert_eq!(import_all(&whole).unwrap().imported.samples, 60 * 24);
    let wanted = values(&open(&whole).unwrap());
    let mut refused = 0;
    for nth in 1.. {
        let disk = disk(Some(nth));
        let report = import_all(&disk);
        if !disk.is_faulty() {
            refused += u32::from(report.is_none());
            let is_told = report.is_none_or(|report| report.damaged_files > 0);
            disk.heal();
            assert!(is_told || values(&open(&disk).unwrap()) == wanted, "read {nth}");
            continue;
        }
        break;
    }
    assert!(refused > 1, "{refused}");
}

#[test]
fn one_that_is_told_to_stop_leaves_nothing() {
    let disk = disk_with(3, 3000);
    let store = open(&disk).unwrap();
    assert!(import(&store, &disk, &[PathBuf::from("/old")], &mut |progress| progress.pass > 0).is_err());
    store.close().unwrap();
    drop(store);
    assert!(disk.files().into_keys().all(|path| !path.to_string_lossy().contains("import.tmp")));
    assert!(values(&open(&disk).unwrap()).is_empty());
}

#[test]
fn where_all_may_be_in_a_directory_that_may_not_be_listed_nothing_is_begun() {
    for (cluster, is_refused) in [("alpha", true), ("lost+found", false)] {
        let disk = SimDisk::new(1);
        disk.create_dir_all(&Path::new("/old").join(cluster)).unwrap();
        // The root is listed, the directory in it is not.
        disk.fail(Fault { target: Target::Read, nth: 2, errno: libc::EACCES, is_sticky: false });
        match has_files(&disk, &["/old".into()]) {
            Ok(has_files) => assert!(!has_files && !is_refused, "{cluster}"),
            Err(error) => assert!(is_refused && error.to_string().contains("/old/alpha"), "{cluster}: {error}"),
        }
    }
}
