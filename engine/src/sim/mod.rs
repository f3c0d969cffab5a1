//! The simulator: the engine's own steps on a simulated disk with a simulated clock, all from one seed.
//!
//! A [`Script`] is a list of [`Op`]s, drawn from a seed or made by a fuzzer. [`run`] carries it out, one step after the
//! other, against a naive model, and holds what can be read against what the model allows: the oracles are the
//! functions of `oracle`, each by its name. Nothing here is part of the store: it is compiled for tests alone.
//!
//! * `op`: what can happen. * `world`: carries it out. * `model`: what must be there. * `oracle`: the checks.
//! * `damage`: rot on a copy of the disk. * `quiet`: the end of every run. * `shrink`: fewer ops that still fail.
//! * `report`: what was reached.

mod damage;
mod model;
mod op;
mod oracle;
mod quiet;
mod read;
mod report;
mod shrink;
mod world;

pub use crate::canary::{Canary, set as set_canary};
pub use damage::Swept;
pub use op::{Line, Op, Script, Setup, When};
pub use oracle::{Failure, Oracle, o13_determinism};
pub use report::{Probe, Report};
pub use shrink::shrink;
pub use world::{Start, run, run_from, sweep};
