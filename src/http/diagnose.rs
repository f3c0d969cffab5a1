//! `/api/diagnose`: why a metric of a host is not there.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::admit::Admitted;
use super::app::App;
use super::param::param;
use super::reply::{call_error, denied, json, json_error};

/// What is known of a metric at a host: the document that `/api/diagnose` answers with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The metric that was asked for.
    pub metric: String,
    /// The host that was asked for.
    pub host: String,
    /// The interval of the metric in seconds; absent if it is not configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency: Option<u32>,
    /// The configured name that is nearest, if the metric is not configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// The clusters that have a host of this name.
    pub seen: Vec<Seen>,
    /// The last refusals that are remembered, the latest first.
    pub refusals: Vec<Refused>,
    /// The time of the server in unix seconds.
    pub now: i64,
    /// All of it in words.
    pub verdict: String,
}

/// The metric at the host of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The cluster.
    pub cluster: String,
    /// Series of the metric at the host and its components.
    pub series: usize,
    /// The end of the interval of the newest sample, in unix seconds; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<i64>,
}

/// Refused lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The metric; empty where the lines were refused whatever their metric.
    pub metric: String,
    /// The host; empty where the lines named none.
    pub host: String,
    /// Why.
    pub reason: String,
    /// When the last one was, in unix seconds.
    pub at: i64,
    /// How many there were, one after the other.
    pub count: u64,
}

/// Intervals after which a series that does not go on is told.
const LATE_INTERVALS: i64 = 5;

impl Diagnosis {
    /// Puts what is known into words.
    pub(crate) fn judge(&mut self) {
        let Self { metric, host, now, .. } = self;
        let mut words = Vec::new();
        match (self.frequency, &self.nearest) {
            (None, Some(nearest)) => words.push(format!(
                "The metric {metric:?} is not configured, so its lines are refused; the nearest configured name is \
                 {nearest:?}."
            )),
            (None, None) => words.push(format!("The metric {metric:?} is not configured, and neither is any other.")),
            (Some(_), _) if self.seen.is_empty() => words.push(format!("No line of a host {host:?} was ever stored.")),
            (Some(frequency), _) => words.extend(self.seen.iter().map(|seen| {
                let age = seen.newest.map(|newest| now.saturating_sub(newest));
                let cluster = &seen.cluster;
                match age {
                    None => format!("In cluster {cluster:?} the host is known, but not with {metric:?}."),
                    Some(age) if age > LATE_INTERVALS * i64::from(frequency) => format!(
                        "In cluster {cluster:?} there are {} series, but the newest sample is {age} s old, with an \
                         interval of {frequency} s.",
                        seen.series
                    ),
                    Some(_) => format!("In cluster {cluster:?} it arrives, in {} series.", seen.series),
                }
            })),
        }
        words.extend(self.refusals.iter().map(|refused| {
            let about = match (&*refused.metric, &*refused.host) {
                ("", _) => "of this host, whatever their metric,",
                (_, "") => "of this metric, without a host,",
                _ => "of this metric and host",
            };
            let age = now.saturating_sub(refused.at);
            format!(
                "Lines {about} were refused {} times, {age} s ago the last time: {}.",
                refused.count, refused.reason
            )
        }));
        if self.refusals.is_empty() && self.seen.iter().all(|seen| seen.newest.is_none()) {
            words.push("No refused line about it is remembered: look at whoever should send it.".to_owned());
        }
        self.verdict = words.join(" ");
    }
}

/// `GET /api/diagnose`.
pub(super) async fn diagnose(State(app): State<Arc<App>>, Admitted { bearer, request }: Admitted) -> Response {
    let (head, _) = request.into_parts();
    let text = |name| param(head.uri.query(), name).filter(|text| !text.is_empty()).map(std::borrow::Cow::into_owned);
    let (Some(metric), Some(host)) = (text("metric"), text("host")) else {
        return json_error(StatusCode::BAD_REQUEST, "'metric' and 'host' are required query parameters");
    };
    let cluster = text("cluster");
    if let Err(error) = bearer.permit_cluster(cluster.as_deref()) {
        return denied(&app, &error);
    }
    let mut hold = app.hold();
    let answer = app.call(&mut hold, move |engine| {
        let mut diagnosis = engine.diagnose(cluster.as_deref(), &metric, &host);
        diagnosis.judge();
        serde_json::to_vec(&diagnosis)
    });
    match answer.await {
        Ok(Ok(mut document)) => {
            document.push(b'\n');
            json(document)
        }
        Ok(Err(error)) => json_error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(error) => call_error(&app, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(frequency: Option<u32>, seen: &[Option<i64>], reason: Option<&str>) -> String {
        let mut diagnosis =
            Diagnosis { metric: "m".to_owned(), host: "h".to_owned(), frequency, now: 1000, ..Diagnosis::default() };
        diagnosis.nearest = frequency.is_none().then(|| "mem".to_owned());
        diagnosis.seen.extend(seen.iter().map(|&newest| Seen { cluster: "c".to_owned(), series: 2, newest }));
        diagnosis.refusals.extend(reason.map(|reason| Refused {
            metric: "m".to_owned(),
            host: "h".to_owned(),
            reason: reason.to_owned(),
            at: 990,
            count: 3,
        }));
        diagnosis.judge();
        diagnosis.verdict
    }

    #[test]
    fn the_verdict_says_what_to_do_next() {
        assert!(verdict(Some(60), &[Some(970)], None).contains("it arrives, in 2 series"));
        assert!(verdict(Some(60), &[Some(100)], None).contains("the newest sample is 900 s old"));
        assert!(verdict(Some(60), &[None], None).contains("known, but not with \"m\". No refused line"));
        assert!(verdict(Some(60), &[], None).contains("No line of a host \"h\" was ever stored. No refused line"));
        let refused = verdict(None, &[None], Some("unknown-metric"));
        assert!(refused.contains("nearest configured name is \"mem\""), "{refused}");
        assert!(
            refused.ends_with("of this metric and host were refused 3 times, 10 s ago the last time: unknown-metric.")
        );
    }
}
