//! The server around `kymo-engine`: command line, configuration, HTTP. A library only so that tests reach its parts.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod demo;
pub mod http;
mod logging;
pub mod serve;
mod store_engine;
