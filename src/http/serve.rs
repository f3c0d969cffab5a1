//! The accept loop.
//!
//! Owns the connections: how many there are, how long their clients may take, and how they end. Promises that no error
//! of a connection or of accepting ends the loop, and that running requests are finished, within a grace period, after
//! shutdown was asked for.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::app::{App, State};
use super::limits::Limits;
use super::routes::router;
use super::socket::Socket;
use super::turn::{TurnBody, Turns};

/// How long accepting pauses after an error that concerns the process, such as no free descriptors.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1 until `shutdown` completes, then finishes the running requests. Returns the number of connections
/// that had to be cut at the end of [`Limits::grace`].
pub async fn serve(
    listener: TcpListener,
    state: State,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> usize {
    let app = App::new(state, limits);
    let router = router(&app);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut failing = false;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < app.limits.connections => match accepted {
                Ok((stream, _)) => {
                    failing = false;
                    connections.spawn(connection(Arc::clone(&app), router.clone(), &graceful, stream));
                }
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    app.metrics.accept_failed();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "accepting connections fails: look at the limit of open files");
                    }
                    sleep(BACK_OFF).await;
                }
            }
        }
    }
    drop(listener);
    if timeout(app.limits.grace, graceful.shutdown()).await.is_err() {
        connections.abort_all();
    }
    let mut cut = 0;
    while let Some(ended) = connections.join_next().await {
        cut += usize::from(ended.is_err());
    }
    if cut > 0 {
        tracing::warn!(cut, "connections were still busy at the end of the grace period");
    }
    cut
}

/// Serves one connection to its end.
fn connection(
    app: Arc<App>,
    router: Router,
    graceful: &GracefulShutdown,
    stream: TcpStream,
) -> impl Future<Output = ()> + Send + use<> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers may be sent late");
    }
    let turns = Arc::new(Turns::default());
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&app), Arc::clone(&turns)));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let (turn, answer) = (turns.begin(), router.call(request));
        async move { Ok::<_, Infallible>(answer.await?.map(|body| TurnBody { body, _turn: turn })) }
    });
    // The deadlines are the socket's: hyper has one time for a silence and a slow head together. It is set all the same,
    // since without it hyper does not come to read when an answer is done.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.idle.saturating_add(app.limits.head))
        .title_case_headers(true)
        .serve_connection(socket, service);
    let connection = graceful.watch(connection);
    async move {
        let _open = app.metrics.connection();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Whether a failed accept says something about one connection only.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}
