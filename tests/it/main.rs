//! The server as its users see it: a real `kymo` process, real sockets, real files.
//!
//! * `recordings`: the predecessor's recorded answers; what differs stands in `docs/compatibility.md`.
//! * `bench`: the load tool counts what it did.
//! * `kill`: what was acknowledged survives SIGKILL, bit for bit.
//! * `cli`: exit codes, messages, salvage, clean stops.
//! * `life`: new settings without a restart, what the service manager is told, whom the server becomes.
//! * `import`: the predecessor's recorded checkpoints, and what is left of damaged ones, are served.
//! * `limits`: cut bodies, huge bodies, many clients.
//! * `hostile`: clients that want to hurt; memory, counters and whoever behaves.
//! * `frontend`: what the predecessor's front end asks for, in its shape and time.
//! * `refusals`: what is not stored is told, and what is good is stored beside it.
//! * `metrics`: `/metrics` is valid Prometheus text.
//! * `nats`: what arrives by messages is stored, and what a stream was told survives SIGKILL of either side.
//! * `instruments`: dashboard, alerts and metrics agree; why a metric is not there can be asked.
//! * `readme`: the first command of the README does what the README says.
//! * `tools`: what inspect, verify, backup and estimate find is what is there.
//! * `tokens`, `tls`: who may do what, and how nobody listens in.
//! * `archive`: what is archived, `DuckDB`, Polars and pyarrow read, and kymo answers from it.
//! * `bucket`: the archive in a bucket, against a server of the S3 protocol.
//! * `tidy`: the rules of the house that no compiler checks.
//!
//! A test owns its directory and its process and ends only that process. Addresses are picked by the kernel, so all
//! tests can run at once.

mod archive;
mod bench;
mod broker;
mod bucket;
mod cli;
mod clock;
mod compare;
mod export;
mod frontend;
mod history;
mod hostile;
mod http;
mod import;
mod instruments;
mod json;
mod kill;
mod life;
mod limits;
mod metrics;
mod nats;
mod readme;
mod recordings;
mod refusals;
mod server;
mod tidy;
mod tls;
mod tokens;
mod tools;
