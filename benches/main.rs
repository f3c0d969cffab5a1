//! Benches of the engine. Each figure stands next to a yardstick that is measured in the same run, so that what the
//! machine does at the time cancels out of the ratio.
//!
//! `cargo bench` runs all of them, `cargo bench -- commit` those whose name contains a word. Without `--bench`, as
//! `cargo test --benches` calls it, everything runs once on a small workload.

mod archive;
mod busy;
mod commit;
mod compare;
mod decode;
mod env;
mod history;
mod http;
mod ingest;
mod instructions;
mod json;
mod null_disk;
mod query;
mod repeats;
mod replay;
mod requests;
mod scan;
mod snapshot;

use criterion::Criterion;
use kymo::bench::workload;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--instructions").skip(1);
    if std::env::args().any(|argument| argument == "--instructions") {
        let name = arguments.find(|argument| !argument.starts_with('-'));
        return instructions::main(name.as_deref());
    }
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    decode::bench(&mut criterion);
    repeats::bench(&mut criterion);
    ingest::bench(&mut criterion);
    commit::bench(&mut criterion);
    busy::bench(&mut criterion);
    replay::bench(&mut criterion);
    snapshot::bench(&mut criterion);
    history::bench(&mut criterion);
    scan::bench(&mut criterion);
    query::bench(&mut criterion);
    json::bench(&mut criterion);
    http::bench(&mut criterion);
    archive::bench(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}
