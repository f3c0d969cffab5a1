//! The server around `kymo-engine`: command line, configuration, HTTP. A library only so that tests reach its parts.
#![forbid(unsafe_code)]

mod archive_place;
pub mod ask;
pub mod background;
pub mod bench;
mod bucket;
pub mod cli;
mod client;
pub mod config;
pub mod demo;
pub mod http;
mod logging;
mod machine;
mod nats;
mod nodes;
mod privileges;
mod process;
mod reload;
pub mod serve;
mod steps;
mod store_engine;
mod systemd;
mod takeover;
pub mod tools;
