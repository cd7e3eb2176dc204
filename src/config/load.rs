//! From a file, the environment and flags to one [`Config`], or to everything that is wrong with them.
//!
//! Each source is read by itself first, so that every fault has its place and
//! none hides another; a key that cannot be read is set aside and reading goes
//! on without it. What is left is laid one over the other and validated.

mod document;
mod environment;
mod read;
#[cfg(test)]
mod shipped;
mod tree;

use self::document::Document;
use self::read::{Cause, Fault, read};
use self::tree::{Node, Path, Step, Value};
use super::Config;
use super::problem::{Place, Problem};
use super::validate::{self, Finding};

/// What a configuration is made from: a file, the environment and flags, of which the later wins.
#[derive(Debug, Clone, Default)]
pub struct Source {
    file: Option<File>,
    environment: Vec<(String, String)>,
    flags: Vec<Flag>,
}

#[derive(Debug, Clone)]
struct File {
    name: String,
    text: String,
}

#[derive(Debug, Clone)]
struct Flag {
    name: String,
    key: String,
    value: toml::Value,
}

impl Source {
    /// Takes the text of a file; `name` is what problems call it.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.file = Some(File { name: name.into(), text: text.into() });
        self
    }

    /// Takes variables of the environment; those that do not concern the server are passed over.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Variables that were probably meant to set a key and set none, each with what may have been meant; none of this
    /// stops a start.
    pub fn strangers(&self) -> Vec<(String, String)> {
        environment::strangers(&self.environment)
    }

    /// Takes a flag such as `--port`, which sets a key such as `server.port`.
    #[must_use]
    pub fn flag(mut self, name: impl Into<String>, key: impl Into<String>, value: impl Into<toml::Value>) -> Self {
        self.flags.push(Flag { name: name.into(), key: key.into(), value: value.into() });
        self
    }
}

/// Reads and validates a configuration, without touching a file or the environment itself.
///
/// # Errors
/// Everything that is wrong, in the order of the sources and of the lines of the file.
pub fn load(source: Source) -> Result<Config, Vec<Problem>> {
    load_with(source, |_| Vec::new())
}

/// Like [`load`], with what else is wrong by a check that may do I/O: keys, and why their values cannot be meant.
///
/// # Errors
/// Everything that is wrong, in the order of the sources and of the lines of the file.
pub fn load_with(
    source: Source,
    check: impl FnOnce(&Config) -> Vec<(&'static str, String)>,
) -> Result<Config, Vec<Problem>> {
    let mut loading = Loading::default();
    if let Some(file) = source.file {
        loading.file(&file);
    }
    loading.environment(&source.environment);
    for flag in source.flags {
        loading.flag(flag);
    }
    loading.finish(check)
}

/// What the sources read so far say together, and what was wrong with them.
struct Loading {
    tree: Node,
    problems: Vec<Problem>,
    /// Whether the file has faults of syntax, so that keys may be missing which somebody did write.
    is_patchy: bool,
}

impl Default for Loading {
    fn default() -> Self {
        Self { tree: Node::empty(), problems: Vec::new(), is_patchy: false }
    }
}

impl Loading {
    fn file(&mut self, file: &File) {
        let (tree, faults) = Document::parse(&file.name, &file.text);
        let broken: Vec<usize> = faults.iter().filter_map(|(place, _)| place.line()).collect();
        self.is_patchy = !faults.is_empty();
        self.problems.extend(faults.into_iter().map(|(place, message)| Problem { place, key: String::new(), message }));

        let (tree, mut problems) = settle(tree);
        // The parser recovers by guessing, and a guess is not a second fault of its line.
        problems.retain(|problem| problem.place.line().is_none_or(|line| !broken.contains(&line)));
        self.problems.extend(problems);
        self.tree.overlay(tree);
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        let listen = self.workmatrix_listener(variables);
        for setting in environment::settings(variables, listen.as_deref()) {
            let place = Place::Variable(setting.variable);
            let readings = match setting.readings {
                Ok(readings) => readings,
                Err(message) => {
                    self.problems.push(Problem { place, key: setting.path.to_string(), message });
                    continue;
                }
            };
            // The key's type decides which reading is meant; if none fits, the first one is told.
            let mut settled = readings.into_iter().map(|value| settle(Node::single(&setting.path, value, &place)));
            let first = settled.next().expect("a text has at least one reading");
            let (tree, problems) =
                if first.1.is_empty() { first } else { settled.find(|(_, faults)| faults.is_empty()).unwrap_or(first) };
            self.problems.extend(problems);
            self.tree.overlay(tree);
        }
    }

    /// Where WorkMatrix's own listener is by the file, if its door is open.
    fn workmatrix_listener(&self, variables: &[(String, String)]) -> Option<String> {
        let at = |key: &str| self.tree.at(&Path::parse(key)).map(|node| &node.value);
        let variable = environment::variable("doors.workmatrix.enabled");
        let enabled = match variables.iter().find(|(name, _)| *name == variable) {
            Some((_, text)) => text == "true",
            None => matches!(at("doors.workmatrix.enabled"), Some(Value::Boolean(true))),
        };
        let listen = || match at("doors.workmatrix.listen") {
            Some(Value::String(listen)) => listen.clone(),
            _ => String::new(),
        };
        enabled.then(listen)
    }

    fn flag(&mut self, flag: Flag) {
        let place = Place::Flag(flag.name);
        let value = Value::from_toml(flag.value, &place);
        let (tree, problems) = settle(Node::single(&Path::parse(&flag.key), value, &place));
        self.problems.extend(problems);
        self.tree.overlay(tree);
    }

    fn finish(mut self, check: impl FnOnce(&Config) -> Vec<(&'static str, String)>) -> Result<Config, Vec<Problem>> {
        let config: Config = read(&self.tree).expect("sources that can be read one by one can be read together");
        let checked = check(&config).into_iter().map(|(key, message)| Finding { keys: vec![key.to_owned()], message });
        let findings = validate::problems(&config).into_iter().chain(checked);
        self.problems.extend(findings.filter_map(|finding| self.place(finding)).collect::<Vec<_>>());
        if self.problems.is_empty() {
            return Ok(config);
        }
        self.problems.sort_by(|a, b| a.place.cmp(&b.place));
        Err(self.problems)
    }

    /// A finding at the place that set its key; none if it only follows from a fault that is told already.
    fn place(&self, finding: Finding) -> Option<Problem> {
        let is_contradiction = finding.keys.len() > 1;
        let paths: Vec<Path> = finding.keys.iter().map(|key| self.tree.as_written(&Path::parse(key))).collect();
        if (is_contradiction && self.is_patchy) || paths.iter().any(|path| self.tree.is_spoilt_at(path)) {
            return None;
        }
        let set = paths.iter().find_map(|path| Some((path, self.tree.at(path)?.place.clone())));
        // What is missing is missing in its section.
        let (path, place) = set.unwrap_or_else(|| (&paths[0], self.tree.nearest(&paths[0]).place.clone()));
        Some(Problem { place, key: path.to_string(), message: finding.message })
    }
}

/// Reads a tree until nothing in it is at fault, setting aside what is.
fn settle(mut tree: Node) -> (Node, Vec<Problem>) {
    let mut problems = Vec::new();
    while let Err(fault) = read::<Config>(&tree) {
        problems.extend(told(&tree, &fault));
        tree.spoil(&fault.path);
    }
    (tree, problems)
}

/// The problem that a fault is; none if it only follows from one that is told already.
fn told(tree: &Node, fault: &Fault) -> Option<Problem> {
    let node = tree.at(&fault.path)?;
    let (path, message) = match &fault.cause {
        Cause::UnknownKey(known) => (fault.path.clone(), unknown_key(&fault.path, known, &node.place)),
        Cause::MissingKey(key) => {
            let path = fault.path.join(Step::Key((*key).to_owned()));
            if tree.at(&path).is_some() {
                return None;
            }
            (path, "missing; it has no default".to_owned())
        }
        Cause::Expected(expected) => (fault.path.clone(), unexpected(&fault.path, expected, &node.value)),
        Cause::Refused(reason) => (fault.path.clone(), reason.clone()),
    };
    Some(Problem { place: node.place.clone(), key: path.to_string(), message })
}

fn unexpected(path: &Path, serdes_words: &str, found: &Value) -> String {
    let key = path.to_string();
    let expected = match serdes_words {
        "usize" | "u64" | "u32" | "u16" | "u8" => validate::range(&key).unwrap_or_else(|| "an integer".to_owned()),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        other => other.to_owned(),
    };
    // Whoever mixes up the keys of a section that holds a secret may have put the secret itself there.
    let is_near_secret =
        ["api.keys", "auth.jwt", "escalation", "client_events"].iter().any(|section| key.starts_with(section));
    match found {
        Value::String(_) if is_near_secret => format!("expected {expected}, found a string"),
        Value::Integer(_) if key.ends_with(".secret") => format!("expected {expected}, found an integer"),
        _ => format!("expected {expected}, found {found}"),
    }
}

fn unknown_key(path: &Path, known: &[&str], place: &Place) -> String {
    let Some((table, Step::Key(key))) = path.split_last() else {
        return "unknown key".to_owned();
    };
    let Some(near) = nearest(key, known) else {
        return "unknown key".to_owned();
    };
    let meant = table.join(Step::Key(near.to_owned())).to_string();
    match place {
        Place::Variable(_) => format!("unknown key, did you mean {}?", environment::variable(&meant)),
        _ => format!("unknown key, did you mean {meant:?}?"),
    }
}

/// The known key that was probably meant: a longer form of the one written, or one with few letters changed.
fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let changes_allowed = (written.chars().count() / 3).max(1);
    let closest = known.iter().map(|key| (edits(written, key), *key)).min()?;
    let longer = || known.iter().find(|key| written.len() >= 3 && key.contains(written)).copied();
    if closest.0 <= changes_allowed { Some(closest.1) } else { longer() }
}

/// How many letters must be added, removed, changed or swapped with their neighbour to make one word of the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut table = vec![vec![0; to.len() + 1]; from.len() + 1];
    for (i, j) in (0..=from.len()).flat_map(|i| (0..=to.len()).map(move |j| (i, j))) {
        table[i][j] = if i == 0 || j == 0 {
            i + j
        } else {
            let changed = table[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let fewest = changed.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            let is_swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if is_swapped { fewest.min(table[i - 2][j - 2] + 1) } else { fewest }
        };
    }
    table[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(source: Source) -> Vec<String> {
        load(source).expect_err("problems").iter().map(Problem::to_string).collect()
    }

    fn file(text: &str) -> Source {
        Source::default().file("config.toml", text)
    }

    fn environment(variables: &[(&str, &str)]) -> Source {
        let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        Source::default().environment(variables.iter().map(own))
    }

    #[test]
    fn nothing_is_the_defaults() {
        assert_eq!(load(Source::default()), Ok(Config::default()));
        assert_eq!(load(file("")), Ok(Config::default()));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let source = file("[server]\nport = 1\nhost = \"::1\"\nshutdown_grace_ms = 7")
            .environment([("TIERCAST__SERVER__PORT".to_owned(), "2".to_owned())])
            .environment([("TIERCAST__SERVER__HOST".to_owned(), "localhost".to_owned())])
            .flag("--port", "server.port", 3);
        let server = load(source).expect("a configuration").server;
        assert_eq!((server.port, server.host.as_str(), server.shutdown_grace_ms), (3, "localhost", 7));
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_place() {
        let text = r#"
[limits]
max_connections_total = "many"
max_conections_per_org = 5
room_max_size = 0

[sever]
port = 1

[events]
forms = "all"

[[events.custom]]
name = "order:shipped"

[[events.custom]]
name = "connect"
channel = "orders"
colour = "red"
"#;
        let source = file(text).environment([("TIERCAST__SERVER__PROT".to_owned(), "1".to_owned())]).flag(
            "--port",
            "server.port",
            70_000,
        );
        assert_eq!(
            problems(source),
            [
                "config.toml:3: limits.max_connections_total: expected an integer of at least 1, found \"many\"",
                "config.toml:4: limits.max_conections_per_org: unknown key, did you mean \"limits.max_connections_per_org\"?",
                "config.toml:5: limits.room_max_size: expected an integer of at least 1, found 0",
                "config.toml:7: sever: unknown key, did you mean \"server\"?",
                "config.toml:11: events.forms: expected \"named\" or \"envelope\" or \"both\", found \"all\"",
                "config.toml:13: events.custom[0].channel: missing; it has no default",
                "config.toml:17: events.custom[1].name: \"connect\" is a name that Socket.IO or this server uses itself",
                "config.toml:19: events.custom[1].colour: unknown key",
                "TIERCAST__SERVER__PROT: server.prot: unknown key, did you mean TIERCAST__SERVER__PORT?",
                "--port: server.port: expected an integer from 0 to 65535, found 70000",
            ]
        );
    }

    #[test]
    fn problems_of_freshness_have_their_line() {
        let text = "[[events.freshness]]\nchannel = \"kpi\"\nexpected_interval_ms = 5000\n\
                    [[events.freshness]]\nchannel = \"kpi\"\nexpected_interval_ms = 5\n\
                    [[events.freshness]]\nchannel = \"all\"\n";
        assert_eq!(
            problems(file(text)),
            [
                "config.toml:5: events.freshness[1].channel: \"kpi\" is there twice",
                "config.toml:6: events.freshness[1].expected_interval_ms: expected an integer from 1000 to 43200000, found 5",
                "config.toml:7: events.freshness[2].expected_interval_ms: missing; it has no default",
            ]
        );
    }

    #[test]
    fn a_bad_value_is_told_even_where_a_later_source_replaces_it() {
        let source = file("[server]\nport = \"x\"").flag("--port", "server.port", 1);
        assert_eq!(problems(source), ["config.toml:2: server.port: expected an integer from 0 to 65535, found \"x\""]);
    }

    #[test]
    fn faults_of_syntax_are_told_with_line_and_column_beside_the_others() {
        let told = problems(file("[server]\nport = \nhost = 3\n[limits]\nroom_max_size = 5\nroom_max_size = 6\n"));
        assert_eq!(told.len(), 3, "{told:#?}");
        assert!(told[0].starts_with("config.toml:2:8: "), "{told:#?}");
        assert_eq!(told[1], "config.toml:3: server.host: expected a string, found 3");
        assert_eq!(told[2], "config.toml:6:1: duplicate key \"room_max_size\"");
    }

    #[test]
    fn an_open_bracket_is_not_told_again_at_every_line_it_swallows() {
        let text = "[server]\ncors_origins = [ \"a\",\nhost = 3\n[limits]\nroom_max_size = 0\n";
        let told = problems(file(text));
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(told[0].starts_with("config.toml:3:1: "), "{told:#?}");
        assert!(told[1].starts_with("config.toml:5:18: unclosed array"), "{told:#?}");
    }

    #[test]
    fn variables_take_the_type_of_their_key() {
        let source = environment(&[
            ("TIERCAST__DOORS__DEMO__ENABLED", "true"),
            ("TIERCAST__DOORS__DEMO__ORGANIZATION", "42"),
            ("TIERCAST__SERVER__PATH", "/live"),
            ("TIERCAST__SERVER__CORS_ORIGINS", "https://a.example, https://b.example"),
            ("TIERCAST__SERVER__PATH_ALIASES", ""),
            ("TIERCAST__API__KEYS", &format!("[{{ name = \"a\", hash = \"sha256:{:064}\", rights = [\"read\"] }}]", 0)),
            ("PATH", "/bin"),
        ]);
        let config = load(source).expect("a configuration");
        assert!(config.doors.demo.enabled);
        assert_eq!(config.doors.demo.organization, "42");
        assert_eq!(config.server.path, "/live");
        assert_eq!(config.server.cors_origins, ["https://a.example", "https://b.example"]);
        assert!(config.server.path_aliases.is_empty());
        assert_eq!(config.api.keys[0].name, "a");
    }

    #[test]
    fn the_older_variables_work_and_yield_to_the_newer() {
        let config = load(environment(&[
            ("TIERCAST__SERVER__PORT", "2"),
            ("WEBSOCKET_PORT", "1"),
            ("WEBSOCKET_HOST", "::1"),
            ("WEBSOCKET_HEARTBEAT_INTERVAL", "1.5"),
            ("WEBSOCKET_MAX_CONNECTIONS", "9"),
        ]))
        .expect("a configuration");
        assert_eq!((config.server.port, config.server.host.as_str()), (2, "::1"));
        assert_eq!(config.heartbeat.ping_interval_ms, 1_500);
        assert_eq!(config.limits.max_connections_total, 9);
        assert_eq!(
            problems(environment(&[("WEBSOCKET_HEARTBEAT_INTERVAL", "often"), ("WEBSOCKET_PORT", "x")])),
            [
                "WEBSOCKET_HEARTBEAT_INTERVAL: heartbeat.ping_interval_ms: expected a number of seconds, found \"often\"",
                "WEBSOCKET_PORT: server.port: expected an integer from 0 to 65535, found \"x\"",
            ]
        );
    }

    #[test]
    fn the_older_variables_are_workmatrixs_when_its_door_is_open() {
        let text = "[doors.workmatrix]\nenabled = true\norganization = \"org\"";
        let load = |text: &str, variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            load(file(text).environment(variables)).expect("a configuration")
        };
        let config = load(text, &[("WEBSOCKET_PORT", "9000"), ("WEBSOCKET_HOST", "localhost")]);
        assert_eq!((config.doors.workmatrix.listen.as_str(), config.server.port), ("localhost:9000", 5000));
        assert_eq!(load(text, &[("WEBSOCKET_PORT", "9000")]).doors.workmatrix.listen, "127.0.0.1:9000");
        assert_eq!(load(text, &[]).doors.workmatrix.listen, "");
        let listening = format!("{text}\nlisten = \"[::1]:1\"");
        assert_eq!(load(&listening, &[("WEBSOCKET_PORT", "2")]).doors.workmatrix.listen, "[::1]:2");
    }

    #[test]
    fn a_public_address_needs_keys_and_a_word_about_trust() {
        assert_eq!(
            problems(Source::default().flag("--host", "server.host", "0.0.0.0")).len(),
            2,
            "trusted mode and an API without keys"
        );
        let meant = "[auth]\nallow_trusted = true\n[api]\nallow_keyless = true";
        assert!(load(file(meant).flag("--host", "server.host", "0.0.0.0")).is_ok());
    }

    #[test]
    fn a_path_of_two_doors_is_told_where_one_is_set_with_both() {
        let told = problems(file("[server]\npath = \"/socket.io\"\n"));
        let both = "\"/socket.io\" is the path of both server.path and server.path_aliases[0]";
        assert_eq!(told, [format!("config.toml:2: server.path: {both}")]);
        let text = "[doors.gym]\nenabled = true\norganization = \"gym\"\n[auth.jwt]\nsecret = \"01234567890123456789012345678901\"\n\
                    [server]\npath_aliases = [\n  \"/a\",\n  \"/ws/checkins\",\n]\n";
        let both = "\"/ws/checkins\" is the path of both doors.gym and server.path_aliases[1]";
        assert_eq!(problems(file(text)), [format!("config.toml:9: server.path_aliases[1]: {both}")]);
    }

    #[test]
    fn what_is_missing_has_the_line_of_its_section() {
        let told = problems(file("[auth]\n\n[doors.workmatrix]\nenabled = true\n"));
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].starts_with("config.toml:3: doors.workmatrix.organization: "), "{told:#?}");
    }

    #[test]
    fn a_contradiction_is_not_told_when_it_may_follow_from_another_fault() {
        let text = "[auth]\nallow_trusted = 1\n[api]\nallow_keyless = 1\n[server]\nhost = \"0.0.0.0\"";
        assert_eq!(problems(file(text)).len(), 2);
    }

    #[test]
    fn an_item_keeps_its_number_when_one_before_it_is_faulty() {
        let text = "[[api.keys]]\nname = 1\nhash = \"tc_secret\"\nrights = [\"read\"]\n\
                    [[api.keys]]\nname = \"b\"\nhash = \"tc_secret\"\nrights = [\"write\"]\n";
        let told = problems(file(text));
        assert_eq!(told.len(), 3, "{told:#?}");
        assert!(told[0].starts_with("config.toml:2: api.keys[0].name: expected a string"), "{told:#?}");
        assert!(told[1].starts_with("config.toml:7: api.keys[1].hash: "), "{told:#?}");
        assert!(told[2].starts_with("config.toml:8: api.keys[1].rights[0]: expected \"publish\" or"), "{told:#?}");
        assert!(!told.concat().contains("tc_secret"), "{told:#?}");
    }

    #[test]
    fn variables_that_look_like_ours_and_set_nothing_are_told() {
        let names = ["TIERCAST_SERVER__PORT", "tiercast__server__port", "TIERCAST", "TIERCAST__SERVER__PORT", "PATH"];
        let told = environment(&names.map(|name| (name, "1"))).strangers();
        let meant: Vec<_> = told.iter().map(|(name, meant)| (name.as_str(), meant.as_str())).collect();
        let port = "TIERCAST__SERVER__PORT";
        assert_eq!(meant, [(names[0], port), (names[1], port), (names[2], "TIERCAST__")]);
    }

    #[test]
    fn a_secret_is_never_repeated() {
        for jwt in
            ["secret = 1234567", "secret = \"s1234567\"", "leeway_ms = \"s1234567\"", "algorithms = \"s1234567\""]
        {
            let told = problems(file(&format!("[auth.jwt]\n{jwt}\n")));
            assert_eq!(told.len(), 1, "{jwt}: {told:#?}");
            assert!(!told.concat().contains("1234567"), "{told:#?}");
        }
        for text in [
            "[escalation]\nsecret = 1234567\n",
            "[escalation]\npublish = \"s1234567\"\n",
            "[[client_events]]\nevent = \"a\"\naction = \"forward\"\nurl = \"http://a\"\nsecret = 1234567\n",
        ] {
            let told = problems(file(text));
            assert!(!told.is_empty() && !told.concat().contains("1234567"), "{told:#?}");
        }
        let kept = load(file("[escalation]\nsecret = \"s1234567\"\n")).expect("a configuration");
        assert!(!format!("{kept:?}").contains("1234567"));
    }
}
