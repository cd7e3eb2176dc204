//! What SECURITY.md says of the tests and of the configuration is so.

use std::fs;
use std::path::{Path, PathBuf};

use tiercast::config::{Problem, Source, load};

/// A row of the table of threats: what is named as its tests.
struct Row {
    threat: String,
    tests: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text() -> String {
    fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md")
}

/// The rows that name a defence, from the table under `## Threats`.
fn rows(text: &str) -> Vec<Row> {
    let (_, table) = text.split_once("\n## Threats\n").expect("a section of threats");
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows = cells.skip(1).map(|row| row.split(" | ").map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| !cells[0].starts_with("**"))
        .map(|cells| {
            let [threat, _, tests] = cells[..] else { panic!("a row has three cells: {cells:?}") };
            Row { threat: threat.to_owned(), tests: quoted(tests) }
        })
        .collect()
}

/// The pieces of a cell in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a test is where its name says.
fn is_there(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("js:") {
        let Some((file, title)) = rest.split_once(": ") else { return false };
        let source =
            read(&root().join("js-client-tests").join(file)).replace("test(`", "test('").replace("test(\"", "test('");
        // A title that is made for several cases is named by how it begins.
        let title = format!("test('{title}");
        let mut found = source.match_indices(&title).filter_map(|(at, _)| source.get(at + title.len()..));
        return found.any(|behind| ["'", "\"", "`", " ${", ", ${"].iter().any(|end| behind.starts_with(end)));
    }
    let (files, path) = match name.strip_prefix("unit:") {
        Some(path) => (files_of(path), path),
        None => {
            let file = name.split("::").next().unwrap_or_default();
            (vec![root().join(format!("tests/it/{file}.rs"))], name)
        }
    };
    let function = path.rsplit("::").next().unwrap_or_default();
    files.iter().any(|file| has_test(&read(file), function))
}

/// Where the tests of a module are: at its foot, or in a file beside it.
fn files_of(path: &str) -> Vec<PathBuf> {
    let module = path.rsplit_once("::").map_or("", |(module, _)| module).replace("::", "/");
    [format!("{module}.rs"), format!("{module}/tests.rs")].map(|file| root().join("src").join(file)).into()
}

fn has_test(source: &str, function: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = |line: &str| {
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        name.and_then(|name| name.split_once('(')).is_some_and(|(name, _)| name == function)
    };
    lines.iter().enumerate().any(|(number, line)| {
        let attribute = number.checked_sub(1).map_or("", |before| lines[before]);
        begins(line) && ["#[test]", "#[tokio::test]"].contains(&attribute)
    })
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn every_test_that_stands_against_a_threat_is_there() {
    let text = text();
    let rows = rows(&text);
    assert!(rows.len() > 40, "{} rows", rows.len());
    assert!(!text.contains("TODO"), "a row is not finished");
    let missing = rows.iter().flat_map(|row| row.tests.iter().map(move |test| (row, test)));
    let missing: Vec<String> = missing
        .filter(|(_, test)| !is_there(test))
        .map(|(row, test)| format!("{}: there is no test {test:?}", row.threat))
        .collect();
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let table =
        "\n## Threats\n\n| threat | defence | tests |\n|---|---|---|\n| **A** | | |\n| a | b | `c::d`, `js:e: f` |\n";
    let rows = rows(table);
    assert_eq!((rows.len(), &*rows[0].threat, rows[0].tests.len()), (1, "a", 2));
    for name in [
        "theft::opens_no_session",
        "theft::nothing",
        "nobody::a",
        "unit:auth::jwt::tokens",
        "js:cors.test.js: a",
        "js:x",
    ] {
        assert!(!is_there(name), "{name}");
    }
    assert!(is_there("unit:auth::keys::a_key_gives_its_rights_and_organizations"));
}

#[test]
fn configurations_that_it_shows_are_good() {
    let text = text();
    let shown: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!shown.is_empty());
    for configuration in shown {
        if let Err(problems) = load(Source::default().file("SECURITY.md", configuration)) {
            panic!("{}", problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"));
        }
    }
}
