//! The store through its public face, on a simulated disk that crashes, fails, fills up and rots.
//!
//! * `writing`: what becomes of the lines of a body, now and after restarts.
//! * `crash`: every operation of the disk is a crash point, and so is every operation of the recovery after it.
//! * `faults`: failed writes and syncs, a full disk, a durability of its own interval.
//! * `damage`: every byte of a small log is flipped, cut off, zeroed or moved: an error that names the file, or values
//!   that were written.
//! * `salvage`: nothing is touched unasked, all that verifies is kept, and the loss stays visible.
//! * `histories`: long random lives against the model.
//!
//! All go through `world`: the steps of a store called by hand, and a naive model of what it must hold.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not the functions that they share")]

mod crash;
mod damage;
mod faults;
mod histories;
mod salvage;
mod world;
mod writing;
