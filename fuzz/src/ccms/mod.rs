//! Files of the predecessor, cc-metric-store.

mod repair;

use kymo_engine::ccms::wal::{self, Record};
use kymo_engine::ccms::{Array, Snapshot, Values, bin, json, parquet};
use std::convert::Infallible;
use std::ops::Range;

/// The bytes of a `.wal`. Each record that is given stands in the file with a checksum that is right, in the order of
/// the file; they, the header and what is told as passed over are together the whole file, and nothing twice.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn ccms_wal(data: &[u8]) {
    let (records, parts) = wal_parts(data);
    for (record, part) in records.iter().zip(&parts) {
        let mut written = Vec::new();
        wal::write(&mut written, record).expect("a record that was read can be written");
        assert_eq!(data.get(part.clone()), Some(&*written), "a record stands in the file, checksum and all");
    }
    let skips = wal::read(data, |_| {});
    let magic = if data.starts_with(&wal::MAGIC) { 0..wal::MAGIC.len() } else { 0..0 };
    let told: usize = parts.iter().map(Range::len).sum::<usize>() + magic.len();
    assert_eq!(told as u64 + skips.bytes, data.len() as u64, "all of the file is given or told as passed over");
    if skips.first.len() as u64 == skips.count {
        let skipped = skips.first.iter().map(|skip| at(skip.offset)..at(skip.offset + skip.bytes));
        let mut all: Vec<_> = parts.iter().cloned().chain(skipped).chain([magic]).collect();
        all.sort_by_key(|part| (part.start, part.end));
        let end = all.iter().fold(0, |end, part| {
            assert_eq!(part.start, end, "there is no gap and nothing twice");
            part.end
        });
        assert_eq!(end, data.len(), "nor is there one at the end");
    }
}

/// [`ccms_wal`] once all checksums were repaired: then a record that is framed well is given or told as passed over, and
/// what was read, written again and damaged in one place gives all records but that one, with the bits of their values.
///
/// # Panics
///
/// As [`ccms_wal`], and where one of these does not hold.
pub fn ccms_wal_repaired(data: &[u8]) {
    let mut repaired = data.to_vec();
    repair::wal(&mut repaired);
    ccms_wal(&repaired);
    let (records, _) = wal_parts(&repaired);
    let mut file = wal::MAGIC.to_vec();
    for record in &records {
        wal::write(&mut file, record).expect("a record that was read can be written");
    }
    let bits = |record: &Record<'_>| (record.time, record.value.to_bits());
    let (again, parts) = wal_parts(&file);
    assert!(again.iter().map(bits).eq(records.iter().map(bits)), "an undamaged file is read exactly");
    assert_eq!(wal::read(&file, |_| {}).count, 0, "nothing of an undamaged file is passed over");
    // Damage may uncover what looks like a record within a name: that is in the file too.
    let begins = file.windows(4).filter(|bytes| *bytes == wal::RECORD_MAGIC).count();
    let Some(hit) = data.first().map(|&byte| usize::from(byte)).filter(|&hit| hit < parts.len()) else { return };
    let place = parts[hit].start + usize::from(data[data.len() - 1]) % parts[hit].len();
    let mut damaged = file.clone();
    damaged[place] ^= 1 << (data.len() % 8);
    ccms_wal(&damaged);
    if begins == parts.len() {
        let (left, _) = wal_parts(&damaged);
        let others = records.iter().enumerate().filter(|&(number, _)| number != hit).map(|(_, record)| bits(record));
        assert!(left.iter().map(bits).eq(others), "damage to record {hit} costs that record alone");
    }
}

/// The records of a file, and where each stands in it.
fn wal_parts(bytes: &[u8]) -> (Vec<Record<'_>>, Vec<Range<usize>>) {
    /// Magic, length, time, length of the name.
    const BEFORE_METRIC: usize = 4 + 4 + 8 + 2;
    let (mut records, mut parts) = (Vec::new(), Vec::new());
    wal::read(bytes, |record| {
        let begin = offset(bytes, record.metric.as_bytes()) - BEFORE_METRIC;
        let parts_of_place = [record.component, record.subcomponent];
        let place: usize = parts_of_place.iter().filter(|part| !part.is_empty()).map(|part| 1 + part.len()).sum();
        parts.push(begin..begin + BEFORE_METRIC + record.metric.len() + 1 + place + 4 + 4);
        records.push(record);
    });
    (records, parts)
}

/// Where a part of the file begins in it.
fn offset(bytes: &[u8], part: &[u8]) -> usize {
    let begin =
        part.as_ptr().addr().checked_sub(bytes.as_ptr().addr()).expect("what is given is borrowed from the file");
    assert!(begin + part.len() <= bytes.len(), "what is given lies in the file");
    begin
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("it is in a file in memory")
}

/// The bytes of a `.bin`, with binary32 or binary64 values. Arrays are given in the order of the file, each with the
/// values that stand behind its name; they and what is told as passed over are no more than the file.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn ccms_bin(data: &[u8]) {
    /// Frequency, start, count.
    const BEFORE_VALUES: usize = 8 + 8 + 4;
    let snapshot = bin::read(data);
    let mut end = 0;
    let mut given = 0;
    for array in &snapshot.arrays {
        check_array(array);
        let values = match array.values {
            Values::F32(values) => values.as_flattened(),
            Values::F64(values) => values.as_flattened(),
            Values::Parsed(_) => panic!("the values of a binary file are borrowed from it"),
        };
        let begin = offset(data, array.metric.as_bytes());
        assert!(begin >= end, "arrays are in the order of the file, and none begins within another");
        let first = begin + array.metric.len() + BEFORE_VALUES;
        assert_eq!(offset(data, values), first, "values stand behind their name");
        let fields = [i64::from(array.frequency).to_le_bytes(), array.start.to_le_bytes()].concat();
        assert_eq!(&data[first - BEFORE_VALUES..first - 4], fields, "and so do their interval and start");
        end = first + values.len();
        given += 2 + end - begin;
    }
    check_skips(&snapshot, data, given);
    if data.starts_with(&bin::MAGIC) && data.len() >= 20 {
        let times = [&data[4..12], &data[12..20]].map(|bytes| bytes.try_into().ok().map(i64::from_le_bytes));
        assert_eq!([snapshot.from, snapshot.to], times, "the interval is that of the file");
    }
}

/// [`ccms_bin`] once all counts were repaired, so that levels and arrays close within the file: then exactly the arrays
/// that are in it are given, and only what is too deep for a store or behind the end is passed over. Written again by the
/// writer, they read the same.
///
/// # Panics
///
/// As [`ccms_bin`], and where one of these does not hold.
pub fn ccms_bin_repaired(data: &[u8]) {
    let repair::Bin { bytes, arrays, deep } = repair::bin(data);
    ccms_bin(&bytes);
    let snapshot = bin::read(&bytes);
    assert!(snapshot.arrays.iter().map(told).eq(arrays.iter().cloned()), "a whole file is read exactly");
    assert_eq!((snapshot.skips.count, snapshot.skips.bytes), (deep.0, deep.1), "only what is too deep is passed over");
    let mut tree = bin::Tree::default();
    for (place, start, frequency, bits) in &arrays {
        let values = bits.iter().map(|&bits| f64::from_bits(bits)).collect();
        *tree.at(&place[0], &place[1], &place[2]) = bin::Series { start: *start, frequency: *frequency, values };
    }
    let written = bin::write(i64::MAX, 0, &tree);
    ccms_bin(&written);
    let again = bin::read(&written);
    assert_eq!(again.skips.count, 0, "nothing of an undamaged file is passed over");
    for array in &again.arrays {
        let series = tree.at(&array.metric, &array.component, &array.subcomponent);
        assert_eq!(
            (series.start, series.frequency, series.values.len()),
            (array.start, array.frequency, array.values.len())
        );
        #[expect(clippy::cast_possible_truncation, reason = "the format has binary32")]
        let is_same = |(at, &value): (usize, &f64)| is_same(array.values.get(at), f64::from(value as f32));
        assert!(series.values.iter().enumerate().all(is_same), "an undamaged file is read exactly");
    }
}

fn told(array: &Array<'_>) -> repair::Told {
    let place = [&array.metric, &array.component, &array.subcomponent].map(ToString::to_string);
    let bits = (0..array.values.len()).map(|at| array.values.get(at).to_bits()).collect();
    (place, array.start, array.frequency, bits)
}

fn is_same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// The text of a `.json`. What is given is no more than the text can hold, and written again with all digits and read, it
/// is the same to the bits of binary32.
///
/// # Panics
///
/// Where it is not.
pub fn ccms_json(data: &[u8]) {
    let snapshot = json::read(data);
    let mut tree = bin::Tree::default();
    let mut given = 0;
    for array in &snapshot.arrays {
        check_array(array);
        // A value is a digit and a comma at least.
        given += 2 * array.values.len() - 1;
        let values = (0..array.values.len()).map(|at| array.values.get(at)).collect();
        *tree.at(&array.metric, &array.component, &array.subcomponent) =
            bin::Series { start: array.start, frequency: array.frequency, values };
    }
    check_skips(&snapshot, data, given);
    let text = json::write(0, 1, &tree, None);
    let again = json::read(text.as_bytes());
    assert_eq!((again.from, again.to, again.skips.count), (Some(0), Some(1), 0), "what is written is read");
    let mut arrays = 0;
    for array in &again.arrays {
        arrays += 1;
        let series = tree.at(&array.metric, &array.component, &array.subcomponent);
        assert_eq!(
            (series.start, series.frequency, series.values.len()),
            (array.start, array.frequency, array.values.len())
        );
        for (at, &value) in series.values.iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "the format has binary32")]
            let (wanted, found) = (value as f32, array.values.get(at) as f32);
            let is_same = wanted.to_bits() == found.to_bits() || (!wanted.is_finite() && found.is_nan());
            assert!(is_same, "{wanted} reads as {found}");
        }
    }
    assert_eq!(arrays, count(&tree), "all arrays are there");
}

/// The bytes of a Parquet archive. Rows have names and an interval; whatever counts say, reading ends, asks for no memory
/// that the file does not justify, and tells if it left something.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn ccms_parquet(data: &[u8]) {
    let mut rows = 0_u64;
    let read = parquet::read(data, |row| {
        rows += 1;
        let names = [row.cluster, row.host, row.metric, row.scope];
        assert!(names.iter().all(|name| !name.is_empty() && name.len() <= data.len().max(1 << 16)), "a row has names");
        let next = row.time.checked_add(row.frequency.into());
        assert!(row.frequency > 0 && next.is_some(), "a row has a slot");
        assert!(row.component().len() <= row.scope.len() + row.scope_id.len());
        Ok::<_, Infallible>(())
    });
    let Ok(skips) = read;
    assert!(rows <= (data.len() as u64 * 1024).max(1 << 20), "a file has no more rows than its bytes justify");
    assert!(skips.bytes <= data.len() as u64, "nothing is passed over twice");
    assert!(skips.first.iter().all(|skip| skip.offset <= data.len() as u64), "skips lie in the file");
    assert!(rows > 0 || skips.count > 0 || data.len() > 16, "a file without rows is one");
}

fn count(tree: &bin::Tree) -> usize {
    tree.metrics.len() + tree.children.values().map(count).sum::<usize>()
}

fn check_array(array: &Array<'_>) {
    assert!(!array.metric.is_empty() && !array.values.is_empty() && array.frequency > 0, "an array has something");
    assert!(!array.component.is_empty() || array.subcomponent.is_empty(), "a part is one of a component");
    let span = i64::try_from(array.values.len()).ok().and_then(|count| count.checked_mul(array.frequency.into()));
    assert!(span.and_then(|span| array.start.checked_add(span)).is_some(), "its times exist");
}

/// What is given and what is passed over is no more than the file; skips lie in it.
fn check_skips(snapshot: &Snapshot<'_>, data: &[u8], given: usize) {
    let skips = &snapshot.skips;
    assert!(given as u64 + skips.bytes <= data.len() as u64, "nothing is given or passed over twice");
    assert!(skips.first.len() as u64 <= skips.count && (skips.count > 0 || skips.bytes == 0), "skips are counted");
    let is_inside = |end: u64| end <= data.len() as u64;
    assert!(skips.first.iter().all(|skip| is_inside(skip.offset + skip.bytes)), "skips lie in the file");
    assert!(skips.count > 0 || snapshot.from.is_some() || !data.starts_with(&bin::MAGIC), "a cut header is told");
}
