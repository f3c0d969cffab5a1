//! The answer to a query request as JSON.

use std::borrow::Cow;
use std::ops::ControlFlow;

use kymo_engine::model::{Answer, Query, Request, SeriesError};

use super::engine::Engine;
use super::json::{write_number, write_numbers, write_string};
use super::parts::Parts;
use super::stream::{Gone, Sink};

/// Evaluates and writes all queries, one after the other: a series is evaluated whole before its first byte is written.
/// Gives up when it takes too long, or when nobody waits any more. Series beyond `point_limit` points are errors.
pub(super) fn answer(engine: &dyn Engine, request: &Request, point_limit: u64, mut sink: Sink) -> Result<(), Gone> {
    let mut points = 0_u64;
    // What was refused of this answer: it is counted once.
    let (mut is_long, mut has_long) = (false, false);
    let hosts = if request.for_all_nodes.is_empty() {
        Vec::new()
    } else {
        match engine.hosts(&request.cluster, request.from, request.to) {
            Ok(hosts) => hosts,
            Err(error) => return sink.fail(error.reason),
        }
    };
    let generated = || {
        let pairs = hosts.iter().flat_map(|host| request.for_all_nodes.iter().map(move |metric| (host, metric)));
        // Only what a generated query consists of.
        pairs.map(|(host, metric)| Query { metric: metric.clone(), host: host.clone(), ..Query::default() })
    };
    sink.out.push(b'{');
    if !hosts.is_empty() {
        sink.out.extend_from_slice(b"\"queries\":[");
        for (index, query) in generated().enumerate() {
            if sink.is_late() {
                return sink.give_up();
            }
            comma(&mut sink.out, index);
            write_query(&mut sink.out, &query);
            sink.breathe()?;
        }
        sink.out.extend_from_slice(b"],");
    }
    sink.out.extend_from_slice(b"\"results\":[");
    let own = request.queries.iter().map(Cow::Borrowed);
    for (index, query) in own.chain(generated().map(Cow::Owned)).enumerate() {
        comma(&mut sink.out, index);
        sink.out.push(b'[');
        let mut parts = Parts::new(&query, request.to.saturating_sub(request.from).unsigned_abs());
        let mut written = 0;
        while let Some(part) = parts.next() {
            if sink.is_late() {
                return sink.give_up();
            }
            let (mut sent, mut is_late) = (Ok(()), false);
            engine.evaluate(request, &part, &mut |series| {
                is_late = sink.is_late();
                if is_late {
                    return ControlFlow::Break(());
                }
                comma(&mut sink.out, written);
                written += 1;
                sent = match series {
                    // Series that were computed for nothing cost no more than the one part that they are of.
                    _ if points > point_limit => {
                        is_long = true;
                        let error = "points in sum: ask for less at one time";
                        write_error(&mut sink.out, &format!("the answer has more than {point_limit} {error}"));
                        sink.breathe()
                    }
                    Ok(series) => {
                        points = points.saturating_add(series.data.len() as u64);
                        parts.measure(series.data.len());
                        write_series(&mut sink, request.with_data, &series).and_then(|()| sink.breathe())
                    }
                    Err(error) => {
                        has_long |= matches!(error, SeriesError::TooManyPoints { .. });
                        write_error(&mut sink.out, &error.to_string());
                        sink.breathe()
                    }
                };
                if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            sent?;
            if is_late {
                return sink.give_up();
            }
        }
        sink.out.push(b']');
        sink.breathe()?;
    }
    sink.out.extend_from_slice(b"]}\n");
    for (reason, is_so) in [("request-points", is_long), ("query-points", has_long)] {
        if is_so {
            sink.refused(reason);
        }
    }
    sink.finish()
}

fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn write_query(out: &mut Vec<u8>, query: &Query) {
    out.extend_from_slice(b"{\"metric\":");
    write_string(out, &query.metric);
    out.extend_from_slice(b",\"host\":");
    write_string(out, &query.host);
    out.extend_from_slice(format!(",\"resolution\":{},\"aggreg\":{}}}", query.resolution, query.aggregate).as_bytes());
}

fn write_error(out: &mut Vec<u8>, error: &str) {
    out.extend_from_slice(b"{\"error\":");
    write_string(out, error);
    out.extend_from_slice(b",\"from\":0,\"to\":0,\"resolution\":0,\"avg\":0,\"min\":0,\"max\":0}");
}

fn write_series(sink: &mut Sink, with_data: bool, series: &Answer) -> Result<(), Gone> {
    sink.out.push(b'{');
    if with_data && !series.data.is_empty() {
        sink.out.extend_from_slice(b"\"data\":[");
        // A series may be longer than what should be collected before it is sent.
        for (index, values) in series.data.chunks(1024).enumerate() {
            comma(&mut sink.out, index);
            write_numbers(&mut sink.out, values);
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
