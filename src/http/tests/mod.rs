//! The HTTP face through real sockets, against a store that does what a test tells it to.

mod connections;
mod limits;
mod query;
mod recorded;
mod write;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kymo_engine::model::{Answer, Lsn, Query, Request, SeriesError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{
    Access, DebugRun, DebugTree, Diagnosis, EachAnswer, Engine, Freed, Limits, NodeHealth, Settings, State,
    Unavailable, Written,
};

type Done = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;
type OnWrite = Box<dyn FnMut(&[u8]) -> Result<Written, Unavailable> + Send>;
type OnQuery = Box<dyn Fn(&Query) -> Vec<Result<Answer, SeriesError>> + Send + Sync>;

/// A store for tests.
pub(crate) struct Fake {
    /// What a write comes to.
    on_write: Mutex<OnWrite>,
    /// What a query comes to.
    on_query: OnQuery,
    /// An overview is made once this has something, if it is there.
    overviews: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    /// Where the waiters for durability go; without it everything is durable at once.
    waiters: Option<mpsc::UnboundedSender<Done>>,
    /// Body, cluster and completeness of each write.
    writes: Mutex<Vec<(Vec<u8>, String, bool)>>,
    ready: Result<(), String>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            on_write: Mutex::new(Box::new(|_| Ok(Written { lsn: Lsn(1), accepted: 1, ..Written::default() }))),
            on_query: Box::new(|_| Vec::new()),
            overviews: Mutex::default(),
            waiters: None,
            writes: Mutex::default(),
            ready: Ok(()),
        }
    }
}

impl Fake {
    pub(crate) fn writing(on_write: impl FnMut(&[u8]) -> Result<Written, Unavailable> + Send + 'static) -> Self {
        Self { on_write: Mutex::new(Box::new(on_write)), ..Self::default() }
    }

    fn answering(on_query: impl Fn(&Query) -> Vec<Result<Answer, SeriesError>> + Send + Sync + 'static) -> Self {
        Self { on_query: Box::new(on_query), ..Self::default() }
    }

    /// A store whose waiters are handed to the test.
    fn waiting() -> (Self, mpsc::UnboundedReceiver<Done>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { waiters: Some(sender), ..Self::default() }, receiver)
    }
}

impl Engine for Fake {
    fn write(
        &self,
        body: &[u8],
        default_cluster: &str,
        complete: bool,
        _: Option<&[String]>,
    ) -> Result<Written, Unavailable> {
        self.writes.lock().unwrap().push((body.to_vec(), default_cluster.to_owned(), complete));
        // A write of a test may panic.
        (self.on_write.lock().unwrap_or_else(PoisonError::into_inner))(body)
    }

    fn when_durable(&self, _: Lsn, done: Done) {
        match &self.waiters {
            Some(waiters) => waiters.send(done).unwrap_or_else(|unsent| (unsent.0)(Ok(()))),
            None => done(Ok(())),
        }
    }

    fn hosts(&self, _: &str, _: i64, _: i64) -> Result<Vec<String>, Unavailable> {
        Ok(vec!["a1".to_owned()])
    }

    fn evaluate(&self, _: &Request, query: &Query, each: &mut EachAnswer<'_>) {
        let mut answers = (self.on_query)(query).into_iter();
        while answers.next().is_some_and(|answer| each(answer).is_continue()) {}
    }

    fn free(
        &self,
        selectors: &[Vec<String>],
        to: i64,
        is_late: &dyn Fn() -> bool,
    ) -> Result<Option<Freed>, Unavailable> {
        let is_old = |selector: &&Vec<String>| selector.ends_with(&["a1".to_owned()]) && to > 1_700_000_340;
        let runs = selectors.iter().filter(is_old).count() as u64;
        Ok((!is_late()).then_some(Freed { runs, lsn: Lsn(1) }))
    }

    fn debug(&self, selector: &[String]) -> Result<Option<DebugTree>, Unavailable> {
        if let Some(overviews) = &*self.overviews.lock().unwrap() {
            overviews.recv().unwrap();
        }
        let run = |start, len, end| DebugRun { start, len, end };
        let leaf = DebugTree {
            metrics: vec![("mem_bw".to_owned(), vec![run(1_700_000_010, 3, 1_700_000_190)])],
            ..DebugTree::default()
        };
        let first = run(1_700_000_010, 5, 1_700_000_310);
        let a1 = vec![first, run(1_700_600_010, 5, 1_700_600_310)];
        let a1 = DebugTree { metrics: vec![("cpu_load".to_owned(), a1)], ..DebugTree::default() };
        let a2 = DebugTree {
            metrics: vec![("cpu_load".to_owned(), vec![first])],
            children: vec![("socket0".to_owned(), leaf)],
        };
        let alpha = DebugTree { children: vec![("a1".to_owned(), a1), ("a2".to_owned(), a2)], ..DebugTree::default() };
        let mut tree = DebugTree { children: vec![("alpha".to_owned(), alpha)], ..DebugTree::default() };
        for name in selector {
            let child = tree.children.into_iter().find(|(child, _)| child == name);
            let Some((_, child)) = child else { return Ok(None) };
            tree = child;
        }
        Ok(Some(tree))
    }

    fn health(&self, cluster: &str, node: &str, metrics: &[String]) -> Result<Option<NodeHealth>, Unavailable> {
        let (fresh, stale): (&[&str], &[&str]) = match (cluster, node) {
            ("alpha", "g1") => (&["cpu_load", "mem_used"], &["mem_bw"]),
            ("alpha", "g2") => (&[], &["cpu_load"]),
            _ => return Ok(None),
        };
        let mut health = NodeHealth::default();
        for metric in metrics {
            if fresh.contains(&metric.as_str()) {
                health.healthy += 1;
            } else if stale.contains(&metric.as_str()) {
                health.degraded.push(metric.clone());
            } else {
                health.missing.push(metric.clone());
            }
        }
        Ok(Some(health))
    }

    fn diagnose(&self, _: Option<&str>, metric: &str, host: &str) -> Diagnosis {
        Diagnosis { metric: metric.to_owned(), host: host.to_owned(), ..Diagnosis::default() }
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.clone()
    }

    fn metrics_text(&self) -> String {
        "kymo_rows 1\n".to_owned()
    }
}

/// A running server.
struct Server {
    address: SocketAddr,
    engine: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<usize>,
}

impl Server {
    async fn start(fake: Fake, limits: Limits) -> Self {
        Self::start_with(fake, limits, None).await
    }

    async fn start_with(fake: Fake, limits: Limits, jwt_public_key: Option<[u8; 32]>) -> Self {
        let access = Access { keys: jwt_public_key.into_iter().collect(), ..Access::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Arc::new(fake);
        let shared: Arc<dyn Engine> = Arc::clone(&engine) as _;
        let state = State { engine: shared, clock: Arc::new(|| 1_700_000_000) };
        let face = super::Server::new(state, Settings { limits, access, tls: None }).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move { face.serve(listener, async { stopped.await.unwrap_or_default() }).await });
        Self { address, engine, stop, task }
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// One request on its own connection.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.connect().await.ask(method, path, body).await
    }

    /// How many requests were refused for a reason.
    async fn refused(&self, reason: &str) -> u64 {
        let metrics = self.ask("GET", "/metrics", "").await.body;
        let name = format!("kymo_http_requests_refused_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
    }

    /// Stops the server; the number of connections that were cut.
    async fn stop(self) -> usize {
        drop(self.stop);
        self.task.await.unwrap()
    }
}

/// A connection that speaks HTTP byte by byte.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Reply {
        self.ask_with(method, path, "", body.as_bytes()).await
    }

    async fn ask_with(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: k\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat()).await;
        self.reply(method).await.expect("an answer")
    }

    /// More bytes; false at the end of the connection.
    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.read)).await;
        matches!(read.expect("the server neither answers nor closes"), Ok(1..))
    }

    /// Waits for the end of the connection; what was not looked at yet.
    async fn rest(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// The next answer; `None` if the connection ends before it is whole.
    async fn reply(&mut self, method: &str) -> Option<Reply> {
        let end = loop {
            match self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end,
                None if self.fill().await => {}
                None => return None,
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: String::new() };
        if method == "HEAD" {
            return Some(reply);
        }
        let mut body = Vec::new();
        if reply.header("transfer-encoding").is_some() {
            while let chunk @ 1.. = self.chunk_length().await? {
                body.extend(self.take(chunk).await?);
                self.take(2).await?;
            }
            self.take(2).await?;
        } else {
            body = self.take(reply.header("content-length")?.parse().unwrap()).await?;
        }
        reply.body = String::from_utf8(body).unwrap();
        Some(reply)
    }

    async fn chunk_length(&mut self) -> Option<usize> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.take(1).await?);
        }
        usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim_end(), 16).ok()
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }
}

/// One answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}
