//! Every byte of an archive against its checksums.

use super::ArchiveError;
use super::blocks::Blocks;
use super::place::ArchiveStore;
use super::sidecar::Sidecar;
use crate::paths::ArchivePart;
use std::sync::Arc;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// One object of a part that was looked at.
#[derive(Debug)]
pub struct Looked {
    /// Its key.
    pub key: String,
    /// Bytes that were compared.
    pub bytes: u64,
    /// What is wrong with it: an offset, and what.
    pub damage: Vec<(u64, ArchiveError)>,
}

/// Reads the manifest of a part, and compares it with its length and CRC-32.
pub(super) fn sidecar(
    place: &dyn ArchiveStore,
    part: &ArchivePart,
    (len, crc): (u64, u32),
) -> Result<(Sidecar, u64), ArchiveError> {
    let key = part.sidecar();
    let content = place.get(&key).map_err(ArchiveError::io("read", &key))?;
    let content = content.ok_or_else(|| ArchiveError::damaged(&key, "it is missing"))?;
    if (content.len() as u64, crc32fast::hash(&content)) != (len, crc) {
        return Err(ArchiveError::damaged(&key, "its checksum is not the one that was recorded"));
    }
    Ok((Sidecar::parse(&key, &content)?, len))
}

/// Compares all of a part with the checksums of its manifest, and that with what the store has recorded. `pace` is told
/// of the bytes of each piece, and may wait; `each` gets what was found of each object.
pub fn verify(
    place: &Arc<dyn ArchiveStore>,
    part: &ArchivePart,
    known: (u64, u32),
    pace: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(Looked),
) {
    let key = part.sidecar();
    let sidecar = match sidecar(&**place, part, known) {
        Ok((sidecar, bytes)) => {
            each(Looked { key, bytes, damage: Vec::new() });
            sidecar
        }
        Err(error) => return each(Looked { key, bytes: 0, damage: vec![(0, error)] }),
    };
    for entry in &sidecar.files {
        let mut looked = Looked { key: part.key(&entry.name), bytes: 0, damage: Vec::new() };
        match Blocks::new(Arc::clone(place), &looked.key, entry) {
            Ok(blocks) => {
                while looked.bytes < entry.len {
                    let piece = (entry.len - looked.bytes).min(PIECE as u64);
                    if let Err(error) = blocks.check(looked.bytes, usize::try_from(piece).unwrap_or(PIECE)) {
                        looked.damage.push((looked.bytes, error));
                    }
                    pace(piece);
                    looked.bytes += piece;
                }
                // Other programs begin to read at the end.
                if place.read(&looked.key, entry.len..entry.len + 1).is_ok() {
                    let error = ArchiveError::damaged(&looked.key, "it is longer than its manifest says");
                    looked.damage.push((entry.len, error));
                }
            }
            Err(error) => looked.damage.push((0, error)),
        }
        each(looked);
    }
}
