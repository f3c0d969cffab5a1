//! The simulator of `kymo_engine::sim`: random runs from seeds, all crash points of small ones, and bugs put there on
//! purpose that must be found.

#![expect(clippy::disallowed_methods, reason = "a campaign lasts as long as it is told to")]
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not the functions that they share")]

mod campaign;
mod canaries;
mod exhaustive;
mod outcome;
