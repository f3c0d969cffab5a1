//! How messaging goes: what is counted, and what is wrong at present.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{ClientError, Event, Server};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::http::Written;

/// The state of the connection and of all that reads from it.
#[derive(Debug)]
pub(crate) struct Status {
    address: String,
    /// Connections made so far, and whether there is one now.
    connection: watch::Sender<(u64, bool)>,
    /// Messages that the client library dropped before they got here.
    overrun: AtomicU64,
    /// What does not work, by what it is about.
    problems: Mutex<BTreeMap<String, String>>,
    sources: Mutex<Vec<Arc<Source>>>,
}

/// Counters of one subject.
#[derive(Debug)]
pub(super) struct Source {
    kind: &'static str,
    subject: String,
    messages: AtomicU64,
    bytes: AtomicU64,
    accepted: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    dropped: AtomicU64,
    failed: AtomicU64,
    waits: AtomicU64,
    redelivered: AtomicU64,
    acknowledged: AtomicU64,
    pending: AtomicU64,
}

/// A family of `/metrics` with a sample a subject: its name, kind and help, and where the value is.
type Family = (&'static str, &'static str, &'static str, fn(&Source) -> &AtomicU64);

const OF_ALL: [Family; 6] = [
    ("kymo_nats_messages_total", "counter", "Messages that arrived.", |source| &source.messages),
    ("kymo_nats_bytes_total", "counter", "Bytes of messages that the store took.", |source| &source.bytes),
    ("kymo_nats_lines_accepted_total", "counter", "Lines taken over from messages.", |source| &source.accepted),
    ("kymo_nats_messages_dropped_total", "counter", "Messages of core NATS for which there was no room.", |source| {
        &source.dropped
    }),
    ("kymo_nats_messages_failed_total", "counter", "Messages whose writing panicked.", |source| &source.failed),
    ("kymo_nats_waits_total", "counter", "Pauses because the store took no writes.", |source| &source.waits),
];

const OF_STREAMS: [Family; 3] = [
    ("kymo_nats_redelivered_total", "counter", "Messages that came again.", |source| &source.redelivered),
    ("kymo_nats_acknowledged_total", "counter", "Messages that are durable and were acknowledged.", |source| {
        &source.acknowledged
    }),
    ("kymo_nats_pending_messages", "gauge", "Messages in the stream that were not delivered yet.", |source| {
        &source.pending
    }),
];

impl Status {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            connection: watch::Sender::new((0, false)),
            overrun: AtomicU64::new(0),
            problems: Mutex::default(),
            sources: Mutex::default(),
        }
    }

    /// Counters for one more subject.
    pub(super) fn source(&self, kind: &'static str, subject: &str) -> Arc<Source> {
        let source = Arc::new(Source {
            kind,
            subject: subject.to_owned(),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: Mutex::default(),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            pending: AtomicU64::new(0),
        });
        let mut sources = lock(&self.sources);
        // The predecessor's example subscribes twice to one subject: one line of each family for both.
        if let Some(known) = sources.iter().find(|known| known.kind == kind && known.subject == subject) {
            return Arc::clone(known);
        }
        sources.push(Arc::clone(&source));
        source
    }

    /// What the client says.
    pub(super) fn event(&self, event: &Event) {
        match event {
            Event::Connected => {
                info!(server = self.address, "connected to NATS");
                self.solved("nats");
                self.connection.send_modify(|(count, is_up)| (*count, *is_up) = (*count + 1, true));
            }
            Event::Disconnected | Event::Closed => {
                warn!(server = self.address, "no connection to NATS any more, trying again");
                self.connection.send_modify(|(_, is_up)| *is_up = false);
            }
            Event::SlowConsumer(_) => {
                self.overrun.fetch_add(1, Relaxed);
            }
            Event::ServerError(error) => self.complaint(&error.to_string()),
            // That an attempt to connect has failed; why is told before the next one.
            Event::ClientError(ClientError::Other(why)) => debug!(server = self.address, why, "NATS"),
            Event::ClientError(error) => self.complaint(&error.to_string()),
            Event::LameDuckMode | Event::Draining => info!(server = self.address, %event, "NATS"),
        }
    }

    /// Why the last attempts to connect failed, as far as they did.
    pub(super) fn failures(&self, servers: &[Server]) {
        let failure = |server: &Server| Some(format!("{server}: {}", server.last_error.as_ref()?));
        let failures: Vec<String> = servers.iter().filter_map(failure).collect();
        if !failures.is_empty() {
            self.complaint(&failures.join("; "));
        }
    }

    fn complaint(&self, why: &str) {
        if self.problem("nats", why) {
            warn!(server = self.address, why, "NATS");
        }
    }

    /// How many connections were made, and whether there is one now.
    pub(super) fn connection(&self) -> watch::Receiver<(u64, bool)> {
        self.connection.subscribe()
    }

    /// Keeps what does not work; true if that is news.
    pub(super) fn problem(&self, about: &str, why: &str) -> bool {
        lock(&self.problems).insert(about.to_owned(), why.to_owned()).is_none_or(|known| known != why)
    }

    /// It works.
    pub(super) fn solved(&self, about: &str) {
        lock(&self.problems).remove(about);
    }

    /// What an operator should know; a line each, none if all is well.
    pub(crate) fn notes(&self) -> Vec<String> {
        let is_up = self.connection.borrow().1;
        let mut notes = Vec::new();
        if !is_up {
            notes.push(format!("nats: not connected to {}, trying again", self.address));
        }
        let problems = lock(&self.problems);
        notes.extend(problems.iter().map(|(about, why)| match about.as_str() {
            "nats" => format!("nats: {why}"),
            consumer => format!("nats: {consumer}: {why}"),
        }));
        notes
    }

    /// The part of `/metrics`.
    pub(crate) fn metrics_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes all that is written to it");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let (connects, is_up) = *self.connection.borrow();
        let overrun = self.overrun.load(Relaxed);
        for (name, kind, help, value) in [
            ("kymo_nats_connected", "gauge", "1 while there is a connection to NATS.", u64::from(is_up)),
            ("kymo_nats_connects_total", "counter", "Connections to NATS that were made.", connects),
            ("kymo_nats_overruns_total", "counter", "Messages that the client dropped unseen.", overrun),
        ] {
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")?;
        }
        let sources = lock(&self.sources);
        let of_streams: Vec<_> = sources.iter().filter(|source| source.kind == "jetstream").collect();
        for (families, sources) in [(&OF_ALL[..], sources.iter().collect::<Vec<_>>()), (&OF_STREAMS[..], of_streams)] {
            for (name, kind, help, value) in families.iter().filter(|_| !sources.is_empty()) {
                writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
                for source in &sources {
                    writeln!(text, "{name}{{{}}} {}", source.labels(), value(source).load(Relaxed))?;
                }
            }
        }
        let name = "kymo_nats_lines_refused_total";
        writeln!(text, "# HELP {name} Lines of messages that were refused.\n# TYPE {name} counter")?;
        for source in sources.iter() {
            for (reason, count) in lock(&source.refused).iter() {
                writeln!(text, "{name}{{{},reason=\"{reason}\"}} {count}", source.labels())?;
            }
        }
        Ok(())
    }
}

impl Source {
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// A message arrived.
    pub(super) fn received(&self) {
        self.messages.fetch_add(1, Relaxed);
    }

    /// There was no room for a message.
    pub(super) fn dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Writing a message panicked.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// The store has decided about a message of `len` bytes.
    pub(super) fn taken(&self, len: usize, written: &Written) {
        self.bytes.fetch_add(len as u64, Relaxed);
        self.accepted.fetch_add(written.accepted, Relaxed);
        if written.refused > 0 {
            let mut refused = lock(&self.refused);
            for (reason, count) in &written.reasons {
                *refused.entry(reason).or_default() += count;
            }
        }
    }

    /// The store takes no writes.
    pub(super) fn waited(&self) {
        self.waits.fetch_add(1, Relaxed);
    }

    /// What a stream says of a message.
    pub(super) fn delivered(&self, again: bool, pending: u64) {
        self.redelivered.fetch_add(u64::from(again), Relaxed);
        self.pending.store(pending, Relaxed);
    }

    /// A message is durable and its stream was told.
    pub(super) fn acknowledged(&self) {
        self.acknowledged.fetch_add(1, Relaxed);
    }

    fn labels(&self) -> String {
        let subject = self.subject.replace('\\', "\\\\").replace('"', "\\\"");
        format!("kind=\"{}\",subject=\"{subject}\"", self.kind)
    }
}

/// Counters stay good when a thread panicked while it counted.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
