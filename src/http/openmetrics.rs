//! OpenMetrics 1.0 out of the Prometheus text that the parts of the server write.
//!
//! The two differ in what a counter's family is called, in how a whole number is written where it is a bound, and in
//! how a document ends.

use std::fmt::Write as _;

/// The content type.
pub(super) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a header `Accept` names the format. Who names it prefers it.
pub(super) fn is_wanted(accept: &str) -> bool {
    accept
        .split(',')
        .any(|range| range.split(';').next().is_some_and(|name| name.trim() == "application/openmetrics-text"))
}

/// Converts a whole document, each line ended.
pub(super) fn convert(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        let about = ["# HELP ", "# TYPE "].iter().find_map(|begin| Some((*begin, line.strip_prefix(begin)?)));
        // Writing to a string does not fail.
        match about.and_then(|(begin, rest)| Some((begin, rest.split_once(' ')?))) {
            Some((begin, (name, rest))) => {
                writeln!(out, "{begin}{} {rest}", name.strip_suffix("_total").unwrap_or(name)).unwrap_or_default();
            }
            None => writeln!(out, "{}", with_bound(line).as_deref().unwrap_or(line)).unwrap_or_default(),
        }
    }
    out + "# EOF\n"
}

/// A sample whose bound is a whole number, with the bound as a number that may have a fraction.
fn with_bound(line: &str) -> Option<String> {
    const BOUND: &str = "le=\"";
    let begin = line.find(BOUND)? + BOUND.len();
    let (front, rest) = line.split_at(begin);
    let (bound, back) = rest.split_once('"')?;
    bound.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{front}{bound}.0\"{back}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_counters_lose_their_suffix_and_the_document_has_an_end() {
        let text = "# HELP a_total All of a_total.\n# TYPE a_total counter\na_total{x=\"y\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n\
                    # HELP c C.\n# TYPE c histogram\nc_bucket{le=\"1\"} 3\nc_bucket{le=\"2.5\"} 3\nc_bucket{le=\"+Inf\"} 3\n";
        let wanted = "# HELP a All of a_total.\n# TYPE a counter\na_total{x=\"y\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n\
                      # HELP c C.\n# TYPE c histogram\nc_bucket{le=\"1.0\"} 3\nc_bucket{le=\"2.5\"} 3\nc_bucket{le=\"+Inf\"} 3\n# EOF\n";
        assert_eq!(convert(text), wanted);
    }

    #[test]
    fn it_is_wanted_where_it_is_named() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5";
        assert!(is_wanted(prometheus) && is_wanted("text/plain, application/openmetrics-text"));
        assert!(!is_wanted("") && !is_wanted("*/*") && !is_wanted("text/plain;version=0.0.4"));
    }
}
