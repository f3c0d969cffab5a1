//! Brokers that let in only whom they know: by password, key, credentials and certificate.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use super::*;

const SUBSCRIPTION: &str = r#"{"subscribe-to":"s","cluster-tag":"alpha"}"#;

/// A server that is let in gets messages.
fn assert_let_in(broker: &Broker, keys: &str, publisher: ConnectOptions) {
    let site = site(broker, keys, SUBSCRIPTION, "");
    let server = site.serve();
    assert_gets_messages(&server, &Publisher::with(broker, publisher));
    server.stop();
}

fn assert_gets_messages(server: &Server, publisher: &Publisher) {
    let time = slot();
    let arrived = clock::poll(PATIENCE, || {
        publisher.send("s", &line("", "h", 1.5, time));
        values(server, "alpha", "h", time, time + INTERVAL).contains(&Some(1.5)).then_some(())
    });
    assert!(arrived.is_some(), "nothing arrives: {}\n{}", text(server, "/ready"), server.said());
    assert_eq!(text(server, "/ready"), "ready\n");
}

/// One that is not says so, in `/ready` and in its log, and serves HTTP.
fn assert_kept_out(broker: &Broker, keys: &str, words: &str) {
    let site = site(broker, keys, SUBSCRIPTION, "");
    let server = site.serve();
    let told = clock::poll(PATIENCE, || text(&server, "/ready").to_lowercase().contains(words).then_some(()));
    assert!(told.is_some(), "{words:?} is not told: {}\n{}", text(&server, "/ready"), server.said());
    assert!(text(&server, "/ready").starts_with("ready\nnats: not connected to "));
    assert!(text(&server, "/metrics").contains("\nkymo_nats_connected 0\n"));
    server.stop();
}

#[test]
fn a_name_and_a_password() {
    let broker = Broker::with("authorization { user: kymo, password: \"pass word\" }", &[]);
    let options = || ConnectOptions::new().user_and_password("kymo".to_owned(), "pass word".to_owned());
    assert_let_in(&broker, r#","username":"kymo","password":"pass word""#, options());
    assert_kept_out(&broker, r#","username":"kymo","password":"pass""#, "authorization violation");
    assert_kept_out(&broker, "", "authorization violation");
}

#[test]
fn an_nkey_that_may_be_exchanged() {
    let (old, new, other) = (KeyPair::new_user(), KeyPair::new_user(), KeyPair::new_user());
    let seed = |pair: &KeyPair| pair.seed().expect("it was made here");
    let users = |pair: &KeyPair| format!("authorization {{ users: [ {{ nkey: {} }} ] }}", pair.public_key());
    let mut broker = Broker::with(&users(&old), &[("other.nk", &seed(&other))]);
    assert_kept_out(
        &broker,
        &format!(",\"nkey-file\":{}", quoted(&broker.path("other.nk"))),
        "authorization violation",
    );
    assert_kept_out(&broker, ",\"nkey-file\":\"nowhere.nk\"", "nowhere.nk cannot be read");

    let site = site(&broker, ",\"nkey-file\":\"kymo.nk\"", SUBSCRIPTION, "");
    site.write("kymo.nk", seed(&old).as_bytes());
    let server = site.serve();
    assert_gets_messages(&server, &Publisher::with(&broker, ConnectOptions::new().nkey(seed(&old))));
    // The broker forgets the old key: the new one is in the file, and nobody restarts kymo.
    broker.kill();
    site.write("kymo.nk", seed(&new).as_bytes());
    broker.configure(&users(&new));
    broker.run_again();
    await_metric(&server, "kymo_nats_connects_total ", 2.0);
    assert_gets_messages(&server, &Publisher::with(&broker, ConnectOptions::new().nkey(seed(&new))));
    server.stop();
}

/// A token of NATS, signed by a pair of keys.
fn token(issuer: &KeyPair, subject: &KeyPair, kind: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    // Without a limit of its own an account may do nothing.
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let mut nats = json!({"type": kind, "version": 2});
    match kind {
        "account" => nats["limits"] = limits,
        _ => nats
            .as_object_mut()
            .expect("an object")
            .extend([("subs", -1), ("data", -1), ("payload", -1)].map(|(key, value)| (key.to_owned(), json!(value)))),
    }
    let claims = part(&json!({
        "jti": subject.public_key(), "iat": clock::unix_seconds(), "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": kind, "nats": nats,
    }));
    let signed = format!("{head}.{claims}");
    let signature = issuer.sign(signed.as_bytes()).expect("it was made here");
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A credentials file for a new user of an account.
fn credentials(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let (token, seed) = (token(account, &user, "user"), user.seed().expect("it was made here"));
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

#[test]
fn a_credentials_file() {
    let (operator, account, stranger) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let settings = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
        token(&operator, &operator, "operator"),
        account.public_key(),
        token(&operator, &account, "account"),
    );
    let files = [("good.creds", &*credentials(&account)), ("bad.creds", &*credentials(&stranger)), ("empty.creds", "")];
    let broker = Broker::with(&settings, &files);
    let keys = |name: &str| format!(",\"creds-file-path\":{}", quoted(&broker.path(name)));
    let options = ConnectOptions::new().credentials(files[0].1).expect("the credentials are whole");
    assert_let_in(&broker, &keys("good.creds"), options);
    assert_kept_out(&broker, &keys("bad.creds"), "authorization violation");
    assert_kept_out(&broker, &keys("empty.creds"), "it has no block");
}

#[test]
fn certificates_of_both_sides() {
    let certified = || generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate can be made");
    let (broker_pair, own, other): (CertifiedKey<_>, CertifiedKey<_>, CertifiedKey<_>) =
        (certified(), certified(), certified());
    let pem = |pair: &CertifiedKey<rcgen::KeyPair>| (pair.cert.pem(), pair.signing_key.serialize_pem());
    let ((broker_cert, broker_key), (own_cert, own_key), (other_cert, other_key)) =
        (pem(&broker_pair), pem(&own), pem(&other));
    let files = [
        ("broker.pem", &*broker_cert),
        ("broker.key", &*broker_key),
        ("own.pem", &*own_cert),
        ("own.key", &*own_key),
        ("other.pem", &*other_cert),
        ("other.key", &*other_key),
    ];
    let settings = "tls { cert_file: broker.pem, key_file: broker.key, ca_file: own.pem, verify: true }";
    let broker = Broker::with(settings, &files);
    let keys = |authority: &str, name: &str| {
        let [ca, cert, key] =
            [authority, &format!("{name}.pem"), &format!("{name}.key")].map(|name| quoted(&broker.path(name)));
        format!(",\"tls-ca-file\":{ca},\"tls-cert-file\":{cert},\"tls-key-file\":{key}")
    };
    let options = ConnectOptions::new()
        .add_root_certificates(broker.path("broker.pem"))
        .add_client_certificate(broker.path("own.pem"), broker.path("own.key"));
    assert_let_in(&broker, &keys("broker.pem", "own"), options);
    // A broker that is not the one that is trusted, and one that does not trust us.
    assert_kept_out(&broker, &keys("other.pem", "own"), "certificate");
    assert_kept_out(&broker, &keys("broker.pem", "other"), "fatal alert");
    assert_kept_out(&broker, &keys("nowhere.pem", "own"), "nowhere.pem cannot be read");
}

fn quoted(path: &Path) -> String {
    json!(path).to_string()
}
