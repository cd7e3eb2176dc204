//! Reads a tree into any type of serde's, and says exactly which node it stumbled over.

use std::collections::btree_map;
use std::fmt;
use std::iter::Enumerate;
use std::slice;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::tree::{Node, Path, Step, Value};

/// Reads a whole tree, or tells the first fault.
pub(super) fn read<T: DeserializeOwned>(tree: &Node) -> Result<T, Fault> {
    T::deserialize(tree).map_err(|mut fault| {
        fault.path.0.reverse();
        fault
    })
}

/// The node that could not be read, and why.
#[derive(Debug)]
pub(super) struct Fault {
    /// While the fault climbs to the root its steps are collected innermost first; `read` turns them round.
    pub(super) path: Path,
    pub(super) cause: Cause,
}

/// Why a node could not be read.
#[derive(Debug)]
pub(super) enum Cause {
    /// The table that holds the node has no such key, only these.
    UnknownKey(&'static [&'static str]),
    /// The table lacks this key.
    MissingKey(&'static str),
    /// Something else belongs here.
    Expected(String),
    /// A reason in a type's own words.
    Refused(String),
}

impl Fault {
    fn new(cause: Cause) -> Self {
        Self { path: Path::default(), cause }
    }

    fn expected(what: impl Into<String>) -> Self {
        Self::new(Cause::Expected(what.into()))
    }

    fn below(mut self, step: Step) -> Self {
        self.path.0.push(step);
        self
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Table(table) => visitor.visit_map(Entries { rest: table.iter(), current: None }),
            Value::List(items) => visitor.visit_seq(Items { rest: items.iter().enumerate() }),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            // No key takes a unit, so that the visitor says what it takes.
            Value::Other(_) | Value::Faulty => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Value::Table(table) = &self.value else {
            return Err(Fault::expected("a table"));
        };
        let unknown = table.iter().find(|(key, node)| !node.is_faulty() && !fields.contains(&key.as_str()));
        if let Some((key, _)) = unknown {
            return Err(Fault::new(Cause::UnknownKey(fields)).below(Step::Key(key.clone())));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::String(text) => visitor.visit_enum(StrDeserializer::new(text)),
            _ => Err(<Fault as de::Error>::unknown_variant("", variants)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Entries<'de> {
    rest: btree_map::Iter<'de, String, Node>,
    current: Option<(&'de String, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.rest.by_ref().find(|(_, node)| !node.is_faulty());
        let Some((key, _)) = self.current else {
            return Ok(None);
        };
        seed.deserialize(StringDeserializer::new(key.clone())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, node) = self.current.expect("serde asks for a value after its key");
        seed.deserialize(node).map_err(|fault| fault.below(Step::Key(key.clone())))
    }
}

struct Items<'de> {
    rest: Enumerate<slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, node)) = self.rest.by_ref().find(|(_, node)| !node.is_faulty()) else {
            return Ok(None);
        };
        seed.deserialize(node).map(Some).map_err(|fault| fault.below(Step::Item(index)))
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Cause::Refused(message.to_string()))
    }

    fn invalid_type(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected.to_string())
    }

    fn invalid_value(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected.to_string())
    }

    fn unknown_variant(_variant: &str, variants: &'static [&'static str]) -> Self {
        let quoted: Vec<_> = variants.iter().map(|variant| format!("{variant:?}")).collect();
        Self::expected(quoted.join(" or "))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Cause::MissingKey(field))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path, self.cause)
    }
}

impl std::error::Error for Fault {}
