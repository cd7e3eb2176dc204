//! One thing that is wrong with what a server was told, and the place to mend it.

use std::fmt;
use std::sync::Arc;

/// One fault of a configuration: where it stands, which key it is about, and what to do.
///
/// Displayed as `config.toml:12: limits.max_connections_total: expected an integer of at least 1, found "many"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(super) place: Place,
    /// The key in dotted form; empty when the fault is not about one.
    pub(super) key: String,
    pub(super) message: String,
}

/// Where a key was set. The order is the one in which places are read and problems are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A line of the file, and the column when only the parser understands what is wrong.
    File { name: Arc<str>, line: usize, column: Option<usize> },
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
    /// Nowhere: the key is at its default.
    Unset,
}

impl Place {
    /// The line, if the place is in the file.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } => Some(*line),
            Self::Variable(_) | Self::Flag(_) | Self::Unset => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { name, line, column: None } => write!(f, "{name}:{line}: ")?,
            Place::File { name, line, column: Some(column) } => write!(f, "{name}:{line}:{column}: ")?,
            Place::Variable(name) | Place::Flag(name) => write!(f, "{name}: ")?,
            Place::Unset => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
