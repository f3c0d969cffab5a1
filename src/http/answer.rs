//! The answer to a query request as JSON.

use kymo_engine::model::{Answer, Query, Request, SeriesError};
use tokio::time::Instant;

use super::engine::Engine;
use super::json::{write_number, write_string};
use super::stream::{Gone, Sink};

/// Evaluates and writes all queries, one after the other: one is evaluated whole before its first byte is written.
/// Gives up once `deadline` has passed, or when nobody waits any more.
pub(super) fn answer(engine: &dyn Engine, request: &Request, deadline: Instant, mut sink: Sink) -> Result<(), Gone> {
    let plan = engine.plan(request);
    let generated = plan.get(request.queries.len()..).unwrap_or_default();
    sink.out.push(b'{');
    if !generated.is_empty() {
        sink.out.extend_from_slice(b"\"queries\":[");
        for (index, query) in generated.iter().enumerate() {
            comma(&mut sink.out, index);
            write_query(&mut sink.out, query);
            sink.breathe()?;
        }
        sink.out.extend_from_slice(b"],");
    }
    sink.out.extend_from_slice(b"\"results\":[");
    for (index, query) in plan.iter().enumerate() {
        if Instant::now() >= deadline {
            return sink.fail("the queries take too long: ask for less at one time");
        }
        comma(&mut sink.out, index);
        sink.out.push(b'[');
        for (index, series) in engine.evaluate(request, query).into_iter().enumerate() {
            comma(&mut sink.out, index);
            match series {
                Ok(series) => write_series(&mut sink, request.with_data, &series)?,
                Err(error) => write_error(&mut sink.out, &error),
            }
            sink.breathe()?;
        }
        sink.out.push(b']');
        sink.breathe()?;
    }
    sink.out.extend_from_slice(b"]}\n");
    sink.finish()
}

fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

/// Only what a generated query consists of.
fn write_query(out: &mut Vec<u8>, query: &Query) {
    out.extend_from_slice(b"{\"metric\":");
    write_string(out, &query.metric);
    out.extend_from_slice(b",\"host\":");
    write_string(out, &query.host);
    out.extend_from_slice(format!(",\"resolution\":{},\"aggreg\":{}}}", query.resolution, query.aggregate).as_bytes());
}

fn write_error(out: &mut Vec<u8>, error: &SeriesError) {
    out.extend_from_slice(b"{\"error\":");
    write_string(out, &error.to_string());
    out.extend_from_slice(b",\"from\":0,\"to\":0,\"resolution\":0,\"avg\":0,\"min\":0,\"max\":0}");
}

fn write_series(sink: &mut Sink, with_data: bool, series: &Answer) -> Result<(), Gone> {
    sink.out.push(b'{');
    if with_data && !series.data.is_empty() {
        sink.out.extend_from_slice(b"\"data\":[");
        // A series may be longer than what should be collected before it is sent.
        for (index, values) in series.data.chunks(1024).enumerate() {
            comma(&mut sink.out, index);
            for (index, value) in values.iter().enumerate() {
                comma(&mut sink.out, index);
                write_number(&mut sink.out, *value);
            }
            sink.breathe()?;
        }
        sink.out.extend_from_slice(b"],");
    }
    let Answer { from, to, resolution, .. } = series;
    sink.out.extend_from_slice(format!("\"from\":{from},\"to\":{to},\"resolution\":{resolution}").as_bytes());
    for (name, value) in [("avg", series.avg), ("min", series.min), ("max", series.max)] {
        sink.out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        write_number(&mut sink.out, value);
    }
    sink.out.push(b'}');
    Ok(())
}
