//! The settings of messaging: the predecessor's section `nats` and its `metric-store.nats-subscriptions`, with a few
//! keys more, and the section `nats-jetstream`.
//!
//! What the predecessor does not have stands where it does not read: in `nats` it only warns of unknown keys, and
//! unknown sections it ignores. So one file serves both.

use std::path::PathBuf;

/// Where messages come from, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nats {
    /// Servers, separated by commas, as `nats://host:4222`; `None` is no messaging.
    pub address: Option<String>,
    /// Used with a password only.
    pub username: Option<String>,
    /// Used with a user name only.
    pub password: Option<String>,
    /// A credentials file (`.creds`); read again with each attempt to connect.
    pub credentials_file: Option<PathBuf>,
    /// A file with the seed of an nkey; likewise.
    pub nkey_file: Option<PathBuf>,
    /// Certificates of authorities in PEM, instead of those of the system.
    pub tls_ca_file: Option<PathBuf>,
    /// The certificate in PEM that this client shows.
    pub tls_cert_file: Option<PathBuf>,
    /// Its key in PEM.
    pub tls_key_file: Option<PathBuf>,
    /// The group among whose members each message of a subscription goes to one; `None`: all messages come here.
    pub queue_group: Option<String>,
    /// The subjects to subscribe to, at most once.
    pub subscriptions: Vec<Subscription>,
    /// The stream to consume, at least once.
    pub jetstream: JetStream,
}

/// A subject of core NATS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The subject, which may have wildcards.
    pub subject: String,
    /// The cluster of lines that name none.
    pub cluster: Option<String>,
}

/// A stream and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStream {
    /// The stream; `None` is no stream.
    pub stream: Option<String>,
    /// The subjects to consume; [`JetStream::PARTITION`] in it stands for the number of the partition.
    pub subject: Option<String>,
    /// The partitions that this server consumes; empty where the subject has none.
    pub partitions: Vec<u32>,
    /// The durable consumer, with the number of its partition behind it.
    pub durable: String,
    /// The cluster of lines that name none.
    pub cluster: Option<String>,
    /// Whether a stream or consumer that is missing is created; otherwise it is waited for.
    pub create: bool,
    /// Messages of a partition that may be delivered and not yet acknowledged.
    pub max_ack_pending: u32,
}

impl Default for JetStream {
    fn default() -> Self {
        Self {
            stream: None,
            subject: None,
            partitions: Vec::new(),
            durable: "kymo".to_owned(),
            cluster: None,
            create: true,
            max_ack_pending: 1024,
        }
    }
}

impl JetStream {
    /// What stands for the number of a partition in [`JetStream::subject`].
    pub const PARTITION: &'static str = "{partition}";
}
