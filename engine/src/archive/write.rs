//! Writing a part: rows into files aside, and later, when all was compared, under their names.

use super::batch::{Batch, Batches, Place, Row};
use super::chunk::Encoder;
use super::place::{ArchiveStore, NewObject};
use super::schema::{SORTED_BY, schema};
use super::sidecar::{BLOCK, FileEntry, Sidecar};
use super::{ArchiveError, COLUMNS};
use crate::format::StoreId;
use crate::paths::ArchivePart;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

/// Row groups of a file: its footer, which is kept in memory while it is written and read, stays small.
pub(super) const FILE_GROUPS: usize = 32;

/// A part of a partition of one cluster, and the store that it is of.
#[derive(Clone, Debug)]
pub struct Part {
    /// The store.
    pub store: StoreId,
    /// The names of its objects.
    pub names: ArchivePart,
}

/// Writes a part. Series come in the order of (host, metric, path), their rows in the order of (timestamp, start).
/// Holds one row group in memory. Dropping it leaves nothing under a name that a reader would open.
pub struct Writer {
    place: Arc<dyn ArchiveStore>,
    part: Part,
    encoder: Encoder,
    batch: Batch,
    file: Option<SerializedFileWriter<Sink>>,
    groups: usize,
    entry: FileEntry,
    sidecar: Sidecar,
    peak: usize,
}

/// A part that was written aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What will stand beside it.
    pub sidecar: Sidecar,
    /// Bytes of rows and of encoded columns that were held at most, at the same time.
    pub peak_buffered: usize,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("part", &self.part).field("rows", &self.sidecar.rows).finish_non_exhaustive()
    }
}

impl Writer {
    /// Begins a part.
    pub fn new(place: Arc<dyn ArchiveStore>, part: Part) -> Result<Self, ArchiveError> {
        let sidecar = Sidecar::new(part.store.to_string(), &part.names);
        let encoder = Encoder::new(&part.names.cluster).map_err(ArchiveError::io("begin", &part.names.folder()))?;
        Ok(Self {
            place,
            part,
            encoder,
            batch: Batch::default(),
            file: None,
            groups: 0,
            entry: FileEntry::default(),
            sidecar,
            peak: 0,
        })
    }

    /// Takes the rows of a series.
    pub fn series(
        &mut self,
        (host, metric): (&str, &str),
        (component, subcomponent): (&str, &str),
        rows: &[Row],
    ) -> Result<(), ArchiveError> {
        if let Some(first) = rows.first() {
            self.sidecar.from = self.sidecar.from.min(first.timestamp);
        }
        let end = |row: &Row| row.timestamp.saturating_add(i64::from(row.run.frequency));
        self.sidecar.to = rows.iter().map(end).fold(self.sidecar.to, i64::max);
        self.take(Place { host, metric, component, subcomponent }, rows)
    }

    fn finish_file(&mut self) -> Result<(), ArchiveError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let key = self.part.names.aside(&self.sidecar.store, &self.entry.name);
        let sink = file.into_inner().map_err(ArchiveError::encode(&key))?;
        let mut entry = std::mem::take(&mut self.entry);
        let sums = sink.finish().map_err(ArchiveError::io("write", &key))?;
        entry.len = sums.len;
        entry.crc32 = format!("{:08x}", sums.whole);
        entry.blocks = sums.blocks;
        self.sidecar.rows += entry.rows;
        self.sidecar.files.push(entry);
        self.groups = 0;
        Ok(())
    }

    /// Writes what is left and finishes the last file; all of them are still aside.
    pub fn finish(mut self) -> Result<Written, ArchiveError> {
        self.take_rest()?;
        self.finish_file()?;
        Ok(Written { sidecar: self.sidecar, peak_buffered: self.peak })
    }
}

impl Batches for Writer {
    fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    fn end_batch(&mut self) -> Result<(), ArchiveError> {
        let name = self.part.names.file(u32::try_from(self.sidecar.files.len()).unwrap_or(u32::MAX));
        let key = self.part.names.aside(&self.sidecar.store, &name);
        let file = if let Some(file) = &mut self.file {
            file
        } else {
            let object = self.place.create(&key).map_err(ArchiveError::io("create", &key))?;
            self.entry = FileEntry { name, block: BLOCK, ..FileEntry::default() };
            self.file.insert(new_file(Sink::new(object)).map_err(ArchiveError::encode(&key))?)
        };
        let encode = ArchiveError::encode(&key);
        let mut write = || {
            let columns = file.schema_descr().columns().to_vec();
            let mut group = file.next_row_group()?;
            for (at, column) in columns.into_iter().enumerate() {
                let (bytes, close) = self.encoder.column(&self.batch, at, column)?;
                self.peak = self.peak.max(self.batch.bytes() + bytes.len());
                group.append_column(&bytes, close)?;
            }
            group.close().map(|_| ())
        };
        write().map_err(encode)?;
        self.entry.count(&self.batch);
        self.batch.clear();
        self.groups += 1;
        if self.groups == FILE_GROUPS { self.finish_file() } else { Ok(()) }
    }
}

fn new_file(sink: Sink) -> Result<SerializedFileWriter<Sink>, parquet::errors::ParquetError> {
    let sorted = SORTED_BY.iter().map(|&column| SortingColumn {
        column_idx: i32::try_from(column).unwrap_or(0),
        descending: false,
        nulls_first: false,
    });
    let properties = WriterProperties::builder()
        .set_created_by(format!("kymo version {}", env!("CARGO_PKG_VERSION")))
        .set_sorting_columns(Some(sorted.collect()))
        .build();
    debug_assert_eq!(schema()?.get_fields().len(), COLUMNS.len());
    SerializedFileWriter::new(sink, schema()?, Arc::new(properties))
}

/// Gives a part that was written and compared its names: its manifest first, which no other store may have written,
/// then the files. Returns length and CRC-32 of the manifest. Doing it again changes nothing.
pub fn publish(place: &dyn ArchiveStore, part: &Part, sidecar: &Sidecar) -> Result<(u64, u32), ArchiveError> {
    let key = part.names.sidecar();
    let encode = |error: serde_json::Error| ArchiveError::damaged(&key, error.to_string());
    let content = sidecar.to_bytes().map_err(encode)?;
    let present = place.get(&key).map_err(ArchiveError::io("read", &key))?;
    if let Some(present) = &present {
        let owner = Sidecar::parse(&key, present)?.store;
        if owner != sidecar.store {
            return Err(ArchiveError::OtherStore { key, owner });
        }
    }
    if present.as_ref() != Some(&content) {
        let put = place.put_if(&key, present.as_deref(), &content).map_err(ArchiveError::io("write", &key))?;
        if !put {
            return Err(ArchiveError::OtherStore { key, owner: "that wrote it just now".to_owned() });
        }
    }
    // What an interrupted try with other rows has left.
    let folder = part.names.folder();
    for stray in place.list(&folder).map_err(ArchiveError::io("list", &folder))? {
        let name = stray.rsplit('/').next().unwrap_or_default();
        if part.names.is_file(name) && sidecar.files.iter().all(|file| file.name != name) {
            place.delete(&stray).map_err(ArchiveError::io("remove", &stray))?;
        }
    }
    for file in &sidecar.files {
        let (aside, key) = (part.names.aside(&sidecar.store, &file.name), part.names.key(&file.name));
        place.publish(&aside, &key).map_err(ArchiveError::io("publish", &key))?;
    }
    let len = content.len() as u64;
    Ok((len, crc32fast::hash(&content)))
}

/// Where the bytes of a file go: to the place, and into its checksums.
struct Sink {
    object: Box<dyn NewObject>,
    len: u64,
    whole: crc32fast::Hasher,
    block: crc32fast::Hasher,
    in_block: usize,
    blocks: String,
}

struct Sums {
    len: u64,
    whole: u32,
    blocks: String,
}

impl Sink {
    fn new(object: Box<dyn NewObject>) -> Self {
        let (whole, block) = (crc32fast::Hasher::new(), crc32fast::Hasher::new());
        Self { object, len: 0, whole, block, in_block: 0, blocks: String::new() }
    }

    fn end_block(&mut self) {
        let crc = std::mem::take(&mut self.block).finalize();
        // Writing into a string does not fail.
        write!(self.blocks, "{crc:08x}").ok();
        self.in_block = 0;
    }

    fn finish(mut self) -> io::Result<Sums> {
        if self.in_block > 0 {
            self.end_block();
        }
        self.object.finish()?;
        Ok(Sums { len: self.len, whole: self.whole.finalize(), blocks: self.blocks })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.object.append(bytes)?;
        self.whole.update(bytes);
        self.len += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (taken, behind) = rest.split_at(rest.len().min(BLOCK - self.in_block));
            self.block.update(taken);
            self.in_block += taken.len();
            if self.in_block == BLOCK {
                self.end_block();
            }
            rest = behind;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
