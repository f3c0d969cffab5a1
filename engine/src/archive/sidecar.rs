//! The manifest that stands beside the files of a part: what there is, the checksums, and where the rows of each metric
//! of each host are.

use super::ArchiveError;
use super::batch::Batch;
use crate::paths::{ArchivePart, date};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The version of the form.
const FORMAT: u32 = 1;
/// Bytes that one checksum covers.
pub(super) const BLOCK: usize = 64 << 10;

/// The content of a `_manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// The version of this form.
    pub format: u32,
    /// The id of the store that wrote it.
    pub store: String,
    /// The cluster of all rows.
    pub cluster: String,
    /// The UTC date that all slots begin in.
    pub date: String,
    /// How often something of this date was archived before; a later part wins where two have a slot.
    pub part: u32,
    /// Rows of all files.
    pub rows: u64,
    /// First instant of the first slot, in unix seconds.
    pub from: i64,
    /// End of the last slot, in unix seconds.
    pub to: i64,
    /// The files, in the order of their rows.
    pub files: Vec<FileEntry>,
}

/// One Parquet file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name, in the same folder.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Its rows.
    pub rows: u64,
    /// The CRC-32 of all of it, eight hexadecimal digits.
    pub crc32: String,
    /// Bytes that each of `blocks` covers; the last may cover fewer.
    pub block: usize,
    /// The CRC-32 of each block, eight hexadecimal digits each.
    pub blocks: String,
    /// The names of the metrics.
    pub metrics: Vec<String>,
    /// The hosts in the order of their rows, each with (position of the metric, rows) in the order of their rows.
    pub hosts: Vec<(String, Vec<(u32, u64)>)>,
}

impl Sidecar {
    pub(super) fn new(store: String, part: &ArchivePart) -> Self {
        Self {
            format: FORMAT,
            store,
            cluster: part.cluster.clone(),
            date: date(part.partition),
            part: part.part,
            rows: 0,
            from: i64::MAX,
            to: i64::MIN,
            files: Vec::new(),
        }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads one, and checks that it says nothing that cannot be.
    pub fn parse(key: &str, bytes: &[u8]) -> Result<Self, ArchiveError> {
        let damaged = |what: &str| ArchiveError::damaged(key, what);
        let sidecar: Self = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
        if sidecar.format != FORMAT {
            return Err(damaged(&format!("format {} is not known, only {FORMAT}", sidecar.format)));
        }
        for file in &sidecar.files {
            let mut counts = file.hosts.iter().flat_map(|(_, metrics)| metrics);
            let metrics = file.metrics.len();
            let rows = counts
                .try_fold(0_u64, |sum, &(metric, rows)| sum.checked_add(rows).filter(|_| (metric as usize) < metrics));
            let blocks = file.len.div_ceil(file.block.max(1) as u64);
            if rows != Some(file.rows) || file.block == 0 || Some(file.blocks.len() as u64) != blocks.checked_mul(8) {
                return Err(damaged(&format!("its lists for {} do not add up", file.name)));
            }
            if file.name.contains('/') {
                return Err(damaged("a file is not in its folder"));
            }
        }
        if sidecar.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.rows)) != Some(sidecar.rows) {
            return Err(damaged("its rows do not add up"));
        }
        Ok(sidecar)
    }
}

impl FileEntry {
    /// Counts the rows of a batch to their hosts and metrics.
    pub(super) fn count(&mut self, batch: &Batch) {
        for same in &batch.same {
            let (host, metric) = (&batch.hosts.list[same.host as usize], &batch.metrics.list[same.metric as usize]);
            if self.hosts.last().is_none_or(|(last, _)| last != host) {
                self.hosts.push((host.clone(), Vec::new()));
            }
            let Some((_, metrics)) = self.hosts.last_mut() else { continue };
            let is_last = metrics.last().is_some_and(|&(last, _)| self.metrics[last as usize] == *metric);
            if !is_last {
                let position = self.metrics.iter().position(|known| known == metric).unwrap_or_else(|| {
                    self.metrics.push(metric.clone());
                    self.metrics.len() - 1
                });
                metrics.push((u32::try_from(position).unwrap_or(u32::MAX), 0));
            }
            if let Some((_, rows)) = metrics.last_mut() {
                *rows += u64::from(same.rows);
            }
            self.rows += u64::from(same.rows);
        }
    }

    /// The checksums of its blocks.
    pub(super) fn crcs(&self) -> Option<Vec<u32>> {
        let digits = self.blocks.as_bytes().chunks(8).map(|digits| std::str::from_utf8(digits).ok());
        digits.map(|digits| u32::from_str_radix(digits?, 16).ok()).collect()
    }

    /// The rows of a metric of a host.
    pub fn rows_of(&self, host: &str, metric: &str) -> Option<Range<u64>> {
        let at = self.hosts.binary_search_by(|(name, _)| (**name).cmp(host)).ok()?;
        let metric = self.metrics.iter().position(|known| known == metric)?;
        let before: u64 = self.hosts[..at].iter().flat_map(|(_, metrics)| metrics).map(|(_, rows)| rows).sum();
        let mut begin = before;
        for &(position, rows) in &self.hosts[at].1 {
            if position as usize == metric {
                return Some(begin..begin + rows);
            }
            begin += rows;
        }
        None
    }
}
