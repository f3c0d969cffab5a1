//! Taking over from cc-metric-store: a store that never had a row imports the checkpoints of the configuration, once,
//! before it is ready.
//!
//! Meanwhile the server answers: `/ready` says how far it is, writes are refused and may be tried again, queries say
//! why they have no answer. That it has happened stands in the manifest: an import takes an LSN, also one that found
//! nothing, so the store is not new any more. One that was cut off has not happened, and the next start begins it again.

use crate::config::Config;
use crate::http::{
    Clock, DebugTree, Diagnosis, EachAnswer, Engine, Freed, NodeHealth, Server, State, Unavailable, Written,
};
use crate::serve::{ServeError, http_settings};
use crate::systemd;
use crate::tools::{import_lines, import_summary};
use kymo_engine::disk::Disk;
use kymo_engine::import::{self, ImportError, ImportProgress, ImportReport};
use kymo_engine::model::{Lsn, Query, Request, SeriesError};
use kymo_engine::store::Store;
use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// The directories to import into a new store: those of checkpoints and of the archive, if there is anything in them.
pub(crate) fn wanted(config: &Config, disk: &dyn Disk) -> Result<Option<Vec<PathBuf>>, ServeError> {
    // With the mode "delete" nothing was archived, and what was would be dropped again.
    let archive = config.archive.location.as_ref().filter(|place| config.archive.is_fed && !place.contains("://"));
    let mut directories = Vec::new();
    for from in config.checkpoints_directory.iter().cloned().chain(archive.map(PathBuf::from)) {
        match import::has_files(disk, std::slice::from_ref(&from)) {
            Ok(has_files) => directories.extend(has_files.then_some(from)),
            Err(ImportError::List { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let to_do = "make it readable, or remove 'checkpoints.directory' or 'cleanup.directory'";
                return Err(ServeError::Import { what: format!("{error}: {to_do}") });
            }
        }
    }
    Ok((!directories.is_empty()).then_some(directories))
}

/// Imports a directory while the listener answers, then closes the store. Gives the listener back, or `None` where
/// `stop` came first: then nothing has happened.
pub(crate) async fn take_over(
    config: &Config,
    (store, disk, from): (Arc<Store>, Arc<dyn Disk>, Vec<PathBuf>),
    (listener, clock): (TcpListener, Clock),
    stop: impl Future<Output = ()> + Send,
) -> Result<Option<TcpListener>, ServeError> {
    let shown: Vec<String> = from.iter().map(|from| from.display().to_string()).collect();
    let shown = shown.join(" and ");
    warn!(from = %shown, "the store is new: importing the checkpoints of cc-metric-store");
    let (listener, of_import) = twice(listener).map_err(ServeError::io("share the listener"))?;
    let engine = Arc::new(Importing { from: shown, progress: Mutex::default(), stops: AtomicBool::new(false) });
    let server = Server::new(State { engine: Arc::clone(&engine) as Arc<dyn Engine>, clock }, http_settings(config))?;
    let (done, is_done) = oneshot::channel::<()>();
    let told = Arc::clone(&engine);
    let end = async move {
        tokio::select! {
            _ = is_done => {}
            () = stop => told.stops.store(true, Ordering::Relaxed),
        }
    };
    let work = tokio::task::spawn_blocking(move || {
        let imported = import::import(&store, &*disk, &from, &mut |progress| engine.show(*progress));
        let closed = store.close();
        drop(done);
        imported.map(|report| (report, closed))
    });
    server.serve(of_import, end).await;
    let ended = work.await.map_err(|error| ServeError::io("import")(io::Error::other(error)))?;
    match ended {
        Ok((report, closed)) => {
            closed?;
            tell(&report, &config.storage.directory);
            Ok(Some(listener))
        }
        Err(ImportError::Stopped) => {
            info!("stopped: the import has not happened and is begun again at the next start");
            Ok(None)
        }
        Err(error) => Err(ServeError::Import { what: format!("{error}: nothing of the import was kept") }),
    }
}

/// The same socket twice.
fn twice(listener: TcpListener) -> io::Result<(TcpListener, TcpListener)> {
    let listener = listener.into_std()?;
    let other = listener.try_clone()?;
    Ok((TcpListener::from_std(listener)?, TcpListener::from_std(other)?))
}

/// The service manager is told once in so many hosts.
const TOLD_EVERY: u64 = 16;
/// Lines of the log about single files, at most.
const TOLD: usize = 100;

fn tell(report: &ImportReport, directory: &Path) {
    let lines = import_lines(report);
    for line in lines.iter().take(TOLD) {
        warn!("{line}");
    }
    if lines.len() > TOLD {
        warn!("{} more lines like these: `kymo import` into an empty directory shows all", lines.len() - TOLD);
    }
    warn!("{}", import_summary(report, directory));
}

/// What stands behind the HTTP face while the store is not there yet.
#[derive(Debug)]
struct Importing {
    from: String,
    progress: Mutex<ImportProgress>,
    stops: AtomicBool,
}

impl Importing {
    /// Takes note of how far it is; whether to go on.
    fn show(&self, progress: ImportProgress) -> bool {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
        if progress.hosts.is_multiple_of(TOLD_EVERY) {
            systemd::importing(&self.reason());
        }
        !self.stops.load(Ordering::Relaxed)
    }

    fn progress(&self) -> ImportProgress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reason(&self) -> String {
        let ImportProgress { hosts, hosts_total, bytes, bytes_total, .. } = self.progress();
        let percent = (bytes.saturating_mul(100)).checked_div(bytes_total).unwrap_or(0);
        let from = &self.from;
        if self.progress().pass == 0 && bytes_total > 0 {
            return format!("importing the checkpoints in {from}: archives, {percent} % of their bytes");
        }
        format!("importing the checkpoints in {from}: {hosts} of {hosts_total} hosts, {percent} % of their bytes")
    }

    fn unavailable(&self) -> Unavailable {
        Unavailable { reason: self.reason() }
    }
}

impl Engine for Importing {
    fn write(&self, _: &[u8], _: &str, _: bool, _: Option<&[String]>) -> Result<Written, Unavailable> {
        Err(self.unavailable())
    }

    fn when_durable(&self, _: Lsn, done: Box<dyn FnOnce(Result<(), Unavailable>) + Send>) {
        done(Err(self.unavailable()));
    }

    fn hosts(&self, _: &str, _: i64, _: i64) -> Result<Vec<String>, Unavailable> {
        Err(self.unavailable())
    }

    fn evaluate(&self, _: &Request, _: &Query, each: &mut EachAnswer<'_>) {
        // Whether it wants more or not, there is only this one.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = each(Err(SeriesError::NotReady(self.reason())));
    }

    fn free(&self, _: &[Vec<String>], _: i64, _: &dyn Fn() -> bool) -> Result<Option<Freed>, Unavailable> {
        Err(self.unavailable())
    }

    fn debug(&self, _: &[String]) -> Result<Option<DebugTree>, Unavailable> {
        Err(self.unavailable())
    }

    fn health(&self, _: &str, _: &str, _: &[String]) -> Result<Option<NodeHealth>, Unavailable> {
        Err(self.unavailable())
    }

    fn diagnose(&self, _: Option<&str>, metric: &str, host: &str) -> Diagnosis {
        Diagnosis { metric: metric.to_owned(), host: host.to_owned(), ..Diagnosis::default() }
    }

    fn ready(&self) -> Result<(), String> {
        Err(self.reason())
    }

    fn metrics_text(&self) -> String {
        let ImportProgress { hosts, hosts_total, .. } = self.progress();
        let mut text = String::new();
        let metrics = [
            ("kymo_import_hosts", "Hosts whose checkpoints are to be imported.", hosts_total),
            ("kymo_import_hosts_done", "Hosts whose checkpoints were imported.", hosts),
        ];
        for (name, help, value) in metrics {
            // A string takes all that is written to it.
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}").ok();
        }
        text
    }
}
