//! The recorded archives, archives of every form that a version may have written, and what damage leaves of them.

use super::super::{Reason, Skips};
use super::column::decompress;
use super::{Row, read};
use parquet::basic::{Compression, Encoding, GzipLevel, Repetition, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

/// Cluster, host, metric, scope, scope id, time, frequency, bits of the value.
pub(crate) type Plain = (String, String, String, String, String, i64, u32, u32);

fn rows(bytes: &[u8]) -> (Vec<Plain>, Skips) {
    let mut rows = Vec::new();
    let skips = read(bytes, |row| {
        let [cluster, host, metric, scope, id] =
            [row.cluster, row.host, row.metric, row.scope, row.scope_id].map(str::to_owned);
        rows.push((cluster, host, metric, scope, id, row.time, row.frequency, row.value.to_bits()));
        Ok::<_, Infallible>(())
    });
    let Ok(skips) = skips;
    (rows, skips)
}

fn recorded(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/ccms/archive");
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn recorded_archives_have_the_rows_that_were_recorded_of_them() {
    for name in ["wal/alpha", "wal/beta", "json/alpha", "json/beta"] {
        let (rows, skips) = rows(&recorded(&format!("{name}.parquet")));
        let csv = String::from_utf8(recorded(&format!("{name}.csv"))).unwrap();
        let recorded = csv.lines().skip(1).map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let [cluster, host, metric, scope, id] = [0, 1, 2, 3, 4].map(|at| fields[at].to_owned());
            let bits = fields[7].parse::<f32>().unwrap().to_bits();
            (cluster, host, metric, scope, id, fields[5].parse().unwrap(), fields[6].parse().unwrap(), bits)
        });
        assert_eq!((rows, skips), (recorded.collect(), Skips::default()), "{name}");
    }
}

/// Rows of two hosts with some metrics, sorted by nothing in particular.
pub(crate) fn some_rows(count: u32) -> Vec<Plain> {
    let row = |n: u32| {
        let host = if (n / 700).is_multiple_of(2) { "a1" } else { "b2" };
        let (scope, id) = [("node", ""), ("socket", "0"), ("accelerator", "00:49:00.0")][n as usize / 50 % 3];
        let value = if n.is_multiple_of(7) { 1.5 } else { f64::from(n).sqrt() };
        #[expect(clippy::cast_possible_truncation, reason = "archives have binary32")]
        let bits = (value as f32).to_bits();
        let metric = format!("metric{}", n / 200 % 3);
        let [host, scope, id] = [host, scope, id].map(str::to_owned);
        ("alpha".to_owned(), host, metric, scope, id, 1_700_000_000 + i64::from(n % 50) * 60, 60, bits)
    };
    (0..count).map(row).collect()
}

pub(crate) fn archive(rows: &[Plain], group: usize, properties: WriterPropertiesBuilder) -> Vec<u8> {
    archive_with(rows, group, properties, None)
}

/// With `levels`, columns may have nulls, and it tells of a row whether all of it is there: 1, or 0.
fn archive_with(
    rows: &[Plain],
    group: usize,
    properties: WriterPropertiesBuilder,
    levels: Option<fn(&Plain) -> i16>,
) -> Vec<u8> {
    let repetition = if levels.is_some() { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let column = |name: &str| {
        let kind = match name {
            "timestamp" | "frequency" => PhysicalType::INT64,
            "value" => PhysicalType::FLOAT,
            _ => PhysicalType::BYTE_ARRAY,
        };
        let column = Type::primitive_type_builder(name, kind).with_repetition(repetition);
        Arc::new(column.build().unwrap())
    };
    // Another column, and another order: they are found by their names.
    let names = ["value", "note", "cluster", "hostname", "metric", "scope", "scope_id", "timestamp", "frequency"];
    let schema = Type::group_type_builder("row").with_fields(names.map(column).to_vec()).build().unwrap();
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, Arc::new(schema), Arc::new(properties.build())).unwrap();
    for rows in rows.chunks(group) {
        let mut group = writer.next_row_group().unwrap();
        let of_rows: Option<Vec<i16>> = levels.map(|levels| rows.iter().map(levels).collect());
        let rows: Vec<&Plain> = rows.iter().filter(|row| levels.is_none_or(|levels| levels(row) == 1)).collect();
        let levels = of_rows.as_deref();
        for name in names {
            let text = |row: &Plain| match name {
                "cluster" => row.0.clone(),
                "hostname" => row.1.clone(),
                "metric" => row.2.clone(),
                "scope" => row.3.clone(),
                "scope_id" => row.4.clone(),
                _ => "nothing of interest".to_owned(),
            };
            let mut column = group.next_column().unwrap().unwrap();
            match name {
                "value" => {
                    let values: Vec<f32> = rows.iter().map(|row| f32::from_bits(row.7)).collect();
                    column.typed::<FloatType>().write_batch(&values, levels, None).unwrap();
                }
                "timestamp" | "frequency" => {
                    let of = |row: &Plain| if name == "timestamp" { row.5 } else { row.6.into() };
                    let values: Vec<i64> = rows.iter().map(|row| of(row)).collect();
                    column.typed::<Int64Type>().write_batch(&values, levels, None).unwrap();
                }
                _ => {
                    let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(text(row).as_str())).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
                }
            }
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

pub(crate) fn zstd() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

#[test]
fn every_form_of_an_archive_gives_its_rows() {
    let expected = some_rows(5000);
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let gzip = Compression::GZIP(GzipLevel::default());
        for compression in [zstd(), Compression::UNCOMPRESSED, Compression::SNAPPY, gzip] {
            let plain = || {
                let builder = WriterProperties::builder().set_writer_version(version).set_compression(compression);
                builder.set_data_page_row_count_limit(777).set_write_batch_size(100)
            };
            let encoded = |columns: &[&str], encoding, builder: WriterPropertiesBuilder| {
                columns.iter().fold(builder, |builder, &name| builder.set_column_encoding(name.into(), encoding))
            };
            let texts = |encoding| {
                let texts = ["cluster", "hostname", "metric", "scope", "scope_id", "note"];
                encoded(&texts, encoding, plain().set_dictionary_enabled(false))
            };
            let forms = [
                ("dictionaries", plain()),
                ("plain", plain().set_dictionary_enabled(false).set_encoding(Encoding::PLAIN)),
                ("differences", {
                    let builder = texts(Encoding::DELTA_LENGTH_BYTE_ARRAY);
                    let numbers = encoded(&["timestamp", "frequency"], Encoding::DELTA_BINARY_PACKED, builder);
                    numbers.set_column_encoding("value".into(), Encoding::BYTE_STREAM_SPLIT)
                }),
                ("shared beginnings", texts(Encoding::DELTA_BYTE_ARRAY)),
            ];
            for (form, properties) in forms {
                let optional: fn(&Plain) -> i16 = |_| 1;
                for (group, levels) in [(1300, None), (5000, None), (1300, Some(optional))] {
                    let (found, skips) = rows(&archive_with(&expected, group, properties.clone(), levels));
                    let what = format!("{form}, {version:?}, {compression:?}, row groups of {group}, {levels:?}");
                    assert_eq!(skips, Skips::default(), "{what}");
                    assert!(found == expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_null_ends_its_row_group_and_is_told() {
    let expected = some_rows(2000);
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for has_dictionaries in [true, false] {
            let properties = WriterProperties::builder().set_writer_version(version).set_compression(zstd());
            let properties = properties.set_dictionary_enabled(has_dictionaries);
            let levels: fn(&Plain) -> i16 = |row| i16::from(row.7 != 40_f32.to_bits());
            let (found, skips) = rows(&archive_with(&expected, 1000, properties, Some(levels)));
            // The value of row 1600 is 40.
            assert!((1000..=1600).contains(&found.len()) && found == expected[..found.len()], "{version:?}");
            assert_eq!((skips.count, skips.first[0].why), (1, Reason::Null));
        }
    }
}

#[test]
fn a_component_has_the_name_that_was_taken_apart() {
    let row = |scope, scope_id| Row {
        cluster: "a",
        host: "b",
        metric: "c",
        scope,
        scope_id,
        time: 0,
        frequency: 1,
        value: 0.0,
    };
    for (scope, id, component) in [
        ("node", "", ""),
        ("socket", "0", "socket0"),
        ("die0", "", "die0"),
        ("accelerator", "00:49:00.0", "accelerator00:49:00.0"),
        ("0", "", "0"),
        ("memctrl2", "", "memctrl2"),
    ] {
        assert_eq!(row(scope, id).component(), component);
    }
}

#[test]
fn a_damaged_row_group_costs_what_is_behind_the_damage_in_it_alone() {
    let expected = some_rows(4000);
    let properties = WriterProperties::builder().set_compression(zstd()).set_data_page_row_count_limit(500);
    let mut bytes = archive(&expected, 1000, properties.set_write_batch_size(100));
    let (_, whole) = rows(&bytes);
    assert_eq!(whole.count, 0);
    // The writer does not give pages checksums: where Zstandard finds nothing, a page may have other values.
    let begin = bytes.len() / 4;
    bytes[begin..begin + 40].fill(0);
    let (found, skips) = rows(&bytes);
    assert_eq!(skips.count, 1, "{skips:?}");
    assert!(skips.first[0].bytes > 0 && skips.first[0].offset < begin as u64 + 40);
    assert!((3000..4000).contains(&found.len()), "{} rows", found.len());
    assert_eq!(found[..1000], expected[..1000]);
    assert_eq!(found[found.len() - 2000..], expected[2000..]);
}

#[test]
fn a_changed_byte_of_a_recorded_archive_changes_no_value_unseen() {
    let bytes = recorded("wal/alpha.parquet");
    let (whole, _) = rows(&bytes);
    let footer = bytes.len() - 8 - u32::from_le_bytes(*bytes[..bytes.len() - 4].last_chunk().unwrap()) as usize;
    for at in 0..footer {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let (found, skips) = rows(&damaged);
        // The predecessor's writer gives pages checksums, but they are not those of their headers.
        let is_there = found.iter().all(|row| whole.contains(row));
        assert!(is_there || skips.count > 0, "byte {at}: {skips:?}");
        assert!(found.len() == whole.len() || skips.count > 0, "byte {at}: {} rows", found.len());
    }
}

#[test]
fn what_is_no_archive_is_told() {
    let why = |bytes: &[u8]| rows(bytes).1.first.first().map(|skip| skip.why);
    let good = recorded("json/beta.parquet");
    assert_eq!(why(b""), Some(Reason::Header));
    assert_eq!(why(b"PAR1"), Some(Reason::Cut));
    assert_eq!(why(&good[..good.len() - 1]), Some(Reason::Cut));
    assert_eq!(why(b"PAR1\xff\xff\xff\xffPAR1"), Some(Reason::Fields));
    let renamed: Vec<u8> = {
        let text = b"scope_id";
        let at = good.windows(text.len()).rposition(|bytes| bytes == text).unwrap();
        // The last one is the path of the last row group's chunk, the first one that of the schema.
        let first = good.windows(text.len()).position(|bytes| bytes == text).unwrap();
        assert!(first < at);
        let mut bytes = good.clone();
        bytes[first..first + 5].copy_from_slice(b"lcope");
        bytes
    };
    assert_eq!(why(&renamed), Some(Reason::Columns));
    let brotli = 4;
    assert_eq!(decompress(brotli, b"", 0, &mut Vec::new()), Err(Reason::Encoding));
}

/// A struct of fields in rising order: number, kind and bytes of each.
fn thrift(fields: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut last = 0;
    for (number, kind, value) in fields {
        bytes.push((number - last) << 4 | kind);
        bytes.extend(value);
        last = *number;
    }
    bytes.push(0);
    bytes
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}

fn int(field: u8, number: u64) -> (u8, u8, Vec<u8>) {
    (field, 6, varint(number << 1))
}

fn structs(field: u8, structs: &[Vec<u8>]) -> (u8, u8, Vec<u8>) {
    (field, 9, [vec![0xfc], varint(structs.len() as u64), structs.concat()].concat())
}

/// An archive whose columns are one run of the first text or number of a dictionary each, of so many rows; its footer
/// names the row group so often.
fn run_of(rows: u64, groups: usize) -> Vec<u8> {
    let mut file = b"PAR1".to_vec();
    let (mut elements, mut chunks) = (vec![thrift(&[int(5, 8)])], Vec::new());
    for name in super::COLUMNS {
        let (kind, dictionary) = match name {
            "timestamp" | "frequency" => (2, 60_u64.to_le_bytes().to_vec()),
            "value" => (4, 1_f32.to_le_bytes().to_vec()),
            _ => (6, b"\x01\0\0\0a".to_vec()),
        };
        let begin = file.len() as u64;
        let len = dictionary.len() as u64;
        file.extend(thrift(&[int(1, 2), int(2, len), int(3, len), (7, 12, thrift(&[int(1, 1), int(2, 0)]))]));
        file.extend(dictionary);
        let data = file.len() as u64;
        // The width of positions, the length of a run of the same, and which one.
        let page = [vec![1], varint(rows << 1), vec![0]].concat();
        let len = page.len() as u64;
        file.extend(thrift(&[int(1, 0), int(2, len), int(3, len), (5, 12, thrift(&[int(1, rows), int(2, 8)]))]));
        file.extend(page);
        let len = file.len() as u64 - begin;
        let meta = [int(1, kind), int(4, 0), int(5, rows), int(7, len), int(9, data), int(11, begin)];
        chunks.push(thrift(&[(3, 12, thrift(&meta))]));
        let text = [varint(name.len() as u64), name.as_bytes().to_vec()].concat();
        elements.push(thrift(&[int(1, kind), int(3, 0), (4, 8, text)]));
    }
    let group = thrift(&[structs(1, &chunks), int(3, rows)]);
    let footer = thrift(&[structs(2, &elements), structs(4, &vec![group; groups])]);
    file.extend(&footer);
    file.extend(u32::try_from(footer.len()).unwrap().to_le_bytes());
    file.extend(b"PAR1");
    file
}

fn count(bytes: &[u8]) -> (u64, Skips) {
    let mut rows = 0;
    let skips = read(bytes, |_| {
        rows += 1;
        Ok::<_, Infallible>(())
    });
    let Ok(skips) = skips;
    (rows, skips)
}

#[test]
fn a_few_bytes_do_not_stand_for_rows_without_end() {
    assert_eq!(count(&run_of(1 << 20, 1)), (1 << 20, Skips::default()));
    for rows in [(1 << 20) + 1, 1 << 40] {
        let bytes = run_of(rows, 1);
        assert!(bytes.len() < 1024);
        let (found, skips) = count(&bytes);
        assert_eq!((found, skips.count, skips.first[0].why), (0, 1, Reason::Rows));
        assert_eq!(skips.first[0].offset, 4);
    }
}

#[test]
fn row_groups_that_share_their_pages_are_read_only_as_often_as_the_file_is_long() {
    let bytes = run_of(1000, 500);
    let (found, skips) = count(&bytes);
    assert!(found > 0 && found < 500_000, "{found} rows");
    assert_eq!(found / 1000 + skips.count, 500);
    assert!(skips.first.iter().all(|skip| skip.why == Reason::Rows && skip.bytes == 0));
}
