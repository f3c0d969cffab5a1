//! The store through its public face, on a simulated disk that crashes, fails, fills up and rots.
//!
//! * `writing`: what becomes of the lines of a body, now and after restarts.
//! * `faults`: failed writes and syncs, a full disk, a durability of its own interval.
//! * `damage`: every byte of a small log is flipped, cut off, zeroed or moved: an error that names the file, or values
//!   that were written.
//! * `salvage`: nothing is touched unasked, all that verifies is kept, and the loss stays visible.
//!
//! Crashes at any point and random lives are the simulator's (`tests/sim`). All go through `world`: the steps of a store called by hand, and a naive model of what it must hold.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not the functions that they share")]

mod damage;
mod faults;
mod salvage;
mod world;
mod writing;
