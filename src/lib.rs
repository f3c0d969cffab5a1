//! The server around `kymo-engine`: command line, configuration, HTTP. A library only so that tests reach its parts.
#![forbid(unsafe_code)]

mod archive_place;
pub mod bench;
mod bucket;
pub mod cli;
mod client;
pub mod config;
pub mod demo;
pub mod diagnose;
pub mod http;
mod logging;
mod nats;
mod nodes;
mod process;
pub mod serve;
mod steps;
mod store_engine;
pub mod tools;
