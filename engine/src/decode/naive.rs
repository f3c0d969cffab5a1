//! The same grammar in the most obvious way: copies everything, looks at everything again and again. The property tests
//! hold the real parser against it.
#![expect(clippy::arithmetic_side_effects, reason = "test code: plain, and free to panic")]

use super::{Context, Reason};
use crate::model::{MetricId, Metrics};

/// A [`super::Point`] that owns its names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owned {
    pub(super) line: u32,
    pub(super) metric: MetricId,
    pub(super) cluster: String,
    pub(super) host: String,
    pub(super) component: String,
    pub(super) subcomponent: String,
    pub(super) time: Option<i64>,
    /// As bits, so that -0 is not 0.
    pub(super) value: u64,
}

/// What each line of a whole body gives.
pub(super) fn decode(body: &[u8], metrics: &Metrics, context: &Context<'_>) -> Vec<Result<Owned, Reason>> {
    let mut lines: Vec<&[u8]> = body.split(|&byte| byte == b'\n').collect();
    if lines.last() == Some(&&b""[..]) {
        lines.pop();
    }
    let mut verdicts = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let count = physical_lines(&lines[at..]);
        let line = u32::try_from(at + 1).unwrap();
        match verdict(&lines[at..at + count].join(&b'\n'), lines[at].len(), line, metrics, context) {
            Ok(None) => {}
            Ok(Some(point)) => verdicts.push(Ok(point)),
            Err(reason) => verdicts.push(Err(reason)),
        }
        at += count;
    }
    verdicts
}

/// How many physical lines belong to the first: more are taken while a string is open, but none for a bad string.
fn physical_lines(lines: &[&[u8]]) -> usize {
    let newlines = |text: &[u8], end: usize| text[..end].split(|&byte| byte == b'\n').count() - 1;
    let mut open_at = 0;
    for count in 1..=lines.len() {
        let text = lines[..count].join(&b'\n');
        match shape(&text) {
            Shape::Done => return count,
            Shape::BadString(quote) => return newlines(&text, quote) + 1,
            Shape::Open(quote) => open_at = quote,
        }
    }
    newlines(&lines.join(&b'\n'), open_at) + 1
}

enum Shape {
    Done,
    Open(usize),
    BadString(usize),
}

fn shape(text: &[u8]) -> Shape {
    let mut at = text.iter().take_while(|&&byte| byte == b' ').count();
    if text.get(at) == Some(&b'#') || head(text, &mut at, |_| true).is_err() {
        return Shape::Done;
    }
    loop {
        let key = token(text, &mut at, b",= ", b",= ");
        if key.is_empty() || str::from_utf8(&key).is_err() || text.get(at) != Some(&b'=') {
            return Shape::Done;
        }
        at += 1;
        if text.get(at) == Some(&b'"') {
            let quote = at;
            at = match closing_quote(text, quote) {
                Some(closing) => closing + 1,
                None => return Shape::Open(quote),
            };
            if !matches!(text.get(at), None | Some(b',' | b' ' | b'\r' | b'\n')) {
                return Shape::BadString(quote);
            }
        } else if text.get(at).is_some_and(|first| b"-.0123456789tTfF".contains(first)) {
            while !matches!(text.get(at), None | Some(b',' | b' ' | b'\r' | b'\n')) {
                at += 1;
            }
        } else {
            return Shape::Done;
        }
        if text.get(at) != Some(&b',') {
            return Shape::Done;
        }
        at += 1;
    }
}

fn closing_quote(text: &[u8], quote: usize) -> Option<usize> {
    let mut at = quote + 1;
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// A token without its escapes.
fn token(text: &[u8], at: &mut usize, escapes: &[u8], stops: &[u8]) -> Vec<u8> {
    let mut token = Vec::new();
    while *at < text.len() {
        let byte = text[*at];
        if byte == b'\\' && text.get(*at + 1).is_some_and(|next| escapes.contains(next)) {
            token.push(text[*at + 1]);
            *at += 2;
        } else if byte < 0x20 || byte == 0x7f || stops.contains(&byte) {
            break;
        } else {
            token.push(byte);
            *at += 1;
        }
    }
    token
}

type Head = (String, Vec<(String, String)>);

/// Measurement and tags; an unwanted metric ends it.
fn head(text: &[u8], at: &mut usize, wanted: impl Fn(&str) -> bool) -> Result<Head, Reason> {
    let utf8 = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| Reason::Syntax);
    let nonempty = |name: String| if name.is_empty() { Err(Reason::Syntax) } else { Ok(name) };
    let measurement = nonempty(utf8(token(text, at, b", ", b", "))?)?;
    if !wanted(&measurement) {
        return Err(Reason::UnknownMetric);
    }
    let mut tags = Vec::new();
    while text.get(*at) == Some(&b',') {
        *at += 1;
        let key = nonempty(utf8(token(text, at, b",= ", b",= "))?)?;
        if text.get(*at) != Some(&b'=') {
            return Err(Reason::Syntax);
        }
        *at += 1;
        tags.push((key, nonempty(utf8(token(text, at, b",= ", b",= "))?)?));
    }
    if text.get(*at) != Some(&b' ') {
        return Err(Reason::Syntax);
    }
    while text.get(*at) == Some(&b' ') {
        *at += 1;
    }
    Ok((measurement, tags))
}

fn verdict(
    text: &[u8],
    first_line_bytes: usize,
    line: u32,
    metrics: &Metrics,
    context: &Context<'_>,
) -> Result<Option<Owned>, Reason> {
    let is_one_line = text.len() == first_line_bytes;
    let (text, first_line_bytes) = match text.strip_suffix(b"\r") {
        Some(text) if is_one_line => (text, text.len()),
        _ if text[..first_line_bytes].ends_with(b"\r") => (text, first_line_bytes - 1),
        _ => (text, first_line_bytes),
    };
    let mut at = text.iter().take_while(|&&byte| byte == b' ').count();
    if at == text.len() || text[at] == b'#' {
        return Ok(None);
    }
    if first_line_bytes > context.limits.line_bytes {
        return Err(Reason::LineTooLong);
    }
    let (measurement, tags) = head(text, &mut at, |name| metrics.find(name.as_bytes()).is_some())?;
    let metric = metrics.find(measurement.as_bytes()).unwrap();
    let names = names(&tags, context);
    let value = match names {
        Err(BadName { leaves_fields: true, reason }) => return Err(reason),
        _ => fields(text, &mut at),
    };
    if let Err(reason @ (Reason::Syntax | Reason::Value | Reason::ValueKind | Reason::FieldKey)) = value {
        return Err(reason);
    }
    let (cluster, host, component, subcomponent) = names.map_err(|bad| bad.reason)?;
    let value = value?;
    let time = std::str::from_utf8(&text[at..]).map_err(|_| Reason::Timestamp)?.trim_matches(' ');
    let time = if time.is_empty() { None } else { Some(seconds(time).ok_or(Reason::Timestamp)?) };
    Ok(Some(Owned { line, metric, cluster, host, component, subcomponent, time, value: value.to_bits() }))
}

/// A name that is not taken, and whether the predecessor does not take it either and so leaves the fields alone.
struct BadName {
    reason: Reason,
    leaves_fields: bool,
}

fn names(tags: &[(String, String)], context: &Context<'_>) -> Result<(String, String, String, String), BadName> {
    let values = |keys: &[&str]| -> Vec<String> {
        tags.iter().filter(|(key, _)| keys.contains(&key.as_str())).map(|(_, value)| value.clone()).collect()
    };
    let path = |types: Vec<String>, ids: Vec<String>| -> String { types.into_iter().rev().chain(ids).collect() };

    let cluster = values(&["cluster"]).pop().unwrap_or(context.default_cluster.to_owned());
    let host = values(&["host", "hostname"]).pop().unwrap_or_default();
    let mut types = values(&["type"]);
    let is_node = types.contains(&"node".to_owned());
    types.retain(|kind| kind != "node");
    let component = if is_node && types.is_empty() { String::new() } else { path(types, values(&["type-id"])) };
    let subcomponent = if component.is_empty() {
        String::new()
    } else {
        path(values(&["stype", "subtype"]), values(&["stype-id", "subtype-id"]))
    };

    let is_bad = |name: &str| {
        name == "."
            || name.contains("..")
            || name.contains(['/', '\\'])
            || name.bytes().any(|byte| byte.is_ascii_control())
            || name.len() > context.limits.name_bytes
    };
    let leaves_fields = [&cluster, &host].iter().any(|name| name.contains("..") || name.contains(['/', '\\']));
    let bad = |reason| Err(BadName { reason, leaves_fields });
    match () {
        () if cluster.is_empty() => bad(Reason::NoCluster),
        () if host.is_empty() => bad(Reason::NoHost),
        () if is_bad(&cluster) => bad(Reason::ClusterName),
        () if is_bad(&host) => bad(Reason::HostName),
        () if component.len().max(subcomponent.len()) > context.limits.component_bytes => bad(Reason::ComponentName),
        () => Ok((cluster, host, component, subcomponent)),
    }
}

fn fields(text: &[u8], at: &mut usize) -> Result<f64, Reason> {
    loop {
        let key = token(text, at, b",= ", b",= ");
        if key.is_empty() || str::from_utf8(&key).is_err() || text.get(*at) != Some(&b'=') {
            return Err(Reason::Syntax);
        }
        *at += 1;
        let start = *at;
        let value = if text.get(start) == Some(&b'"') {
            *at = closing_quote(text, start).ok_or(Reason::Syntax)? + 1;
            if !matches!(text.get(*at), None | Some(b',' | b' ' | b'\r' | b'\n')) {
                return Err(Reason::Syntax);
            }
            Err(Reason::ValueKind)
        } else {
            while !matches!(text.get(*at), None | Some(b',' | b' ' | b'\r')) {
                *at += 1;
            }
            plain_value(&text[start..*at])
        };
        match value {
            Err(Reason::Syntax | Reason::Value) => return value,
            _ if key != b"value" => return Err(Reason::FieldKey),
            Ok(_) if text.get(*at) == Some(&b',') => *at += 1,
            _ => return value,
        }
    }
}

fn plain_value(text: &[u8]) -> Result<f64, Reason> {
    let Some(first) = text.first() else { return Err(Reason::Syntax) };
    if b"tTfF".contains(first) {
        return Err(Reason::ValueKind);
    }
    let text = str::from_utf8(text).map_err(|_| Reason::Value)?;
    if !text.starts_with(['-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        return Err(Reason::Value);
    }
    let digits = text.strip_suffix(['i', 'u']).unwrap_or(text);
    #[expect(clippy::cast_precision_loss, reason = "as in the real one")]
    match text.as_bytes()[text.len() - 1] {
        b'i' => digits.parse::<i64>().map(|value| value as f64).map_err(|_| Reason::Value),
        b'u' => digits.parse::<u64>().map(|value| value as f64).map_err(|_| Reason::Value),
        _ => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Err(_) if is_go_number(text) => Err(Reason::NumberSpelling),
            _ => Err(Reason::Value),
        },
    }
}

/// With underscores out and a hexadecimal mantissa written as a decimal one, a number of Go is one of ours.
fn is_go_number(text: &str) -> bool {
    let lower = text.trim_start_matches('-').to_lowercase();
    if text.starts_with("--") {
        return false;
    }
    let chars: Vec<char> = lower.chars().collect();
    let hex = lower.starts_with("0x");
    let is_digit = |at: usize| chars.get(at).is_some_and(|c| c.is_digit(if hex { 16 } else { 10 }));
    for (at, &char) in chars.iter().enumerate() {
        let after_prefix = hex && at == 2;
        if char == '_' && !(at > 0 && (after_prefix || is_digit(at - 1)) && is_digit(at + 1)) {
            return false;
        }
    }
    let plain = lower.replace('_', "");
    let Some(hex_digits) = plain.strip_prefix("0x") else { return plain.parse::<f64>().is_ok() };
    let Some((mantissa, exponent)) = hex_digits.split_once('p') else { return false };
    let as_decimal: String = mantissa.chars().map(|c| if c.is_ascii_hexdigit() { '1' } else { c }).collect();
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let is_mantissa = as_decimal.chars().all(|c| c == '1' || c == '.') && as_decimal.parse::<f64>().is_ok();
    is_mantissa && !exponent.is_empty() && exponent.chars().all(|c| c.is_ascii_digit())
}

fn seconds(text: &str) -> Option<i64> {
    if text.starts_with('+') {
        return None;
    }
    let stamp = i128::from(text.parse::<i64>().ok()?);
    let per_second = [(11, 1), (14, 1_000), (17, 1_000_000), (38, 1_000_000_000)];
    let (_, per_second) = per_second.into_iter().find(|(digits, _)| stamp.abs() < 10_i128.pow(*digits))?;
    i64::try_from(stamp.div_euclid(per_second)).ok()
}
