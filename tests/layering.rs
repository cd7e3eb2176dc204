//! The rules of the architecture that a compiler does not see: which way the
//! arrows point, who awaits, who sends, and what a file looks like.
//!
//! Reads `src/`; comments, literals and `#[cfg(test)]` items do not count.

#[path = "layering/source.rs"]
mod source;

use source::{Source, tree, words};

/// From the lowest to the highest. A file may use its own module and those of
/// lower layers; modules that share a layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &["wire"],
    &["rooms"],
    &["events"],
    &["config"],
    &["redis"],
    &["cluster"],
    &["dialects"],
    &["auth", "backend", "limits", "register", "stats"],
    &["log"],
    &["connection"],
    &["delivery"],
    &["hub"],
    &["presence"],
    &["session"],
    &["doors"],
    &["server"],
    &["cli"],
    &["lib"],
    &["main"],
];

/// Pure vocabulary: whoever calls it may hold a lock.
const NEVER_AWAIT: &[&str] = &["rooms", "events"];

/// Ways to send that belong to the hub.
const SENDING: &[&str] = &[".broadcast(", ".emit(", ".emit_with_ack("];

/// `main.rs` parses, matches and exits.
const MAIN_LINES: usize = 40;

#[test]
fn arrows_point_down() {
    assert_none(upward_arrows);
}

#[test]
fn rooms_and_events_never_await() {
    assert_none(awaits);
}

#[test]
fn doors_leave_sending_to_the_hub() {
    assert_none(sends);
}

#[test]
fn mod_files_hold_no_logic() {
    assert_none(logic_in_mod_files);
}

#[test]
fn main_is_short() {
    assert_none(long_main);
}

#[test]
fn every_file_says_what_it_is_for() {
    assert_none(missing_head);
}

/// Runs one rule over the whole tree and fails with every breach of it.
fn assert_none(rule: fn(&Source) -> Vec<String>) {
    let found: Vec<String> = tree().iter().flat_map(rule).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

// The rules.

fn upward_arrows(source: &Source) -> Vec<String> {
    let from = source.layer_name();
    let Some(own) = rank(from) else {
        return vec![source.at(0, &format!("module `{from}` has no layer; give it one in tests/layering.rs"))];
    };
    let mut found = Vec::new();
    for (offset, to) in source.arrows() {
        let complaint = match rank(to) {
            _ if to == from => continue,
            Some(other) if other < own => continue,
            Some(other) if other == own => format!("`{from}` may not use `{to}`: they share a layer"),
            Some(_) => format!("`{from}` may not use `{to}`: arrows point down"),
            None => format!("`crate::{to}` has no layer; name the module that defines it"),
        };
        found.push(source.at(offset, &complaint));
    }
    found
}

fn awaits(source: &Source) -> Vec<String> {
    if !NEVER_AWAIT.contains(&source.layer_name()) {
        return Vec::new();
    }
    let offsets = words(&source.code, "async").chain(words(&source.code, "await"));
    offsets.map(|offset| source.at(offset, &format!("`{}` never awaits", source.layer_name()))).collect()
}

fn sends(source: &Source) -> Vec<String> {
    if source.layer_name() != "doors" {
        return Vec::new();
    }
    let calls = SENDING.iter().flat_map(|call| source.code.match_indices(call));
    let mut found: Vec<String> = calls
        .map(|(offset, call)| source.at(offset, &format!("a door never sends: `{call}…)` is the hub's")))
        .collect();
    if !speaks_socketio(source) {
        // The word alone would miss `socketioxide_core`.
        let uses = source.code.match_indices("socketioxide").map(|(offset, _)| offset);
        found.extend(uses.map(|offset| source.at(offset, "only the Socket.IO doors may use socketioxide")));
    }
    found
}

/// Whether this is one of the doors that hand bytes to socketioxide.
fn speaks_socketio(source: &Source) -> bool {
    let door = source.module.get(1).map_or("", String::as_str);
    door.starts_with("socketio") || door == "upgrade" || door == "polling"
}

fn logic_in_mod_files(source: &Source) -> Vec<String> {
    if !source.path.ends_with("/mod.rs") {
        return Vec::new();
    }
    words(&source.code, "fn")
        // Without a name it is a function's type.
        .filter(|offset| source.code[offset + "fn".len()..].starts_with(char::is_whitespace))
        .map(|offset| source.at(offset, "mod.rs holds docs, `mod` lines and public names, no functions"))
        .collect()
}

fn long_main(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if source.path != "src/main.rs" || lines < MAIN_LINES {
        return Vec::new();
    }
    vec![source.at(0, &format!("main.rs has {lines} lines and should stay under {MAIN_LINES}"))]
}

fn missing_head(source: &Source) -> Vec<String> {
    if source.text.trim_start().starts_with("//!") {
        return Vec::new();
    }
    vec![source.at(0, "a file begins with `//!` and what it is for")]
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

// The rules, against files made up to break them.

#[test]
fn an_upward_arrow_is_caught() {
    let made_up = Source::new("src/rooms/name.rs", "//! Names.\n\nuse crate::doors::http;\n");
    assert_eq!(upward_arrows(&made_up), ["src/rooms/name.rs:3: `rooms` may not use `doors`: arrows point down"]);
}

#[test]
fn an_arrow_is_caught_however_it_is_written() {
    for text in [
        "use crate::{log, session::{Session, connect}};",
        "use crate::{\n    connection,\n    session,\n};",
        "pub(crate) use crate::session::Session as Life;",
        "fn f(_: crate::session::Session) {}",
        "fn f() { crate :: session :: connect() }",
        "use super::super::session::Session;",
        "use super::super::{session, log};",
        "macro_rules! m { () => { $crate::session::connect() } }",
    ] {
        let found = upward_arrows(&Source::new("src/hub/publish.rs", text));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains("`hub` may not use `session`"), "{text}: {found:?}");
    }
}

#[test]
fn an_arrow_down_or_within_a_module_is_fine() {
    let text =
        "use crate::{config::Config, hub::Hub, log::{Log, session}};\nuse super::Hub;\nuse super::super::wire::Id;\n";
    assert_eq!(upward_arrows(&Source::new("src/hub/publish.rs", text)), [""; 0]);
    assert_eq!(upward_arrows(&Source::new("src/session/connect.rs", "use crate::hub::Hub;")), [""; 0]);
    assert_eq!(upward_arrows(&Source::new("src/lib.rs", "pub use crate::server::Server;")), [""; 0]);
}

#[test]
fn modules_of_one_layer_do_not_know_each_other() {
    let found = upward_arrows(&Source::new("src/auth/jwt.rs", "use crate::limits::Rate;"));
    assert_eq!(found, ["src/auth/jwt.rs:1: `auth` may not use `limits`: they share a layer"]);
    assert_eq!(upward_arrows(&Source::new("src/log/disk.rs", "use crate::connection::Outbox;")).len(), 1);
}

#[test]
fn a_module_without_a_layer_is_caught_on_both_ends() {
    assert_eq!(upward_arrows(&Source::new("src/misc.rs", "")).len(), 1);
    assert_eq!(upward_arrows(&Source::new("src/hub/mod.rs", "use crate::Anything;")).len(), 1);
}

#[test]
fn comments_literals_and_tests_do_not_count() {
    let text = r##"
        //! [`crate::doors`] is above.
        /* crate::doors /* crate::cli */ crate::doors */
        const A: &str = "crate::doors \" crate::cli";
        const B: &str = r#"crate::doors " crate::cli"#;
        const C: [char; 3] = ['"', '\'', '\u{22}'];
        fn r#type<'a>(_: &'a str) {}
        #[cfg(test)]
        use crate::doors::Door;
        #[cfg(test)]
        #[allow(dead_code)]
        fn sized(_: [u8; 4]) { crate::doors::open() }
        use crate::session::Session;
        #[cfg(test)]
        mod tests {
            use crate::doors::Door;
            fn f() { { crate::cli::run() } }
        }
    "##;
    let found = upward_arrows(&Source::new("src/hub/publish.rs", text));
    assert_eq!(found, ["src/hub/publish.rs:13: `hub` may not use `session`: arrows point down"]);
}

#[test]
fn a_test_module_in_a_file_of_its_own_is_found() {
    let declares = |path| Source::new(path, "mod real;\n#[cfg(test)]\nmod tests;\n").test_modules();
    assert_eq!(declares("src/hub/mod.rs"), [["hub", "tests"]]);
    assert_eq!(declares("src/hub/publish.rs"), [["hub", "publish", "tests"]]);
    assert_eq!(declares("src/lib.rs"), [["tests"]]);
    assert!(Source::new("src/hub/mod.rs", "#[cfg(test)]\nmod tests { }").test_modules().is_empty());
}

#[test]
fn awaiting_in_the_vocabulary_is_caught() {
    let text = "async fn f() {\n    g().await;\n}\nfn awaited(asynchronous: u8) {}\n";
    let found = awaits(&Source::new("src/rooms/scope.rs", text));
    assert_eq!(found, ["src/rooms/scope.rs:1: `rooms` never awaits", "src/rooms/scope.rs:2: `rooms` never awaits"]);
    assert!(awaits(&Source::new("src/hub/publish.rs", text)).is_empty());
}

#[test]
fn a_door_that_sends_is_caught() {
    let text = "use socketioxide_core::Sid;\nfn f(io: &Io) {\n    io.emit(\"a\", 1);\n    post(broadcast);\n}\n";
    assert_eq!(sends(&Source::new("src/doors/http/broadcast.rs", text)).len(), 2);
    assert_eq!(sends(&Source::new("src/doors/socketio.rs", text)).len(), 1);
    assert_eq!(sends(&Source::new("src/doors/upgrade.rs", text)).len(), 1);
    assert!(sends(&Source::new("src/delivery/fallback.rs", text)).is_empty());
}

#[test]
fn logic_in_a_mod_file_is_caught() {
    let text = "//! Hub.\nmod publish;\npub type Rule = fn(&str) -> bool;\npub fn f() {}\n#[cfg(test)]\nmod tests { fn g() {} }\n";
    assert_eq!(logic_in_mod_files(&Source::new("src/hub/mod.rs", text)).len(), 1);
    assert!(logic_in_mod_files(&Source::new("src/hub/publish.rs", text)).is_empty());
}

#[test]
fn a_long_main_and_a_missing_head_are_caught() {
    assert_eq!(long_main(&Source::new("src/main.rs", &"\n".repeat(40))).len(), 1);
    assert!(long_main(&Source::new("src/main.rs", &"\n".repeat(39))).is_empty());
    assert_eq!(missing_head(&Source::new("src/hub/mod.rs", "// Hub.\nmod publish;\n")).len(), 1);
    assert!(missing_head(&Source::new("src/hub/mod.rs", "//! Hub.\n")).is_empty());
}
