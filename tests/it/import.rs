//! Taking over from cc-metric-store: what its recorded checkpoints and archives hold is served, at the right time, also
//! what is left of damaged ones; what differs from what it served itself stands in `docs/compatibility.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::clock::{self, PATIENCE};
use crate::http::Client;
use crate::json::Json;
use crate::server::{RECORDINGS, Server, Site, recorded_config};
use crate::tools::overwrite;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
const HEADING: &str = "## Recorded checkpoints that are served differently";

fn index() -> Json {
    let text = fs::read_to_string(Path::new(RECORDINGS).join("index.json")).expect("the recordings are there");
    Json::parse(&text).expect("an index")
}

fn text<'a>(entry: &'a Json, key: &str) -> &'a str {
    entry.get(key).and_then(Json::text).unwrap_or_default()
}

fn recording(name: &str) -> String {
    fs::read_to_string(Path::new(RECORDINGS).join(name)).expect("a recording")
}

fn checkpoints(name: &str) -> PathBuf {
    Path::new(RECORDINGS).join("checkpoints").join(name)
}

/// A site whose configuration names a directory of checkpoints.
fn site_with(config: &str, checkpoints: &Path) -> Site {
    let mut config = recorded_config(config);
    let store = config.get_mut("metric-store").expect("a section");
    let section = store.get_mut("checkpoints").expect("a section");
    section.set("directory", checkpoints.display().to_string().as_str().into());
    let site = Site::empty();
    site.configure(config, &[]);
    site
}

/// Puts the recorded archives of a scenario below a site, as the predecessor lays them out; where they are.
fn archives(site: &Site, name: &str) -> PathBuf {
    let root = site.path().join("old");
    for cluster in ["alpha", "beta"] {
        let from = Path::new(RECORDINGS).join("archive").join(name).join(format!("{cluster}.parquet"));
        fs::create_dir_all(root.join(cluster)).expect("a directory");
        fs::copy(from, root.join(cluster).join("1700001300.parquet")).expect("a file is copied");
    }
    root
}

/// A site whose configuration has a recorded archive where it is to archive to, and no checkpoints.
fn site_with_archive(config: &str, name: &str) -> Site {
    let mut config = recorded_config(config);
    let site = Site::empty();
    let old = archives(&site, name).display().to_string();
    let store = config.get_mut("metric-store").expect("a section");
    store.get_mut("cleanup").expect("a section").set("directory", old.as_str().into());
    site.configure(config, &[]);
    site
}

/// The values of each series of an answer by time; numbers as they are rounded in the recordings.
type Series = Vec<BTreeMap<i64, String>>;

fn series(answer: &str, from: i64) -> Series {
    let answer = Json::parse(answer).expect("an answer is JSON");
    let results = answer.get("results").and_then(Json::list).expect("results");
    let of = |series: &Json| {
        let mut values = BTreeMap::new();
        let (Some(data), Some(first), Some(step)) = (
            series.get("data").and_then(Json::list),
            series.get("from").and_then(Json::integer),
            series.get("resolution").and_then(Json::integer),
        ) else {
            return values;
        };
        // What is padded in front lies before the `from` of the answer.
        let padded = (first - from).max(0) / step;
        for (number, value) in (0..).zip(data) {
            if let Some(value) = value.double() {
                values.insert(first + (number - padded) * step, format!("{value:.3}"));
            }
        }
        values
    };
    results.iter().flat_map(|result| result.list().into_iter().flatten()).map(of).collect()
}

fn ask(client: &mut Client, body: &str) -> (String, i64) {
    let from = Json::parse(body).expect("a query is JSON").get("from").and_then(Json::integer).expect("a time");
    let answer = client.get("/api/query/", body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200);
    (answer.text(), from)
}

/// What the predecessor served, where its own half interval of delay is taken back: it loads snapshots, not logs, with
/// the instants of the values as the begins of their slots.
fn put_right(mut recorded: Series, interval_of: &[i64]) -> Series {
    for (series, interval) in recorded.iter_mut().zip(interval_of) {
        *series = std::mem::take(series).into_iter().map(|(time, value)| (time - interval / 2, value)).collect();
    }
    recorded
}

/// The rows of the table: case, what differs, why.
fn documented() -> BTreeSet<String> {
    let document = fs::read_to_string(DOCUMENT).expect("docs/compatibility.md is there");
    let (_, section) = document.split_once(HEADING).expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "three cells: {row}");
        cells[0].to_owned()
    })
    .collect()
}

#[test]
fn recorded_checkpoints_are_served_at_the_right_time_or_as_documented() {
    let index = index();
    let entries = |key| index.get(key).and_then(Json::list).expect("a list");
    let mut documented = documented();
    let mut report = String::new();
    for scenario in entries("scenarios") {
        let name = text(scenario, "scenario");
        let loads = ["ckpt-load", "damaged", "archive"].iter().any(|kind| name.starts_with(kind));
        if !loads {
            continue;
        }
        let from_log = text(scenario, "checkpoints").contains("wal-");
        let archived = name.strip_prefix("archive-");
        let site = match archived {
            Some(archived) => site_with_archive(text(scenario, "config"), archived),
            None => site_with(text(scenario, "config"), &Path::new(RECORDINGS).join(text(scenario, "checkpoints"))),
        };
        let server = site.serve();
        let mut client = server.client();
        // The predecessor cannot load an archive: there is what it served of the checkpoints that became one.
        let served = archived.map_or_else(|| name.to_owned(), |archived| format!("ckpt-load-{archived}"));
        let cases = entries("cases").iter().filter(|case| text(case, "scenario") == served);
        let mut cases: Vec<&Json> = cases.collect();
        let is_refused = cases.is_empty();
        if is_refused {
            // The predecessor did not start; any query of that host will do.
            cases = entries("cases").iter().filter(|case| text(case, "id") == "384-damaged-bin-flip-value").collect();
        }
        for case in cases {
            let id = if is_refused { name } else { text(case, "id") };
            let id = &*archived.map_or_else(|| id.to_owned(), |_| format!("{name} {id}"));
            match text(case, "kind") {
                // What comes behind it is not of the archive alone.
                "write" if archived.is_some() => break,
                "write" => {
                    let body = recording(text(case, "body"));
                    assert_eq!(client.post(text(case, "path"), body.as_bytes()).expect("an answer").status, 200);
                    continue;
                }
                "query" => {}
                // Runs are not shown as the predecessor has them: see the text above the table.
                _ => continue,
            }
            let (answer, from) = ask(&mut client, &recording(text(case, "body")));
            let ours = series(&answer, from);
            let mut recorded = if is_refused {
                vec![BTreeMap::new(); ours.len()]
            } else {
                series(&recording(text(case, "response")), from)
            };
            if !from_log {
                let intervals: Vec<i64> = ours.iter().map(interval).collect();
                recorded = put_right(recorded, &intervals);
            }
            let is_same =
                ours.iter().filter(|series| !series.is_empty()).eq(recorded.iter().filter(|series| !series.is_empty()));
            if is_same == documented.remove(id) {
                let what = if is_same { "does not differ, but is documented to" } else { "differs" };
                let first = ours.iter().zip(&recorded).find(|(ours, recorded)| ours != recorded);
                _ = writeln!(report, "{id} {what}, first in {first:?}");
            }
        }
        server.stop();
    }
    assert!(documented.is_empty(), "documented, but no such case: {documented:?}");
    assert!(report.is_empty(), "docs/compatibility.md does not say what is:\n{report}");
}

/// The interval of a series with enough values.
fn interval(series: &BTreeMap<i64, String>) -> i64 {
    let times: Vec<i64> = series.keys().copied().collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(60)
}

/// Where the predecessor lost something or did not start, there is at least as much as it had, all of it is what the
/// undamaged files hold, and the damaged file is named.
#[test]
fn what_is_left_of_damaged_files_is_served_and_they_are_named() {
    let query = recording("cases/384-damaged-bin-flip-value.body");
    let whole = {
        let site = site_with("config.json", &checkpoints("wal"));
        let server = site.serve();
        let (answer, from) = ask(&mut server.client(), &query);
        server.stop();
        series(&answer, from)
    };
    let count = |series: &Series| series.iter().map(BTreeMap::len).sum::<usize>();
    assert_eq!(count(&whole), 138);
    // The damage, how many values are there, and what is said.
    let cases = [
        ("wal-truncated-mid-record", 47, "offset 2486: 20 bytes passed over: the file ends within a record"),
        ("wal-truncated-boundary", 47, ""),
        ("wal-truncated-in-magic", 47, "offset 2486: 2 bytes passed over: the file ends within a record"),
        ("wal-header-only", 0, ""),
        ("wal-empty", 0, ""),
        ("wal-half-header", 0, "offset 0: 2 bytes passed over: the file does not begin as its kind does"),
        ("wal-bad-file-magic", 138, "offset 0: 4 bytes passed over: the file does not begin as its kind does"),
        ("wal-flip-payload", 137, "bytes passed over: the checksum of a record does not match"),
        ("wal-flip-crc", 137, "bytes passed over: the checksum of a record does not match"),
        ("wal-flip-record-magic", 137, "bytes passed over: the bytes are no record"),
        ("wal-flip-length", 137, "bytes passed over: the checksum of a record does not match"),
        ("wal-length-huge", 137, "bytes passed over: the bytes are no record"),
        ("wal-zero-tail", 138, "offset 7314: 4096 bytes passed over: the bytes are no record"),
        ("wal-garbage-tail", 138, "offset 7314: 16 bytes passed over: the bytes are no record"),
        ("wal-doubled", 138, ""),
        ("wal-dup-header", 138, "offset 7314: 4 bytes passed over: the bytes are no record"),
        ("bin-truncated", 58, "bytes passed over: the file ends within a record"),
        ("bin-truncated-header", 0, "offset 0: 10 bytes passed over: the file ends within a record"),
        ("bin-empty", 0, "1699999440.bin: offset 0: the file does not begin as its kind does"),
        ("bin-bad-magic", 0, "offset 0: 1118 bytes passed over: the file does not begin as its kind does"),
        ("bin-flip-count", 138, "an array says to have more values than there is room or time for in its file"),
        ("bin-garbage-tail", 138, "offset 1118: 7 bytes passed over: the bytes are no record"),
        ("bin-to-past", 138, ""),
        ("bin-flip-name", 120, "kept, and answered once 'metrics' of the configuration has them: bpu_load"),
        ("stray-files", 138, "1700000000.bin.tmp: not imported: left over by an interrupted write"),
        ("bad-file-name", 138, "abc.bin: offset 0: 1 bytes passed over"),
        ("file-at-cluster-level", 138, "stray.txt: not imported: not a file of cc-metric-store"),
    ];
    let mut report = String::new();
    for (damage, values, says) in cases {
        let from = checkpoints("damaged").join(damage);
        let site = site_with("config.json", &from);
        let server = site.serve();
        let (answer, begin) = ask(&mut server.client(), &query);
        let found = series(&answer, begin);
        let said = server.stop();
        // A series that is missing is not in the answer.
        let is_in = |found: &BTreeMap<i64, String>, whole: &BTreeMap<i64, String>| {
            found.iter().all(|(time, value)| whole.get(time) == Some(value))
        };
        let is_true = found.iter().all(|found| whole.iter().any(|whole| is_in(found, whole)));
        if count(&found) != values || !is_true || !said.contains(says) {
            _ = writeln!(report, "{damage}: {} values, all true: {is_true}; it said\n{said}", count(&found));
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn checkpoints_are_taken_over_once_and_senders_go_on() {
    let site = site_with("config.json", &checkpoints("wal"));
    let (body, append) = (recording("cases/356-load-wal-c1.body"), recording("cases/359-load-wal-append.body"));
    let server = site.serve();
    assert!(server.said().contains("importing the checkpoints of cc-metric-store"), "{}", server.said());
    assert!(server.said().contains("imported 359 samples of 3 hosts from 3 files"), "{}", server.said());
    let mut client = server.client();
    assert_eq!(client.post("/api/write/", append.as_bytes()).expect("an answer").status, 200);
    let (before, _) = ask(&mut client, &body);
    for value in ["99", "98", "5", "33.75"] {
        assert!(before.contains(&format!("{value},")) || before.contains(&format!("{value}]")), "{value}: {before}");
    }
    server.stop();
    let server = site.serve();
    assert!(!server.said().contains("importing"), "{}", server.said());
    assert_eq!(ask(&mut server.client(), &body).0, before);
    server.stop();
}

#[test]
fn a_store_that_was_used_takes_nothing_over_and_an_empty_directory_does_no_harm() {
    let site = site_with("config.json", Path::new("./checkpoints"));
    let server = site.serve();
    let line = b"cpu_load,cluster=alpha,hostname=c1 value=1 1700000040\n";
    assert_eq!(server.client().post("/api/write", line).expect("an answer").status, 200);
    server.stop();
    copy(&checkpoints("wal"), &site.path().join("checkpoints"));
    let server = site.serve();
    let (answer, from) = ask(&mut server.client(), &recording("cases/356-load-wal-c1.body"));
    assert_eq!(series(&answer, from).iter().map(BTreeMap::len).sum::<usize>(), 1);
    server.stop();
}

/// While a checkpoint cannot be read yet the server says what it does, refuses writes for a while, and can be stopped
/// without a trace.
#[test]
fn while_it_takes_over_the_server_says_so_and_takes_no_writes() {
    let site = site_with("config.json", Path::new("./checkpoints"));
    copy(&checkpoints("wal"), &site.path().join("checkpoints"));
    let pipe = site.path().join("checkpoints/beta/zz/current.wal");
    fs::create_dir_all(pipe.parent().expect("a directory")).expect("a directory");
    assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    let mut server = site.spawn();
    server.wait_listening().expect("it listens");
    let mut client = server.client();
    let reason = clock::poll(PATIENCE, || {
        let answer = client.get("/ready", b"").expect("an answer");
        assert_eq!(answer.status, 503, "{}", server.said());
        Some(answer.text()).filter(|reason| reason.contains("3 of 4 hosts"))
    });
    assert!(reason.is_some_and(|reason| reason.contains("importing the checkpoints in ./checkpoints")));
    let line = b"cpu_load,cluster=alpha,hostname=c1 value=1 1700000040\n";
    let refused = client.post("/api/write", line).expect("an answer");
    assert_eq!((refused.status, refused.header("Retry-After").is_some()), (503, true));
    let mut client = server.client();
    assert!(client.get("/metrics", b"").expect("an answer").text().contains("\nkymo_import_hosts 4\n"));
    // Whoever opens the pipe ends the wait.
    drop(fs::File::options().write(true).open(&pipe).expect("the server has it open"));
    let mut client = server.client();
    let ready = clock::poll(PATIENCE, || {
        let answer = client.get("/ready", b"");
        if answer.is_err() {
            client = server.client();
        }
        answer.ok().filter(|answer| answer.status == 200)
    });
    assert!(ready.is_some(), "{}", server.said());
    let (answer, from) = ask(&mut server.client(), &recording("cases/356-load-wal-c1.body"));
    assert_eq!(series(&answer, from).len(), 7);
    server.stop();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry").path();
        let to = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            fs::copy(&entry, &to).expect("a file is copied");
        }
    }
}

fn import(site: &Site, from: &Path, more: &[&str]) -> Output {
    let from = from.display().to_string();
    let mut arguments = vec!["import", "--from", &from, "--config", "config.json"];
    arguments.extend(more);
    site.command(&arguments).output().expect("the program runs")
}

fn document(output: &Output) -> Json {
    Json::parse(&String::from_utf8_lossy(&output.stdout)).expect("a report is JSON")
}

#[test]
fn the_command_reports_what_it_did_and_once_more_changes_nothing() {
    let site = Site::new(&[]);
    let output = import(&site, &checkpoints("two"), &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = document(&output);
    let number = |report: &Json, key| report.get(key).and_then(Json::integer);
    assert_eq!((number(&report, "samples"), number(&report, "samples_known")), (Some(369), Some(2)));
    assert_eq!((number(&report, "hosts"), number(&report, "files")), (Some(3), Some(4)));
    let ask_all = || {
        let server = site.serve();
        let answers = ["394-load-two-c1", "395-load-two-c2"]
            .map(|case| ask(&mut server.client(), &recording(&format!("cases/{case}.body"))).0);
        server.stop();
        answers
    };
    let before = ask_all();
    let again = document(&import(&site, &checkpoints("two"), &["--json"]));
    assert_eq!((number(&again, "samples"), number(&again, "samples_known")), (Some(0), Some(371)));
    assert_eq!(ask_all(), before);
}

#[test]
fn damage_is_named_and_ends_with_exit_code_4() {
    let site = Site::new(&[]);
    let output = import(&site, &checkpoints("damaged/wal-flip-payload"), &[]);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("current.wal: offset ") && said.contains("imported 177 samples of 1 hosts"), "{said}");
}

#[test]
fn a_directory_that_is_not_there_and_a_store_in_use_are_refused() {
    let site = Site::new(&[]);
    let output = import(&site, Path::new("nowhere"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!site.data().exists(), "nothing was made");
    let server: Server = site.serve();
    let output = import(&site, &checkpoints("wal"), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    server.stop();
}

/// Rows of a CSV, in order: cluster, host, metric, level, time, value.
type Rows = Vec<(String, String, String, String, i64, f64)>;

fn rows_of(csv: &str, row: impl Fn(&[&str]) -> (usize, String)) -> Rows {
    let of = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let (time, level) = row(&fields);
        let [cluster, host, metric] = [0, 1, 2].map(|at| fields[at].to_owned());
        let value = fields[fields.len() - 1].parse().expect("a value");
        (cluster, host, metric, level, fields[time].parse().expect("a time"), value)
    };
    let mut rows: Rows = csv.trim_end().lines().skip(1).map(of).collect();
    rows.sort_by(|a, b| (&a.0, &a.1, &a.2, &a.3, a.4).cmp(&(&b.0, &b.1, &b.2, &b.3, b.4)));
    rows
}

#[test]
fn every_row_of_a_recorded_archive_is_there_with_its_time_and_bits() {
    for name in ["wal", "json"] {
        let site = Site::new(&[]);
        let output = import(&site, &archives(&site, name), &["--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let report = document(&output);
        let number = |key| report.get(key).and_then(Json::integer);
        assert_eq!((number("files"), number("hosts"), number("samples")), (Some(2), Some(3), Some(359)));
        let arguments = ["export", "--format", "csv", "--to", "-", "--config", "config.json"];
        let exported = site.command(&arguments).output().expect("the program runs");
        let exported = String::from_utf8(exported.stdout).expect("text");
        // A component `0` is the node: what it had of the same slot gives way to that.
        let found = rows_of(&exported, |fields| (5, fields[3].to_owned()));
        let mut recorded = Rows::new();
        for cluster in ["alpha", "beta"] {
            recorded.extend(rows_of(&recording(&format!("archive/{name}/{cluster}.csv")), |fields| {
                let (scope, id) = (fields[3], fields[4]);
                let level = if scope == "node" { String::new() } else { format!("{scope}{id}") };
                (5, level)
            }));
        }
        assert_eq!(found, recorded, "{name}");
    }
}

/// Only where the configuration has another directory or none are they left.
#[test]
fn checkpoints_where_the_predecessor_has_them_by_default_are_taken_over() {
    for (named, are_taken) in [(None, true), (Some(""), false), (Some("./checkpoints"), false)] {
        let mut config = recorded_config("config.json");
        let store = config.get_mut("metric-store").expect("a section");
        store.remove("checkpoints");
        if let Some(directory) = named {
            store.set("checkpoints", Json::Object(vec![("directory".to_owned(), directory.into())]));
        }
        let site = Site::empty();
        site.configure(config, &[]);
        copy_of_checkpoints(&site.path().join("var/checkpoints"));
        let server = site.serve();
        let said = server.said();
        assert_eq!(said.contains("importing the checkpoints of cc-metric-store"), are_taken, "{named:?}: {said}");
        server.stop();
    }
}

fn copy_of_checkpoints(to: &Path) {
    let from = checkpoints("wal");
    for host in fs::read_dir(from.join("alpha")).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let to = to.join("alpha").join(host.file_name().expect("it has a name"));
        fs::create_dir_all(&to).expect("a directory");
        for file in fs::read_dir(&host).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            fs::copy(&file, to.join(file.file_name().expect("it has a name"))).expect("a file is copied");
        }
    }
}

/// A value that both have is the same one, and damage to either is named.
#[test]
fn checkpoints_and_archives_are_imported_together_and_a_damaged_archive_is_named() {
    let site = Site::new(&[]);
    let old = archives(&site, "wal");
    let from = old.display().to_string();
    let both = ["--from", from.as_str(), "--json"];
    let report = document(&import(&site, &checkpoints("two"), &both));
    let number = |report: &Json, key| report.get(key).and_then(Json::integer);
    assert_eq!((number(&report, "files"), number(&report, "hosts")), (Some(6), Some(3)));
    assert_eq!((number(&report, "damaged_files"), number(&report, "samples_known")), (Some(0), Some(321)));
    // The 369 of the checkpoints, and 40 of the archive that have lost what they are a part of.
    assert_eq!(number(&report, "samples"), Some(409));
    assert!(!site.data().join("snapshots/import.tmp").exists());

    let file = old.join("alpha/1700001300.parquet");
    let bytes = fs::read(&file).expect("the file is there");
    for (damage, says) in [
        (bytes[..bytes.len() / 2].to_vec(), "offset 0: 2766 bytes passed over: the file ends within a record"),
        (bytes[..0].to_vec(), "offset 0: the file does not begin as its kind does"),
        (
            {
                let mut flipped = bytes.clone();
                flipped[700] ^= 0x20;
                flipped
            },
            "1700001300.parquet: offset 689: 1796 bytes passed over: the checksum of a record does not match",
        ),
    ] {
        overwrite(&file, &damage);
        let site = Site::new(&[]);
        let output = import(&site, &old, &[]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(4) && said.contains(says), "{said}");
        assert!(
            said.contains("of 1 hosts") || said.contains("of 2 hosts"),
            "the other host and file are there: {said}"
        );
    }
}

#[test]
fn a_new_store_takes_over_checkpoints_and_the_archive_once() {
    let mut config = recorded_config("config.json");
    let site = Site::empty();
    let old = archives(&site, "wal").display().to_string();
    let store = config.get_mut("metric-store").expect("a section");
    store.get_mut("cleanup").expect("a section").set("directory", old.as_str().into());
    let from = checkpoints("two").display().to_string();
    store.get_mut("checkpoints").expect("a section").set("directory", from.as_str().into());
    site.configure(config, &[]);
    let server = site.serve();
    assert!(server.said().contains("imported 409 samples of 3 hosts from 6 files"), "{}", server.said());
    server.stop();
    let server = site.serve();
    assert!(!server.said().contains("importing"), "{}", server.said());
    server.stop();
}
