//! The predecessor's file must go on working, and a mistake in it must be found by its line, not by its consequences.

use std::{path::Path, time::Duration};

use kymo_engine::model::Aggregation;

use super::{
    load::{load_or, load_source},
    source::Source,
    *,
};

mod hostile;
mod nats;
mod predecessor;

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    load_source(&Source::new(Path::new("c.json"), text.as_bytes().to_vec())?)
}

/// A key as it stands in a file.
const KEY: &str = "kzfYrYy+TzpanWZHJ5qSdMj5uKUWgq74BWhQG6copP0=";

/// A section with one metric.
const METRICS: &str = r#""metrics": {"m": {"frequency": 60, "aggregation": null}}"#;

/// The smallest file that starts, with these members besides.
fn with(members: &str) -> Result<Loaded, ConfigError> {
    let comma = if members.is_empty() { "" } else { ",\n" };
    load_text(&format!("{{\"main\": {{\"addr\": \"localhost:0\"}},\n{METRICS}{comma}{members}}}"))
}

/// A file with these keys of the metric store besides the required one.
fn with_store(members: &str) -> Result<Loaded, ConfigError> {
    with(&format!("\"metric-store\": {{\"retention-in-memory\": \"48h\",\n{members}}}"))
}

fn with_storage(members: &str) -> Result<Loaded, ConfigError> {
    with(&format!("\"storage\": {{\n{members}}}"))
}

fn problems(result: Result<Loaded, ConfigError>) -> Vec<String> {
    match result {
        Err(ConfigError::Invalid(problems)) => problems.0.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

/// The only problem.
#[track_caller]
fn problem(result: Result<Loaded, ConfigError>) -> String {
    let problems = problems(result);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

#[track_caller]
fn assert_same(a: &Config, b: &Config) {
    assert_eq!(a.main, b.main);
    let list = |config: &Config| config.metrics.iter().map(|(_, metric)| metric.clone()).collect::<Vec<_>>();
    assert_eq!(list(a), list(b));
    assert_eq!((a.retention, a.memory_cap_bytes), (b.retention, b.memory_cap_bytes));
    assert_eq!(a.checkpoints_directory, b.checkpoints_directory);
    assert_eq!((&a.auth, &a.storage, &a.nats), (&b.auth, &b.storage, &b.nats));
}

#[test]
fn no_file_means_loopback_and_built_in_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("config.json");
    let loaded = load_or(None, &missing).unwrap();
    assert_eq!(loaded.config.main.addr, "127.0.0.1:8082");
    assert_eq!(loaded.config.retention, Some(Duration::from_hours(48)));
    assert_eq!(loaded.config.checkpoints_directory, None, "who has no file had no predecessor");
    assert!(loaded.config.metrics.find(b"cpu_load").is_some());
    assert_same(&loaded.config, &load_text(&loaded.config.to_json()).unwrap().config);
    let error = load_or(Some(&missing), &missing).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
}

#[test]
fn the_demo_has_a_directory_of_its_own() {
    let demo = Config::demo();
    assert_eq!(demo.main.addr, "127.0.0.1:8082");
    assert_eq!(demo.storage.directory, Path::new("./kymo-demo"));
    assert_eq!(demo.checkpoints_directory, None);
    assert_same(&demo, &load_text(&demo.to_json()).unwrap().config);
}

#[test]
fn a_small_file_gets_the_documented_defaults() {
    let loaded = with("").unwrap();
    let storage = &loaded.config.storage;
    assert_eq!(storage.directory, Path::new("./var/kymo"));
    assert_eq!((storage.durability, storage.io), (Durability::Sync, IoKind::Auto));
    assert_eq!((storage.late_window, storage.skew), (Duration::from_hours(24), Duration::from_hours(1)));
    assert_eq!((storage.limits.body, storage.limits.in_flight), (33_554_432, 268_435_456));
    assert_eq!(loaded.config.retention, Some(Duration::from_hours(48)));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn printed_settings_name_every_setting_and_read_back() {
    let text = r#""metric-store": {"retention-in-memory": "90m", "memory-cap": 3,
        "checkpoints": {"directory": "/c \"q\""}},
        "storage": {"directory": "/d", "durability": {"interval": "200ms"}, "late-window": "1h", "skew": "0s",
        "io": "io_uring", "backend-token": "t", "backend-ca-file": "/ca.pem", "log-bound": 65536, "limits": {"body": 1, "line": 2, "hosts": 3, "series-per-host": 4, "series": 5,
        "connections": 6,
        "query-points": 7, "in-flight": 8, "decoded-body": 2, "lines": 12, "connections-per-peer": 13,
        "requests-per-second": 14, "request-points": 15, "queries": 16, "query-timeout": "17s", "head-timeout": "9s", "body-timeout": "10s", "idle-timeout": "11s"}}"#;
    let config = with(text).unwrap().config;
    assert_eq!(config.storage.durability, Durability::Interval(Duration::from_millis(200)));
    assert_eq!((config.storage.skew, config.storage.io), (Duration::ZERO, IoKind::IoUring));
    assert_eq!(config.storage.backend_ca_file.as_deref(), Some(Path::new("/ca.pem")));
    let limits = &config.storage.limits;
    assert_eq!((limits.series_per_host, limits.in_flight, limits.idle_timeout), (4, 8, Duration::from_secs(11)));
    assert_eq!((limits.decoded_body, limits.lines, limits.connections_per_peer), (2, 12, 13));
    assert_eq!((limits.requests_per_second, limits.request_points, limits.queries), (14, 15, 16));
    assert_eq!(limits.query_timeout, Duration::from_secs(17));
    let printed = config.to_json();
    for key in ["\"late-window\": \"1h\"", "\"idle-timeout\": \"11s\"", "\"memory-cap\": 3", "\"aggregation\": null"] {
        assert!(printed.contains(key), "{key} in {printed}");
    }
    let again = load_text(&printed).unwrap().config;
    assert_same(&config, &again);
    assert_eq!(printed, again.to_json());
}

#[test]
fn a_backend_is_asked_over_http_or_https() {
    let url = |url: &str| {
        let text = format!(r#"{{"main": {{"addr": "a:1", "backend-url": "{url}"}}, "metrics": {{}}}}"#);
        load_text(&text).map(|loaded| loaded.config.main.backend_url)
    };
    assert_eq!(url("").unwrap(), None);
    assert_eq!(url("http://backend:8080/").unwrap().as_deref(), Some("http://backend:8080"));
    assert_eq!(url("https://backend/").unwrap().as_deref(), Some("https://backend"));
    for (bad, reason) in [("ftp://backend", "expected"), ("backend", "http://127.0.0.1:8080"), ("http://", "expected")]
    {
        let error = url(bad).unwrap_err().to_string();
        assert!(error.contains("main.backend-url") && error.contains(reason), "{bad}: {error}");
    }
}

#[test]
fn an_unknown_key_names_section_line_and_nearest_key() {
    let text = problem(load_text("{\n \"main\": {\n  \"adr\": \"x:1\"\n },\n \"metrics\": {}\n}"));
    assert_eq!(text, "c.json:3: main.adr: unknown key in section 'main'; the nearest known is 'addr'");
    let text = problem(with_storage("\"limits\":\n{\"body\"\n:\n5, \"hots\": 1}"));
    assert_eq!(
        text,
        "c.json:7: storage.limits.hots: unknown key in section 'storage.limits'; the nearest known is 'hosts'"
    );
    let text =
        problem(load_text("{\"metrics\": {\"m\": {\"frequency\": 1, \"aggregation\": null,\n\"unit\": \"W\"}}}"));
    assert!(text.starts_with("c.json:2: metrics.m.unit: unknown key in section 'metrics.m'"), "{text}");
}

#[test]
fn the_line_is_that_of_the_key_not_of_the_value() {
    let text = problem(with_storage("\"io\"\n\n:\n\n5"));
    assert_eq!(text, "c.json:4: storage.io: expected a string, found 5");
}

#[test]
fn an_unknown_section_is_a_warning() {
    let loaded = with("\"storge\": {\"directory\": 5}").unwrap();
    assert_eq!(loaded.warnings, ["c.json:3: storge: unknown section, ignored; the nearest known is 'storage'"]);
}

#[test]
fn all_mistakes_are_named_at_once_in_the_order_of_the_file() {
    let text = r#"{"main": {"addr": 5},
        "storage": {"skew": "1d",
        "io": "tape"},
        "metrics": {"a": {"frequency": 0,
        "aggregation": 7}}}"#;
    let found = problems(load_text(text));
    let lines: Vec<&str> = found.iter().map(|text| text.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["c.json:1", "c.json:2", "c.json:3", "c.json:4", "c.json:5"], "{found:?}");
    assert!(found[1].contains("no unit for days"), "{}", found[1]);
    assert!(found[2].contains("auto, io_uring, posix"), "{}", found[2]);
    let error = load_text(text).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 5, "{error}");
}

#[test]
fn metrics_are_bounded_and_named() {
    for (frequency, why) in
        [("0", "found 0"), ("-1", "found -1"), ("86401", "86400"), ("60.5", "60.5"), ("\"60\"", "\"60\"")]
    {
        let text = format!("{{\"metrics\": {{\"ipc\": {{\n\"frequency\": {frequency}, \"aggregation\": \"avg\"}}}}}}");
        let text = problem(load_text(&text));
        assert!(text.starts_with("c.json:2: metrics.ipc.frequency: expected a whole number from 1 to 86400"), "{text}");
        assert!(text.contains(why), "{text}");
    }
    let text = problem(load_text("{\"metrics\": {\n\"ipc\": {\"frequency\": 60}}}"));
    assert_eq!(text, "c.json:2: metrics.ipc.aggregation: is missing");
    let text = problem(load_text("{\"metrics\": {\n\"\": {\"frequency\": 60, \"aggregation\": \"\"}}}"));
    assert!(text.starts_with("c.json:2: metrics.: metric ''"), "{text}");
    let text = problem(load_text("{\"metrics\": {\n\"ipc\": 60}}"));
    assert_eq!(text, "c.json:2: metrics.ipc: expected an object, found 60");
    assert!(problem(load_text("{\"main\": {}}")).starts_with("c.json:1: metrics: is missing"));
}

#[test]
fn aggregations_are_those_of_the_predecessor() {
    let text = "{\"main\": {\"addr\": \"[::1]:1\"}, \"metrics\": {\"a\": {\"frequency\": 1, \"aggregation\": \"sum\"},
        \"b\": {\"frequency\": 1, \"aggregation\": \"avg\"}, \"c\": {\"frequency\": 1, \"aggregation\": null},
        \"d\": {\"frequency\": 1, \"aggregation\": \"\"},
        \"e\": {\"frequency\": 86400, \"aggregation\": \"max\"}}}";
    let loaded = load_text(text).unwrap();
    let found: Vec<_> = loaded.config.metrics.iter().map(|(_, metric)| (&*metric.name, metric.aggregation)).collect();
    let (sum, avg, none) = (Aggregation::Sum, Aggregation::Avg, Aggregation::None);
    assert_eq!(found, [("a", sum), ("b", avg), ("c", none), ("d", none), ("e", none)]);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].starts_with("c.json:4: metrics.e.aggregation: "), "{:?}", loaded.warnings);
}

#[test]
fn retention_is_required_and_zero_keeps_for_ever() {
    let text = problem(with("\"metric-store\": {\"memory-cap\": 0}"));
    assert_eq!(text, "c.json:3: metric-store.retention-in-memory: is missing");
    for forever in ["0", "0s", "-1h"] {
        let loaded = with(&format!("\"metric-store\": {{\"retention-in-memory\": \"{forever}\"}}")).unwrap();
        assert_eq!(loaded.config.retention, None);
        assert!(loaded.notes.iter().any(|note| note.contains("for ever")), "{:?}", loaded.notes);
        assert_same(&loaded.config, &load_text(&loaded.config.to_json()).unwrap().config);
    }
    assert!(problem(with("\"metric-store\": {\"retention-in-memory\": \"2 days\"}")).contains("is no duration"));
}

#[test]
fn the_late_window_fits_into_the_retention() {
    let short = "\"metric-store\": {\"retention-in-memory\": \"6h\"}";
    let loaded = with(short).unwrap();
    assert_eq!(loaded.config.storage.late_window, Duration::from_hours(6));
    assert!(loaded.warnings.is_empty());
    assert_same(&loaded.config, &load_text(&loaded.config.to_json()).unwrap().config);
    let text = problem(with(&format!("{short},\n\"storage\": {{\"late-window\": \"7h\"}}")));
    assert!(text.starts_with("c.json:4: storage.late-window: 7h is longer than data are kept"), "{text}");
    assert!(with(&format!("{short},\n\"storage\": {{\"late-window\": \"6h\"}}")).is_ok());
    assert!(
        with("\"metric-store\": {\"retention-in-memory\": \"0\"}, \"storage\": {\"late-window\": \"9999h\"}").is_ok()
    );
}

#[test]
fn storage_values_are_bounded() {
    for good in ["\"sync\"", "{\"interval\": \"1ms\"}", "{\"interval\": \"60s\"}"] {
        assert!(with_storage(&format!("\"durability\": {good}")).is_ok(), "{good}");
    }
    for bad in [
        "\"never\"",
        "{\"interval\": \"0s\"}",
        "{\"interval\": \"61s\"}",
        "{\"interval\": 5}",
        "{}",
        "null",
        "{\"interval\": \"1s\", \"x\": 1}",
        "\"interval\"",
        "{\"sync\": \"1s\"}",
    ] {
        let text = problem(with_storage(&format!("\"durability\": {bad}")));
        assert!(text.starts_with("c.json:4: storage.durability: "), "{text}");
    }
    for bad in [
        "\"skew\": \"-1s\"",
        "\"late-window\": \"0s\"",
        "\"directory\": \"\"",
        "\"directory\": \"a\\u0000b\"",
        "\"io\": \"\"",
        "\"limits\": 5",
        "\"limits\": {\"body\": 0}",
        "\"limits\": {\"line\": -1}",
        "\"limits\": {\"hosts\": 1.5}",
        "\"limits\": {\"series\": 4294967296}",
        "\"limits\": {\"head-timeout\": 5}",
        "\"limits\": {\"idle-timeout\": \"0s\"}",
    ] {
        assert!(problem(with_storage(bad)).starts_with("c.json:4: storage."), "{bad}");
    }
    let text = problem(with_storage("\"limits\": {\"body\": 1000,\n\"in-flight\": 999}"));
    assert!(text.starts_with("c.json:5: storage.limits.in-flight: "), "{text}");
}

#[test]
fn a_key_that_stands_twice_counts_once_and_is_told() {
    let loaded = with_storage("\"directory\": \"a\",\n\"directory\": \"b\"").unwrap();
    assert_eq!(loaded.config.storage.directory, Path::new("b"));
    assert_eq!(loaded.warnings, ["c.json:4: storage.directory: ignored: the key stands again in line 5"]);
}

#[test]
fn addresses_are_checked_and_never_public_by_accident() {
    for empty in ["{\"addr\": \"\"}", "{}"] {
        let text =
            format!("{{\"main\": {empty}, \"metrics\": {{\"m\": {{\"frequency\": 1, \"aggregation\": \"sum\"}}}}}}");
        let loaded = load_text(&text).unwrap();
        assert_eq!(loaded.config.main.addr, "127.0.0.1:8082");
        assert!(loaded.warnings[0].starts_with("c.json:1: main.addr: is empty"), "{:?}", loaded.warnings);
    }
    let with_addr = |addr: &str| load_text(&format!("{{\"main\": {{\"addr\": \"{addr}\"}}, {METRICS}}}"));
    assert_eq!(with_addr("0.0.0.0:8082").unwrap().config.main.addr, "0.0.0.0:8082");
    let all = with_addr(":8082").unwrap();
    assert_eq!(all.config.main.addr, ":8082");
    assert!(all.notes.iter().any(|note| note.contains("all interfaces, IPv6 and IPv4")), "{:?}", all.notes);
    assert!(problem(with_addr("8082")).contains("the port is missing"));
}

#[test]
fn a_key_for_tokens_is_32_bytes_or_an_error() {
    let with_key = |key: &str| {
        load_text(&format!("{{\"main\": {{\"addr\": \"a:1\",\n\"jwt-public-key\": \"{key}\"}}, {METRICS}}}"))
    };
    let config = with_key("kzfYrYy+TzpanWZHJ5qSdMj5uKUWgq74BWhQG6copP0=").unwrap().config;
    assert_eq!(config.main.jwt_public_key.unwrap()[..3], [0x93, 0x37, 0xd8]);
    assert_same(&config, &load_text(&config.to_json()).unwrap().config);
    for bad in
        ["kzfYrYy+TzpanWZHJ5qSdMj5uKUWgq74BWhQG6cop=", "AAAA", "!", "kzfYrYy-TzpanWZHJ5qSdMj5uKUWgq74BWhQG6copP0="]
    {
        let text = problem(with_key(bad));
        assert!(text.starts_with("c.json:2: main.jwt-public-key: expected an Ed25519 public key"), "{text}");
    }
}

#[test]
fn a_server_that_anyone_may_use_is_told_loudly() {
    let warnings = |main: &str, auth: &str| {
        load_text(&format!("{{\"main\": {{{main}}}, \"auth\": {{{auth}}}, {METRICS}}}")).unwrap().warnings
    };
    for addr in ["0.0.0.0:80", "[::]:80", "10.1.2.3:80", "node1:80", ":80"] {
        let addr = format!("\"addr\": \"{addr}\"");
        let open = warnings(&addr, "");
        assert!(open.len() == 1 && open[0].contains("ANYONE WHO REACHES"), "{open:?}");
        assert!(warnings(&format!("{addr}, \"jwt-public-key\": \"{KEY}\""), "").is_empty());
        assert!(warnings(&addr, &format!("\"public-keys\": [\"{KEY}\"]")).is_empty());
    }
    assert!(warnings("\"addr\": \"127.0.0.1:80\"", "").is_empty());
}

#[test]
fn several_keys_may_sign_tokens() {
    let with_auth =
        |auth: &str| load_text(&format!("{{\"main\": {{\"addr\": \"[::1]:1\"}},\n\"auth\": {{{auth}}}, {METRICS}}}"));
    let keys = format!("\"public-keys\": [\"{KEY}\", \"w6f0qR/mbE37puIa5ViiHuImfusRf2Ey3AqMRNu0E/Y=\", \"{KEY}\"]");
    let config = with_auth(&format!("{keys}, \"require-scopes\": true, \"require-expiry\": true")).unwrap().config;
    assert_eq!(config.public_keys().len(), 2);
    assert!(config.auth.require_scopes && config.auth.require_expiry);
    assert_same(&config, &load_text(&config.to_json()).unwrap().config);
    for bad in ["5", "[5]", "[\"\"]", "[\"AAAA\"]", "null"] {
        let text = problem(with_auth(&format!("\"public-keys\": {bad}")));
        assert!(text.starts_with("c.json:2: auth.public-keys: expected"), "{text}");
    }
    let many = vec![format!("\"{KEY}\""); 9].join(",");
    assert!(problem(with_auth(&format!("\"public-keys\": [{many}]"))).contains("at most 8"));
    assert!(problem(with_auth("\"require-scopes\": 1")).contains("expected true or false"));
}

#[test]
fn a_certificate_needs_its_key() {
    let with_main = |main: &str| load_text(&format!("{{\"main\": {{\"addr\": \"[::1]:1\",\n{main}}}, {METRICS}}}"));
    let config = with_main("\"https-cert-file\": \"c.pem\", \"https-key-file\": \"k.pem\"").unwrap().config;
    let https = config.main.https.as_ref().unwrap();
    assert_eq!((&*https.cert_file, &*https.key_file), (Path::new("c.pem"), Path::new("k.pem")));
    assert_same(&config, &load_text(&config.to_json()).unwrap().config);
    for (given, missing) in [("https-cert-file", "https-key-file"), ("https-key-file", "https-cert-file")] {
        let text = problem(with_main(&format!("\"{given}\": \"x\"")));
        assert!(text.starts_with(&format!("c.json:2: main.{given}: ")) && text.contains(missing), "{text}");
    }
    for none in ["\"https-cert-file\": \"\", \"https-key-file\": \"\"", "\"https-cert-file\": null"] {
        assert_eq!(with_main(none).unwrap().config.main.https, None);
    }
}

#[test]
fn sections_may_stand_in_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
        path
    };
    let metrics = file("metrics.json", "{\n\"m\": {\"frequency\": 7, \"aggregation\": null}}");
    let store = file("store.json", "{\"retention-in-memory\": \"3h\"}");
    let text = format!(
        "{{\"main\": {{\"addr\": \"[::1]:1\"}}, \"metrics-file\": {metrics:?}, \"metric-store-file\": {store:?}}}"
    );
    let loaded = load(Some(&file("config.json", &text))).unwrap();
    assert_eq!(loaded.config.metrics.iter().next().unwrap().1.frequency, 7);
    assert_eq!(loaded.config.retention, Some(Duration::from_hours(3)));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);

    file("metrics.json", "{\n\n\"m\": {\"frequency\": 0, \"aggregation\": null}}");
    assert!(problem(load_text(&text)).starts_with(&format!("{}:3: metrics.m.frequency: ", metrics.display())));
    file("metrics.json", "{\n\n\"m\" {}}");
    let error = load_text(&text).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:3:5: not JSON", metrics.display())), "{error}");
    file("metrics.json", "{}");
    let twice = format!("{}, \n\"metrics\": {{}}}}", text.strip_suffix('}').unwrap());
    assert!(problem(load_text(&twice)).starts_with("c.json:2: metrics: stands here and in 'metrics-file'"));
    let missing = problem(load_text("{\n\"metrics-file\": \"/nowhere/m.json\"}"));
    assert!(missing.starts_with("c.json:2: metrics-file: /nowhere/m.json: cannot be read"), "{missing}");
    assert!(problem(load_text("{\n\"metrics-file\": 5}")).contains("metrics-file: expected a string"));
}
