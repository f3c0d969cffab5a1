//! Small valid files, made by the engine's writers: what seeds and structure-aware targets start from.

use kymo_engine::disk::{BLOCK, NewFile};
use kymo_engine::format::StoreId;
use kymo_engine::format::frame::{FRAME_HEADER_LEN, Key, Place, write};
use kymo_engine::format::manifest::{Free, LiveSnapshot, Loss, Manifest};
use kymo_engine::format::segment::{Seal, Segment};
use kymo_engine::model::Lsn;
use kymo_engine::slot::Run;
use kymo_engine::snapshot::{ColumnData, Identity, StripeData, Writer};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

const STORE: StoreId = StoreId([7; 16]);
const SEQ: u64 = 3;
const DAY: i64 = 20_000;
/// Begin of the day that the samples lie in, in unix seconds.
const MIDNIGHT: i64 = DAY * 86_400;

/// One value as it was given to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The LSN of its row.
    pub lsn: u64,
    /// First instant of slot 0 of the run, in unix seconds.
    pub start: i64,
    /// The slot of the run.
    pub slot: u32,
    /// The ordinal of the series.
    pub ordinal: u32,
    /// The bits of the value.
    pub bits: u64,
}

/// A frame of [`WrittenSegment`].
#[derive(Clone, Debug)]
pub struct WrittenFrame {
    /// Its bytes in the segment.
    pub range: Range<usize>,
    /// What was written into it, in order.
    pub facts: Vec<Fact>,
}

/// A valid segment, and what was written into it.
#[derive(Clone, Debug)]
pub struct WrittenSegment {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its frames, one behind the other from the first block on; zeros follow.
    pub frames: Vec<WrittenFrame>,
}

/// A segment of four frames: layouts (one with a parent), two hosts, dense and sparse rows, a free.
///
/// # Panics
///
/// Never: the samples fit in their frames.
pub fn segment() -> WrittenSegment {
    let mut frames = Vec::new();
    let mut body = Vec::new();
    let first_lsn = 100;
    let mut next = first_lsn;
    for number in 0..4_u32 {
        let mut records = vec![0; FRAME_HEADER_LEN];
        let mut facts = Vec::new();
        let first = next;
        if number == 0 {
            write::layout(&mut records, 1, 0, keys().take(2));
            write::host(&mut records, 1, "alpha", "a1");
        }
        if number == 1 {
            write::layout(&mut records, 2, 1, keys().skip(2));
            write::host(&mut records, 2, "alpha", "a2");
        }
        for row in 0..=number {
            let (host, layout) = if row % 2 == 1 { (2, 2) } else { (1, 1) };
            let ordinals: &[u32] = match (layout, number % 2) {
                (1, _) => &[0, 1],
                (_, 0) => &[0, 1, 2],
                _ => &[0, 9],
            };
            let values: Vec<f64> = ordinals.iter().map(|&at| f64::from(at + row * 10 + number * 100) * 0.1).collect();
            let start = MIDNIGHT + 3600 * i64::from(row);
            let slot = number + 2 * row;
            write::row(
                &mut records,
                host,
                layout,
                &write::RowValues { start, frequency: 60, slot, ordinals, values: &values },
            );
            let fact =
                |(&ordinal, value): (&u32, &f64)| Fact { lsn: next, start, slot, ordinal, bits: value.to_bits() };
            facts.extend(ordinals.iter().zip(&values).map(fact));
            next += 1;
        }
        if number == 2 {
            write::free(&mut records, &["alpha".to_owned(), "a1".to_owned()], MIDNIGHT);
            next += 1;
        }
        let used = records.len();
        records.resize(used.next_multiple_of(BLOCK), 0);
        let at = BLOCK + body.len();
        let place = Place { store: STORE, seq: SEQ, offset: at as u64 };
        let rows = u32::try_from(next - first).expect("a handful of rows");
        write::seal(&mut records, used, place, Lsn(first), rows, Lsn(first - 1));
        frames.push(WrittenFrame { range: at..at + records.len(), facts });
        body.extend_from_slice(&records);
    }
    body.resize(body.len() + BLOCK, 0);
    let header = Segment {
        store: STORE,
        seq: SEQ,
        first_lsn: Lsn(first_lsn),
        len: (BLOCK + body.len()) as u64,
        seal: Some(Seal { seq: SEQ - 1, end: 8192, last_lsn: Lsn(first_lsn - 1) }),
    };
    let mut bytes = header.to_block().to_vec();
    bytes.extend_from_slice(&body);
    WrittenSegment { bytes, frames }
}

/// Ten series: two of the host, eight of its hardware threads.
fn keys() -> impl Iterator<Item = Key<'static>> + Clone {
    const THREADS: [&str; 8] =
        ["hwthread0", "hwthread1", "hwthread2", "hwthread3", "hwthread4", "hwthread5", "hwthread6", "hwthread7"];
    let of_host = ["cpu_load", "mem_used"].map(|metric| Key { metric, component: "", subcomponent: "" });
    of_host.into_iter().chain(THREADS.map(|component| Key { metric: "flops_any", component, subcomponent: "" }))
}

/// A manifest with a loss, two snapshots and two frees.
pub fn manifest() -> Vec<u8> {
    let mut manifest = Manifest::new(STORE);
    let loss = Loss { seq: 2, offset: 8192, bytes: 12_288, first_lsn: Lsn(90), last_lsn: None, time: MIDNIGHT };
    manifest.losses.push(loss);
    for (partition, edition) in [(DAY - 1, 0), (DAY, 2)] {
        let (lsn_lo, lsn_hi) = (Lsn(1), Lsn(98));
        manifest.snapshots.push(LiveSnapshot {
            partition,
            lsn_lo,
            lsn_hi,
            file_len: 8000,
            header_crc: 0xdead_beef,
            edition,
        });
    }
    manifest.frees.push(Free { lsn: Lsn(98), to: -600, selector: vec!["alpha".to_owned(), "a1".to_owned()] });
    manifest.frees.push(Free { lsn: Lsn(99), to: 0, selector: Vec::new() });
    manifest.to_bytes()
}

/// A snapshot of two hosts: `f64`, `f32` and constant columns, with holes.
///
/// # Panics
///
/// Never: the samples are valid, and a file in memory does not fail.
pub fn snapshot() -> Vec<u8> {
    let identity = Identity { store: STORE, partition: DAY, lsn_lo: Lsn(1), lsn_hi: Lsn(98) };
    let file = MemoryFile::default();
    let finished = Arc::clone(&file.finished);
    let mut writer = Writer::new(Box::new(file), identity).expect("the identity is valid");
    for host in ["a1", "a2"] {
        let stripe = |metric: &str, start: i64, components: &[&str], value: fn(u32) -> f64| StripeData {
            metric: metric.into(),
            run: Run { start: MIDNIGHT + start, frequency: 60 },
            first_slot: 3,
            slots: 10,
            columns: components
                .iter()
                .map(|&component| ColumnData {
                    component: component.into(),
                    subcomponent: "".into(),
                    values: (0..10).map(value).collect(),
                })
                .collect(),
        };
        let mut stripes = [
            stripe("cpu_load", 0, &[""], |slot| f64::from(slot) * 0.1),
            stripe("cpu_load", 7200, &[""], |slot| if slot % 3 == 1 { f64::NAN } else { f64::from(slot) }),
            stripe("flops_any", 0, &["hwthread0", "hwthread1"], |_| 42.5),
        ];
        writer.host("alpha", host, &mut stripes).expect("hosts rise and values lie in the day");
    }
    writer.finish().expect("memory does not fail");
    let bytes = finished.lock().unwrap_or_else(PoisonError::into_inner).take();
    bytes.expect("the file was finished")
}

/// A new file in memory.
#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Vec<u8>,
    finished: Arc<Mutex<Option<Vec<u8>>>>,
}

impl NewFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>, head: &[u8]) -> io::Result<()> {
        self.bytes[..head.len()].copy_from_slice(head);
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.bytes);
        Ok(())
    }
}
