//! Line protocol.

use crate::senders::Senders;
use kymo_engine::decode::{self, Context, Limits, LineError, Point, Reason, Scratch, Sink};
use kymo_engine::model::{Aggregation, Metric, MetricId, Metrics};
use std::sync::LazyLock;

/// Those that the seeds speak of.
const NAMES: [&str; 8] = ["cpu_load", "cpu_user", "mem_used", "mem_bw", "flops_any", "acc_mem_used", "net_bw", "m"];

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let metric = |name: &str| Metric { name: name.into(), frequency: 60, aggregation: Aggregation::None };
    Metrics::new(NAMES.into_iter().map(metric).collect()).expect("the names are short and differ")
});

/// What became of one line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Point { line: u32, metric: MetricId, names: [String; 4], time: Option<i64>, value: u64 },
    Refused { line: u32, reason: Reason, text: String },
}

impl Verdict {
    fn line(&self) -> u32 {
        match self {
            Self::Point { line, .. } | Self::Refused { line, .. } => *line,
        }
    }
}

/// Keeps all verdicts, and checks what holds of each.
struct Collect<'a> {
    limits: &'a Limits,
    verdicts: Vec<Verdict>,
    points: u64,
}

impl Sink for Collect<'_> {
    fn point(&mut self, point: Point<'_>) {
        let Point { line, metric, cluster, host, component, subcomponent, time, value } = point;
        assert!(value.is_finite(), "a value is finite");
        assert!(!cluster.is_empty() && !host.is_empty(), "a point has a cluster and a host");
        assert!(cluster.len().max(host.len()) <= self.limits.name_bytes, "names are as short as the limits ask for");
        assert!(component.len().max(subcomponent.len()) <= self.limits.component_bytes, "so are components");
        assert!(subcomponent.is_empty() || !component.is_empty(), "what is below a component has one");
        assert!(METRICS.iter().any(|(id, _)| id == metric), "the metric is one of the configured");
        let names = [cluster, host, component, subcomponent].map(str::to_owned);
        self.verdicts.push(Verdict::Point { line, metric, names, time, value: value.to_bits() });
        self.points += 1;
    }

    fn refused(&mut self, error: LineError<'_>) {
        self.verdicts.push(Verdict::Refused { line: error.line, reason: error.reason, text: error.to_string() });
    }
}

fn verdicts(body: &[u8], context: &Context<'_>, scratch: &mut Scratch) -> Vec<Verdict> {
    let mut sink = Collect { limits: context.limits, verdicts: Vec::new(), points: 0 };
    let decoded = decode::decode(body, &METRICS, context, scratch, &mut sink);
    assert_eq!(decoded.points, sink.points, "points are counted as they are handed on");
    assert_eq!(decoded.lines(), sink.verdicts.len() as u64, "each line has one verdict");
    let lines = body.split(|&byte| byte == b'\n').filter(|line| says_something(line)).count();
    assert!(sink.verdicts.len() <= lines, "no line has two verdicts");
    assert!(sink.verdicts.is_sorted_by(|a, b| a.line() < b.line()), "verdicts come in the order of the lines");
    sink.verdicts
}

/// The same with senders whose earlier bodies are remembered.
fn remembered(body: &[u8], context: &Context<'_>, senders: &mut Senders) -> Vec<Verdict> {
    let mut sink = Collect { limits: context.limits, verdicts: Vec::new(), points: 0 };
    let decoded = senders.decode(body, &METRICS, context, &mut sink);
    assert_eq!(decoded.points, sink.points, "points are counted as they are handed on, known or not");
    assert!(decoded.repeated <= decoded.points, "a line that is known is good");
    sink.verdicts
}

/// Whether a line is neither blank nor a comment. Spaces alone are blank; other white space is a line that is refused.
fn says_something(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    !matches!(line.iter().find(|&&byte| byte != b' '), None | Some(b'#'))
}

/// A body of line protocol behind three bytes: options, and where the body is cut.
///
/// Each line has one verdict; values are finite and names within the limits; a body that was cut anywhere gives a prefix
/// of what the whole body gives; what was decoded before makes no difference, and neither does it whether lines are read or
/// known from what their senders sent before, also to another default cluster.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn decode(data: &[u8]) {
    let Some((&[options, cut_low, cut_high], body)) = data.split_first_chunk() else { return };
    let short = Limits { line_bytes: 64, name_bytes: 5, component_bytes: 7 };
    let limits = if options & 1 == 0 { Limits::default() } else { short };
    let default_cluster = if options & 2 == 0 { "" } else { "alpha" };
    let context = Context { default_cluster, limits: &limits, complete: true };
    let mut scratch = Scratch::default();
    let whole = verdicts(body, &context, &mut scratch);
    assert_eq!(verdicts(body, &context, &mut scratch), whole, "the scratch remembers nothing");
    let cut = usize::from(u16::from_le_bytes([cut_low, cut_high])) % (body.len() + 1);
    let part = verdicts(&body[..cut], &Context { complete: false, ..context }, &mut Scratch::default());
    assert!(whole.starts_with(&part), "a body cut at {cut} gives a prefix:\n{part:#?}\nof\n{whole:#?}");
    let mut senders = Senders::new(&METRICS);
    let other = Context { default_cluster: "beta", ..context };
    let of_other = verdicts(body, &other, &mut scratch);
    for _ in 0..2 {
        assert_eq!(remembered(body, &context, &mut senders), whole, "known lines say what read ones say");
        assert_eq!(remembered(body, &other, &mut senders), of_other, "and so they do elsewhere");
    }
    let behind = body.get(cut..).unwrap_or_default();
    assert_eq!(
        remembered(behind, &context, &mut senders),
        verdicts(behind, &context, &mut scratch),
        "from any place on"
    );
    let cut_context = Context { complete: false, ..context };
    assert_eq!(remembered(&body[..cut], &cut_context, &mut senders), part, "and up to any place");
}
