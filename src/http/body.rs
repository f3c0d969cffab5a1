//! Receiving the body of a request within its limits.
//!
//! Owns the one place where bytes of clients pile up. A byte is kept only when it has a permit: waiting for permits is
//! the back-pressure, and a body of known length waits before its first byte, holding nothing. Who promises much and
//! sends little holds little. Tells a body that arrived whole from one that was cut.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use memchr::memchr_iter;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::app::{App, CallError, Hold};
use super::inflate::{self, Inflate, InflateError};
use super::json::JsonError;

/// How long what a refused client still sends is read and dropped, so that it gets to read the answer: closing a socket
/// with unread bytes makes the kernel throw the answer away.
const LINGER: Duration = Duration::from_millis(500);

/// Bytes that are read and dropped at most.
const LINGER_BYTES: usize = 16 << 20;

/// Bytes of a body that are worked on at once: that takes less time than handing them to another thread is worth.
const SMALL: usize = 64 << 10;

/// Bytes of a body that get their permits before the first one is read.
const EAGER: usize = 64 << 10;

/// Bytes of a body that is taken as it lies in the connection's buffer, if it came in one piece: a shorter one is soon
/// copied, and would keep a buffer that may be many times its length.
const IN_PLACE: RangeInclusive<usize> = 8 << 10..=EAGER;

/// Bytes of a compressed body that are decompressed at once: what comes of them is not yet permitted.
const PIECE: usize = 4 << 10;

/// A received body. Its permits are given back when it is dropped.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    /// False when the client went away, stalled, or broke the framing before the end.
    pub(super) complete: bool,
    _permits: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// Lets go of the bytes; their permits are kept.
    pub(super) fn consume(&mut self) {
        self.bytes = Bytes::new();
    }

    /// Whether it may be worked on by the threads that serve connections.
    pub(super) fn is_small(&self) -> bool {
        self.bytes.len() <= SMALL
    }

    /// Reads it as a document, which is wrong if the body was cut.
    pub(super) async fn decode<T: Send + 'static>(
        self,
        app: &App,
        hold: &mut Hold,
        decode: fn(&[u8]) -> Result<T, JsonError>,
    ) -> Result<Result<T, JsonError>, CallError> {
        let whole = move |body: Self| match decode(&body.bytes) {
            Ok(_) if !body.complete => Err(JsonError::Cut),
            decoded => decoded,
        };
        if self.is_small() { Ok(whole(self)) } else { app.call(hold, move |_| whole(self)).await }
    }
}

/// Why a body was not received.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is longer than it may be.
    #[error("the body is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// It has more lines than it may have.
    #[error("the body has more than {limit} lines")]
    TooManyLines {
        /// The limit.
        limit: usize,
    },
    /// It was compressed, and cannot be decompressed.
    #[error("{0}")]
    Inflate(#[from] InflateError),
    /// Its bytes got no permit in time, or no turn to be decompressed.
    #[error("the server is overloaded: too many bytes of writes are waiting")]
    Overload,
}

impl BodyError {
    /// The name to count by.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Inflate(InflateError::TooLong(_)) => "body-too-long",
            Self::TooManyLines { .. } => "body-lines",
            Self::Inflate(InflateError::Ratio) => "body-ratio",
            Self::Inflate(InflateError::Broken(_)) => "body-broken",
            Self::Overload => "overload",
        }
    }
}

/// Receives a body of at most `limit` bytes, as it is.
pub(super) async fn receive(app: &App, body: Body, limit: usize, hold: &mut Hold) -> Result<Received, BodyError> {
    receive_as(app, body, limit, None, hold).await
}

/// Receives a body of lines, decompressed if its first bytes say so.
pub(super) async fn receive_lines(app: &App, body: Body, hold: &mut Hold) -> Result<Received, BodyError> {
    let live = app.live();
    let received = receive_as(app, body, live.limits.body, Some(live.limits.decoded_body), hold).await?;
    let limit = live.limits.lines;
    // Only a body of more bytes can have more lines.
    let too_many = received.bytes.len() > limit && memchr_iter(b'\n', &received.bytes).count() > limit;
    if too_many { Err(BodyError::TooManyLines { limit }) } else { Ok(received) }
}

async fn receive_as(
    app: &App,
    mut body: Body,
    limit: usize,
    inflated: Option<usize>,
    hold: &mut Hold,
) -> Result<Received, BodyError> {
    let result = fill(app, &mut body, limit, inflated, hold).await;
    if result.is_err() {
        discard(body).await;
    }
    result
}

async fn fill(
    app: &App,
    body: &mut Body,
    limit: usize,
    inflated: Option<usize>,
    hold: &mut Hold,
) -> Result<Received, BodyError> {
    let live = app.live();
    let too_long = BodyError::TooLong { limit };
    let announced = match body.size_hint().exact() {
        Some(length) => usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(too_long)?,
        None => 0,
    };
    let mut held = Held { app, permits: None, count: 0 };
    held.grow(announced.min(EAGER), hold).await?;
    let mut bytes = Vec::new();
    let (mut received, mut inflate, mut is_known) = (0, None, inflated.is_none());

    let end = Instant::now() + live.limits.body_time;
    let complete = loop {
        let by = end.min(Instant::now() + live.limits.stall);
        let data = match timeout_at(by, body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(None) => break true,
            Ok(Some(Err(_))) => {
                app.metrics.refused("body-cut");
                break false;
            }
            Err(_) => {
                app.metrics.refused("slow-body");
                break false;
            }
        };
        received += data.len();
        if received > limit {
            return Err(BodyError::TooLong { limit });
        }
        if let Some(inflate) = &mut inflate {
            held.inflate(inflate, &data, &mut bytes, hold).await?;
            continue;
        }
        let is_whole = data.len() == announced && IN_PLACE.contains(&announced);
        if is_whole && !(inflated.is_some() && inflate::is_compressed(&data)) {
            return Ok(Received { bytes: data, complete: true, _permits: held.permits });
        }
        held.cover(bytes.len() + data.len(), announced, hold).await?;
        bytes.reserve_exact(held.count.saturating_sub(bytes.len()));
        bytes.extend_from_slice(&data);
        if !is_known && bytes.len() >= inflate::MAGIC {
            is_known = true;
            inflate = inflated.and_then(|limit| Inflate::of(&bytes, limit));
            if let Some(inflate) = &mut inflate {
                let compressed = std::mem::take(&mut bytes);
                held.inflate(inflate, &compressed, &mut bytes, hold).await?;
            }
        }
    };
    if let Some(inflate) = inflate.as_mut().filter(|_| complete) {
        inflate.finish()?;
        inflate.take(&mut bytes);
        held.cover(bytes.len(), 0, hold).await?;
    }
    Ok(Received { bytes: bytes.into(), complete, _permits: held.permits })
}

/// The permits for the bytes of one body.
struct Held<'a> {
    app: &'a App,
    permits: Option<OwnedSemaphorePermit>,
    count: usize,
}

impl Held<'_> {
    /// Takes permits for `length` bytes, and for as many again as are held, up to `announced`: who promises a long body
    /// and sends little of it gets no more than twice what it sends.
    async fn cover(&mut self, length: usize, announced: usize, hold: &mut Hold) -> Result<(), BodyError> {
        if length <= self.count {
            return Ok(());
        }
        self.grow(length.max(announced.min(2 * self.count)) - self.count, hold).await
    }

    /// Takes `count` more permits.
    async fn grow(&mut self, count: usize, hold: &mut Hold) -> Result<(), BodyError> {
        let permits = u32::try_from(count).map_err(|_| BodyError::Overload)?;
        if permits == 0 {
            return Ok(());
        }
        let more = hold.wait(Arc::clone(&self.app.bytes).acquire_many_owned(permits)).await;
        let more = more.and_then(Result::ok).ok_or(BodyError::Overload)?;
        match &mut self.permits {
            Some(permits) => permits.merge(more),
            None => self.permits = Some(more),
        }
        self.count += count;
        Ok(())
    }

    /// Decompresses `data`, a piece at a time, and covers what comes of it.
    async fn inflate(
        &mut self,
        inflate: &mut Inflate,
        data: &[u8],
        bytes: &mut Vec<u8>,
        hold: &mut Hold,
    ) -> Result<(), BodyError> {
        for piece in data.chunks(PIECE) {
            // Piece by piece: who sends slowly keeps nobody waiting.
            let turn = hold.wait(self.app.inflaters.acquire()).await;
            let turn = turn.and_then(Result::ok).ok_or(BodyError::Overload)?;
            inflate.push(piece)?;
            inflate.take(bytes);
            drop(turn);
            self.cover(bytes.len(), 0, hold).await?;
            // Others are served by this thread too.
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// Reads and drops what a client still sends, for a moment.
pub(super) async fn discard(mut body: Body) {
    let rest = async {
        let mut dropped = 0;
        while dropped < LINGER_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            dropped += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    if timeout(LINGER, rest).await.is_err() {
        tracing::debug!("a refused client is still sending");
    }
}
