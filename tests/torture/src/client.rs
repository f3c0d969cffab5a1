//! What the rigs say to a server over HTTP.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::Agent;

/// How long an answer may take. The server answers a write that it cannot take in well below this.
const PATIENCE: Duration = Duration::from_mins(1);

/// One client: it keeps its connection, and hides no status.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
}

/// A status and a body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What stands in the header that counts refused lines.
    pub(crate) refused: Option<String>,
    pub(crate) text: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
        Self { agent: config.into(), base: format!("http://{address}") }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, String> {
        answer(self.agent.get(format!("{}{path}", self.base)).call())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Result<Answer, String> {
        answer(self.agent.post(format!("{}{path}", self.base)).send(body))
    }

    /// The results of a query request, one list a query.
    pub(crate) fn query(&self, request: &Value) -> Result<Vec<Value>, String> {
        let answer = self.post("/api/query", &request.to_string())?;
        if answer.status != 200 {
            return Err(format!("a query has status {}: {}", answer.status, answer.text));
        }
        let mut answer: Value = serde_json::from_str(&answer.text).map_err(|error| format!("no JSON: {error}"))?;
        match answer["results"].take() {
            Value::Array(results) => Ok(results),
            _ => Err("an answer without results".to_owned()),
        }
    }

    /// The value of a counter of the server itself.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let answer = self.get("/metrics").ok()?;
        answer.text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, String> {
    let mut response = result.map_err(|error| error.to_string())?;
    let refused = response.headers().get("kymo-lines-refused").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(1 << 30).read_to_string().map_err(|error| error.to_string())?;
    Ok(Answer { status, refused, text })
}
