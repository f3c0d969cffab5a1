//! What was found while a configuration was read.

use super::{ConfigError, Problem, Problems, source::Place};

/// Findings, each in the order it was made.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    unsupported: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Report {
    /// The start cannot go on.
    pub(super) fn problem(&mut self, place: Place<'_>, key: &str, reason: String) {
        self.problems.push(problem(place, key, reason));
    }

    /// The start goes on only if the administrator said so.
    pub(super) fn unsupported(&mut self, place: Place<'_>, key: &str, reason: String) {
        self.unsupported.push(problem(place, key, reason));
    }

    /// Something to change.
    pub(super) fn warn(&mut self, place: Place<'_>, key: &str, reason: String) {
        self.warnings.push(problem(place, key, reason).to_string());
    }

    /// Something to know.
    pub(super) fn note(&mut self, place: Place<'_>, key: &str, reason: String) {
        self.notes.push(problem(place, key, reason).to_string());
    }

    /// Whether the start can go on so far.
    pub(super) fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Ends in an error, or in warnings and notes.
    pub(super) fn finish(self, ignore_unsupported: bool) -> Result<(Vec<String>, Vec<String>), ConfigError> {
        let sorted = |mut problems: Vec<Problem>| {
            problems.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
            Problems(problems)
        };
        if !self.problems.is_empty() {
            return Err(ConfigError::Invalid(sorted(self.problems)));
        }
        let mut warnings = self.warnings;
        if ignore_unsupported {
            let ignored = |problem: &Problem| format!("{problem} (ignored on request)");
            warnings.extend(sorted(self.unsupported).0.iter().map(ignored));
        } else if !self.unsupported.is_empty() {
            return Err(ConfigError::Unsupported(sorted(self.unsupported)));
        }
        Ok((warnings, self.notes))
    }
}

/// One finding.
pub(super) fn problem(place: Place<'_>, key: &str, reason: String) -> Problem {
    Problem { path: place.path.to_owned(), line: place.line, key: super::kind::shorten(key), reason }
}
