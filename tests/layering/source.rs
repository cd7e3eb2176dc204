//! The files of `src/` as the rules see them: what counts of each, and which
//! modules it names. Just enough of Rust's grammar, and no more.

use std::fs;
use std::path::Path;

use super::rank;

/// One file of `src/`.
pub(crate) struct Source {
    /// Path from the root of the project, with forward slashes.
    pub(crate) path: String,
    /// Names from the root of the crate: `["hub", "publish"]` for `src/hub/publish.rs`.
    pub(crate) module: Vec<String>,
    /// The file as it is.
    pub(crate) text: String,
    /// The file with everything that does not count turned into spaces, so that offsets still tell the line.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        Self {
            path: path.to_owned(),
            module: inner.split('/').map(str::to_owned).collect(),
            text: text.to_owned(),
            code: without_tests(without_comments_and_literals(text)),
        }
    }

    /// The name that [`LAYERS`] knows this file by.
    pub(crate) fn layer_name(&self) -> &str {
        &self.module[0]
    }

    pub(crate) fn at(&self, offset: usize, complaint: &str) -> String {
        let line = self.code[..offset].matches('\n').count() + 1;
        format!("{}:{line}: {complaint}", self.path)
    }

    /// Where this file names a module of the crate, and which.
    pub(crate) fn arrows(&self) -> Vec<(usize, &str)> {
        let mut arrows = Vec::new();
        for offset in words(&self.code, "crate") {
            if let Some(path) = after_separator(&self.code[offset + "crate".len()..]) {
                arrows.extend(first_names(path).into_iter().map(|name| (offset, name)));
            }
        }
        arrows.extend(self.arrows_by_super());
        arrows
    }

    /// The same for paths that climb to the root with `super::`. An inline
    /// module climbs one more, so names that are no module's are let pass.
    fn arrows_by_super(&self) -> Vec<(usize, &str)> {
        let mut arrows = Vec::new();
        for offset in words(&self.code, "super") {
            let mut climbed = 0;
            let mut rest = &self.code[offset..];
            while let Some(path) = rest.strip_prefix("super").and_then(after_separator) {
                climbed += 1;
                rest = path;
            }
            if climbed == self.module.len() {
                arrows.extend(
                    first_names(rest).into_iter().filter(|name| rank(name).is_some()).map(|name| (offset, name)),
                );
            }
        }
        arrows
    }

    /// The modules this file declares as `#[cfg(test)] mod name;`.
    pub(crate) fn test_modules(&self) -> Vec<Vec<String>> {
        let is_root = matches!(self.path.as_str(), "src/lib.rs" | "src/main.rs");
        let base = if is_root { &[] } else { self.module.as_slice() };
        let code = without_comments_and_literals(&self.text);
        let declared = code.split(TEST_ONLY).skip(1).filter_map(|rest| {
            let name = rest.trim_start().strip_prefix("mod ")?;
            let name = &name[..name.find(|c| !is_ident(c))?];
            rest.trim_start()["mod ".len() + name.len()..].starts_with(';').then_some(name)
        });
        declared.map(|name| base.iter().cloned().chain([name.to_owned()]).collect()).collect()
    }
}

/// Every file of `src/`, in the order of the paths.
pub(crate) fn tree() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(root, "src", &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let tests: Vec<_> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        if tests.iter().any(|test| source.module.starts_with(test)) {
            source.code = source.text.chars().map(space).collect();
        }
    }
    assert!(sources.len() > 1, "src/ was not found");
    sources
}

fn collect(root: &Path, folder: &str, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(root.join(folder)).expect("src/ is readable") {
        let entry = entry.expect("src/ is readable");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(root, &path, sources);
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).expect("a source file is readable text");
            sources.push(Source::new(&path, &text));
        }
    }
}

/// What rustfmt makes of the attribute.
const TEST_ONLY: &str = "#[cfg(test)]";

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Keeps lines where they are.
fn space(c: char) -> char {
    if c == '\n' { '\n' } else { ' ' }
}

/// Where `word` stands as a word of its own.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(offset, _)| offset).filter(move |&offset| {
        !code[..offset].ends_with(is_ident) && !code[offset + word.len()..].starts_with(is_ident)
    })
}

/// What follows a `::`, if that is what comes next.
fn after_separator(code: &str) -> Option<&str> {
    Some(code.trim_start().strip_prefix("::")?.trim_start())
}

/// The first name of a path, or of each path in a group: `a` and `d` for `{a::{b, c}, d}`.
fn first_names(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else {
        return first_name(path).into_iter().collect();
    };
    let mut names: Vec<&str> = first_name(group).into_iter().collect();
    let mut depth = 1;
    for (offset, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.extend(first_name(&group[offset + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn first_name(path: &str) -> Option<&str> {
    let path = path.trim_start();
    let end = path.find(|c| !is_ident(c)).unwrap_or(path.len());
    (end > 0).then(|| &path[..end])
}

fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let skipped = skipped(&chars[at..]);
        code.extend(chars[at..at + skipped].iter().copied().map(space));
        at += skipped;
        if skipped == 0 {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// Length of the comment or literal that `rest` begins with, or 0.
fn skipped(rest: &[char]) -> usize {
    match rest {
        ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => string(rest),
        ['r', '"' | '#', ..] => raw_string(rest),
        // Anything else with one quote is a lifetime.
        ['\'', '\\', _, tail @ ..] => 3 + tail.iter().position(|&c| c == '\'').map_or(tail.len(), |end| end + 1),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        // A raw identifier, such as `r#type`.
        return 0;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = 2 + hashes;
    let end = rest[body..].windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| body + end + close.len())
}

/// Blanks what only tests compile.
fn without_tests(mut code: String) -> String {
    while let Some(start) = code.find(TEST_ONLY) {
        let end = start + TEST_ONLY.len() + item_len(&code[start + TEST_ONLY.len()..]);
        let blank: String = code[start..end].chars().map(space).collect();
        code.replace_range(start..end, &blank);
    }
    code
}

/// Length of the item that `code` begins with: up to its `;`, or the end of its block.
fn item_len(code: &str) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (offset, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => braces -= 1,
            _ => {}
        }
        // Below zero: the item was the last of a block, and had neither.
        if braces < 0 || brackets < 0 {
            return offset;
        }
        if brackets == 0 && braces == 0 && matches!(c, ';' | '}') {
            return offset + c.len_utf8();
        }
    }
    code.len()
}
