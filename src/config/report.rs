//! What was found while a configuration was read.

use super::{ConfigError, Problem, Problems, source::Place};

/// Findings, each in the order it was made.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Report {
    /// The start cannot go on.
    pub(super) fn problem(&mut self, place: Place<'_>, key: &str, reason: String) {
        self.problems.push(problem(place, key, reason));
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
    pub(super) fn finish(self) -> Result<(Vec<String>, Vec<String>), ConfigError> {
        let mut problems = self.problems;
        if !problems.is_empty() {
            problems.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
            return Err(ConfigError::Invalid(Problems(problems)));
        }
        Ok((self.warnings, self.notes))
    }
}

/// One finding.
pub(super) fn problem(place: Place<'_>, key: &str, reason: String) -> Problem {
    Problem { path: place.path.to_owned(), line: place.line, key: super::kind::shorten(key), reason }
}
