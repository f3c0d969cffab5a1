//! Stdout, and the forms in which things are written there.

use std::io::{self, BufWriter, StdoutLock, Write};

/// Stdout, buffered.
pub(crate) type Out = BufWriter<StdoutLock<'static>>;

pub(crate) fn stdout() -> Out {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// What is left when a reader who has gone is no error.
pub(crate) fn unless_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A JSON object that is written field by field.
pub(crate) struct Object<'a, W: Write> {
    out: &'a mut W,
    has_field: bool,
}

impl<'a, W: Write> Object<'a, W> {
    pub(crate) fn begin(out: &'a mut W) -> io::Result<Self> {
        out.write_all(b"{")?;
        Ok(Self { out, has_field: false })
    }

    pub(crate) fn field(&mut self, name: &str, value: impl serde::Serialize) -> io::Result<()> {
        let comma = if self.has_field { "," } else { "" };
        self.has_field = true;
        write!(self.out, "{comma}{}:", serde_json::to_string(name)?)?;
        serde_json::to_writer(&mut *self.out, &value)?;
        Ok(())
    }

    pub(crate) fn end(self) -> io::Result<()> {
        self.out.write_all(b"}")
    }
}

/// A field of a CSV line, quoted where it must be (RFC 4180).
pub(crate) fn csv_field(field: &str) -> std::borrow::Cow<'_, str> {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\"")).into()
    } else {
        field.into()
    }
}

/// Bytes as a person reads them.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} PB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(csv_field("cpu_load"), "cpu_load");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }

    #[test]
    fn sizes_have_their_unit() {
        for (bytes, text) in [(999, "999 B"), (1500, "1.5 kB"), (67_108_864, "67.1 MB"), (u64::MAX, "18446.7 PB")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn an_object_is_json() {
        let mut bytes = Vec::new();
        let mut object = Object::begin(&mut bytes).unwrap();
        object.field("a \"b\"", 1).unwrap();
        object.field("c", ["d"]).unwrap();
        object.end().unwrap();
        assert_eq!(bytes, b"{\"a \\\"b\\\"\":1,\"c\":[\"d\"]}");
    }
}
