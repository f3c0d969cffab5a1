//! Any bytes are shown or refused, and never end the process; what verifies is shown behind what does not.

use super::*;
use crate::disk::BLOCK;
use crate::format::StoreId;
use crate::format::frame::write::{self, RowValues};
use crate::format::frame::{FRAME_HEADER_LEN, Key, Place};
use crate::format::manifest::Manifest;
use crate::format::segment::Segment;
use crate::model::Lsn;
use proptest::prelude::*;

const STORE: StoreId = StoreId([7; 16]);

#[derive(Default)]
struct Seen {
    items: Vec<Item>,
    samples: Vec<(String, i64, f64)>,
}

impl Sink for Seen {
    fn item(&mut self, item: &Item) -> io::Result<()> {
        self.items.push(item.clone());
        Ok(())
    }

    fn sample(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        self.samples.push((sample.host.to_owned(), sample.time, sample.value));
        Ok(())
    }
}

impl Seen {
    fn count(&self, kind: &str) -> usize {
        self.items.iter().filter(|item| item.kind == kind).count()
    }
}

/// A segment of four frames; the first defines, each has one row.
fn segment() -> Vec<u8> {
    let header = Segment { store: STORE, seq: 3, first_lsn: Lsn(10), len: 8 * BLOCK as u64, seal: None };
    let mut bytes = header.to_block().to_vec();
    for at in 0..4_u32 {
        let mut frame = vec![0; FRAME_HEADER_LEN];
        if at == 0 {
            let key = Key { metric: "load", component: "", subcomponent: "" };
            write::layout(&mut frame, 1, 0, [key].into_iter());
            write::host(&mut frame, 1, "alex", "n1");
        }
        let values = RowValues { start: 0, frequency: 60, slot: at, ordinals: &[0], values: &[f64::from(at)] };
        write::row(&mut frame, 1, 1, &values);
        let used = frame.len();
        frame.resize(BLOCK, 0);
        let place = Place { store: STORE, seq: 3, offset: bytes.len() as u64 };
        let lsn = 10 + u64::from(at);
        write::seal(&mut frame, used, place, Lsn(lsn), 1, Lsn(lsn - 1));
        bytes.extend(frame);
    }
    bytes.resize(8 * BLOCK, 0);
    bytes
}

fn see(bytes: &[u8], show: Show) -> (Seen, u64) {
    let mut seen = Seen::default();
    let mut out = Out { sink: &mut seen, show, damage: 0 };
    segment::inspect(bytes, &mut out).unwrap();
    let damage = out.damage;
    (seen, damage)
}

#[test]
fn a_whole_segment_is_shown_and_its_rows_are_samples() {
    let (seen, damage) = see(&segment(), Show::Items);
    assert_eq!((seen.count("frame"), seen.count("row"), seen.count("end"), damage), (4, 4, 1, 0));
    let (seen, _) = see(&segment(), Show::Samples);
    let expected: Vec<_> = (0..4).map(|at| ("n1".to_owned(), i64::from(at) * 60 + 30, f64::from(at))).collect();
    assert_eq!(seen.samples, expected);
}

#[test]
fn frames_behind_damage_are_found_and_the_damage_has_its_place() {
    let mut bytes = segment();
    bytes[2 * BLOCK + 100] ^= 1;
    let (seen, damage) = see(&bytes, Show::Items);
    assert_eq!((seen.count("frame"), damage), (3, 1));
    let damage = seen.items.iter().find(|item| item.kind == "damage").unwrap();
    assert_eq!(damage.offset, 2 * BLOCK as u64);
}

#[test]
fn frames_are_found_without_the_header() {
    let mut bytes = segment();
    bytes[40] ^= 1;
    let (seen, damage) = see(&bytes, Show::Items);
    assert_eq!((seen.count("header"), seen.count("frame"), damage), (1, 4, 1));
    bytes[..BLOCK].fill(0);
    assert_eq!(see(&bytes, Show::Samples).0.samples.len(), 4);
}

#[test]
fn a_torn_last_frame_is_no_damage() {
    let mut bytes = segment();
    bytes[5 * BLOCK - 1] ^= 1;
    bytes[4 * BLOCK + 8] ^= 1;
    let (seen, damage) = see(&bytes, Show::Items);
    assert_eq!((seen.count("frame"), seen.count("torn"), damage), (3, 1, 0));
}

proptest! {
    #[test]
    fn any_flipped_byte_of_a_segment_gives_no_other_sample(at in 0..5 * BLOCK, bit in 0..8) {
        let good = see(&segment(), Show::Samples).0.samples;
        let mut bytes = segment();
        bytes[at] ^= 1_u8 << bit;
        let (seen, _) = see(&bytes, Show::Samples);
        prop_assert!(seen.samples.iter().all(|sample| good.contains(sample)));
    }

    #[test]
    fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..9000), magic in 0..4) {
        let magic: &[u8] = match magic {
            0 => b"kymo-wal",
            1 => b"kymo-snp",
            2 => b"kymo-man",
            _ => b"",
        };
        let len = magic.len().min(bytes.len());
        bytes[..len].copy_from_slice(&magic[..len]);
        let mut seen = Seen::default();
        for show in [Show::Items, Show::Samples] {
            let mut out = Out { sink: &mut seen, show, damage: 0 };
            segment::inspect(&bytes, &mut out).unwrap();
            manifest::inspect(&bytes, &mut out).unwrap();
            snapshot::inspect(&Region::copy_of(&bytes), &mut out).unwrap();
        }
        prop_assert!(seen.samples.is_empty());
    }
}

#[test]
fn a_manifest_is_shown_although_its_checksum_does_not_fit() {
    let mut bytes = Manifest::new(STORE).to_bytes();
    bytes[30] ^= 1;
    let mut seen = Seen::default();
    let mut out = Out { sink: &mut seen, show: Show::Items, damage: 0 };
    manifest::inspect(&bytes, &mut out).unwrap();
    assert_eq!(out.damage, 1);
    assert_eq!((seen.count("header"), seen.count("damage")), (1, 1));
}
