//! The HTTP face of the server: routes, handlers, the JSON of the wire, authentication, limits, the accept loop.
//!
//! Owns the translation between HTTP and an [`Engine`], and what the server may hold at one time for its clients.
//! Promises: a write is answered with 200 only after the engine said that it is durable; a body that ends early is
//! never acknowledged; what is refused is counted and named; a slow or hostile client costs a bounded share of memory
//! and of connections. Never decides what a line, a sample or a query means: that is the engine's.

mod admin;
mod admit;
mod answer;
mod app;
mod auth;
mod body;
mod diagnose;
mod engine;
mod inflate;
mod json;
mod limits;
mod metrics;
mod openmetrics;
mod param;
mod parts;
mod peers;
mod query;
mod reply;
mod routes;
mod serve;
mod socket;
mod stream;
mod tls;
mod turn;
mod write;

#[cfg(test)]
pub(crate) mod tests;

pub use app::{Clock, Reload, Settings, State};
pub use auth::Access;
pub use diagnose::{Diagnosis, Refused, Seen};
pub use engine::{DebugRun, DebugTree, EachAnswer, Engine, Freed, NodeHealth, Unavailable, Written};
pub use json::write_numbers;
pub use limits::Limits;
pub use routes::{Route, routes};
pub use serve::Server;
pub use tls::{TlsError, TlsFiles, check};
