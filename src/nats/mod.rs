//! Messages as a way in, beside HTTP.
//!
//! Owns one connection to NATS, a task a subscription of core NATS and a task a partition of a JetStream stream.
//! Promises that the connection is tried for ever, also at the start, and that a message of a stream is acknowledged
//! only after its samples are durable. Core NATS is at most once by its nature: what arrives while kymo or the broker
//! is away is lost, and what is dropped here is counted. Bodies are given to the store as they are, through the same
//! trait as those of HTTP; nothing is interpreted here.

mod broker;
mod core;
mod identity;
mod intake;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ServerAddr};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, warn};

use crate::config;
use crate::http::Engine;
use identity::Identity;
use intake::Intake;
pub(crate) use status::Status;

/// Pause before what needs an administrator is tried again.
const BACK_OFF: Duration = Duration::from_secs(2);
/// How long a clean stop waits for what was taken, and for its acknowledgements to leave.
const GRACE: Duration = Duration::from_secs(5);

/// What messaging needs of the rest of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of messages of one subscription that may wait for the store.
    pub(crate) held_bytes: usize,
    /// How long a stream that is made here keeps messages: older samples would be refused.
    pub(crate) max_age: Duration,
}

/// The tasks, until they are stopped.
#[derive(Debug)]
pub(crate) struct Messaging {
    status: Arc<Status>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What each task gets.
#[derive(Clone)]
struct Shared {
    engine: Arc<dyn Engine>,
    status: Arc<Status>,
    stop: watch::Receiver<bool>,
    bounds: Bounds,
}

impl Messaging {
    /// Begins to connect, in the background; `None` where the configuration names no server or nothing to read there.
    pub(crate) fn start(config: &config::Nats, engine: Arc<dyn Engine>, bounds: Bounds) -> Option<Self> {
        let address = config.address.clone()?;
        if config.subscriptions.is_empty() && config.jetstream.stream.is_none() {
            return None;
        }
        let status = Arc::new(Status::new(address));
        let (stop, stopped) = watch::channel(false);
        let shared = Shared { engine, status: Arc::clone(&status), stop: stopped, bounds };
        let mut tasks = JoinSet::new();
        tasks.spawn(run(config.clone(), shared));
        Some(Self { status, stop, tasks })
    }

    /// How it goes, for `/metrics` and `/ready`.
    pub(crate) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Takes no more messages, gives the store what was taken, acknowledges what is durable by then.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            warn!("messages were still waiting for the store at the end of the grace period");
        }
    }
}

/// Connects and runs all that reads, until it is stopped.
async fn run(config: config::Nats, mut shared: Shared) {
    let client = tokio::select! {
        client = connect(&config, &shared.status) => client,
        _ = shared.stop.wait_for(|stop| *stop) => return,
    };
    let mut readers = JoinSet::new();
    for subscription in &config.subscriptions {
        let source = shared.status.source("core", &subscription.subject);
        let intake = Intake::new(&shared, source, subscription.cluster.clone());
        let (subject, group) = (subscription.subject.clone(), config.queue_group.clone());
        readers.spawn(core::subscribe(client.clone(), subject, group, intake, shared.bounds.held_bytes));
    }
    for (durable, filter) in broker::consumers(&config.jetstream) {
        let source = shared.status.source("jetstream", &filter);
        let intake = Intake::new(&shared, source, config.jetstream.cluster.clone());
        let partition = broker::Partition::new(&config.jetstream, durable, filter, shared.bounds.max_age);
        readers.spawn(broker::consume(client.clone(), partition, intake));
    }
    while let Some(ended) = readers.join_next().await {
        if let Err(error) = ended {
            error!(%error, "a reader of messages has ended, its subject is not read any more");
        }
    }
    // Acknowledgements are on their way only when they have left the buffer.
    if let Err(error) = client.flush().await {
        warn!(%error, "the last acknowledgements may not have been sent: those messages come again");
    }
}

/// Makes the client, which then connects by itself and for ever. Tries again where a file cannot be read.
async fn connect(config: &config::Nats, status: &Arc<Status>) -> Client {
    loop {
        match try_connect(config, status).await {
            Ok(client) => return client,
            Err(why) => {
                if status.problem("nats", &why) {
                    warn!(why, "cannot connect to NATS, trying again");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn try_connect(config: &config::Nats, status: &Arc<Status>) -> Result<Client, String> {
    let (told, tried) = (Arc::clone(status), Arc::clone(status));
    let options = Identity::of(config).options().await?;
    let options = options.name("kymo").retry_on_initial_connect().max_reconnects(None).event_callback(move |event| {
        let status = Arc::clone(&told);
        async move { status.event(&event) }
    });
    // The one place where the library tells why the last attempts failed; which server is next stays its own choice.
    let mut options = options.reconnect_to_server_callback(move |servers, _| {
        tried.failures(&servers);
        std::future::ready(None)
    });
    if let Some(path) = &config.tls_ca_file {
        options = options.add_root_certificates(readable(path).await?);
    }
    if let (Some(certificate), Some(key)) = (&config.tls_cert_file, &config.tls_key_file) {
        options = options.add_client_certificate(readable(certificate).await?, readable(key).await?);
    }
    let address = config.address.as_deref().unwrap_or_default();
    let servers: Result<Vec<ServerAddr>, _> = address.split(',').map(|server| server.trim().parse()).collect();
    let servers = servers.map_err(|error| error.to_string())?;
    options.connect(servers).await.map_err(|error| error.to_string())
}

/// The path, if the file can be read: the client would only say that something does not work.
async fn readable(path: &std::path::Path) -> Result<PathBuf, String> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::File::open(owned)).await;
    let unreadable = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
    read.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
    Ok(path.to_owned())
}
