//! Parts that are written, compared and read, and what damage does to them.

use super::*;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::format::StoreId;
use crate::paths::{ArchiveLayout, ArchivePart};
use crate::slot::Run;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DAY: i64 = 20_000;
const MIDNIGHT: i64 = DAY * 86_400;

/// Host, metric, component, subcomponent and rows, in the order of the file.
type Content = Vec<(String, String, String, String, Vec<Row>)>;

fn place() -> (SimDisk, Arc<dyn ArchiveStore>) {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    (disk, Arc::new(LocalDirectory::new(shared, "/archive")))
}

fn part() -> Part {
    let names = ArchivePart { layout: ArchiveLayout::Hive, cluster: "alpha".into(), partition: DAY, part: 0 };
    Part { store: StoreId([7; 16]), names }
}

fn rows(start: i64, frequency: u32, values: impl IntoIterator<Item = f64>) -> Vec<Row> {
    let run = Run { start, frequency };
    (0..).zip(values).map(|(slot, value)| Row { timestamp: run.end_after(slot), run, value }).collect()
}

fn write(place: &Arc<dyn ArchiveStore>, content: &Content) -> Written {
    let mut writer = Writer::new(Arc::clone(place), part()).unwrap();
    for (host, metric, component, subcomponent, rows) in content {
        writer.series((host, metric), (component, subcomponent), rows).unwrap();
    }
    writer.finish().unwrap()
}

fn check(place: &Arc<dyn ArchiveStore>, content: &Content, written: &Written) -> Result<Written, ArchiveError> {
    let mut checker = Checker::new(Arc::clone(place), part(), written.clone());
    for (host, metric, component, subcomponent, rows) in content {
        checker.series((host, metric), (component, subcomponent), rows)?;
    }
    checker.finish()
}

/// Everything of a part, as the reader finds it.
fn read(place: &Arc<dyn ArchiveStore>, known: (u64, u32), content: &Content) -> Result<Content, ArchiveError> {
    let reader = Reader::new(Arc::clone(place));
    let mut found = Content::new();
    let mut last = None;
    for (host, metric, ..) in content {
        if last.replace((host, metric)) == Some((host, metric)) {
            continue;
        }
        for series in reader.rows(&part().names, known, host, metric)? {
            let mut rows: Vec<Row> = Vec::new();
            for stretch in series.stretches {
                let slots = (stretch.first_slot..).zip(stretch.values).filter(|(_, value)| !value.is_nan());
                rows.extend(slots.map(|(slot, value)| Row {
                    timestamp: stretch.run.end_after(slot),
                    run: stretch.run,
                    value,
                }));
            }
            rows.sort_by_key(|row| (row.timestamp, row.run));
            found.push((host.clone(), metric.clone(), series.component, series.subcomponent, rows));
        }
    }
    Ok(found)
}

fn sorted(
    series: impl IntoIterator<Item = (&'static str, &'static str, &'static str, &'static str, Vec<Row>)>,
) -> Content {
    let mut content: Content = series
        .into_iter()
        .map(|(host, metric, component, subcomponent, rows)| {
            (host.to_owned(), metric.to_owned(), component.to_owned(), subcomponent.to_owned(), rows)
        })
        .collect();
    content.sort_by_key(|(host, metric, component, subcomponent, _)| {
        (host.clone(), metric.clone(), join_path(component, subcomponent))
    });
    content
}

fn sample() -> Content {
    let wave = |at: u32| f64::from(at % 7) * 0.1;
    sorted([
        ("n1", "load", "", "", rows(MIDNIGHT + 30, 60, (0..1400).map(|at| f64::from(at) / 8.0))),
        ("n1", "flops", "socket0", "", rows(MIDNIGHT, 30, (0..2800).map(wave))),
        ("n1", "flops", "socket1", "mem/ctrl%1", rows(MIDNIGHT + 7, 30, [f64::INFINITY, -0.0, f64::MIN_POSITIVE])),
        ("n2", "load", "", "", rows(MIDNIGHT - 60 * 500, 60, [1.0; 600]).split_off(500)),
    ])
}

fn publish_part(place: &Arc<dyn ArchiveStore>, content: &Content) -> (u64, u32) {
    let written = write(place, content);
    let written = check(place, content, &written).unwrap();
    publish(&**place, &part(), &written.sidecar).unwrap()
}

#[test]
fn what_was_written_reads_back_bit_for_bit() {
    let (disk, place) = place();
    let content = sample();
    let known = publish_part(&place, &content);
    let found = read(&place, known, &content).unwrap();
    let bits = |content: &Content| -> Vec<u64> {
        content.iter().flat_map(|series| &series.4).map(|row| row.value.to_bits()).collect()
    };
    assert_eq!(bits(&found), bits(&content));
    assert_eq!(found, content);
    let reader = Reader::new(place);
    assert_eq!(reader.hosts(&part().names, known).unwrap(), ["n1", "n2"]);
    assert_eq!(reader.rows(&part().names, known, "n3", "load").unwrap(), []);
    assert_eq!(reader.rows(&part().names, known, "n2", "flops").unwrap(), []);
    let names: Vec<_> = disk.files().into_keys().filter(|path| path.extension().is_some()).collect();
    let folder = Path::new("/archive/cluster=alpha/date=2024-10-04");
    assert_eq!(names, [folder.join("_manifest.json"), folder.join("part-0-0.parquet")]);
}

#[test]
fn rows_of_two_runs_at_once_keep_their_runs() {
    let (_, place) = place();
    let mut both = rows(MIDNIGHT, 60, (0..40).map(f64::from));
    both.extend(rows(MIDNIGHT + 600, 7, (0..100).map(|at| f64::from(at) + 0.5)));
    both.sort_by_key(|row| (row.timestamp, row.run));
    let content = sorted([("n1", "load", "", "", both)]);
    let known = publish_part(&place, &content);
    assert_eq!(read(&place, known, &content).unwrap(), content);
}

#[test]
fn writing_again_gives_the_same_bytes() {
    let files = || {
        let (disk, place) = place();
        publish_part(&place, &sample());
        publish_part(&place, &sample());
        disk.files()
    };
    assert_eq!(files(), files());
}

#[test]
fn another_store_is_refused_and_changes_nothing() {
    let (disk, place) = place();
    let content = sample();
    publish_part(&place, &content);
    let before = disk.files();
    let mut other = part();
    other.store = StoreId([8; 16]);
    let mut writer = Writer::new(Arc::clone(&place), other.clone()).unwrap();
    writer.series(("n1", "load"), ("", ""), &content[2].4).unwrap();
    let written = writer.finish().unwrap();
    let error = publish(&*place, &other, &written.sidecar).unwrap_err();
    assert!(matches!(&error, ArchiveError::OtherStore { owner, .. } if *owner == "07".repeat(16)), "{error}");
    let seen = |files: BTreeMap<std::path::PathBuf, Vec<u8>>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| !path.to_string_lossy().contains("-part")).collect()
    };
    assert_eq!(seen(disk.files()), seen(before));
}

#[test]
fn a_value_that_did_not_reach_the_file_is_found() {
    let (_, place) = place();
    let mut content = sample();
    let written = write(&place, &content);
    content[0].4[100].value += 1e-9;
    let error = check(&place, &content, &written).unwrap_err();
    assert!(matches!(&error, ArchiveError::Differs { what, .. } if what.contains("column value")), "{error}");
    content.pop();
    assert!(check(&place, &content, &written).is_err());
}

#[test]
fn every_flipped_byte_is_an_error_that_names_the_file_or_changes_nothing() {
    let (disk, place) = place();
    let content = sorted([
        ("n1", "load", "", "", rows(MIDNIGHT + 30, 60, (0..40).map(f64::from))),
        ("n2", "load", "core1", "", rows(MIDNIGHT + 30, 60, (0..9).map(|at| f64::from(at) * 0.1))),
    ]);
    let known = publish_part(&place, &content);
    for (path, bytes) in disk.files() {
        if path.extension().is_none() {
            continue;
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            disk.replace(&path, &flipped).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            match read(&place, known, &content) {
                Ok(found) => panic!("{name}: byte {at} made no difference: {}", found == content),
                Err(error) => assert!(error.to_string().contains(name), "{name}: byte {at}: {error}"),
            }
        }
        let cut = &bytes[..bytes.len() / 2];
        disk.replace(&path, cut).unwrap();
        assert!(read(&place, known, &content).is_err());
        disk.replace(&path, &bytes).unwrap();
    }
    assert_eq!(read(&place, known, &content).unwrap(), content);
}

#[test]
fn memory_does_not_grow_with_the_partition() {
    let peak = |hosts: u32| {
        let (_, place) = place();
        let mut writer = Writer::new(Arc::clone(&place), part()).unwrap();
        let day = rows(MIDNIGHT, 1, (0..86_400).map(|at: u32| f64::from(at.wrapping_mul(2_654_435_761)) * 1e-3));
        for host in 0..hosts {
            writer.series((&format!("n{host:04}"), "power"), ("", ""), &day).unwrap();
        }
        let written = writer.finish().unwrap();
        assert_eq!(written.sidecar.rows, u64::from(hosts) * 86_400);
        written.peak_buffered
    };
    let (small, large) = (peak(13), peak(39));
    assert!(large <= small + (1 << 16), "{small} for one part, {large} for one thrice as large");
    assert!(large < 2 * BATCH_BYTES, "{large}");
}

proptest! {
    /// Whatever the values and the grids are: they read back.
    #[test]
    fn any_rows_read_back(
        series in prop::collection::btree_map(
            (0_u8..3, 0_u8..3, 0_u8..4),
            (0_i64..3600, prop::sample::select(vec![1_u32, 7, 60]), prop::collection::vec(any::<u64>(), 1..300)),
            1..8,
        )
    ) {
        let mut content: Content = Vec::new();
        for ((host, metric, path), (offset, frequency, bits)) in series {
            let values = bits.into_iter().map(f64::from_bits).map(|value| if value.is_nan() { 0.5 } else { value });
            let component = if path == 0 { String::new() } else { format!("core{path}") };
            let rows = rows(MIDNIGHT + offset, frequency, values);
            content.push((format!("n{host}"), format!("m{metric}"), component, String::new(), rows));
        }
        let (_, place) = place();
        let known = publish_part(&place, &content);
        prop_assert_eq!(read(&place, known, &content).unwrap(), content);
    }
}
