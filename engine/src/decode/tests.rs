//! What could go wrong here: a bad line harms its neighbours, a good one is refused or changed, the cut line of a broken
//! upload is stored as a wrong number, text inside a string is taken for samples, hostile bytes crash or stall the server.
#![expect(clippy::arithmetic_side_effects, reason = "test code may panic")]

use proptest::prelude::*;
use serde_json::Value;

use super::naive::{self, Owned};
use super::*;
use crate::model::{Aggregation, Metric};

const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/ccms");

const METRICS: [&str; 17] = [
    "cpu_load",
    "cpu_user",
    "mem_used",
    "net_bytes_in",
    "mem_bw",
    "cpu_power",
    "flops_any",
    "ipc",
    "clock",
    "temp",
    "fast",
    "slow",
    "odd",
    "acc_util",
    "acc_mem",
    "sock_raw",
    "lfs_rd",
];

pub(super) fn metrics() -> Metrics {
    let metric = |name: &str| Metric { name: name.into(), frequency: 60, aggregation: Aggregation::Sum };
    Metrics::new(METRICS.into_iter().chain(["a b,c", "m"]).map(metric).collect()).unwrap()
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refused {
    line: u32,
    reason: Reason,
    metric: String,
    host: String,
    text: String,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    points: Vec<Owned>,
    refused: Vec<Refused>,
    /// Both in their order.
    verdicts: Vec<Result<Owned, Reason>>,
}

impl Sink for Seen {
    fn point(&mut self, point: Point<'_>) {
        let Point { line, metric, cluster, host, component, subcomponent, time, value } = point;
        let owned = Owned {
            line,
            metric,
            cluster: cluster.to_owned(),
            host: host.to_owned(),
            component: component.to_owned(),
            subcomponent: subcomponent.to_owned(),
            time,
            value: value.to_bits(),
        };
        self.verdicts.push(Ok(owned.clone()));
        self.points.push(owned);
    }

    fn refused(&mut self, error: LineError<'_>) {
        self.verdicts.push(Err(error.reason));
        self.refused.push(Refused {
            line: error.line,
            reason: error.reason,
            metric: error.metric.to_owned(),
            host: error.host.to_owned(),
            text: error.to_string(),
        });
    }
}

fn decode_with(body: &[u8], default_cluster: &str, limits: &Limits, complete: bool) -> Seen {
    let mut seen = Seen::default();
    let context = Context { default_cluster, limits, complete };
    let decoded = decode(body, &metrics(), &context, &mut Scratch::default(), &mut seen);
    assert_eq!((decoded.points, decoded.refused), (seen.points.len() as u64, seen.refused.len() as u64));
    seen
}

fn see(body: impl AsRef<[u8]>) -> Seen {
    decode_with(body.as_ref(), "", &Limits::default(), true)
}

/// The one point of a line.
fn point(line: &str) -> Owned {
    let seen = see(line);
    assert_eq!((seen.points.len(), &seen.refused[..]), (1, &[][..]), "{line:?}");
    seen.points.into_iter().next().unwrap()
}

/// Component and subcomponent of a line with these tags.
fn path(tags: &str) -> (String, String) {
    let point = point(&format!("m,cluster=c,host=h,{tags} value=1"));
    (point.component, point.subcomponent)
}

/// The reason why a line is refused.
fn reason(line: impl AsRef<[u8]>) -> Reason {
    let seen = see(line.as_ref());
    assert_eq!((seen.points.len(), seen.refused.len()), (0, 1), "{:?}", line.as_ref().escape_ascii().to_string());
    seen.refused[0].reason
}

/// The reason why a line with this value is refused.
fn value_reason(value: &str) -> Reason {
    reason(format!("m,cluster=c,host=h value={value} 60"))
}

/// A write that was recorded from the predecessor.
struct Recorded {
    id: String,
    body: Vec<u8>,
    cluster: String,
    status: u64,
    response: Vec<u8>,
}

fn recorded_writes() -> Vec<Recorded> {
    let index: Value = serde_json::from_slice(&std::fs::read(format!("{RECORDINGS}/index.json")).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let read = |path: &Value| std::fs::read(format!("{RECORDINGS}/{}", text(path))).unwrap();
    let is_write = |case: &&Value| case["scenario"] == "write" && case["kind"] == "write";
    let recorded = |case: &Value| Recorded {
        id: text(&case["id"]),
        body: case.get("body").map(read).unwrap_or_default(),
        cluster: text(&case["path"]).split_once("?cluster=").map_or("", |(_, cluster)| cluster).to_owned(),
        status: case["status"].as_u64().unwrap(),
        response: case.get("response").map(read).unwrap_or_default(),
    };
    index["cases"].as_array().unwrap().iter().filter(is_write).map(recorded).collect()
}

#[test]
fn client_errors_are_where_and_what_the_predecessor_says() {
    let mut compared = 0;
    for Recorded { id, body, cluster, status, response } in recorded_writes() {
        let seen = decode_with(&body, &cluster, &Limits::default(), true);
        let error = seen.refused.iter().find(|refused| refused.reason.is_client_error());
        assert_eq!(error.is_some(), status == 400, "{id}: {error:?}");
        if let Some(error) = error {
            let recorded: Value = serde_json::from_slice(&response).unwrap();
            // The predecessor also prints its own memory.
            let text = recorded["error"].as_str().unwrap().split(" (value: ").next().unwrap();
            assert_eq!(error.text, text, "{id}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn recorded_lines_are_points_or_refused_for_the_right_reason() {
    let expected: [(&str, usize, &[Reason]); 25] = [
        ("125-dup", 4, &[]),
        ("137-tag-order", 3, &[]),
        ("139-cluster-param", 1, &[]),
        ("145-no-cluster", 0, &[Reason::NoCluster]),
        ("147-no-host", 0, &[Reason::NoHost]),
        ("160-int", 3, &[]),
        ("164-float-forms", 13, &[]),
        ("172-value-underscore", 0, &[Reason::NumberSpelling]),
        ("184-string-then-good", 1, &[Reason::ValueKind]),
        ("186-good-then-bad", 2, &[Reason::ValueKind]),
        ("190-two-fields-value", 1, &[]),
        ("195-unknown-metric-bad-value", 1, &[Reason::UnknownMetric]),
        ("197-unknown-metric-string", 1, &[Reason::UnknownMetric]),
        ("200-syntax-newlines", 0, &[]),
        ("203-syntax-crlf", 2, &[]),
        ("204-syntax-comment-between", 2, &[]),
        ("206-syntax-double-space", 1, &[]),
        ("216-syntax-bad-ts", 0, &[Reason::Timestamp]),
        ("217-syntax-text-after-ts", 0, &[Reason::Timestamp]),
        ("219-syntax-ts-too-big", 0, &[Reason::Timestamp]),
        ("229-syntax-error-second-line", 2, &[Reason::UnknownMetric]),
        ("231-utf8", 1, &[]),
        ("236-escaped-measurement", 1, &[Reason::UnknownMetric]),
        ("238-path-traversal", 1, &[Reason::HostName, Reason::HostName, Reason::HostName, Reason::ClusterName]),
        ("253-ts-missing-after-ms", 3, &[]),
    ];
    let writes = recorded_writes();
    for (wanted, points, reasons) in expected {
        let Recorded { id, body, cluster, .. } = writes.iter().find(|write| write.id == wanted).unwrap();
        let seen = decode_with(body, cluster, &Limits::default(), true);
        let seen_reasons: Vec<Reason> = seen.refused.iter().map(|refused| refused.reason).collect();
        assert_eq!((seen.points.len(), &seen_reasons[..]), (points, reasons), "{id}");
    }
}

#[test]
fn a_point_has_what_the_line_says() {
    let line = "flops_any,type-id=3,hostname=n1,unit=F/s,type=hwthread,cluster=alpha value=1.5 1700000040";
    let expected = Owned {
        line: 2,
        metric: metrics().find(b"flops_any").unwrap(),
        cluster: "alpha".to_owned(),
        host: "n1".to_owned(),
        component: "hwthread3".to_owned(),
        subcomponent: String::new(),
        time: Some(1_700_000_040),
        value: 1.5_f64.to_bits(),
    };
    for line in [format!("\n{line}"), format!("#c\n  {line}  \r\n"), format!(" \r\n{line}\r")] {
        assert_eq!(see(&line).points, std::slice::from_ref(&expected), "{line:?}");
    }
}

#[test]
fn components_are_type_and_id_in_any_order() {
    let own = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(path("type=socket,type-id=0"), own("socket0", ""));
    assert_eq!(path("type-id=0,type=socket"), own("socket0", ""));
    assert_eq!(path("type=socket"), own("socket", ""));
    assert_eq!(path("type-id=7"), own("7", ""));
    assert_eq!(path("type=a,type=b,type-id=1,type-id=2"), own("ba12", ""));
    assert_eq!(path("stype-id=home,stype=fs,type-id=0,type=socket"), own("socket0", "fshome"));
    assert_eq!(path("subtype=fs,subtype-id=/home,type=socket"), own("socket", "fs/home"));
    assert_eq!(path("type=a\\,b,type-id=c\\ d\\=e"), own("a,bc d=e", ""));
}

#[test]
fn type_node_is_the_host_with_or_without_an_id() {
    let host = (String::new(), String::new());
    for tags in ["type=node", "type=node,type-id=0", "type-id=0,type=node", "type=node,stype=fs,stype-id=x", "x=y"] {
        assert_eq!(path(tags), host, "{tags}");
    }
    assert_eq!(path("type=node,type=socket,type-id=0").0, "socket0");
    assert_eq!(path("stype=fs,stype-id=x"), host);
}

#[test]
fn the_later_of_two_clusters_hosts_or_values_wins() {
    let point = point("m,cluster=a,cluster=b,hostname=x,host=y value=1,value=2");
    assert_eq!((&*point.cluster, &*point.host, point.value), ("b", "y", 2.0_f64.to_bits()));
}

#[test]
fn a_line_without_cluster_gets_the_default_whatever_stands_before_it() {
    let body = "m,cluster=a,host=x value=1\nm,host=x value=1\n";
    let seen = decode_with(body.as_bytes(), "dflt", &Limits::default(), true);
    assert_eq!(seen.points.iter().map(|point| &*point.cluster).collect::<Vec<_>>(), ["a", "dflt"]);
    assert_eq!(see(body).refused[0].reason, Reason::NoCluster);
    let seen = decode_with(body.as_bytes(), "../x", &Limits::default(), true);
    assert_eq!(seen.refused[0].reason, Reason::ClusterName);
}

#[test]
fn fields_are_judged_before_a_name_that_the_predecessor_takes() {
    let faults =
        [("abc", Reason::Value), ("t", Reason::ValueKind), ("\"x\"", Reason::ValueKind), ("1,foo=1", Reason::FieldKey)];
    let long = "x".repeat(256);
    for tags in
        ["cluster=c", "host=h", "x=y", "cluster=.,host=h", "cluster=c,host=."].map(str::to_owned).into_iter().chain([
            format!("cluster={long},host=h"),
            format!("cluster=c,host={long}"),
            format!("cluster=c,host=h,type={long}"),
        ])
    {
        for (value, wanted) in faults {
            assert_eq!(reason(format!("m,{tags} value={value} 60")), wanted, "{tags} {value}");
        }
        assert_eq!(reason(format!("m,{tags} value=")), Reason::Syntax, "{tags}");
        // A fault that the predecessor does not know does not hide what is wrong with the name.
        for rest in ["value=1 60", "value=0x1p-2 60", "value=1 17x"] {
            assert!(!reason(format!("m,{tags} {rest}")).is_client_error(), "{tags} {rest}");
        }
    }
    // The predecessor leaves a line with such a name before it looks at the fields.
    for tags in [
        "cluster=c,host=..",
        "cluster=a/b,host=h",
        "cluster=c,host=a\\b",
        "host=../h",
        "cluster=..",
        "cluster=.,host=a/b",
    ] {
        for (value, _) in faults {
            assert!(!reason(format!("m,{tags} value={value} 60")).is_client_error(), "{tags} {value}");
        }
    }
    assert_eq!(see("m,cluster=c foo=1").refused[0].text, "host : unknown field: 'foo'");
}

#[test]
fn escapes_are_taken_out_and_other_backslashes_stay() {
    assert_eq!(point("m,cluster=a\\ b\\,c\\=d,host=h value=1").cluster, "a b,c=d");
    assert_eq!(point("a\\ b\\,c,cluster=c,host=h value=1").metric, metrics().find(b"a b,c").unwrap());
    assert_eq!(path("type=x\\y\\\\z").0, "x\\y\\\\z");
    assert_eq!(path("type=x\\\\,y").0, "x\\,y");
}

#[test]
fn names_that_could_not_be_files_are_refused() {
    for name in [".", "..", "a..b", "a/b", "a\\b", "/"] {
        assert_eq!(reason(format!("m,cluster={name},host=h value=1")), Reason::ClusterName, "{name}");
        assert_eq!(reason(format!("m,cluster=c,host={name} value=1")), Reason::HostName, "{name}");
    }
    assert_eq!(point("m,cluster=c,host=a.b. value=1").host, "a.b.");
    assert_eq!(path("type=../s,type-id=0").0, "../s0");
}

#[test]
fn lines_and_names_have_limits() {
    let name = "x".repeat(255);
    point(&format!("m,cluster={name},host={name},type={name} value=1"));
    assert_eq!(reason(format!("m,cluster={name}x,host=h value=1")), Reason::ClusterName);
    assert_eq!(reason(format!("m,cluster=c,host=x{name} value=1")), Reason::HostName);
    assert_eq!(reason(format!("m,cluster=c,host=h,type={name},type-id=1 value=1")), Reason::ComponentName);
    assert_eq!(reason(format!("m,cluster=c,host=h,type=t,stype={name},stype-id=1 value=1")), Reason::ComponentName);
}

#[test]
fn a_line_has_a_limit() {
    let line = "m,cluster=c,host=h value=1";
    let spaces = " ".repeat((64 << 10) - line.len());
    point(&format!("{line}{spaces}\r\n"));
    assert_eq!(reason(format!("{line}{spaces} \n")), Reason::LineTooLong);
    assert_eq!(see(format!("{spaces}{spaces}\n#{spaces}{spaces}")).verdicts, []);
}

#[test]
fn what_is_wrong_with_a_value_has_its_own_reason() {
    for value in ["NaN", "+1", "inf", "-inf", "0x10", "1e999", "9223372036854775808i", "-1u", "abc", "12xi", "1\t", "é"]
    {
        assert_eq!(value_reason(value), Reason::Value, "{value}");
    }
    for value in ["1_000", "0x1p-2"] {
        assert_eq!(value_reason(value), Reason::NumberSpelling, "{value}");
    }
    for value in ["t", "TRUE", "f", "False", "\"abc\"", "\"\"", "\"a\\\"b, c=1\n\""] {
        assert_eq!(value_reason(value), Reason::ValueKind, "{value}");
    }
    for value in ["", "1,", "\"a", "\"a\"b"] {
        assert_eq!(value_reason(value), Reason::Syntax, "{value}");
    }
    for value in ["1,other=2", "1,other=t", "1,other=\"x\"", "1,other=1_0"] {
        assert_eq!(value_reason(value), Reason::FieldKey, "{value}");
    }
}

#[test]
fn a_line_of_an_unknown_metric_is_never_looked_into() {
    for line in
        ["nope", "nope,", "nope,=", "nope value=", "nope \u{1}", "garbage line here", "{\"metric\":1}", "no\\ pe"]
    {
        assert_eq!(reason(line), Reason::UnknownMetric, "{line}");
    }
    assert_eq!(reason(b"nope,x=\xff"), Reason::UnknownMetric);
    assert_eq!(reason(b"no\xffpe x=1"), Reason::Syntax);
    let refused = &see("no\\ pe x=1").refused[0];
    assert_eq!((&*refused.metric, &*refused.host, refused.reason.is_client_error()), ("no pe", "", false));
}

#[test]
fn every_good_line_is_kept_whatever_stands_beside_it() {
    let good = "m,cluster=c,host=h value=1 60";
    let bad: [&[u8]; 10] = [
        b"nope value=1",
        b"m",
        b"m,",
        b"\x00\xff\xfe",
        b"m,cluster=c,host=h value=\"open",
        b"m,cluster=c,host=h x=\"open",
        b"m,cluster=c,host=h value=\"a\"b",
        b"\"",
        b"m,cluster=c,host=h value=1,\"",
        b"nope value=\"open\\\"",
    ];
    for bad in bad {
        let body = [good.as_bytes(), bad, good.as_bytes(), good.as_bytes(), bad, good.as_bytes()].join(&b'\n');
        let seen = see(&body);
        let lines: Vec<u32> = seen.points.iter().map(|point| point.line).collect();
        assert_eq!(lines, [1, 3, 4, 6], "{}", bad.escape_ascii());
        assert_eq!(seen.refused.iter().map(|refused| refused.line).collect::<Vec<_>>(), [2, 5]);
    }
}

#[test]
fn text_inside_a_string_is_not_taken_for_lines() {
    let inner = "m,cluster=c,host=h value=1 60";
    for first in ["m,cluster=c,host=h value=", "event,host=h msg=", "event a=1,msg=", "m,cluster=c msg="] {
        let body = format!("{first}\"it said:\n{inner}\n{inner}\n\" 60\n{inner}\n");
        let seen = see(&body);
        assert_eq!(seen.points.iter().map(|point| point.line).collect::<Vec<_>>(), [5], "{first}");
        assert_eq!(seen.refused.len(), 1, "{first}");
    }
}

#[test]
fn errors_know_their_line_column_metric_and_host() {
    let body = "m,cluster=c,host=h value=1\n  m,cluster=c,host=h1 value=x\nm,cluster=c,host=h value=\"a\nb\"c\n\nm,x";
    let refused = see(body).refused;
    let said: Vec<_> = refused.iter().map(|error| (&*error.text, &*error.metric, &*error.host)).collect();
    assert_eq!(said[0], ("at line 2:29: value for field \"value\" (\"x\") has unrecognized type", "m", "h1"),);
    let open = "at line 3:26: expected closing quote for string field \"value\", found end of input";
    assert_eq!(said[1], (open, "m", "h"));
    // What was meant as its end is then a line of its own.
    assert_eq!((refused[2].line, refused[2].reason), (4, Reason::UnknownMetric));
    assert_eq!(said[3], ("at line 6:3: expected '=' after tag key \"x\", but got '\\n' instead", "m", ""));
}

#[test]
fn texts_are_bounded() {
    let long = "ü".repeat(20_000);
    for line in [
        long.clone(),
        format!("m,{long} value=1"),
        format!("m,{long}= value=1"),
        format!("m,cluster=c,host={long} value=1"),
        format!("m,cluster=c,host=h {long}=1"),
        format!("m,cluster=c,host=h value={long}"),
        format!("m,cluster=c,host=h value=1 {long}"),
    ] {
        let refused = &see(&line).refused[0];
        assert!(refused.text.len() < 1000, "{}", refused.text);
        assert!(refused.metric.len() <= 255 && refused.host.len() <= 255);
    }
}

#[test]
fn a_cut_body_gives_exactly_its_complete_lines() {
    let body = "m,cluster=c,host=h value=1 60\r\n\n#c\nm,cluster=c,host=h value=17 120\nnope \"x=1\nm,cluster=c,host=h \
                value=\"a\nm,cluster=c,host=h value=2 60\n\" 60\nm,cluster=c\\,c,host=h,type=ü value=-5e3,value=4i 1700\n";
    let whole = see(body).verdicts;
    assert_eq!(whole.len(), 5);
    // The newlines that end a line.
    let strings_newlines = [body.find("\"a\n").unwrap() + 2, body.find("\n\" 60").unwrap()];
    for cut in 0..=body.len() {
        let before = &body.as_bytes()[..cut];
        let ended = before.iter().enumerate().filter(|&(at, &byte)| byte == b'\n' && !strings_newlines.contains(&at));
        let complete = [0, 1, 1, 1, 2, 3, 4, 5][ended.count()];
        let seen = decode_with(before, "", &Limits::default(), false);
        assert_eq!(seen.verdicts, whole[..complete], "cut at {cut}");
    }
}

#[test]
fn many_open_strings_take_no_more_than_linear_time() {
    for line in ["m v=\"\\\"\n", "m v=\"x\" \"\n", "nope v=\"\"\"\n", "m v=\"\n,v=\"\n,v=\"\n", "m,a=\",b=\" v=\"\\\n"]
    {
        see(line.repeat(100_000));
    }
    see(format!("m {}", "v=\"\",".repeat(200_000)));
    see(format!("nope {}", "v=\"\n\",".repeat(200_000)));
    see("m\\ ".repeat(200_000));
}

pub(super) fn name() -> impl Strategy<Value = String> {
    prop_oneof![6 => "[a-c]{1,3}", 1 => Just("node".to_owned()), 1 => "[a-c./\\\\]{1,3}", 1 => "(\\\\ |\\\\,|\\\\=|ü|\"){1,3}", 1 => "[a-z]{7,10}"]
}

pub(super) fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<f64>().prop_map(|value| format!("{value:?}")),
        2 => (-1_000_000_i32..1_000_000).prop_map(|value| format!("{}", f64::from(value) / 1000.0)),
        2 => any::<i64>().prop_map(|value| format!("{value}i")),
        1 => any::<u64>().prop_map(|value| format!("{value}u")),
        2 => "-?[0-9_]{0,3}\\.?[0-9_]{0,3}([eE][+-]?[0-9]{0,4})?[iu]?",
        1 => "0[xX][0-9a-f_.]{0,5}([pP][+-]?[0-9]{0,3})?",
        1 => "[tTfF+-][a-zA-Z]{0,3}",
        1 => "\"[ab\\\\\", =\n]{0,6}\"",
    ]
}

fn line() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        3 => Just("type"), 3 => Just("type-id"), 2 => Just("stype"), 1 => Just("stype-id"), 1 => Just("subtype"),
        1 => Just("host"), 1 => Just("cluster"), 1 => Just("x")
    ];
    let tag = (key, name()).prop_map(|(key, value)| format!(",{key}={value}"));
    let metric = prop_oneof![8 => Just("m"), 1 => Just("a\\ b\\,c"), 1 => Just("nope"), 1 => Just(" m")];
    let field = (prop_oneof![9 => Just("value"), 1 => Just("x")], number());
    let fields = prop::collection::vec(field.prop_map(|(key, value)| format!("{key}={value}")), 1..3);
    let time = prop_oneof![
        2 => Just(String::new()),
        3 => (0..20_u32, any::<i64>()).prop_map(|(shift, stamp)| format!(" {}", stamp / 10_i64.pow(shift.min(18)))),
        1 => " [0-9-]{1,3} ?[x+.]?",
    ];
    let end = prop_oneof![5 => Just(""), 1 => Just("\r"), 1 => Just("  "), 1 => Just(" \r")];
    let names =
        prop_oneof![9 => Just(",cluster=c,hostname=h"), 1 => Just(",cluster=c"), 1 => Just(",host=h"), 1 => Just("")];
    let head = (metric, names, prop::collection::vec(tag, 0..5));
    let good = (head, fields, time, end).prop_map(|((metric, names, tags), fields, time, end)| {
        format!("{metric}{names}{} {}{time}{end}", tags.concat(), fields.join(","))
    });
    prop_oneof![12 => good, 1 => "[ #]{0,2}[a\"]{0,2}", 1 => "[m,= \"\\\\v\n]{0,12}"]
}

/// A body, and changes to it: at a place, take some bytes away and put some in.
fn mutated_body() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(line(), 0..6), mutate())
        .prop_map(|(lines, changes)| changed(lines.join("\n").into_bytes(), changes))
}

/// At a place, take some bytes away and put some in.
type Change = (prop::sample::Index, usize, Vec<u8>);

pub(super) fn mutate() -> impl Strategy<Value = Vec<Change>> {
    let byte =
        prop_oneof![8 => prop::sample::select(b"\\\",= \n\r\t#x1i.e-_\0\x7f\xff\xc3".to_vec()), 1 => any::<u8>()];
    prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, prop::collection::vec(byte, 0..3)), 0..4)
}

pub(super) fn changed(mut body: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for (place, taken, put) in changes {
        let start = place.index(body.len() + 1);
        let end = body.len().min(start + taken);
        body.splice(start..end, put);
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 2000 }))]

    #[test]
    fn the_naive_parser_agrees(body in mutated_body(), default_cluster in "[d/]?", short in any::<bool>()) {
        let limits = if short { Limits { line_bytes: 60, name_bytes: 6, component_bytes: 6 } } else { Limits::default() };
        let context = Context { default_cluster: &default_cluster, limits: &limits, complete: true };
        let seen = decode_with(&body, &default_cluster, &limits, true);
        prop_assert_eq!(seen.verdicts, naive::decode(&body, &metrics(), &context));
    }

    #[test]
    fn a_cut_body_gives_nothing_that_the_whole_does_not(body in mutated_body(), cut in any::<prop::sample::Index>()) {
        let whole = see(&body).verdicts;
        let before = decode_with(&body[..cut.index(body.len() + 1)], "", &Limits::default(), false).verdicts;
        prop_assert!(whole.starts_with(&before), "{before:?}\n{whole:?}");
    }

    #[test]
    fn floats_come_back_bit_by_bit(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        for text in [format!("{value}"), format!("{value:e}"), format!("{value:?}")] {
            prop_assert_eq!(point(&format!("m,cluster=c,host=h value={text}")).value, bits);
        }
    }
}
