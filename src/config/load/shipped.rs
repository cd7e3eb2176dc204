//! The shipped `config.toml` shows every key, at its default.

use super::*;

const SHIPPED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml"));

/// The file with its keys taken out of their comments, as a reader would do it.
fn uncommented() -> String {
    SHIPPED.lines().map(|line| key_line(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The file with the examples of repeated blocks taken out of their comments.
fn with_examples() -> String {
    SHIPPED.lines().map(|line| line.strip_prefix("#   ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn key_line(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("# ")?;
    let (key, _) = rest.split_once(" = ")?;
    (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).then_some(rest)
}

fn parse(text: &str) -> Node {
    let (tree, faults) = Document::parse("config.toml", text);
    assert!(faults.is_empty(), "{faults:?}");
    tree
}

/// The keys that the table at a path may have, if there is a table: an impossible key makes serde name them.
fn known(path: &str) -> Option<&'static [&'static str]> {
    let path = Path::parse(path).join(Step::Key("impossible".to_owned()));
    match read::<Config>(&Node::single(&path, Value::Integer(0), &Place::Unset)) {
        Err(Fault { cause: Cause::UnknownKey(known), .. }) => Some(known),
        _ => None,
    }
}

/// Every key that is no table, in dotted form.
fn leaves(path: &str) -> Vec<String> {
    let tables = [path.to_owned(), format!("{path}[0]")];
    let Some((table, keys)) = tables.iter().find_map(|table| Some((table, known(table)?))) else {
        return vec![path.to_owned()];
    };
    let dot = if path.is_empty() { "" } else { "." };
    keys.iter().flat_map(|key| leaves(&format!("{table}{dot}{key}"))).collect()
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(load(Source::default().file("config.toml", SHIPPED)), Ok(Config::default()));
}

#[test]
fn its_keys_stand_at_their_defaults() {
    assert_eq!(load(Source::default().file("config.toml", uncommented())), Ok(Config::default()));
}

#[test]
fn its_examples_are_valid() {
    let config = load(Source::default().file("config.toml", with_examples())).expect("a configuration");
    assert_eq!(config.events.custom[0].name, "order:shipped");
    assert_eq!(config.events.freshness[0].channel, "kpi");
    assert_eq!(config.api.keys[0].name, "backend");
    assert_eq!(config.client_events.len(), 2);
}

#[test]
fn it_shows_every_key() {
    let (keys, examples) = (parse(&uncommented()), parse(&with_examples()));
    let all = leaves("");
    assert!(all.len() > 60, "{all:?}");
    for key in all {
        // A repeated block may have several examples, each with keys that the others cannot have.
        let shown = |tree: &Node| {
            let nth = |n: usize| Path::parse(&key.replace("[0]", &format!("[{n}]")));
            (0..3).any(|n| tree.at(&nth(n)).is_some())
        };
        assert!(shown(&keys) || shown(&examples), "config.toml lacks {key}");
    }
}

#[test]
fn every_number_has_a_range() {
    for key in leaves("").iter().filter(|key| !key.contains('[')) {
        let tree = Node::single(&Path::parse(key), Value::Other("1.5".to_owned()), &Place::Unset);
        let problem = settle(tree).1.pop().expect("no key takes a fraction");
        assert_ne!(problem.message, "expected an integer, found 1.5", "{key}");
    }
}
