//! Asking a running server over its own API: `kymo diagnose` and `kymo reload`.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use crate::cli::args::{Diagnose, Reload};
use crate::http::Diagnosis;
use crate::nodes::{NodesError, client};

/// Where the token stands: on a command line others could read it.
const TOKEN: &str = "KYMO_TOKEN";

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
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
    /// It has read its configuration, and goes on with the one before.
    #[error("{server} reloads nothing: {why}")]
    Configuration {
        /// Where it is.
        server: String,
        /// What is wrong with the configuration.
        why: String,
    },
}

/// Asks why a metric is not there, and gives what is to be printed.
pub(crate) async fn diagnose(options: &Diagnose) -> Result<String, AskError> {
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let cluster = options.cluster.as_ref().map(|cluster| format!("&cluster={}", encode(cluster))).unwrap_or_default();
    let (metric, host) = (encode(&options.metric), encode(&options.host));
    let path = format!("/api/diagnose?metric={metric}&host={host}{cluster}");
    let body = ask(&options.server, Method::GET, &path).await?;
    if options.json {
        return Ok(body);
    }
    let diagnosis: Diagnosis = serde_json::from_str(&body)
        .map_err(|error| AskError::Ask { server: options.server.clone(), reason: error.to_string() })?;
    // A sentence a line.
    Ok(diagnosis.verdict.replace(". ", ".\n") + "\n")
}

/// Has the configuration read again, and gives what the server says of it.
pub(crate) async fn reload(options: &Reload) -> Result<String, AskError> {
    ask(&options.server, Method::POST, "/api/reload").await.map_err(|error| match error {
        AskError::Refused { server, status: StatusCode::UNPROCESSABLE_ENTITY, text } => {
            AskError::Configuration { server, why: text }
        }
        other => other,
    })
}

/// The body of an answer with the status 200.
async fn ask(server: &str, method: Method, path: &str) -> Result<String, AskError> {
    let server = server.trim_end_matches('/');
    let failed = |error: NodesError| AskError::Ask { server: server.to_owned(), reason: error.to_string() };
    let asked = |error: reqwest::Error| failed(error.into());
    let mut request = client(TIMEOUT, None).map_err(failed)?.request(method, format!("{server}{path}"));
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(asked)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(asked)?;
    let text = String::from_utf8_lossy(&body);
    if status == StatusCode::OK {
        return Ok(text.into_owned());
    }
    let text = text.trim_end().chars().take(2000).collect();
    Err(AskError::Refused { server: server.to_owned(), status, text })
}
