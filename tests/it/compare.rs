//! Compares one of our answers with a recorded one, by the rules of `docs/compatibility.md`.
//!
//! Pure: text in, the first difference out. Numbers are compared in decimal: ours, which has all its digits, is rounded
//! to the digits that the predecessor printed.

use crate::json::Json;

/// How freely an answer may differ: the `compare` of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Same keys, same order, same numbers.
    Exact,
    /// The predecessor adds in random order: numbers have a tolerance.
    SumOrder,
    /// `queries[i]` and the result that belongs to it stay together, the order of the pairs is free.
    UnorderedQueries,
    /// The order of siblings is free.
    UnorderedLines,
    /// `from` and `to` are the time of the last write.
    ArrivalTime,
    /// The answer depended on the time of the recording: only its outermost keys are compared.
    Nondeterministic,
}

impl Mode {
    /// The mode with the name that the recordings use.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "exact" => Self::Exact,
            "sum-order" => Self::SumOrder,
            "unordered-queries" => Self::UnorderedQueries,
            "unordered-lines" => Self::UnorderedLines,
            "from-to-are-arrival-time" => Self::ArrivalTime,
            "nondeterministic" => Self::Nondeterministic,
            _ => return None,
        })
    }
}

/// The first difference between two JSON documents. `written` is when the last write was sent and answered.
pub(crate) fn documents(recorded: &str, ours: &str, mode: Mode, written: (i64, i64)) -> Result<(), String> {
    let recorded = Json::parse_with_trailing_commas(recorded).map_err(|error| format!("the recording is {error}"))?;
    let ours = Json::parse(ours).map_err(|error| format!("our answer is {error}"))?;
    let values = Values { mode, written };
    match mode {
        Mode::UnorderedLines => values.compare("", &recorded.sorted(), &ours.sorted()),
        Mode::UnorderedQueries => values.compare("", &paired(recorded)?, &paired(ours)?),
        Mode::Nondeterministic => values.compare("", &outermost(&recorded), &outermost(&ours)),
        Mode::Exact | Mode::SumOrder | Mode::ArrivalTime => values.compare("", &recorded, &ours),
    }
}

/// Sorts the generated queries, each with its result; the results of explicit queries, which come first, stay.
fn paired(mut answer: Json) -> Result<Json, String> {
    let count = answer.get("queries").and_then(Json::list).map_or(0, <[Json]>::len);
    let results = answer.get("results").and_then(Json::list).ok_or("there are no `results`")?;
    let explicit = results.len().checked_sub(count).ok_or("there are more `queries` than `results`")?;
    let mut pairs = Vec::new();
    if let Some(Json::List(queries)) = answer.get("queries") {
        pairs.extend(queries.iter().cloned().zip(results[explicit..].iter().cloned()));
    }
    pairs.sort_by_key(|(query, _)| query.to_string());
    let (queries, generated): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let results = results[..explicit].iter().cloned().chain(generated).collect();
    if let Some(place) = answer.get_mut("queries") {
        *place = Json::List(queries);
    }
    if let Some(place) = answer.get_mut("results") {
        *place = Json::List(results);
    }
    Ok(answer)
}

/// The keys of an object, without what stands behind them.
fn outermost(answer: &Json) -> Json {
    match answer {
        Json::Object(entries) => Json::Object(entries.iter().map(|(key, _)| (key.clone(), Json::Null)).collect()),
        other => other.clone(),
    }
}

#[derive(Clone, Copy)]
struct Values {
    mode: Mode,
    written: (i64, i64),
}

impl Values {
    fn compare(self, place: &str, recorded: &Json, ours: &Json) -> Result<(), String> {
        let key = place.rsplit('.').next();
        let same = match (recorded, ours) {
            (Json::Object(theirs), Json::Object(entries)) => return self.objects(place, theirs, entries),
            (Json::List(theirs), Json::List(items)) => {
                for (index, (theirs, ours)) in theirs.iter().zip(items).enumerate() {
                    self.compare(&format!("{place}[{index}]"), theirs, ours)?;
                }
                theirs.len() == items.len()
            }
            (Json::Number(theirs), Json::Number(digits)) => self.numbers(place, theirs, digits),
            (Json::Text(theirs), Json::Text(text)) if key == Some("error") => same_error(theirs, text),
            _ => recorded == ours,
        };
        if same { Ok(()) } else { Err(format!("{place}: recorded {}, ours {}", short(recorded), short(ours))) }
    }

    fn objects(self, place: &str, recorded: &[(String, Json)], ours: &[(String, Json)]) -> Result<(), String> {
        let keys = |entries: &[(String, Json)]| entries.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        if keys(recorded) != keys(ours) {
            return Err(format!("{place}: recorded keys {:?}, ours {:?}", keys(recorded), keys(ours)));
        }
        for ((key, theirs), (_, ours)) in recorded.iter().zip(ours) {
            self.compare(&format!("{place}.{key}"), theirs, ours)?;
        }
        Ok(())
    }

    fn numbers(self, place: &str, recorded: &str, ours: &str) -> bool {
        let key = place.rsplit('.').next();
        if self.mode == Mode::ArrivalTime && matches!(key, Some("from" | "to")) {
            let (sent, answered) = self.written;
            return ours.parse().is_ok_and(|time: i64| (sent..=answered).contains(&time));
        }
        let Some((_, fraction)) = recorded.split_once('.') else { return recorded == ours };
        let (Ok(theirs), Ok(number)) = (recorded.parse::<f64>(), ours.parse::<f64>()) else { return false };
        match self.mode {
            Mode::SumOrder => {
                let unit = 10_f64.powi(-i32::try_from(fraction.len()).unwrap_or(i32::MAX));
                (number - theirs).abs() <= unit + 1e-12 * theirs.abs()
            }
            _ => unsigned_zero(&format!("{number:.*}", fraction.len())) == unsigned_zero(recorded),
        }
    }
}

/// Texts of the store are part of the contract; all others may be worded anew, but not be empty.
fn same_error(recorded: &str, ours: &str) -> bool {
    if recorded.starts_with("[METRICSTORE]") { recorded == ours } else { !ours.is_empty() }
}

/// `-0.000` is `0.000`.
fn unsigned_zero(digits: &str) -> &str {
    match digits.strip_prefix('-') {
        Some(plain) if plain.bytes().all(|byte| matches!(byte, b'0' | b'.')) => plain,
        _ => digits,
    }
}

fn short(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(recorded: &str, ours: &str, mode: Mode) -> bool {
        documents(recorded, ours, mode, (100, 101)).is_ok()
    }

    #[test]
    fn ours_is_rounded_to_the_digits_of_the_recording() {
        assert!(same("[20.800,null,-0.000]", "[20.8,null,0.0]", Mode::Exact));
        assert!(same("[10000000000000000000000.000]", "[1e22]", Mode::Exact));
        assert!(same("[0.123,0.00]", "[0.12345678,0]", Mode::Exact));
        assert!(!same("[0.124]", "[0.12345678]", Mode::Exact));
        assert!(!same("[1.000]", "[null]", Mode::Exact));
        assert!(!same("[60]", "[60.0]", Mode::Exact));
    }

    #[test]
    fn keys_their_order_and_the_texts_of_the_store_must_match() {
        assert!(!same(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, Mode::Exact));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":2}"#, Mode::Exact));
        assert!(same(r#"{"a":1,"b":2,}"#, r#"{"b":2,"a":1}"#, Mode::UnorderedLines));
        assert!(same(r#"{"error":"EOF"}"#, r#"{"error":"the body is empty"}"#, Mode::Exact));
        assert!(!same(r#"{"error":"EOF"}"#, r#"{"error":""}"#, Mode::Exact));
        assert!(!same(r#"{"error":"[METRICSTORE]\u003e x"}"#, r#"{"error":"x"}"#, Mode::Exact));
    }

    #[test]
    fn pairs_of_queries_and_results_may_change_places_but_not_partners() {
        let recorded = r#"{"queries":[{"host":"a"},{"host":"b"}],"results":[["x"],["1"],["2"]]}"#;
        let swapped = r#"{"queries":[{"host":"b"},{"host":"a"}],"results":[["x"],["2"],["1"]]}"#;
        let mixed = r#"{"queries":[{"host":"b"},{"host":"a"}],"results":[["x"],["1"],["2"]]}"#;
        assert!(same(recorded, swapped, Mode::UnorderedQueries));
        assert!(!same(recorded, mixed, Mode::UnorderedQueries));
    }

    #[test]
    fn arrival_times_lie_between_request_and_answer() {
        assert!(same(r#"{"from":7,"to":7}"#, r#"{"from":100,"to":101}"#, Mode::ArrivalTime));
        assert!(!same(r#"{"from":7,"to":7}"#, r#"{"from":7,"to":7}"#, Mode::ArrivalTime));
    }

    #[test]
    fn sums_have_a_tolerance() {
        assert!(same("[181004.800]", "[181004.80000000002]", Mode::SumOrder));
        assert!(!same("[181004.800]", "[181004.802]", Mode::SumOrder));
    }
}
