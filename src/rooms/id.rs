//! Ids of organizations, departments, queues and users.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;

const MAX_BYTES: usize = 128;

/// Every byte but `A-Za-z0-9_-.@` is encoded, so that no id can forge a separator.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'@');

/// An id: 1 to 128 bytes of any Unicode in normal form C, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Too long.
    #[error("must have at most 128 bytes")]
    TooLong,
    /// A control character.
    #[error("must not contain control characters")]
    Control,
}

impl Id {
    /// Reads an id.
    ///
    /// # Errors
    /// If the text is empty, longer than 128 bytes after normalization, or contains a control character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        // A text this long cannot become short enough, and need not be normalized to find out.
        if text.len() > MAX_BYTES * 4 {
            return Err(IdError::TooLong);
        }
        let normal: String = if text.is_ascii() { text.to_owned() } else { text.nfc().collect() };
        if normal.is_empty() {
            return Err(IdError::Empty);
        }
        if normal.len() > MAX_BYTES {
            return Err(IdError::TooLong);
        }
        if normal.chars().any(char::is_control) {
            return Err(IdError::Control);
        }
        Ok(Self(normal.into()))
    }

    /// The id as people know it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as part of a room's name or a namespace's path.
    pub fn encoded(&self) -> Cow<'_, str> {
        utf8_percent_encode(&self.0, ENCODED).into()
    }

    /// Reads an encoded id; anything but the one canonical encoding is refused.
    pub fn decode(text: &str) -> Option<Self> {
        let decoded = percent_decode_str(text).decode_utf8().ok()?;
        let id = Self::parse(&decoded).ok()?;
        (id.encoded() == text).then_some(id)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_encoded_and_come_back() {
        let id = Id::parse("a:b/c,d%3A é").expect("an id");
        assert_eq!(id.encoded(), "a%3Ab%2Fc%2Cd%253A%20%C3%A9");
        assert_eq!(Id::decode(&id.encoded()), Some(id));
        assert_eq!(Id::decode("a%3ab"), None, "lower case is not canonical");
        assert_eq!(Id::decode("a:b"), None);
        assert_eq!(Id::decode("%61"), None);
    }

    #[test]
    fn bad_ids_are_refused_with_the_reason() {
        assert_eq!(Id::parse(""), Err(IdError::Empty));
        assert_eq!(Id::parse(&"x".repeat(129)), Err(IdError::TooLong));
        assert_eq!(Id::parse(&"x".repeat(10_000)), Err(IdError::TooLong));
        assert_eq!(Id::parse("a\u{0}b"), Err(IdError::Control));
        assert_eq!(Id::parse("a\u{85}b"), Err(IdError::Control));
    }

    #[test]
    fn equal_text_in_two_normal_forms_is_one_id() {
        assert_eq!(Id::parse("e\u{301}"), Id::parse("\u{e9}"));
    }
}
