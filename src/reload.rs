//! New settings for a running server: read, checked as a whole, and only then put in force.
//!
//! Owns which keys wait for a restart. Promises that a configuration with a mistake, or a certificate that cannot be
//! used, changes nothing at all; and that whoever asked is told key by key what has changed and what waits. Values are
//! never told: some are secrets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kymo_engine::store::Store;
use tokio::signal::unix::Signal;
use tracing::{info, warn};

use crate::cli::args::Serve;
use crate::config::Config;
use crate::http::Server;
use crate::serve::{self, http_settings, store_options};
use crate::systemd;

/// What a running server takes; a section ends with a dot.
const LIVE: [&str; 9] = [
    "auth.",
    "main.https-cert-file",
    "main.https-key-file",
    "main.jwt-public-key",
    "metric-store.memory-cap",
    "metric-store.retention-in-memory",
    "metrics.",
    "storage.limits.",
    "storage.skew",
];

/// Reads the configuration of one server again.
#[derive(Debug)]
pub(crate) struct Reloader {
    options: Serve,
    server: Server,
    store: Arc<Store>,
    /// What is in force, key by key. Locked while a reload runs: one after the other.
    running: Mutex<BTreeMap<String, String>>,
}

impl Reloader {
    /// For a server that runs with `config`, which came from `options`.
    pub(crate) fn new(options: Serve, config: &Config, server: Server, store: Arc<Store>) -> Self {
        Self { options, server, store, running: Mutex::new(config.keys()) }
    }

    /// Reads, checks, puts in force. Gives a line for what changed, one for what waits, and the warnings of the file;
    /// the error says why nothing changed.
    pub(crate) fn reload(&self) -> Result<String, String> {
        systemd::reloading();
        let outcome = self.apply();
        systemd::ready(&self.store);
        match &outcome {
            Ok(said) => said.lines().for_each(|line| info!("reload: {line}")),
            Err(why) => warn!(why, "the configuration was not reloaded, all stays as it is"),
        }
        outcome
    }

    fn refuse(&self, error: &dyn std::error::Error) -> String {
        self.server.reload_failed();
        error.to_string()
    }

    fn apply(&self) -> Result<String, String> {
        let loaded = serve::load(&self.options).map_err(|error| self.refuse(&error))?;
        let config = loaded.config;
        // A reload that panicked has changed nothing here: the map is changed last and at once.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let adjustment = self.store.check_adjustment(&store_options(&config)).map_err(|error| self.refuse(&error))?;
        let kept_metrics: Vec<String> = adjustment.kept_metrics.iter().map(|name| format!("metrics.{name}.")).collect();
        // The last step that can fail, and it changes all or nothing.
        let kept_limits = self.server.reload(http_settings(&config)).map_err(|error| error.to_string())?;
        self.store.adjust(adjustment);

        let waits = |key: &str| {
            let is_kept_limit = key.strip_prefix("storage.limits.").is_some_and(|name| kept_limits.contains(&name));
            is_kept_limit
                || kept_metrics.iter().any(|metric| key.starts_with(&**metric))
                || !LIVE.iter().any(|live| key == *live || live.ends_with('.') && key.starts_with(live))
        };
        let wanted = config.keys();
        let differ = differences(&running, &wanted);
        let (waiting, changed): (Vec<_>, Vec<_>) = differ.into_iter().partition(|key| waits(key));
        for key in &changed {
            match wanted.get(key) {
                Some(value) => running.insert(key.clone(), value.clone()),
                None => running.remove(key),
            };
        }
        let list = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
        let mut said = vec![format!("changed: {}", list(&changed))];
        if !waiting.is_empty() {
            said.push(format!("waits for a restart: {}", list(&waiting)));
        }
        said.extend(loaded.warnings.iter().map(|warning| format!("warning: {warning}")));
        Ok(said.join("\n") + "\n")
    }
}

/// Reloads whenever the signal comes.
pub(crate) async fn on_signal(mut hangup: Signal, reloader: Arc<Reloader>) {
    while hangup.recv().await.is_some() {
        let reloader = Arc::clone(&reloader);
        // Files are read. What came of it stands in the log.
        drop(tokio::task::spawn_blocking(move || drop(reloader.reload())).await);
    }
}

/// The keys that one of the two has alone, or whose values differ.
fn differences(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}
