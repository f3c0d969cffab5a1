//! The accept loop.
//!
//! Owns the connections: how many there are, in sum and of one peer, how long their clients may take, and how they end.
//! Promises that no error of a connection or of accepting ends the loop, and that running requests are finished, within
//! a grace period, after shutdown was asked for. A certificate that was exchanged serves the next connection.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::app::{App, Live, Reload, Settings, State};
use super::peers::Connected;
use super::routes::{Endpoint, router};
use super::socket::Socket;
use super::tls::TlsError;
use super::turn::{TurnBody, Turns};

/// How long accepting pauses after an error that concerns the process, such as no free descriptors.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How often the files of the certificate are looked at.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_secs(10);

/// How long all connections are in use before the next one is refused: until then one may become free, and the common
/// sender waits five seconds.
const FULL_PATIENCE: Duration = Duration::from_secs(3);

/// Connections above the limit that may be told that there is no room, at one time.
const REFUSALS: usize = 64;

/// What a peer is told that has all the connections it may have.
const PEER_IS_FULL: &str = "too many connections from this address";

/// What a peer is told when the server has all the connections it may have.
const SERVER_IS_FULL: &str = "all connections are in use";

/// How long a refused peer may take to read that.
const REFUSAL_TIME: Duration = Duration::from_millis(500);

/// The HTTP face of a store.
#[derive(Clone)]
pub struct Server {
    app: Arc<App>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// Makes it; nothing is served yet. The error is one of the certificate.
    pub fn new(state: State, settings: Settings) -> Result<Self, TlsError> {
        Ok(Self { app: App::new(state, settings)? })
    }

    /// Puts other settings in force, for the next requests and connections. Gives the names of the limits that stay as
    /// they are because they need a restart; on an error everything stays.
    pub fn reload(&self, settings: Settings) -> Result<Vec<&'static str>, TlsError> {
        let reloaded = self.app.exchange(settings);
        self.app.metrics.reloaded(reloaded.is_ok());
        reloaded
    }

    /// Counts settings that were not taken before they came here.
    pub fn reload_failed(&self) {
        self.app.metrics.reloaded(false);
    }

    /// What `POST /api/reload` does; before this was called, it says that there is nothing to reload. Only the first
    /// call counts.
    pub fn on_reload(&self, reload: Reload) {
        if self.app.reload.set(reload).is_err() {
            tracing::debug!("what a reload does is set already");
        }
    }

    /// Serves HTTP/1.1 until `shutdown` completes, then finishes the running requests. Returns the number of connections
    /// that had to be cut at the end of [`super::Limits::grace`].
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> usize {
        let app = &self.app;
        let router = router(app);
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut refusals = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        let mut look = interval(LOOK_AT_CERTIFICATE);
        let mut failing = false;
        let mut full_since = None;
        loop {
            let limit = app.live().limits.connections;
            let is_full = connections.len() >= limit;
            full_since = is_full.then(|| full_since.unwrap_or_else(Instant::now));
            let refused = async {
                sleep_until(full_since.unwrap_or_else(Instant::now) + FULL_PATIENCE).await;
                listener.accept().await
            };
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                Some(_) = refusals.join_next() => {}
                _ = look.tick() => refresh_certificate(app),
                refused = refused, if is_full && refusals.len() < REFUSALS => {
                    if let Ok((stream, _)) = refused {
                        app.metrics.refused("connections");
                        refusals.spawn(refuse(stream, app.live().tls.is_some(), SERVER_IS_FULL));
                    }
                }
                accepted = listener.accept(), if !is_full => match accepted {
                    Ok((stream, address)) => {
                        failing = false;
                        let live = app.live();
                        if let Some(peer) = app.peers.connect(address.ip(), live.limits.connections_per_peer) {
                            let (app, watcher) = (Arc::clone(app), graceful.watcher());
                            connections.spawn(connection(app, live, router.clone(), watcher, peer, stream));
                        } else {
                            app.metrics.refused("connections-per-peer");
                            // More than are told at one time just see their connection closed.
                            if refusals.len() < REFUSALS {
                                refusals.spawn(refuse(stream, live.tls.is_some(), PEER_IS_FULL));
                            }
                        }
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
        if timeout(app.live().limits.grace, graceful.shutdown()).await.is_err() {
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
}

/// Loads a certificate that was exchanged.
fn refresh_certificate(app: &App) {
    let Some(refreshed) = app.live().tls.as_ref().map(super::tls::Tls::refresh) else { return };
    match refreshed {
        Ok(false) => {}
        Ok(true) => {
            app.metrics.certificate(true);
            tracing::info!("the certificate was exchanged");
        }
        Err(error) => {
            app.metrics.certificate(false);
            tracing::error!(%error, "the new certificate cannot be used: the old one stays");
        }
    }
}

/// Tells a peer why it is not served. Over TLS there is nobody to tell it to.
async fn refuse(mut stream: TcpStream, is_tls: bool, why: &str) {
    if is_tls {
        return;
    }
    let body = format!("{{\"status\":\"Service Unavailable\",\"error\":\"{why}\"}}\n");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: 5\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let tell = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with unread bytes, the kernel would throw the answer away.
        while stream.read(&mut [0; 512]).await? > 0 {}
        io::Result::Ok(())
    };
    if !matches!(timeout(REFUSAL_TIME, tell).await, Ok(Ok(()))) {
        tracing::debug!("a peer with too many connections did not listen");
    }
}

/// Serves one connection to its end.
async fn connection(
    app: Arc<App>,
    live: Arc<Live>,
    router: Router,
    watcher: Watcher,
    peer: Connected,
    stream: TcpStream,
) {
    let _open = app.metrics.connection();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers may be sent late");
    }
    let Some(tls) = &live.tls else {
        return requests(Arc::clone(&app), live, router, watcher, peer, stream).await;
    };
    let acceptor = TlsAcceptor::from(tls.config());
    match timeout(live.limits.head, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => requests(Arc::clone(&app), Arc::clone(&live), router, watcher, peer, stream).await,
        Ok(Err(error)) => {
            app.metrics.closed("tls");
            tracing::debug!(%error, "no TLS connection came about");
        }
        Err(_) => app.metrics.closed("slow-head"),
    }
}

/// Answers the requests of a connection.
async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    app: Arc<App>,
    live: Arc<Live>,
    router: Router,
    watcher: Watcher,
    peer: Connected,
    stream: S,
) {
    let (turns, peer) = (Arc::new(Turns::default()), Arc::new(peer));
    let patience = live.limits.idle.saturating_add(live.limits.head);
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&app), live, Arc::clone(&turns)));
    let router = TowerToHyperService::new(router);
    let shared = Arc::clone(&app);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let endpoint = Endpoint::of(request.uri().path());
        request.extensions_mut().insert(Arc::clone(&peer));
        let (turn, app, answer) = (turns.begin(), Arc::clone(&shared), router.call(request));
        async move {
            let response = observe(&app, endpoint, answer.await?);
            Ok::<_, Infallible>(response.map(|body| TurnBody { body, _turn: turn }))
        }
    });
    // The deadlines are the socket's: hyper has one time for a silence and a slow head together. It is set all the same,
    // since without it hyper does not come to read when an answer is done.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .title_case_headers(true)
        .serve_connection(socket, service);
    if let Err(error) = watcher.watch(connection).await {
        if error.is_parse() {
            // It was answered with 431 or 400.
            app.metrics.closed(if error.is_parse_too_large() { "long-head" } else { "malformed-head" });
        }
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts an answer, and closes the connection after an error: senders do not read its body, which would keep the
/// connection from being used again, and open a new one each time.
fn observe(app: &App, endpoint: Endpoint, mut response: Response) -> Response {
    if response.status() != StatusCode::OK {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    app.metrics.answered(endpoint, response.status());
    response
}

/// Whether a failed accept says something about one connection only.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}
