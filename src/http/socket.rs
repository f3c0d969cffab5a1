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
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::app::App;
use super::turn::Turns;

/// How long a connection may be silent when the next ones may soon find no room.
const CROWDED: Duration = Duration::from_secs(1);

/// A TCP connection with its deadlines.
pub(super) struct Socket {
    stream: TcpStream,
    app: Arc<App>,
    turns: Arc<Turns>,
    /// The count of turns when the client was last waited for.
    turn: u64,
    /// Whether a head has begun since.
    in_head: bool,
    /// Runs while a head is waited for.
    silent: Option<Pin<Box<Sleep>>>,
    /// Runs while a write is stuck.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, app: Arc<App>, turns: Arc<Turns>) -> Self {
        // Who connects wants to say something: the first head is due at once.
        let in_head = true;
        Self { stream, app, turn: turns.count(), turns, in_head, silent: None, stuck: None }
    }

    /// The deadline of the head that is waited for; ready when the client is given up.
    fn wait_for_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let in_request = self.turn % 2 == 1;
        if in_request {
            return Poll::Pending;
        }
        let limits = &self.app.limits;
        let patience = match self.in_head {
            true => limits.head,
            false if self.app.is_crowded() => limits.idle.min(CROWDED),
            false => limits.idle,
        };
        self.silent.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx)
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let stall = self.app.limits.stall;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(stall)));
        stuck.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
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

impl AsyncWrite for Socket {
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
