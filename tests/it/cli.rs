//! The command line: exit codes and what the messages name.
//!
//! A failed start must tell what to do and must not make anything worse: the directory has the same bytes afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::http::Client;
use crate::json::Json;
use crate::server::{Server, Site, recorded_config};

/// What a frame of the log is padded to, in bytes.
const BLOCK: usize = 4096;
/// The first minute that is written to; `Site` makes the late window reach that far back.
const FIRST_MINUTE: i64 = 1_700_000_040;

#[test]
fn a_config_that_is_no_json_exits_2_and_names_the_file() {
    let site = Site::empty();
    site.write("broken.json", b"{\n  \"main\": {\"addr\": \"127.0.0.1:0\",}\n}\n");
    let (code, said) = failed_start(&site, "broken.json");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("broken.json"), "the file is not named:\n{said}");
    assert_eq!(bytes_below(site.path()).len(), 1, "a failed start left files behind");
}

#[test]
fn a_missing_config_file_exits_2_and_is_named() {
    let site = Site::empty();
    let (code, said) = failed_start(&site, "nowhere.json");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nowhere.json"), "the file is not named:\n{said}");
}

#[test]
fn an_unknown_key_exits_2_and_is_named_with_its_neighbour() {
    let site = Site::new(&[("durabilty", "sync".into())]);
    let before = bytes_below(site.path());
    for arguments in
        [&["serve", "--ignore-unsupported", "--config", "config.json"][..], &["check-config", "config.json"]]
    {
        let mut server = Server::spawn(site.command(arguments).stdout(Stdio::null()));
        let code = server.wait_exit().code();
        let said = server.said();
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        for part in ["config.json", "durabilty", "durability"] {
            assert!(said.contains(part), "{arguments:?}: `{part}` is not named:\n{said}");
        }
    }
    assert_eq!(bytes_below(site.path()), before, "a failed start changed files");
}

#[test]
fn a_wrong_value_exits_2_and_its_key_is_named() {
    let site = Site::new(&[("late-window", "soon".into())]);
    let (code, said) = failed_start(&site, "config.json");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("config.json") && said.contains("late-window"), "file and key are not named:\n{said}");
}

#[test]
fn a_user_that_is_unknown_exits_2_and_is_named() {
    let site = Site::empty();
    let mut config = recorded_config("config.json");
    config.get_mut("main").expect("a section `main`").set("user", "no-such-user".into());
    site.configure(config, &[]);
    let before = bytes_below(site.path());
    let (code, said) = failed_start(&site, "config.json");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("'no-such-user'") && said.contains("main.user"), "{said}");
    assert_eq!(bytes_below(site.path()), before, "a failed start changed files");
}

#[test]
fn a_directory_in_use_exits_3_and_its_holder_is_named() {
    let site = Site::new(&[]);
    let mut holder = site.serve();
    write(&mut holder.client(), "h1", 1.0, 0);
    let (code, said) = failed_start(&site, "config.json");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&holder.child().id().to_string()), "the holder is not named:\n{said}");
    assert_eq!(read(&mut holder.client(), "h1"), "[1]", "the holder was disturbed");
    write(&mut holder.client(), "h2", 2.0, 0);
    holder.stop();
}

#[test]
fn a_damaged_log_exits_4_and_salvage_makes_it_serve_again() {
    let site = Site::new(&[]);
    let mut server = site.serve();
    let mut client = server.client();
    for host in 0..6 {
        write(&mut client, &format!("h{host}"), f64::from(host), 0);
    }
    // A clean stop would leave nothing in the log.
    server.kill();
    let damaged = flip_a_byte_of_the_first_frame(&site.data().join("wal"));
    let name = damaged.file_name().and_then(|name| name.to_str()).expect("a plain name");

    let before = bytes_below(&site.data());
    let (code, said) = failed_start(&site, "config.json");
    assert_eq!(code, Some(4), "{said}");
    for part in [name, "offset", "kymo salvage"] {
        assert!(said.contains(part), "`{part}` is missing:\n{said}");
    }
    assert_eq!(bytes_below(&site.data()), before, "a failed start changed files");

    let directory = site.data().display().to_string();
    for (arguments, confirmed) in [(vec!["salvage", &directory], false), (vec!["salvage", "--yes", &directory], true)] {
        let output = run(&site, &arguments);
        let told = all_text(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
        assert!(told.contains(name), "salvage does not say which file is damaged:\n{told}");
        assert!(told.contains("lost"), "salvage does not say what is lost:\n{told}");
        assert_eq!(bytes_below(&site.data()) != before, confirmed, "salvage acts when it is told to, and only then");
    }

    let server = site.serve();
    write(&mut server.client(), "after", 9.0, 0);
    assert_eq!(read(&mut server.client(), "after"), "[9]");
    server.stop();
}

#[test]
fn a_clean_stop_exits_0_and_the_data_are_there_after_it() {
    let site = Site::new(&[]);
    let server = site.serve();
    let mut client = server.client();
    write(&mut client, "h1", 0.1, 0);
    write(&mut client, "h1", 0.2, 1);
    // The connection is kept open: an idle client must not hold up the stop.
    server.stop();
    let server = site.serve();
    assert_eq!(read(&mut server.client(), "h1"), "[0.1,0.2]");
    server.stop();
}

#[test]
fn an_archive_without_a_place_exits_2_and_the_key_is_named() {
    let site = Site::empty();
    let mut config = recorded_config("config.json");
    config.get_mut("metric-store").expect("a section `metric-store`").remove("cleanup");
    site.configure(config, &[]);
    site.serve().stop();
    let output = run(&site, &["archive", "--before", "2026-01-01", "--config", "config.json"]);
    let told = all_text(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("metric-store.cleanup.directory"), "{told}");
}

#[test]
fn authorities_that_cannot_be_read_exit_2_before_anything_is_made() {
    let site = Site::empty();
    let mut config = recorded_config("config.json");
    config.get_mut("main").expect("a section `main`").set("backend-url", "https://127.0.0.1:1".into());
    site.configure(config, &[("backend-ca-file", "no-such.pem".into())]);
    let before = bytes_below(site.path());
    let (code, said) = failed_start(&site, "config.json");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no-such.pem") && said.contains("backend"), "{said}");
    assert_eq!(bytes_below(site.path()), before, "a failed start changed files");
    let site = Site::new(&[("backend-ca-file", "no-such.pem".into())]);
    site.serve().stop();
}

#[test]
fn a_log_without_a_manifest_is_refused_with_what_to_do() {
    let site = Site::new(&[]);
    site.serve().stop();
    fs::remove_file(site.data().join("MANIFEST")).expect("the store has a manifest");
    let (code, said) = failed_start(&site, "config.json");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no MANIFEST") && said.contains("restore it from a copy"), "{said}");
}

#[test]
fn commands_on_a_store_make_none_and_tell_what_is_wrong_with_the_configuration() {
    let site = Site::empty();
    let mut config = recorded_config("config.json");
    config.set("no-such-section", Json::Object(Vec::new()));
    site.configure(config, &[]);
    let commands: [&[&str]; 3] =
        [&["archive", "--before", "2026-01-01"], &["cleanup"], &["export", "--format", "csv", "--to", "-"]];
    let run = |command: &[&str]| {
        let output = run(&site, &[command, &["--config", "config.json"]].concat());
        (output.status.code(), all_text(&output))
    };
    for command in commands {
        let (code, told) = run(command);
        assert_eq!(code, Some(1), "{command:?}: {told}");
        assert!(told.contains("it has no MANIFEST"), "{command:?}: {told}");
        assert!(!site.data().exists(), "{command:?} made a store");
    }
    site.serve().stop();
    for command in commands {
        let (code, told) = run(command);
        assert_eq!(code, Some(0), "{command:?}: {told}");
        assert!(told.contains("warning: ") && told.contains("no-such-section"), "{command:?}: {told}");
    }
}

#[test]
fn a_port_alone_is_that_of_all_interfaces() {
    let site = Site::empty();
    site.configure(recorded_config("config.json"), &[]);
    let mut command = site.command(&["serve", "--config", "config.json", "--ignore-unsupported", "--addr", ":0"]);
    let mut server = Server::spawn(&mut command);
    server.wait_ready();
    let port = server.address().port();
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for (host, is_there) in [("127.0.0.1", true), ("[::1]", has_ipv6)] {
        let connected = std::net::TcpStream::connect(format!("{host}:{port}"));
        assert_eq!(connected.is_ok(), is_there, "{host}: {connected:?}");
    }
    server.stop();
}

#[test]
fn root_leaves_a_store_of_another_user_alone() {
    let site = Site::new(&[]);
    site.serve().stop();
    // Only root can give a directory away.
    for path in [site.data(), site.data().join("MANIFEST")] {
        if std::os::unix::fs::chown(path, Some(65_534), None).is_err() {
            return;
        }
    }
    let before = bytes_below(&site.data());
    let directory = site.data().display().to_string();
    let with_config: [&[&str]; 4] = [
        &["import", "--from", "nowhere"],
        &["export", "--format", "csv", "--to", "-"],
        &["archive", "--before", "2026-01-01"],
        &["cleanup"],
    ];
    let with_config = with_config.map(|command| [command, &["--config", "config.json"]].concat());
    for command in with_config.into_iter().chain([vec!["salvage", &directory], vec!["salvage", "--yes", &directory]]) {
        let output = run(&site, &command);
        let told = all_text(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {told}");
        assert!(told.contains("sudo -u ") && told.contains(&directory), "{command:?}: {told}");
        assert_eq!(bytes_below(&site.data()), before, "{command:?}");
    }
}

#[test]
fn check_config_prints_the_effective_settings_and_changes_nothing() {
    let site = Site::new(&[]);
    let before = bytes_below(site.path());
    let output = run(&site, &["check-config", "config.json"]);
    let told = all_text(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let settings = String::from_utf8_lossy(&output.stdout);
    for part in ["late-window", "durability", "skew", "cpu_load", &site.data().display().to_string()] {
        assert!(settings.contains(part), "`{part}` is missing:\n{told}");
    }
    assert!(told.contains("num-workers"), "what has no meaning is not named:\n{told}");
    assert_eq!(bytes_below(site.path()), before, "check-config changed files");
}

#[test]
fn the_flags_of_the_predecessor_work_with_one_dash_and_without_a_subcommand() {
    let site = Site::empty();
    let mut config = recorded_config("config.json");
    config.get_mut("metric-store").expect("a section `metric-store`").remove("cleanup");
    site.configure(config, &[]);
    for arguments in [
        &["-config", "config.json", "-loglevel", "info", "-logdate"][..],
        &["-config=config.json", "-loglevel=info"],
        &["--config", "config.json", "--loglevel", "info"],
    ] {
        let mut server = Server::spawn(&mut site.command(arguments));
        server.wait_ready();
        write(&mut server.client(), "h1", 1.5, 0);
        assert_eq!(read(&mut server.client(), "h1"), "[1.5]", "{arguments:?}");
        server.stop();
    }
}

#[test]
fn the_version_is_told_and_unknown_flags_exit_2() {
    let site = Site::empty();
    for arguments in [["--version"], ["-version"]] {
        let output = run(&site, &arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all_text(&output));
        assert!(all_text(&output).contains(env!("CARGO_PKG_VERSION")), "{arguments:?}: {}", all_text(&output));
    }
    let output = run(&site, &["--frobnicate"]);
    assert_eq!(output.status.code(), Some(2), "{}", all_text(&output));
    assert!(all_text(&output).contains("frobnicate"), "{}", all_text(&output));
}

/// Runs a server that must not start; gives exit code and stderr.
fn failed_start(site: &Site, config: &str) -> (Option<i32>, String) {
    let mut server = Server::spawn(&mut site.command(&["serve", "--ignore-unsupported", "--config", config]));
    let code = server.wait_exit().code();
    (code, server.said())
}

/// Runs a command that ends by itself.
fn run(site: &Site, arguments: &[&str]) -> Output {
    site.command(arguments).output().expect("the program starts")
}

fn all_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Writes `value` for the minute `index`.
fn write(client: &mut Client, host: &str, value: f64, index: i64) {
    let line =
        format!("cpu_load,cluster=alpha,hostname={host},type=node value={value} {}\n", FIRST_MINUTE + 60 * index);
    let answer = client.post("/api/write", line.as_bytes()).expect("the server answers a write");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The values of a host's first hour, as JSON with the shortest digits.
fn read(client: &mut Client, host: &str) -> String {
    let body = format!(
        r#"{{"cluster":"alpha","from":{FIRST_MINUTE},"to":{},"queries":[{{"metric":"cpu_load","host":"{host}"}}]}}"#,
        FIRST_MINUTE + 3600
    );
    let answer = client.get("/api/query", body.as_bytes()).expect("the server answers a query");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = Json::parse(&answer.text()).expect("the answer is JSON");
    let series = answer.get("results").and_then(Json::list).and_then(|results| results[0].list()?.first());
    let values = series.and_then(|series| series.get("data")?.list()).unwrap_or_default().iter().map(Json::double);
    let values: Vec<String> = values.map(|value| value.map_or("null".to_owned(), |value| value.to_string())).collect();
    format!("[{}]", values.join(","))
}

/// Every file below `directory` and its bytes, except `LOCK`, which names whoever held the directory last.
fn bytes_below(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() {
            files.insert(path.clone(), Vec::new());
            files.extend(bytes_below(&path));
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            let bytes = fs::read(&path).expect("its files can be read");
            files.insert(path, bytes);
        }
    }
    files
}

/// Flips a byte in the first of several frames of the oldest segment: what follows it was written after it was synced,
/// so this is damage and no torn end.
#[expect(clippy::disallowed_methods, reason = "damage need not be durable")]
fn flip_a_byte_of_the_first_frame(wal: &Path) -> PathBuf {
    let segments = bytes_below(wal);
    let (path, bytes) = segments.into_iter().find(|(path, _)| path.is_file()).expect("there is a segment");
    let used = |block: &&[u8]| block.iter().any(|byte| *byte != 0);
    let frames = bytes.chunks(BLOCK).skip(1).take_while(used).count();
    assert!(frames >= 3, "{} has {frames} blocks behind its header", path.display());
    let mut bytes = bytes;
    let first = &mut bytes[BLOCK..2 * BLOCK];
    let end = first.iter().rposition(|byte| *byte != 0).unwrap_or_default();
    first[end / 2] ^= 0x10;
    fs::write(&path, bytes).expect("the segment can be damaged");
    path
}
