//! What the commands do: the server's life from the configuration to a clean stop, and the small commands beside it.

use crate::archive_place;
use crate::ask::{self, AskError};
use crate::bench::BenchError;
use crate::cli::args::{Diagnose, Reload, Serve};
use crate::config::{self, Config, ConfigError, Durability, IoKind, Loaded};
use crate::demo;
use crate::http::{self, Access, Clock, Server, Settings, State, TlsError, TlsFiles};
use crate::logging;
use crate::nats::{self, Messaging};
use crate::nodes::NodeProvider;
pub use crate::privileges::PrivilegeError;
use crate::privileges::{self, Identity};
use crate::reload::{self, Reloader};
use crate::steps::{Retention, Steps};
use crate::store_engine::StoreEngine;
use crate::systemd;
use crate::takeover;
use crate::tools::{self, Due, Exported, ToolError};
use kymo_engine::disk::{self, BLOCK, Disk};
use kymo_engine::env::Env;
use kymo_engine::model::Lsn;
use kymo_engine::paths::Paths;
use kymo_engine::store::{self, JobError, OpenError, OpenReport, Options, Store};
use kymo_engine::wal::{SEGMENT_LEN, SEGMENT_LEN_MIN, Tail};
use socket2::SockRef;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// Why a command failed; each kind has its exit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The configuration asks for what cannot be had.
    #[error("{what}")]
    Setting {
        /// Which key, and what is wrong.
        what: String,
    },
    /// The store does not open.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The store does not close as it should; what was acknowledged is on the device.
    #[error("{0}")]
    Close(#[from] JobError),
    /// The load tool has no figure.
    #[error("{0}")]
    Bench(#[from] BenchError),
    /// The process cannot become the user it should.
    #[error("{0}")]
    Privilege(#[from] PrivilegeError),
    /// The checkpoints of the predecessor were not taken over.
    #[error("no import: {what}")]
    Import {
        /// Why, and what to do.
        what: String,
    },
    /// A tool failed, or found damage.
    #[error("{0}")]
    Tool(#[from] ToolError),
    /// A server does not tell.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}

impl ServeError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The exit code: 2 for the configuration, 3 for a directory in use, 4 for damage, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Setting { .. }
            | Self::Privilege(PrivilegeError::Unknown { .. })
            | Self::Tls(_)
            | Self::Ask(AskError::Configuration { .. }) => 2,
            Self::Tool(error) => error.exit_code(),
            Self::Open(error) => tools::open_exit_code(error),
            _ => 1,
        }
    }
}

/// Writes to stdout, where a reader that has gone is no error.
#[expect(clippy::let_underscore_must_use, reason = "a closed pipe ends the reader's interest, not the command")]
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// `kymo check-config`.
pub fn check_config(file: &Path) -> Result<(), ServeError> {
    let loaded = config::load(Some(file))?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    for note in &loaded.notes {
        eprintln!("note: {note}");
    }
    let settings = loaded.config.to_json();
    print(&format!("{}\n", settings.trim_end()));
    Ok(())
}

/// `kymo diagnose`.
pub fn diagnose(options: &Diagnose) -> Result<(), ServeError> {
    print_answer(ask::diagnose(options))
}

/// `kymo reload`.
pub fn reload(options: &Reload) -> Result<(), ServeError> {
    print_answer(ask::reload(options))
}

/// Prints what a server answers.
fn print_answer(answer: impl Future<Output = Result<String, AskError>>) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServeError::io("start the runtime"))?;
    print(&runtime.block_on(answer)?);
    Ok(())
}

/// `kymo salvage`.
pub fn salvage(directory: PathBuf, confirmed: bool) -> Result<(), ServeError> {
    privileges::spare(&directory)?;
    let (disk, _) = disk::open(disk::IoKind::Posix).map_err(ServeError::io("open the disk"))?;
    let env: Arc<dyn Env> = Arc::new(crate::machine::Machine::default());
    let options = Options::new(directory, kymo_engine::model::Metrics::default());
    let report = store::salvage(&disk, &env, &options, confirmed)?;
    let mut lines = vec![format!("{} samples in {} rows can be read", report.samples, report.rows)];
    if report.orphans > 0 {
        lines.push(format!("{} rows name a host or a layout whose definition is lost: they are lost", report.orphans));
    }
    if report.problems.is_empty() {
        lines.push("the log is not damaged: there is nothing to do".to_owned());
    }
    for (path, problem) in &report.problems {
        let what = problem.what.as_ref().map_or_else(|| "is missing".to_owned(), ToString::to_string);
        let last = problem.last_lsn.map_or_else(|| "unknown".to_owned(), |lsn| lsn.to_string());
        let verb = if confirmed { "lost" } else { "would be lost" };
        lines.push(format!(
            "{}: offset {}: {what}; {verb}: {} bytes, LSN {} to {last}",
            path.display(),
            problem.offset,
            problem.bytes,
            problem.first_lsn
        ));
    }
    for path in &report.set_aside {
        lines.push(format!("set aside: {}", path.display()));
    }
    if !confirmed && !report.problems.is_empty() {
        lines.push("nothing was changed; with --yes what can be read is kept and the loss is recorded".to_owned());
    }
    print(&(lines.join("\n") + "\n"));
    Ok(())
}

/// `kymo archive` and `kymo cleanup`.
pub fn cleanup(path: Option<&Path>, due: Due, as_json: bool) -> Result<(), ServeError> {
    let mut config = settings(path)?;
    // Whoever asks for it by name has it done, whatever the server does by the clock.
    config.archive.is_fed |= matches!(due, Due::Before(_));
    if config.archive.is_fed && config.archive.location.is_none() {
        let what = "cannot archive: 'metric-store.cleanup.directory' names no place".to_owned();
        return Err(ServeError::Setting { what });
    }
    expect_store(&config)?;
    become_owner(&config)?;
    let provider = provider(&config)?;
    let env: Arc<dyn Env> = Arc::new(crate::machine::Machine::default());
    let disk = open_disk(&config).map_err(ServeError::io("open the disk"))?;
    let (store, _) = open(&config, &disk, &env)?;
    tools::cleanup(&store, provider.as_ref(), due, as_json)?;
    store.close()?;
    Ok(())
}

/// `kymo import`.
pub fn import(from: &[PathBuf], config: Option<&Path>, as_json: bool) -> Result<(), ServeError> {
    let config = settings(config)?;
    become_owner(&config)?;
    Ok(tools::import(from, &config, as_json)?)
}

/// `kymo verify`.
pub fn verify(directory: &Path, config: Option<&Path>, as_json: bool, pace: Option<u64>) -> Result<(), ServeError> {
    let loaded = config.map(|config| config::load(Some(config))).transpose()?;
    Ok(tools::verify(directory, loaded.as_ref().map(|loaded| &loaded.config), as_json, pace)?)
}

/// `kymo backup`.
pub fn backup(directory: &Path, to: &Path, config: Option<&Path>, as_json: bool) -> Result<(), ServeError> {
    let loaded = config.map(|config| config::load(Some(config))).transpose()?;
    Ok(tools::backup(directory, to, loaded.as_ref().map(|loaded| &loaded.config), as_json)?)
}

/// `kymo export`.
pub fn export(what: &Exported, config: Option<&Path>) -> Result<(), ServeError> {
    let config = settings(config)?;
    expect_store(&config)?;
    become_owner(&config)?;
    Ok(tools::export(what, &config)?)
}

/// The settings of a command on the store itself; what is odd about them is told.
fn settings(path: Option<&Path>) -> Result<Config, ServeError> {
    let loaded = config::load(path)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded.config)
}

/// Refuses where a command would make a store to find nothing in it, as in the wrong working directory.
fn expect_store(config: &Config) -> Result<(), OpenError> {
    let path = &config.storage.directory;
    if Paths::new(path).manifest().exists() {
        return Ok(());
    }
    Err(OpenError::NotAStore { path: path.clone(), what: "it has no MANIFEST".to_owned() })
}

/// Who knows the hosts of running jobs, if the configuration says.
fn provider(config: &Config) -> Result<Option<NodeProvider>, ServeError> {
    let unusable = |error| ServeError::Setting { what: format!("cannot ask 'main.backend-url': {error}") };
    NodeProvider::of(config).map_err(unusable)
}

/// `kymo serve`.
pub fn serve(options: &Serve) -> Result<(), ServeError> {
    logging::start(options.log_level, options.log_date);
    let loaded = load(options)?;
    for note in &loaded.notes {
        info!("{note}");
    }
    for warning in loaded.warnings.iter().chain(&options.warnings) {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("kymo-http")
        .build()
        .map_err(ServeError::io("start the runtime"))?;
    runtime.block_on(run(&loaded.config, options))
}

/// The settings that the command line leads to.
pub(crate) fn load(options: &Serve) -> Result<Loaded, ConfigError> {
    let mut loaded = if options.demo {
        Loaded { config: Config::demo(), warnings: Vec::new(), notes: Vec::new() }
    } else {
        config::load(options.config.as_deref())?
    };
    let config = &mut loaded.config;
    if let Some(io) = options.io {
        config.storage.io = io;
    }
    if let Some(addr) = &options.addr {
        config.main.addr.clone_from(addr);
        loaded.warnings.extend(config.open_door());
    }
    Ok(loaded)
}

/// Becomes the user that the configuration names, if it names one.
fn become_user(config: &Config) -> Result<(), ServeError> {
    if let Some(identity) = Identity::find(config.main.user.as_deref(), config.main.group.as_deref())? {
        identity.assume(&config.storage.directory)?;
    }
    Ok(())
}

/// The same for a command on the store itself. What root writes there the server could not read.
fn become_owner(config: &Config) -> Result<(), ServeError> {
    if config.main.user.is_none() {
        privileges::spare(&config.storage.directory)?;
    }
    become_user(config)
}

async fn run(config: &Config, options: &Serve) -> Result<(), ServeError> {
    // The address first: a port that is taken must not leave a trace in the data directory.
    let addr = &config.main.addr;
    let listener = listen(addr).await.map_err(ServeError::io(format!("listen on {addr}")))?;
    let local = listener.local_addr().map_err(ServeError::io(format!("listen on {addr}")))?;
    let env: Arc<dyn Env> = Arc::new(crate::machine::Machine::default());
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::io("wait for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::io("wait for signals"))?;
    let hangup = signal(SignalKind::hangup()).map_err(ServeError::io("wait for signals"))?;

    // Nothing is created before this, so nothing belongs to root.
    become_user(config)?;
    // A certificate that cannot be used must leave no trace either: it is looked at before the store is opened.
    let settings = http_settings(config);
    http::check(&settings)?;
    let provider = provider(config)?;

    systemd::opening();
    let clock_env = Arc::clone(&env);
    let clock: Clock = Arc::new(move || clock_env.unix_now());
    let disk = open_disk(config).map_err(ServeError::io("open the disk"))?;
    let (mut store, was_used) = open(config, &disk, &env)?;
    let mut listener = listener;
    let mut is_told = false;
    if !was_used && let Some(from) = takeover::wanted(config, &*disk)? {
        eprintln!("kymo: listening on {local}");
        is_told = true;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let import = (store, Arc::clone(&disk), from);
        match takeover::take_over(config, import, (listener, Arc::clone(&clock)), stop).await? {
            Some(same) => listener = same,
            None => return Ok(()),
        }
        (store, _) = open(config, &disk, &env)?;
    }
    let retention = Retention::new(provider, tokio::runtime::Handle::current());
    let provider_failures = retention.failures();
    let steps = Steps::start(&store, retention).map_err(ServeError::io("start a thread"))?;
    if !is_told {
        eprintln!("kymo: listening on {local}");
    }

    let engine = Arc::new(StoreEngine::new(Arc::clone(&store), env, provider_failures));
    let messaging = Messaging::start(&config.nats, Arc::<StoreEngine>::clone(&engine), message_bounds(config));
    if let Some(messaging) = &messaging {
        engine.show(messaging.status());
    }
    let server = Server::new(State { engine, clock }, settings)?;
    if options.demo {
        start_demo(local, config).map_err(ServeError::io("start the demo"))?;
    }
    let reloader = Arc::new(Reloader::new(options.clone(), config, server.clone(), Arc::clone(&store)));
    let on_request = Arc::downgrade(&reloader);
    server.on_reload(Box::new(move || {
        on_request.upgrade().map_or_else(|| Err("the server is stopping".to_owned()), |reloader| reloader.reload())
    }));
    let reloading = tokio::spawn(reload::on_signal(hangup, reloader));
    let watching = tokio::spawn(systemd::watch(Arc::clone(&store), steps.rounds()));
    systemd::ready(&store);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        systemd::stopping();
        reloading.abort();
        watching.abort();
        if let Some(messaging) = messaging {
            messaging.stop().await;
        }
    };
    let cut = server.serve(listener, stop).await;
    if cut > 0 {
        warn!(connections = cut, "connections were cut at the end of the grace period");
    }
    steps.stop();
    store.close()?;
    info!("stopped: all that was acknowledged is on the device");
    Ok(())
}

/// Binds an address. A port alone is that of all interfaces: IPv6 with IPv4 in it, or IPv4 where there is no IPv6.
async fn listen(addr: &str) -> io::Result<TcpListener> {
    let Some(Ok(port)) = addr.strip_prefix(':').map(str::parse) else { return TcpListener::bind(addr).await };
    match listen_on_both(port) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

fn listen_on_both(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    // Where the system says otherwise, too.
    SockRef::from(&socket).set_only_v6(false)?;
    // For a restart while connections of the last process linger, as `TcpListener::bind` does.
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(1024)
}

fn start_demo(addr: SocketAddr, config: &Config) -> io::Result<()> {
    let metrics = config.metrics.clone();
    thread::Builder::new().name("kymo-demo".to_owned()).spawn(move || {
        if let Err(error) = demo::run(addr, &metrics) {
            error!(%error, "the demo has ended");
        }
    })?;
    Ok(())
}

fn message_bounds(config: &Config) -> nats::Bounds {
    nats::Bounds { held_bytes: config.storage.limits.in_flight, max_age: config.storage.late_window }
}

/// What of a configuration can be exchanged while the HTTP face serves: see [`Server::reload`].
pub(crate) fn http_settings(config: &Config) -> Settings {
    let limits = &config.storage.limits;
    let limits = http::Limits {
        body: limits.body,
        decoded_body: limits.decoded_body,
        lines: limits.lines,
        in_flight: limits.in_flight,
        connections: limits.connections,
        connections_per_peer: limits.connections_per_peer,
        requests_per_second: limits.requests_per_second,
        request_points: limits.request_points,
        queries: limits.queries,
        query_time: limits.query_timeout,
        head: limits.head_timeout,
        idle: limits.idle_timeout,
        body_time: limits.body_timeout,
        ..http::Limits::default()
    };
    let access = Access {
        keys: config.public_keys(),
        require_scopes: config.auth.require_scopes,
        require_expiry: config.auth.require_expiry,
    };
    let tls = config.main.https.clone().map(|https| TlsFiles { certificate: https.cert_file, key: https.key_file });
    Settings { limits, access, tls }
}

/// The disk that a configuration asks for.
pub(crate) fn open_disk(config: &Config) -> io::Result<Arc<dyn Disk>> {
    let kind = match config.storage.io {
        IoKind::Auto => disk::IoKind::Auto,
        IoKind::IoUring => disk::IoKind::IoUring,
        IoKind::Posix => disk::IoKind::Posix,
    };
    let (disk, note) = disk::open(kind)?;
    for note in note.into_iter().chain(disk.notes()) {
        warn!("{note}");
    }
    Ok(disk)
}

/// Opens the store, and whether it ever had a row or an import.
fn open(config: &Config, disk: &Arc<dyn Disk>, env: &Arc<dyn Env>) -> Result<(Arc<Store>, bool), ServeError> {
    let options = options(config, disk).map_err(ServeError::io("open the archive"))?;
    let (store, report) = Store::open(Arc::clone(disk), Arc::clone(env), options)?;
    tell(&report, &**disk, &config.storage.directory);
    Ok((Arc::new(store), report.next_lsn > Lsn(1)))
}

/// What a store is opened with, by a configuration, its archive included.
pub(crate) fn options(config: &Config, disk: &Arc<dyn Disk>) -> io::Result<Options> {
    Ok(Options { archive: archive_place::open(config, disk)?, ..store_options(config) })
}

pub(crate) fn store_options(config: &Config) -> Options {
    let storage = &config.storage;
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let mut options = Options::new(&storage.directory, config.metrics.clone());
    options.durability = match storage.durability {
        Durability::Sync => store::Durability::Sync,
        Durability::Interval(interval) => store::Durability::Interval(interval),
    };
    options.late_window = seconds(storage.late_window);
    options.skew = seconds(storage.skew);
    options.retention = config.retention.map(seconds);
    options.memory_cap = config.memory_cap_bytes;
    options.log_bound = storage.log_bound as u64;
    // A few segments to the bound, so that what a snapshot covers can go soon.
    let segment_len = (options.log_bound / 4).next_multiple_of(BLOCK as u64);
    options.segment_len = segment_len.clamp(SEGMENT_LEN_MIN, SEGMENT_LEN);
    options.limits.decode.line_bytes = storage.limits.line;
    options.limits.hosts = storage.limits.hosts;
    options.limits.series_per_host = storage.limits.series_per_host;
    options.limits.series = storage.limits.series;
    options.limits.query_points = storage.limits.query_points;
    options.limits.pending_bytes = storage.limits.in_flight.saturating_mul(2);
    options
}

fn tell(report: &OpenReport, disk: &dyn Disk, directory: &Path) {
    let millis = u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX);
    info!(
        directory = %directory.display(),
        store = %report.store,
        disk = disk.name(),
        segments = report.segments,
        rows = report.rows,
        samples = report.samples,
        bytes = report.bytes,
        millis,
        next_lsn = report.next_lsn.0,
        tail = ?report.tail,
        "{}",
        if report.is_new { "store created" } else { "store opened" }
    );
    if let Tail::Torn { what, .. } = &report.tail {
        warn!(%what, "the last write of the log was interrupted; it was never acknowledged");
    }
    for name in &report.foreign {
        warn!(name, "a file in the directory of the log is not of this store and is left alone");
    }
    for loss in &report.losses {
        warn!(segment = loss.seq, offset = loss.offset, bytes = loss.bytes, lsn = loss.first_lsn.0, "recorded loss");
    }
    if let Some(why) = &report.read_only {
        error!(why, "the store can only be read until there is space");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_engine::format::FormatError;
    use kymo_engine::tools::backup::BackupError;

    #[test]
    fn a_store_that_does_not_open_exits_with_the_same_code_from_every_command() {
        let (path, remedy) = (PathBuf::from("/data"), String::new());
        let variants: [fn(PathBuf, String) -> OpenError; 6] = [
            |path, _| OpenError::Io { op: "read", path, source: io::ErrorKind::PermissionDenied.into() },
            |path, _| OpenError::NotAStore { path, what: String::new() },
            |path, _| OpenError::InUse { path, holder: String::new() },
            |path, remedy| {
                let what = FormatError::Magic("manifest");
                OpenError::Damaged { path, offset: 0, lsn: Lsn(1), what, remedy }
            },
            |path, remedy| OpenError::Missing { path, lsn: Lsn(1), remedy },
            |_, _| OpenError::Snapshot { source: "it is damaged".into() },
        ];
        for (variant, code) in variants.into_iter().zip([1, 1, 3, 4, 4, 4]) {
            let error = || variant(path.clone(), remedy.clone());
            let codes = [
                ServeError::Open(error()).exit_code(),
                ServeError::Tool(ToolError::Open(error())).exit_code(),
                ToolError::Backup(BackupError::Open(error())).exit_code(),
            ];
            assert_eq!(codes, [code; 3], "{}", error());
        }
    }

    #[test]
    fn what_a_configuration_without_limits_comes_to_is_the_default_of_who_keeps_them() {
        assert_eq!(http_settings(&Config::default()).limits, http::Limits::default());
        let (options, usual) = (store_options(&Config::default()), store::Limits::default());
        assert_eq!(format!("{:?}", options.limits), format!("{usual:?}"));
    }
}
