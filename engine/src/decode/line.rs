//! One line: what its tokens mean.

use super::cursor::Cursor;
use super::error::{At, Byte, Fault, Quoted, Refusal};
use super::names::{Names, Scratch};
use super::number::{self, NumberError};
use super::{Context, Point, line_end, skip, time};
use crate::model::Metrics;

/// Parses the line that starts `rest` and ends at `end`; `None` is a blank line or a comment. The line number of the
/// point is left to the caller.
pub(super) fn parse<'a>(
    rest: &'a [u8],
    end: usize,
    metrics: &Metrics,
    context: &Context<'a>,
    scratch: &'a mut Scratch,
) -> Result<Option<Point<'a>>, Refusal<'a>> {
    let line = rest.get(..end).unwrap_or(rest);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(start) = line.iter().position(|&byte| byte != b' ').filter(|&start| line.get(start) != Some(&b'#')) else {
        return Ok(None);
    };
    let limit = context.limits.line_bytes;
    if line.len() > limit {
        let fault = Fault::LineTooLong { length: line.len(), limit };
        return Err(At::new(limit, fault).refuse("", ""));
    }

    let mut cursor = Cursor::new(line);
    cursor.seek(start);
    let measurement = cursor.measurement().map_err(|at| at.refuse("", ""))?;
    let metric_name = measurement.unescape(&mut scratch.metric);
    let Some(metric) = metrics.find(metric_name.as_bytes()) else {
        let fault = Fault::UnknownMetric { name: Quoted(metric_name.as_bytes()) };
        return Err(At::new(start, fault).refuse(metric_name, ""));
    };
    let names = Names::read(&mut cursor, context.default_cluster, &mut scratch.names)
        .map_err(|at| at.refuse(metric_name, ""))?;
    let refuse = |at: At<'a>| at.refuse(metric_name, names.host);
    names.check(context).map_err(|fault| refuse(cursor.fault(fault)))?;
    let value = fields(&mut cursor, rest).map_err(refuse)?;
    let time = timestamp(&mut cursor).map_err(refuse)?;

    let Names { cluster, host, component, subcomponent } = names;
    Ok(Some(Point { line: 0, metric, cluster, host, component, subcomponent, time, value }))
}

/// Reads all fields and gives the last of them.
fn fields<'a>(cursor: &mut Cursor<'a>, rest: &'a [u8]) -> Result<f64, At<'a>> {
    loop {
        let value = field(cursor, rest)?;
        if cursor.peek() != Some(b',') {
            return Ok(value);
        }
        cursor.bump();
    }
}

/// The value of the next field. The whole field is read before its key is looked at, as the predecessor does.
fn field<'a>(cursor: &mut Cursor<'a>, rest: &'a [u8]) -> Result<f64, At<'a>> {
    let key_pos = cursor.pos();
    let key = cursor.field_key()?;
    let pos = cursor.pos();
    let value = match cursor.peek() {
        Some(b'-' | b'.' | b'0'..=b'9') => {
            let text = cursor.plain_value();
            number::parse(text).map_err(|error| At::new(pos, number_fault(error, key, text)))
        }
        Some(b't' | b'T' | b'f' | b'F') => {
            cursor.plain_value();
            Err(At::new(pos, Fault::ValueKind { kind: "bool" }))
        }
        Some(b'"') => return Err(string_fault(rest, pos, key, key_pos)),
        None | Some(b' ' | b',' | b'\r') => Err(cursor.fault(Fault::MissingValue { key: Quoted(key.as_bytes()) })),
        Some(_) => {
            let value = Quoted(cursor.plain_value());
            Err(At::new(pos, Fault::ValueStart { key: Quoted(key.as_bytes()), value }))
        }
    };
    let is_well_formed = match &value {
        Ok(_) => true,
        Err(at) => matches!(at.fault, Fault::ValueKind { .. } | Fault::NumberSpelling { .. }),
    };
    if is_well_formed && key != "value" {
        return Err(At::new(key_pos, Fault::FieldKey { key: Quoted(key.as_bytes()) }));
    }
    value
}

#[cold]
fn number_fault<'a>(error: NumberError, key: &'a str, text: &'a [u8]) -> Fault<'a> {
    let key = Quoted(key.as_bytes());
    match error {
        NumberError::Malformed(problem) => Fault::Value { key, problem },
        NumberError::OutOfRange => Fault::Value { key, problem: "line-protocol value out of range" },
        NumberError::Spelling => Fault::NumberSpelling { key, value: Quoted(text) },
    }
}

/// What is wrong with a field whose value is a string, which starts at `pos`: at best that it is one.
#[cold]
fn string_fault<'a>(rest: &'a [u8], pos: usize, key: &'a str, key_pos: usize) -> At<'a> {
    let quoted = Quoted(key.as_bytes());
    let end = skip::string_end(rest, pos);
    match end.map(|end| (end, rest.get(end))) {
        Some((_, next)) if skip::ends_field(next) && key == "value" => {
            At::new(pos, Fault::ValueKind { kind: "string" })
        }
        Some((_, next)) if skip::ends_field(next) => At::new(key_pos, Fault::FieldKey { key: quoted }),
        Some((end, Some(&next))) if end <= line_end(rest) => {
            At::new(end, Fault::AfterString { key: quoted, found: Byte(next) })
        }
        // A quote in a later line that does not end the string well belongs to that line.
        _ => At::new(pos, Fault::OpenString { key: quoted }),
    }
}

/// The time behind the fields, if there is one.
fn timestamp<'a>(cursor: &mut Cursor<'a>) -> Result<Option<i64>, At<'a>> {
    cursor.skip_spaces();
    let mut text = cursor.rest();
    while let Some(shorter) = text.strip_suffix(b" ") {
        text = shorter;
    }
    if text.is_empty() {
        return Ok(None);
    }
    time::parse(text).map(Some).ok_or_else(|| cursor.fault(Fault::Timestamp { text: Quoted(text) }))
}
