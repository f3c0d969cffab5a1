//! A connection whose client must go on.
//!
//! Owns three deadlines of one connection: the head of a request must arrive, a silent connection is closed, and an
//! answer must be taken. Without them a client that says or reads nothing would keep its connection, and the thread
//! that answers it, for ever. The time of a body is not looked at here: whoever receives it knows what it is for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::app::{App, Live};
use super::turn::Turns;

/// How long a connection may be silent when the next ones may soon find no room.
const CROWDED: Duration = Duration::from_secs(1);

/// Bytes of an answer that a client must take in the time of [`super::Limits::stall`], once the answer waits for it.
const LEAST_TAKEN: usize = 64 << 10;

/// A connection with its deadlines.
pub(super) struct Socket<S> {
    stream: S,
    app: Arc<App>,
    /// The settings when it began.
    live: Arc<Live>,
    turns: Arc<Turns>,
    /// The count of turns when the client was last waited for.
    turn: u64,
    /// Whether a head has begun since.
    in_head: bool,
    /// Runs while a head is waited for.
    silent: Option<Pin<Box<Sleep>>>,
    /// What the client takes of an answer that has to wait for it.
    slow: Slow,
}

/// An answer that waits for its client: how long it has waited, and for how much.
#[derive(Default)]
struct Slow {
    /// The count of turns that this is about.
    turn: u64,
    waited: Duration,
    taken: usize,
    /// Since when it waits, and until when it may.
    stuck: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, app: Arc<App>, live: Arc<Live>, turns: Arc<Turns>) -> Self {
        // Who connects wants to say something: the first head is due at once.
        let in_head = true;
        Self { stream, app, live, turn: turns.count(), turns, in_head, silent: None, slow: Slow::default() }
    }

    /// The deadline of the head that is waited for; ready when the client is given up.
    fn wait_for_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let in_request = self.turn % 2 == 1;
        if in_request {
            return Poll::Pending;
        }
        let limits = &self.live.limits;
        let (patience, reason) = match self.in_head {
            true => (limits.head, "slow-head"),
            false if self.app.is_crowded(limits) => (limits.idle.min(CROWDED), "idle"),
            false => (limits.idle, "idle"),
        };
        ready!(self.silent.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        self.app.metrics.closed(reason);
        Poll::Ready(())
    }

    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let (turn, slow) = (self.turns.count(), &mut self.slow);
        if slow.turn != turn {
            *slow = Slow { turn, ..Slow::default() };
        }
        if let Poll::Ready(result) = written {
            if let Some((since, _)) = slow.stuck.take() {
                slow.waited += since.elapsed();
            }
            slow.taken += result.as_ref().copied().unwrap_or(0);
            if slow.taken >= LEAST_TAKEN {
                (slow.taken, slow.waited) = (0, Duration::ZERO);
            }
            return Poll::Ready(result);
        }
        let left = self.live.limits.stall.saturating_sub(slow.waited);
        let (_, stuck) = slow.stuck.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        ready!(stuck.as_mut().poll(cx));
        self.app.metrics.closed("slow-reader");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let turn = self.turns.count();
        if turn != self.turn {
            (self.turn, self.in_head, self.silent) = (turn, false, None);
        }
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            if buf.filled().len() > before && !self.in_head {
                (self.in_head, self.silent) = (true, None);
            }
            return Poll::Ready(result);
        }
        // Nothing read is what a client that has hung up looks like.
        ready!(self.wait_for_head(cx));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
