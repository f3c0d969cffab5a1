//! The examples of the predecessor's formats, and what damage leaves of them.

use super::bin::{self, Tree};
use super::wal::{self, Record};
use super::{Array, Reason, Skips, Snapshot, Values, json};
use proptest::prelude::*;

/// (metric, component, subcomponent, start, frequency, values) of each array.
type Plain = Vec<(String, String, String, i64, u32, Vec<f64>)>;

fn plain(snapshot: &Snapshot<'_>) -> Plain {
    let plain = |array: &Array<'_>| {
        let values = (0..array.values.len()).map(|at| array.values.get(at)).collect();
        let [metric, component, part] = [&array.metric, &array.component, &array.subcomponent].map(ToString::to_string);
        (metric, component, part, array.start, array.frequency, values)
    };
    let mut arrays: Plain = snapshot.arrays.iter().map(plain).collect();
    arrays.sort_by(|a, b| (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)));
    arrays
}

fn records(bytes: &[u8]) -> (Vec<(String, i64, f32)>, Skips) {
    let mut records = Vec::new();
    let skips = wal::read(bytes, |record| {
        let place = format!("{}/{}/{}", record.metric, record.component, record.subcomponent);
        records.push((place, record.time, record.value));
    });
    (records, skips)
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

const WAL: &str = "01 a7 1d cc
    a1 a7 1d cc 17 00 00 00 00 f1 53 65 00 00 00 00 08 00 63 70 75 5f 6c 6f 61 64 00 00 00 c0 3f ac ef e2 ee
    a1 a7 1d cc 21 00 00 00 3c f1 53 65 00 00 00 00 08 00 63 70 75 5f 75 73 65 72 01 09 68 77 74 68 72 65 61 64 30 00
    80 b0 42 fb 25 66 a8";
const BIN: &str =
    "01 00 5b cc 00 f1 53 65 00 00 00 00 b4 f1 53 65 00 00 00 00 01 00 00 00 08 00 63 70 75 5f 6c 6f 61 64
    3c 00 00 00 00 00 00 00 00 f1 53 65 00 00 00 00 02 00 00 00 00 00 c0 3f 00 00 c0 7f 01 00 00 00 07 00
    73 6f 63 6b 65 74 30 01 00 00 00 06 00 6d 65 6d 5f 62 77 3c 00 00 00 00 00 00 00 00 f1 53 65 00 00 00
    00 01 00 00 00 00 00 48 43 00 00 00 00";
const JSON: &str = r#"{"metrics":{"cpu_load":{"frequency":60,"start":1000,"data":[0.5,0.7,null]}},"children":{"socket0":
    {"metrics":{"mem_bw":{"frequency":60,"start":1000,"data":[100.0]}},"children":{},"from":1000,"to":1060}},
    "from":1000,"to":1060}"#;

fn record(metric: &str, time: i64, value: f32) -> Record<'_> {
    Record { metric, component: "socket0", subcomponent: "fs", time, value }
}

#[test]
fn the_log_of_the_example_reads_and_writes() {
    let bytes = hex(WAL);
    let (found, skips) = records(&bytes);
    let expected =
        [("cpu_load//".to_owned(), 1_700_000_000, 1.5), ("cpu_user/hwthread0/".to_owned(), 1_700_000_060, 88.25)];
    assert_eq!((&found[..], skips.count), (&expected[..], 0));
    let mut written = wal::MAGIC.to_vec();
    for (metric, component, time, value) in
        [("cpu_load", "", 1_700_000_000, 1.5), ("cpu_user", "hwthread0", 1_700_000_060, 88.25)]
    {
        wal::write(&mut written, &Record { metric, component, subcomponent: "", time, value }).unwrap();
    }
    assert_eq!(written, bytes);
}

#[test]
fn records_behind_damage_are_found_and_what_was_passed_over_is_named() {
    let mut good = Vec::new();
    for (time, metric) in [(60, "a"), (120, "bb"), (180, "ccc")] {
        wal::write(&mut good, &record(metric, time, 1.0)).unwrap();
    }
    let whole = [&wal::MAGIC[..], &good].concat();
    let second = 4 + 27 + 1 + 8 + 3;
    let of = |bytes: &[u8]| {
        let (records, skips) = records(bytes);
        (records.iter().map(|&(_, time, _)| time).collect::<Vec<_>>(), skips.first)
    };
    assert_eq!(of(&whole).0, [60, 120, 180]);
    for flipped in second..second + 40 {
        let mut bytes = whole.clone();
        bytes[flipped] ^= 1;
        let (times, skips) = of(&bytes);
        assert_eq!((times, skips.len()), (vec![60, 180], 1), "byte {flipped}");
    }
    let torn = [&whole[..second + 9], &whole[second..]].concat();
    let (times, skips) = of(&torn);
    assert_eq!((times, skips[0].offset, skips[0].bytes), (vec![60, 120, 180], second as u64, 9));
    let (times, skips) = of(&good);
    assert_eq!((times, skips[0].why), (vec![60, 120, 180], Reason::Header));
    assert_eq!(of(&whole[..2]).1[0].why, Reason::Header);
    assert_eq!(of(b"").1, []);
}

#[test]
fn a_record_whose_fields_do_not_fill_it_is_passed_over() {
    // As the predecessor wrote a component of 300 bytes: its length modulo 256.
    let mut payload = 60_i64.to_le_bytes().to_vec();
    payload.extend([1, 0, b'm', 1, 44]);
    payload.extend([b'x'; 300]);
    payload.extend(1.0_f32.to_le_bytes());
    let mut bytes = [&wal::MAGIC[..], &wal::RECORD_MAGIC].concat();
    bytes.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    bytes.extend(&payload);
    bytes.extend(crc32fast::hash(&payload).to_le_bytes());
    wal::write(&mut bytes, &record("m", 120, 2.0)).unwrap();
    let (found, skips) = records(&bytes);
    assert_eq!((found.len(), skips.first[0].why), (1, Reason::Fields));
}

#[test]
fn a_log_full_of_beginnings_ends() {
    let mut bytes = wal::MAGIC.to_vec();
    for _ in 0..1 << 14 {
        bytes.extend(wal::RECORD_MAGIC);
        bytes.extend(0x1000_u32.to_le_bytes());
    }
    let (found, skips) = records(&bytes);
    assert_eq!((found.len(), skips.bytes), (0, bytes.len() as u64 - 4));
}

#[test]
fn the_snapshot_of_the_example_reads_and_writes() {
    let bytes = hex(BIN);
    let snapshot = bin::read(&bytes);
    let (from, to) = (1_700_000_000, 1_700_000_180);
    assert_eq!((snapshot.from, snapshot.to, snapshot.skips.count), (Some(from), Some(to), 0));
    let arrays = plain(&snapshot);
    assert_eq!((&*arrays[0].0, arrays[0].5[0], arrays[0].5[1].is_nan()), ("cpu_load", 1.5, true));
    let memory = ("mem_bw".to_owned(), "socket0".to_owned(), String::new(), from, 60, vec![200.0]);
    assert_eq!(arrays[1], memory);
    let mut tree = Tree::default();
    for (metric, component, part, start, frequency, values) in arrays {
        *tree.at(&metric, &component, &part) = bin::Series { start, frequency, values };
    }
    assert_eq!(bin::write(from, to, &tree), bytes);
}

#[test]
fn a_damaged_count_is_told_from_what_follows_and_a_cut_array_is_left_out() {
    let bytes = hex(BIN);
    let count = 50;
    assert_eq!(bytes[count], 2);
    for (at, flip) in [(count, 1), (count, 0x10), (count + 2, 1)] {
        let mut damaged = bytes.clone();
        damaged[at] ^= flip;
        let snapshot = bin::read(&damaged);
        assert_eq!(plain(&snapshot).len(), 2, "{:?}", snapshot.skips);
        assert_eq!(snapshot.arrays[0].values.len(), 2);
        assert_eq!(snapshot.skips.first[0].why, Reason::Count);
    }
    let cut = bin::read(&bytes[..bytes.len() - 6]);
    assert_eq!((cut.arrays.len(), cut.skips.first[0].why), (1, Reason::Cut));
}

#[test]
fn a_cut_snapshot_full_of_arrays_ends() {
    let mut bytes = bin::MAGIC.to_vec();
    bytes.extend([0; 16]);
    bytes.extend(u32::MAX.to_le_bytes());
    let array = [&[1, 0, b'm'][..], &60_i64.to_le_bytes(), &60_i64.to_le_bytes(), &[0; 4]].concat();
    bytes.extend(array.repeat(1 << 18));
    let snapshot = bin::read(&bytes);
    assert_eq!((snapshot.arrays.len(), snapshot.skips.first[0].why), (0, Reason::Cut));
}

#[test]
fn binary64_snapshots_read() {
    let mut bytes = b"CCMS\x01\0\0\0".to_vec();
    for time in [60_i64, 180] {
        bytes.extend(time.to_le_bytes());
    }
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([1, 0, b'm']);
    for number in [60_i64, 60] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0.1_f64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    let snapshot = bin::read(&bytes);
    assert_eq!(plain(&snapshot), [("m".to_owned(), String::new(), String::new(), 60, 60, vec![0.1])]);
    assert_eq!(snapshot.skips.count, 0);
}

#[test]
fn the_text_of_the_example_reads_and_a_cut_one_up_to_the_cut() {
    let snapshot = json::read(JSON.as_bytes());
    let arrays = plain(&snapshot);
    assert_eq!((snapshot.from, snapshot.to, snapshot.skips.count, arrays.len()), (Some(1000), Some(1060), 0, 2));
    assert_eq!((arrays[0].5[1], arrays[0].5[2].is_nan(), &*arrays[1].1), (0.7, true, "socket0"));
    let cut = json::read(&JSON.as_bytes()[..100]);
    assert_eq!((cut.arrays.len(), cut.skips.first[0].why), (1, Reason::Json));
    for odd in [r#"{"metrics":null}"#, "null", r#"{"x":[1,{}],"children":{"a":{"metrics":null,"children":null}}}"#] {
        assert_eq!(json::read(odd.as_bytes()).skips.count, 0, "{odd}");
    }
    let mut tree = Tree::default();
    *tree.at("cpu_load", "", "") = bin::Series { start: 1000, frequency: 60, values: vec![0.04, f64::NAN] };
    tree.at("m", "a", "b").values.push(1.0);
    let text = json::write(1000, 1060, &tree, Some(1));
    assert!(
        text.starts_with(r#"{"metrics":{"cpu_load":{"frequency":60,"start":1000,"data":[0.0,null]}},"children":{"a""#)
    );
    assert!(text.ends_with("\"from\":1000,\"to\":1060}\n"), "{text}");
}

#[test]
fn deep_levels_and_bad_names_are_passed_over_and_their_neighbours_are_not() {
    let mut deep = String::from(r#"{"metrics":{"m":{"frequency":60,"start":60,"data":[1]}}}"#);
    for _ in 0..3 {
        deep = format!(r#"{{"metrics":{{"":{{"frequency":60,"start":60,"data":[1]}}}},"children":{{"c":{deep}}}}}"#);
    }
    let snapshot = json::read(deep.as_bytes());
    assert_eq!((snapshot.arrays.len(), snapshot.skips.count), (0, 4));
    for frequency in [0, -60, i64::MAX] {
        let text = format!(r#"{{"metrics":{{"m":{{"frequency":{frequency},"start":60,"data":[1]}}}}}}"#);
        assert_eq!(json::read(text.as_bytes()).skips.first[0].why, Reason::Grid);
    }
    assert_eq!(json::read("[".repeat(100_000).as_bytes()).skips.count, 1);
}

proptest! {
    #[test]
    fn any_bytes_survive(mut bytes: Vec<u8>, kind in 0..4) {
        let magic: &[u8] = match kind {
            0 => &bin::MAGIC,
            1 => b"CCMS\x01\0\0\0",
            2 => &wal::MAGIC,
            _ => b"",
        };
        bytes.splice(0..0, magic.iter().copied());
        let (_, skips) = records(&bytes);
        prop_assert!(skips.bytes <= bytes.len() as u64);
        prop_assert!(bin::read(&bytes).skips.bytes <= bytes.len() as u64);
        json::read(&bytes);
    }

    #[test]
    fn what_is_written_reads_back(
        series in prop::collection::btree_map(
            ("[a-c]", "[de]?", "[fg]?"),
            (0_i64..1 << 40, 1_u32..100_000, prop::collection::vec(prop::option::of(any::<f32>()), 1..20)),
            0..12,
        )
    ) {
        let mut tree = Tree::default();
        let mut expected: Plain = Vec::new();
        for ((metric, component, part), (start, frequency, values)) in series {
            let part = if component.is_empty() { String::new() } else { part };
            let values: Vec<f64> = values.iter().map(|value| value.map_or(f64::NAN, f64::from)).collect();
            if expected.iter().all(|known| (&known.0, &known.1, &known.2) != (&metric, &component, &part)) {
                *tree.at(&metric, &component, &part) = bin::Series { start, frequency, values: values.clone() };
                expected.push((metric, component, part, start, frequency, values));
            }
        }
        expected.sort_by(|a, b| (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)));
        let bytes = bin::write(0, 1, &tree);
        let snapshot = bin::read(&bytes);
        prop_assert_eq!(format!("{:?}", plain(&snapshot)), format!("{expected:?}"));
        prop_assert_eq!(snapshot.skips, Skips::default());
        let text = json::write(0, 1, &tree, None);
        let again = plain(&json::read(text.as_bytes()));
        for (found, wanted) in again.iter().zip(&expected) {
            for (found, &wanted) in found.5.iter().zip(&wanted.5) {
                #[expect(clippy::cast_possible_truncation, reason = "the format has binary32")]
                let found = *found as f32;
                let is_same = f64::from(found).to_bits() == wanted.to_bits();
                prop_assert!(is_same || (found.is_nan() && !wanted.is_finite()), "{found} {wanted}");
            }
        }
        prop_assert_eq!(again.len(), expected.len());
    }
}

#[test]
fn values_know_their_length() {
    assert!(Values::F32(&[]).is_empty() && Values::F64(&[]).is_empty());
    assert!(Values::Parsed(vec![1.0]).get(1).is_nan());
}
