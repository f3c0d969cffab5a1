//! An answer that is written while it is sent.
//!
//! Owns the way from the thread that evaluates to the connection. Promises that an answer that could not be finished
//! is never taken for a whole one: the connection is broken off instead of ending the body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Bytes that are collected before they are sent; an answer that is not longer is sent at once, with its length.
const CHUNK: usize = 64 << 10;

/// Nobody waits for the answer any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

enum Piece {
    Part(Bytes),
    Last(Bytes),
    Failed(&'static str),
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Sink {
    /// What is not sent yet.
    pub(super) out: Vec<u8>,
    pieces: mpsc::Sender<Piece>,
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Source {
    pieces: mpsc::Receiver<Piece>,
}

/// Two ends of one answer.
pub(super) fn stream() -> (Sink, Source) {
    // One piece is on its way while the next one is written.
    let (sender, receiver) = mpsc::channel(1);
    (Sink { out: Vec::new(), pieces: sender }, Source { pieces: receiver })
}

impl Sink {
    /// Sends what was collected, if it is enough; waits while the client does not take it.
    pub(super) fn breathe(&mut self) -> Result<(), Gone> {
        if self.out.len() <= CHUNK {
            return if self.pieces.is_closed() { Err(Gone) } else { Ok(()) };
        }
        let part = std::mem::replace(&mut self.out, Vec::with_capacity(CHUNK + CHUNK / 4));
        self.pieces.blocking_send(Piece::Part(part.into())).map_err(|_| Gone)
    }

    /// The answer is whole.
    pub(super) fn finish(self) -> Result<(), Gone> {
        self.pieces.blocking_send(Piece::Last(self.out.into())).map_err(|_| Gone)
    }

    /// The answer will never be whole.
    pub(super) fn fail(self, reason: &'static str) -> Result<(), Gone> {
        self.pieces.blocking_send(Piece::Failed(reason)).map_err(|_| Gone)
    }
}

impl Source {
    /// The body, once its begin is there; the reason why there is none, `None` if the writing end just vanished.
    pub(super) async fn body(mut self) -> Result<Body, Option<&'static str>> {
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
    type Error = &'static str;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
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
            None => Err("the answer was given up"),
        }))
    }
}
