//! Query requests, through the whole HTTP face: what a client can send, and what it gets.

use crate::face::{Face, lock};
use hyper::StatusCode;
use kymo::http::{DebugTree, Diagnosis, EachAnswer, Engine, Freed, NodeHealth, Unavailable, Written};
use kymo_engine::model::{Answer, Lsn, Query, Request, ResampleAlgo, SeriesError};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, Mutex};

/// The longest body that is tried, in bytes: component ids multiply.
const BODY_MAX: usize = 16 << 10;

static WATCHED: LazyLock<Mutex<Watched>> = LazyLock::new(|| {
    let seen = Arc::default();
    let face = Face::new(Arc::new(Watch { seen: Arc::clone(&seen) }));
    Mutex::new(Watched { face, seen })
});

/// A server, and what its store was asked.
struct Watched {
    face: Face,
    seen: Arc<Mutex<Option<Request>>>,
}

impl Watched {
    /// Sends a body; returns the status, the answer, and what the store was asked.
    fn exchange(&mut self, body: &[u8]) -> (StatusCode, Vec<u8>, Option<Request>) {
        *lock(&self.seen) = None;
        let (status, answer) = self.face.query(body);
        (status, answer, lock(&self.seen).take())
    }
}

/// A store that remembers what it is asked.
struct Watch {
    seen: Arc<Mutex<Option<Request>>>,
}

impl Engine for Watch {
    fn write(&self, _: &[u8], _: &str, _: bool, _: Option<&[String]>) -> Result<Written, Unavailable> {
        Ok(Written::default())
    }

    fn when_durable(&self, _: Lsn, done: Box<dyn FnOnce(Result<(), Unavailable>) + Send>) {
        done(Ok(()));
    }

    fn hosts(&self, _: &str, _: i64, _: i64) -> Result<Vec<String>, Unavailable> {
        Ok(vec!["a1".to_owned(), "a\"2\u{1}".to_owned()])
    }

    fn evaluate(&self, request: &Request, query: &Query, each: &mut EachAnswer<'_>) {
        lock(&self.seen).get_or_insert_with(|| request.clone());
        let (data, from, to) = (vec![0.1, f64::NAN, f64::INFINITY], request.from, request.to);
        let (resolution, avg) = (query.resolution, query.scale_by);
        // Whether it wants more or not, there is only this one.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = each(if query.host.is_empty() {
            Err(SeriesError::UnknownMetric(query.metric.clone()))
        } else {
            Ok(Answer { data, from, to, resolution, avg, min: -0.0, max: 1e300 })
        });
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

    fn diagnose(&self, _: Option<&str>, metric: &str, host: &str) -> Diagnosis {
        Diagnosis { metric: metric.to_owned(), host: host.to_owned(), ..Diagnosis::default() }
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn metrics_text(&self) -> String {
        String::new()
    }
}

/// The body of a query request, sent to a server.
///
/// The answer is whole and JSON, with status 200 or 400; it has one result a query; and a request that reached the store
/// reaches it as the same when it is written again.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn query_json(data: &[u8]) {
    if data.len() > BODY_MAX {
        return;
    }
    let mut watched = lock(&WATCHED);
    let (status, answer, seen) = watched.exchange(data);
    let answer: Value = serde_json::from_slice(&answer)
        .unwrap_or_else(|error| panic!("{status} with no JSON: {error}\n{}", answer.escape_ascii()));
    assert!(matches!(status, StatusCode::OK | StatusCode::BAD_REQUEST), "{status}: {answer}");
    let Some(request) = seen else { return };
    assert_eq!(status, StatusCode::OK, "what reached the store is answered");
    let results = answer["results"].as_array().expect("an answer has results");
    assert_eq!(results.len(), request.queries.len() + 2 * request.for_all_nodes.len(), "one result a query");
    let (_, _, again) = watched.exchange(json_of(&request).to_string().as_bytes());
    // As text: the missing value is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{:?}", Some(&request)), "an accepted request reads back");
}

fn json_of(request: &Request) -> Value {
    json!({
        "cluster": request.cluster,
        "queries": request.queries.iter().map(json_of_query).collect::<Vec<_>>(),
        "for-all-nodes": request.for_all_nodes,
        "from": request.from,
        "to": request.to,
        "with-stats": request.with_stats,
        "with-data": request.with_data,
        "with-padding": request.with_padding,
    })
}

fn json_of_query(query: &Query) -> Value {
    let algo = match query.resample_algo {
        ResampleAlgo::Lttb => "lttb",
        ResampleAlgo::Average => "average",
        ResampleAlgo::Simple => "simple",
    };
    let mut object = Map::new();
    object.insert("metric".to_owned(), json!(query.metric));
    object.insert("host".to_owned(), json!(query.host));
    object.insert("type-ids".to_owned(), json!(query.component_ids));
    object.insert("subtype-ids".to_owned(), json!(query.subcomponent_ids));
    object.insert("aggreg".to_owned(), json!(query.aggregate));
    object.insert("resolution".to_owned(), json!(query.resolution));
    object.insert("resample-algo".to_owned(), json!(algo));
    object.insert("scale-by".to_owned(), json!(query.scale_by));
    for (key, kind) in [("type", &query.component), ("subtype", &query.subcomponent)] {
        if let Some(kind) = kind {
            object.insert(key.to_owned(), json!(kind));
        }
    }
    Value::Object(object)
}
