//! Reading a file by verified blocks: no byte gets out that was not compared with its checksum.

use super::ArchiveError;
use super::place::ArchiveStore;
use super::sidecar::{BLOCK, FileEntry};
use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, Read};
use std::sync::Arc;

/// A file of which the checksums are known. Clones are the same file.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    place: Arc<dyn ArchiveStore>,
    key: Arc<str>,
    len: u64,
    block: usize,
    crcs: Arc<[u32]>,
}

impl Blocks {
    pub(super) fn new(place: Arc<dyn ArchiveStore>, key: &str, file: &FileEntry) -> Result<Self, ArchiveError> {
        let crcs = file.crcs().ok_or_else(|| ArchiveError::damaged(key, "its checksums are no numbers"))?;
        Ok(Self { place, key: key.into(), len: file.len, block: file.block, crcs: crcs.into() })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Bytes of the file, verified.
    fn bytes(&self, start: u64, len: usize) -> io::Result<Bytes> {
        let end = start.checked_add(len as u64).filter(|&end| end <= self.len);
        let end = end.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it points behind its end"))?;
        if len == 0 {
            return Ok(Bytes::new());
        }
        let block = self.block as u64;
        let begin = start / block * block;
        let covering = begin..end.next_multiple_of(block).min(self.len);
        let bytes = self.place.read(&self.key, covering.clone())?;
        if bytes.len() as u64 != covering.end - covering.start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = usize::try_from(begin / block).unwrap_or(usize::MAX);
        for (at, piece) in bytes.chunks(self.block).enumerate() {
            if self.crcs.get(first + at) != Some(&crc32fast::hash(piece)) {
                let offset = begin + (at * self.block) as u64;
                let what =
                    format!("the checksum of the {} bytes at offset {offset} is not that of the manifest", piece.len());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        let skip = usize::try_from(start - begin).unwrap_or(usize::MAX);
        Ok(Bytes::from(bytes).slice(skip..skip + len))
    }

    /// Reads some bytes and compares them with their checksums.
    pub(super) fn check(&self, start: u64, len: usize) -> Result<(), ArchiveError> {
        self.bytes(start, len).map(|_| ()).map_err(|error| self.fail(error.into()))
    }

    /// What an error of the Parquet reader means for this file.
    pub(super) fn fail(&self, error: ParquetError) -> ArchiveError {
        let source = match error {
            ParquetError::External(source) => source,
            other => return ArchiveError::damaged(&self.key, other.to_string()),
        };
        match source.downcast::<io::Error>() {
            Ok(source) if source.kind() == io::ErrorKind::InvalidData => {
                ArchiveError::damaged(&self.key, source.to_string())
            }
            Ok(source) => ArchiveError::io("read", &self.key)(*source),
            Err(other) => ArchiveError::damaged(&self.key, other.to_string()),
        }
    }
}

impl Length for Blocks {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Blocks {
    type T = From;

    fn get_read(&self, start: u64) -> ParquetResult<From> {
        Ok(From { blocks: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        Ok(self.bytes(start, length)?)
    }
}

/// The bytes from a place on.
#[derive(Debug)]
pub(super) struct From {
    blocks: Blocks,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.blocks.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left).min(BLOCK);
        buffer[..len].copy_from_slice(&self.blocks.bytes(self.at, len)?);
        self.at += len as u64;
        Ok(len)
    }
}
