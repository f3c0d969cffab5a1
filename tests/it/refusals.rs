//! Nothing vanishes in silence: what is not stored is counted by reason in the answer, and what is good is stored
//! whatever stands beside it.

use crate::clock;
use crate::http::{Answer, Client};
use crate::json::Json;
use crate::server::{Server, Site};

/// One line for each way in which a line can be refused without an error of the request, with its reason.
fn refused(now: i64) -> Vec<(&'static str, String)> {
    let long = "x".repeat(300);
    vec![
        ("unknown-metric", "never_heard_of,cluster=alpha,hostname=h1,type=node value=1".to_owned()),
        ("number-spelling", "cpu_load,cluster=alpha,hostname=h1,type=node value=0x1p-2".to_owned()),
        ("timestamp", "cpu_load,cluster=alpha,hostname=h1,type=node value=1 17x".to_owned()),
        ("no-cluster", format!("cpu_load,hostname=h1,type=node value=1 {now}")),
        ("no-host", format!("cpu_load,cluster=alpha,type=node value=1 {now}")),
        ("cluster-name", format!("cpu_load,cluster=..,hostname=h1,type=node value=1 {now}")),
        ("host-name", format!("cpu_load,cluster=alpha,hostname=a/b,type=node value=1 {now}")),
        ("component-name", format!("cpu_load,cluster=alpha,hostname=h1,type=core,type-id={long} value=1 {now}")),
        ("line-too-long", format!("cpu_load,cluster=alpha,hostname=h1,x={},type=node value=1 {now}", "x".repeat(2000))),
        ("too-late", format!("cpu_load,cluster=alpha,hostname=h1,type=node value=1 {}", now - 7 * 86_400)),
        ("too-far-ahead", format!("cpu_load,cluster=alpha,hostname=h1,type=node value=1 {}", now + 86_400)),
        ("limit-series", format!("cpu_load,cluster=alpha,hostname=g0,type=core,type-id=99 value=1 {now}")),
        ("limit-hosts", format!("cpu_load,cluster=alpha,hostname=one-too-many,type=node value=1 {now}")),
    ]
}

/// Those that make the answer a 400.
const ERRORS: [(&str, &str); 4] = [
    ("syntax", "cpu_load,cluster=alpha,hostname=h1,type= value=1"),
    ("value", "cpu_load,cluster=alpha,hostname=h1,type=node value=1e999"),
    ("value-kind", "cpu_load,cluster=alpha,hostname=h1,type=node value=\"text\""),
    ("field-key", "cpu_load,cluster=alpha,hostname=h1,type=node load=1"),
];

#[test]
fn every_refused_line_is_counted_by_its_reason_and_every_good_line_is_stored() {
    let limits = Json::Object(
        [("hosts", "20"), ("series-per-host", "2"), ("line", "1000")]
            .map(|(key, value)| (key.to_owned(), Json::Number(value.to_owned())))
            .to_vec(),
    );
    let site = Site::new(&[("late-window", "24h".into()), ("limits", limits)]);
    let server = site.serve();
    let mut client = server.client();
    let now = clock::unix_seconds();
    let mut good = Good { now, hosts: 0 };
    // Both series that g0 may have.
    let first = format!("{}cpu_load,cluster=alpha,hostname=g0,type=core,type-id=0 value=1 {now}\n", good.line());
    assert_eq!(post(&mut client, &first).status, 200);

    // All hosts that may be, by good lines between the bad ones.
    let refused = refused(now);
    let mut body = String::new();
    for (_, line) in &refused[..12] {
        body.extend([&*good.line(), line, "\n"]);
    }
    while good.hosts < 20 {
        body += &good.line();
    }
    body.extend([&*refused[12].1, "\n"]);
    let mut reasons: Vec<_> = refused.iter().map(|(reason, _)| *reason).collect();
    reasons.sort_unstable();
    let once = reasons.join("=1, ");
    let answer = post(&mut client, &body);
    assert_eq!((answer.status, answer.header("Content-Length").as_deref()), (200, Some("0")));
    assert_eq!(answer.header("Connection"), None);
    assert_eq!(answer.header("Kymo-Lines-Refused"), Some(format!("13; {once}=1")));

    // One of each kind that is an error, twice, between good lines of a later minute.
    good = Good { now: now + 60, hosts: 0 };
    let mut errors = String::new();
    for (_, line) in ERRORS {
        errors.extend([&*good.line(), line, "\n", line, "\n"]);
    }
    let answer = post(&mut client, &format!("{errors}{}{body}", good.line()));
    assert_eq!((answer.status, answer.header("Connection").as_deref()), (400, Some("close")));
    let twice = "field-key=2, syntax=2, value=2, value-kind=2";
    assert_eq!(answer.header("Kymo-Lines-Refused"), Some(format!("21; {twice}, {once}=1")));
    let error = Json::parse(&answer.text()).expect("an error is JSON");
    assert_eq!(error.get("status"), Some(&"Bad Request".into()));
    let text = error.get("error").and_then(Json::text).expect("an error has a text").to_owned();
    assert!(text.starts_with("at line 2:"), "the first bad line is named: {text}");

    for host in 0..20 {
        let wanted = if host < 5 { 2 } else { 1 };
        assert_eq!(samples(&server, &format!("g{host}")), wanted, "g{host}");
    }
    for host in ["h1", "one-too-many"] {
        assert_eq!(samples(&server, host), 0, "{host}");
    }
    assert_metrics_agree(&server, &refused);
    server.stop();
}

#[test]
fn bad_fields_are_an_error_of_the_request_also_where_a_name_is_missing() {
    let site = Site::new(&[]);
    let server = site.serve();
    let mut client = server.client();
    let now = clock::unix_seconds();
    for names in ["cluster=alpha", "hostname=h1", "cluster=alpha,hostname=.", "cluster=alpha,hostname=.."] {
        // The predecessor takes all names but those that lead out of their directory.
        let status = if names.ends_with("..") { 200 } else { 400 };
        for (reason, field) in [("value", "value=abc"), ("value-kind", "value=\"x\""), ("field-key", "foo=1")] {
            let answer = post(&mut client, &format!("cpu_load,{names} {field} {now}\n"));
            let reason = if status == 200 { "host-name" } else { reason };
            assert_eq!(answer.status, status, "{names} {field}");
            assert_eq!(answer.header("Kymo-Lines-Refused"), Some(format!("1; {reason}=1")), "{names} {field}");
            client = server.client();
        }
        assert_eq!(post(&mut client, &format!("cpu_load,{names} value=1 {now}\n")).status, 200, "{names}");
    }
    server.stop();
}

/// Makes good lines, each of the next host.
struct Good {
    now: i64,
    hosts: u32,
}

impl Good {
    fn line(&mut self) -> String {
        let line = format!("cpu_load,cluster=alpha,hostname=g{},type=node value=1 {}\n", self.hosts, self.now);
        self.hosts += 1;
        line
    }
}

fn post(client: &mut Client, body: &str) -> Answer {
    client.post("/api/write", body.as_bytes()).expect("the server answers a write")
}

/// How many samples of its node a host has.
fn samples(server: &Server, host: &str) -> usize {
    let now = clock::unix_seconds();
    let body = format!(
        r#"{{"cluster":"alpha","from":{},"to":{},"with-padding":false,"queries":[{{"metric":"cpu_load","host":"{host}"}}]}}"#,
        now - 3600,
        now + 3600
    );
    let answer = server.client().get("/api/query", body.as_bytes()).expect("the server answers a query");
    let answer = Json::parse(&answer.text()).expect("the answer is JSON");
    let series = answer.get("results").and_then(|results| results.list()?.first()?.list()?.first());
    let data = series.and_then(|series| series.get("data")?.list()).unwrap_or_default();
    data.iter().filter(|value| **value != Json::Null).count()
}

/// The numbers for the administrator are those that the senders were told.
fn assert_metrics_agree(server: &Server, refused: &[(&str, String)]) {
    let metrics = server.client().get("/metrics", b"").expect("the server has metrics").text();
    for (reason, _) in refused {
        let line = format!("kymo_http_lines_refused_total{{reason=\"{reason}\"}} 2\n");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
        let of_reason = format!("kymo_refused_lines_total{{reason=\"{reason}\",");
        let counts = metrics.lines().filter(|line| line.starts_with(&of_reason));
        let sum: u64 = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        assert_eq!(sum, 2, "{reason}\n{metrics}");
    }
}
