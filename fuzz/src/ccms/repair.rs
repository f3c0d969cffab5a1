//! Makes files whole that a mutation broke, so that what stands behind checksums and counts is reached.

use kymo_engine::ccms::{bin, wal};

/// Metric, component and part; start; interval; the bits of the values.
pub(super) type Told = ([String; 3], i64, u32, Vec<u64>);

/// A `.bin` that closes, and what is in it.
#[derive(Default)]
pub(super) struct Bin {
    pub bytes: Vec<u8>,
    /// Its arrays that have a place in a store, in their order.
    pub arrays: Vec<Told>,
    /// How many have none, and their bytes.
    pub deep: (u64, u64),
}

/// Arrays and levels of a level, and levels below each other: at most so many.
const MOST: u32 = 8;
const DEPTH: usize = 5;

/// The checksums of the records that follow each other behind the header, which is written too.
pub(super) fn wal(bytes: &mut [u8]) {
    if let Some(magic) = bytes.first_chunk_mut() {
        *magic = wal::MAGIC;
    }
    let mut at = wal::MAGIC.len();
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.len() >= 8) {
        let len = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let end = len.saturating_add(8);
        if rest[..4] == wal::RECORD_MAGIC && end.saturating_add(4) <= rest.len() {
            let crc = crc32fast::hash(&rest[8..end]);
            rest[end..end + 4].copy_from_slice(&crc.to_le_bytes());
            at += end + 4;
        } else {
            at += 1;
        }
    }
}

/// A file with the levels, names and values of `data`, as far as they go: counts are those of what is there, names are
/// UTF-8 and not empty, intervals and starts can be. Its interval says nothing about how many values an array has.
pub(super) fn bin(data: &[u8]) -> Bin {
    let is_f64 = data.starts_with(&bin::MAGIC_F64);
    let magic = if is_f64 { [bin::MAGIC_F64, 1_u32.to_le_bytes()].concat() } else { bin::MAGIC.to_vec() };
    let mut walk = Walk { data: data.get(magic.len() + 16..).unwrap_or_default(), width: 4, to: Bin::default() };
    walk.width += 4 * usize::from(is_f64);
    walk.to.bytes = [magic, i64::MAX.to_le_bytes().to_vec(), 0_i64.to_le_bytes().to_vec()].concat();
    walk.level(&mut Vec::new());
    walk.to
}

struct Walk<'a> {
    data: &'a [u8],
    width: usize,
    to: Bin,
}

impl Walk<'_> {
    /// The next bytes; zeros where there are none.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let (from, rest) = self.data.split_at(N.min(self.data.len()));
        taken[..from.len()].copy_from_slice(from);
        self.data = rest;
        taken
    }

    fn count(&mut self) -> u32 {
        let count = u32::from_le_bytes(self.take()).min(MOST);
        if self.data.is_empty() { 0 } else { count }
    }

    fn name(&mut self) -> String {
        let len = usize::from(u16::from_le_bytes(self.take())).min(self.data.len());
        let (name, rest) = self.data.split_at(len);
        self.data = rest;
        let mut name = String::from_utf8_lossy(name).into_owned();
        if name.is_empty() {
            name.push('x');
        }
        name.truncate(name.floor_char_boundary(usize::from(u16::MAX)));
        self.put(&u16::try_from(name.len()).expect("it was cut").to_le_bytes());
        self.put(name.as_bytes());
        name
    }

    fn put(&mut self, bytes: &[u8]) {
        self.to.bytes.extend(bytes);
    }

    fn level(&mut self, path: &mut Vec<String>) {
        let metrics = self.count();
        self.put(&metrics.to_le_bytes());
        for _ in 0..metrics {
            self.array(path);
        }
        let children = if path.len() < DEPTH { self.count() } else { 0 };
        self.put(&children.to_le_bytes());
        for _ in 0..children {
            let name = self.name();
            path.push(name);
            self.level(path);
            path.pop();
        }
    }

    fn array(&mut self, path: &[String]) {
        let begin = self.to.bytes.len();
        let metric = self.name();
        let [a, b, c, d, ..] = self.take::<8>();
        let frequency = u32::from_le_bytes([a, b, c, d]).max(1);
        // Half of all instants are far enough from the end of time.
        let start = i64::from_le_bytes(self.take()) / 2;
        let there = self.data.len() / self.width;
        let count = usize::try_from(u32::from_le_bytes(self.take())).unwrap_or(usize::MAX).min(there.saturating_sub(1));
        let (values, rest) = self.data.split_at((count * self.width).min(self.data.len()));
        self.data = rest;
        let count = values.len() / self.width;
        self.put(&i64::from(frequency).to_le_bytes());
        self.put(&start.to_le_bytes());
        self.put(&u32::try_from(count).unwrap_or(0).to_le_bytes());
        self.put(values);
        let values: Vec<f64> = match self.width {
            4 => values.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes).into()).collect(),
            _ => values.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        };
        if values.is_empty() {
            return;
        }
        if path.len() > 2 {
            self.to.deep.0 += 1;
            self.to.deep.1 += (self.to.bytes.len() - begin) as u64;
            return;
        }
        let part = |at: usize| path.get(at).cloned().unwrap_or_default();
        let bits = values.into_iter().map(f64::to_bits).collect();
        self.to.arrays.push(([metric, part(0), part(1)], start, frequency, bits));
    }
}
