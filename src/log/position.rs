//! Positions: where an entry is in the log.

use std::fmt;
use std::sync::Arc;

use crate::wire::Form;

/// `<epoch>.<offset>`, opaque to clients; another epoch means that the log was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Life of the log that the offset belongs to.
    pub epoch: Arc<str>,
    /// Number of the entry in its shard, from 1.
    pub offset: u64,
}

impl Position {
    /// Another place in the same life of the same shard.
    pub fn at(&self, offset: u64) -> Self {
        Self { epoch: self.epoch.clone(), offset }
    }

    /// The position of a frame: `<epoch>.<offset>.<n>`, 0 for the named form and 1 for the envelope.
    pub fn of_frame(&self, form: Form) -> String {
        format!("{self}.{}", form as u8)
    }
}

/// A position that a client or a caller names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Where it is.
    pub position: Position,
    /// The frame of the entry that it names; none if it names the entry as a whole.
    pub form: Option<Form>,
}

impl Named {
    /// Reads `<epoch>.<offset>[.<n>]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let epoch = parts.next().filter(|epoch| !epoch.is_empty())?.into();
        let offset = parts.next()?.parse().ok()?;
        let form = match parts.next() {
            None => None,
            Some("0") => Some(Form::Named),
            Some("1") => Some(Form::Envelope),
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self { position: Position { epoch, offset }, form })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        let position = Position { epoch: "abc".into(), offset: 7 };
        for (text, form) in [
            (position.to_string(), None),
            (position.of_frame(Form::Named), Some(Form::Named)),
            (position.of_frame(Form::Envelope), Some(Form::Envelope)),
        ] {
            assert_eq!(Named::parse(&text), Some(Named { position: position.clone(), form }), "{text}");
        }
        for text in ["", "abc", "abc.", ".7", "abc.x", "abc.-1", "abc.7.2", "abc.7.0.0", "abc.18446744073709551616"] {
            assert_eq!(Named::parse(text), None, "{text}");
        }
    }
}
