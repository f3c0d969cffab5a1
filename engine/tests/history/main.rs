//! The history of a store: what snapshots, merges, frees, retention and restarts make of what was written.
//!
//! * `metamorphic`: none of them, in any order and cut off anywhere, changes an answer beyond what the model says.
//! * `archive`: days that leave for the archive, and one query over all tiers.
//! * `damage`: a small data directory with every byte of its snapshots flipped, cut off or exchanged.
//! * `counters`: what a day of a host costs on the disk, and what a series costs in memory.
//! * `fixtures`: data directories of earlier versions are read as they were written.
//!
//! All go through `lab` (the steps of a store called by hand, on a simulated disk) and `model` (the naive one).

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not the functions that they share")]

mod archive;
mod counters;
mod damage;
mod fixtures;
mod lab;
mod metamorphic;
mod model;
