//! From files to settings.

use std::{io, path::Path};

use super::{
    Config, ConfigError, Loaded, Problems, flat,
    kind::{Kind as _, Text},
    layout::describe,
    reader::Reader,
    report::{Report, problem},
    settle,
    source::{Entry, Place, Source},
};

/// The file that is used if none is named.
const DEFAULT_PATH: &str = "./config.json";

/// Reads the named file, or `./config.json` if that exists, or runs with built-in settings.
///
/// All relative paths, also those inside the file, start at the working directory.
pub fn load(path: Option<&Path>) -> Result<Loaded, ConfigError> {
    load_or(path, Path::new(DEFAULT_PATH))
}

pub(super) fn load_or(named: Option<&Path>, default: &Path) -> Result<Loaded, ConfigError> {
    match Source::read(named.unwrap_or(default)) {
        Ok(source) => load_source(&source),
        Err(ConfigError::Read { source, .. }) if named.is_none() && source.kind() == io::ErrorKind::NotFound => {
            let config = Config::default();
            let note = format!(
                "there is no {}: listening on {} with built-in metrics, data in {}",
                default.display(),
                config.main.addr,
                config.storage.directory.display()
            );
            Ok(Loaded { config, warnings: Vec::new(), notes: vec![note] })
        }
        Err(error) => Err(error),
    }
}

/// Reads the sections of a file and of the files that it names.
pub(super) fn load_source(source: &Source) -> Result<Loaded, ConfigError> {
    let mut report = Report::default();
    let mut entries = source
        .root()
        .into_entries()
        .ok_or_else(|| refuse(source.top(), "", "expected an object of sections".to_owned()))?;
    if flat::is_flat(&entries) {
        entries = flat::migrate(entries, &mut report);
    }
    let files = read_section_files(&entries)?;
    for (index, file) in &files {
        let section = section_of_file(&entries[*index].key).unwrap_or_default().to_owned();
        if let Some(twice) = entries.iter().find(|entry| entry.key == section) {
            report.problem(twice.place, &section, format!("stands here and in '{section}-file'; remove one"));
        }
        entries[*index] = Entry { key: section, place: file.top(), value: file.root() };
    }
    let mut reader = Reader::new(source.top(), entries, report);
    let mut draft = settle::blank();
    describe(&mut reader, &mut draft);
    reader.finish();
    let config = settle::settle(draft, &mut reader);
    let (warnings, notes) = reader.report.finish()?;
    Ok(Loaded { config, warnings, notes })
}

/// Reads the files that stand for sections, with the index of the entry that names each.
fn read_section_files(entries: &[Entry<'_>]) -> Result<Vec<(usize, Source)>, ConfigError> {
    let mut files = Vec::new();
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| section_of_file(&entry.key).is_some()) {
        let wrong = |reason| refuse(entry.place, &entry.key, reason);
        let path = Text.parse(entry.value.json().unwrap_or_default()).map_err(wrong)?;
        let file = Source::read(Path::new(&path)).map_err(|error| match error {
            ConfigError::Syntax { .. } => error,
            unreadable => wrong(unreadable.to_string()),
        })?;
        files.push((index, file));
    }
    Ok(files)
}

/// `x` of a key `x-file`. The predecessor takes one dash; the section with a dash of its own is expected to work too.
fn section_of_file(key: &str) -> Option<&str> {
    key.strip_suffix("-file")
        .filter(|section| !section.is_empty() && (!section.contains('-') || *section == "metric-store"))
}

fn refuse(place: Place<'_>, key: &str, reason: String) -> ConfigError {
    ConfigError::Invalid(Problems(vec![problem(place, key, reason)]))
}
