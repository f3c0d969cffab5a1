//! Reading the archive: the rows of one metric of a host, out of the few pages that have them.

use super::ArchiveError;
use super::blocks::Blocks;
use super::place::ArchiveStore;
use super::schema::{FREQUENCY, PATH, START, TIMESTAMP, VALUE, split_path};
use super::sidecar::{FileEntry, Sidecar};
use super::verify::sidecar;
use crate::paths::ArchivePart;
use crate::slot::Run;
use hashbrown::HashMap;
use parking_lot::Mutex;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::serialized_reader::SerializedPageReader;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Bytes of manifests and footers that are kept, roughly.
const CACHE_BYTES: usize = 64 << 20;
/// Slots of a stretch at most: a day of seconds.
const SLOTS_MAX: i64 = 86_400;

/// Reads parts. What was opened is kept, within a bound.
#[derive(Debug)]
pub struct Reader {
    place: Arc<dyn ArchiveStore>,
    cache: Mutex<Cache>,
}

/// The rows of a series in a part.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesRows {
    /// The component.
    pub component: String,
    /// The part of it.
    pub subcomponent: String,
    /// Its runs, rising.
    pub stretches: Vec<Stretch>,
}

/// Slots of one run; NaN is missing. The first and the last are present.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// The run.
    pub run: Run,
    /// The slot of the first value.
    pub first_slot: u32,
    /// The values.
    pub values: Vec<f64>,
}

/// A part whose manifest was read.
#[derive(Debug)]
struct OpenPart {
    sidecar: Sidecar,
    /// The files, as soon as each was needed.
    files: Vec<OnceLock<Arc<OpenFile>>>,
    /// Bytes that it takes, roughly.
    bytes: usize,
}

/// A file whose footer was read.
#[derive(Debug)]
pub(super) struct OpenFile {
    blocks: Blocks,
    metadata: ParquetMetaData,
}

#[derive(Debug, Default)]
struct Cache {
    parts: HashMap<String, (u64, Arc<OpenPart>)>,
    bytes: usize,
    /// Counts the uses.
    clock: u64,
}

impl Reader {
    /// Reads from a place.
    pub fn new(place: Arc<dyn ArchiveStore>) -> Self {
        Self { place, cache: Mutex::default() }
    }

    /// The place.
    pub fn place(&self) -> &Arc<dyn ArchiveStore> {
        &self.place
    }

    /// Bytes that are kept, roughly.
    pub fn cached_bytes(&self) -> usize {
        self.cache.lock().bytes
    }

    /// The rows of a metric of a host in a part, by path. `known` are length and CRC-32 of its manifest.
    pub fn rows(
        &self,
        part: &ArchivePart,
        known: (u64, u32),
        host: &str,
        metric: &str,
    ) -> Result<Vec<SeriesRows>, ArchiveError> {
        let open = self.open(part, known)?;
        let mut series: BTreeMap<(String, String), BTreeMap<Run, Slots>> = BTreeMap::new();
        for (entry, slot) in open.sidecar.files.iter().zip(&open.files) {
            let Some(rows) = entry.rows_of(host, metric) else { continue };
            let file = if let Some(file) = slot.get() {
                Arc::clone(file)
            } else {
                let opened = OpenFile::open(&self.place, &part.key(&entry.name), entry);
                let opened = Arc::new(opened.map_err(|error| error.at(&*self.place))?);
                Arc::clone(slot.get_or_init(|| opened))
            };
            file.read_into(rows, &mut series).map_err(|error| error.at(&*self.place))?;
        }
        let series = series.into_iter().map(|((component, subcomponent), runs)| SeriesRows {
            component,
            subcomponent,
            stretches: runs.into_iter().map(|(run, slots)| slots.stretch(run)).collect(),
        });
        Ok(series.collect())
    }

    /// The names of the hosts of a part.
    pub fn hosts(&self, part: &ArchivePart, known: (u64, u32)) -> Result<Vec<String>, ArchiveError> {
        let open = self.open(part, known)?;
        let mut hosts: Vec<String> =
            open.sidecar.files.iter().flat_map(|file| &file.hosts).map(|(host, _)| host.clone()).collect();
        hosts.dedup();
        Ok(hosts)
    }

    /// The names of the metrics that a part has of a host.
    pub fn metrics(&self, part: &ArchivePart, known: (u64, u32), host: &str) -> Result<Vec<String>, ArchiveError> {
        let open = self.open(part, known)?;
        let mut metrics = Vec::new();
        for file in &open.sidecar.files {
            let of_host = file.hosts.iter().filter(|(name, _)| name == host).flat_map(|(_, metrics)| metrics);
            metrics.extend(of_host.filter_map(|&(metric, _)| file.metrics.get(metric as usize).cloned()));
        }
        Ok(metrics)
    }

    fn open(&self, part: &ArchivePart, known: (u64, u32)) -> Result<Arc<OpenPart>, ArchiveError> {
        let key = part.sidecar();
        if let Some(open) = self.cache.lock().get(&key) {
            return Ok(open);
        }
        let (sidecar, len) = sidecar(&*self.place, part, known).map_err(|error| error.at(&*self.place))?;
        let footers: u64 = sidecar.files.iter().map(|file| file.len / 256).sum();
        let bytes = usize::try_from(4 * len + footers).unwrap_or(usize::MAX);
        let files = sidecar.files.iter().map(|_| OnceLock::new()).collect();
        let open = Arc::new(OpenPart { sidecar, files, bytes });
        self.cache.lock().put(key, &open);
        Ok(open)
    }
}

impl Cache {
    fn get(&mut self, key: &str) -> Option<Arc<OpenPart>> {
        self.clock += 1;
        let (used, open) = self.parts.get_mut(key)?;
        *used = self.clock;
        Some(Arc::clone(open))
    }

    fn put(&mut self, key: String, open: &Arc<OpenPart>) {
        self.clock += 1;
        self.bytes += open.bytes;
        if let Some((_, before)) = self.parts.insert(key, (self.clock, Arc::clone(open))) {
            self.bytes -= before.bytes;
        }
        while self.bytes > CACHE_BYTES && self.parts.len() > 1 {
            let oldest = self.parts.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            let Some((_, gone)) = oldest.and_then(|key| self.parts.remove(&key)) else { return };
            self.bytes -= gone.bytes;
        }
    }
}

/// The slots of a run, in any order.
#[derive(Debug, Default)]
struct Slots(Vec<(u32, f64)>);

impl Slots {
    fn stretch(self, run: Run) -> Stretch {
        let slots = || self.0.iter().map(|&(slot, _)| slot);
        let (first_slot, last) = (slots().min().unwrap_or(0), slots().max().unwrap_or(0));
        let mut values = vec![f64::NAN; (last - first_slot) as usize + 1];
        for (slot, value) in self.0 {
            values[(slot - first_slot) as usize] = value;
        }
        Stretch { run, first_slot, values }
    }
}

impl OpenFile {
    /// Reads the footer of a file, and checks it against what its manifest says.
    pub(super) fn open(place: &Arc<dyn ArchiveStore>, key: &str, entry: &FileEntry) -> Result<Self, ArchiveError> {
        let blocks = Blocks::new(Arc::clone(place), key, entry)?;
        let reader = ParquetMetaDataReader::new()
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_column_index_policy(PageIndexPolicy::Skip);
        let metadata = reader.parse_and_finish(&blocks).map_err(|error| blocks.fail(error))?;
        let columns = metadata.file_metadata().schema_descr().columns();
        if !columns.iter().map(|column| column.name()).eq(super::COLUMNS) {
            return Err(ArchiveError::damaged(key, "it has other columns"));
        }
        if u64::try_from(metadata.file_metadata().num_rows()) != Ok(entry.rows) {
            return Err(ArchiveError::damaged(key, "it has another number of rows than its manifest says"));
        }
        Ok(Self { blocks, metadata })
    }

    pub(super) fn groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    pub(super) fn rows_of_group(&self, group: usize) -> usize {
        usize::try_from(self.metadata.row_group(group).num_rows()).unwrap_or(0)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> ArchiveError {
        ArchiveError::damaged(self.blocks.key(), what)
    }

    /// The values of a column in some rows of a row group, in pieces; `take` gets each.
    pub(super) fn column<T: DataType>(
        &self,
        group: usize,
        column: usize,
        rows: Range<usize>,
        piece: usize,
        mut take: impl FnMut(&[T::T]),
    ) -> Result<(), ArchiveError> {
        let mut read = || -> ParquetResult<()> {
            let of_group = self.metadata.row_group(group);
            let chunk = of_group.column(column);
            let index = self.metadata.page_index().and_then(|index| index.offset_index(group, column));
            let index = index.ok_or_else(|| ParquetError::General("a column has no page index".to_owned()))?;
            let pages = SerializedPageReader::new(
                Arc::new(self.blocks.clone()),
                chunk,
                self.rows_of_group(group),
                Some(index.page_locations().clone()),
            )?;
            let mut reader = ColumnReaderImpl::<T>::new(chunk.column_descr_ptr(), Box::new(pages));
            if reader.skip_records(rows.start)? != rows.start {
                return Err(ParquetError::EOF("a column ends early".to_owned()));
            }
            let mut values = Vec::with_capacity(piece.min(rows.len()));
            let mut left = rows.len();
            while left > 0 {
                values.clear();
                let (records, ..) = reader.read_records(left.min(piece), None, None, &mut values)?;
                if records == 0 {
                    return Err(ParquetError::EOF("a column ends early".to_owned()));
                }
                take(&values);
                left -= records;
            }
            Ok(())
        };
        read().map_err(|error| self.blocks.fail(error))
    }

    fn whole<T: DataType>(&self, group: usize, column: usize, rows: &Range<usize>) -> Result<Vec<T::T>, ArchiveError> {
        let mut all = Vec::with_capacity(rows.len());
        self.column::<T>(group, column, rows.clone(), rows.len(), |values| all.extend_from_slice(values))?;
        Ok(all)
    }

    /// Reads some rows of the file, sorted into series and runs.
    fn read_into(
        &self,
        rows: Range<u64>,
        series: &mut BTreeMap<(String, String), BTreeMap<Run, Slots>>,
    ) -> Result<(), ArchiveError> {
        let mut begin = 0;
        for group in 0..self.groups() {
            let end = begin + self.rows_of_group(group) as u64;
            let wanted = rows.start.max(begin)..rows.end.min(end);
            if wanted.start < wanted.end {
                let in_group = |row: u64| usize::try_from(row - begin).unwrap_or(usize::MAX);
                self.read_group(group, &(in_group(wanted.start)..in_group(wanted.end)), series)?;
            }
            begin = end;
        }
        Ok(())
    }

    fn read_group(
        &self,
        group: usize,
        rows: &Range<usize>,
        series: &mut BTreeMap<(String, String), BTreeMap<Run, Slots>>,
    ) -> Result<(), ArchiveError> {
        let paths = self.whole::<ByteArrayType>(group, PATH, rows)?;
        let starts = self.whole::<Int64Type>(group, START, rows)?;
        let frequencies = self.whole::<Int64Type>(group, FREQUENCY, rows)?;
        let times = self.whole::<Int64Type>(group, TIMESTAMP, rows)?;
        let values = self.whole::<DoubleType>(group, VALUE, rows)?;
        let mut at = 0;
        let is_same = |a: &ByteArray, b: &ByteArray| a.data() == b.data();
        for of_path in paths.chunk_by(is_same) {
            let path = of_path.first().map(ByteArray::data).unwrap_or_default();
            let path = std::str::from_utf8(path).map_err(|error| self.damaged(error.to_string()))?;
            let runs = series.entry(split_path(path)).or_default();
            let mut next = at;
            at += of_path.len();
            while next < at {
                let (start, frequency) = (starts[next], frequencies[next]);
                let len = (next..at).take_while(|&row| (starts[row], frequencies[row]) == (start, frequency)).count();
                let run = u32::try_from(frequency).ok().filter(|&frequency| frequency > 0);
                let run = run.map(|frequency| Run { start, frequency });
                let run = run.ok_or_else(|| self.damaged("a row has no frequency"))?;
                let slots = runs.entry(run).or_default();
                for row in next..next + len {
                    let slot =
                        slot_of(run, times[row]).ok_or_else(|| self.damaged("a row is on no slot of its run"))?;
                    let first = slots.0.first().map_or(slot, |&(first, _)| first);
                    if (i64::from(slot) - i64::from(first)).abs() > SLOTS_MAX {
                        return Err(self.damaged("rows of a run are more than a day apart"));
                    }
                    slots.0.push((slot, values[row]));
                }
                next += len;
            }
        }
        Ok(())
    }
}

/// The slot that begins at a time.
fn slot_of(run: Run, time: i64) -> Option<u32> {
    let (since, frequency) = (time.checked_sub(run.start)?, i64::from(run.frequency));
    if since % frequency != 0 { None } else { u32::try_from(since / frequency).ok() }
}
