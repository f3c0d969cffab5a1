//! Whatever the bytes of a file are, reading them ends in settings or in an error that can be shown.

use proptest::prelude::*;

use super::{predecessor::FLAT, *};

#[test]
fn syntax_errors_name_line_and_column() {
    for (text, expected) in [
        ("{\n \"main\": {,}\n}", "c.json:2:11: not JSON: "),
        ("{\n", "c.json:2:0: not JSON: EOF"),
        ("", "c.json:1:0: not JSON: EOF"),
        ("{} {}", "c.json:1:4: not JSON: trailing"),
        ("{\"a\": \"\\ud800\"}", "c.json:1:14: not JSON: "),
    ] {
        let error = load_text(text).unwrap_err();
        assert!(matches!(error, ConfigError::Syntax { .. }), "{error}");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let bytes = Source::new(Path::new("c.json"), b"{\n  \"\xff\"}".to_vec()).unwrap_err();
    assert_eq!(bytes.to_string(), "c.json:2:4: not JSON: the text is not UTF-8");
    let deep = load_text(&"[".repeat(100_000)).unwrap_err();
    assert!(matches!(deep, ConfigError::Syntax { .. }), "{deep}");
    assert!(problem(load_text("5")).contains("expected an object"));
}

#[test]
fn a_long_list_of_problems_is_cut_short() {
    let keys: Vec<String> = (0..200).map(|i| format!("\"k{i}\": 1")).collect();
    let error = with_storage(&keys.join(",\n")).unwrap_err().to_string();
    assert_eq!(error.lines().count(), Problems::SHOWN + 1);
    assert!(error.ends_with("and 150 more"), "{error}");
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_log() {
    let loaded = with("\"a\\n\\u001b[31m\": 1").unwrap();
    assert!(!loaded.warnings[0].contains(['\n', '\u{1b}']), "{:?}", loaded.warnings);
}

/// Text that is nearly a configuration: known words in any order.
fn nearly() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        "\"main\"",
        "\"addr\"",
        "\"metrics\"",
        "\"metric-store\"",
        "\"storage\"",
        "\"limits\"",
        "\"nats\"",
        "\"nats-subscriptions\"",
        "\"nats-jetstream\"",
        "\"subject\"",
        "\"partitions\"",
        "\"http-api\"",
        "\"archive\"",
        "\"delete-instead\"",
        "\"checkpoints\"",
        "\"48h\"",
        "\"\"",
        "5",
        "-1",
        "null",
        "true",
        "{\"a\":{}}",
        "\"durability\"",
        "\"interval\"",
        "\"é\"",
        "\"main\":{\"addr\":\"a:1\"}",
        "\"body\":0",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let key = prop::sample::select(vec![
        "main",
        "addr",
        "metrics",
        "frequency",
        "metric-store",
        "checkpoints",
        "cleanup",
        "interval",
        "mode",
        "storage",
        "limits",
        "http-api",
        "archive",
        "address",
        "nats",
        "debug",
        "retention-in-memory",
        "x",
        "main.addr",
        "",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[0-9a-z:]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop::collection::vec((key.clone(), inner), 0..6).prop_map(|members| {
            members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
        })
    })
}

proptest! {
    #[test]
    fn any_bytes_are_settings_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(source) = Source::new(Path::new("c.json"), bytes) {
            drop(load_source(&source).map_err(|error| error.to_string()));
        }
    }

    #[test]
    fn nearly_right_text_is_settings_or_an_error(text in nearly()) {
        drop(load_text(&text).map_err(|error| error.to_string()));
    }

    #[test]
    fn any_object_is_settings_or_an_error(value in json()) {
        drop(load_text(&format!("{value:#}")).map_err(|error| error.to_string()));
    }

    #[test]
    fn a_flipped_byte_of_a_flat_file_is_settings_or_an_error(at in 0..FLAT.len(), byte in any::<u8>()) {
        let mut bytes = FLAT.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(source) = Source::new(Path::new("c.json"), bytes) {
            drop(load_source(&source).map_err(|error| error.to_string()));
        }
    }
}
