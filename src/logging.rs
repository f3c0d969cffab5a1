//! Logs: structured lines on stderr, for a person or for the journal, which adds its own time.

use crate::cli::args::LogLevel;
use tracing_subscriber::EnvFilter;

/// Begins logging. `RUST_LOG` comes before the level of the command line.
pub(crate) fn start(level: LogLevel, with_date: bool) {
    let default = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Err | LogLevel::Crit => "error",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let lines = lines.with_ansi(false);
    let started = if with_date { lines.try_init() } else { lines.without_time().try_init() };
    if let Err(error) = started {
        eprintln!("kymo: logging was begun before and stays as it is: {error}");
    }
}
