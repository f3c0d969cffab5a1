//! What archives hold, by host: hosts are imported one after the other, and an archive has the rows of all of them, in
//! any order, in files of any size.
//!
//! So the archives are read once, front to back, and what was gathered of the rows is written, a batch at a time, into
//! one temporary file: a binary snapshot for each host of the batch, four bytes a value. That file is mapped, and its
//! snapshots are read as those of the predecessor are. In memory is a batch, and where the snapshots of each host are.

use super::{Damaged, ImportError};
use crate::ccms::bin::{self, Series, Tree};
use crate::ccms::directory::ArchiveFile;
use crate::ccms::parquet::{self, Row};
use crate::ccms::{Skips, interval};
use crate::disk::{Disk, NewFile, Region};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Values, and as many bytes of names, of a batch.
const BATCH: usize = 1 << 18;
/// So many missing values in a row still belong to an array: an array of its own takes more.
const GAP: i64 = 16;

/// Snapshots of hosts in a temporary file, which goes with the value.
#[derive(Debug)]
pub(super) struct Spool<'d> {
    disk: &'d dyn Disk,
    path: PathBuf,
    region: Option<Region>,
    hosts: BTreeMap<Host, Vec<Range<usize>>>,
    /// Archives of which something was passed over.
    pub(super) damaged: Vec<Damaged>,
    /// Values of rows that were kept in memory at most.
    pub(super) peak: usize,
}

/// Cluster and host.
type Host = (String, String);

impl<'d> Spool<'d> {
    /// Reads archives. `watch` is told of each batch how many bytes of files are done, and says whether to go on.
    pub(super) fn fill(
        disk: &'d dyn Disk,
        path: PathBuf,
        archives: &[ArchiveFile],
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self, ImportError> {
        let (hosts, damaged) = (BTreeMap::new(), Vec::new());
        let mut spool = Self { disk, path, region: None, hosts, damaged, peak: 0 };
        if archives.is_empty() {
            return Ok(spool);
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ImportError::Spool { path, source }
        };
        let mut file = disk.create(&spool.path).map_err(failed(&spool.path))?;
        let (mut len, mut done) = (0, 0);
        let mut batch = Batch::default();
        for archive in archives {
            let region = disk.map(&archive.path).and_then(|region| region.touch(0..region.len()).map(|()| region));
            let region = match region {
                Ok(region) => region,
                Err(error) => {
                    let path = archive.path.clone();
                    spool.damaged.push(Damaged { path, skips: Skips::default(), error: Some(error) });
                    continue;
                }
            };
            let mut write = |batch: &mut Batch| {
                spool.peak = spool.peak.max(batch.values);
                batch.write(&mut *file, &mut len, &mut spool.hosts).map_err(failed(&spool.path))?;
                if watch(done) { Ok(()) } else { Err(ImportError::Stopped) }
            };
            let skips = parquet::read(&region, |row| {
                batch.add(row);
                if batch.is_full() { write(&mut batch) } else { Ok(()) }
            })?;
            // A batch has the order of one file.
            write(&mut batch)?;
            if region.is_poisoned() {
                return Err(ImportError::Lost { path: archive.path.clone() });
            }
            if skips.count > 0 {
                spool.damaged.push(Damaged { path: archive.path.clone(), skips, error: None });
            }
            done += archive.len;
        }
        file.finish(&[]).map_err(failed(&spool.path))?;
        spool.region = Some(disk.map(&spool.path).map_err(failed(&spool.path))?);
        Ok(spool)
    }

    /// The hosts that archives have something of.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.keys()
    }

    /// The snapshots of a host, those that count less first.
    pub(super) fn snapshots(&self, host: &Host) -> Result<Vec<&[u8]>, ImportError> {
        let (Some(region), Some(ranges)) = (&self.region, self.hosts.get(host)) else { return Ok(Vec::new()) };
        let snapshot = |range: &Range<usize>| {
            region.touch(range.clone())?;
            region.get(range.clone()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        let snapshots = ranges.iter().map(snapshot).collect::<io::Result<_>>();
        snapshots.map_err(|source| ImportError::Spool { path: self.path.clone(), source })
    }

    /// Where the file is, if a page of it could not be read after all.
    pub(super) fn lost(&self) -> Option<&Path> {
        self.region.as_ref().filter(|region| region.is_poisoned()).map(|_| &*self.path)
    }
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        // What stays behind, the next open of the store removes.
        drop(self.disk.unlink(&self.path));
    }
}

/// The arrays of some rows.
#[derive(Debug, Default)]
struct Batch {
    /// By host, metric and component; where one was seen last.
    known: HashMap<(Host, String, String), usize>,
    list: Vec<((Host, String, String), Vec<Series>)>,
    /// The series of the row before, and its scope as it was written.
    last: Option<(usize, String, String)>,
    values: usize,
    name_bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.values.max(self.name_bytes) >= BATCH
    }

    fn add(&mut self, row: &Row<'_>) {
        let at = self.series(row);
        let Some((_, arrays)) = self.list.get_mut(at) else { return };
        let frequency = i64::from(row.frequency);
        // The slot of the last array that the value is for, if it lies shortly behind what that array has.
        let slot = arrays.last().filter(|last| last.frequency == row.frequency).and_then(|last| {
            let since = row.time.checked_sub(last.start)?;
            let behind = since / frequency - i64::try_from(last.values.len()).ok()?;
            let is_near = since % frequency == 0 && (0..=GAP).contains(&behind);
            let count = usize::try_from(since / frequency).ok().filter(|_| is_near)?;
            interval(last.start, frequency, count + 1).map(|_| count)
        });
        match (slot, arrays.last_mut()) {
            (Some(slot), Some(array)) => {
                self.values += slot - array.values.len();
                array.values.resize(slot, f64::NAN);
                array.values.push(row.value.into());
            }
            _ => arrays.push(Series { start: row.time, frequency: row.frequency, values: vec![row.value.into()] }),
        }
        self.values += 1;
    }

    /// Where the series of a row is in the list.
    fn series(&mut self, row: &Row<'_>) -> usize {
        if let Some((at, scope, scope_id)) = &self.last
            && let Some((((cluster, host), metric, _), _)) = self.list.get(*at)
            && (&**scope, &**scope_id) == (row.scope, row.scope_id)
            && (&**cluster, &**host, &**metric) == (row.cluster, row.host, row.metric)
        {
            return *at;
        }
        let component = row.component().into_owned();
        let key = ((row.cluster.to_owned(), row.host.to_owned()), row.metric.to_owned(), component);
        let at = *self.known.entry(key).or_insert_with_key(|key| {
            self.name_bytes += row.cluster.len() + row.host.len() + row.metric.len() + key.2.len();
            self.list.push((key.clone(), Vec::new()));
            self.list.len() - 1
        });
        self.last = Some((at, row.scope.to_owned(), row.scope_id.to_owned()));
        at
    }

    /// Writes what is there as snapshots, of each host as many as a series has arrays at most, and begins anew.
    fn write(
        &mut self,
        file: &mut dyn NewFile,
        len: &mut usize,
        hosts: &mut BTreeMap<Host, Vec<Range<usize>>>,
    ) -> io::Result<()> {
        let Self { mut list, .. } = std::mem::take(self);
        for round in 0.. {
            // Series that are used up go, so that nobody looks at them again.
            list.retain(|(_, arrays)| round < arrays.len());
            if list.is_empty() {
                break;
            }
            let mut trees: BTreeMap<Host, Tree> = BTreeMap::new();
            for ((host, metric, component), arrays) in &mut list {
                if let Some(array) = arrays.get_mut(round) {
                    *trees.entry(host.clone()).or_default().at(metric, component, "") = std::mem::take(array);
                }
            }
            for (host, tree) in trees {
                let bytes = bin::write(0, 0, &tree);
                file.append(&bytes)?;
                hosts.entry(host).or_default().push(*len..*len + bytes.len());
                *len += bytes.len();
            }
        }
        Ok(())
    }
}
