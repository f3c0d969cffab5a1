//! `kymo bench` loads a server that runs, and what it prints is what was done.

use crate::clock::unix_seconds;
use crate::json::Json;
use crate::server::Site;
use std::net::TcpListener;

#[test]
fn what_the_load_tool_writes_is_there_and_its_figures_say_how_much() {
    let site = Site::empty();
    let config = run(&site, &["bench", "config"]);
    site.configure(Json::parse(&config).expect("the printed configuration is JSON"), &[("late-window", "24h".into())]);
    let mut server = site.serve();
    let url = |path: &str| format!("http://{}{path}", server.address());
    let (write, query) = (url("/api/write"), url("/api/query"));
    // The minute in which the test runs may end between two commands.
    let begin = (unix_seconds() - 600).to_string();
    let pid = server.child().id().to_string();
    let shared = ["--hosts", "3", "--minutes", "4", "--begin", &begin, "--connections", "2", "--json"];

    let write = [&["bench", "write", &write, "--hosts-per-body", "2", "--pid", &pid], &shared[..]].concat();
    let written = figures(&run(&site, &write)).remove(0);
    let samples = count(&written, "samples");
    // 378 series of 3 hosts in 4 minutes, of which about one of 50 is missing.
    assert!((4300..4536).contains(&samples), "{samples}");
    assert_eq!(count(&written, "requests"), 8);
    for key in ["server_cpu_seconds_per_million_samples", "latency_p99_ms", "samples_per_second"] {
        assert!(written.get(key).and_then(Json::double).is_some_and(|figure| figure >= 0.0), "{key}: {written}");
    }
    // The same workload a second time: the same samples, so nothing more is stored.
    assert_eq!(count(&figures(&run(&site, &write))[0], "samples"), samples);

    let asked = [&["bench", "query", &query, "--requests", "3", "--rate", "1000"], &shared[..]].concat();
    let shapes = figures(&run(&site, &asked));
    assert_eq!(shapes.len(), 4);
    for shape in shapes {
        assert_eq!(count(&shape, "requests"), 3);
        assert!(count(&shape, "points") > 0, "nothing was read: {shape}");
    }
}

#[test]
fn a_server_that_refuses_or_is_not_there_is_named_with_exit_code_1() {
    let site = Site::empty();
    for (url, word) in [("http://127.0.0.1:1/api/write", "refused"), ("ftp://127.0.0.1/", "http://")] {
        let output = site.command(&["bench", "write", url]).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(url) && said.contains(word), "{said}");
    }
    let server = Site::new(&[]).serve();
    let url = format!("http://{}/nowhere", server.address());
    let output = site.command(&["bench", "write", &url, "--hosts", "1"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("404"), "{said}");
}

#[test]
fn a_restart_is_timed_from_exec_to_ready_with_cold_files_and_the_data_stay() {
    let site = Site::empty();
    site.configure(
        Json::parse(&run(&site, &["bench", "config"])).expect("it is JSON"),
        &[("late-window", "24h".into())],
    );
    let server = site.serve();
    let url = format!("http://{}/api/write", server.address());
    run(&site, &["bench", "write", &url, "--hosts", "1", "--minutes", "2"]);
    server.stop();
    // The server says where it listens only to whoever reads its log, so it is given an address that was free just now.
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free").to_string();
    let mut config = Json::parse(&std::fs::read_to_string(site.path().join("config.json")).expect("it was written"))
        .expect("it is JSON");
    config.get_mut("main").expect("a section `main`").set("addr", address.as_str().into());
    site.write("config.json", config.to_string().as_bytes());
    let (url, data) = (format!("http://{address}/ready"), site.data().display().to_string());
    let arguments = ["bench", "restart", "config.json", "--url", &url, "--cold", &data, "--rounds", "3", "--json"];
    let figures = figures(&run(&site, &arguments)).remove(0);
    assert_eq!(count(&figures, "rounds"), 3);
    assert!(count(&figures, "rss_anonymous_bytes") > 0, "{figures}");
    assert_eq!(figures.get("page_cache").and_then(Json::text), Some("cold"));
}

/// What the program prints when it succeeds.
fn run(site: &Site, arguments: &[&str]) -> String {
    let output = site.command(arguments).output().expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

fn figures(printed: &str) -> Vec<Json> {
    printed.lines().map(|line| Json::parse(line).expect("each line is a document")).collect()
}

fn count(figures: &Json, key: &str) -> i64 {
    figures.get(key).and_then(Json::integer).unwrap_or_else(|| panic!("no {key} in {figures}"))
}
