//! What the predecessor was seen to answer, where the answer does not depend on stored data. The fake store holds what
//! the `admin` scenario wrote.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    scenario: String,
    method: String,
    path: String,
    body: Option<PathBuf>,
    #[serde(default)]
    headers: HashMap<String, String>,
    status: u16,
    content_type: String,
    response: Option<PathBuf>,
    allow: Option<String>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/ccms")
}

fn cases(scenario: &str) -> Vec<Case> {
    let index = fs::read(folder().join("index.json")).unwrap();
    let index: Index = serde_json::from_slice(&index).unwrap();
    index.cases.into_iter().filter(|case| case.scenario == scenario).collect()
}

fn number(case: &Case) -> u32 {
    case.id[..3].parse().unwrap()
}

fn file(path: Option<&PathBuf>) -> Vec<u8> {
    path.map(|path| fs::read(folder().join(path)).unwrap()).unwrap_or_default()
}

async fn answer(server: &Server, case: &Case) -> Reply {
    let headers: Vec<_> = case.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let body = file(case.body.as_ref());
    server.connect().await.ask_with(&case.method, &case.path, &headers.concat(), &body).await
}

fn assert_as_recorded(case: &Case, reply: &Reply) {
    assert_eq!(reply.status, case.status, "{}: {}", case.id, reply.body);
    // Some headers of the predecessor were there twice.
    let content_type = case.content_type.split(", ").next();
    assert_eq!(reply.header("content-type"), content_type, "{}", case.id);
    assert_eq!(reply.header("allow"), case.allow.as_deref(), "{}", case.id);
    let mut expected = String::from_utf8(file(case.response.as_ref())).unwrap();
    if case.path.starts_with("/api/debug") {
        // Valid JSON instead of a comma behind each last member.
        let mut from = 0;
        while let Some(at) = expected[from..].find(",\n").map(|at| at + from) {
            if expected[at + 2..].trim_start().starts_with('}') {
                expected.remove(at);
            } else {
                from = at + 2;
            }
        }
    }
    if case.method != "HEAD" {
        assert_eq!(reply.body, expected, "{}", case.id);
    }
}

#[tokio::test]
async fn tokens_are_judged_as_recorded() {
    let key = BASE64_STANDARD.decode("w6f0qR/mbE37puIa5ViiHuImfusRf2Ey3AqMRNu0E/Y=").unwrap();
    let server = Server::start_with(Fake::default(), Limits::default(), Some(key.try_into().unwrap())).await;
    // 349 is a POST to the query, which is no wrong method here.
    for case in cases("auth").iter().filter(|case| number(case) != 349) {
        // Twice: a remembered verdict is the same one.
        for _ in 0..2 {
            let reply = answer(&server, case).await;
            assert_as_recorded(case, &reply);
            assert_eq!(reply.header("connection"), (reply.status != 200).then_some("close"), "{}", case.id);
            assert_eq!(reply.header("www-authenticate").is_some(), reply.status == 401);
        }
    }
    let reply = server.ask("PUT", "/api/query/", "").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, POST")));
}

#[tokio::test]
async fn operators_get_what_was_recorded() {
    let server = Server::start(Fake::default(), Limits::default()).await;
    // From 301 to 309 the store has changed; 303 frees what is not there.
    let stateless = |case: &&Case| !matches!(number(case), 285 | 301 | 302 | 304..=309 | 311);
    for case in cases("admin").iter().filter(stateless) {
        let reply = answer(&server, case).await;
        assert_as_recorded(case, &reply);
        if case.path.starts_with("/api/debug") && reply.status == 200 {
            serde_json::from_str::<serde_json::Value>(&reply.body).unwrap();
        }
    }
}

#[tokio::test]
async fn bad_requests_are_answered_as_recorded() {
    let server = Server::start(Fake::default(), Limits::default()).await;
    // 096 is a POST to the query; 104 a redirect that nobody needs.
    let ours = |case: &&Case| case.status != 200 && !matches!(number(case), 96 | 104);
    let bad_lines = |case: &&Case| !(case.scenario == "write" && case.status == 400 && case.method == "POST");
    let all: Vec<_> = cases("basic").into_iter().chain(cases("write")).collect();
    for case in all.iter().filter(ours).filter(bad_lines) {
        assert_as_recorded(case, &answer(&server, case).await);
    }
}
