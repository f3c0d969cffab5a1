//! Column chunks, encoded by hand: pages with a checksum each, whose encoding fits their values.
//!
//! The writer of the `parquet` crate takes a value a row, hashes each string, and writes no checksums. Here a column that
//! repeats itself costs something a stretch and not something a row, values are written plain or byte-split, whichever
//! compresses better, page by page, and every page header has the CRC-32 of its page.

use super::batch::{Batch, Same};
use super::schema;
use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, Type, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use std::io;

/// Rows of a page at most: larger ones compress little better and take longer to read one series from.
const PAGE_ROWS: usize = 20_480;
/// The level of Zstandard: 3 takes a tenth less room than 1 on a mix of metrics, and higher ones hardly less.
const LEVEL: i32 = 3;

/// An encoded column chunk and what the footer says of it.
pub(super) type Chunk = (Bytes, ColumnCloseResult);

/// Encodes columns, one after the other.
pub(super) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    cluster: String,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Encoder {
    pub(super) fn new(cluster: &str) -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(LEVEL)?, cluster: cluster.to_owned() })
    }

    /// One column of a batch that has rows.
    pub(super) fn column(&mut self, batch: &Batch, at: usize, column: ColumnDescPtr) -> Result<Chunk, ParquetError> {
        let cluster = std::slice::from_ref(&self.cluster).to_vec();
        let chunk = ChunkWriter::new(column, &mut self.zstd);
        let names = |names: &[String]| names.iter().map(|name| Value::Text(name.clone())).collect::<Vec<_>>();
        match at {
            schema::CLUSTER => chunk.repeated(&batch.same, &names(&cluster), |_| 0),
            schema::HOSTNAME => chunk.repeated(&batch.same, &names(&batch.hosts.list), |same| same.host),
            schema::METRIC => chunk.repeated(&batch.same, &names(&batch.metrics.list), |same| same.metric),
            schema::PATH => chunk.repeated(&batch.same, &names(&batch.paths.list), |same| same.path),
            schema::SCOPE => {
                let scopes = batch.scopes.iter().map(|(scope, _)| Value::Text(scope.clone()));
                chunk.distinct(&batch.same, &scopes.collect::<Vec<_>>(), |same| same.path)
            }
            schema::SCOPE_ID => {
                let ids = batch.scopes.iter().map(|(_, id)| Value::Text(id.clone()));
                chunk.distinct(&batch.same, &ids.collect::<Vec<_>>(), |same| same.path)
            }
            schema::FREQUENCY => chunk.numbers(&batch.same, |same| i64::from(same.run.frequency)),
            schema::START => chunk.numbers(&batch.same, |same| same.run.start),
            schema::TIMESTAMP => chunk.times(&batch.times),
            _ => chunk.values(&batch.values),
        }
    }
}

/// A value of a dictionary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Text(String),
    Number(i64),
}

impl Value {
    /// As statistics and indexes have it.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Number(number) => number.to_le_bytes().to_vec(),
        }
    }
}

struct ChunkWriter<'a> {
    column: ColumnDescPtr,
    zstd: &'a mut zstd::bulk::Compressor<'static>,
    bytes: Vec<u8>,
    uncompressed: usize,
    first_page: Option<usize>,
    has_dictionary: bool,
    encodings: Vec<Encoding>,
    index: ColumnIndexBuilder,
    offsets: OffsetIndexBuilder,
    rows: usize,
}

impl<'a> ChunkWriter<'a> {
    fn new(column: ColumnDescPtr, zstd: &'a mut zstd::bulk::Compressor<'static>) -> Self {
        Self {
            index: ColumnIndexBuilder::new(column.physical_type()),
            column,
            zstd,
            bytes: Vec::new(),
            uncompressed: 0,
            first_page: None,
            has_dictionary: false,
            encodings: Vec::new(),
            offsets: OffsetIndexBuilder::new(),
            rows: 0,
        }
    }

    /// A column whose value is one of a list of different ones in each stretch.
    fn repeated(mut self, same: &[Same], list: &[Value], id: impl Fn(&Same) -> u32) -> Result<Chunk, ParquetError> {
        let mut plain = Vec::new();
        for value in list {
            if let Value::Text(text) = value {
                plain.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            }
            plain.extend(value.bytes());
        }
        self.dictionary(&plain, list.len())?;
        let width = (usize::BITS - (list.len() - 1).leading_zeros()).max(1);
        let mut bounds: Vec<(&Value, &Value)> = Vec::new();
        let mut stretches = same.iter().map(|same| (id(same), same.rows as usize)).peekable();
        let mut rest = 0;
        let mut runs: Vec<(u32, usize)> = Vec::new();
        while stretches.peek().is_some() {
            runs.clear();
            let mut room = PAGE_ROWS;
            while room > 0
                && let Some(&(id, rows)) = stretches.peek()
            {
                let taken = (rows - rest).min(room);
                match runs.last_mut().filter(|last| last.0 == id) {
                    Some(last) => last.1 += taken,
                    None => runs.push((id, taken)),
                }
                room -= taken;
                rest += taken;
                if rest == rows {
                    rest = 0;
                    stretches.next();
                }
            }
            let values = || runs.iter().map(|(id, _)| &list[*id as usize]);
            if let (Some(min), Some(max)) = (values().min(), values().max()) {
                bounds.push((min, max));
                self.page(
                    Encoding::RLE_DICTIONARY,
                    &run_lengths(&runs, width),
                    PAGE_ROWS - room,
                    &min.bytes(),
                    &max.bytes(),
                )?;
            }
        }
        let order = order_of(&bounds);
        let (min, max) = (bounds.iter().map(|(min, _)| *min).min(), bounds.iter().map(|(_, max)| *max).max());
        let statistics = match (min, max) {
            (Some(Value::Number(min)), Some(Value::Number(max))) => {
                Statistics::int64(Some(*min), Some(*max), None, Some(0), false)
            }
            (min, max) => {
                let text = |value: Option<&Value>| value.map(|value| value.bytes().into());
                Statistics::byte_array(text(min), text(max), None, Some(0), false)
            }
        };
        self.finish(order, statistics)
    }

    /// The same where values of the list may be equal.
    fn distinct(self, same: &[Same], list: &[Value], id: impl Fn(&Same) -> u32) -> Result<Chunk, ParquetError> {
        let mut different = list.to_vec();
        different.sort_unstable();
        different.dedup();
        let position = |value| u32::try_from(different.partition_point(|known| known < value)).unwrap_or(u32::MAX);
        let ids: Vec<u32> = list.iter().map(position).collect();
        self.repeated(same, &different, |same| ids[id(same) as usize])
    }

    fn numbers(self, same: &[Same], number: impl Fn(&Same) -> i64) -> Result<Chunk, ParquetError> {
        let mut different: Vec<i64> = same.iter().map(&number).collect();
        different.sort_unstable();
        different.dedup();
        let list: Vec<Value> = different.iter().map(|&number| Value::Number(number)).collect();
        let id = |wanted| different.partition_point(|&known| known < wanted);
        self.repeated(same, &list, |same| u32::try_from(id(number(same))).unwrap_or(u32::MAX))
    }

    fn times(mut self, times: &[i64]) -> Result<Chunk, ParquetError> {
        let mut bounds = Vec::new();
        for page in times.chunks(PAGE_ROWS) {
            let (min, max) = (page.iter().min().copied().unwrap_or(0), page.iter().max().copied().unwrap_or(0));
            bounds.push((min, max));
            self.page(
                Encoding::DELTA_BINARY_PACKED,
                &deltas(page),
                page.len(),
                &min.to_le_bytes(),
                &max.to_le_bytes(),
            )?;
        }
        let (min, max) = (times.iter().min().copied(), times.iter().max().copied());
        let order = order_of(&bounds);
        self.finish(order, Statistics::int64(min, max, None, Some(0), false))
    }

    fn values(mut self, values: &[f64]) -> Result<Chunk, ParquetError> {
        let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut rest = values;
        while !rest.is_empty() {
            let (page, behind) = rest.split_at(page_of_values(rest));
            rest = behind;
            // Zeros have a sign that comparisons do not see: bounds hold both.
            let min = page.iter().copied().fold(f64::INFINITY, f64::min);
            let max = page.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (min, max) = (if min == 0.0 { -0.0 } else { min }, if max == 0.0 { 0.0 } else { max });
            (lowest, highest) = (lowest.min(min), highest.max(max));
            let plain: Vec<u8> = page.iter().flat_map(|value| value.to_le_bytes()).collect();
            let split = byte_split(&plain);
            let (small_plain, small_split) = (self.zstd.compress(&plain)?, self.zstd.compress(&split)?);
            let (encoding, body) = if small_split.len() < small_plain.len() {
                (Encoding::BYTE_STREAM_SPLIT, small_split)
            } else {
                (Encoding::PLAIN, small_plain)
            };
            self.compressed_page(encoding, &body, plain.len(), page.len(), &min.to_le_bytes(), &max.to_le_bytes());
        }
        let (lowest, highest) = (if lowest == 0.0 { -0.0 } else { lowest }, if highest == 0.0 { 0.0 } else { highest });
        let statistics = Statistics::double(Some(lowest), Some(highest), None, Some(0), false);
        self.finish(BoundaryOrder::UNORDERED, statistics)
    }

    fn dictionary(&mut self, plain: &[u8], count: usize) -> Result<(), ParquetError> {
        let body = self.zstd.compress(plain)?;
        let header = page_header(&Header::Dictionary { count }, plain.len(), &body);
        self.uncompressed += header.len() + plain.len();
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&body);
        self.has_dictionary = true;
        Ok(())
    }

    fn page(
        &mut self,
        encoding: Encoding,
        plain: &[u8],
        rows: usize,
        min: &[u8],
        max: &[u8],
    ) -> Result<(), ParquetError> {
        let body = self.zstd.compress(plain)?;
        self.compressed_page(encoding, &body, plain.len(), rows, min, max);
        Ok(())
    }

    fn compressed_page(
        &mut self,
        encoding: Encoding,
        body: &[u8],
        plain_len: usize,
        rows: usize,
        min: &[u8],
        max: &[u8],
    ) {
        let offset = self.bytes.len();
        let header = page_header(&Header::Data { rows, encoding }, plain_len, body);
        self.uncompressed += header.len() + plain_len;
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(body);
        self.first_page.get_or_insert(offset);
        if !self.encodings.contains(&encoding) {
            self.encodings.push(encoding);
        }
        let nans = (self.column.physical_type() == Type::DOUBLE).then_some(0);
        self.index.append(false, min.to_vec(), max.to_vec(), 0, nans);
        self.offsets
            .append_offset_and_size(signed(offset), i32::try_from(header.len() + body.len()).unwrap_or(i32::MAX));
        self.offsets.append_row_count(signed(rows));
        self.rows += rows;
    }

    fn finish(mut self, order: BoundaryOrder, statistics: Statistics) -> Result<Chunk, ParquetError> {
        self.index.set_boundary_order(order);
        if self.has_dictionary {
            self.encodings.push(Encoding::PLAIN);
        }
        // Levels would be of this kind, if there were any.
        self.encodings.push(Encoding::RLE);
        let metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
            .set_encodings(self.encodings)
            .set_total_compressed_size(signed(self.bytes.len()))
            .set_total_uncompressed_size(signed(self.uncompressed))
            .set_num_values(signed(self.rows))
            .set_data_page_offset(signed(self.first_page.unwrap_or(0)))
            .set_dictionary_page_offset(self.has_dictionary.then_some(0))
            .set_statistics(statistics)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: self.bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(self.index.build()?),
            offset_index: Some(self.offsets.build()),
        };
        Ok((self.bytes.into(), close))
    }
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Values of the next page: it ends where exact `f32` begin or end, if that is not too soon, for the two kinds compress
/// by different encodings.
fn page_of_values(values: &[f64]) -> usize {
    const STEP: usize = 512;
    const LEAST: usize = 4 * STEP;
    let is_short = |values: &[f64]| values.iter().all(|value| value.to_bits().trailing_zeros() >= 29);
    let mut steps = values.chunks(STEP).map(is_short);
    let Some(first) = steps.next() else { return 0 };
    let mut len = STEP;
    for is_short in steps {
        if len >= PAGE_ROWS || (is_short != first && len >= LEAST) {
            break;
        }
        len += STEP;
    }
    len.min(values.len())
}

/// Whether the bounds of pages rise.
fn order_of<T: PartialOrd>(bounds: &[(T, T)]) -> BoundaryOrder {
    let rises = bounds.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1);
    if rises { BoundaryOrder::ASCENDING } else { BoundaryOrder::UNORDERED }
}

/// Dictionary positions in the hybrid of run lengths and packed bits, run lengths alone.
fn run_lengths(runs: &[(u32, usize)], width: u32) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(width).unwrap_or(32)];
    for &(id, rows) in runs {
        varint(&mut bytes, (rows as u64) << 1);
        bytes.extend_from_slice(&id.to_le_bytes()[..width.div_ceil(8) as usize]);
    }
    bytes
}

/// The bytes of all values, the first of each, then the second of each.
fn byte_split(plain: &[u8]) -> Vec<u8> {
    let count = plain.len() / 8;
    let mut split = vec![0; plain.len()];
    for (at, value) in plain.chunks_exact(8).enumerate() {
        for (plane, &byte) in value.iter().enumerate() {
            split[plane * count + at] = byte;
        }
    }
    split
}

/// Numbers as packed differences (`DELTA_BINARY_PACKED`).
fn deltas(numbers: &[i64]) -> Vec<u8> {
    const BLOCK: usize = 128;
    const MINI: usize = 32;
    let mut bytes = Vec::new();
    varint(&mut bytes, BLOCK as u64);
    varint(&mut bytes, (BLOCK / MINI) as u64);
    varint(&mut bytes, numbers.len() as u64);
    varint(&mut bytes, zigzag(numbers.first().copied().unwrap_or(0)));
    let differences: Vec<i64> = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    for block in differences.chunks(BLOCK) {
        let least = block.iter().min().copied().unwrap_or(0);
        varint(&mut bytes, zigzag(least));
        let above: Vec<u64> = block.iter().map(|difference| difference.wrapping_sub(least).cast_unsigned()).collect();
        let widths: Vec<u32> = above
            .chunks(MINI)
            .map(|mini| u64::BITS - mini.iter().fold(0, |bits, number| bits | number).leading_zeros())
            .collect();
        bytes.extend((0..BLOCK / MINI).map(|at| widths.get(at).map_or(0, |&width| width.to_le_bytes()[0])));
        for (mini, &width) in above.chunks(MINI).zip(&widths) {
            let begin = bytes.len();
            bytes.resize(begin + MINI * width as usize / 8, 0);
            pack(mini, width, &mut bytes[begin..]);
        }
    }
    bytes
}

/// Packs numbers of `width` bits, the lowest bit first.
fn pack(numbers: &[u64], width: u32, bytes: &mut [u8]) {
    let mut at = 0_usize;
    for &number in numbers {
        let mut left = width;
        let mut rest = number;
        while left > 0 {
            let free = 8 - u32::try_from(at % 8).unwrap_or(0);
            let taken = free.min(left);
            let low = rest & ((1 << taken) - 1);
            bytes[at / 8] |= low.to_le_bytes()[0] << (8 - free);
            rest = if taken == 64 { 0 } else { rest >> taken };
            left -= taken;
            at += taken as usize;
        }
    }
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

enum Header {
    Dictionary { count: usize },
    Data { rows: usize, encoding: Encoding },
}

/// The header of a page in Thrift's compact protocol, with the CRC-32 of its compressed bytes.
fn page_header(header: &Header, plain_len: usize, body: &[u8]) -> Vec<u8> {
    const NUMBER: u8 = 5;
    const STRUCT: u8 = 12;
    const FALSE: u8 = 2;
    const STOP: u8 = 0;
    fn field(bytes: &mut Vec<u8>, step: u8, number: i64) {
        bytes.push(step << 4 | NUMBER);
        varint(bytes, zigzag(number));
    }
    let mut bytes = Vec::with_capacity(32);
    field(&mut bytes, 1, if matches!(header, Header::Dictionary { .. }) { 2 } else { 0 });
    field(&mut bytes, 1, signed(plain_len));
    field(&mut bytes, 1, signed(body.len()));
    field(&mut bytes, 1, i64::from(crc32fast::hash(body).cast_signed()));
    match *header {
        Header::Data { rows, encoding } => {
            bytes.push(1 << 4 | STRUCT);
            field(&mut bytes, 1, signed(rows));
            field(&mut bytes, 1, i64::from(encoding as i32));
            field(&mut bytes, 1, i64::from(Encoding::RLE as i32));
            field(&mut bytes, 1, i64::from(Encoding::RLE as i32));
        }
        Header::Dictionary { count } => {
            bytes.push(3 << 4 | STRUCT);
            field(&mut bytes, 1, signed(count));
            field(&mut bytes, 1, i64::from(Encoding::PLAIN as i32));
            bytes.push(1 << 4 | FALSE);
        }
    }
    bytes.extend([STOP, STOP]);
    bytes
}
