//! Memory must not be asked for once a line: a server that does so slows down with each core that joins. A binary of its
//! own, since an allocator that counts belongs to all tests of a binary.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not the functions that they share")]

use allocation_counter::measure;
use kymo_engine::archive::LocalDirectory;
use kymo_engine::ccms::bin::{self, Series, Tree};
use kymo_engine::ccms::wal::{self, Record};
use kymo_engine::ccms::{Values, json};
use kymo_engine::decode::{Context, Limits, LineError, Point, Scratch, Sink, decode};
use kymo_engine::disk::sim::SimDisk;
use kymo_engine::disk::{Disk, Posix};
use kymo_engine::env::Env;
use kymo_engine::import;
use kymo_engine::model::{Aggregation, Metric, Metrics};
use kymo_engine::paths::ArchiveLayout;
use kymo_engine::store::{Archive, ImportArray, ImportHost, Options, Progress, Store};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const BEGIN: i64 = 1_700_000_040;
const METRICS: [&str; 5] = ["flops_any", "flops_dp", "ipc", "clock", "vector_ratio"];

#[derive(Debug)]
struct Clock(AtomicI64);

impl Env for Clock {
    fn unix_now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn unique(&self) -> [u8; 16] {
        [7; 16]
    }
}

fn metrics() -> Metrics {
    let metric = |name: &str| Metric { name: name.into(), frequency: 60, aggregation: Aggregation::Sum };
    Metrics::new(METRICS.into_iter().map(metric).collect()).unwrap()
}

/// Lines of some hardware threads of one host, without those whose number is `missing` in every 47.
fn body(threads: u32, minute: i64, missing: u32) -> String {
    let mut body = String::new();
    let places = (0..threads).flat_map(|thread| METRICS.map(|metric| (thread, metric)));
    for (number, (thread, metric)) in (0..).zip(places) {
        if number % 47 != missing {
            let (value, time) = (f64::from(number) * 0.25, BEGIN + minute * 60);
            let tags = format!("cluster=fritz,hostname=f0001,type=hwthread,type-id={thread}");
            writeln!(body, "{metric},{tags} value={value} {time}").unwrap();
        }
    }
    body
}

struct Nothing;

impl Sink for Nothing {
    fn point(&mut self, _: Point<'_>) {}

    fn refused(&mut self, error: LineError<'_>) {
        panic!("{error}");
    }
}

#[test]
fn decoding_allocates_nothing() {
    let (metrics, limits, mut scratch) = (metrics(), Limits::default(), Scratch::default());
    let context = Context { default_cluster: "", limits: &limits, complete: true };
    let body = body(100, 0, 47);
    let mut decode = || decode(body.as_bytes(), &metrics, &context, &mut scratch, &mut Nothing);
    assert_eq!(decode().points, 500);
    assert_eq!(measure(|| assert_eq!(decode().points, 500)).count_total, 0);
}

/// Allocations of one write in the steady state, with its commit and without.
fn allocations_of_a_write(threads: u32) -> (u64, u64) {
    let clock = Arc::new(Clock(AtomicI64::new(BEGIN)));
    let env = Arc::clone(&clock);
    let (store, _) = Store::open(Arc::new(SimDisk::new(1)), env, Options::new("/data", metrics())).unwrap();
    let (mut of_write, mut of_commit) = (0, 0);
    for minute in 0..40_u32 {
        clock.0.store(BEGIN + i64::from(minute) * 60, Ordering::Relaxed);
        let body = body(threads, i64::from(minute), minute);
        let lines = body.lines().count() as u64;
        of_write = measure(|| {
            let written = store.write(body.as_bytes(), "", true).unwrap();
            assert_eq!((written.accepted, written.refused), (lines, 0));
        })
        .count_total;
        of_commit = measure(|| while store.commit_step() == Progress::Done {}).count_total;
    }
    // The first line of a body is always read.
    assert!(store.stats().repeated > store.stats().samples * 4 / 5, "{}", store.stats().repeated);
    (of_write, of_commit)
}

#[test]
fn a_write_allocates_for_its_frame_and_not_for_its_lines() {
    let (small, small_commit) = allocations_of_a_write(2);
    let (large, large_commit) = allocations_of_a_write(400);
    // The bytes of the open frame grow by doubling, 16 times from nothing to the longest.
    assert!(small <= 8, "{small}");
    assert!(large <= small + 8, "{large} after {small}");
    assert!(large_commit <= small_commit + 8, "{large_commit} after {small_commit}");
}

#[test]
fn a_name_of_a_level_is_kept_once_however_many_arrays_and_levels_are_below_it() {
    const LONG: usize = 1 << 16;
    const MANY: usize = 2000;
    let name = "x".repeat(LONG);
    let metrics: Vec<String> =
        (0..MANY).map(|at| format!(r#""m{at}":{{"frequency":60,"start":60,"data":[1]}}"#)).collect();
    let levels: Vec<String> = (0..MANY).map(|at| format!(r#""l{at}":{{"metrics":{{{}}}}}"#, metrics[0])).collect();
    let level = format!(r#"{{"metrics":{{{}}},"children":{{{}}}}}"#, metrics.join(","), levels.join(","));
    let text = format!(r#"{{"children":{{"{name}":{level}}}}}"#);
    let mut arrays = 0;
    let allocated = measure(|| {
        let snapshot = json::read(text.as_bytes());
        assert_eq!(snapshot.skips.count, 0);
        assert!(snapshot.arrays.iter().all(|array| array.component.len() == LONG));
        arrays = snapshot.arrays.len();
    });
    assert_eq!(arrays, 2 * MANY);
    let text_len = text.len() as u64;
    assert!(allocated.bytes_total < 20 * text_len, "{} for a text of {text_len}", allocated.bytes_total);
}

/// Heap that archiving a day of so many hosts with a sample a second takes at most.
fn peak_of_archiving(hosts: u32) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Posix);
    let place = Arc::new(LocalDirectory::new(Arc::clone(&disk), directory.path().join("archive")));
    let mut options = Options::new(directory.path().join("data"), metrics());
    options.retention = Some(DAY);
    options.archive = Some(Archive { place, layout: ArchiveLayout::Hive, is_fed: true });
    let clock = Arc::new(Clock(AtomicI64::new(MIDNIGHT + 9 * DAY)));
    let open = || Store::open(Arc::clone(&disk), Arc::<Clock>::clone(&clock), options.clone()).unwrap().0;
    let store = open();
    let mut import = store.begin_import().unwrap();
    let values = Values::Parsed((0..86_400_u32).map(|at| f64::from(at.wrapping_mul(2_654_435_761)) * 1e-3).collect());
    for host in 0..hosts {
        let mut of_host = ImportHost::new();
        let series = of_host.entry("power").or_default().entry(("", "")).or_default();
        series.arrays.push(ImportArray { start: MIDNIGHT, frequency: 1, values: &values });
        import.host("fritz", &format!("n{host:04}"), &of_host).unwrap();
    }
    assert!(!import.next_pass().unwrap());
    import.finish().unwrap();
    store.close().unwrap();
    drop(store);
    let store = open();
    // The newest sample tells how old a day is.
    let now = format!("ipc,cluster=fritz,hostname=n0000 value=1 {}\n", clock.0.load(Ordering::Relaxed));
    assert_eq!(store.write(now.as_bytes(), "", true).unwrap().accepted, 1);
    while store.commit_step() == Progress::Done {}
    let peak = measure(|| while store.archive_step().unwrap() == Progress::Done {}).bytes_max;
    assert_eq!(store.stats().archived_rows, u64::from(hosts) * 86_400);
    peak
}

const DAY: i64 = 86_400;
const MIDNIGHT: i64 = 19_000 * DAY;
const COMPONENTS: u32 = 40;

fn component(number: u32) -> String {
    format!("hwthread{number}")
}

/// What the predecessor has of a day of a host.
fn tree() -> Tree {
    let mut tree = Tree::default();
    for (number, metric) in (0..COMPONENTS).flat_map(|number| METRICS.map(|metric| (number, metric))) {
        let values = (0..1440_u32).map(|at| f64::from((at + number) % 10)).collect();
        *tree.at(metric, &component(number), "") = Series { start: MIDNIGHT, frequency: 60, values };
    }
    tree
}

/// What it has of some minutes behind that day.
fn log(minutes: i64) -> Vec<u8> {
    let mut log = wal::MAGIC.to_vec();
    for minute in 0..minutes {
        for (number, metric) in (0..COMPONENTS).flat_map(|number| METRICS.map(|metric| (number, metric))) {
            let (component, time) = (component(number), MIDNIGHT + DAY + minute * 60);
            let record = Record { metric, component: &component, subcomponent: "", time, value: 1.5 };
            wal::write(&mut log, &record).unwrap();
        }
    }
    log
}

/// Heap that importing so many hosts with these files takes at most, and how many samples they have.
fn peak_of_importing(hosts: u32, files: &[(&str, &[u8])]) -> (u64, u64) {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Posix);
    let from = directory.path().join("checkpoints");
    for host in 0..hosts {
        let of_host = from.join(format!("fritz/n{host:04}"));
        disk.create_dir_all(&of_host).unwrap();
        for (name, content) in files {
            disk.replace(&of_host.join(name), content).unwrap();
        }
    }
    let options = Options::new(directory.path().join("data"), metrics());
    let clock = Arc::new(Clock(AtomicI64::new(MIDNIGHT + 3 * DAY)));
    let store = Store::open(Arc::clone(&disk), clock, options).unwrap().0;
    let mut samples = 0;
    let peak = measure(|| {
        let report = import::import(&store, &*disk, std::slice::from_ref(&from), &mut |_| true).unwrap();
        samples = report.imported.samples;
    });
    (peak.bytes_max, samples)
}

/// What `docs/compatibility.md` says: of what is parsed and written that of one host is in memory.
#[test]
fn importing_takes_no_more_memory_for_more_hosts() {
    let day = bin::write(MIDNIGHT, MIDNIGHT + DAY, &tree());
    let (name, log) = (format!("{MIDNIGHT}.bin"), log(60));
    let peak = |hosts: u32| {
        let (peak, samples) = peak_of_importing(hosts, &[(&name, &day), ("current.wal", &log)]);
        assert_eq!(samples, u64::from(hosts * COMPONENTS * 5 * (1440 + 60)));
        peak
    };
    let (small, large) = (peak(40), peak(160));
    assert!(large <= 8 << 20, "{large}");
    // Which files there are is known of all hosts.
    assert!(large <= small + 120 * 1024, "{small} for 40 hosts, {large} for 160");
}

/// And how much that is; `.bin` files are mapped.
#[test]
fn importing_a_host_takes_so_many_bytes_for_a_byte_of_its_files() {
    let (log, text) = (log(1440), json::write(MIDNIGHT, MIDNIGHT + DAY, &tree(), Some(1)));
    let bin = bin::write(MIDNIGHT, MIDNIGHT + DAY, &tree());
    let [day, lines] = [format!("{MIDNIGHT}.bin"), format!("{MIDNIGHT}.json")];
    for (name, content, times) in [("current.wal", &*log, 3), (&*lines, text.as_bytes(), 4), (&*day, &*bin, 0)] {
        let (peak, samples) = peak_of_importing(1, &[(name, content)]);
        assert_eq!(samples, u64::from(COMPONENTS * 5 * 1440));
        let bound = times * content.len() as u64 + (3 << 20);
        assert!(peak <= bound, "{name}: {peak} for {} bytes", content.len());
    }
}

/// The bound of `docs/archive.md`, of all that is allocated, reading the snapshots and comparing included: rows of a row
/// group, one encoded column and what encoding it takes, and one metric of a host.
#[test]
fn archiving_takes_no_more_memory_for_a_larger_day() {
    const BOUND: u64 = 64 << 20;
    let (small, large) = (peak_of_archiving(14), peak_of_archiving(42));
    assert!(large <= BOUND, "{large}");
    assert!(large <= small + (1 << 20), "{small} for one day, {large} for one thrice as large");
}
