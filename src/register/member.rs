//! Members, and their ids: text or a number, and told again as they were written.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value, json};

use crate::rooms::Id;

/// The id of a member; `7` and `"7"` are the same member.
#[derive(Debug, Clone)]
pub struct MemberId {
    text: Id,
    /// The number it was written as, since clients compare it with their own.
    number: Option<Number>,
}

impl MemberId {
    /// Reads an id as it comes in JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(value: &Value) -> Result<Self, String> {
        let (text, number) = match value {
            Value::String(text) => (text.clone(), None),
            Value::Number(number) if number.is_i64() || number.is_u64() => (number.to_string(), Some(number.clone())),
            _ => return Err("must be text or a whole number".to_owned()),
        };
        Ok(Self { text: Id::parse(&text).map_err(|error| error.to_string())?, number })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }
}

impl PartialEq for MemberId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for MemberId {}

impl Hash for MemberId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.number {
            Some(number) => number.serialize(serializer),
            None => self.text.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A member of the gym.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Member {
    /// Their id.
    pub id: MemberId,
    /// Their name.
    pub full_name: String,
    /// Their address; empty if nobody knows it.
    pub email: String,
    /// The kind of their membership; empty if nobody knows it.
    pub membership_type: String,
}

/// A member as a list has one; what else it tells of them is not needed.
#[derive(Deserialize)]
struct Written {
    id: MemberId,
    full_name: Option<String>,
    name: Option<String>,
    email: Option<String>,
    membership_type: Option<String>,
}

impl TryFrom<Written> for Member {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        Ok(Self {
            id: written.id,
            full_name: written.full_name.or(written.name).ok_or("a member lacks \"full_name\"")?,
            email: written.email.unwrap_or_default(),
            membership_type: written.membership_type.unwrap_or_default(),
        })
    }
}

impl Member {
    /// One of whom nothing but the id is known.
    pub fn unknown(id: MemberId) -> Self {
        Self { full_name: id.as_str().to_owned(), id, email: String::new(), membership_type: String::new() }
    }

    /// The member as clients are told: text in every field, and the name in both spellings.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id,
            "full_name": self.full_name,
            "fullName": self.full_name,
            "email": self.email,
            "membership_type": self.membership_type,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_text_are_one_member_each_told_as_written() {
        let read = |value: Value| MemberId::read(&value).expect("an id");
        assert_eq!(read(json!(7)), read(json!("7")));
        assert_eq!(json!(read(json!(7))), json!(7));
        assert_eq!(json!(read(json!("7"))), json!("7"));
        assert_eq!(json!(read(json!(u64::MAX))), json!(u64::MAX));
        assert_ne!(read(json!("07")), read(json!(7)));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for value in
            [json!(null), json!(1.5), json!([7]), json!(true), json!(""), json!("a\u{0}"), json!("x".repeat(129))]
        {
            assert!(MemberId::read(&value).is_err(), "{value}");
        }
    }
}
