//! `kymo inspect`.

use super::out::{Object, Out, csv_field, stdout, unless_closed};
use super::{ToolError, open_disk};
use crate::cli::args::InspectForm;
use kymo_engine::tools::inspect::{self, InspectError, Item, Report, Sample, Show, Sink, Value};
use std::io::{self, Write};
use std::path::Path;

/// Shows a file.
pub fn inspect(file: &Path, form: InspectForm) -> Result<(), ToolError> {
    let disk = open_disk()?;
    let mut printer = Printer { out: stdout(), form, is_first: true };
    let show = if form == InspectForm::Csv { Show::Samples } else { Show::Items };
    let report = match inspect::inspect(&*disk, file, show, &mut printer).and_then(|report| {
        printer.end(&report)?;
        Ok(report)
    }) {
        Ok(report) => report,
        Err(InspectError::Sink(error)) => return Ok(unless_closed(Err(error))?),
        Err(error) => return Err(error.into()),
    };
    match report.damage {
        0 => Ok(()),
        count => Err(ToolError::Damage(format!("{count} in {}", file.display()))),
    }
}

struct Printer {
    out: Out,
    form: InspectForm,
    is_first: bool,
}

impl Printer {
    fn end(&mut self, report: &Report) -> io::Result<()> {
        match self.form {
            InspectForm::Json => writeln!(self.out, "\n],\"damage\":{}}}", report.damage)?,
            // Without a sample there is still the line that names the columns.
            InspectForm::Csv => self.csv_head()?,
            InspectForm::Text => {}
        }
        self.out.flush()
    }

    fn csv_head(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_first) {
            writeln!(self.out, "cluster,host,metric,component,subcomponent,time,value")?;
        }
        Ok(())
    }

    fn json(&mut self, item: &Item) -> io::Result<()> {
        let before = if std::mem::take(&mut self.is_first) { "{\"items\":[\n" } else { ",\n" };
        self.out.write_all(before.as_bytes())?;
        let mut object = Object::begin(&mut self.out)?;
        object.field("item", item.kind)?;
        object.field("offset", item.offset)?;
        for (name, value) in &item.fields {
            match value {
                Value::Number(number) => object.field(name, number)?,
                Value::Signed(number) => object.field(name, number)?,
                Value::Text(text) => object.field(name, text)?,
                Value::Texts(texts) => object.field(name, texts)?,
            }
        }
        object.end()
    }

    fn text(&mut self, item: &Item) -> io::Result<()> {
        let kind = if item.kind == "damage" { "DAMAGE" } else { item.kind };
        write!(self.out, "{:>10}  {kind}", item.offset)?;
        for (name, value) in &item.fields {
            match value {
                Value::Number(number) => write!(self.out, "  {name} {number}")?,
                Value::Signed(number) => write!(self.out, "  {name} {number}")?,
                Value::Text(text) if text.is_empty() => write!(self.out, "  {name} -")?,
                // Whatever stands in a file must not steer a terminal.
                Value::Text(text) => write!(self.out, "  {name} {}", text.escape_debug())?,
                Value::Texts(texts) => write!(self.out, "  {name} {}", texts.join(" ").escape_debug())?,
            }
        }
        writeln!(self.out)
    }
}

impl Sink for Printer {
    fn item(&mut self, item: &Item) -> io::Result<()> {
        match self.form {
            InspectForm::Json => self.json(item),
            InspectForm::Text => self.text(item),
            InspectForm::Csv => {
                let what = item.fields.iter().find_map(|(_, value)| match value {
                    Value::Text(text) => Some(text.as_str()),
                    _ => None,
                });
                eprintln!("kymo: offset {}: {}", item.offset, what.unwrap_or_default());
                Ok(())
            }
        }
    }

    fn sample(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        self.csv_head()?;
        for name in [sample.cluster, sample.host, sample.metric, sample.component, sample.subcomponent] {
            write!(self.out, "{},", csv_field(name))?;
        }
        writeln!(self.out, "{},{}", sample.time, sample.value)
    }
}
