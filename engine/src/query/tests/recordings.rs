//! The predecessor's recorded answers, from its recorded lines: selection, reading, aggregation, resampling, statistics
//! and padding together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::naive::Chain;
use crate::model::{Aggregation, Answer, Query, ResampleAlgo, SeriesError};
use crate::query::{Options, Path, Series, answer, combined_paths, selectors};

/// Scenarios that begin with an empty store, and their first and last cases that are about reading.
const READING: [(&str, &[(u32, u32)]); 3] =
    [("basic", &[(1, 99)]), ("long", &[(105, 123)]), ("write", &[(125, 134), (151, 152), (154, 155), (261, 279)])];

/// Cases about the JSON of a request, which is not the engine's.
const JSON_SYNTAX: [u32; 4] = [92, 93, 94, 95];

/// Cases that the predecessor answers with an error in one order of the components and with data in the other one: the
/// second case has the answer to the first one, too.
const ANSWERED_IN_ANY_ORDER: [(u32, &str); 2] =
    [(272, "cases/274-misaligned-front-swapped.resp"), (275, "cases/276-misaligned-back-swapped.resp")];

/// The place of a series: host, component, subcomponent.
type Place = (String, String, String);

/// The configured metrics, and what was written.
struct Store {
    metrics: BTreeMap<String, (u32, Aggregation)>,
    series: BTreeMap<String, BTreeMap<Place, Chain>>,
}

fn recorded(path: &str) -> Vec<u8> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/ccms"));
    std::fs::read(root.join(path)).unwrap()
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&recorded(path)).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A number, `missing` if it is null.
fn number(value: &Value, missing: f64) -> f64 {
    value.as_f64().unwrap_or(missing)
}

impl Store {
    fn empty() -> Self {
        let metric = |(name, metric): (&String, &Value)| {
            let aggregation = match metric["aggregation"].as_str() {
                Some("sum") => Aggregation::Sum,
                Some("avg") => Aggregation::Avg,
                _ => Aggregation::None,
            };
            (name.clone(), (metric["frequency"].as_u64().unwrap().try_into().unwrap(), aggregation))
        };
        let metrics = json("config.json")["metrics"].as_object().unwrap().iter().map(metric).collect();
        Self { metrics, series: BTreeMap::new() }
    }

    /// Stores a plain line: no escapes, a timestamp in seconds.
    fn write(&mut self, line: &str) {
        let mut sections = line.split(' ');
        let mut tags = sections.next().unwrap().split(',');
        let metric = tags.next().unwrap();
        let value = sections.next().unwrap().trim_start_matches("value=").trim_end_matches('i').parse().unwrap();
        let time = sections.next().unwrap().parse().unwrap();
        let tags: BTreeMap<&str, &str> = tags.map(|tag| tag.split_once('=').unwrap()).collect();
        let tag = |key| tags.get(key).copied().unwrap_or_default();
        let component = if tag("type") == "node" { "" } else { tag("type") }.to_owned() + tag("type-id");
        let subcomponent = if component.is_empty() { String::new() } else { tag("stype").to_owned() + tag("stype-id") };
        let place = (tag("hostname").into(), component, subcomponent);
        let Some(&(frequency, _)) = self.metrics.get(metric) else { return };
        let series = self.series.entry(metric.into()).or_default();
        series.entry(place).or_insert_with(|| Chain::new(frequency)).write(time, value);
    }

    /// The answers of one query of a request.
    fn query(&self, request: &Value, query: &Value) -> Vec<Result<Answer, SeriesError>> {
        let ids = |key: &str| list(&query[key]).iter().map(text).collect();
        let wanted = Query {
            metric: text(&query["metric"]),
            host: text(&query["host"]),
            component: query["type"].as_str().map(str::to_owned),
            component_ids: ids("type-ids"),
            subcomponent: query["subtype"].as_str().map(str::to_owned),
            subcomponent_ids: ids("subtype-ids"),
            aggregate: query["aggreg"] == true,
            ..Query::default()
        };
        let Some(&(frequency, aggregation)) = self.metrics.get(&wanted.metric) else {
            return vec![Err(SeriesError::UnknownMetric(wanted.metric))];
        };
        let flag = |key: &str| request[key].as_bool().unwrap_or(true);
        let options = Options {
            from: request["from"].as_i64().unwrap_or(0),
            to: request["to"].as_i64().unwrap_or(0),
            frequency,
            aggregation,
            resolution: query["resolution"].as_i64().unwrap_or(0),
            algo: ResampleAlgo::Lttb,
            scale_by: query.get("scale-by").map_or(0.0, |factor| number(factor, f64::NAN)),
            with_stats: flag("with-stats"),
            with_data: flag("with-data"),
            with_padding: flag("with-padding"),
            point_limit: 100_000,
        };

        let on_host = |(place, _): &(&Place, &Chain)| request["cluster"] == "alpha" && place.0 == wanted.host;
        let stored: Vec<(&Place, &Chain)> =
            self.series.get(&wanted.metric).into_iter().flatten().filter(on_host).collect();
        let paths: Vec<Path<'_>> = stored.iter().map(|((_, c, s), _)| (c.as_bytes(), s.as_bytes())).collect();
        let has_data = |index: usize| stored[index].1.series().has_data(options.from, options.to, frequency);
        let combined = selectors(&wanted).into_iter().map(|selector| combined_paths(&selector, &paths, has_data));
        let found = combined.filter(|indices| !indices.is_empty());
        let children = found.map(|indices| indices.iter().map(|&index| stored[index].1.series()).collect());
        children.map(|children: Vec<Series<'_>>| answer(&children, &options)).collect()
    }
}

/// Whether a number was printed with so many decimals as was recorded.
fn is_printed(found: f64, recorded: &Value, half_a_digit: f64) -> bool {
    let recorded = number(recorded, f64::NAN);
    found.is_nan() && recorded.is_nan() || (found - recorded).abs() <= half_a_digit + found.abs() * 1e-12
}

#[track_caller]
fn assert_recorded(id: &str, found: &Result<Answer, SeriesError>, recorded: &Value) {
    let Answer { data, from, to, resolution, avg, min, max } = match found {
        Ok(answer) => answer,
        Err(error) => return assert_eq!(recorded["error"], error.to_string(), "{id}"),
    };
    let expected = list(&recorded["data"]);
    let same = data.iter().zip(expected).all(|(&found, recorded)| is_printed(found, recorded, 0.000_500_1));
    assert!(same && data.len() == expected.len(), "{id}: found {data:?}, recorded {expected:?}");
    for (key, value) in [("from", from), ("to", to), ("resolution", resolution)] {
        assert_eq!(&recorded[key], value, "{id}: {key}");
    }
    for (key, &value) in [("avg", avg), ("min", min), ("max", max)] {
        assert!(is_printed(value, &recorded[key], 0.005_000_1), "{id}: {key} is {value}, recorded {}", recorded[key]);
    }
}

#[test]
fn the_recorded_lines_give_the_recorded_answers() {
    let index = json("index.json");
    let mut compared = 0;
    for (scenario, ranges) in READING {
        let mut store = Store::empty();
        for case in list(&index["cases"]).iter().filter(|case| case["scenario"] == scenario && case["status"] == 200) {
            let id = text(&case["id"]);
            let number: u32 = id.split('-').next().unwrap().parse().unwrap();
            let about_reading = ranges.iter().any(|&(first, last)| (first..=last).contains(&number));
            if !about_reading || JSON_SYNTAX.contains(&number) {
                continue;
            }
            let body = String::from_utf8(recorded(case["body"].as_str().unwrap())).unwrap();
            if case["kind"] == "write" {
                body.lines().filter(|line| !line.is_empty()).for_each(|line| store.write(line));
                continue;
            }
            let request: Value = serde_json::from_str(&body).unwrap();
            let decided = ANSWERED_IN_ANY_ORDER.iter().find(|(decided, _)| *decided == number);
            let response = json(decided.map_or(case["response"].as_str().unwrap(), |(_, response)| response));
            for (query, results) in list(&request["queries"]).iter().zip(list(&response["results"])) {
                let found = store.query(&request, query);
                assert_eq!(found.len(), list(results).len(), "{id}: {found:?}");
                found.iter().zip(list(results)).for_each(|(found, result)| assert_recorded(&id, found, result));
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "only {compared} queries were compared");
}
