//! The names of kymo's files: the only place that builds and parses them.

use crate::model::Lsn;
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

    /// Tells the number of the first segment of a salvage that has begun.
    pub fn salvage(&self) -> PathBuf {
        self.root.join("SALVAGE")
    }

    /// The directory of the log.
    pub fn wal(&self) -> PathBuf {
        self.root.join("wal")
    }

    /// One segment of the log.
    pub fn segment(&self, seq: u64) -> PathBuf {
        self.wal().join(format!("{seq:016}.wal"))
    }

    /// The directory of the snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// One snapshot: the day of its slots, counted from 1970-01-01, the lowest and highest LSN that it may hold, and
    /// how often that range was written again: a mapped file is never replaced.
    pub fn snapshot(&self, partition: i64, lsn_lo: Lsn, lsn_hi: Lsn, edition: u32) -> PathBuf {
        let edition = if edition == 0 { String::new() } else { format!(".{edition}") };
        self.snapshots().join(format!("{}-{:016}-{:016}{edition}.snap", date(partition), lsn_lo.0, lsn_hi.0))
    }

    /// Where a damaged segment is set aside.
    pub fn set_aside(&self, seq: u64) -> PathBuf {
        self.wal().join(format!("{seq:016}.wal.damaged"))
    }
}

/// The UTC date of a day, counted from 1970-01-01, as `YYYY-MM-DD`.
///
/// The algorithm is `civil_from_days` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub fn date(day: i64) -> String {
    let shifted = i128::from(day) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Whether a name is that of a snapshot.
pub fn is_snapshot(name: &str) -> bool {
    name.strip_suffix(".snap").is_some()
}

/// The number in the name of a segment; `None` for any other name.
pub fn segment_seq(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let seq: u64 =
        (digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse())?.ok()?;
    (seq > 0).then_some(seq)
}

/// Whether a name is that of a damaged segment that was set aside.
pub fn is_set_aside(name: &str) -> bool {
    name.strip_suffix(".damaged").is_some_and(|name| segment_seq(name).is_some())
}

/// Whether a name is that of a file that was never finished.
pub fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (day, text) in [(0, "1970-01-01"), (-1, "1969-12-31"), (19_782, "2024-02-29"), (20_779, "2026-11-22")] {
            assert_eq!(date(day), text);
        }
        assert!(!date(i64::MAX).is_empty() && !date(i64::MIN).is_empty());
    }

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
