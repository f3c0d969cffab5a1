//! What an operator looks at must be there: names in the dashboard and in the alerts, and both as Prometheus takes them;
//! and the daily question, why a metric is not there, has an answer.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::clock::{self, PATIENCE};
use crate::json::Json;
use crate::server::{Server, Site, recorded_config};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ALERTS: &str = "docs/alerts/kymo.yml";
const DASHBOARD: &str = "docs/grafana/kymo.json";

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).expect("it is a part of the project")
}

/// A server that has answered requests of several kinds and would read messages, and its metrics.
fn metrics() -> String {
    let mut config = recorded_config("config.json");
    let json = |text: &str| Json::parse(text).expect("it is JSON");
    // Nobody is there.
    config.set("nats", json(r#"{"address":"nats://127.0.0.1:9"}"#));
    config.set("nats-jetstream", json(r#"{"stream":"S","subject":"s"}"#));
    let site = Site::empty();
    site.configure(config, &[]);
    let server = site.serve();
    let mut client = server.client();
    let now = clock::unix_seconds();
    let good = format!("cpu_load,cluster=alpha,hostname=h1,type=node value=1 {now}\n");
    for body in [&*good, "nobody_knows,cluster=alpha,hostname=h1 value=1\n", "cpu_load value\n"] {
        client.post("/api/write", body.as_bytes()).expect("the server answers a write");
    }
    let query = r#"{"cluster":"alpha","from":0,"to":1,"queries":[{"metric":"cpu_load","host":"h1"}]}"#;
    client.get("/api/query", query.as_bytes()).expect("the server answers a query");
    let metrics = clock::poll(PATIENCE, || {
        let metrics = client.get("/metrics", b"").expect("the server has metrics").text();
        metrics.contains("kymo_nats_pending_messages{").then_some(metrics)
    });
    metrics.expect("messages are counted")
}

/// The names of all families.
fn families(metrics: &str) -> BTreeSet<&str> {
    metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

/// Runs promtool with `input`; what it says if it finds fault.
fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let found = Command::new(Path::new(ROOT).join(".ci/tools")).arg("promtool").output().expect("the script runs");
    assert!(found.status.success(), "promtool is not here: {}", String::from_utf8_lossy(&found.stderr));
    let program = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(ROOT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool runs");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// The names of metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("kymo_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// Whether a name is one of a family, or one of the series of a histogram.
fn is_known(families: &BTreeSet<&str>, name: &str) -> bool {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    families.contains(name) || of_histogram.is_some_and(|name| families.contains(name))
}

#[test]
fn prometheus_takes_metrics_and_alerts_as_they_are() {
    if let Err(fault) = promtool(&["check", "metrics"], &metrics()) {
        panic!("promtool finds fault with /metrics:\n{fault}");
    }
    if let Err(fault) = promtool(&["check", "rules", ALERTS], "") {
        panic!("promtool finds fault with {ALERTS}:\n{fault}");
    }
    if let Err(fault) = promtool(&["test", "rules", "docs/alerts/kymo.test.yml"], "") {
        panic!("the alerts do not do what they should:\n{fault}");
    }
    assert!(promtool(&["check", "metrics"], "# TYPE a counter\na 1\n").is_err(), "it would find a fault");
}

#[test]
fn dashboard_alerts_and_description_speak_of_metrics_that_are_there() {
    let metrics = metrics();
    let families = families(&metrics);
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
    let alerts = read(ALERTS);
    let rules = alerts.lines().filter(|line| !line.trim_start().starts_with(['#', '-']) && line.contains("kymo_"));
    let mut asked = BTreeSet::new();
    for (place, text) in expressions.into_iter().map(|text| (DASHBOARD, text)).chain(rules.map(|line| (ALERTS, line))) {
        for name in names(text) {
            assert!(is_known(&families, &name), "{place} asks for {name}, which is not in /metrics:\n{metrics}");
            asked.insert(name);
        }
    }
    assert!(asked.len() > 30, "hardly any name was found: {asked:?}");
    let description = read("docs/metrics.md");
    let missing: Vec<_> = families.iter().filter(|name| !description.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not describe {missing:?}");
}

/// What the server says about a metric of a host.
fn diagnose(server: &Server, parameters: &str) -> Value {
    let answer = server.client().get(&format!("/api/diagnose?{parameters}"), b"").expect("the server answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).expect("the answer is JSON")
}

#[test]
fn why_a_metric_is_not_there_can_be_asked() {
    let site = Site::new(&[("late-window", "24h".into())]);
    let mut server = site.serve();
    let now = clock::unix_seconds();
    let body = format!(
        "cpu_load,cluster=alpha,hostname=h1,type=node value=1 {now}\n\
         cpu_load,cluster=alpha,hostname=h1,type=socket,type-id=1 value=1 {}\n\
         cpu_load,cluster=beta,hostname=h1,type=node value=1 {}\n\
         cpu_laod,cluster=alpha,hostname=h1,type=node value=1 {now}\n\
         cpu_laod,cluster=alpha,hostname=h1,type=node value=2 {now}\n\
         cpu_load,cluster=alpha,hostname=h2,type=node value=1 {}\n",
        now - 60,
        now - 3600,
        now - 30 * 86_400,
    );
    assert_eq!(server.client().post("/api/write", body.as_bytes()).expect("the server answers").status, 200);

    let arrives = diagnose(&server, "metric=cpu_load&host=h1&cluster=alpha");
    assert_eq!((&arrives["frequency"].is_u64(), arrives["seen"][0]["series"].as_u64()), (&true, Some(2)));
    let newest = arrives["seen"][0]["newest"].as_i64().expect("a time");
    assert!((now - 600..now + 600).contains(&newest), "{arrives}");
    assert!(arrives["verdict"].as_str().expect("a text").contains("it arrives"), "{arrives}");
    assert_eq!(arrives["seen"].as_array().map(Vec::len), Some(1), "{arrives}");

    let everywhere = diagnose(&server, "metric=cpu_load&host=h1");
    assert_eq!(everywhere["seen"].as_array().map(Vec::len), Some(2), "{everywhere}");
    assert!(everywhere["verdict"].as_str().expect("a text").contains("s old"), "{everywhere}");

    let mistyped = diagnose(&server, "metric=cpu_laod&host=h1&cluster=alpha");
    assert_eq!(mistyped["nearest"], "cpu_load");
    assert_eq!(
        (&mistyped["refusals"][0]["reason"], &mistyped["refusals"][0]["count"]),
        (&"unknown-metric".into(), &2.into())
    );
    assert!((now - 5..now + 60).contains(&mistyped["refusals"][0]["at"].as_i64().expect("a time")), "{mistyped}");

    let late = diagnose(&server, "metric=cpu_load&host=h2");
    assert_eq!((&late["refusals"][0]["reason"], late["seen"].as_array().map(Vec::len)), (&"too-late".into(), Some(0)));
    let never = diagnose(&server, "metric=cpu_load&host=h3");
    assert!(never["verdict"].as_str().expect("a text").contains("look at whoever should send it"), "{never}");

    for bad in ["", "?metric=cpu_load", "?host=h1", "?metric=&host=h1"] {
        let answer = server.client().get(&format!("/api/diagnose{bad}"), b"").expect("the server answers");
        assert_eq!(answer.status, 400, "{bad}");
    }

    let address = format!("http://{}", server.address());
    let run = |arguments: &[&str]| {
        let output =
            site.command(&[&["diagnose", "--server", &address], arguments].concat()).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = run(&["cpu_laod", "h1"]);
    assert!(code == Some(0) && said.contains("nearest configured name is \"cpu_load\""), "{code:?}: {said}");
    let (code, said) = run(&["cpu_load", "h1", "--cluster", "alpha", "--json"]);
    let said: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!((code, &said["host"]), (Some(0), &"h1".into()));
    server.kill();
    let (code, said) = run(&["cpu_load", "h1"]);
    assert!(code == Some(1) && said.contains("cannot ask http://"), "{code:?}: {said}");
}
