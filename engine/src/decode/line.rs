//! One line: what its tokens mean.

use super::cursor::Cursor;
use super::error::{At, Byte, Fault, Quoted, Refusal};
use super::names::{Names, Scratch};
use super::number::{self, NumberError};
use super::{Context, Point, line_end, skip, time};
use crate::model::Metrics;
use crate::names::Spelling;

/// A good line: its point, and how it is spelled, if such a line can be known by that.
pub(super) type Parsed<'a> = (Point<'a>, Option<Spelling<'a>>);

/// Parses the line that starts `rest` and ends at `end`; `None` is a blank line or a comment. The line number of the
/// point is left to the caller.
pub(super) fn parse<'a>(
    rest: &'a [u8],
    end: usize,
    metrics: &Metrics,
    context: &Context<'a>,
    scratch: &'a mut Scratch,
) -> Result<Option<Parsed<'a>>, Refusal<'a>> {
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
    if let Err(fault) = names.check(context) {
        return Err(refuse(bad_names(cursor, rest, &names, fault)));
    }
    let (value, value_pos) = fields(&mut cursor, rest).map_err(refuse)?;
    cursor.skip_spaces();
    let time =
        timestamp(cursor.rest()).map_err(|text| refuse(cursor.fault(Fault::Timestamp { text: Quoted(text) })))?;

    let spelling = value_pos.and_then(|pos| spelling(line, &names, pos));
    let Names { cluster, host, component, subcomponent, .. } = names;
    Ok(Some((Point { line: 0, metric, cluster, host, component, subcomponent, time, value }, spelling)))
}

/// What is wrong with a line whose names are not taken. The predecessor takes most such names, and so answers with an
/// error if the fields deserve one.
#[cold]
fn bad_names<'a>(mut cursor: Cursor<'a>, rest: &'a [u8], names: &Names<'a>, fault: Fault<'a>) -> At<'a> {
    let of_names = cursor.fault(fault);
    if names.leave_their_directory() {
        return of_names;
    }
    let of_fields = fields(&mut cursor, rest).err();
    of_fields.filter(|at| at.fault.reason().is_client_error()).unwrap_or(of_names)
}

/// What stands around the name of the host in a line whose value is at `value_pos`.
fn spelling<'a>(line: &'a [u8], names: &Names<'a>, value_pos: usize) -> Option<Spelling<'a>> {
    let host_end = names.host_end?;
    Some(Spelling {
        front: line.get(..host_end.checked_sub(names.host.len())?)?,
        back: line.get(host_end..value_pos)?,
        by_default: !names.has_cluster,
    })
}

/// Reads all fields and gives the last of them, and where it is if it is the only one.
fn fields<'a>(cursor: &mut Cursor<'a>, rest: &'a [u8]) -> Result<(f64, Option<usize>), At<'a>> {
    let mut is_only = true;
    loop {
        let (value, pos) = field(cursor, rest)?;
        if cursor.peek() != Some(b',') {
            return Ok((value, Some(pos).filter(|_| is_only)));
        }
        is_only = false;
        cursor.bump();
    }
}

/// The value of the next field and where it is. The whole field is read before its key is looked at, as the predecessor does.
fn field<'a>(cursor: &mut Cursor<'a>, rest: &'a [u8]) -> Result<(f64, usize), At<'a>> {
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
    value.map(|value| (value, pos))
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

/// The time behind the fields and their spaces, if there is one; what stands there, if that is none.
pub(super) fn timestamp(text: &[u8]) -> Result<Option<i64>, &[u8]> {
    let mut text = text;
    while let Some(shorter) = text.strip_suffix(b" ") {
        text = shorter;
    }
    if text.is_empty() {
        return Ok(None);
    }
    time::parse(text).map(Some).ok_or(text)
}
