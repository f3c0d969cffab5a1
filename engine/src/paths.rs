//! The names of kymo's files: the only place that builds and parses them.

use crate::model::Lsn;
use std::fmt::Write as _;
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

    /// Where a backup keeps its copy of the archive.
    pub fn archive_copy(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// What an import gathers of archives; the next open removes it.
    pub fn spool(&self) -> PathBuf {
        self.snapshots().join("import.tmp")
    }

    /// Where a damaged segment is set aside.
    pub fn set_aside(&self, seq: u64) -> PathBuf {
        self.wal().join(format!("{seq:016}.wal.damaged"))
    }
}

/// How the folders of an archive are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveLayout {
    /// `cluster=alpha/date=2026-11-20/part-0-0.parquet`: readers take cluster and date from the names.
    #[default]
    Hive,
    /// `alpha/2026-11-20-0-0.parquet`.
    Flat,
}

/// What of a partition was archived at once: the names of its objects are a function of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivePart {
    /// The way of naming.
    pub layout: ArchiveLayout,
    /// The cluster.
    pub cluster: String,
    /// The UTC day, in days since 1970-01-01.
    pub partition: i64,
    /// How often something of this day was archived before.
    pub part: u32,
}

impl ArchivePart {
    /// The folder of its objects.
    pub fn folder(&self) -> String {
        match self.layout {
            ArchiveLayout::Hive => format!("cluster={}/date={}", encode(&self.cluster), date(self.partition)),
            ArchiveLayout::Flat => encode(&self.cluster),
        }
    }

    /// The beginning of the names of its files.
    fn stem(&self) -> String {
        match self.layout {
            ArchiveLayout::Hive => format!("part-{}-", self.part),
            ArchiveLayout::Flat => format!("{}-{}-", date(self.partition), self.part),
        }
    }

    /// The name of a file in the folder, by its number.
    pub fn file(&self, number: u32) -> String {
        format!("{}{number}.parquet", self.stem())
    }

    /// Whether a name in the folder is one of its files.
    pub fn is_file(&self, name: &str) -> bool {
        let number = name.strip_prefix(&*self.stem()).and_then(|rest| rest.strip_suffix(".parquet"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    }

    /// The key of the manifest that stands beside the files.
    pub fn sidecar(&self) -> String {
        let name = match (self.layout, self.part) {
            (ArchiveLayout::Hive, 0) => "_manifest.json".to_owned(),
            (ArchiveLayout::Hive, part) => format!("_manifest-{part}.json"),
            (ArchiveLayout::Flat, part) => format!("_manifest-{}-{part}.json", date(self.partition)),
        };
        self.key(&name)
    }

    /// The key of a name in the folder.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.folder())
    }

    /// The key under which a store, told by its id, writes a file before it is published: no other writes to it, and readers
    /// pass over such names.
    pub fn aside(&self, store: &str, name: &str) -> String {
        self.key(&format!("_{store}-{name}"))
    }
}

/// A cluster as the name of a folder: what could mean something to a file system, a bucket or a reader, and a dot or
/// underscore in front, is percent-encoded.
fn encode(cluster: &str) -> String {
    let mut name = String::new();
    for (at, &byte) in cluster.as_bytes().iter().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || byte == b'-' || (at > 0 && matches!(byte, b'.' | b'_'));
        if is_plain {
            name.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            write!(name, "%{byte:02X}").ok();
        }
    }
    name
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

/// The day of a UTC date as `YYYY-MM-DD`, counted from 1970-01-01; `None` for any other text.
pub fn day_of(text: &str) -> Option<i64> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let number = |text: &str| text.parse::<i64>().ok();
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    let years = year - i64::from(month <= 2);
    let month_from_march = (month + 9).rem_euclid(12);
    let before_year = 365 * years + years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let found = before_year + (153 * month_from_march + 2) / 5 + day - 1 - 719_468;
    // Dates that do not exist, and other ways of writing, come out as another text.
    (date(found) == text).then_some(found)
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
            assert_eq!((date(day), day_of(text)), (text.to_owned(), Some(day)));
        }
        for text in ["2026-02-29", "2026-13-01", "26-1-1", "2026-11-22 ", "", "a-b-c"] {
            assert_eq!(day_of(text), None, "{text}");
        }
        assert!(!date(i64::MAX).is_empty() && !date(i64::MIN).is_empty());
    }

    #[test]
    fn an_archive_names_its_objects_by_cluster_and_day_alone() {
        let hive = ArchivePart { layout: ArchiveLayout::Hive, cluster: "a b/../_c".into(), partition: 20_779, part: 0 };
        assert_eq!(hive.key(&hive.file(3)), "cluster=a%20b%2F..%2F_c/date=2026-11-22/part-0-3.parquet");
        assert_eq!(hive.sidecar(), "cluster=a%20b%2F..%2F_c/date=2026-11-22/_manifest.json");
        assert_eq!(hive.aside("07", "x"), "cluster=a%20b%2F..%2F_c/date=2026-11-22/_07-x");
        let flat = ArchivePart { layout: ArchiveLayout::Flat, cluster: "_a".into(), part: 2, ..hive };
        assert_eq!(flat.key(&flat.file(0)), "%5Fa/2026-11-22-2-0.parquet");
        assert_eq!(flat.sidecar(), "%5Fa/_manifest-2026-11-22-2.json");
        assert!(flat.is_file("2026-11-22-2-17.parquet") && !flat.is_file("2026-11-22-1-17.parquet"));
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
