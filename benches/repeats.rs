//! Decode and resolve of what senders repeat, against a loop that knows which line comes next, compares it and reads its
//! number.

use crate::compare::{Figure, compare};
use crate::env::{cpu_time, scale};
use crate::requests::request;
use crate::workload::{CLUSTER, Senders, host_name, metrics};
use criterion::{Criterion, SamplingMode};
use kymo_engine::decode::{Context, Limits, LineError, Point, Recall, Recaller, Repeated, Scratch, decode_repeats};
use kymo_engine::names::{KeyName, Layout, Layouts, Learned, MetricName, Spelling, Template, Templates};
use memchr::memchr;
use memchr::memmem;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Hosts whose bodies are made, then decoded, so that a body comes from memory as one that was received does.
const AT_ONCE: u32 = 529;

/// What a store does with lines until it places samples: it finds the host and the ordinal.
struct Resolver<'a> {
    layouts: Layouts,
    templates: Templates,
    hosts: HashMap<String, Host>,
    context: Context<'a>,
    points: u64,
    sum: f64,
}

struct Host {
    name: Arc<str>,
    layout: Arc<Layout>,
    template: Option<Arc<Template>>,
    learned: Learned,
    last: Option<u32>,
}

impl Resolver<'_> {
    /// Takes what was learned from the last bodies.
    fn learn(&mut self) {
        let cluster = Arc::from(CLUSTER);
        for Host { layout, template, learned, last, .. } in self.hosts.values_mut() {
            *last = None;
            if !learned.is_empty() {
                *template = Some(self.templates.learn(template.as_ref(), layout, &cluster, learned));
                learned.clear();
            }
        }
    }
}

impl Recaller for Resolver<'_> {
    fn point(&mut self, point: Point<'_>, spelling: Option<Spelling<'_>>) -> Option<Recall> {
        self.points += 1;
        self.sum += point.value;
        if !self.hosts.contains_key(point.host) {
            let (name, layout) = (point.host.into(), self.layouts.empty());
            let host = Host { name, layout, template: None, learned: Learned::default(), last: None };
            self.hosts.insert(point.host.to_owned(), host);
        }
        let host = self.hosts.get_mut(point.host)?;
        let Point { metric, component, subcomponent, .. } = point;
        let name = KeyName { metric: MetricName(metric.0), component, subcomponent };
        if host.layout.find(name).is_none() {
            host.layout = self.layouts.extend(&host.layout, &[name]);
        }
        let ordinal = host.layout.find(name)?;
        let before = host.last.replace(ordinal);
        let spelling = spelling?;
        let known = host.template.as_ref().and_then(|template| template.find(ordinal, &spelling));
        if known.is_none() {
            host.learned.push(&spelling, metric, ordinal, before);
        }
        let template = Arc::clone(host.template.as_ref()?);
        Recall::new(template, Arc::clone(&host.name), known.map_or(0, |at| at + 1), &self.context)
    }

    fn repeated(&mut self, point: Repeated) {
        self.points += 1;
        self.sum += point.value + f64::from(point.ordinal) + f64::from(u8::from(point.time.is_none()));
    }

    fn refused(&mut self, error: LineError<'_>) {
        panic!("the workload has a bad line: {error}");
    }
}

/// The lines of a kind of host, and which of them a body has, one after the other.
#[derive(Default)]
struct Sequence {
    numbers: HashMap<Vec<u8>, usize>,
    lines: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<usize>,
}

impl Sequence {
    /// Looks through a body, as the loop that is measured need not.
    fn read(&mut self, body: &[u8], host: &[u8]) {
        self.body.clear();
        for line in body.split_inclusive(|&byte| byte == b'\n') {
            let value = memmem::find(line, b" value=").expect("a line has a value") + b" value=".len();
            let at = memmem::find(line, host).expect("a line has its host");
            let (front, back) = (&line[..at], &line[at + host.len()..value]);
            let number = *self.numbers.entry([front, back].concat()).or_insert_with(|| {
                self.lines.push((front.to_vec(), back.to_vec()));
                self.lines.len() - 1
            });
            self.body.push(number);
        }
    }

    /// Compares, reads the number, goes to the end of the line.
    fn compare(&self, body: &[u8], host: &[u8]) -> f64 {
        let mut rest = body;
        let mut sum = 0.0;
        for &number in &self.body {
            let (front, back) = &self.lines[number];
            let is_it = |line: &[u8]| {
                let behind = line.strip_prefix(&front[..])?.strip_prefix(host)?.strip_prefix(&back[..])?;
                Some(line.len() - behind.len())
            };
            let value = is_it(rest).expect("the body was read before");
            let (number, length) = short_decimal(&rest[value..]);
            sum += number;
            let end = value + length;
            rest = &rest[end + memchr(b'\n', &rest[end..]).expect("a line has an end") + 1..];
        }
        sum
    }
}

/// A number of digits with a point in it, at most 15 of them.
#[expect(clippy::cast_precision_loss, reason = "fifteen digits are exact")]
fn short_decimal(text: &[u8]) -> (f64, usize) {
    const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (mut mantissa, mut at, mut point) = (0_u64, 0, None);
    loop {
        match text[at] {
            digit @ b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(digit - b'0'),
            b'.' => point = Some(at + 1),
            _ => break,
        }
        at += 1;
    }
    (mantissa as f64 / POWERS[point.map_or(0, |point| at - point) & 15], at)
}

#[expect(clippy::cast_precision_loss, reason = "a pass has some million lines")]
fn bench_hosts(criterion: &mut Criterion, id: &str, hosts: u32) {
    let mut group = criterion.benchmark_group("decode and resolve");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(2));
    let limits = Limits::default();
    let context = Context { default_cluster: "", limits: &limits, complete: true };
    let (senders, metrics) = (Senders::default(), metrics());
    let setup = || {
        let resolver = Resolver {
            layouts: Layouts::new(&metrics),
            templates: Templates::default(),
            hosts: HashMap::new(),
            context,
            points: 0,
            sum: 0.0,
        };
        (resolver, vec![Vec::new(); AT_ONCE as usize], 0_u32, Scratch::default())
    };
    // How many lines a pass has differs a little from one to the next: each is told as if it had this many.
    let nominal = u64::from(hosts) * 370;
    let figure = Figure::Rate { unit: "line", count: nominal };
    compare(&mut group, id, figure, &["compare and parse"], setup, |state, iterations, times| {
        let (resolver, bodies, minute, scratch) = state;
        let mut all = Duration::ZERO;
        for _ in 0..iterations {
            // In the first minutes all is learned.
            let warm_up = if *minute == 0 { 3 } else { 0 };
            for pass in 0..=warm_up {
                let (mut ours, mut theirs, mut lines) = (Duration::ZERO, Duration::ZERO, 0);
                let mut sequence = Sequence::default();
                for first in (0..hosts).step_by(AT_ONCE as usize) {
                    let chunk = first..(first + AT_ONCE).min(hosts);
                    for (host, body) in chunk.clone().zip(&mut *bodies) {
                        body.clear();
                        lines += request(&senders, host, *minute, body);
                    }
                    ours += cpu_time(|| {
                        for (_, body) in chunk.clone().zip(&*bodies) {
                            decode_repeats(body, &metrics, &context, scratch, resolver);
                        }
                    });
                    for (host, body) in chunk.zip(&*bodies) {
                        let name = host_name(host);
                        sequence.read(body, name.as_bytes());
                        theirs += cpu_time(|| {
                            black_box(sequence.compare(black_box(body), name.as_bytes()));
                        });
                    }
                    resolver.learn();
                }
                *minute += 1;
                if pass == warm_up {
                    let nominally = |time: Duration| time.mul_f64(nominal as f64 / lines as f64);
                    times.add(0, nominally(ours));
                    times.add(1, nominally(theirs));
                    all += ours;
                }
            }
        }
        black_box(resolver.sum);
        all
    });
    group.finish();
}

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_hosts(criterion, "200,000 series", scale(529, 3));
    bench_hosts(criterion, "5,000,000 series", scale(13_228, 4));
}
