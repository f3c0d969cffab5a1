//! Every key of the file, once: [`describe`] walks them, and what walks along reads or prints.

use std::{path::PathBuf, time::Duration};

use super::{
    Archive, Auth, JetStream, Limits, Nats, Storage, Subscription,
    kind::{
        Acknowledge, Count, Directory, Flag, Gigabytes, HttpUrl, Io, Kind, Layout, Name, Numbers, OneOf,
        OptionalDirectory, OptionalFile, OptionalText, Period, PublicKey, PublicKeys, Retention, Secret, Servers,
        Subject, Text, TextOrNull,
    },
};

/// The settings while they are read: each key by itself, nothing checked across keys.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) addr: String,
    pub(super) jwt_public_key: Option<[u8; 32]>,
    pub(super) https_cert_file: Option<PathBuf>,
    pub(super) https_key_file: Option<PathBuf>,
    pub(super) auth: Auth,
    pub(super) backend_url: Option<String>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) metrics: Vec<(String, DraftMetric)>,
    pub(super) retention: Option<Duration>,
    pub(super) memory_cap_bytes: Option<u64>,
    pub(super) checkpoints_directory: Option<PathBuf>,
    pub(super) cleanup_mode: &'static str,
    pub(super) archive: Archive,
    pub(super) storage: Storage,
    pub(super) nats: Nats,
}

/// One metric of a draft.
#[derive(Debug, Default)]
pub(super) struct DraftMetric {
    pub(super) frequency: u32,
    pub(super) aggregation: Option<String>,
}

/// Values of `metric-store.cleanup.mode`.
pub(super) const CLEANUP_DELETE: &str = "delete";
pub(super) const CLEANUP_ARCHIVE: &str = "archive";

/// What to tell about a key that kymo takes no value from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Foreign {
    /// It means nothing here. The text says why.
    Meaningless(&'static str),
    /// An old version of the predecessor had it. The text says what to do.
    Old(&'static str),
}

/// What walks along the keys. A key is given in the section that is open.
pub(super) trait Keys {
    /// A key that may be absent: then `field` stays.
    fn key<T>(&mut self, name: &str, kind: &impl Kind<T>, field: &mut T);

    /// A key that must be there if its section is.
    fn required<T>(&mut self, name: &str, kind: &impl Kind<T>, field: &mut T);

    /// A key without a value for kymo.
    fn foreign(&mut self, name: &str, meaning: Foreign);

    /// A section inside the open one.
    fn section(&mut self, name: &str, keys: impl FnOnce(&mut Self));

    /// A section in which the predecessor passes over the keys that it does not know, as kymo does.
    fn lenient_section(&mut self, name: &str, keys: impl FnOnce(&mut Self)) {
        self.section(name, keys);
    }

    /// All members of the open section, each a section of its own.
    fn each<T: Default>(&mut self, items: &mut Vec<(String, T)>, keys: impl Fn(&mut Self, &mut T));

    /// An array of sections, which may be absent.
    fn list<T: Default>(&mut self, name: &str, items: &mut Vec<T>, keys: impl Fn(&mut Self, &mut T));
}

/// All keys.
pub(super) fn describe(keys: &mut impl Keys, draft: &mut Draft) {
    use Foreign::Meaningless;
    keys.section("main", |keys| {
        keys.key("addr", &Text, &mut draft.addr);
        keys.key("jwt-public-key", &PublicKey, &mut draft.jwt_public_key);
        keys.key("https-cert-file", &OptionalFile, &mut draft.https_cert_file);
        keys.key("https-key-file", &OptionalFile, &mut draft.https_key_file);
        keys.key("user", &Name, &mut draft.user);
        keys.key("group", &Name, &mut draft.group);
        keys.key("backend-url", &HttpUrl, &mut draft.backend_url);
        keys.foreign("debug", Meaningless("there is no dump file and no Go runtime to look into"));
    });
    keys.section("metrics", |keys| {
        keys.each(&mut draft.metrics, |keys, metric: &mut DraftMetric| {
            keys.required("frequency", &Count(1..=kymo_engine::model::Metric::MAX_FREQUENCY), &mut metric.frequency);
            keys.required("aggregation", &TextOrNull, &mut metric.aggregation);
        });
    });
    keys.section("metric-store", |keys| metric_store(keys, draft));
    keys.lenient_section("nats", |keys| nats(keys, &mut draft.nats));
    keys.section("nats-jetstream", |keys| jetstream(keys, &mut draft.nats.jetstream));
    keys.section("auth", |keys| {
        keys.key("public-keys", &PublicKeys, &mut draft.auth.public_keys);
        keys.key("require-scopes", &Flag, &mut draft.auth.require_scopes);
        keys.key("require-expiry", &Flag, &mut draft.auth.require_expiry);
    });
    keys.section("storage", |keys| {
        storage(keys, &mut draft.storage);
        keys.section("archive", |keys| {
            keys.key("layout", &Layout, &mut draft.archive.layout);
            let s3 = &mut draft.archive.s3;
            keys.key("endpoint", &HttpUrl, &mut s3.endpoint);
            keys.key("region", &OptionalText, &mut s3.region);
            keys.key("profile", &OptionalText, &mut s3.profile);
        });
    });
}

fn metric_store(keys: &mut impl Keys, draft: &mut Draft) {
    use Foreign::{Meaningless, Old};
    keys.required("retention-in-memory", &Retention, &mut draft.retention);
    keys.key("memory-cap", &Gigabytes, &mut draft.memory_cap_bytes);
    keys.foreign("num-workers", Meaningless("kymo sizes its threads by itself"));
    keys.foreign("checkpoint-interval", Meaningless("there are no checkpoints to time"));
    keys.section("checkpoints", |keys| {
        keys.key("directory", &OptionalDirectory, &mut draft.checkpoints_directory);
        keys.foreign("file-format", Meaningless("kymo has one format of its own"));
        keys.foreign("max-wal-size", Meaningless("the log bounds itself"));
        keys.foreign("restore", Meaningless("a restart keeps all data"));
        keys.foreign("interval", Old("remove it: there are no checkpoints to time"));
    });
    keys.section("cleanup", |keys| {
        keys.key("mode", &OneOf(&[CLEANUP_DELETE, CLEANUP_ARCHIVE]), &mut draft.cleanup_mode);
        keys.key("directory", &OptionalText, &mut draft.archive.location);
        keys.foreign("interval", Old("remove it: retention runs by itself, see 'metric-store.retention-in-memory'"));
    });
    keys.foreign("debug", Meaningless("there is no dump file and no Go runtime to look into"));
    keys.list("nats-subscriptions", &mut draft.nats.subscriptions, |keys, subscription: &mut Subscription| {
        keys.required("subscribe-to", &Subject, &mut subscription.subject);
        keys.key("cluster-tag", &Name, &mut subscription.cluster);
    });
}

fn nats(keys: &mut impl Keys, nats: &mut Nats) {
    keys.key("address", &Servers, &mut nats.address);
    keys.key("username", &Secret, &mut nats.username);
    keys.key("password", &Secret, &mut nats.password);
    keys.key("creds-file-path", &OptionalFile, &mut nats.credentials_file);
    keys.key("nkey-file", &OptionalFile, &mut nats.nkey_file);
    keys.key("tls-ca-file", &OptionalFile, &mut nats.tls_ca_file);
    keys.key("tls-cert-file", &OptionalFile, &mut nats.tls_cert_file);
    keys.key("tls-key-file", &OptionalFile, &mut nats.tls_key_file);
    keys.key("queue-group", &Name, &mut nats.queue_group);
}

fn jetstream(keys: &mut impl Keys, jetstream: &mut JetStream) {
    keys.key("stream", &Name, &mut jetstream.stream);
    keys.key("subject", &Name, &mut jetstream.subject);
    keys.key("partitions", &Numbers(0..=65_535), &mut jetstream.partitions);
    keys.key("durable", &Text, &mut jetstream.durable);
    keys.key("cluster-tag", &Name, &mut jetstream.cluster);
    keys.key("create", &Flag, &mut jetstream.create);
    keys.key("max-ack-pending", &Count(2..=1_000_000), &mut jetstream.max_ack_pending);
}

fn storage(keys: &mut impl Keys, storage: &mut Storage) {
    let any = || Period(Duration::from_nanos(1)..=Period::LONGEST);
    let commit = Period(Duration::from_millis(1)..=Duration::from_mins(1));
    keys.key("directory", &Directory, &mut storage.directory);
    keys.key("durability", &Acknowledge(commit), &mut storage.durability);
    keys.key("log-bound", &Count(1 << 16..=1 << 40), &mut storage.log_bound);
    keys.key("late-window", &any(), &mut storage.late_window);
    keys.key("skew", &Period(Duration::ZERO..=Period::LONGEST), &mut storage.skew);
    keys.key("io", &Io, &mut storage.io);
    keys.key("backend-token", &Secret, &mut storage.backend_token);
    keys.key("backend-ca-file", &OptionalFile, &mut storage.backend_ca_file);
    keys.section("limits", |keys| limits(keys, &mut storage.limits));
}

fn limits(keys: &mut impl Keys, limits: &mut Limits) {
    // What is counted or addressed with 32 bits elsewhere stays below them.
    let count = Count(1..=u32::MAX as usize);
    let timeout = Period(Duration::from_millis(1)..=Duration::from_hours(24));
    keys.key("body", &count, &mut limits.body);
    keys.key("decoded-body", &count, &mut limits.decoded_body);
    keys.key("line", &count, &mut limits.line);
    keys.key("lines", &count, &mut limits.lines);
    keys.key("hosts", &count, &mut limits.hosts);
    keys.key("series-per-host", &count, &mut limits.series_per_host);
    keys.key("series", &count, &mut limits.series);
    keys.key("connections", &count, &mut limits.connections);
    keys.key("connections-per-peer", &count, &mut limits.connections_per_peer);
    keys.key("requests-per-second", &Count(0..=1_000_000_000), &mut limits.requests_per_second);
    keys.key("query-points", &count, &mut limits.query_points);
    keys.key("request-points", &Count(1..=1 << 40), &mut limits.request_points);
    keys.key("queries", &Count(1..=1024), &mut limits.queries);
    keys.key("query-timeout", &timeout, &mut limits.query_timeout);
    keys.key("in-flight", &Count(1..=1 << 40), &mut limits.in_flight);
    keys.key("head-timeout", &timeout, &mut limits.head_timeout);
    keys.key("body-timeout", &timeout, &mut limits.body_timeout);
    keys.key("idle-timeout", &timeout, &mut limits.idle_timeout);
}
