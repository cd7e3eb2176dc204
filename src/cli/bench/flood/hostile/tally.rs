//! What attackers did, and what the server answered.

use std::{collections::BTreeMap, io};

use serde::Serialize;

use super::kind::Kind;

/// Different answers that are kept of one kind.
const MOST_ANSWERS: usize = 32;

/// The tallies of all kinds.
pub(in crate::cli::bench::flood) type Tallies = BTreeMap<Kind, Tally>;

/// What became of one kind of attack.
#[derive(Debug, Default, Clone, Serialize)]
pub(in crate::cli::bench::flood) struct Tally {
    /// Attackers.
    pub(in crate::cli::bench::flood) clients: u64,
    /// Connections that they made.
    pub(in crate::cli::bench::flood) connections: u64,
    /// Hostile acts.
    pub(in crate::cli::bench::flood) acts: u64,
    /// Answers that refuse something.
    pub(in crate::cli::bench::flood) refused: u64,
    /// Connections that the server ended.
    pub(in crate::cli::bench::flood) cut: u64,
    /// Connections that it tolerated until the flood was over.
    pub(in crate::cli::bench::flood) open: u64,
    /// How it refused and cut, and how often each.
    pub(in crate::cli::bench::flood) answers: BTreeMap<String, u64>,
}

/// What ended an attack on one connection.
#[derive(Debug)]
pub(super) enum End {
    /// The server ended the connection.
    Cut(String),
    /// The server refused what the attack needs to go on; that is already counted.
    Refused,
    /// There is no connection to be had.
    Unreachable,
}

impl Tally {
    /// The server has refused something.
    pub(super) fn refuse(&mut self, how: &str) {
        self.refused += 1;
        self.answer(how);
    }

    /// The server has ended a connection.
    pub(super) fn cut(&mut self, how: &str) {
        self.cut += 1;
        self.answer(how);
    }

    fn answer(&mut self, how: &str) {
        if let Some(count) = self.answers.get_mut(how) {
            *count += 1;
        } else if self.answers.len() < MOST_ANSWERS {
            self.answers.insert(how.to_owned(), 1);
        }
    }

    /// The most frequent answers, in words.
    pub(in crate::cli::bench::flood) fn main_answers(&self, most: usize) -> String {
        let mut answers: Vec<_> = self.answers.iter().collect();
        answers.sort_by_key(|(how, count)| (std::cmp::Reverse(**count), how.as_str()));
        let shown = answers.iter().take(most).map(|(how, count)| format!("{how} {count}"));
        shown.collect::<Vec<_>>().join(", ")
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        let how = match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed".to_owned(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset".to_owned(),
            other => other.to_string(),
        };
        Self::Cut(how)
    }
}

/// What went wrong on a connection over which HTTP is spoken.
impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        error.downcast::<io::Error>().map_or_else(|_| Self::Cut("closed".to_owned()), Self::from)
    }
}
