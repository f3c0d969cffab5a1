//! `kymo inspect`, `verify`, `backup` and `estimate`: what they find is what is there, also in damaged files and beside
//! a server at work; nothing they do changes a byte of the store.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kymo_engine::disk::{self, IoKind};
use kymo_engine::env::System;
use kymo_engine::model::{Aggregation, Metric, Metrics};
use kymo_engine::store::{Options, Progress, Store};
use kymo_engine::tools::estimate::{Shape, estimate};
use kymo_engine::tools::inspect::{self, Item, Sample, Show, Sink};

use crate::clock;
use crate::http::Client;
use crate::json::Json;
use crate::server::{Server, Site};

const FIRST_MINUTE: i64 = 1_700_000_040;
const CSV_HEAD: &str = "cluster,host,metric,component,subcomponent,time,value";

/// A site whose log is so short that snapshots are written all the time.
fn site() -> Site {
    Site::new(&[("log-bound", Json::Number("65536".to_owned()))])
}

fn number(host: usize, minute: i64) -> f64 {
    // Some are the same as an f32, some are not.
    f64::from(u32::try_from(minute).expect("small")) / if host.is_multiple_of(2) { 3.0 } else { 4.0 }
}

/// Sends a sample of each of `hosts` hosts for one minute.
fn send(client: &mut Client, hosts: usize, minute: i64) {
    let mut body = String::new();
    for host in 0..hosts {
        let (value, time) = (number(host, minute), FIRST_MINUTE + 60 * minute);
        writeln!(body, "cpu_load,cluster=alpha,hostname=n{host},type=node value={value} {time}").expect("a String");
    }
    let answer = client.post("/api/write", body.as_bytes()).expect("the server answers a write");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A site with snapshots, stopped cleanly.
fn stopped(hosts: usize, minutes: i64) -> Site {
    let site = site();
    let server = site.serve();
    let mut client = server.client();
    (0..minutes).for_each(|minute| send(&mut client, hosts, minute));
    server.stop();
    site
}

/// A site with rows in the log, its server killed.
fn killed(hosts: usize, minutes: i64) -> Site {
    let site = Site::new(&[]);
    let mut server = site.serve();
    let mut client = server.client();
    (0..minutes).for_each(|minute| send(&mut client, hosts, minute));
    server.kill();
    site
}

fn expected(hosts: usize, minutes: i64) -> BTreeSet<String> {
    let line = |host, minute| {
        let (value, time) = (number(host, minute), FIRST_MINUTE + 60 * minute);
        format!("alpha,n{host},cpu_load,,,{time},{value}")
    };
    (0..hosts).flat_map(|host| (0..minutes).map(move |minute| line(host, minute))).collect()
}

fn run(site: &Site, arguments: &[&str]) -> Output {
    site.command(arguments).output().expect("the program starts")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a tool, which must end with `code`; gives its stdout.
fn tool(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = run(site, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.to_str().expect("plain names")
}

#[expect(clippy::disallowed_methods, reason = "damage need not be durable")]
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    // A new file: the old one may be shared with a backup.
    drop(fs::remove_file(path));
    fs::write(path, bytes).expect("the file can be written");
}

fn damage(path: &Path, at: impl FnOnce(&[u8]) -> usize) {
    let mut bytes = fs::read(path).expect("the file is there");
    let at = at(&bytes);
    bytes[at] ^= 0x10;
    overwrite(path, &bytes);
}

fn samples(csv: &str) -> BTreeSet<String> {
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some(CSV_HEAD));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_snapshot_is_shown_as_text_json_and_the_samples_that_were_written() {
    let site = stopped(3, 30);
    let mut all = BTreeSet::new();
    for path in files(&site.data().join("snapshots")) {
        let text = tool(&site, &["inspect", name(&path)], 0);
        for part in ["kind snapshot", "partition 2023-11-14", "host n1", "metric cpu_load", "lsn_hi"] {
            assert!(text.contains(part), "`{part}` is missing:\n{text}");
        }
        let document = json(&tool(&site, &["inspect", name(&path), "--json"], 0));
        let items = document.get("items").and_then(Json::list).expect("items");
        let kinds: Vec<_> = items.iter().filter_map(|item| item.get("item")?.text()).collect();
        assert_eq!(kinds[..3], ["file", "header", "host"]);
        assert_eq!(document.get("damage").and_then(Json::integer), Some(0));
        all.extend(samples(&tool(&site, &["inspect", "--csv", name(&path)], 0)));
    }
    assert_eq!(all, expected(3, 30));
}

#[test]
fn a_segment_is_shown_as_text_json_and_the_samples_that_were_written() {
    let site = killed(2, 5);
    let path = files(&site.data().join("wal")).remove(0);
    let text = tool(&site, &["inspect", name(&path)], 0);
    for part in ["kind segment", "frame", "layout", "cpu_load//", "row", "time 1700000040", "end"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    json(&tool(&site, &["inspect", "--json", name(&path)], 0));
    assert_eq!(samples(&tool(&site, &["inspect", "--csv", name(&path)], 0)), expected(2, 5));
}

#[test]
fn a_manifest_is_shown_and_has_no_samples() {
    let site = stopped(1, 2);
    let path = site.data().join("MANIFEST");
    let text = tool(&site, &["inspect", name(&path)], 0);
    assert!(text.contains("generation") && text.contains("partition 2023-11-14"), "{text}");
    json(&tool(&site, &["inspect", "--json", name(&path)], 0));
    tool(&site, &["inspect", "--csv", name(&path)], 2);
    tool(&site, &["inspect", "--csv", "--json", name(&path)], 2);
    tool(&site, &["inspect", name(&site.path().join("config.json"))], 1);
    tool(&site, &["inspect", "nowhere"], 1);
    damage(&path, |bytes| bytes.len() - 1);
    let text = tool(&site, &["inspect", name(&path)], 4);
    assert!(text.contains("DAMAGE") && text.contains("generation"), "{text}");
    let text = tool(&site, &["verify", name(&site.data())], 4);
    assert!(text.contains("MANIFEST") && text.contains(".snap"), "{text}");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    let site = stopped(20, 30);
    let path = files(&site.data().join("snapshots")).remove(0);
    let mut child =
        site.command(&["inspect", "--csv", name(&path)]).stdout(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let status = clock::poll(clock::PATIENCE, || child.try_wait().expect("a child can be waited for"));
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// Where the data of the first host with 30 minutes begin: behind the header block and the tag of the column.
const FIRST_STRIPE: usize = 4096;

#[test]
fn a_damaged_stripe_is_named_and_the_others_are_shown() {
    let site = stopped(3, 30);
    let path = files(&site.data().join("snapshots")).remove(0);
    let before = samples(&tool(&site, &["inspect", "--csv", name(&path)], 0));
    damage(&path, |_| FIRST_STRIPE + 20);
    let after = samples(&tool(&site, &["inspect", "--csv", name(&path)], 4));
    let without_n0: BTreeSet<_> = before.into_iter().filter(|line| !line.contains(",n0,")).collect();
    assert!(!after.is_empty());
    assert_eq!(after, without_n0);
    let text = tool(&site, &["inspect", name(&path)], 4);
    assert!(text.contains("DAMAGE") && text.contains("metric cpu_load of host n0"), "{text}");
    let document = json(&tool(&site, &["verify", "--json", name(&site.data())], 4));
    assert_eq!(document.get("damaged").and_then(Json::integer), Some(1));
    let files = document.get("files").and_then(Json::list).expect("files");
    let bad: Vec<_> = files.iter().filter(|file| file.get("good") == Some(&Json::Bool(false))).collect();
    assert_eq!(bad[0].get("path").and_then(Json::text), Some(name(&path)));
    let place = bad[0].get("damage").and_then(Json::list).expect("places");
    assert_eq!(place[0].get("offset").and_then(Json::integer), Some(4096));
}

#[test]
fn whatever_happens_to_a_file_verify_names_it() {
    type Deed = fn(&Path, &Path);
    let deeds: [(&str, Deed, &str); 7] = [
        ("cut off", |one, _| overwrite(one, &fs::read(one).expect("a file")[..4500]), "ends after"),
        ("longer", |one, _| overwrite(one, &[fs::read(one).expect("a file"), vec![0]].concat()), "longer"),
        ("empty", |one, _| overwrite(one, b""), "ends after"),
        ("gone", |one, _| fs::remove_file(one).expect("a file"), "missing"),
        ("header", |one, _| damage(one, |_| 50), "checksum"),
        ("names", |one, _| damage(one, |bytes| bytes.len() - 1), "checksum"),
        (
            "swapped",
            |one, two| {
                let (first, second) = (fs::read(one).expect("a file"), fs::read(two).expect("a file"));
                overwrite(one, &second);
                overwrite(two, &first);
            },
            "not the snapshot that is listed",
        ),
    ];
    // Two partitions: midnight lies in between.
    let site = stopped(2, 180);
    let snapshots = site.data().join("snapshots");
    let whole: Vec<(PathBuf, Vec<u8>)> =
        files(&snapshots).into_iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect();
    let [(one, _), .., (two, _)] = &whole[..] else { panic!("{} snapshots", whole.len()) };
    for (what, deed, told) in deeds {
        deed(one, two);
        let text = tool(&site, &["verify", name(&site.data())], 4);
        assert!(text.contains(name(one)) && text.contains(told), "{what}: {text}");
        fs::remove_dir_all(&snapshots).expect("the snapshots");
        fs::create_dir(&snapshots).expect("a directory");
        for (path, bytes) in &whole {
            fs::copy(site.path().join("config.json"), path).expect("a new file");
            overwrite(path, bytes);
        }
        tool(&site, &["verify", name(&site.data())], 0);
    }
}

#[test]
fn foreign_and_unlisted_files_are_named_and_are_no_damage() {
    let site = stopped(2, 30);
    let data = site.data();
    let snapshot = files(&data.join("snapshots")).remove(0);
    fs::copy(&snapshot, data.join("snapshots/1999-01-01-0-1.snap")).expect("a copy");
    for file in ["stray", "snapshots/notes.txt", "wal/notes.txt"] {
        site.write(&format!("data/{file}"), b"not of kymo");
    }
    let text = tool(&site, &["verify", name(&data)], 0);
    for part in ["stray", "notes.txt", "1999-01-01-0-1.snap: snapshot that the manifest does not list"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    tool(&site, &["verify", name(site.path())], 1);
}

#[test]
fn damage_in_the_log_is_found_by_verify_and_refused_by_backup() {
    let site = killed(2, 8);
    tool(&site, &["verify", name(&site.data())], 0);
    let path = files(&site.data().join("wal")).remove(0);
    damage(&path, |_| 4096 + 200);
    let text = tool(&site, &["verify", name(&site.data())], 4);
    assert!(text.contains(name(&path)) && text.contains("offset 4096"), "{text}");
    let copy = site.path().join("copy");
    let output = run(&site, &["backup", name(&site.data()), name(&copy)]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains(name(&path)), "{}", said(&output));
    assert!(files(&copy).is_empty(), "a failed backup leaves nothing");
    let text = tool(&site, &["inspect", name(&path)], 4);
    assert!(text.contains("DAMAGE") && text.matches("  frame  ").count() >= 6, "{text}");
}

/// Sends minutes until it is told to stop; gives how many were acknowledged.
fn writing(server: &Server, hosts: usize, first: i64, stop: &Arc<AtomicBool>) -> thread::JoinHandle<i64> {
    let mut client = server.client();
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut minute = first;
        while !stop.load(Ordering::Relaxed) && minute < 100_000 {
            send(&mut client, hosts, minute);
            minute += 1;
        }
        minute
    })
}

#[test]
fn verify_finds_nothing_wrong_beside_a_server_that_writes_and_merges() {
    let site = site();
    let server = site.serve();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = writing(&server, 40, 0, &stop);
    let mut generations = BTreeSet::new();
    let moved = clock::poll(clock::PATIENCE, || {
        let document = json(&tool(&site, &["verify", "--json", name(&site.data())], 0));
        assert_eq!(document.get("good"), Some(&Json::Bool(true)));
        generations.insert(document.get("generation").and_then(Json::integer));
        (generations.len() > 4).then_some(())
    });
    assert!(moved.is_some(), "hardly any snapshot was written meanwhile: {generations:?}");
    let text = tool(&site, &["verify", "--pace", "50000000", name(&site.data())], 0);
    assert!(text.contains("0 damaged"), "{text}");
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().expect("the writer ends") > 0);
    server.stop();
    tool(&site, &["verify", name(&site.data())], 0);
}

#[test]
fn a_backup_beside_a_server_opens_and_has_all_that_was_acknowledged_before_it_began() {
    let site = site();
    let server = site.serve();
    let mut client = server.client();
    (0..40).for_each(|minute| send(&mut client, 40, minute));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = writing(&server, 40, 40, &stop);
    let mut copies = Vec::new();
    for _ in 0..4 {
        let copy = self::site();
        let document = json(&tool(&site, &["backup", "--json", name(&site.data()), name(&copy.data())], 0));
        assert_eq!(document.get("good"), Some(&Json::Bool(true)));
        copies.push(copy);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
    for copy in copies {
        let server = copy.serve();
        let mut client = server.client();
        for host in [0, 39] {
            let found = read(&mut client, host, 40);
            let wanted: Vec<_> = (0..40).map(|minute| Some(number(host, minute))).collect();
            assert_eq!(found, wanted, "host {host}");
        }
        send(&mut client, 1, 100_001);
        server.stop();
        tool(&copy, &["verify", name(&copy.data())], 0);
    }
    server.stop();
    tool(&site, &["verify", name(&site.data())], 0);
}

/// The first values of a host.
fn read(client: &mut Client, host: usize, minutes: i64) -> Vec<Option<f64>> {
    let body = format!(
        r#"{{"cluster":"alpha","from":{FIRST_MINUTE},"to":{},"queries":[{{"metric":"cpu_load","host":"n{host}"}}]}}"#,
        FIRST_MINUTE + 60 * minutes
    );
    let answer = client.get("/api/query", body.as_bytes()).expect("the server answers a query");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = json(&answer.text());
    let series = answer.get("results").and_then(Json::list).and_then(|results| results[0].list()?.first());
    let data = series.and_then(|series| series.get("data")?.list()).unwrap_or_default();
    data.iter().take(usize::try_from(minutes).expect("small")).map(Json::double).collect()
}

#[test]
fn a_backup_of_a_killed_or_stopped_store_opens_and_a_full_destination_is_refused() {
    for site in [killed(3, 20), stopped(3, 20)] {
        let copy = self::site();
        let text = tool(&site, &["backup", name(&site.data()), name(&copy.data())], 0);
        assert!(text.contains("segments"), "{text}");
        tool(&site, &["backup", name(&site.data()), name(&copy.data())], 2);
        let inside = site.data().join("copy");
        tool(&site, &["backup", name(&site.data()), name(&inside)], 2);
        assert!(!inside.exists());
        tool(&site, &["backup", name(site.path()), name(&site.path().join("copy"))], 1);
        // The store is not touched by what happens to the copy.
        let server = copy.serve();
        let wanted: Vec<_> = (0..20).map(|minute| Some(number(1, minute))).collect();
        assert_eq!(read(&mut server.client(), 1, 20), wanted);
        server.stop();
        tool(&site, &["verify", name(&site.data())], 0);
        let server = site.serve();
        assert_eq!(read(&mut server.client(), 1, 20), wanted);
        server.stop();
    }
}

#[derive(Default)]
struct Samples(BTreeSet<String>);

impl Sink for Samples {
    fn item(&mut self, _: &Item) -> io::Result<()> {
        Ok(())
    }

    fn sample(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        self.0.insert(format!("{sample:?}"));
        Ok(())
    }
}

#[test]
fn every_flipped_byte_of_a_snapshot_is_found_and_gives_no_other_sample() {
    let site = stopped(2, 3);
    let path = files(&site.data().join("snapshots")).remove(0);
    let (disk, _) = disk::open(IoKind::Posix).expect("the disk of the system");
    let look = |path: &Path| {
        let mut samples = Samples::default();
        let report = inspect::inspect(&*disk, path, Show::Samples, &mut samples).expect("it is ours by its name");
        (samples.0, report.damage)
    };
    let (good, damage) = look(&path);
    assert_eq!((good.len(), damage), (6, 0));
    let bytes = fs::read(&path).expect("a file");
    // Of the zeros of the header block some are enough.
    for at in (0..200).chain((200..4096).step_by(97)).chain(4096..bytes.len()) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x04;
        overwrite(&path, &flipped);
        let (found, damage) = look(&path);
        assert!(damage > 0, "byte {at}");
        assert!(found.is_subset(&good), "byte {at}: {found:?}");
    }
    for len in 0..bytes.len() {
        if len > 200 && len < 4000 {
            continue;
        }
        overwrite(&path, &bytes[..len]);
        let (found, damage) = look(&path);
        assert!(damage > 0 && found.is_subset(&good), "cut at {len}: {found:?}");
    }
}

#[test]
fn an_estimate_is_text_or_json_and_refuses_what_cannot_be() {
    let site = Site::empty();
    let shape = ["estimate", "--hosts", "1000", "--series", "200", "--interval", "60", "--retention", "48h"];
    let text = tool(&site, &shape, 0);
    for part in ["heap", "page cache", "disk", "3333/s", "Assumed"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    let document = json(&tool(&site, &[&shape[..], &["--json", "--f32-share", "0.5"]].concat(), 0));
    let day = document.get("page_cache_day_bytes").and_then(Json::integer).expect("a number");
    let values = 1000 * 200 * 1440 * 6;
    assert!((values..values * 11 / 10).contains(&day), "{day}");
    for wrong in [&["--interval", "0"], &["--retention", "soon"], &["--retention", "-1h"], &["--f32-share", "2"]] {
        tool(&site, &[&["estimate", "--hosts", "1", "--series", "1"], &wrong[..]].concat(), 2);
    }
}

#[test]
fn the_estimated_heap_is_what_a_store_has_when_its_log_is_full() {
    const HOSTS: usize = 2000;
    const METRICS: usize = 27;
    const CORES: usize = 14;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's directory is writable");
    let metric = |at| Metric { name: format!("metric_{at:02}").into(), frequency: 60, aggregation: Aggregation::Sum };
    let metrics = Metrics::new((0..METRICS).map(metric).collect()).expect("metrics");
    let (disk, _) = disk::open(IoKind::Posix).expect("the disk of the system");
    let mut options = Options::new(directory.path(), metrics);
    options.log_bound = 16 << 20;
    options.late_window = i64::MAX / 4;
    let bound = options.log_bound;
    let (store, _) = Store::open(disk, Arc::new(System::default()), options).expect("a new store");
    let mut body = String::new();
    let mut minute = 0;
    while store.stats().log_bytes < bound {
        for host in 0..HOSTS {
            body.clear();
            for series in 0..METRICS * CORES {
                let (metric, core, time) = (series / CORES, series % CORES, FIRST_MINUTE + 60 * minute);
                writeln!(
                    body,
                    "metric_{metric:02},cluster=alpha,hostname=node{host:04},type=core,type-id={core} value={minute}.5 \
                     {time}"
                )
                .expect("a String");
            }
            let written = store.write(body.as_bytes(), "", true).expect("the store takes it");
            assert_eq!(written.refused, 0);
            if host % 200 == 199 {
                while store.commit_step() == Progress::Done {}
            }
            // Every host has its series from the first minute on.
            if minute > 0 && store.stats().log_bytes >= bound {
                break;
            }
        }
        minute += 1;
    }
    store.measure_step();
    let stats = store.stats();
    assert_eq!(stats.series, HOSTS * METRICS * CORES);
    let mut shape = Shape::new(HOSTS as u64, (METRICS * CORES) as u64, 60, 0);
    shape.log_bound = bound;
    let (reckoned, found) = (estimate(&shape).heap, stats.head_bytes + stats.names_bytes);
    let is_near = reckoned * 2 < found * 3 && found * 2 < reckoned * 3;
    assert!(is_near, "{reckoned} bytes were reckoned and {found} are used: {stats:?}");
}
