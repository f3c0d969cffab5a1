//! Files of the predecessor, of all its ages, mean here what they meant there, or are refused by name.

use super::*;

fn recorded(name: &str) -> std::path::PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ccms");
    here.join(name)
}

#[test]
fn recorded_files_of_the_predecessor_load() {
    for name in ["config.json", "config-json.json", "config-jwt.json"] {
        let loaded = load(Some(&recorded(name))).unwrap();
        let config = &loaded.config;
        assert_eq!(config.main.addr, "127.0.0.1:18181", "{name}");
        assert_eq!(config.main.jwt_public_key.is_some(), name == "config-jwt.json");
        assert_eq!(config.retention, Some(Duration::from_hours(876_000)));
        assert_eq!(config.memory_cap_bytes, Some(10_000_000_000));
        assert_eq!(config.checkpoints_directory.as_deref(), Some(Path::new("./checkpoints")));
        assert_eq!(config.metrics.iter().count(), 17);
        let odd = config.metrics.get(config.metrics.find(b"odd").unwrap());
        assert_eq!((odd.frequency, odd.aggregation), (7, Aggregation::None));
        let slow = config.metrics.get(config.metrics.find(b"slow").unwrap());
        assert_eq!((slow.frequency, slow.aggregation), (300, Aggregation::Sum));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(config.archive.is_fed);
        assert_eq!(config.archive.location.as_deref(), Some("./archive"));
        let noted = |key: &str| loaded.notes.iter().any(|note| note.contains(key));
        for key in ["num-workers", "checkpoint-interval", "checkpoints.file-format"] {
            assert!(noted(key), "{key} in {:?}", loaded.notes);
        }
        assert_same(config, &load_text(&config.to_json()).unwrap().config);
    }
}

#[test]
fn an_archive_needs_a_place() {
    let wrong = problem(with_store("\"cleanup\": {\n\"mode\": \"archive\"}"));
    assert!(wrong.starts_with("c.json:5: metric-store.cleanup.directory: is needed"), "{wrong}");
    let loaded = with_store("\"cleanup\": {\"directory\": \"./a\"}").unwrap();
    assert!(!loaded.config.archive.is_fed && loaded.config.archive.location.is_some());
    assert!(loaded.notes.iter().any(|note| note.contains("cleanup.directory: nothing is moved there")));
}

#[test]
fn the_layout_of_an_archive_has_a_name() {
    let text = |layout: &str| {
        format!(
            r#"{{"main": {{"addr": "a:1"}}, "metrics": {{"m": {{"frequency": 1, "aggregation": null}}}},
            "metric-store": {{"retention-in-memory": "48h"}}, "storage": {{"archive": {{"layout": "{layout}"}}}}}}"#
        )
    };
    let loaded = load_text(&text("flat")).unwrap();
    assert_same(&loaded.config, &load_text(&loaded.config.to_json()).unwrap().config);
    assert_eq!(loaded.config.archive.layout, kymo_engine::paths::ArchiveLayout::Flat);
    assert!(problem(load_text(&text("tree"))).contains("storage.archive.layout: expected one of"));
}

#[test]
fn user_and_group_are_read_by_their_own_names() {
    let text = r#"{"main": {"addr": "localhost:1", "user": "u", "group": "g"},
        "metrics": {"m": {"frequency": 1, "aggregation": null}}, "metric-store": {"retention-in-memory": "1h"}}"#;
    let config = load_text(text).unwrap().config;
    assert_eq!((config.main.user.as_deref(), config.main.group.as_deref()), (Some("u"), Some("g")));
    assert_same(&config, &load_text(&config.to_json()).unwrap().config);
}

#[test]
fn features_that_are_switched_off_do_not_stop_the_start() {
    let text = r#"{"main": {"addr": "localhost:1",
        "https-cert-file": "", "https-key-file": "", "user": "", "group": "", "backend-url": "",
        "jwt-public-key": ""}, "metrics": {"m": {"frequency": 1, "aggregation": null}},
        "nats": {"address": "", "username": "", "password": ""},
        "metric-store": {"retention-in-memory": "1h", "cleanup": {"mode": "delete"}, "nats-subscriptions": []}}"#;
    let loaded = load_text(text).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn keys_of_release_candidates_are_accepted_with_advice() {
    let loaded = with_store(
        "\"checkpoints\": {\"interval\": \"1h\"},\n\"cleanup\": {\"mode\": \"delete\", \"interval\": \"1h\"}",
    )
    .unwrap();
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].starts_with("c.json:4: metric-store.checkpoints.interval: remove it"));
    assert!(loaded.warnings[1].starts_with("c.json:5: metric-store.cleanup.interval: remove it"));
}

#[test]
fn keys_without_meaning_are_notes() {
    let loaded = with_store(
        "\"num-workers\": 4, \"checkpoint-interval\": \"12h\", \"memory-cap\": 100, \"debug\": {\"gops\": true},
        \"checkpoints\": {\"file-format\": \"json\", \"max-wal-size\": 5, \"directory\": \"\"}",
    )
    .unwrap();
    assert!(loaded.warnings.is_empty());
    let without_meaning = loaded.notes.iter().filter(|note| note.contains("has no meaning in kymo")).count();
    assert_eq!(without_meaning, 5, "{:?}", loaded.notes);
    assert_eq!(loaded.config.memory_cap_bytes, Some(100_000_000_000));
    assert_eq!(loaded.config.checkpoints_directory, None);
    assert_eq!(with_store("\"memory-cap\": 0").unwrap().config.memory_cap_bytes, None);
    assert!(problem(with_store("\"memory-cap\": -1")).contains("metric-store.memory-cap: expected"));
}

/// The file that the predecessor shipped before 1.5, shortened.
pub(super) const FLAT: &str = r#"{
  "metrics": {"clock": {"frequency": 60, "aggregation": "avg"}},
  "checkpoints": {"interval": "12h", "directory": "./var/checkpoints", "restore": "48h"},
  "archive": {"interval": "50h", "directory": "./var/archive", "delete-instead": true},
  "http-api": {
    "address": "localhost:8082",
    "https-cert-file": null
  },
  "retention-in-memory": "24h",
  "nats": null,
  "debug": {"gops": false},
  "jwt-public-key": "kzfYrYy+TzpanWZHJ5qSdMj5uKUWgq74BWhQG6copP0="
}"#;

#[test]
fn the_flat_file_of_old_is_mapped_with_a_warning_for_each_key() {
    let loaded = load_text(FLAT).unwrap();
    let config = &loaded.config;
    assert_eq!(config.main.addr, "localhost:8082");
    assert!(config.main.jwt_public_key.is_some());
    assert_eq!(config.retention, Some(Duration::from_hours(24)));
    assert_eq!(config.checkpoints_directory.as_deref(), Some(Path::new("./var/checkpoints")));
    for (line, old, new) in [
        (3, "checkpoints.interval", "metric-store.checkpoint-interval"),
        (3, "checkpoints.directory", "metric-store.checkpoints.directory"),
        (4, "archive.delete-instead", "metric-store.cleanup.mode"),
        (6, "http-api.address", "main.addr"),
        (9, "retention-in-memory", "metric-store.retention-in-memory"),
        (11, "debug", "metric-store.debug"),
        (12, "jwt-public-key", "main.jwt-public-key"),
    ] {
        let warning = format!("c.json:{line}: {old}: is a key from before 1.5, read as '{new}'");
        assert!(loaded.warnings.contains(&warning), "{warning} in {:#?}", loaded.warnings);
    }
    assert_same(config, &load_text(&config.to_json()).unwrap().config);
}

#[test]
fn what_the_flat_file_asks_for_is_not_dropped() {
    let archives = FLAT.replace(", \"delete-instead\": true", "");
    assert!(load_text(&archives).unwrap().config.archive.is_fed);
    let wrong = problem(load_text(&FLAT.replace("\"https-cert-file\"", "\"https-cert\"")));
    assert!(wrong.starts_with("c.json:7: main.https-cert: unknown key"), "{wrong}");
    let wrong = problem(load_text(&FLAT.replace("\"24h\"", "86400")));
    assert!(wrong.starts_with("c.json:9: metric-store.retention-in-memory: expected a duration"), "{wrong}");
}
