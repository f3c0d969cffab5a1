//! `/metrics` is read by machines: it must be valid in the text format that its content type names.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock;
use crate::server::Site;

#[test]
fn metrics_are_valid_prometheus_text() {
    let site = Site::new(&[]);
    let server = site.serve();
    let mut client = server.client();
    // Names that need escaping, and answers of several kinds.
    let now = clock::unix_seconds();
    let strange = format!("quo\"te\\\\,cluster=alpha,hostname=back\\slash\",type=node value=1 {now}\n");
    let good = format!("cpu_load,cluster=alpha,hostname=h1,type=node value=1 {now}\n");
    for body in [&strange, &good, "cpu_load value\n"] {
        client.post("/api/write", body.as_bytes()).expect("the server answers a write");
    }
    client.get("/nowhere", b"").expect("the server answers");
    for _ in 0..2 {
        let answer = client.get("/metrics", b"").expect("the server has metrics");
        assert_eq!(answer.header("Content-Type").as_deref(), Some("text/plain; version=0.0.4"));
        let families = parse(&answer.text()).unwrap_or_else(|wrong| panic!("{wrong}\n{}", answer.text()));
        for name in ["kymo_http_requests_total", "kymo_refused_lines_total", "kymo_commit_seconds", "kymo_log_bytes"] {
            assert!(families.contains_key(name), "{name} is missing\n{}", answer.text());
        }
    }
    // The same as OpenMetrics, for those that ask for it.
    let headers = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")];
    let answer = client.request("GET", "/metrics", &headers, b"").expect("the server has metrics");
    let kind = answer.header("Content-Type");
    assert_eq!(kind.as_deref(), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = answer.text();
    let body = text.strip_suffix("# EOF\n").expect("an end");
    assert!(!body.contains("# EOF"));
    for line in body.lines() {
        let about = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP "));
        assert!(
            about.is_none_or(|about| about.split(' ').next().is_some_and(|name| !name.ends_with("_total"))),
            "{line}"
        );
    }
    assert!(body.contains("# TYPE kymo_samples counter\nkymo_samples_total "), "{body}");
    server.stop();
}

#[test]
fn the_parser_refuses_what_prometheus_refuses() {
    let good = "# HELP a Help.\n# TYPE a counter\na{x=\"y\"} 1\na{x=\"\\\\\\\"\\n\"} 2.5\n";
    assert!(parse(good).is_ok());
    for bad in [
        "a 1\n",
        "# TYPE a counter\na 1\n",
        "# HELP a Help.\n# TYPE a info\na 1\n",
        "# HELP a Help.\n# TYPE a counter\na 1\na 1\n",
        "# HELP a Help.\n# TYPE a counter\na one\n",
        "# HELP a Help.\n# TYPE a counter\na{x=\"\\y\"} 1\n",
        "# HELP a Help.\n# TYPE a counter\na{x=y} 1\n",
        "# HELP a Help.\n# TYPE a counter\na 1\n# HELP b Help.\n# TYPE b gauge\nb 1\na{x=\"\"} 1\n",
        "# HELP a Help.\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# HELP a Help.\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        "# HELP a Help.\n# TYPE a counter\na 1",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

/// The samples of one family: name and labels, and the value.
type Samples = Vec<(String, Labels, f64)>;
type Labels = Vec<(String, String)>;

/// The families of a document by name. A family is one block: HELP, TYPE, samples.
fn parse(text: &str) -> Result<BTreeMap<String, Samples>, String> {
    let body = text.strip_suffix('\n').ok_or("the last line has no end")?;
    let mut families: BTreeMap<String, (String, Samples)> = BTreeMap::new();
    let (mut current, mut helped, mut seen) = (None::<String>, None, BTreeSet::new());
    for line in body.split('\n') {
        let wrong = |what: &str| Err(format!("{what}: {line:?}"));
        if let Some(help) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = help.split_once(' ') else { return wrong("no help") };
            if families.contains_key(name) || help.is_empty() {
                return wrong("told twice, or nothing");
            }
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = kind.split_once(' ') else { return wrong("no type") };
            if helped.take().as_deref() != Some(name) {
                return wrong("no help before the type");
            }
            if !["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind) {
                return wrong("no such type");
            }
            families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
            current = Some(name.to_owned());
        } else {
            let (name, labels, value) = sample(line).ok_or_else(|| format!("no sample: {line:?}"))?;
            let Some(family) = current.as_ref().filter(|_| helped.is_none()) else { return wrong("no family") };
            let Some((kind, samples)) = families.get_mut(family) else { return wrong("no family") };
            let suffix = name.strip_prefix(family.as_str());
            let fits = match &**kind {
                "histogram" => suffix.is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix)),
                _ => suffix == Some(""),
            };
            if !fits {
                return wrong("not of this family");
            }
            if !seen.insert((name.clone(), labels.clone())) {
                return wrong("a series twice");
            }
            samples.push((name, labels, value));
        }
    }
    for (family, (kind, samples)) in &families {
        if kind == "histogram" {
            check_histogram(family, samples)?;
        }
    }
    Ok(families.into_iter().map(|(name, (_, samples))| (name, samples)).collect())
}

/// `name{label="value",...} number`.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let is_name = |name: &str| {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
    };
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"")?;
            let (value, after) = label_value(value)?;
            is_name(label).then(|| labels.push((label.to_owned(), value)))?;
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => break rest = after.strip_prefix('}')?,
            }
        }
    }
    labels.sort();
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    is_name(name).then(|| (name.to_owned(), labels, value))
}

/// The value up to its closing quote, and what follows it.
fn label_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            (_, plain) => value.push(plain),
        }
    }
}

/// Buckets rise in bound and count, and the last one holds all.
fn check_histogram(family: &str, samples: &Samples) -> Result<(), String> {
    let mut last = (f64::NEG_INFINITY, 0.0);
    for (name, labels, count) in samples.iter().filter(|(name, ..)| name.ends_with("_bucket")) {
        let bound = labels.iter().find(|(label, _)| label == "le").and_then(|(_, bound)| bound.parse::<f64>().ok());
        let bound = bound.ok_or_else(|| format!("{name} has no bound"))?;
        if bound <= last.0 || *count < last.1 {
            return Err(format!("{name} does not rise at {bound}"));
        }
        last = (bound, *count);
    }
    let all = samples.iter().find(|(name, ..)| *name == format!("{family}_count")).map(|(.., count)| *count);
    let is_whole = last.0 == f64::INFINITY && all == Some(last.1);
    if is_whole { Ok(()) } else { Err(format!("{family} does not count all")) }
}
