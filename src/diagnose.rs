//! `kymo diagnose`: asks a running server why a metric of a host is not there.

use std::time::Duration;

use reqwest::{Client, StatusCode};

use crate::cli::args::Diagnose;
use crate::http::Diagnosis;
use crate::nodes::{NodesError, client};

/// Where the token stands: on a command line others could read it.
const TOKEN: &str = "KYMO_TOKEN";

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiagnoseError {
    /// The server cannot be asked.
    #[error("cannot ask {server}: {reason}")]
    Ask {
        /// Where it should be.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// It refuses to answer.
    #[error("{server} answers {status}: {text}; a token stands in the environment variable {TOKEN}")]
    Refused {
        /// Where it is.
        server: String,
        /// Its status.
        status: StatusCode,
        /// What it says.
        text: String,
    },
}

/// Asks, and gives what is to be printed.
pub(crate) async fn diagnose(options: &Diagnose) -> Result<String, DiagnoseError> {
    let server = options.server.trim_end_matches('/');
    let failed = |error: NodesError| DiagnoseError::Ask { server: server.to_owned(), reason: error.to_string() };
    let asked = |error: reqwest::Error| failed(error.into());
    let client: Client = client(TIMEOUT).map_err(asked)?;
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let cluster = options.cluster.as_ref().map(|cluster| format!("&cluster={}", encode(cluster))).unwrap_or_default();
    let (metric, host) = (encode(&options.metric), encode(&options.host));
    let url = format!("{server}/api/diagnose?metric={metric}&host={host}{cluster}");
    let mut request = client.get(url);
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(asked)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(asked)?;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body).trim_end().chars().take(500).collect();
        return Err(DiagnoseError::Refused { server: server.to_owned(), status, text });
    }
    if options.json {
        return Ok(String::from_utf8_lossy(&body).into_owned());
    }
    let diagnosis: Diagnosis = serde_json::from_slice(&body).map_err(|error| failed(error.into()))?;
    // A sentence a line.
    Ok(diagnosis.verdict.replace(". ", ".\n") + "\n")
}
