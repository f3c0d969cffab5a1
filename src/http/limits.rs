//! What one server may hold for its clients, and for how long.

use std::time::Duration;

/// The limits of the HTTP face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest body of a write in bytes; a longer one is answered with 413.
    pub body: usize,
    /// The longest body of a write after it was decompressed, in bytes.
    pub decoded_body: usize,
    /// Lines of a write at most.
    pub lines: usize,
    /// The longest body of any other request in bytes: a decoded JSON document takes a multiple of its text.
    pub json_body: usize,
    /// Bytes of bodies held at one time, those of writes until they are durable. A byte that finds no room waits.
    pub in_flight: usize,
    /// Connections at one time; at the limit the next ones wait, then are told 503.
    pub connections: usize,
    /// Connections of one peer (an IPv4 address, or a network of 64 bits) at one time; the next one is answered with 503.
    pub connections_per_peer: usize,
    /// Requests of one peer in a second, below `/api`; 0 is no limit.
    pub requests_per_second: u32,
    /// Points that the series of one answer may have in sum.
    pub request_points: u64,
    /// Requests that evaluate stored data at one time: queries, and those of operators.
    pub queries: usize,
    /// Large bodies of writes that are decoded at one time.
    pub decoders: usize,
    /// How long a request may wait, in sum, for permits and for the disk before it is refused: below the five seconds
    /// after which the common sender gives up.
    pub hold: Duration,
    /// From the begin of a connection, or from the first byte of a later request, to the end of the request's head.
    pub head: Duration,
    /// From the end of an answer to the first byte of the next request. A connection that is silent for longer is
    /// closed; sooner when most connections are in use.
    pub idle: Duration,
    /// From the first to the last byte of a body.
    pub body_time: Duration,
    /// How long a client may send no byte of a body, or take less than 64 KiB of an answer that waits for it.
    pub stall: Duration,
    /// How long the queries of one request may be evaluated. Looked at between two parts of a query.
    pub query_time: Duration,
    /// How long running requests may go on after shutdown was asked for.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 32 << 20,
            decoded_body: 64 << 20,
            lines: 2_000_000,
            json_body: 16 << 20,
            in_flight: 256 << 20,
            connections: 4096,
            connections_per_peer: 1024,
            requests_per_second: 0,
            request_points: 100_000_000,
            queries: 16,
            decoders: std::thread::available_parallelism().map_or(2, usize::from),
            hold: Duration::from_secs(4),
            head: Duration::from_secs(5),
            idle: Duration::from_mins(1),
            body_time: Duration::from_secs(30),
            stall: Duration::from_secs(10),
            query_time: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}
