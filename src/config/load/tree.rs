//! What one source says, as a tree in which every node knows its place.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::problem::Place;

/// A value and the place that set it.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    String(String),
    Integer(i64),
    Boolean(bool),
    /// A kind that no key takes (a float, a date, an integer beyond 64 bits), as it was written.
    Other(String),
    /// A value that was reported as a problem; readers pass over it.
    Faulty,
}

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

/// A way from the root down to a node, such as `events.custom[1].name`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Node {
    /// A tree that says nothing.
    pub(super) fn empty() -> Self {
        Self { place: Place::Unset, value: Value::Table(BTreeMap::new()) }
    }

    /// A tree that says one thing, as a variable or a flag does.
    pub(super) fn single(path: &Path, value: Value, place: &Place) -> Self {
        let leaf = Self { place: place.clone(), value };
        path.0.iter().rev().fold(leaf, |node, step| {
            let value = match step {
                Step::Key(key) => Value::Table(BTreeMap::from([(key.clone(), node)])),
                Step::Item(_) => Value::List(vec![node]),
            };
            Self { place: place.clone(), value }
        })
    }

    /// Lays a later source over this one: tables are merged, anything else is replaced.
    pub(super) fn overlay(&mut self, above: Node) {
        match (&mut self.value, above.value) {
            (Value::Table(below), Value::Table(above)) => {
                for (key, node) in above {
                    match below.get_mut(&key) {
                        Some(existing) => existing.overlay(node),
                        None => drop(below.insert(key, node)),
                    }
                }
            }
            (_, value) => *self = Self { place: above.place, value },
        }
    }

    /// The node at the end of a path.
    pub(super) fn at(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, step| match (&node.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get(key),
            (Value::List(items), Step::Item(index)) => items.get(*index),
            _ => None,
        })
    }

    /// The last node on a path that is there.
    pub(super) fn nearest(&self, path: &Path) -> &Node {
        let there = (0..=path.0.len()).rev().find_map(|length| self.at(&Path(path.0[..length].to_vec())));
        there.unwrap_or(self)
    }

    /// Takes the node at the end of a path out of everything that is read from now on.
    pub(super) fn spoil(&mut self, path: &Path) {
        let found = path.0.iter().try_fold(&mut *self, |node, step| match (&mut node.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get_mut(key),
            (Value::List(items), Step::Item(index)) => items.get_mut(*index),
            _ => None,
        });
        match found {
            Some(node) if !path.0.is_empty() => node.value = Value::Faulty,
            // Whoever reads again after a fault relies on there being less to read.
            _ => *self = Self::empty(),
        }
    }

    /// Whether something on the way to a node, the node itself or anything below it was reported as a problem.
    pub(super) fn is_spoilt_at(&self, path: &Path) -> bool {
        let mut node = self;
        for step in &path.0 {
            node = match (&node.value, step) {
                (Value::Table(table), Step::Key(key)) if table.contains_key(key) => &table[key],
                (Value::List(items), Step::Item(index)) if *index < items.len() => &items[*index],
                (value, _) => return matches!(value, Value::Faulty),
            };
        }
        node.is_spoilt()
    }

    fn is_spoilt(&self) -> bool {
        match &self.value {
            Value::Faulty => true,
            Value::Table(table) => table.values().any(Node::is_spoilt),
            Value::List(items) => items.iter().any(Node::is_spoilt),
            _ => false,
        }
    }

    pub(super) fn is_faulty(&self) -> bool {
        matches!(self.value, Value::Faulty)
    }

    /// The same path with its indices counted as in the source, where faulty items still have theirs.
    pub(super) fn as_written(&self, path: &Path) -> Path {
        let mut written = Path::default();
        for step in &path.0 {
            let items = match self.at(&written).map(|node| &node.value) {
                Some(Value::List(items)) => items.as_slice(),
                _ => &[],
            };
            written.0.push(match step {
                Step::Item(index) => {
                    let mut sound = items.iter().enumerate().filter(|(_, item)| !item.is_faulty());
                    Step::Item(sound.nth(*index).map_or(*index, |(position, _)| position))
                }
                Step::Key(_) => step.clone(),
            });
        }
        written
    }
}

impl Value {
    /// Reads a value written as TOML outside a file.
    pub(super) fn from_toml(value: toml::Value, place: &Place) -> Self {
        let node = |value| Node { place: place.clone(), value: Self::from_toml(value, place) };
        match value {
            toml::Value::Table(table) => Self::Table(table.into_iter().map(|(key, v)| (key, node(v))).collect()),
            toml::Value::Array(items) => Self::List(items.into_iter().map(node).collect()),
            toml::Value::String(text) => Self::String(text),
            toml::Value::Integer(number) => Self::Integer(number),
            toml::Value::Boolean(value) => Self::Boolean(value),
            toml::Value::Float(number) => Self::Other(number.to_string()),
            toml::Value::Datetime(date) => Self::Other(date.to_string()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 60;
        match self {
            Self::Table(_) => f.write_str("a table"),
            Self::List(_) => f.write_str("a list"),
            Self::String(text) if text.chars().count() > LONGEST => {
                write!(f, "{:?}…", text.chars().take(LONGEST).collect::<String>())
            }
            Self::String(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Other(text) => f.write_str(text),
            Self::Faulty => f.write_str("a faulty value"),
        }
    }
}

impl Path {
    /// Reads a path that this crate spells itself, such as `api.keys[0].hash`.
    pub(super) fn parse(text: &str) -> Self {
        let steps = text.split(['.', '[']).filter(|part| !part.is_empty()).map(|part| match part.strip_suffix(']') {
            Some(index) => Step::Item(index.parse().expect("an index between brackets")),
            None => Step::Key(part.to_owned()),
        });
        Self(steps.collect())
    }

    /// The path one step further down.
    pub(super) fn join(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The path one step further up, and the last step.
    pub(super) fn split_last(&self) -> Option<(Self, &Step)> {
        let (last, rest) = self.0.split_last()?;
        Some((Self(rest.to_vec()), last))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    f.write_str(if position == 0 { "" } else { "." })?;
                    let bare = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
                    if bare { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}
