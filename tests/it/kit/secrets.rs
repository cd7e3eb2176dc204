//! Secrets that clients hold, and everything that servers write: the two must never meet.
//!
//! Every server of this process logs at its most talkative level into this
//! file's book, and so go the answers of the HTTP API and what clients are
//! sent behind their CONNECT. Whoever drops a server has them compared.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError},
};

use serde_json::Value;

/// Letters of an Engine.IO session id, and of a `pid`.
const IDS: std::ops::RangeInclusive<usize> = 16..=20;

/// No secret of ours has fewer or more.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=128;

#[derive(Default)]
struct Book {
    /// Secrets, and what they are.
    held: HashMap<String, &'static str>,
    /// Words that were written, and where.
    written: HashMap<String, String>,
    /// What tests look for in lines, and how many had all of it.
    counted: HashMap<Vec<String>, usize>,
}

fn book() -> MutexGuard<'static, Book> {
    static BOOK: OnceLock<Mutex<Book>> = OnceLock::new();
    BOOK.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that a client holds a secret.
pub fn hold(what: &'static str, secret: &Value) {
    let Some(secret) = secret.as_str() else { return };
    // Of a token it is the signature that nobody else can make.
    let secret = secret.rsplit('.').next().unwrap_or_default();
    assert!(words(secret, &LENGTHS).eq([secret]), "a secret is a word that can be found: {what}");
    book().held.insert(secret.to_owned(), what);
}

/// Notes what a client that is not meant to learn a session id or a `pid` was sent.
pub fn told(to: &str, text: &str) {
    let mut found = words(text, &IDS).peekable();
    if found.peek().is_some() {
        let mut book = book();
        for word in found {
            book.written.entry(word.to_owned()).or_insert_with(|| to.to_owned());
        }
    }
}

/// Has servers log into the book from now on.
pub fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        lines.with_writer(|| Lines).init();
    });
}

/// How many lines had all of this, since it was asked for the first time.
pub fn lines_with(parts: &[&str]) -> usize {
    let parts = parts.iter().map(|part| (*part).to_owned()).collect();
    *book().counted.entry(parts).or_default()
}

/// Asserts that no secret was written.
pub fn check() {
    let book = book();
    let leaked = book.held.iter().find_map(|(secret, what)| Some((what, book.written.get(secret)?)));
    if let Some((what, place)) = leaked {
        panic!("{what} of a client was written: {place}");
    }
}

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let line_text = String::from_utf8_lossy(line);
        let mut book = book();
        for (parts, count) in &mut book.counted {
            *count += usize::from(parts.iter().all(|part| line_text.contains(part)));
        }
        for word in words(&line_text, &LENGTHS) {
            // There are many of these, and they are no secrets.
            if !word.starts_with("msg_") && !book.written.contains_key(word) {
                book.written.insert(word.to_owned(), line_text.trim_end().to_owned());
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The runs of letters of which ids and tokens are made, of these lengths.
fn words<'a>(text: &'a str, lengths: &std::ops::RangeInclusive<usize>) -> impl Iterator<Item = &'a str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    text.split(move |letter| !is_part(letter)).filter(move |word| lengths.contains(&word.len()))
}

#[test]
fn what_clients_are_given_is_looked_for() {
    assert!(IDS.contains(&socketioxide::socket::Sid::new().to_string().len()));
    assert!(IDS.contains(&tiercast::wire::Pid::fresh().reveal().len()));
}

#[test]
fn a_secret_that_is_written_is_found() {
    let words_of = |text| words(text, &LENGTHS).collect::<Vec<_>>();
    assert_eq!(words_of("sid=abcdefgh-jklmnopqr_t&x"), ["abcdefgh-jklmnopqr_t"]);
    assert_eq!(words_of(r#"{"sid":"abcdefghijklmnopqrst"}"#), ["abcdefghijklmnopqrst"]);
}
