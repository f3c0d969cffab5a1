//! What an operator does with the files of a store besides serving them: look into one, check them all, copy them,
//! and reckon what a store will need.
//!
//! Promises: nothing here writes into a data directory or takes its lock, so all of it works beside a running server.
//! A file that such a server removes meanwhile is no damage; what is called damage is what a power cut cannot do and
//! what a second look finds again. Never prints: results go to the caller piece by piece.

pub mod backup;
pub mod estimate;
pub mod inspect;
mod log;
mod records;
pub mod verify;

/// Bytes of a place that are not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// What is wrong there, and with which part.
    pub what: String,
}
