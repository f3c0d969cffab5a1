//! Opening a store that has hours of 200,000 series in snapshots, half and whole, without and with a log behind them:
//! against reading the log. The directories are made once a machine, below the target directory.
//!
//! The second run tells the memory: in the first one, what the making of the directories left behind is used again.

use crate::compare::{Figure, compare};
use crate::env::{SetClock, is_test, scale, time};
use crate::ingest::Ingest;
use crate::workload::{self, SERIES, Senders, metrics};
use criterion::{Criterion, SamplingMode};
use kymo_engine::disk::{self, Disk, IoKind};
use kymo_engine::paths::Paths;
use kymo_engine::store::{Durability, OpenReport, Options, Progress, Store};
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const HOSTS: u32 = 529;

/// A directory with this many minutes of this many hosts in snapshots, and more of them in the log.
pub(crate) struct History {
    pub(crate) directory: PathBuf,
    hosts: u32,
    minutes: u32,
    /// Minutes in the log.
    tail: u32,
    /// Whether its days are over, and one file each.
    is_sealed: bool,
}

impl History {
    /// Without a log, in a place that it keeps.
    pub(crate) fn of(hosts: u32, minutes: u32) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("history-{hosts}-{minutes}"));
        Self { directory, hosts, minutes, tail: 0, is_sealed: false }
    }

    /// In another place.
    pub(crate) fn at(self, directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..self }
    }

    fn with_tail(self, tail: u32) -> Self {
        let directory = format!("history-{}-{}-{tail}", self.hosts, self.minutes);
        Self { directory: self.directory.with_file_name(directory), tail, ..self }
    }

    /// The hours of 200,000 series that are looked through.
    pub(crate) fn hours() -> Self {
        Self::of(scale(HOSTS, 3), scale(240, 4))
    }

    /// As it is some days later.
    pub(crate) fn sealed(self) -> Self {
        let directory = format!("history-{}-{}-sealed", self.hosts, self.minutes);
        Self { directory: self.directory.with_file_name(directory), is_sealed: true, ..self }
    }

    /// Hosts times minutes: what each series of a host has a value of.
    pub(crate) fn host_minutes(&self) -> u32 {
        self.hosts * self.minutes
    }

    /// Writes it if it is not there.
    pub(crate) fn make(self) -> Self {
        let done = self.directory.with_extension("done");
        if is_test() || !done.exists() {
            if self.directory.exists() {
                fs::remove_dir_all(&self.directory).expect("an old directory is removed");
            }
            self.write();
            drop(fs::File::create(done).expect("there is space"));
        }
        self
    }

    /// Writes it with the bound of the log that is the default, a pause nowhere.
    pub(crate) fn write(&self) {
        let mut options = self.options();
        options.durability = Durability::Interval(Duration::from_hours(1));
        let mut ingest = Ingest::new(disk(), options, self.hosts);
        for minute in 0..self.minutes + self.tail {
            if minute == self.minutes {
                while ingest.store.compact_step(true).expect("there is space") == Progress::Done {}
            }
            ingest.prepare();
            ingest.write();
            ingest.store.prepare_step().expect("there is space");
            while minute < self.minutes && ingest.store.compact_step(false).expect("there is space") == Progress::Done {
            }
        }
        if self.tail == 0 {
            ingest.store.close().expect("there is space");
        }
        drop(ingest);
        if self.is_sealed {
            self.seal();
        }
    }

    /// Lets days pass until all that was written is out of the late window, and merges it.
    fn seal(&self) {
        let later = self.minutes + 3 * 24 * 60;
        let clock = Arc::new(SetClock::at(workload::time(later)));
        let (store, _) = Store::open(disk(), clock, self.options()).expect("the store opens");
        let mut body = Vec::new();
        Senders::default().node_body(0, later, &mut body);
        store.write(&body, "", true).expect("the log takes rows");
        while store.commit_step() == Progress::Done {}
        while store.compact_step(false).expect("there is space") == Progress::Done {}
        store.close().expect("there is space");
    }

    fn options(&self) -> Options {
        Options::new(&self.directory, metrics())
    }

    /// Opens it.
    pub(crate) fn open(&self) -> (Store, OpenReport) {
        let clock = Arc::new(SetClock::at(workload::time(self.minutes + self.tail)));
        Store::open(disk(), clock, self.options()).expect("the store opens")
    }
}

fn disk() -> Arc<dyn Disk> {
    disk::open(IoKind::Auto).expect("there is a disk").0
}

/// Reads the files of the log past the page cache, as recovery does, and does not look at them.
fn read_log(directory: &Path) -> Duration {
    let (wal, disk) = (Paths::new(directory).wal(), disk());
    time(|| {
        for entry in disk.list(&wal).expect("the directory of the log is there") {
            black_box(disk.read(&wal.join(entry.name)).expect("a segment is read"));
        }
    })
}

/// Bytes of this process that are no file's.
fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
}

#[expect(clippy::print_stdout, reason = "a bench speaks to stdout")]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn tell(history: &History) {
    let before = anonymous_bytes();
    let (store, report) = history.open();
    let memory = anonymous_bytes().saturating_sub(before);
    store.measure_step();
    let (stats, series) = (store.stats(), f64::from(history.hosts * SERIES));
    println!(
        "    {} snapshots of {} MB, log of {:.1} MB, {} samples; memory: {:.1} bytes/series, of them rows {:.1}, names {:.1}",
        stats.snapshots,
        stats.snapshot_bytes >> 20,
        report.bytes as f64 / 1e6,
        report.samples,
        memory as f64 / series,
        stats.head_bytes as f64 / series,
        stats.names_bytes as f64 / series,
    );
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let (hosts, half, tail) = (scale(HOSTS, 3), scale(120, 2), scale(32, 2));
    let cases = [
        ("2 h", History::of(hosts, half)),
        ("4 h", History::hours()),
        ("4 h and a log", History::of(hosts, 2 * half).with_tail(tail)),
    ];
    let mut group = criterion.benchmark_group("history");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(2));
    for (id, history) in cases {
        let mut wanted = None;
        let setup = || {
            let history = wanted.insert(history.make());
            if !is_test() {
                tell(history);
            }
            &*history
        };
        let name = format!("open, {id}");
        compare(&mut group, &name, Figure::Latency, &["read of the log"], setup, |history, iterations, times| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let (store, report) = history.open();
                drop(store);
                times.add(0, report.elapsed);
                times.add(1, read_log(&history.directory));
                total += report.elapsed;
            }
            total
        });
    }
    group.finish();
}
