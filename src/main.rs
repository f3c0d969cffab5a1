//! The program `kymo`.
#![forbid(unsafe_code)]

use kymo::cli::args::{self, Bench, Command};
use kymo::{bench, serve, tools};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = args::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let outcome = match command {
        Command::Serve(options) => serve::serve(&options),
        Command::CheckConfig { file } => serve::check_config(&file),
        Command::Salvage { directory, confirmed } => serve::salvage(directory, confirmed),
        Command::Inspect { file, form } => tools::inspect(&file, form).map_err(Into::into),
        Command::Verify { directory, config, json, pace } => serve::verify(&directory, config.as_deref(), json, pace),
        Command::Backup { directory, destination, config, json } => {
            serve::backup(&directory, &destination, config.as_deref(), json)
        }
        Command::Estimate { shape, json } => tools::estimate(&shape, json).map_err(Into::into),
        Command::Bench(what) => match what {
            Bench::Config { directory } => {
                bench::print_config(&directory);
                Ok(())
            }
            Bench::Checkpoints { directory, hosts, minutes } => bench::checkpoints(&directory, hosts, minutes)
                .map(|values| serve::print(&format!("{values} values\n")))
                .map_err(|error| bench::BenchError::from(error).into()),
            Bench::Write { load, shape } => bench::write(&load, shape).map_err(Into::into),
            Bench::Restart(restart) => bench::restart(&restart).map_err(Into::into),
            Bench::Query { load, shapes, requests } => bench::query(&load, &shapes, requests).map_err(Into::into),
        },
        Command::Diagnose(options) => serve::diagnose(&options),
        Command::Reload(options) => serve::reload(&options),
        Command::Cleanup { config, due, json } => serve::cleanup(config.as_deref(), due, json),
        Command::Export { what, config } => serve::export(&what, config.as_deref()),
        Command::Import { from, config, json } => serve::import(&from, config.as_deref(), json),
        Command::Version => {
            serve::print(&args::version());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kymo: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
