//! What kymo does with hostile bytes, as one plain function a target.
//!
//! Each function takes any bytes and panics where an invariant does not hold; that is all that a fuzzer, or a test that
//! replays seeds, needs. They use the public faces of the engine and the server alone, write nothing but temporary
//! files, and give the same verdict for the same bytes each time. `README.md` tells how to run a campaign.
#![forbid(unsafe_code)]

mod ccms;
mod config;
mod decode;
mod engine_ops;
mod face;
mod http_write;
mod manifest;
mod mutate;
mod query;
mod repair;
pub mod samples;
mod segment;
mod senders;
mod snapshot;

pub use ccms::{ccms_bin, ccms_bin_repaired, ccms_json, ccms_parquet, ccms_wal, ccms_wal_repaired};
pub use config::config;
pub use decode::decode;
pub use engine_ops::engine_ops;
pub use http_write::http_write;
pub use manifest::{manifest, manifest_repaired};
pub use mutate::replay_mutated;
pub use query::query_json;
pub use segment::{segment, segment_repaired};
pub use snapshot::{snapshot, snapshot_repaired};

/// A target: panics where the bytes break an invariant.
pub type Target = fn(&[u8]);

/// All targets that must hold, by name. [`canary`] is none of them.
pub const TARGETS: [(&str, Target); 18] = [
    ("decode", decode),
    ("segment", segment),
    ("segment_repaired", segment_repaired),
    ("manifest", manifest),
    ("manifest_repaired", manifest_repaired),
    ("snapshot", snapshot),
    ("snapshot_repaired", snapshot_repaired),
    ("replay_mutated", replay_mutated),
    ("query_json", query_json),
    ("config", config),
    ("http_write", http_write),
    ("engine_ops", engine_ops),
    ("ccms_wal", ccms_wal),
    ("ccms_wal_repaired", ccms_wal_repaired),
    ("ccms_bin", ccms_bin),
    ("ccms_bin_repaired", ccms_bin_repaired),
    ("ccms_json", ccms_json),
    ("ccms_parquet", ccms_parquet),
];

/// Fails on purpose: shows that a failing target is seen as one, wherever targets are run.
///
/// # Panics
///
/// If the bytes begin with `kymo`, which a fuzzer that is led by coverage finds at once.
pub fn canary(data: &[u8]) {
    let mut found = 0;
    for (byte, wanted) in data.iter().zip(b"kymo") {
        if byte != wanted {
            return;
        }
        found += 1;
    }
    assert!(found < 4, "the canary was found, as it must be");
}
