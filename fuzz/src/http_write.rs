//! Writes from end to end: bytes on a socket, the server, a store on a simulated disk, a power cut, and back through a
//! query.

use crate::face::{Face, lock};
use kymo::http::{DebugTree, Diagnosis, EachAnswer, Engine, Freed, NodeHealth, Unavailable, Written};
use kymo_engine::decode::{self, Context, LineError, Point, Scratch, Sink};
use kymo_engine::disk::sim::{Crash, SimDisk};
use kymo_engine::env::Env;
use kymo_engine::model::{Aggregation, Lsn, Metric, Metrics, Query, Request};
use kymo_engine::store::{Options, Progress, Store};
use kymo_engine::wal::SEGMENT_LEN_MIN;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

/// The longest body that is tried, in bytes.
const BODY_MAX: usize = 16 << 10;
const NOW: i64 = 1_700_000_000;
const LATE: i64 = 300;
const SKEW: i64 = 60;

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(World::new()));

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Env for Still {
    fn unix_now(&self) -> i64 {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn unique(&self) -> [u8; 16] {
        [7; 16]
    }
}

/// An interval of one second: each second is a slot of its own, whatever came before.
fn metrics() -> Metrics {
    let metric = |name: &str| Metric { name: name.into(), frequency: 1, aggregation: Aggregation::Sum };
    Metrics::new(["m", "cpu_load"].into_iter().map(metric).collect()).expect("the names are short and differ")
}

/// The store that there is at the moment; commits happen in the thread that waits for them.
#[derive(Debug, Default)]
struct Current(Mutex<Option<Arc<Store>>>);

impl Current {
    fn store(&self) -> Arc<Store> {
        Arc::clone(lock(&self.0).as_ref().expect("requests are sent while there is a store"))
    }
}

impl Engine for Current {
    fn write(
        &self,
        body: &[u8],
        default_cluster: &str,
        complete: bool,
        clusters: Option<&[String]>,
    ) -> Result<Written, Unavailable> {
        Ok(self.store().write_for(body, default_cluster, complete, clusters)?.into())
    }

    fn when_durable(&self, lsn: Lsn, done: Box<dyn FnOnce(Result<(), Unavailable>) + Send>) {
        let store = self.store();
        store.when_durable(lsn, Box::new(move |outcome| done(outcome.map_err(Into::into))));
        while store.commit_step() == Progress::Done {}
    }

    fn hosts(&self, _: &str, _: i64, _: i64) -> Result<Vec<String>, Unavailable> {
        Ok(Vec::new())
    }

    fn evaluate(&self, request: &Request, query: &Query, each: &mut EachAnswer<'_>) {
        self.store().evaluate_each(request, query, each);
    }

    fn free(&self, _: &[Vec<String>], _: i64, _: &dyn Fn() -> bool) -> Result<Option<Freed>, Unavailable> {
        Ok(None)
    }

    fn debug(&self, _: &[String]) -> Result<Option<DebugTree>, Unavailable> {
        Ok(None)
    }

    fn health(&self, _: &str, _: &str, _: &[String]) -> Result<Option<NodeHealth>, Unavailable> {
        Ok(None)
    }

    fn diagnose(&self, _: Option<&str>, _: &str, _: &str) -> Diagnosis {
        Diagnosis::default()
    }

    fn ready(&self) -> Result<(), String> {
        self.store().ready().map_err(|why| why.to_string())
    }

    fn metrics_text(&self) -> String {
        String::new()
    }
}

/// Cluster, host, metric, component, subcomponent.
type Place = [String; 5];

/// What is stored, by place and second.
type Model = BTreeMap<Place, BTreeMap<i64, u64>>;

/// What a body does to the model.
struct Expected<'a> {
    metrics: &'a Metrics,
    points: Vec<(Place, i64, u64)>,
    refused: u64,
    is_client_error: bool,
}

impl Sink for Expected<'_> {
    fn point(&mut self, point: Point<'_>) {
        let Point { metric, cluster, host, component, subcomponent, time, value, .. } = point;
        let time = time.unwrap_or(NOW);
        if !(NOW - LATE..=NOW + SKEW).contains(&time) {
            self.refused += 1;
            return;
        }
        let metric = &*self.metrics.get(metric).name;
        let place = [cluster, host, metric, component, subcomponent].map(str::to_owned);
        self.points.push((place, time, value.to_bits()));
    }

    fn refused(&mut self, error: LineError<'_>) {
        self.refused += 1;
        self.is_client_error |= error.reason.is_client_error();
    }
}

/// How a body is sent.
#[derive(Clone, Copy)]
struct Way {
    is_chunked: bool,
    is_cut: bool,
    has_cluster: bool,
    chunk: usize,
}

struct World {
    face: Face,
    current: Arc<Current>,
    metrics: Metrics,
    connection: Option<BufReader<TcpStream>>,
}

impl World {
    fn new() -> Self {
        let current = Arc::new(Current::default());
        let face = Face::new(Arc::clone(&current) as Arc<dyn Engine>);
        Self { face, current, metrics: metrics(), connection: None }
    }

    fn open(&self, disk: &SimDisk) {
        let mut options = Options::new("/data", self.metrics.clone());
        options.late_window = LATE;
        options.skew = SKEW;
        options.segment_len = SEGMENT_LEN_MIN;
        let (store, _) = Store::open(Arc::new(disk.clone()), Arc::new(Still), options).expect("the disk is well");
        *lock(&self.current.0) = Some(Arc::new(store));
    }

    /// Sends a body and judges the answer; what it may have stored beyond doubt goes into the model.
    fn write(&mut self, body: &[u8], way: Way, model: &mut Model) {
        let default_cluster = if way.has_cluster { "dc" } else { "" };
        let limits = decode::Limits::default();
        let context = Context { default_cluster, limits: &limits, complete: !way.is_cut };
        let mut expected = Expected { metrics: &self.metrics, points: Vec::new(), refused: 0, is_client_error: false };
        let sent = if way.is_cut { &body[..body.len() / 2] } else { body };
        // Nothing of a compressed body that is damaged is stored: a world of its own, which has its own tests.
        if sent.starts_with(&[0x1f, 0x8b, 0x08]) || sent.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            return;
        }
        decode::decode(sent, &self.metrics, &context, &mut Scratch::default(), &mut expected);
        let Expected { points, refused, is_client_error, .. } = expected;

        let query = if way.has_cluster { "?cluster=dc" } else { "" };
        let mut message = format!("POST /api/write{query} HTTP/1.1\r\nHost: kymo\r\n").into_bytes();
        if way.is_chunked {
            message.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in sent.chunks(way.chunk) {
                message.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                message.extend_from_slice(chunk);
                message.extend_from_slice(b"\r\n");
            }
            message.extend_from_slice(if way.is_cut { b"" } else { b"0\r\n\r\n" });
        } else {
            // A cut body is shorter than it was to be.
            let len = if way.is_cut { sent.len() + 1 } else { sent.len() };
            message.extend_from_slice(format!("Content-Length: {len}\r\n\r\n").as_bytes());
            message.extend_from_slice(sent);
        }
        let (status, header) = self.exchange(&message, way.is_cut);
        let wanted = if way.is_cut || is_client_error { 400 } else { 200 };
        assert_eq!(status, wanted, "{}", body.escape_ascii());
        let told = header.as_deref().map_or(0, |text| text.split(';').next().unwrap_or("").parse().unwrap_or(u64::MAX));
        assert!(way.is_cut || told == refused, "{header:?} where {refused} lines were refused");
        if way.is_cut {
            // Its whole lines were taken over and were not acknowledged; they are durable with whatever is next.
            while self.current.store().commit_step() == Progress::Done {}
        }
        for (place, time, bits) in points {
            model.entry(place).or_default().insert(time, bits);
        }
    }

    /// Sends a message; gives the status and the header that counts refused lines.
    fn exchange(&mut self, message: &[u8], ends: bool) -> (u16, Option<String>) {
        let kept = self.connection.take().filter(|_| !ends);
        let is_kept = kept.is_some();
        let address = self.face.address();
        let mut connection = kept.unwrap_or_else(|| connect(address));
        match talk(&mut connection, message, ends) {
            Some((status, header, stays)) => {
                self.connection = Some(connection).filter(|_| stays && !ends);
                (status, header)
            }
            // The server may have closed an idle connection.
            None if is_kept => self.exchange(message, ends),
            None => panic!("no answer to {}", message.escape_ascii()),
        }
    }

    /// Everything in the model is read back, bit for bit, and nothing else.
    fn check(&mut self, model: &Model, when: &str) {
        let (from, to) = (NOW - LATE, NOW + SKEW + 1);
        for (place, values) in model {
            let [cluster, host, metric, component, subcomponent] = place;
            let mut query = json!({"metric": metric, "host": host});
            if !component.is_empty() {
                query["type"] = component.as_str().into();
                query["type-ids"] = json!([""]);
            }
            if !subcomponent.is_empty() {
                query["subtype"] = subcomponent.as_str().into();
                query["subtype-ids"] = json!([""]);
            }
            let request = json!({"cluster": cluster, "from": from, "to": to, "with-stats": false, "with-padding": false, "queries": [query]});
            let (status, answer) = self.face.query(request.to_string().as_bytes());
            let answer: Value = serde_json::from_slice(&answer).expect("the answer is JSON");
            let series = &answer["results"][0][0];
            let data = series["data"].as_array().unwrap_or_else(|| panic!("{when}: {status}: {answer} to {request}"));
            let first = series["from"].as_i64().expect("a series begins somewhere");
            let read: BTreeMap<i64, u64> =
                (first..).zip(data).filter_map(|(time, value)| Some((time, value.as_f64()?.to_bits()))).collect();
            assert_eq!(read, *values, "{when}: {place:?}, the answer begins at {first}: {answer}");
        }
    }
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a socket of the loopback has options");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket of the loopback has options");
    BufReader::new(stream)
}

/// One exchange; nothing if the connection was closed before an answer. Also tells whether the connection stays.
fn talk(connection: &mut BufReader<TcpStream>, message: &[u8], ends: bool) -> Option<(u16, Option<String>, bool)> {
    connection.get_mut().write_all(message).ok()?;
    if ends {
        connection.get_mut().shutdown(Shutdown::Write).ok()?;
    }
    let mut line = String::new();
    connection.read_line(&mut line).ok()?;
    let status = line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (mut refused, mut len, mut stays) = (None, 0, true);
    loop {
        line.clear();
        connection.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "kymo-lines-refused" => refused = Some(value.trim().to_owned()),
            "content-length" => len = value.trim().parse().ok()?,
            "connection" => stays = !value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = vec![0; len];
    connection.read_exact(&mut body).ok()?;
    Some((status, refused, stays))
}

/// Two bytes of options, then bodies of lines with `0xff` between them, each sent as a write, whole or in chunks; or, if
/// the options say so, bytes that are written to the socket as they are.
///
/// Each write is answered with 200, or with 400 where a line deserves it or the body was cut; the header counts the
/// refused lines; afterwards every sample reads back through a query with the bits of the last value that was sent for
/// its second, also after a snapshot, and after a power cut and a start. Bytes that are no request hurt nobody else.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn http_write(data: &[u8]) {
    let Some((&[options, chunk], bodies)) = data.split_first_chunk() else { return };
    if bodies.len() > BODY_MAX {
        return;
    }
    let mut world = lock(&WORLD);
    let disk = SimDisk::new(u64::from(chunk));
    world.open(&disk);
    let mut model = Model::new();
    if options & 0xc0 == 0xc0 {
        let mut connection = connect(world.face.address());
        // The server may close before it has read everything, or answer several times.
        let sent = connection.get_mut().write_all(bodies).and_then(|()| connection.get_mut().shutdown(Shutdown::Write));
        let mut answers = Vec::new();
        let read = connection.read_to_end(&mut answers);
        assert!(sent.is_err() || read.is_err() || answers.is_empty() || answers.starts_with(b"HTTP/1."), "no HTTP");
        // What these bytes have stored is not known.
        disk.crash(Crash::Power);
        let disk = SimDisk::new(u64::from(chunk));
        world.open(&disk);
        let way = Way { is_chunked: false, is_cut: false, has_cluster: true, chunk: 1 };
        world.write(b"m,hostname=h value=1 1700000000\n", way, &mut model);
        return world.check(&model, "after hostile bytes");
    }
    let chunk = 1 + usize::from(chunk);
    let bodies: Vec<&[u8]> = bodies.split(|&byte| byte == 0xff).take(4).collect();
    for (index, body) in bodies.iter().enumerate() {
        let is_last = index + 1 == bodies.len();
        let way = Way {
            is_chunked: options & 1 != 0,
            is_cut: options & 2 != 0 && is_last,
            has_cluster: options & 4 != 0,
            chunk,
        };
        world.write(body, way, &mut model);
    }
    world.check(&model, "after the writes");
    if options & 8 != 0 {
        while world.current.store().compact_step(true).expect("the disk is well") == Progress::Done {}
        world.check(&model, "after a snapshot");
    }
    disk.crash(if options & 16 != 0 { Crash::Power } else { Crash::Kill });
    world.open(&disk);
    world.check(&model, "after a crash");
}
