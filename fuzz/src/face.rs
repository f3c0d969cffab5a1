//! The HTTP face of the server in this process, over the loopback.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use kymo::http::{Engine, Server, Settings, State};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A server with one client.
pub(crate) struct Face {
    runtime: Runtime,
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Face {
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread can be started");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = State { engine, clock: Arc::new(|| 0) };
        let server = Server::new(state, Settings::default()).expect("there is no certificate that could be wrong");
        runtime.spawn(async move { server.serve(listener, std::future::pending()).await });
        Self { runtime, address, sender: None }
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks `/api/query`; returns the status and the answer.
    pub(crate) fn query(&mut self, body: &[u8]) -> (StatusCode, Vec<u8>) {
        // An idle connection may have been closed.
        self.send(body).or_else(|_| self.send(body)).unwrap_or_else(|error| panic!("no whole answer: {error}"))
    }

    fn send(&mut self, body: &[u8]) -> Result<(StatusCode, Vec<u8>), hyper::Error> {
        let Self { runtime, address, sender } = self;
        runtime.block_on(async {
            let mut connection = match sender.take().filter(|sender| !sender.is_closed()) {
                Some(connection) => connection,
                None => connect(*address).await?,
            };
            connection.ready().await?;
            let request = Request::post("/api/query")
                .header("host", "kymo")
                .body(Full::new(Bytes::copy_from_slice(body)))
                .expect("method, path and header are valid");
            let answer = connection.send_request(request).await?;
            let status = answer.status();
            let answer = answer.into_body().collect().await?.to_bytes().to_vec();
            *sender = Some(connection);
            Ok((status, answer))
        })
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, hyper::Error> {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket of the loopback has options");
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A lock that a failed target does not keep.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
