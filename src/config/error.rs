//! Why a configuration is refused.

use std::{fmt, io, path::PathBuf};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a configuration by its size alone.
    #[error("{}: longer than {limit_bytes} bytes, this is not a configuration", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The longest file that is read.
        limit_bytes: u64,
    },
    /// The file is not JSON.
    #[error("{}:{line}:{column}: not JSON: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted in bytes from 1; 0 is the end of the line before.
        column: usize,
        /// What was expected.
        reason: String,
    },
    /// Keys or values are wrong: all that are.
    #[error("{0}")]
    Invalid(Problems),
}

/// One setting that is refused. Displays as `file:line: key: reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// The key with its sections, as `main.addr`.
    pub key: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.path.display(), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

/// Problems in the order of the file; displays one a line, the first [`Problems::SHOWN`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// More than this many lines help nobody.
    pub const SHOWN: usize = 50;
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().take(Self::SHOWN).enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        match self.0.len().saturating_sub(Self::SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}
