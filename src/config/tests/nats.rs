//! Messaging: the predecessor's keys mean what they meant, and what is added is checked before anything connects.

use super::{predecessor::FLAT, *};

const NATS: &str = r#""nats": {"address": "nats://a:4222, tls://b", "username": "u", "password": "p",
    "creds-file-path": "c.creds", "nkey-file": "u.nk", "queue-group": "kymo", "tls-ca-file": "ca.pem"}"#;

fn with_nats(subscriptions: &str, members: &str) -> Result<Loaded, ConfigError> {
    with(&format!(
        "{NATS}, \"metric-store\": {{\"retention-in-memory\": \"1h\", \"nats-subscriptions\": {subscriptions}}}{members}"
    ))
}

#[test]
fn subscriptions_and_the_connection_are_read_and_printed() {
    let list = r#"[{"subscribe-to": "hpc.alpha", "cluster-tag": "alpha"}, {"subscribe-to": "x.*.y.>"}]"#;
    let loaded = with_nats(list, "").unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let nats = &loaded.config.nats;
    assert_eq!(nats.address.as_deref(), Some("nats://a:4222, tls://b"));
    assert_eq!(nats.nkey_file.as_deref(), Some(std::path::Path::new("u.nk")));
    assert_eq!(nats.queue_group.as_deref(), Some("kymo"));
    assert_eq!(nats.subscriptions.len(), 2);
    assert_eq!(nats.subscriptions[0].cluster.as_deref(), Some("alpha"));
    assert_eq!(nats.subscriptions[1], Subscription { subject: "x.*.y.>".to_owned(), cluster: None });
    assert_same(&loaded.config, &load_text(&loaded.config.to_json()).unwrap().config);
}

#[test]
fn a_stream_is_read_and_printed() {
    let stream = r#","nats-jetstream": {"stream": "INGEST", "subject": "ingest.{partition}.>", "partitions": [0, 3],
        "durable": "store-a", "cluster-tag": "alpha", "create": false, "max-ack-pending": 10}"#;
    let loaded = with_nats("[]", stream).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let jetstream = &loaded.config.nats.jetstream;
    assert_eq!((&jetstream.partitions[..], jetstream.create, jetstream.max_ack_pending), (&[0, 3][..], false, 10));
    assert_same(&loaded.config, &load_text(&loaded.config.to_json()).unwrap().config);
}

#[test]
fn wrong_values_are_named_with_their_line() {
    for (subscriptions, stream, expected) in [
        ("[\n{}]", "", "c.json:5: metric-store.nats-subscriptions[0].subscribe-to: is missing"),
        ("[{\"subscribe-to\": \"a..b\"}]", "", "nats-subscriptions[0].subscribe-to: expected a subject"),
        ("[{\"subscribe-to\": \"a.>.b\"}]", "", "nats-subscriptions[0].subscribe-to: expected a subject"),
        ("[{\"subscribe-to\": \"a\", \"cluster\": \"b\"}]", "", "nats-subscriptions[0].cluster: unknown key"),
        ("[5]", "", "nats-subscriptions[0]: expected an object"),
        ("{}", "", "nats-subscriptions: expected an array"),
        ("[]", r#"{"subject": "a"}"#, "nats-jetstream.stream: is missing"),
        ("[]", r#"{"stream": "S"}"#, "nats-jetstream.subject: is missing"),
        ("[]", r#"{"stream": "S.T", "subject": "a"}"#, "nats-jetstream.stream: a name has no"),
        ("[]", r#"{"stream": "S", "subject": "a b"}"#, "nats-jetstream.subject: is no subject"),
        ("[]", r#"{"stream": "S", "subject": "a.{partition}"}"#, "nats-jetstream.partitions: is missing"),
        ("[]", r#"{"stream": "S", "subject": "a", "partitions": [1]}"#, "nats-jetstream.subject: has no {partition}"),
        ("[]", r#"{"stream": "S", "subject": "a.{partition}", "partitions": [1, 1]}"#, "expected different whole"),
        ("[]", r#"{"stream": "S", "subject": "a", "max-ack-pending": 1}"#, "max-ack-pending: expected a whole number"),
    ] {
        let stream = if stream.is_empty() { String::new() } else { format!(", \"nats-jetstream\": {stream}") };
        let wrong = problem(with_nats(subscriptions, &stream));
        assert!(wrong.contains(expected), "{expected:?} in {wrong}");
    }
    for address in ["http://a", "nats://", "a b", "nats://a,b c"] {
        let wrong = problem(with(&format!("\"nats\": {{\"address\": \"{address}\"}}")));
        assert!(wrong.contains("nats.address: expected addresses of NATS servers"), "{wrong}");
    }
}

#[test]
fn what_the_predecessor_passes_over_is_no_reason_not_to_start() {
    let list = r#""metric-store": {"retention-in-memory": "1h", "nats-subscriptions": [{"subscribe-to": "a"}]}"#;
    let loaded = with(&format!(r#"{list}, "nats": {{"address": "nats://a", "usrname": "u", "cluster": 5}}"#)).unwrap();
    let [user, cluster] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(user.contains("nats.usrname: unknown key in section 'nats', ignored; the nearest known is 'username'"));
    assert!(cluster.contains("nats.cluster: unknown key"), "{cluster}");
    assert_eq!(loaded.config.nats.address.as_deref(), Some("nats://a"));

    for (address, kept) in [(", nats://a:4222,, tls://b ,", Some("nats://a:4222, tls://b")), (" , ", None)] {
        let loaded = with(&format!(r#"{list}, "nats": {{"address": "{address}"}}"#)).unwrap();
        assert_eq!(loaded.config.nats.address.as_deref(), kept, "{address:?}");
        assert_eq!(loaded.warnings.is_empty(), kept.is_some(), "{:?}", loaded.warnings);
        assert_same(&loaded.config, &load_text(&loaded.config.to_json()).unwrap().config);
    }
    for address in ["ws://a:80", "wss://a", "nats://a, ws://b"] {
        let loaded = with(&format!(r#"{list}, "nats": {{"address": "{address}"}}"#)).unwrap();
        let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
        assert!(warning.contains("nats.address: no messages come in: ws and wss are not supported"), "{warning}");
        assert_eq!(loaded.config.nats.address, None);
    }
}

#[test]
fn what_would_do_nothing_is_a_warning() {
    let without_server = with_store("\"nats-subscriptions\": [{\"subscribe-to\": \"a\"}]").unwrap();
    assert!(without_server.warnings[0].contains("'nats.address' names no server"), "{:?}", without_server.warnings);
    let without_subjects = with(NATS).unwrap();
    assert!(without_subjects.warnings[0].contains("no messages come in: name subjects"));
    let half =
        with_nats(r#"[{"subscribe-to": "a"}]"#, "").unwrap().config.to_json().replace("\"password\": \"p\",", "");
    assert!(load_text(&half).unwrap().warnings[0].contains("only if both are given"));
}

#[test]
fn the_array_of_old_is_moved_to_where_it_stands_today() {
    let old = r#"[{"address": "nats://x", "username": "", "password": "",
        "subscriptions": [{"subscribe-to": "s", "cluster-tag": "t"}]}],
  "debug""#;
    let text = FLAT.replace("null,\n  \"debug\"", old);
    let loaded = load_text(&text).unwrap();
    assert_eq!(loaded.config.nats.address.as_deref(), Some("nats://x"));
    let subscription = Subscription { subject: "s".to_owned(), cluster: Some("t".to_owned()) };
    assert_eq!(loaded.config.nats.subscriptions, [subscription]);
    let warning = "nats[0].subscriptions: is a key from before 1.5, read as 'metric-store.nats-subscriptions'";
    assert!(loaded.warnings.iter().any(|told| told.contains(warning)), "{:?}", loaded.warnings);
    let two = text.replace("[{\"address\"", "[{\"address\": \"nats://y\"}, {\"address\"");
    assert!(problem(load_text(&two)).contains("kymo has one connection"));
}
