//! What the command line asks for.
//!
//! The grammar is clap's, with one step before it: the predecessor's flags are Go's (`-config x`, `-dev=true`), so
//! flags with one dash are rewritten to two, for every flag that `serve` has. Owns no behaviour; it never prints.

mod bench;

pub use bench::Bench;

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use crate::config::{self, IoKind};
use crate::tools::{Due, ExportFormat, Exported};
use kymo_engine::tools::estimate::Shape;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Run the server.
    Serve(Serve),
    /// Read a configuration, say what it means, and end.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Set damage aside so that a store opens again.
    Salvage {
        /// The directory of the store.
        directory: PathBuf,
        /// Whether to do it; otherwise only say what would be done.
        confirmed: bool,
    },
    /// Show a file of a store.
    Inspect {
        /// The file.
        file: PathBuf,
        /// How.
        form: InspectForm,
    },
    /// Check all files of a store.
    Verify {
        /// The directory of the store.
        directory: PathBuf,
        /// The configuration that names its archive.
        config: Option<PathBuf>,
        /// Whether to print JSON.
        json: bool,
        /// Bytes a second at most.
        pace: Option<u64>,
    },
    /// Copy a store.
    Backup {
        /// The directory of the store.
        directory: PathBuf,
        /// A new or empty directory.
        destination: PathBuf,
        /// The configuration that names its archive.
        config: Option<PathBuf>,
        /// Whether to print JSON.
        json: bool,
    },
    /// Say what a store will need.
    Estimate {
        /// What is to be kept.
        shape: Shape,
        /// Whether to print JSON.
        json: bool,
    },
    /// Load a running server.
    Bench(Bench),
    /// Ask a server why a metric is not there.
    Diagnose(Diagnose),
    /// Have a server read its configuration again.
    Reload(Reload),
    /// Do at once what the server does by the clock.
    Cleanup {
        /// The configuration; `None` is the default place.
        config: Option<PathBuf>,
        /// What is due.
        due: Due,
        /// Whether to print JSON.
        json: bool,
    },
    /// Bring the predecessor's checkpoints and archives into a store.
    Import {
        /// Their directories.
        from: Vec<PathBuf>,
        /// The configuration that was named.
        config: Option<PathBuf>,
        /// Whether to print JSON.
        json: bool,
    },
    /// Write what a store holds in a form that other programs read.
    Export {
        /// What, and where to.
        what: Exported,
        /// The configuration that was named.
        config: Option<PathBuf>,
    },
    /// Print [`version`] and end.
    Version,
}

/// What to ask a server about.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Diagnose {
    /// The metric
    pub metric: String,
    /// The host
    pub host: String,
    /// The cluster of the host [default: all]
    #[arg(long)]
    pub cluster: Option<String>,
    /// Where the server is; its token, if it wants one, stands in the environment variable `KYMO_TOKEN`
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8082")]
    pub server: String,
    /// Print the JSON document of the server
    #[arg(long)]
    pub json: bool,
}

/// Which server is to read its configuration again.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Where the server is; its token, if it wants one, stands in the environment variable `KYMO_TOKEN`
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8082")]
    pub server: String,
}

/// How a file is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectForm {
    /// A line a part.
    Text,
    /// One document, an item a part.
    Json,
    /// A line a sample.
    Csv,
}

/// How to run the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serve {
    /// The configuration that was named.
    pub config: Option<PathBuf>,
    /// Run the demonstration, without a configuration.
    pub demo: bool,
    /// The way to the disk, before that of the configuration.
    pub io: Option<IoKind>,
    /// Where to listen, before that of the configuration.
    pub addr: Option<String>,
    /// What is logged.
    pub log_level: LogLevel,
    /// Whether log lines begin with date and time.
    pub log_date: bool,
    /// What to tell about flags; one line each.
    pub warnings: Vec<String>,
}

/// The least severity that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// All.
    Debug,
    /// What happens.
    Info,
    /// What should be changed.
    #[default]
    Warn,
    /// What failed.
    Err,
    /// What ends the server.
    Crit,
}

impl LogLevel {
    /// The predecessor's names; it takes `fatal` for `err`.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "err" | "fatal" => Self::Err,
            "crit" => Self::Crit,
            _ => return None,
        })
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  it failed
  2  the command line or the configuration is wrong
  3  another process has the directory open
  4  damage was found in the directory";

const EXAMPLES: &str = "\
Examples:
  kymo serve --demo                       try it: loopback, built-in metrics, data in ./kymo-demo
  kymo check-config config.json           say what a file means before a restart
  kymo serve --config config.json         run
  kymo -config config.json -loglevel info the same with the flags of cc-metric-store
  kymo salvage ./var/kymo                 say what is damaged; with --yes set it aside
  kymo diagnose cpu_load node0815         say why that metric of that host is not there
  kymo reload                             have a server read its configuration again
  kymo verify ./var/kymo                  check every checksum, also while kymo serves
  kymo backup ./var/kymo /backup/kymo     copy the store, also while kymo serves
  kymo import --from ./var/checkpoints    take over the checkpoints of cc-metric-store
  kymo export --format csv --to -         print what the store holds

Without a command kymo serves. Without --config it reads ./config.json if that exists, and otherwise listens on
127.0.0.1:8082 with built-in metrics.";

/// Keeps the metrics of compute clusters: a durable replacement of cc-metric-store.
#[derive(Debug, Parser)]
#[command(name = "kymo", disable_version_flag = true, args_conflicts_with_subcommands = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Run the server (also without a command)
    #[command(after_help = EXIT_CODES)]
    Serve(ServeArgs),
    /// Read a configuration, print the effective settings, warnings and notes, and end
    #[command(after_help = EXIT_CODES)]
    CheckConfig {
        /// The configuration
        file: PathBuf,
        #[arg(long, hide = true)]
        ignore_unsupported: bool,
    },
    /// Show a segment, snapshot or manifest, also a damaged one, as far as it can be read; never writes
    #[command(after_help = EXIT_CODES)]
    Inspect {
        /// The file
        file: PathBuf,
        /// Print one JSON document
        #[arg(long, conflicts_with = "csv")]
        json: bool,
        /// Print the samples: cluster,host,metric,component,subcomponent,time,value
        #[arg(long)]
        csv: bool,
    },
    /// Check every checksum of a store, and its manifest against its files; also beside a running server
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// The directory of the store
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The configuration that names the archive of the store; without one, its archive is left out
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        /// Read at most so many bytes a second
        #[arg(long, value_name = "BYTES_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..))]
        pace: Option<u64>,
    },
    /// Copy a store to a new or empty directory, and check the copy; also beside a running server
    #[command(after_help = EXIT_CODES)]
    Backup {
        /// The directory of the store
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Where to; opens as a data directory
        #[arg(value_name = "DEST")]
        destination: PathBuf,
        /// The configuration that names the archive of the store; without one, its archive is left out
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Bring checkpoints and Parquet archives of cc-metric-store into the store of a configuration; the server must not
    /// run
    #[command(after_help = EXIT_CODES)]
    Import {
        /// A directory: `checkpoints.directory` or `cleanup.directory` of cc-metric-store; may be given more than once
        #[arg(long, value_name = "DIR", required = true)]
        from: Vec<PathBuf>,
        /// The configuration of the store; default ./config.json if that exists
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Write what the store of a configuration and its archive hold as line protocol, CSV, Parquet or checkpoints of
    /// cc-metric-store; the server must not run
    #[command(after_help = EXIT_CODES)]
    Export(ExportArgs),
    /// Say what heap, page cache, disk and log a store will need
    #[command(after_help = EXIT_CODES)]
    Estimate(EstimateArgs),
    /// Load a running server with the metrics of a cluster and say how fast it is and what it costs
    #[command(subcommand, after_help = EXIT_CODES)]
    Bench(bench::BenchSub),
    /// Ask a running server why a metric of a host is not there
    #[command(after_help = EXIT_CODES)]
    Diagnose(Diagnose),
    /// Have a running server read its configuration again; it says what changed and what waits for a restart
    #[command(after_help = EXIT_CODES)]
    Reload(Reload),
    /// Move days into the archive now, whatever the retention; the server must not run
    #[command(after_help = EXIT_CODES)]
    Archive {
        /// The first UTC day that stays, as 2026-11-20
        #[arg(long, value_name = "DATE", value_parser = midnight)]
        before: i64,
        #[command(flatten)]
        settings: CleanupArgs,
    },
    /// Archive or delete now what has passed the retention, as the configuration says; the server must not run
    #[command(after_help = EXIT_CODES)]
    Cleanup {
        #[command(flatten)]
        settings: CleanupArgs,
    },
    /// Set damaged parts of a store aside so that it opens again; what is lost is recorded and stays visible
    #[command(after_help = EXIT_CODES)]
    Salvage {
        /// The directory of the store
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Do it; without this, only say what would be done
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
struct CleanupArgs {
    /// The configuration; default ./config.json if that exists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long, hide = true)]
    ignore_unsupported: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl CleanupArgs {
    fn command(self, due: Due) -> Command {
        let Self { config, json, .. } = self;
        Command::Cleanup { config, due, json }
    }
}

#[derive(Args, Debug)]
struct ExportArgs {
    /// The form
    #[arg(long)]
    format: ExportFormat,
    /// A new file, or `-` for stdout; for bin, json and parquet a new or empty directory
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// Only this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The first UTC day, as 2026-11-18
    #[arg(long, value_name = "DATE", value_parser = midnight)]
    from: Option<i64>,
    /// The first UTC day behind the last one
    #[arg(long, value_name = "DATE", value_parser = midnight)]
    before: Option<i64>,
    /// The configuration of the store; default ./config.json if that exists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The instant in which a UTC day begins, in unix seconds.
fn midnight(text: &str) -> Result<i64, String> {
    let day = kymo_engine::paths::day_of(text).ok_or_else(|| "it is no date like 2026-11-20".to_owned())?;
    Ok(day * 86_400)
}

#[derive(Args, Debug)]
struct EstimateArgs {
    /// Hosts, all alike
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    hosts: u64,
    /// Series of each host
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    series: u64,
    /// Seconds between two samples of a series
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// How long samples are kept, as "48h"
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    retention: Duration,
    /// Which part of the values is the same as a float of 32 bits, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    f32_share: f64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it is no number from 0 to 1".to_owned())
}

/// Flags keep the predecessor's spelling where it had them.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct ServeArgs {
    /// The configuration; default ./config.json if that exists
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    config: Option<PathBuf>,
    /// Run without a configuration: loopback, built-in metrics, data in ./kymo-demo
    #[arg(long)]
    demo: bool,
    // From when there were settings that kymo could not follow: scripts may still say it.
    #[arg(long, hide = true)]
    ignore_unsupported: bool,
    #[arg(
        long,
        value_name = "KIND",
        help = "The way to the disk: auto, io_uring or posix [default: as configured, or auto]"
    )]
    io: Option<IoKind>,
    /// Where to listen, host and port [default: as configured, or 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR")]
    addr: Option<String>,
    /// What is logged: debug, info, warn, err or crit
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    loglevel: String,
    /// Begin log lines with date and time
    #[arg(long)]
    logdate: bool,
    /// Print the version and end
    #[arg(long, short = 'V')]
    version: bool,
    #[arg(long, hide = true)]
    dev: bool,
    #[arg(long, hide = true)]
    gops: bool,
    #[arg(long, hide = true)]
    cleanup_checkpoints: bool,
}

/// The three lines of `--version`.
pub fn version() -> String {
    let git_hash = option_env!("KYMO_GIT_HASH").unwrap_or("unknown");
    let build_time = option_env!("KYMO_BUILD_TIME").unwrap_or("unknown");
    format!("Version:\t{}\nGit hash:\t{git_hash}\nBuild time:\t{build_time}\n", env!("CARGO_PKG_VERSION"))
}

/// Parses the arguments, the program's name first. The error prints itself and knows its exit code: 0 for `--help`,
/// otherwise 2.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, clap::Error> {
    match Cli::try_parse_from(with_two_dashes(args)?)? {
        Cli { command: None, serve } | Cli { command: Some(Sub::Serve(serve)), .. } => Ok(decide(serve)),
        Cli { command: Some(Sub::CheckConfig { file, .. }), .. } => Ok(Command::CheckConfig { file }),
        Cli { command: Some(Sub::Salvage { directory, yes }), .. } => {
            Ok(Command::Salvage { directory, confirmed: yes })
        }
        Cli { command: Some(Sub::Diagnose(diagnose)), .. } => Ok(Command::Diagnose(diagnose)),
        Cli { command: Some(Sub::Reload(reload)), .. } => Ok(Command::Reload(reload)),
        Cli { command: Some(Sub::Archive { before, settings }), .. } => Ok(settings.command(Due::Before(before))),
        Cli { command: Some(Sub::Cleanup { settings }), .. } => Ok(settings.command(Due::Retention)),
        Cli { command: Some(Sub::Inspect { file, json, csv }), .. } => {
            let form = match (json, csv) {
                (true, _) => InspectForm::Json,
                (_, true) => InspectForm::Csv,
                _ => InspectForm::Text,
            };
            Ok(Command::Inspect { file, form })
        }
        Cli { command: Some(Sub::Verify { directory, config, json, pace }), .. } => {
            Ok(Command::Verify { directory, config, json, pace })
        }
        Cli { command: Some(Sub::Backup { directory, destination, config, json }), .. } => {
            Ok(Command::Backup { directory, destination, config, json })
        }
        Cli { command: Some(Sub::Bench(sub)), .. } => Ok(sub.into()),
        Cli { command: Some(Sub::Import { from, config, json }), .. } => Ok(Command::Import { from, config, json }),
        Cli { command: Some(Sub::Export(args)), .. } => {
            let ExportArgs { format, to, cluster, from, before, config } = args;
            let times = from.unwrap_or(i64::MIN)..before.unwrap_or(i64::MAX);
            Ok(Command::Export { what: Exported { format, to, cluster, times }, config })
        }
        Cli { command: Some(Sub::Estimate(args)), .. } => {
            let EstimateArgs { hosts, series, interval, retention, f32_share, json } = args;
            let shape = Shape { f32_share, ..Shape::new(hosts, series, interval, retention.as_secs()) };
            Ok(Command::Estimate { shape, json })
        }
    }
}

fn decide(args: ServeArgs) -> Command {
    if args.version {
        return Command::Version;
    }
    if args.cleanup_checkpoints {
        let settings = CleanupArgs { config: args.config, ignore_unsupported: args.ignore_unsupported, json: false };
        return settings.command(Due::Retention);
    }
    let mut warnings = Vec::new();
    let log_level = LogLevel::named(&args.loglevel).unwrap_or_else(|| {
        let names = "debug, info, warn, err, crit";
        warnings.push(format!("--loglevel {:?} is unknown, logging all; the levels are {names}", args.loglevel));
        LogLevel::Debug
    });
    if args.dev {
        warnings.push("--dev has no effect: kymo has no Swagger page".to_owned());
    }
    if args.gops {
        warnings.push("--gops has no effect: kymo has no Go runtime to look into".to_owned());
    }
    Command::Serve(Serve {
        config: args.config,
        demo: args.demo,
        io: args.io,
        addr: args.addr,
        log_level,
        log_date: args.logdate,
        warnings,
    })
}

/// Rewrites the flags of `serve` from Go's form to clap's: one dash becomes two, `-x v` becomes `--x=v` (a value may
/// begin with a dash), `-x=true` becomes `--x`, `-x=false` nothing. Other commands keep their arguments as they are.
fn with_two_dashes(mut args: impl Iterator<Item = OsString>) -> Result<Vec<OsString>, clap::Error> {
    let cli = Cli::command();
    let mut rewritten: Vec<OsString> = args.next().into_iter().collect();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if !bytes.starts_with(b"-") {
            // A command other than `serve` has flags of its own.
            let other_command = rewritten.len() == 1 && bytes != b"serve";
            rewritten.push(arg);
            if other_command {
                break;
            }
            continue;
        }
        let body = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
        let (name, value) = match body.iter().position(|&b| b == b'=') {
            Some(at) => (&body[..at], Some(&body[at + 1..])),
            None => (body, None),
        };
        if name == b"help" {
            rewritten.push("--help".into());
            continue;
        }
        let Some(flag) = cli.get_arguments().find(|flag| flag.get_long().is_some_and(|long| long.as_bytes() == name))
        else {
            // Unknown, and an error soon: with two dashes it is named whole. A single letter is clap's own.
            let whole = !bytes.starts_with(b"--") && name.len() > 1;
            rewritten.push(if whole { OsString::from_vec([b"-", bytes].concat()) } else { arg });
            continue;
        };
        let mut flag_arg = b"--".to_vec();
        flag_arg.extend_from_slice(name);
        if flag.get_action().takes_values() {
            if let Some(value) = value.map(<[u8]>::to_vec).or_else(|| args.next().map(OsString::into_vec)) {
                flag_arg.push(b'=');
                flag_arg.extend(value);
            }
        } else if let Some(value) = value {
            match value {
                b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => {}
                b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => continue,
                _ => {
                    let message = format!("{} takes true or false", arg.display());
                    return Err(Cli::command().error(ErrorKind::InvalidValue, message));
                }
            }
        }
        rewritten.push(OsString::from_vec(flag_arg));
    }
    rewritten.extend(args);
    Ok(rewritten)
}

#[cfg(test)]
mod tests;
