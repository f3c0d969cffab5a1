//! What the command line asks for.
//!
//! The grammar is clap's, with one step before it: the predecessor's flags are Go's (`-config x`, `-dev=true`), so
//! flags with one dash are rewritten to two, for every flag that `serve` has. Owns no behaviour; it never prints.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _, os::unix::ffi::OsStringExt as _, path::PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use crate::config::IoKind;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Serve(Serve),
    /// Read a configuration, say what it means, and end.
    CheckConfig {
        /// The file.
        file: PathBuf,
        /// Whether settings that kymo cannot follow are warnings.
        ignore_unsupported: bool,
    },
    /// Set damage aside so that a store opens again.
    Salvage {
        /// The directory of the store.
        directory: PathBuf,
        /// Whether to do it; otherwise only say what would be done.
        confirmed: bool,
    },
    /// Print [`version`] and end.
    Version,
}

/// How to run the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serve {
    /// The configuration that was named.
    pub config: Option<PathBuf>,
    /// Run the demonstration, without a configuration.
    pub demo: bool,
    /// Whether settings that kymo cannot follow are warnings.
    pub ignore_unsupported: bool,
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
        /// Turn settings that kymo cannot follow into warnings
        #[arg(long)]
        ignore_unsupported: bool,
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
    /// Start although the configuration asks for what kymo does not do yet, with a warning each
    #[arg(long)]
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
        Cli { command: None, serve } | Cli { command: Some(Sub::Serve(serve)), .. } => decide(serve),
        Cli { command: Some(Sub::CheckConfig { file, ignore_unsupported }), .. } => {
            Ok(Command::CheckConfig { file, ignore_unsupported })
        }
        Cli { command: Some(Sub::Salvage { directory, yes }), .. } => {
            Ok(Command::Salvage { directory, confirmed: yes })
        }
    }
}

fn decide(args: ServeArgs) -> Result<Command, clap::Error> {
    if args.version {
        return Ok(Command::Version);
    }
    if args.cleanup_checkpoints {
        let message = "there is nothing to clean up: kymo deletes by itself what is older than \
                       'metric-store.retention-in-memory' of the configuration; remove --cleanup-checkpoints";
        return Err(Cli::command().error(ErrorKind::UnknownArgument, message));
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
    Ok(Command::Serve(Serve {
        config: args.config,
        demo: args.demo,
        ignore_unsupported: args.ignore_unsupported,
        io: args.io,
        addr: args.addr,
        log_level,
        log_date: args.logdate,
        warnings,
    }))
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
