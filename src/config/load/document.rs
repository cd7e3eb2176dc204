//! A TOML document: from its text to a tree in which every key knows its line.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree::{Node, Value};
use crate::config::problem::Place;

/// A TOML document under the name that problems give it.
pub(super) struct Document<'t> {
    name: Arc<str>,
    text: &'t str,
    /// Where the parser stumbled.
    broken: Vec<usize>,
    /// The values in which it did; from there to their end it guesses, and stumbles again and again.
    guesses: Vec<Range<usize>>,
}

impl<'t> Document<'t> {
    /// The tree of a document, and the faults of its syntax.
    pub(super) fn parse(name: &str, text: &'t str) -> (Node, Vec<(Place, String)>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let broken = errors.iter().map(|error| error.span().map_or(0, |span| span.start)).collect();
        let mut document = Self { name: Arc::from(name), text, broken, guesses: Vec::new() };
        let value = document.table(table.into_inner());
        (Node { place: Place::Unset, value }, document.faults(&errors))
    }

    /// One fault for each broken value, and one for each line that is broken otherwise.
    fn faults(&self, errors: &[toml::de::Error]) -> Vec<(Place, String)> {
        let mut spans: Vec<_> =
            errors.iter().map(|error| (error.span().unwrap_or_default(), error.message())).collect();
        spans.sort_by_key(|(span, _)| span.start);
        let mut told = BTreeSet::new();
        let faults = spans.into_iter().filter_map(|(span, message)| {
            let (line, column) = self.line_and_column(span.start);
            let stretch = self.guesses.iter().find(|guess| guess.contains(&span.start));
            let start = stretch.map_or(line, |guess| self.line_and_column(guess.start).0);
            let place = Place::File { name: self.name.clone(), line, column: Some(column) };
            let message = match (message, self.text.get(span)) {
                ("duplicate key", Some(key)) => format!("duplicate key {key:?}"),
                (message, _) => message.to_owned(),
            };
            told.insert(start).then_some((place, message))
        });
        faults.collect()
    }

    fn table(&mut self, table: DeTable<'_>) -> Value {
        let entries = table.into_iter().map(|(key, value)| {
            let place = self.place(key.span().start);
            (key.into_inner().into_owned(), Node { place, value: self.value(value) })
        });
        Value::Table(entries.collect())
    }

    fn value(&mut self, value: Spanned<DeValue<'_>>) -> Value {
        let span = value.span();
        let is_guess = self.broken.iter().any(|offset| (span.start..=span.end).contains(offset));
        match value.into_inner() {
            DeValue::Table(table) => self.table(table),
            _ if is_guess => {
                self.guesses.push(span);
                Value::Faulty
            }
            DeValue::Array(items) => Value::List(items.into_iter().map(|item| self.item(item)).collect()),
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::Other(number.to_string()), Value::Integer),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Float(number) => Value::Other(number.to_string()),
            DeValue::Datetime(date) => Value::Other(date.to_string()),
        }
    }

    fn item(&mut self, item: Spanned<DeValue<'_>>) -> Node {
        Node { place: self.place(item.span().start), value: self.value(item) }
    }

    fn place(&self, offset: usize) -> Place {
        Place::File { name: self.name.clone(), line: self.line_and_column(offset).0, column: None }
    }

    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}
