//! Replays what the predecessor was asked, in the same order, and compares what it answered.
//!
//! Every difference must stand in the table of `docs/compatibility.md`, and every case that stands there must differ.
//! So the table is complete and says nothing that is no longer true.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::clock;
use crate::compare::{self, Mode};
use crate::http::{Answer, Client};
use crate::json::Json;
use crate::server::{RECORDINGS, Server, Site, recorded_config};

/// Those that begin with checkpoints are replayed by `import`.
const SCENARIOS: [&str; 10] = [
    "basic",
    "long",
    "write",
    "admin",
    "auth",
    "ckpt-write-wal",
    "ckpt-write-json",
    "ckpt-two",
    "late-data",
    "late-data-json",
];
const DEVIATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");

#[test]
fn every_scenario_answers_as_recorded_or_as_documented() {
    for scenario in SCENARIOS {
        replay(scenario, &[], Server::keep);
    }
}

#[test]
fn answers_are_the_same_while_snapshots_run_all_the_time() {
    for scenario in SCENARIOS {
        replay(scenario, &[("log-bound", Json::Number("65536".to_owned()))], Server::keep);
    }
}

#[test]
fn answers_are_the_same_after_a_clean_stop_behind_every_write() {
    for scenario in SCENARIOS {
        replay(scenario, &[], |server, site| {
            server.stop();
            site.serve()
        });
    }
}

#[test]
fn answers_are_the_same_after_a_kill_behind_every_write() {
    for scenario in SCENARIOS {
        replay(scenario, &[], |mut server, site| {
            server.kill();
            site.serve()
        });
    }
}

#[test]
fn every_documented_deviation_is_a_replayed_case_and_has_a_reason() {
    let index = index();
    let cases: Vec<Case> = SCENARIOS.iter().flat_map(|scenario| cases(&index, scenario)).collect();
    let deviations = deviations();
    assert!(!deviations.is_empty(), "no row of docs/compatibility.md was understood");
    for (id, row) in deviations {
        assert!(
            cases.iter().any(|case| case.id == id),
            "docs/compatibility.md lists `{id}`, which is no replayed case"
        );
        assert!(row.iter().all(|cell| !cell.is_empty()), "docs/compatibility.md: `{id}` needs what differs and why");
    }
}

/// One recorded request and its answer.
#[derive(Debug)]
struct Case {
    id: String,
    kind: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    body_is_template: bool,
    status: u16,
    content_type: String,
    allow: Option<String>,
    response: String,
    mode: Mode,
}

/// Replays a scenario; `behind_write` may put another server on the same data after each request that changes them.
fn replay(scenario: &str, storage: &[(&str, Json)], behind_write: impl Fn(Server, &Site) -> Server) {
    let index = index();
    let entries = index.get("scenarios").and_then(Json::list).expect("the index has scenarios");
    let entry = entries.iter().find(|entry| text(entry, "scenario") == scenario).expect("the scenario is recorded");
    let site = Site::empty();
    site.configure(recorded_config(&text(entry, "config")), storage);
    let mut server = site.serve();
    let mut client = server.client();

    let mut documented = deviations();
    let mut report = String::new();
    let mut written = (0, 0);
    let cases = cases(&index, scenario);
    for case in &cases {
        let Case { id, method, path, .. } = case;
        let sent = clock::unix_seconds();
        // No document excuses a server that fails.
        let answer = match ask(&mut client, case, sent) {
            Ok(answer) if answer.status < 500 || case.status >= 500 => answer,
            failure => {
                _ = writeln!(report, "{id} ({method} {path}) is not answered: {failure:?}");
                client = server.client();
                continue;
            }
        };
        if case.kind == "write" {
            written = (sent, clock::unix_seconds());
        }
        if matches!(&*case.kind, "write" | "free") {
            drop(client);
            server = behind_write(server, &site);
            client = server.client();
        }
        match (compare_answers(case, &answer, written), documented.remove(id)) {
            (Err(difference), None) => _ = writeln!(report, "{id} ({method} {path}) differs:\n    {difference}"),
            (Ok(()), Some(_)) => _ = writeln!(report, "{id} is documented to differ, but it does not"),
            (Ok(()), None) | (Err(_), Some(_)) => {}
        }
    }
    assert!(
        report.is_empty(),
        "{scenario}: docs/compatibility.md does not say what is:\n{report}\nthe server said:\n{}",
        server.said()
    );
    server.stop();
    assert!(!cases.is_empty(), "{scenario} has no cases");
}

fn ask(client: &mut Client, case: &Case, now: i64) -> io::Result<Answer> {
    let headers: Vec<(&str, &str)> = case.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let body = if case.body_is_template { fill(&case.body, now) } else { case.body.clone() };
    client.request(&case.method, &case.path, &headers, &body)
}

/// Replaces `${NOW-60}` by the unix time `now` minus 60, and so on.
fn fill(template: &[u8], now: i64) -> Vec<u8> {
    let template = std::str::from_utf8(template).expect("templates are text");
    let mut parts = template.split("${NOW-");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (seconds, rest) = part.split_once('}').expect("a place ends with a brace");
        let seconds: i64 = seconds.parse().expect("a place holds seconds");
        filled.push_str(&(now - seconds).to_string());
        filled.push_str(rest);
    }
    filled.into_bytes()
}

fn compare_answers(case: &Case, answer: &Answer, written: (i64, i64)) -> Result<(), String> {
    let ours = answer.text();
    if answer.status != case.status {
        return Err(format!("status: recorded {}, ours {} with body {ours:?}", case.status, answer.status));
    }
    // The predecessor sets this header twice in some places; it means the same as once.
    let recorded_type = case.content_type.split(", ").next().unwrap_or_default();
    let our_type = answer.header("Content-Type").unwrap_or_default();
    if our_type != recorded_type {
        return Err(format!("content type: recorded {recorded_type:?}, ours {our_type:?}"));
    }
    let allowed = answer.header("Allow");
    if methods(case.allow.as_deref()) != methods(allowed.as_deref()) {
        return Err(format!("Allow: recorded {:?}, ours {allowed:?}", case.allow));
    }
    if recorded_type == "application/json" && !case.response.is_empty() {
        return compare::documents(&case.response, &ours, case.mode, written)
            .map_err(|difference| format!("{difference}\n    our answer: {}", ours.trim_end()));
    }
    // Messages are ours to word; the fixed texts of the protocol (404, 405 and what succeeds) are not.
    let free = matches!(case.status, 400 | 401 | 500);
    if if free { case.response.is_empty() == ours.is_empty() } else { case.response == ours } {
        return Ok(());
    }
    Err(format!("body: recorded {:?}, ours {ours:?}", case.response))
}

fn methods(allow: Option<&str>) -> Vec<&str> {
    let mut methods: Vec<&str> = allow.into_iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    methods.sort_unstable();
    methods
}

fn index() -> Json {
    let path = Path::new(RECORDINGS).join("index.json");
    Json::parse(&fs::read_to_string(path).expect("the recordings are part of the project")).expect("an index")
}

fn cases(index: &Json, scenario: &str) -> Vec<Case> {
    let entries = index.get("cases").and_then(Json::list).expect("the index has cases");
    entries.iter().filter(|entry| text(entry, "scenario") == scenario).map(case).collect()
}

fn case(entry: &Json) -> Case {
    let file = |key| {
        let name = entry.get(key).and_then(Json::text)?;
        Some(fs::read(Path::new(RECORDINGS).join(name)).expect("a file that the index names"))
    };
    let headers = match entry.get("headers") {
        Some(Json::Object(headers)) => headers.as_slice(),
        _ => &[],
    };
    Case {
        id: text(entry, "id"),
        kind: text(entry, "kind"),
        method: text(entry, "method"),
        path: text(entry, "path"),
        headers: headers
            .iter()
            .map(|(name, _)| (name.clone(), text(entry.get("headers").unwrap_or(entry), name)))
            .collect(),
        body: file("body").unwrap_or_default(),
        body_is_template: entry.get("body_is_template") == Some(&Json::Bool(true)),
        status: entry
            .get("status")
            .and_then(Json::integer)
            .and_then(|status| status.try_into().ok())
            .expect("a status"),
        content_type: text(entry, "content_type"),
        allow: entry.get("allow").and_then(Json::text).map(str::to_owned),
        response: String::from_utf8(file("response").unwrap_or_default()).expect("recorded answers are text"),
        mode: Mode::named(&text(entry, "compare")).expect("a way to compare that we know"),
    }
}

fn text(entry: &Json, key: &str) -> String {
    entry.get(key).and_then(Json::text).unwrap_or_else(|| panic!("`{key}` in {entry}")).to_owned()
}

/// The rows of the table of deviations: case id, then what differs and why.
fn deviations() -> BTreeMap<String, [String; 2]> {
    let document = fs::read_to_string(DEVIATIONS).expect("docs/compatibility.md is there");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").map(str::trim).collect();
        let [id, what, why] = cells[..] else { panic!("docs/compatibility.md: three cells are expected in: {row}") };
        let id = id.strip_suffix('`').unwrap_or_else(|| panic!("docs/compatibility.md: an id is expected in: {row}"));
        (id.to_owned(), [what.to_owned(), why.to_owned()])
    })
    .collect()
}
