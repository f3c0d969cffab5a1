//! An answer that is written while it is sent.
//!
//! Owns the way from the thread that evaluates to the connection. Promises that an answer that could not be finished
//! is never taken for a whole one: the connection is broken off instead of ending the body.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::app::{App, CallError, Hold};
use super::engine::Engine;
use super::reply::{call_error, json, unavailable};

/// Bytes that are collected before they are sent; an answer that is not longer is sent at once, with its length.
const CHUNK: usize = 64 << 10;

/// Why an answer is given up.
pub(super) const TOO_LONG: &str = "the request takes too long: ask for less at one time";

/// Nobody waits for the answer any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

enum Piece {
    Part(Bytes),
    Last(Bytes),
    Failed(Cow<'static, str>),
}

/// The writing end.
pub(super) struct Sink {
    /// What is not sent yet.
    pub(super) out: Vec<u8>,
    pieces: mpsc::Sender<Piece>,
    deadline: Instant,
    app: Arc<App>,
}

/// The sending end.
#[derive(Debug)]
struct Source {
    pieces: mpsc::Receiver<Piece>,
}

/// Answers with the JSON document that `write` makes, where waiting is allowed, when it is this request's turn.
pub(super) async fn respond(
    app: &Arc<App>,
    hold: &mut Hold,
    write: impl FnOnce(&dyn Engine, Sink) -> Result<(), Gone> + Send + 'static,
) -> Response {
    let permit = match app.turn(hold).await {
        Ok(permit) => permit,
        Err(error) => return call_error(app, error),
    };
    let (sink, source) = stream(app);
    let engine = Arc::clone(&app.engine);
    tokio::task::spawn_blocking(move || {
        if write(&*engine, sink).is_err() {
            tracing::debug!("the client of a query went away");
        }
        drop(permit);
    });
    match source.body().await {
        Ok(body) => json(body),
        Err(Some(reason)) => unavailable(app, &reason),
        Err(None) => call_error(app, CallError::Panicked),
    }
}

/// Two ends of one answer.
fn stream(app: &Arc<App>) -> (Sink, Source) {
    let deadline = Instant::now() + app.live().limits.query_time;
    // One piece is on its way while the next one is written.
    let (sender, receiver) = mpsc::channel(1);
    (Sink { out: Vec::new(), pieces: sender, deadline, app: Arc::clone(app) }, Source { pieces: receiver })
}

impl Sink {
    /// Sends what was collected, if it is enough; waits while the client does not take it, until the deadline: whoever
    /// reads slowly takes nobody's turn for longer than a long answer may.
    pub(super) fn breathe(&mut self) -> Result<(), Gone> {
        if self.out.len() <= CHUNK {
            return if self.pieces.is_closed() { Err(Gone) } else { Ok(()) };
        }
        let part = std::mem::replace(&mut self.out, Vec::with_capacity(CHUNK + CHUNK / 4));
        self.send(Piece::Part(part.into()))
    }

    fn send(&self, piece: Piece) -> Result<(), Gone> {
        let sent = Handle::current().block_on(timeout_at(self.deadline, self.pieces.send(piece)));
        if sent.is_err() {
            self.app.metrics.refused("query-time");
        }
        sent.ok().and_then(Result::ok).ok_or(Gone)
    }

    /// The answer is whole.
    pub(super) fn finish(mut self) -> Result<(), Gone> {
        let last = Piece::Last(std::mem::take(&mut self.out).into());
        self.send(last)
    }

    /// Whether the answer takes too long.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Counts the request as one that wants too much, for a reason of the metrics.
    pub(super) fn refused(&self, reason: &'static str) {
        self.app.metrics.refused(reason);
    }

    /// The answer will never be whole, because it takes too long.
    pub(super) fn give_up(self) -> Result<(), Gone> {
        self.app.metrics.refused("query-time");
        self.fail(TOO_LONG)
    }

    /// The answer will never be whole, for this reason.
    pub(super) fn fail(self, reason: impl Into<Cow<'static, str>>) -> Result<(), Gone> {
        // A client that does not even take what is before it sees that the connection is broken off.
        self.pieces.try_send(Piece::Failed(reason.into())).map_err(|_| Gone)
    }
}

impl Source {
    /// The body, once its begin is there; the reason why there is none, `None` if the writing end just vanished.
    async fn body(mut self) -> Result<Body, Option<Cow<'static, str>>> {
        match self.pieces.recv().await {
            Some(Piece::Last(bytes)) => Ok(Body::from(bytes)),
            Some(Piece::Part(begin)) => Ok(Body::new(Streamed { begin: Some(begin), pieces: Some(self.pieces) })),
            Some(Piece::Failed(reason)) => Err(Some(reason)),
            None => Err(None),
        }
    }
}

struct Streamed {
    begin: Option<Bytes>,
    /// `None` after the last piece.
    pieces: Option<mpsc::Receiver<Piece>>,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = Cow<'static, str>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Some(begin) = this.begin.take() {
            return Poll::Ready(Some(Ok(Frame::data(begin))));
        }
        let Some(pieces) = &mut this.pieces else { return Poll::Ready(None) };
        let piece = ready!(pieces.poll_recv(cx));
        Poll::Ready(Some(match piece {
            Some(Piece::Part(bytes)) => Ok(Frame::data(bytes)),
            Some(Piece::Last(bytes)) => {
                this.pieces = None;
                Ok(Frame::data(bytes))
            }
            Some(Piece::Failed(reason)) => Err(reason),
            None => Err(Cow::Borrowed("the answer was given up")),
        }))
    }
}
