//! What could go wrong here: a line that only looks like an earlier one gets its meaning, a sample goes to the host or
//! the cluster of another line, the lines behind a cut, an error or a change of the order get lost. The parser that reads
//! every line is the oracle: whatever was learned before, each body must give the same.
#![expect(clippy::arithmetic_side_effects, reason = "test code may panic")]

use super::super::tests::{Seen, metrics, mutate, name, number};
use super::*;
use crate::decode::{Context, Decoded, Limits, Scratch, decode, decode_repeats};
use crate::model::Metrics;
use crate::names::{Key, KeyName, Layout, Layouts, Learned, MetricName, Templates};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Learns from every line, as the store does, and says what a plain sink would be told.
struct Memory {
    layouts: Layouts,
    templates: Templates,
    hosts: BTreeMap<(String, String), Known>,
    current: (String, String),
    default_cluster: String,
    limits: Limits,
    seen: Seen,
}

struct Known {
    layout: Arc<Layout>,
    template: Option<Arc<Template>>,
    learned: Learned,
    last: Option<u32>,
}

impl Memory {
    fn new(metrics: &Metrics) -> Self {
        Self {
            layouts: Layouts::new(metrics),
            templates: Templates::bounded(4000),
            hosts: BTreeMap::new(),
            current: Default::default(),
            default_cluster: String::new(),
            limits: Limits::default(),
            seen: Seen::default(),
        }
    }

    /// What a body gives, which is then learned.
    fn decode(&mut self, body: &[u8], metrics: &Metrics, context: &Context<'_>) -> (Decoded, Seen) {
        context.default_cluster.clone_into(&mut self.default_cluster);
        self.limits = *context.limits;
        let decoded = decode_repeats(body, metrics, context, &mut Scratch::default(), self);
        for ((cluster, _), known) in &mut self.hosts {
            known.last = None;
            let (base, cluster) = (known.template.as_ref(), Arc::from(cluster.as_str()));
            if !known.learned.is_empty() {
                known.template = Some(self.templates.learn(base, &known.layout, &cluster, &known.learned));
                known.learned.clear();
            } else if base.is_none() {
                known.template = self.templates.newest(&known.layout, &cluster);
            }
        }
        (decoded, std::mem::take(&mut self.seen))
    }
}

impl Recaller for Memory {
    fn point(&mut self, point: Point<'_>, spelling: Option<Spelling<'_>>) -> Option<Recall> {
        self.seen.point(point);
        self.current = (point.cluster.to_owned(), point.host.to_owned());
        let known = self.hosts.entry(self.current.clone()).or_insert_with(|| Known {
            layout: self.layouts.empty(),
            template: None,
            learned: Learned::default(),
            last: None,
        });
        let Point { metric, component, subcomponent, .. } = point;
        let name = KeyName { metric: MetricName(metric.0), component, subcomponent };
        known.layout = self.layouts.extend(&known.layout, &[name]);
        let ordinal = known.layout.find(name).unwrap();
        let before = known.last.replace(ordinal);
        let spelling = spelling?;
        let found = known.template.as_ref().and_then(|template| template.find(ordinal, &spelling));
        if found.is_none() {
            known.learned.push(&spelling, metric, ordinal, before);
        }
        let next = found.map_or(0, |at| at + 1);
        let context = Context { default_cluster: &self.default_cluster, limits: &self.limits, complete: true };
        Recall::new(Arc::clone(known.template.as_ref()?), point.host.into(), next, &context)
    }

    fn repeated(&mut self, point: Repeated) {
        let (cluster, host) = &self.current;
        let known = self.hosts.get_mut(&self.current).unwrap();
        known.last = Some(point.ordinal);
        let layout = Arc::clone(known.template.as_ref().unwrap().layout());
        let Key { metric, component, subcomponent } = &layout.keys()[point.ordinal as usize];
        assert_eq!(metric.0, point.metric.0);
        let Repeated { line, metric, time, value, .. } = point;
        self.seen.point(Point { line, metric, cluster, host, component, subcomponent, time, value });
    }

    fn refused(&mut self, error: LineError<'_>) {
        self.seen.refused(error);
    }
}

/// Asserts that a memory gives what the parser gives, body after body; returns how many lines were known.
fn assert_same(bodies: &[(Vec<u8>, String, bool)], limits: &[Limits]) -> u64 {
    let metrics = metrics();
    let mut memory = Memory::new(&metrics);
    let mut repeated = 0;
    for ((body, default_cluster, complete), limits) in bodies.iter().zip(limits.iter().cycle()) {
        let context = Context { default_cluster, limits, complete: *complete };
        let mut expected = Seen::default();
        let counts = decode(body, &metrics, &context, &mut Scratch::default(), &mut expected);
        let (decoded, seen) = memory.decode(body, &metrics, &context);
        assert_eq!(seen, expected, "{}", body.escape_ascii());
        assert_eq!((decoded.points, decoded.refused), (counts.points, counts.refused));
        repeated += decoded.repeated;
    }
    repeated
}

fn known_lines(bodies: &[&str]) -> u64 {
    let bodies: Vec<_> = bodies.iter().map(|body| (body.as_bytes().to_vec(), "dflt".to_owned(), true)).collect();
    assert_same(&bodies, &[Limits::default()])
}

const BODY: &str = "m,cluster=c,hostname=h1,type=socket,type-id=0 value=1.5 60\n\
                    m,cluster=c,hostname=h1,type=socket,type-id=1 value=2 60\n\
                    cpu_load,cluster=c,hostname=h1 value=-3e2 60\n\
                    cpu_user,cluster=c,hostname=h1 value=4i 120\n\
                    mem_used,cluster=c,hostname=h1 value=.25\n";

#[test]
fn a_sender_that_repeats_itself_is_read_once() {
    assert_eq!(known_lines(&[BODY]), 0);
    assert_eq!(known_lines(&[BODY, BODY]), 4);
    assert_eq!(known_lines(&[BODY, &BODY.replace("60\n", "1700000040\r\n").replace("1.5", "1e3")]), 4);
}

#[test]
fn lines_that_are_left_out_swapped_or_put_between_cost_little() {
    let lines: Vec<&str> = BODY.lines().collect();
    let body = |order: &[usize]| order.iter().flat_map(|&at| [lines[at], "\n"]).collect::<String>();
    assert_eq!(known_lines(&[BODY, &body(&[0, 3, 4])]), 2);
    assert_eq!(known_lines(&[BODY, &body(&[0, 2, 1, 3, 4])]), 4);
    assert_eq!(known_lines(&[BODY, &BODY.replace("cpu_load", "#\n\ncpu_load")]), 4);
    assert_eq!(known_lines(&[BODY, &BODY.replace("cpu_load", "nope v=\"\n\"\ncpu_load")]), 4);
}

#[test]
fn lines_are_known_wherever_they_stand() {
    let body = |order: &dyn Fn(usize) -> usize| {
        let line = |at: usize| match at % 3 {
            0 => format!("m,cluster=c,hostname=h1,type=hwthread,type-id={at} value={at} 60\n"),
            1 => format!("m,cluster=c,type=core,type-id={at},hostname=h1 value={at} 60\n"),
            _ => format!("cpu_load,hostname=h1,cluster=c,type=core,type-id={at} value={at} 60\n"),
        };
        (0..60).map(order).map(line).collect::<String>()
    };
    let (straight, backwards, scattered) = (body(&|at| at), body(&|at| 59 - at), body(&|at| at * 7 % 60));
    assert_eq!(known_lines(&[&straight, &backwards]), 59);
    assert_eq!(known_lines(&[&straight, &scattered, &backwards, &straight]), 3 * 59);
}

#[test]
fn lines_that_are_not_known_take_no_more_than_linear_time() {
    let known = "m,hostname=h1 value=1\n";
    for line in ["\n", "#\n", "x\n", "a,\n", "a,b \n", "m,x=h1, \n", "m,hostname=h1 \n", "=h1,"] {
        let tail = ["", "=h1,", " ", "="].map(|part| part.repeat(1000)).concat();
        known_lines(&[known, &format!("{known}{}{tail}", line.repeat(200_000))]);
    }
}

#[test]
fn hosts_that_are_alike_share_what_was_learned() {
    let second = BODY.replace("h1", "another");
    assert_eq!(known_lines(&[BODY, &second, &second]), 4);
    assert_eq!(known_lines(&[BODY, &format!("{second}{BODY}"), &format!("{BODY}{second}{BODY}")]), 4 + 12);
}

#[test]
fn a_host_whose_name_needs_escapes_is_read_every_time() {
    for name in ["a\\=b", "a\\ b", "a\\,b"] {
        let escaped = BODY.replace("h1", name);
        let plain = BODY.replace("h1", &name.replace('\\', ""));
        known_lines(&[BODY, &escaped, &plain, &escaped, &plain]);
    }
}

#[test]
fn a_line_without_a_cluster_is_of_the_default_of_its_request() {
    let bare = BODY.replace("cluster=c,", "");
    let metrics_seen = |clusters: &[&str]| {
        let bodies = clusters.iter().map(|cluster| (bare.as_bytes().to_vec(), (*cluster).to_owned(), true));
        assert_same(&bodies.collect::<Vec<_>>(), &[Limits::default()])
    };
    assert_eq!(metrics_seen(&["a", "a", "b", "b", "a"]), 4 + 4 + 4);
    assert_eq!(metrics_seen(&["a", "", "a"]), 4);
    // One host, with and without the tag.
    known_lines(&[BODY, &bare, &BODY.replace("cluster=c", "cluster=dflt"), &bare, BODY]);
}

#[test]
fn a_value_that_is_none_is_refused_as_ever() {
    for value in ["1.5.5", "-", "1_0", "0x1p1", "\"a\"", "t", "1,value=2", "1e999", "+1", "", "NaN", "1\r1", "1\t"] {
        known_lines(&[BODY, &BODY.replace("value=2", &format!("value={value}")), BODY]);
    }
    for time in [" 60x", " 1 2", "60", "\t60", " +1", " 99999999999999999999", "  60  ", " -60", " ", "\r", " 6\r"] {
        known_lines(&[BODY, &BODY.replace(" 60\n", &format!("{time}\n")), BODY]);
    }
}

/// The front of a line up to its value.
fn front() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["type", "type-id", "stype", "host", "x"]);
    let tag = (key, name()).prop_map(|(key, value)| format!(",{key}={value}"));
    let cluster = prop::sample::select(vec![",cluster=c", ",cluster=c", ",cluster=d", ""]);
    let metric = prop::sample::select(vec!["m", "m", "cpu_load", "a\\ b\\,c", " m", "nope"]);
    (metric, cluster, prop::collection::vec(tag, 0..3), any::<bool>()).prop_map(|(metric, cluster, tags, first)| {
        let (before, behind) = if first { (String::new(), tags.concat()) } else { (tags.concat(), String::new()) };
        format!("{metric}{cluster}{before},hostname=HOST{behind} value=")
    })
}

/// How many fronts senders have: more than are looked at near the one that is expected.
const FRONTS: usize = 20;

/// The front of a line, its host, its value, and what follows.
type OfSender = (usize, &'static str, String, &'static str);

/// Bodies of senders that take their lines out of a few, with changes here and there.
fn bodies() -> impl Strategy<Value = Vec<(Vec<u8>, String, bool)>> {
    let host = prop::sample::select(vec!["h", "h", "h", "h2", "x\\=y", "x=y"]);
    let time = prop::sample::select(vec![" 60", " 60", " 120", "", " 1700000040", " 17\r", "  60 ", " x"]);
    let line = (0..FRONTS, host, number(), time);
    let lines = (prop::collection::vec(line, 0..30), prop::bool::weighted(0.5));
    let body = (lines, mutate(), prop::sample::select(vec!["", "c", "e"]), prop::bool::weighted(0.7));
    (prop::collection::vec(front(), FRONTS), prop::collection::vec(body, 2..6)).prop_map(|(fronts, bodies)| {
        let of_sender =
            |((mut lines, is_in_order), changes, cluster, complete): ((Vec<OfSender>, bool), _, &str, bool)| {
                if is_in_order {
                    lines.sort_by_key(|&(at, host, ..)| (host, at));
                } else {
                    lines.sort_by_key(|&(_, host, ..)| host);
                }
                let text =
                    |(at, host, value, time): OfSender| format!("{}{value}{time}\n", fronts[at].replace("HOST", host));
                let body: String = lines.into_iter().map(text).collect();
                (super::super::tests::changed(body.into_bytes(), changes), cluster.to_owned(), complete)
            };
        let bodies: Vec<_> = bodies.into_iter().map(of_sender).collect();
        // Twice, so that all of it was seen before.
        [bodies.clone(), bodies].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 1000 }))]

    #[test]
    fn what_was_learned_changes_no_answer(bodies in bodies(), which in 0..3_usize) {
        let short = Limits { line_bytes: 50, name_bytes: 3, component_bytes: 4 };
        assert_same(&bodies, [&[Limits::default()], &[short], &[Limits::default(), short][..]][which]);
    }
}
