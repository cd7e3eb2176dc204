//! The configuration: any text as a file, and any lines as variables of the environment.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tiercast::config::{Source, load};

fuzz_target!(|input: &[u8]| {
    let [choice, text @ ..] = input else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match choice % 4 {
        0 => variables(text),
        // A file that says that the address is meant has other rules.
        1 => file(&format!("{text}\n[server]\nhost = \"0.0.0.0\"\n")),
        _ => file(text),
    }
});

/// A file is a configuration, or every problem has its line.
fn file(text: &str) {
    let lines = text.split('\n').count();
    let Err(problems) = load(Source::default().file("config.toml", text)) else { return };
    assert!(!problems.is_empty());
    for problem in problems.iter().map(ToString::to_string) {
        let line = problem.strip_prefix("config.toml:").and_then(|rest| rest.split(':').next()?.parse().ok());
        assert!(line.is_some_and(|line: usize| (1..=lines).contains(&line)), "{problem}");
    }
}

fn variables(text: &str) {
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let named = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let Err(problems) = load(Source::default().environment(named)) else { return };
    for problem in problems.iter().map(ToString::to_string) {
        assert!(problem.contains(": "), "{problem}");
    }
}
