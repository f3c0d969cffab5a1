//! The configuration: one JSON file, the predecessor's, with three sections more (`storage`, `auth`, `nats-jetstream`).
//!
//! Owns the meaning of every key, its default and its bounds. Promises that nothing an administrator wrote is
//! dropped in silence: what has no meaning here is a note, what moved is a warning, what is unknown inside a known
//! section is an error; each names file, line, key and what to do. It reads files and never writes any.
//!
//! [`layout`] declares each key once, for both directions; [`reader`] fills a draft from a file, [`writer`] prints
//! it, [`settle`] checks what needs more than one key. [`source`] knows lines, [`flat`] knows the old flat file.

mod addr;
mod archive;
mod duration;
mod error;
mod flat;
mod keys;
mod kind;
mod layout;
mod load;
mod nats;
mod nearest;
mod reader;
mod report;
mod settle;
mod source;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use kymo_engine::model::{Aggregation, Metric, Metrics};

pub use archive::{Archive, S3};
pub use error::{ConfigError, Problem, Problems};
pub use load::load;
pub use nats::{JetStream, Nats, Subscription};
pub(crate) use nearest::nearest;
pub use storage::{Durability, IoKind, Limits, Storage, UnknownIoKind};

/// Where the server listens if nobody said otherwise: only this machine can reach it.
pub const DEFAULT_ADDR: &str = "127.0.0.1:8082";

/// How long data are kept if nobody said otherwise.
pub const DEFAULT_RETENTION: Duration = Duration::from_hours(48);

/// Where the predecessor keeps its checkpoints if its file does not say.
pub const DEFAULT_CHECKPOINTS: &str = "./var/checkpoints";

/// A duration that is not negative, in the notation of the file: `48h`, `1h30m`. The error says what is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let nanos = u64::try_from(duration::parse(text)?).map_err(|_| format!("{text:?} is negative"))?;
    Ok(Duration::from_nanos(nanos))
}

/// All settings of a server, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener.
    pub main: Main,
    /// The metrics that are kept, in the order of the file.
    pub metrics: Metrics,
    /// How long data are kept; `None` is for ever.
    pub retention: Option<Duration>,
    /// The predecessor's `memory-cap` in bytes, whole gigabytes (1e9); `None` is no cap.
    pub memory_cap_bytes: Option<u64>,
    /// Where the predecessor kept its checkpoints, for a new store to import; `None` without a file, or if it says `""`. kymo
    /// writes nothing there.
    pub checkpoints_directory: Option<PathBuf>,
    /// Who may use the API.
    pub auth: Auth,
    /// Where days go that pass the retention.
    pub archive: Archive,
    /// How and where kymo keeps data.
    pub storage: Storage,
    /// Where messages come from.
    pub nats: Nats,
}

/// The listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Main {
    /// `host:port` to bind; the host is never empty.
    pub addr: String,
    /// The raw Ed25519 key that signs tokens; `None`, and none in [`Auth`], switches authentication off.
    pub jwt_public_key: Option<[u8; 32]>,
    /// Certificate and key, PEM; `None` is plain HTTP.
    pub https: Option<Https>,
    /// Who knows the hosts of running jobs, which the retention spares: an address without a slash at its end.
    pub backend_url: Option<String>,
    /// Whom to become once the address is bound.
    pub user: Option<String>,
    /// The group to become; without one that of the user.
    pub group: Option<String>,
}

/// The files of HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// The certificate, then those it is signed by.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Who may use the API, beyond what the predecessor could say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Raw Ed25519 keys besides [`Main::jwt_public_key`].
    pub public_keys: Vec<[u8; 32]>,
    /// Whether a token without scopes may do nothing.
    pub require_scopes: bool,
    /// Whether a token without an expiry is refused.
    pub require_expiry: bool,
}

/// What a configuration file (or its absence) means.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings to run with.
    pub config: Config,
    /// What the administrator should change; one line each.
    pub warnings: Vec<String>,
    /// What the administrator may like to know; one line each.
    pub notes: Vec<String>,
}

/// Used without a configuration file: what most clusters measure, every minute.
const BUILT_IN_METRICS: &[(&str, Aggregation)] = &[
    ("cpu_load", Aggregation::None),
    ("cpu_user", Aggregation::Avg),
    ("mem_used", Aggregation::None),
    ("mem_bw", Aggregation::Sum),
    ("flops_any", Aggregation::Sum),
    ("cpu_power", Aggregation::Sum),
    ("ipc", Aggregation::Avg),
    ("clock", Aggregation::Avg),
    ("net_bw", Aggregation::Sum),
    ("acc_utilization", Aggregation::Avg),
    ("acc_mem_used", Aggregation::Sum),
];

impl Default for Config {
    /// What runs without a configuration file.
    fn default() -> Self {
        let metric = |&(name, aggregation): &(&str, _)| Metric { name: name.into(), frequency: 60, aggregation };
        Self {
            main: Main {
                addr: DEFAULT_ADDR.to_owned(),
                jwt_public_key: None,
                https: None,
                backend_url: None,
                user: None,
                group: None,
            },
            metrics: Metrics::new(BUILT_IN_METRICS.iter().map(metric).collect())
                .expect("the built-in names are short and differ, and a minute is a valid frequency"),
            retention: Some(DEFAULT_RETENTION),
            memory_cap_bytes: None,
            checkpoints_directory: None,
            auth: Auth::default(),
            archive: Archive::default(),
            storage: Storage::default(),
            nats: Nats::default(),
        }
    }
}

impl Config {
    /// The demonstration: loopback, the built-in metrics, and a directory of its own.
    pub fn demo() -> Self {
        let storage = Storage { directory: "./kymo-demo".into(), ..Storage::default() };
        Self { storage, ..Self::default() }
    }

    /// All keys that may have signed a token; without any everyone may do everything.
    pub fn public_keys(&self) -> Vec<[u8; 32]> {
        let mut keys: Vec<_> = self.main.jwt_public_key.into_iter().chain(self.auth.public_keys.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The warning for a server that whoever reaches it may use, if this is one.
    pub fn open_door(&self) -> Option<String> {
        let addr = &self.main.addr;
        (self.public_keys().is_empty() && !addr::is_loopback(addr)).then(|| {
            format!(
                "ANYONE WHO REACHES {addr} MAY READ, WRITE AND DELETE: there is no key for tokens; \
                 set 'main.jwt-public-key' or 'auth.public-keys', or listen on 127.0.0.1"
            )
        })
    }

    /// The effective settings, each key with its sections and its value as JSON.
    pub fn keys(&self) -> BTreeMap<String, String> {
        keys::list(self)
    }

    /// The effective settings as a file that [`load()`] reads back to the same settings; keys in a fixed order.
    pub fn to_json(&self) -> String {
        writer::print(self)
    }
}
