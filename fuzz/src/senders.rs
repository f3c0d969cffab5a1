//! A memory of what senders sent, as the store has one, that answers to a plain sink.

use kymo_engine::decode::{
    Context, Decoded, LineError, Point, Recall, Recaller, Repeated, Scratch, Sink, decode_repeats,
};
use kymo_engine::model::Metrics;
use kymo_engine::names::{Key, KeyName, Layout, Layouts, Learned, MetricName, Spelling, Template, Templates};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Senders, by the hosts that they send for.
pub(crate) struct Senders {
    layouts: Layouts,
    templates: Templates,
    of_host: BTreeMap<(Arc<str>, Arc<str>), Sender>,
}

struct Sender {
    layout: Arc<Layout>,
    template: Option<Arc<Template>>,
    learned: Learned,
    last: Option<u32>,
}

/// A body that is decoded.
struct Lines<'a, S> {
    senders: &'a mut Senders,
    sink: &'a mut S,
    context: Context<'a>,
    current: (Arc<str>, Arc<str>),
}

impl Senders {
    /// Nothing was sent yet.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        // So few bytes that templates go, too.
        Self { layouts: Layouts::new(metrics), templates: Templates::bounded(10_000), of_host: BTreeMap::new() }
    }

    /// Decodes a body, gives it to a sink and remembers it.
    pub(crate) fn decode(
        &mut self,
        body: &[u8],
        metrics: &Metrics,
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) -> Decoded {
        let mut lines = Lines { senders: self, sink, context: *context, current: ("".into(), "".into()) };
        let decoded = decode_repeats(body, metrics, context, &mut Scratch::default(), &mut lines);
        let Self { templates, of_host, .. } = self;
        for ((cluster, _), Sender { layout, template, learned, last }) in of_host {
            *last = None;
            if learned.is_empty() {
                *template = template.take().or_else(|| templates.newest(layout, cluster));
            } else {
                *template = Some(templates.learn(template.as_ref(), layout, cluster, learned));
                learned.clear();
            }
        }
        decoded
    }
}

impl<S: Sink> Recaller for Lines<'_, S> {
    fn point(&mut self, point: Point<'_>, spelling: Option<Spelling<'_>>) -> Option<Recall> {
        let Senders { layouts, of_host, .. } = &mut *self.senders;
        let Point { metric, cluster, host, component, subcomponent, .. } = point;
        self.sink.point(point);
        self.current = (cluster.into(), host.into());
        let sender = of_host.entry(self.current.clone()).or_insert_with(|| Sender {
            layout: layouts.empty(),
            template: None,
            learned: Learned::default(),
            last: None,
        });
        let name = KeyName { metric: MetricName(metric.0), component, subcomponent };
        sender.layout = layouts.extend(&sender.layout, &[name]);
        let ordinal = sender.layout.find(name).expect("the layout was extended by it");
        let before = sender.last.replace(ordinal);
        let spelling = spelling?;
        let known = sender.template.as_ref().and_then(|template| template.find(ordinal, &spelling));
        if known.is_none() {
            sender.learned.push(&spelling, metric, ordinal, before);
        }
        let template = Arc::clone(sender.template.as_ref()?);
        Recall::new(template, Arc::clone(&self.current.1), known.map_or(0, |at| at + 1), &self.context)
    }

    fn repeated(&mut self, point: Repeated) {
        let sender = self.senders.of_host.get_mut(&self.current).expect("a known line follows one of its host");
        sender.last = Some(point.ordinal);
        let template = sender.template.as_ref().expect("a line is known by a template");
        let Key { metric, component, subcomponent } = &template.layout().keys()[point.ordinal as usize];
        assert_eq!(metric.0, point.metric.0, "a template names the metrics of its layout");
        let ((cluster, host), Repeated { line, metric, time, value, .. }) = (&self.current, point);
        self.sink.point(Point { line, metric, cluster, host, component, subcomponent, time, value });
    }

    fn refused(&mut self, error: LineError<'_>) {
        self.sink.refused(error);
    }
}
