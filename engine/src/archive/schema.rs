//! The columns of an archive file, and how a place below a host is written in them.

use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::schema::types::{Type, TypePtr};
use std::borrow::Cow;
use std::sync::Arc;

/// The columns, in order. The first eight are those of the predecessor's archive.
pub const COLUMNS: [&str; 10] =
    ["cluster", "hostname", "metric", "scope", "scope_id", "timestamp", "frequency", "value", "path", "start"];
pub(super) const CLUSTER: usize = 0;
pub(super) const HOSTNAME: usize = 1;
pub(super) const METRIC: usize = 2;
pub(super) const SCOPE: usize = 3;
pub(super) const SCOPE_ID: usize = 4;
pub(super) const TIMESTAMP: usize = 5;
pub(super) const FREQUENCY: usize = 6;
pub(super) const VALUE: usize = 7;
pub(super) const PATH: usize = 8;
pub(super) const START: usize = 9;
/// What rows are sorted by, ascending.
pub(super) const SORTED_BY: [usize; 5] = [CLUSTER, HOSTNAME, METRIC, PATH, TIMESTAMP];

/// The schema: all columns required.
pub(super) fn schema() -> Result<TypePtr, ParquetError> {
    let column = |(at, name): (usize, &&str)| {
        let (physical, logical) = match at {
            TIMESTAMP | FREQUENCY | START => (PhysicalType::INT64, Some(LogicalType::integer(64, true))),
            VALUE => (PhysicalType::DOUBLE, None),
            _ => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let column = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        column.with_logical_type(logical).build().map(Arc::new)
    };
    let fields = COLUMNS.iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Type::group_type_builder("samples").with_fields(fields).build()?))
}

/// The place of a series below its host as one name: nothing, `component`, or `component/subcomponent`. A `%` or `/`
/// inside of a name stands as `%25` or `%2F`, so that the names can be told apart again.
pub fn join_path(component: &str, subcomponent: &str) -> String {
    if subcomponent.is_empty() {
        return escape(component).into_owned();
    }
    format!("{}/{}", escape(component), escape(subcomponent))
}

/// Component and subcomponent of a path.
pub fn split_path(path: &str) -> (String, String) {
    let (component, subcomponent) = path.split_once('/').unwrap_or((path, ""));
    (unescape(component), unescape(subcomponent))
}

fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['%', '/']) { name.replace('%', "%25").replace('/', "%2F").into() } else { name.into() }
}

fn unescape(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}

/// Scope and scope id as the predecessor writes them; they cannot be taken back.
pub fn scope_of<'a>(component: &'a str, subcomponent: &'a str) -> (&'a str, &'a str) {
    const KINDS: [(&str, &str); 6] = [
        ("socket", "socket"),
        ("memoryDomain", "memoryDomain"),
        ("core", "core"),
        ("hwthread", "hwthread"),
        ("cpu", "hwthread"),
        ("accelerator", "accelerator"),
    ];
    let name = if subcomponent.is_empty() { component } else { subcomponent };
    if name.is_empty() {
        return ("node", "");
    }
    let found = KINDS.iter().find_map(|&(kind, scope)| {
        let id = name.strip_prefix(kind)?;
        id.starts_with(|c: char| c.is_ascii_digit()).then_some((scope, id))
    });
    found.unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gives_its_names_back_whatever_they_are() {
        for (component, subcomponent) in
            [("", ""), ("socket0", ""), ("socket0", "memctrl1"), ("a/b", "%2F"), ("%25", "/"), ("100%", ""), ("a", "%")]
        {
            let path = join_path(component, subcomponent);
            assert_eq!(split_path(&path), (component.to_owned(), subcomponent.to_owned()), "{path}");
        }
    }

    #[test]
    fn scopes_are_those_of_the_predecessor() {
        for (component, subcomponent, scope) in [
            ("", "", ("node", "")),
            ("socket0", "", ("socket", "0")),
            ("cpu12", "", ("hwthread", "12")),
            ("accelerator00000000:49:00.0", "", ("accelerator", "00000000:49:00.0")),
            ("die0", "", ("die0", "")),
            ("0", "", ("0", "")),
            ("corex", "", ("corex", "")),
            ("socket0", "memctrl1", ("memctrl1", "")),
        ] {
            assert_eq!(scope_of(component, subcomponent), scope);
        }
    }
}
