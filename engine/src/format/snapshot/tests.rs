//! The header block: pinned bytes, and headers that say what cannot be.

use super::*;

fn example() -> Header {
    let section = |offset, len, count, crc| Section { offset, len, count, crc };
    Header {
        identity: Identity { store: StoreId([0x11; 16]), partition: 20_000, lsn_lo: Lsn(0x102), lsn_hi: Lsn(0x304) },
        file_len: 0x10b4,
        times: 1_728_000_060..1_728_000_180,
        stripes: 1,
        hosts: section(0x1058, 32, 1, 0xa1a2_a3a4),
        column_sets: section(0x1078, 16, 1, 0xb1b2_b3b4),
        names: section(0x1088, 44, 3, 0xc1c2_c3c4),
    }
}

fn example_bytes() -> Vec<u8> {
    let mut bytes = b"kymo-snp\x01\0\0\0".to_vec();
    bytes.extend([0; 4]);
    bytes.extend([0x11; 16]);
    for field in [20_000_u64, 0x102, 0x304, 0x10b4, 1_728_000_060, 1_728_000_180] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    for (offset, len, count, crc) in
        [(0x1058_u64, 32_u64, 1_u32, 0xa1a2_a3a4_u32), (0x1078, 16, 1, 0xb1b2_b3b4), (0x1088, 44, 3, 0xc1c2_c3c4)]
    {
        bytes.extend(offset.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(crc.to_le_bytes());
    }
    bytes.resize(BLOCK, 0);
    let crc = crc32fast::hash(&[&bytes[..12], &bytes[16..]].concat());
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn header_bytes_are_pinned() {
    let (block, crc) = example().to_block();
    assert_eq!(block[..], example_bytes()[..]);
    assert_eq!(crc, 0x4344_3b9c);
}

#[test]
fn header_reads_back_and_every_flipped_byte_is_refused() {
    let (block, crc) = example().to_block();
    assert_eq!(Header::check(&block, 0x10b4), Ok((example(), crc)));
    assert_eq!(store_of(&block), Some(StoreId([0x11; 16])));
    for at in (0..block.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
        let mut flipped = block;
        flipped[at] ^= 0x40;
        assert!(Header::check(&flipped, 0x10b4).is_err(), "byte {at}");
        assert_eq!(store_of(&flipped), None, "byte {at}");
    }
    for len in (0..block.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
        assert!(Header::check(&block[..len], 0x10b4).is_err(), "cut at {len}");
    }
    assert!(matches!(Header::check(&block, 0x10b3), Err(FormatError::Short { .. })));
    assert!(matches!(Header::check(&block, 0x10b5), Err(FormatError::Field(_))));
}

#[test]
fn unknown_version_is_named() {
    let (mut block, _) = example().to_block();
    block[8] = 9;
    let crc = checksum_around(&block, 12);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
    let found = Header::check(&block, 0x10b4).unwrap_err();
    assert_eq!(found, FormatError::Version { kind: "snapshot", found: 9, known: VERSION });
}

#[test]
fn sections_that_overlap_or_leave_the_file_are_refused() {
    let edits: [fn(&mut Header); 14] = [
        |header| header.hosts.offset -= 8,
        |header| header.hosts.offset = u64::MAX - 7,
        |header| header.hosts.count = 2,
        |header| header.hosts.len = u64::MAX,
        |header| header.column_sets.offset -= 8,
        |header| header.column_sets.count = u32::MAX,
        |header| header.column_sets.len = u64::MAX - 8,
        |header| header.names.offset += 8,
        |header| header.names.count = 11,
        |header| std::mem::swap(&mut header.names, &mut header.column_sets),
        |header| header.stripes = u32::MAX,
        |header| header.identity.partition = i64::MAX,
        |header| header.times.end = header.times.start - 1,
        |header| header.identity.lsn_lo = Lsn(0x305),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut header = example();
        edit(&mut header);
        assert!(matches!(Header::check(&header.to_block().0, 0x10b4), Err(FormatError::Field(_))), "edit {at}");
    }
}

#[test]
fn every_slot_of_a_stripe_begins_in_its_partition() {
    let identity = example().identity;
    let day = 1_728_000_000;
    assert_eq!(identity.day(), Some(day..day + 86_400));
    assert_eq!((partition_of(day), partition_of(day - 1), partition_of(-1)), (20_000, 19_999, -1));
    let times = |start, frequency, first, slots| identity.times(Run { start, frequency }, first, slots);
    assert_eq!(times(day - 30, 60, 1, 2), Some(day + 30..day + 150));
    assert_eq!(times(day - 30, 60, 0, 2), None);
    assert_eq!(times(day, 1, 0, 86_400), Some(day..day + 86_400));
    assert_eq!(times(day, 1, 0, 86_401), None);
    assert_eq!(times(day, u32::MAX, 0, 1), Some(day..day + i64::from(u32::MAX)));
    assert_eq!(times(i64::MIN, u32::MAX, u32::MAX, u32::MAX), None);
    assert_eq!(times(day, 0, 0, 1), None);
    assert_eq!(times(day, 60, 0, 0), None);
}
