//! Snapshot files against the model: what is written is what is read, layers join as the model's do, and no damage reads
//! as a value.

use super::naive::{self, MemoryFile, Model};
use super::*;
use crate::disk::{BLOCK, Disk, Posix, Region};
use crate::format::StoreId;
use crate::format::snapshot::index::HostEntry;
use crate::format::snapshot::stripe::StripeEntry;
use crate::format::snapshot::{SectionEntry, SnapshotHeader};
use crate::model::Lsn;
use crate::slot::Run;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

const DAY: i64 = 20_000 * 86_400;

fn identity(lsn_lo: u64, lsn_hi: u64) -> Identity {
    Identity { store: StoreId([7; 16]), partition: 20_000, lsn_lo: Lsn(lsn_lo), lsn_hi: Lsn(lsn_hi) }
}

fn open(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    Snapshot::open_unlisted(Region::copy_of(bytes))
}

/// Values of one series in consecutive slots of a run.
#[derive(Clone, Debug)]
struct Stroke {
    series: [u8; 4],
    run: u8,
    slots: std::ops::Range<u32>,
    kind: u8,
    seed: i32,
}

impl Stroke {
    fn value(&self, slot: u32) -> f64 {
        let seed = f64::from(self.seed);
        match self.kind {
            0 => seed,
            1 => seed + f64::from(slot),
            2 => (seed + f64::from(slot)) * 0.1,
            3 if slot.is_multiple_of(3) => f64::NAN,
            3 => seed * 0.25,
            4 => [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX][slot as usize % 6],
            _ => f64::from_bits(0x7ff0_0000_0000_0001),
        }
    }

    fn draw(&self, model: &mut Model) {
        let [host, metric, component, part] = self.series;
        let host = (format!("c{}", host % 2), format!("host{host}"));
        let metric = ["cpu_load", "cpu_load_1", "flops"][usize::from(metric)];
        let component = ["", "hwthread1", "hwthread10", "socket0"][usize::from(component)];
        let part = ["", "ü"][usize::from(part)];
        let [start, frequency] = [[-600, 60], [1000, 60], [1000, 10], [86_380, 1]][usize::from(self.run)];
        let run = Run { start: DAY + start, frequency: u32::try_from(frequency).unwrap() };
        for slot in self.slots.clone() {
            let value = self.value(slot);
            if !value.is_nan() && partition_of(run.end_after(slot)) == 20_000 {
                let place = (host.clone(), metric.to_owned(), run, (component.to_owned(), part.to_owned()), slot);
                model.insert(place, value.to_bits());
            }
        }
    }
}

fn strokes() -> impl Strategy<Value = Vec<Stroke>> {
    let series = [0..5_u8, 0..3, 0..4, 0..2];
    let stroke = (series, 0..4_u8, 0..30_u32, 1..20_u32, 0..6_u8, -9..9_i32).prop_map(
        |(series, run, first, len, kind, seed)| Stroke { series, run, slots: first..first + len, kind, seed },
    );
    prop::collection::vec(stroke, 0..25)
}

fn model_of(strokes: &[Stroke]) -> Model {
    let mut model = Model::new();
    for stroke in strokes {
        stroke.draw(&mut model);
    }
    model
}

/// Two hosts, two metrics, all encodings.
fn small() -> Model {
    let stroke = |series, run, slots, kind| Stroke { series, run, slots, kind, seed: 3 };
    model_of(&[
        stroke([0, 0, 0, 0], 0, 10..13, 0),
        stroke([0, 0, 1, 0], 0, 10..14, 2),
        stroke([0, 2, 1, 1], 1, 0..3, 1),
        stroke([1, 0, 1, 0], 1, 4..9, 3),
    ])
}

fn merge(inputs: Vec<Arc<Snapshot>>, result: Identity, hide: Hide) -> Result<Vec<u8>, WriteError> {
    let file = MemoryFile::default();
    let mut merge = Merge::new(inputs, Writer::new(Box::new(file.clone()), result).unwrap(), hide);
    while merge.step()? {}
    let finished = merge.finish()?;
    let bytes = file.content().unwrap();
    assert_eq!(finished.file_len, bytes.len() as u64);
    Ok(bytes)
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(strokes in strokes()) {
        let model = model_of(&strokes);
        let (bytes, finished) = naive::write(&model, identity(1, 9));
        let expected =
            Expected { identity: identity(1, 9), file_len: bytes.len() as u64, header_crc: finished.header_crc };
        let snapshot = Snapshot::open(Region::copy_of(&bytes), &expected).unwrap();
        let (read, errors) = naive::read(&snapshot);
        prop_assert!(errors.is_empty());
        prop_assert_eq!(&read, &model);
        let begins = model.keys().map(|(_, _, run, _, slot)| run.end_after(*slot));
        let ends = model.keys().map(|(_, _, run, _, slot)| run.end_after(*slot + 1));
        let times = begins.min().unwrap_or(DAY)..ends.max().unwrap_or(DAY);
        prop_assert_eq!((snapshot.times(), finished.times), (times.clone(), times));
        prop_assert_eq!((finished.hosts, finished.stripes), (snapshot.host_count(), snapshot.stripe_count()));
        let mut columns: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (host, metric, run, column, _) in model.keys() {
            columns.entry((host, metric, run)).or_default().insert(column);
        }
        let distinct: BTreeSet<_> = columns.into_values().collect();
        let (header, _) = SnapshotHeader::read_from_prefix(&bytes).unwrap();
        prop_assert_eq!(header.column_sets.count.get() as usize, distinct.len());
        for item in snapshot.verify() {
            item.unwrap();
        }
    }

    #[test]
    fn every_value_is_found_by_its_names(strokes in strokes()) {
        let model = model_of(&strokes);
        let snapshot = open(&naive::write(&model, identity(1, 9)).0).unwrap();
        for ((host, metric, run, (component, part), slot), value) in &model {
            let found = snapshot.find(&host.0, &host.1).unwrap();
            let stripes = snapshot.stripes_of(found, metric).unwrap();
            stripes.will_need();
            let stripe = stripes.iter().find(|stripe| stripe.run() == *run).unwrap();
            prop_assert_eq!(stripe.metric(), metric);
            let at = stripe.position(component, part).unwrap();
            prop_assert_eq!(stripe.columns().nth(at), Some((&**component, &**part)));
            let column = stripe.data().unwrap().column(at).unwrap();
            let offset = (slot - stripe.first_slot()) as usize;
            prop_assert_eq!(column.get(offset).to_bits(), *value);
            prop_assert_eq!(column.to_cow()[offset].to_bits(), *value);
            prop_assert_eq!(column.to_cow().len(), stripe.slots() as usize);
            prop_assert!(stripe.position(component, "nothing").is_none());
            prop_assert!(snapshot.stripes_of(found, "nothing").unwrap().is_empty());
        }
        prop_assert!(snapshot.find("c0", "nobody").is_none());
    }

    /// Newest value that is not missing, slot by slot, and not a byte that tells the file was merged.
    #[test]
    fn a_merge_is_the_file_that_writing_everything_at_once_gives(layers in prop::collection::vec(strokes(), 1..5)) {
        let mut union = Model::new();
        let mut inputs = Vec::new();
        for (layer, lsn) in layers.iter().zip((1_u64..).step_by(10)) {
            let model = model_of(layer);
            inputs.push(Arc::new(open(&naive::write(&model, identity(lsn, lsn + 5)).0).unwrap()));
            union.extend(model);
        }
        let result = identity(1, inputs.last().unwrap().identity().lsn_hi.0);
        let merged = merge(inputs, result, Box::new(|_, _, _, _, _, _, _| false)).unwrap();
        prop_assert_eq!(merged, naive::write(&union, result).0);
    }

    /// The structure is hostile, not the device: the checksums fit.
    #[test]
    fn no_bytes_bring_the_reader_down(
        strokes in strokes(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let (mut bytes, _) = naive::write(&model_of(&strokes), identity(1, 9));
        let stripes_end = usize::try_from(open(&bytes).unwrap().header().hosts.offset).unwrap();
        for (index, value, in_shared) in edits {
            // The sections and the used part of the header are small, and say most.
            let at = match index.index(bytes.len() - stripes_end + 160) {
                at if in_shared && at < 160 => at,
                at if in_shared => stripes_end + at - 160,
                _ => index.index(bytes.len()),
            };
            bytes[at] = value;
        }
        reseal(&mut bytes);
        if let Ok(snapshot) = open(&bytes) {
            for (cluster, name, host) in snapshot.hosts() {
                prop_assert_eq!(snapshot.find(cluster, name), Some(host));
                let Ok(stripes) = snapshot.stripes(host) else { continue };
                for stripe in stripes.iter() {
                    let _ = (stripe.metric(), stripe.times(), stripe.columns().count());
                    if let Ok(columns) = stripe.data() {
                        prop_assert_eq!(columns.iter().count(), stripe.columns().len());
                        prop_assert!(columns.iter().all(|column| column.to_cow().len() == stripe.slots() as usize));
                    }
                }
            }
            let _ = snapshot.verify().count();
        }
    }
}

/// Makes all checksums fit that can be found.
fn reseal(bytes: &mut [u8]) {
    fn part(bytes: &[u8], offset: u64, len: u64) -> Option<u32> {
        let begin = usize::try_from(offset).ok()?;
        bytes.get(begin..begin.checked_add(usize::try_from(len).ok()?)?).map(crc32fast::hash)
    }
    let (mut header, _) = SnapshotHeader::read_from_prefix(bytes).unwrap();
    let hosts = usize::try_from(header.hosts.offset.get()).unwrap_or(usize::MAX);
    for at in (0..header.hosts.count.get() as usize).map_while(|host| hosts.checked_add(host * 32)) {
        let entry = at.checked_add(32).and_then(|end| bytes.get(at..end));
        let Some(Ok(mut host)) = entry.map(HostEntry::read_from_bytes) else { break };
        let directory = usize::try_from(host.directory.get()).unwrap_or(usize::MAX);
        let stripes = host.stripes.get().min(1000) as usize;
        for at in (0..stripes).map_while(|stripe| directory.checked_add(stripe * 56)) {
            let entry = at.checked_add(56).and_then(|end| bytes.get(at..end));
            let Some(Ok(mut stripe)) = entry.map(StripeEntry::read_from_bytes) else { break };
            if let Some(crc) = part(bytes, stripe.offset.get(), stripe.len.get()) {
                stripe.crc = crc.into();
                bytes[at..at + 56].copy_from_slice(stripe.as_bytes());
            }
        }
        let len = u64::from(host.stripes.get()) * 56;
        if let Some(crc) = part(bytes, host.directory.get(), len) {
            host.crc = crc.into();
            bytes[at..at + 32].copy_from_slice(host.as_bytes());
        }
    }
    for section in [&mut header.hosts, &mut header.column_sets, &mut header.names] {
        let SectionEntry { offset, len, .. } = *section;
        section.crc = part(bytes, offset.get(), len.get()).unwrap_or(0).into();
    }
    bytes[..160].copy_from_slice(header.as_bytes());
    let crc = crc32fast::hash(&[&bytes[..12], &bytes[16..BLOCK]].concat());
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Computed apart from this program; what comes behind the header block.
#[test]
fn file_bytes_are_pinned() {
    let file = MemoryFile::default();
    let mut writer = Writer::new(Box::new(file.clone()), identity(1, 9)).unwrap();
    let column = |component: &str, values: [f64; 3]| ColumnData {
        component: component.into(),
        subcomponent: "".into(),
        values: values.to_vec(),
    };
    let columns = vec![column("a", [0.1, -f64::NAN, 0.3]), column("c", [7.0; 3]), column("b", [0.5, 1.5, f64::NAN])];
    let run = Run { start: DAY, frequency: 60 };
    writer.host("x", "h", &mut [StripeData { metric: "m".into(), run, first_slot: 5, slots: 3, columns }]).unwrap();
    writer.finish().unwrap();

    let mut expected: Vec<u8> = vec![1, 2, 3, 0, 0, 0, 0, 0];
    let floats = [0x3fb9_9999_9999_999a_u64, 0x7ff8_0000_0000_0000, 0x3fd3_3333_3333_3333];
    expected.extend(floats.iter().flat_map(|bits| bits.to_le_bytes()));
    expected.extend([0x3f00_0000_u32, 0x3fc0_0000, 0x7fc0_0000, 0].iter().flat_map(|bits| bits.to_le_bytes()));
    expected.extend(0x401c_0000_0000_0000_u64.to_le_bytes());
    // The directory: metric, column set, start, frequency, first slot, slots, columns, offset, len, checksum.
    expected.extend([4_u32, 0].iter().flat_map(|field| field.to_le_bytes()));
    expected.extend(DAY.to_le_bytes());
    expected.extend([60_u32, 5, 3, 3].iter().flat_map(|field| field.to_le_bytes()));
    expected.extend([4096_u64, 56].iter().flat_map(|field| field.to_le_bytes()));
    expected.extend([0x4f30_13a4_u32, 0].iter().flat_map(|field| field.to_le_bytes()));
    // The host index: cluster, host, directory, stripes, first stripe, checksum.
    expected.extend([5_u32, 6].iter().flat_map(|field| field.to_le_bytes()));
    expected.extend(4152_u64.to_le_bytes());
    expected.extend([1_u32, 0, 0xff0f_f327_u32, 0].iter().flat_map(|field| field.to_le_bytes()));
    // Column sets, then names: offsets, then columns or bytes.
    expected.extend([0_u32, 3, 0, 1, 2, 1, 3, 1].iter().flat_map(|field| field.to_le_bytes()));
    expected.extend([0_u32, 1, 1, 2, 3, 4, 5, 6].iter().flat_map(|field| field.to_le_bytes()));
    expected.extend(b"abcmxh");
    assert_eq!(file.content().unwrap()[BLOCK..], expected);
}

#[test]
fn a_resealed_file_is_the_file() {
    let (bytes, _) = naive::write(&small(), identity(1, 9));
    let mut resealed = bytes.clone();
    reseal(&mut resealed);
    assert_eq!(resealed, bytes);
}

#[test]
fn flipping_any_byte_is_an_error_or_no_change_and_verify_tells() {
    let model = small();
    let (bytes, _) = naive::write(&model, identity(1, 9));
    for at in (0..bytes.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
        for bit in [0x01, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            let Ok(snapshot) = open(&flipped) else { continue };
            let (read, errors) = naive::read(&snapshot);
            assert!(read.iter().all(|(place, value)| model.get(place) == Some(value)), "byte {at}");
            assert!(!errors.is_empty() || read == model, "byte {at}");
            assert!(snapshot.verify().any(|item| item.is_err()), "byte {at} is not verified");
        }
    }
}

#[test]
fn cutting_or_lengthening_a_file_is_an_error() {
    let (mut bytes, _) = naive::write(&small(), identity(1, 9));
    for len in (0..bytes.len()).step_by(if cfg!(miri) { 509 } else { 1 }) {
        assert!(open(&bytes[..len]).is_err(), "cut at {len}");
    }
    bytes.push(0);
    assert!(open(&bytes).is_err());
    assert!(open(&vec![0; bytes.len()]).is_err());
}

#[test]
fn a_damaged_stripe_names_itself_and_leaves_the_others() {
    let model = small();
    let (mut bytes, _) = naive::write(&model, identity(1, 9));
    let snapshot = open(&bytes).unwrap();
    let host = snapshot.find("c1", "host1").unwrap();
    let offset = snapshot.stripes(host).unwrap().iter().next().unwrap().data_range().start;
    bytes[usize::try_from(offset).unwrap() + 8] ^= 1;
    let damaged = open(&bytes).unwrap();
    let stripe = damaged.stripes(host).unwrap().iter().next().unwrap();
    for _ in 0..2 {
        let text = stripe.data().unwrap_err().to_string();
        let begin = DAY + 1000 + 4 * 60;
        let named = format!("metric cpu_load of host host1 of cluster c1 from {begin} at offset {offset}: checksum");
        assert!(text.starts_with(&named), "{text}");
    }
    let (read, errors) = naive::read(&damaged);
    assert_eq!(errors.len(), 1);
    assert!(read.len() < model.len() && read.keys().all(|(host, ..)| host.1 == "host0"));
}

#[test]
fn a_file_that_is_not_the_listed_one_is_refused() {
    let (bytes, finished) = naive::write(&small(), identity(1, 9));
    let listed = Expected { identity: identity(1, 9), file_len: bytes.len() as u64, header_crc: finished.header_crc };
    let open = |expected: &Expected| Snapshot::open(Region::copy_of(&bytes), expected);
    assert!(open(&listed).is_ok());
    let other = Identity { store: StoreId([8; 16]), ..listed.identity };
    assert!(open(&Expected { identity: other, ..listed }).unwrap_err().to_string().contains("belongs to store 0707"));
    assert!(open(&Expected { identity: identity(1, 8), ..listed }).is_err());
    assert!(open(&Expected { file_len: listed.file_len + 1, ..listed }).is_err());
    assert!(open(&Expected { header_crc: listed.header_crc ^ 1, ..listed }).is_err());
}

#[test]
fn columns_are_slices_of_the_mapped_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.snap");
    let mut writer = Writer::new(Posix.create(&path).unwrap(), identity(1, 9)).unwrap();
    let column =
        |component: &str, values: Vec<f64>| ColumnData { component: component.into(), subcomponent: "".into(), values };
    let (run, metric) = (Run { start: DAY, frequency: 60 }, Arc::from("m"));
    let columns = vec![column("a", vec![0.1, f64::NAN, 0.3]), column("b", vec![0.5, 1.5, f64::NAN])];
    writer.host("c", "h", &mut [StripeData { metric, run, first_slot: 5, slots: 3, columns }]).unwrap();
    let finished = writer.finish().unwrap();
    let region = Posix.map(&path).unwrap();
    assert_eq!(region.len() as u64, finished.file_len);
    let snapshot = Snapshot::open_unlisted(region.clone()).unwrap();
    let stripe = snapshot.stripes(snapshot.find("c", "h").unwrap()).unwrap().iter().next().unwrap();
    let data = stripe.data().unwrap();
    let (Some(Column::F64(wide)), Some(Column::F32(narrow))) = (data.column(0), data.column(1)) else {
        panic!("other encodings: {data:?}");
    };
    assert!(region.as_ptr_range().contains(&wide.as_ptr().cast()));
    assert!(region.as_ptr_range().contains(&narrow.as_ptr().cast()));
    assert!(
        matches!(data.column(0).unwrap().to_cow(), std::borrow::Cow::Borrowed(same) if same.as_ptr() == wide.as_ptr())
    );
    assert_eq!((wide[0], wide[2], narrow[1]), (0.1, 0.3, 1.5));
    assert!(wide[1].is_nan() && narrow[2].is_nan());
    assert_eq!((stripe.first_slot(), stripe.slots()), (5, 3));
    assert!(data.column(2).is_none());
}

#[test]
fn columns_and_slots_without_values_are_not_written() {
    let file = MemoryFile::default();
    let mut writer = Writer::new(Box::new(file.clone()), identity(1, 9)).unwrap();
    let column = |component: &str, values: [f64; 4]| ColumnData {
        component: component.into(),
        subcomponent: "".into(),
        values: values.to_vec(),
    };
    let nan = f64::NAN;
    let stripe = |metric: &str, columns| StripeData {
        metric: metric.into(),
        run: Run { start: DAY, frequency: 60 },
        first_slot: 0,
        slots: 4,
        columns,
    };
    let mut stripes = [
        stripe("x", vec![column("b", [nan, 2.0, nan, nan]), column("a", [nan; 4]), column("", [nan, 7.0, 7.0, nan])]),
        stripe("nothing", vec![column("a", [nan; 4])]),
    ];
    writer.host("c", "empty", &mut [stripe("x", vec![column("a", [nan; 4])])]).unwrap();
    writer.host("c", "h", &mut stripes).unwrap();
    writer.finish().unwrap();
    let snapshot = open(&file.content().unwrap()).unwrap();
    assert_eq!((snapshot.host_count(), snapshot.stripe_count()), (1, 1));
    let stripe = snapshot.stripes(snapshot.find("c", "h").unwrap()).unwrap().iter().next().unwrap();
    assert_eq!((stripe.first_slot(), stripe.slots()), (1, 2));
    assert_eq!(stripe.columns().collect::<Vec<_>>(), [("", ""), ("b", "")]);
    assert_eq!(stripe.data().unwrap().column(0), Some(Column::Constant { value: 7.0, slots: 2 }));
}

#[test]
fn what_cannot_be_written_is_refused_and_so_is_all_that_follows() {
    let column = |component: &str, slots| ColumnData {
        component: component.into(),
        subcomponent: "".into(),
        values: vec![1.0; slots],
    };
    let run = Run { start: DAY, frequency: 60 };
    let stripe = |run, columns| StripeData { metric: "m".into(), run, first_slot: 0, slots: 2, columns };
    let good = || stripe(run, vec![column("a", 2)]);
    let refusal = |host: &str, mut stripes: Vec<StripeData>| {
        let file = MemoryFile::default();
        let mut writer = Writer::new(Box::new(file.clone()), identity(1, 9)).unwrap();
        writer.host("c", "h1", &mut [good()]).unwrap();
        let error = writer.host("c", host, &mut stripes).unwrap_err();
        assert!(matches!(writer.host("c", "h9", &mut [good()]), Err(WriteError::Broken)));
        assert!(matches!(writer.finish(), Err(WriteError::Broken)));
        assert_eq!(file.content(), None);
        error
    };
    assert!(matches!(refusal("h1", vec![good()]), WriteError::HostOrder { .. }));
    assert!(matches!(refusal("h0", vec![good()]), WriteError::HostOrder { .. }));
    assert!(matches!(refusal("h2", vec![good(), good()]), WriteError::StripeTwice { .. }));
    let twice = stripe(run, vec![column("a", 2), column("a", 2)]);
    assert!(matches!(refusal("h2", vec![twice]), WriteError::ColumnTwice { .. }));
    let ragged = stripe(run, vec![column("a", 2), column("b", 3)]);
    assert!(matches!(refusal("h2", vec![ragged]), WriteError::Ragged { values: 3, slots: 2, .. }));
    let outside = stripe(Run { start: DAY - 1, frequency: 60 }, vec![column("a", 2)]);
    assert!(matches!(refusal("h2", vec![outside]), WriteError::OtherDay { .. }));
    let reversed = Writer::new(Box::new(MemoryFile::default()), identity(9, 1));
    assert!(matches!(reversed, Err(WriteError::Identity(_))));
}

#[test]
fn what_a_merge_hides_is_gone_from_that_input_alone() {
    let layer = |seed, slots| {
        let stroke = |metric| Stroke { series: [0, metric, 0, 0], run: 1, slots: Clone::clone(&slots), kind: 1, seed };
        model_of(&[stroke(0), stroke(2)])
    };
    let (old, new) = (layer(1, 0..8), layer(100, 6..12));
    let inputs = [(&old, identity(1, 5)), (&new, identity(6, 9))];
    let inputs = inputs.map(|(model, identity)| Arc::new(open(&naive::write(model, identity).0).unwrap())).to_vec();
    let hide = |input, _: &str, host: &str, metric: &str, _: &str, _: &str, run: Run| {
        input == 0 && host == "host0" && metric == "flops" && run.frequency == 60
    };
    let merged = merge(inputs, identity(1, 9), Box::new(hide)).unwrap();
    let mut expected = old;
    expected.retain(|(_, metric, ..), _| metric != "flops");
    expected.extend(new);
    assert_eq!(naive::read(&open(&merged).unwrap()).0, expected);
}

#[test]
fn a_merge_of_what_are_no_neighbours_or_damaged_gives_no_file() {
    let hide = || -> Hide { Box::new(|_, _, _, _, _, _, _| false) };
    let of = |identity| naive::write(&small(), identity).0;
    let input = |bytes: &[u8]| Arc::new(open(bytes).unwrap());
    let (first, second) = (of(identity(1, 5)), of(identity(6, 9)));
    let other_day = naive::write(&Model::new(), Identity { partition: 20_001, ..identity(6, 9) }).0;
    let refused = [
        vec![input(&second), input(&first)],
        vec![input(&first), input(&first)],
        vec![input(&first), input(&other_day)],
        vec![input(&first)],
        vec![],
    ];
    for inputs in refused {
        assert!(matches!(merge(inputs, identity(1, 9), hide()), Err(WriteError::NotNeighbours)));
    }
    let mut damaged = second;
    damaged[BLOCK + 8] ^= 1;
    let file = MemoryFile::default();
    let writer = Writer::new(Box::new(file.clone()), identity(1, 9)).unwrap();
    let mut merge = Merge::new(vec![input(&first), input(&damaged)], writer, hide());
    let error = merge.step().unwrap_err();
    assert!(matches!(error, WriteError::Input { input: 1, .. }), "{error}");
    assert!(matches!(merge.step(), Err(WriteError::Broken)));
    assert!(merge.finish().is_err());
    assert_eq!(file.content(), None);
}

#[test]
fn an_open_file_costs_a_bit_a_host_and_a_bit_a_stripe() {
    let file = MemoryFile::default();
    let mut writer = Writer::new(Box::new(file.clone()), identity(1, 9)).unwrap();
    let column = ColumnData { component: "".into(), subcomponent: "".into(), values: vec![1.0] };
    let run = Run { start: DAY, frequency: 60 };
    let stripe = |metric: &str| StripeData {
        metric: metric.into(),
        run,
        first_slot: 0,
        slots: 1,
        columns: vec![column.clone()],
    };
    for host in 0..1000 {
        writer.host("c", &format!("{host:04}"), &mut [stripe("a"), stripe("b"), stripe("c")]).unwrap();
    }
    writer.finish().unwrap();
    let snapshot = open(&file.content().unwrap()).unwrap();
    assert_eq!((snapshot.host_count(), snapshot.stripe_count()), (1000, 3000));
    assert!(snapshot.heap_bytes() <= (1000 + 3000) / 8 + 16, "{}", snapshot.heap_bytes());
}
