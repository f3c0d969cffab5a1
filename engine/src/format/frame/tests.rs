//! The bytes of frames: pinned by hand, read back, damaged.

#![expect(clippy::arithmetic_side_effects, reason = "test code: plain, and free to panic")]

use super::write::RowValues;
use super::*;
use proptest::prelude::*;

const PLACE: Place = Place { store: StoreId([0x11; 16]), seq: 3, offset: 0x2000 };

fn key<'a>(metric: &'a str, component: &'a str, subcomponent: &'a str) -> Key<'a> {
    Key { metric, component, subcomponent }
}

/// A sealed frame with these records, aligned as in a buffer of the disk.
fn sealed(records: &[u8], first_lsn: u64, rows: u32) -> Vec<u64> {
    let used = FRAME_HEADER_LEN + records.len();
    let mut words = vec![0_u64; used.next_multiple_of(BLOCK) / 8];
    let frame: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    frame[FRAME_HEADER_LEN..used].copy_from_slice(records);
    write::seal(frame, used, PLACE, Lsn(first_lsn), rows, Lsn(first_lsn - 1));
    words
}

fn example() -> Vec<u8> {
    let mut records = Vec::new();
    write::layout(&mut records, 1, 0, [key("load", "", ""), key("ipc", "core0", "t1")].into_iter());
    write::host(&mut records, 1, "c", "n01");
    let range = RowValues { start: -30, frequency: 60, slot: 7, ordinals: &[0, 2], values: &[1.5, -2.0] };
    write::row(&mut records, 1, 1, &range);
    let list = RowValues { start: 30, frequency: 10, slot: 0, ordinals: &[1, 9, 300], values: &[0.5, 1.0, 2.0] };
    write::row(&mut records, 1, 1, &list);
    write::free(&mut records, &["c".to_owned(), "n01".to_owned()], 99);
    records
}

#[test]
fn frame_bytes_are_pinned() {
    let word = |value: u32| value.to_le_bytes();
    let words = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let long = |value: i64| value.to_le_bytes();
    let values = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut records: Vec<u8> = Vec::new();
    // A layout of two keys: 24 bytes of header, keys of 10 and 16 bytes, padding to 56.
    records.extend(words(&[1, 56, 1, 0, 2, 0]));
    records.extend(b"\x04\0\0\0\0\0load\x03\0\x05\0\x02\0ipccore0t1\0\0\0\0\0\0");
    // A host.
    records.extend(words(&[2, 24, 1]));
    records.extend(b"\x01\0\x03\0cn01\0\0\0\0");
    // A range of three with a hole in the middle.
    records.extend(words(&[3, 64, 1, 1]));
    records.extend(long(-30));
    records.extend(words(&[60, 7, 0, 3]));
    records.extend(values(&[1.5, f64::NAN, -2.0]));
    // A list: three ordinals, padding, three values.
    records.extend(words(&[4, 80, 1, 1]));
    records.extend(long(30));
    records.extend(words(&[10, 0, 0, 3, 1, 9, 300, 0]));
    records.extend(values(&[0.5, 1.0, 2.0_f64]));
    // A free of two names.
    records.extend(words(&[5, 32]));
    records.extend(long(99));
    records.extend(words(&[2, 0]));
    records.extend(b"\x01\0c\x03\0n01");
    assert_eq!(example(), records);

    let mut frame = b"kfrm".to_vec();
    frame.extend(word(0));
    frame.extend(word(4096));
    frame.extend(word(72 + 256));
    frame.extend([0x11; 16]);
    for field in [3, 0x2000, 42, 41] {
        frame.extend(long(field));
    }
    frame.extend(words(&[3, 0]));
    frame.extend(&records);
    frame.resize(4096, 0);
    let crc = checksum_around(&frame, 4);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    let written = sealed(&records, 42, 3);
    assert_eq!(bytemuck::cast_slice::<u64, u8>(&written), frame);
}

/// Everything that a frame says, as text.
fn told(bytes: &[u8], place: Place) -> Result<Vec<String>, FormatError> {
    let frame = Frame::check(bytes, place)?;
    let records = frame.records().map(|record| Ok(format!("{:?}", record?)));
    let header = (frame.padded_len(), frame.first_lsn(), frame.next_lsn(), frame.durable_lsn());
    std::iter::once(Ok(format!("{header:?}"))).chain(records).collect()
}

#[test]
fn a_flipped_byte_a_cut_and_another_place_are_refused() {
    let words = sealed(&example(), 42, 3);
    let bytes: &[u8] = bytemuck::cast_slice(&words);
    assert_eq!(told(bytes, PLACE).unwrap().len(), 6);
    let mut flipped = words.clone();
    for at in (0..bytes.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
        bytemuck::cast_slice_mut::<u64, u8>(&mut flipped)[at] ^= 1 << (at % 8);
        assert!(Frame::check(bytemuck::cast_slice(&flipped), PLACE).is_err(), "byte {at}");
        bytemuck::cast_slice_mut::<u64, u8>(&mut flipped)[at] ^= 1 << (at % 8);
    }
    assert!(
        (0..bytes.len())
            .step_by(if cfg!(miri) { 509 } else { 1 })
            .all(|len| Frame::check(&bytes[..len], PLACE).is_err())
    );
    for place in [Place { seq: 4, ..PLACE }, Place { offset: 0x1000, ..PLACE }] {
        assert_eq!(Frame::check(bytes, place).unwrap_err(), MISPLACED);
    }
    let place = Place { store: StoreId([0x12; 16]), ..PLACE };
    assert!(matches!(Frame::check(bytes, place), Err(FormatError::OtherStore(_))));
}

#[test]
fn records_that_lie_under_a_good_checksum_end_the_frame_with_an_error() {
    let whole = example();
    for at in (0..whole.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
        for bit in 0..8 {
            let mut records = whole.clone();
            records[at] ^= 1 << bit;
            // It need not be refused, for names and values may be anything; it must be read to the end.
            let words = sealed(&records, 42, 3);
            drop(told(bytemuck::cast_slice(&words), PLACE));
        }
    }
    for len in (0..whole.len()).filter(|&len| ![0, 56, 80, 144, 224].contains(&len)) {
        let words = sealed(&whole[..len], 42, 3);
        assert!(told(bytemuck::cast_slice(&words), PLACE).is_err(), "cut at {len}");
    }
}

proptest! {
    #[test]
    fn a_row_reads_back_bit_by_bit_and_is_missing_elsewhere(
        row in prop::collection::btree_map(0_u32..60, any::<i32>(), 1..20),
        spread in prop::sample::select(vec![1_u32, 2, 70_000_000]),
        (start, frequency, slot) in (any::<i64>(), 1_u32.., any::<u32>()),
    ) {
        let ordinals: Vec<u32> = row.keys().map(|&ordinal| ordinal * spread).collect();
        let values: Vec<f64> = row.values().map(|&value| f64::from(value) / 7.0).collect();
        let written = RowValues { start, frequency, slot, ordinals: &ordinals, values: &values };
        let mut records = Vec::new();
        write::row(&mut records, 5, 6, &written);
        prop_assert_eq!(records.len(), written.record_len());
        let words = sealed(&records, 1, 1);
        let bytes: &[u8] = bytemuck::cast_slice(&words);
        let (offset, record) = Frame::check(bytes, PLACE).unwrap().records().next().unwrap().unwrap();
        prop_assert_eq!(offset, FRAME_HEADER_LEN);
        let Record::Row(read) = record else { panic!("not a row") };
        prop_assert_eq!((read.host(), read.layout(), read.start()), (5, 6, start));
        prop_assert_eq!((read.frequency(), read.slot()), (frequency, slot));
        prop_assert_eq!(read.last_ordinal(), *ordinals.last().unwrap());
        let present: Vec<(u32, u64)> = read.present().map(|(ordinal, value)| (ordinal, value.to_bits())).collect();
        let expected: Vec<(u32, u64)> = ordinals.iter().copied().zip(values.iter().map(|v| v.to_bits())).collect();
        prop_assert_eq!(&present, &expected);
        for ordinal in 0..60 {
            let value = ordinals.iter().position(|&known| known == ordinal).map_or(f64::NAN, |at| values[at]);
            prop_assert_eq!(read.value(ordinal).to_bits(), value.to_bits());
        }
    }

    #[test]
    fn names_read_back(
        keys in prop::collection::vec(("[a-zä]{1,9}", "[a-z0-9]{0,9}", "\\PC{0,9}"), 0..9),
        selector in prop::collection::vec("\\PC{0,9}", 0..=4),
        to in any::<i64>(),
    ) {
        let mut records = Vec::new();
        let as_keys = || keys.iter().map(|(metric, component, subcomponent)| key(metric, component, subcomponent));
        write::layout(&mut records, 7, 6, as_keys());
        prop_assert_eq!(records.len(), write::layout_len(as_keys()));
        write::free(&mut records, &selector, to);
        let words = sealed(&records, 1, 1);
        let frame = Frame::check(bytemuck::cast_slice(&words), PLACE).unwrap();
        let read: Vec<Record<'_>> = frame.records().map(|record| record.unwrap().1).collect();
        let [Record::Layout { id: 7, parent: 6, keys: read_keys }, Record::Free { to: read_to, selector: read_names }] =
            &read[..]
        else {
            panic!("{read:?}")
        };
        prop_assert!(as_keys().eq(read_keys.iter().copied()));
        prop_assert_eq!((*read_to, read_names.iter().eq(selector.iter())), (to, true));
    }

    #[test]
    fn any_bytes_as_records_are_an_error_or_records(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let words = sealed(&bytes, 1, 1);
        drop(told(bytemuck::cast_slice(&words), PLACE));
    }
}
