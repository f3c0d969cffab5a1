//! What kymo archives, others read: the real `DuckDB`, Polars and pyarrow find every value, bit for bit, and kymo itself
//! answers from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clock;
use crate::json::Json;
use crate::server::{Site, recorded_config};
use crate::tools::overwrite;

/// A UTC midnight, 2023-11-15, and the interval of `cpu_load`.
const MIDNIGHT: i64 = 1_700_006_400;
const MINUTE: i64 = 60;

/// cluster, host, component, slot, value: in the order of the archive.
pub(crate) type Sent = Vec<(&'static str, &'static str, &'static str, i64, f64)>;

/// Samples of two clusters, around midnight, of values that must not be rounded.
pub(crate) fn samples() -> Sent {
    let mut sent = Sent::new();
    for slot in -5_i32..20 {
        let value = if slot % 2 == 0 { 0.1 + f64::from(slot) } else { -0.0 };
        sent.push(("7", "n1", "", slot.into(), value));
    }
    for slot in -3_i32..300 {
        sent.push(("alpha", "n1", "", slot.into(), 1.0 + f64::from(slot) / 3.0));
    }
    for (slot, value) in (0..).zip([5e-324, f64::MAX, 1.5, f64::MIN_POSITIVE]) {
        sent.push(("alpha", "n1", "socket0", slot, value));
    }
    sent.push(("alpha", "n10", "hwthread12", 7, 1e300));
    sent.push(("alpha", "n9", "", 7, 2.5));
    sent
}

/// The tool of this name, as `.ci/tools` finds it.
pub(crate) fn tool(name: &str) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/tools");
    let output = Command::new(script).arg(name).output().expect("the script of the tools runs");
    assert!(output.status.success(), "{name} cannot be had:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// Configures a site: `archive` is the section `cleanup`, `storage` more of that section.
pub(crate) fn configure(site: &Site, location: &str, late_window: &str, more: &[(&str, Json)]) {
    let mut config = recorded_config("config.json");
    let store = config.get_mut("metric-store").expect("a section `metric-store`");
    store.set("retention-in-memory", "876000h".into());
    let cleanup = store.get_mut("cleanup").expect("a section `cleanup`");
    cleanup.set("mode", "archive".into());
    cleanup.set("directory", location.into());
    let mut storage = vec![("late-window", late_window.into())];
    storage.extend(more.iter().cloned());
    site.configure(config, &storage);
}

/// Writes the samples, and one of now, into a store that takes them, and stops it.
pub(crate) fn fill(site: &Site, location: &str, more: &[(&str, Json)], environment: &[(&str, &str)]) {
    configure(site, location, "876000h", more);
    let mut server = site.serve_with(environment);
    server.wait_ready();
    let mut client = server.client();
    let mut body = String::new();
    for (cluster, host, component, slot, value) in samples() {
        let digits = component.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let place = match component.split_at(digits) {
            ("", _) => String::new(),
            (kind, id) => format!(",type={kind},type-id={id}"),
        };
        let time = MIDNIGHT + slot * MINUTE + MINUTE / 2;
        body.extend([format!("cpu_load,cluster={cluster},hostname={host}{place} value={value:?} {time}\n")]);
    }
    // The newest sample is the present, as far as days are concerned. It comes last, for older ones would take its phase.
    body.extend([format!("cpu_load,cluster=alpha,hostname=n1 value=4 {}\n", clock::unix_seconds())]);
    let answer = client.post("/api/write", body.as_bytes()).expect("the server answers a write");
    assert_eq!(answer.status, 200, "{}", answer.text());
    server.stop();
    configure(site, location, "1h", more);
}

/// Runs `kymo archive` for the days of the samples.
pub(crate) fn archive(site: &Site, environment: &[(&str, &str)]) -> std::process::Output {
    let mut command = site.command(&["archive", "--before", "2023-11-17", "--ignore-unsupported", "--json"]);
    command.envs(environment.iter().copied()).output().expect("the program runs")
}

/// What a query of two days is answered: the values that are there.
pub(crate) fn ask(site: &Site, host: &str, environment: &[(&str, &str)]) -> Result<Vec<f64>, String> {
    let mut server = site.serve_with(environment);
    server.wait_ready();
    let (from, to) = (MIDNIGHT - 3600, MIDNIGHT + 86_400);
    let query =
        format!(r#"{{"cluster":"alpha","from":{from},"to":{to},"queries":[{{"metric":"cpu_load","host":"{host}"}}]}}"#);
    let answer = server.client().get("/api/query", query.as_bytes()).expect("the server answers a query");
    let answer = Json::parse(&answer.text()).expect("an answer is JSON");
    server.stop();
    let results = answer.get("results").and_then(Json::list).expect("results");
    let series = results[0].list().and_then(<[Json]>::first).expect("a series");
    if let Some(error) = series.get("error").and_then(Json::text) {
        return Err(error.to_owned());
    }
    Ok(series.get("data").and_then(Json::list).expect("data").iter().filter_map(Json::double).collect())
}

/// The rows that the archive must have, with the value in hexadecimal as Python prints it.
fn expected() -> BTreeSet<String> {
    let rows = samples().into_iter().map(|(cluster, host, path, slot, value)| {
        let (scope, id) = match path {
            "" => ("node", ""),
            other => other.split_at(other.find(|c: char| c.is_ascii_digit()).expect("a number")),
        };
        let time = MIDNIGHT + slot * MINUTE;
        format!("{cluster} {host} cpu_load {scope} {id} {time} 60 {:016x} {path}", value.to_bits())
    });
    rows.collect()
}

/// A value that Python printed in hexadecimal.
fn from_hex(text: &str) -> f64 {
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let text = text.strip_prefix("0x").expect("a number in hexadecimal");
    let (mantissa, exponent) = text.split_once('p').expect("an exponent");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = u64::from_str_radix(&format!("{whole}{fraction:0<13}"), 16).expect("digits");
    let exponent: i32 = exponent.parse().expect("a number");
    #[expect(clippy::cast_precision_loss, reason = "53 bits at most")]
    let value = digits as f64 * 2f64.powi(-52);
    // Two steps, for the smallest numbers have no power of two of their own.
    sign * value * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
}

#[test]
fn duckdb_polars_and_pyarrow_read_every_bit_with_predicates_on_folders_and_columns() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    let output = archive(&site, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = Json::parse(&String::from_utf8_lossy(&output.stdout)).expect("the report is JSON");
    let count = samples().len();
    assert_eq!(told.get("archived_rows").and_then(Json::integer), i64::try_from(count).ok());

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/archive.py");
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let mut python = Command::new(tool("python"));
    let output = python.arg(script).arg(site.path().join("archive")).arg(readme).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<(String, String), Vec<Vec<Json>>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line = Json::parse(line).expect("a line is JSON");
        let text = |key: &str| line.get(key).and_then(Json::text).expect("a text").to_owned();
        let row = line.get("row").and_then(Json::list).expect("a row").to_vec();
        found.entry((text("reader"), text("question"))).or_default().push(row);
    }
    let expected = expected();
    for reader in ["duckdb", "polars", "pyarrow"] {
        let rows = |question: &str| -> Vec<String> {
            let rows = found.get(&(reader.to_owned(), question.to_owned())).expect("the reader has answered");
            let told = |row: &Vec<Json>| {
                let text = |at: usize| row[at].text().expect("a text");
                let number = |at: usize| row[at].integer().expect("a number");
                let value = from_hex(text(7)).to_bits();
                let (cluster, host, metric, scope, id) = (text(0), text(1), text(2), text(3), text(4));
                format!("{cluster} {host} {metric} {scope} {id} {} {} {value:016x} {}", number(5), number(6), text(8))
            };
            rows.iter().map(told).collect()
        };
        let all = rows("all");
        assert_eq!(all.len(), count, "{reader}");
        let wrong: Vec<_> = all.iter().filter(|row| !expected.contains(*row)).take(5).collect();
        assert!(wrong.is_empty() && all.iter().collect::<BTreeSet<_>>().len() == count, "{reader}: {wrong:#?}");
        let some: BTreeSet<String> = rows("some").into_iter().collect();
        let picked = samples()
            .into_iter()
            .filter(|&(cluster, host, _, slot, value)| (cluster, host) == ("alpha", "n1") && slot >= 0 && value > 1.0);
        assert_eq!(some.len(), picked.count(), "{reader}");
        assert!(some.is_subset(&expected), "{reader}");
    }
}

#[test]
fn a_server_answers_from_the_archive_and_names_a_file_that_is_damaged() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    assert!(archive(&site, &[]).status.success());
    let values: Vec<f64> = samples()
        .into_iter()
        .filter(|&(c, h, p, ..)| (c, h, p) == ("alpha", "n1", ""))
        .map(|(.., value)| value)
        .collect();
    assert_eq!(ask(&site, "n1", &[]), Ok(values));
    let file = site.path().join("archive/cluster=alpha/date=2023-11-15/part-0-0.parquet");
    let mut bytes = std::fs::read(&file).expect("the file is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    site.write("archive/cluster=alpha/date=2023-11-15/part-0-0.parquet", &bytes);
    let error = ask(&site, "n1", &[]).expect_err("the file is damaged");
    let named = "archive/cluster=alpha/date=2023-11-15/part-0-0.parquet is damaged";
    assert!(error.contains(named) && error.contains("checksum"), "{error}");
}

#[test]
fn all_nodes_are_also_those_that_are_archived_in_the_range() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    assert!(archive(&site, &[]).status.success());
    let mut server = site.serve();
    server.wait_ready();
    let mut client = server.client();
    let mut hosts_between = |from: i64, to: i64| -> Vec<String> {
        let query = format!(r#"{{"cluster":"alpha","from":{from},"to":{to},"for-all-nodes":["cpu_load"]}}"#);
        let answer = client.get("/api/query", query.as_bytes()).expect("the server answers a query");
        let answer = Json::parse(&answer.text()).expect("an answer is JSON");
        let queries = answer.get("queries").and_then(Json::list).unwrap_or_default();
        queries.iter().filter_map(|query| query.get("host")?.text().map(str::to_owned)).collect()
    };
    // The first host has a sample of now besides.
    assert_eq!(hosts_between(MIDNIGHT, MIDNIGHT + 86_400), ["n1", "n10", "n9"]);
    assert_eq!(hosts_between(MIDNIGHT - 30 * 86_400, MIDNIGHT - 29 * 86_400), ["n1"]);
    server.stop();
}

#[test]
fn a_running_server_archives_by_itself_what_has_passed_the_retention() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    let mut config = recorded_config("config.json");
    let store = config.get_mut("metric-store").expect("a section `metric-store`");
    store.set("retention-in-memory", "2h".into());
    store.get_mut("cleanup").expect("a section `cleanup`").set("directory", "archive".into());
    site.configure(config, &[("late-window", "1h".into())]);
    let server = site.serve();
    let mut client = server.client();
    let archived = clock::poll(std::time::Duration::from_secs(30), || {
        let metrics = client.get("/metrics", b"").expect("the server has metrics").text();
        metrics.lines().any(|line| line == "kymo_archived_parts 4").then_some(())
    });
    assert!(archived.is_some(), "{}", server.said());
    server.stop();
}

/// A store whose log ends as a kill leaves it: nothing has moved into snapshots.
#[test]
fn days_that_a_kill_left_in_the_log_alone_are_archived_on_demand() {
    let site = Site::empty();
    configure(&site, "archive", "876000h", &[]);
    let mut server = site.serve();
    let lines: String = (0..50)
        .map(|slot| format!("cpu_load,cluster=alpha,hostname=n1 value={slot}.5 {}\n", MIDNIGHT + slot * MINUTE))
        .chain([format!("cpu_load,cluster=alpha,hostname=n1 value=4 {}\n", clock::unix_seconds())])
        .collect();
    assert_eq!(server.client().post("/api/write", lines.as_bytes()).expect("an answer").status, 200);
    server.kill();
    configure(&site, "archive", "1h", &[]);
    let output = archive(&site, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = Json::parse(&String::from_utf8_lossy(&output.stdout)).expect("the report is JSON");
    assert_eq!(told.get("archived_rows").and_then(Json::integer), Some(50));
    assert_eq!(ask(&site, "n1", &[]).map(|values| values.len()), Ok(50));
}

/// The values of an export as CSV, by cluster, host and component.
fn exported(site: &Site) -> BTreeMap<(String, String, String), Vec<u64>> {
    let arguments = ["export", "--format", "csv", "--to", "-", "--config", "config.json"];
    let output = site.command(&arguments).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let key = (fields[0].to_owned(), fields[1].to_owned(), fields[3].to_owned());
        let value: f64 = fields[6].parse().expect("a value");
        found.entry(key).or_default().push(value.to_bits());
    }
    found
}

#[test]
fn an_export_has_the_days_that_are_in_the_archive_alone() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    let before = exported(&site);
    assert_eq!(before.values().map(Vec::len).sum::<usize>(), samples().len() + 1);
    assert!(archive(&site, &[]).status.success());
    assert_eq!(exported(&site), before);
    let file = "archive/cluster=alpha/date=2023-11-15/part-0-0.parquet";
    std::fs::remove_file(site.path().join(file)).expect("the file is there");
    let output = site.command(&["export", "--format", "csv", "--to", "-", "--config", "config.json"]).output();
    let output = output.expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("part-0-0.parquet"));
}

/// All files below a directory whose names end so, by their names below it.
fn files(root: &Path, end: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let name = PathBuf::from(entry.file_name().expect("a name"));
        if entry.is_dir() {
            found.extend(files(&entry, end).into_iter().map(|(below, content)| (name.join(below), content)));
        } else if entry.to_string_lossy().ends_with(end) {
            found.insert(name, std::fs::read(entry).expect("a file"));
        }
    }
    found
}

#[test]
fn an_export_as_parquet_has_the_files_that_the_archive_has() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    let export = |to: &str| {
        let arguments = ["export", "--format", "parquet", "--to", to, "--before", "2023-11-17"];
        let (code, said) = tool_on(&site, &[&arguments[..], &["--config", "config.json"]].concat(), &[]);
        assert!(code == Some(0) && said.contains(&format!("{} samples of 4 hosts", samples().len())), "{said}");
        files(&site.path().join(to), "")
    };
    let hot = export("hot");
    assert!(archive(&site, &[]).status.success());
    let archived = files(&site.path().join("archive"), ".parquet");
    let cold = export("cold");
    for exported in [&hot, &cold] {
        let parquet = |name: &PathBuf| name.extension().is_some_and(|extension| extension == "parquet");
        let exported: BTreeMap<_, _> = exported.iter().filter(|(name, _)| parquet(name)).collect();
        assert!(exported.into_iter().eq(&archived) && archived.len() == 4);
    }
}

/// Runs a tool on the store of a site; exit code, and what it printed.
pub(crate) fn tool_on(site: &Site, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = site.command(arguments);
    let output = command.envs(environment.iter().copied()).output().expect("the program runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

#[test]
fn verify_looks_at_every_byte_of_the_archive() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    assert!(archive(&site, &[]).status.success());
    let (code, said) = tool_on(&site, &["verify", "data"], &[]);
    assert!(code == Some(0) && said.contains("4 parts of the archive were not looked at"), "{said}");
    let verify = || tool_on(&site, &["verify", "data", "--config", "config.json"], &[]);
    let (code, said) = verify();
    assert!(code == Some(0) && said.contains("4 archived parts"), "{said}");
    let root = site.path().join("archive/cluster=alpha/date=2023-11-15");
    for name in ["part-0-0.parquet", "_manifest.json"] {
        let path = root.join(name);
        let bytes = std::fs::read(&path).expect("the file is there");
        let mut damages = vec![bytes[..bytes.len() - 1].to_vec(), [&bytes[..], b"x"].concat()];
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            damages.push(flipped);
        }
        for damaged in damages {
            overwrite(&path, &damaged);
            let (code, said) = verify();
            let is_named = said.lines().any(|line| line.starts_with("DAMAGED") && line.contains(name));
            assert!(code == Some(4) && is_named && said.contains("1 damaged"), "{name}: {said}");
        }
        std::fs::remove_file(&path).expect("the file is removed");
        assert_eq!(verify().0, Some(4), "{name} is missing");
        overwrite(&path, &bytes);
        assert_eq!(verify().0, Some(0));
    }
}

#[test]
fn a_backup_has_the_archive_and_answers_from_it() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    assert!(archive(&site, &[]).status.success());
    let (code, said) = tool_on(&site, &["backup", "data", "without"], &[]);
    assert!(code == Some(0) && said.contains("4 parts of the archive are not in the backup"), "{said}");
    let copy = Site::empty();
    let to = copy.data().display().to_string();
    let (code, said) = tool_on(&site, &["backup", "data", &to, "--config", "config.json"], &[]);
    assert!(code == Some(0) && said.contains("archive: 8 files linked, 0 copied"), "{said}");
    // The check of a backup finds its archive by itself.
    let (code, said) = tool_on(&copy, &["verify", "data"], &[]);
    assert!(code == Some(0) && said.contains("4 archived parts") && !said.contains("not of kymo"), "{said}");
    let expected = ask(&site, "n1", &[]);
    drop(site);
    configure(&copy, "data/archive", "1h", &[]);
    assert_eq!(ask(&copy, "n1", &[]), expected);
    assert!(expected.is_ok_and(|values| values.len() > 300));
}

#[test]
fn the_archive_needs_a_store_that_no_server_has() {
    let site = Site::empty();
    fill(&site, "archive", &[], &[]);
    let server = site.serve();
    assert_eq!(archive(&site, &[]).status.code(), Some(3));
    server.stop();
}
