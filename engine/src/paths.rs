//! The names of kymo's files: the only place that builds and parses them.

use std::path::{Path, PathBuf};

/// Where everything of one store lives.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The paths below a data directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("MANIFEST")
    }

    /// The directory of the log.
    pub fn wal(&self) -> PathBuf {
        self.root.join("wal")
    }

    /// One segment of the log.
    pub fn segment(&self, seq: u64) -> PathBuf {
        self.wal().join(format!("{seq:016}.wal"))
    }

    /// Where a damaged segment is set aside.
    pub fn set_aside(&self, seq: u64) -> PathBuf {
        self.wal().join(format!("{seq:016}.wal.damaged"))
    }
}

/// The number in the name of a segment; `None` for any other name.
pub fn segment_seq(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let seq: u64 =
        (digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse())?.ok()?;
    (seq > 0).then_some(seq)
}

/// Whether a name is that of a file that was never finished.
pub fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_name_reads_back_and_others_do_not() {
        let path = Paths::new("d").segment(42);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, "0000000000000042.wal");
        assert_eq!(segment_seq(name), Some(42));
        for name in ["42.wal", "0000000000000000.wal", "0000000000000042.wal.tmp", "+000000000000042.wal", ".wal", ""] {
            assert_eq!(segment_seq(name), None, "{name}");
        }
    }
}
