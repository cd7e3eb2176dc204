//! Paths: each is one that a client can ask for, and leads to one door.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Findings;
use crate::config::Config;

/// First segments of the paths that the server answers itself.
const OWN_PATHS: [&str; 6] = ["api", "livez", "readyz", "metrics", "docs", "admin-ui"];

/// First segments of the paths that Dexter's services call while its door is open.
const DEXTER_PATHS: [&str; 6] = ["alerts", "broadcast", "connections", "issues", "notify", "users"];

/// Every path that cannot be meant. Dexter's `/ws/{client_id}` may hold other paths: those come first.
pub(super) fn check(config: &Config, found: &mut Findings) {
    let doors = &config.doors;
    let mut taken = BTreeMap::new();
    if doors.gym.enabled {
        taken.insert("/ws/checkins", "doors.gym.enabled".to_owned());
    }
    if doors.apier.enabled {
        taken.insert("/events/ws", "doors.apier.enabled".to_owned());
    }
    for (key, path) in socketio(config) {
        let calls_dexter = doors.dexter.enabled && DEXTER_PATHS.contains(&first_segment(path));
        if calls_dexter && check_path(path).is_ok() {
            let message = format!("Dexter's services call paths that begin like {path:?}; choose another path");
            found.contradiction(&[&key, "doors.dexter.enabled"], message);
        }
        check_one(key, path, Some(&mut taken), found);
    }
    for (index, path) in doors.apier.paths.iter().enumerate() {
        let taken = doors.apier.enabled.then_some(&mut taken);
        check_one(format!("doors.apier.paths[{index}]"), path, taken, found);
    }
    for (index, door) in doors.generic.iter().enumerate() {
        check_one(format!("doors.generic[{index}].path"), &door.path, Some(&mut taken), found);
    }
}

/// The paths of the Socket.IO door.
fn socketio(config: &Config) -> impl Iterator<Item = (String, &String)> {
    let aliases = config.server.path_aliases.iter().enumerate();
    let aliases = aliases.map(|(index, path)| (format!("server.path_aliases[{index}]"), path));
    std::iter::once(("server.path".to_owned(), &config.server.path)).chain(aliases)
}

/// A path, and what has it already; a door that is closed takes none.
fn check_one<'a>(key: String, path: &'a str, taken: Option<&mut BTreeMap<&'a str, String>>, found: &mut Findings) {
    if let Err(reason) = check_path(path) {
        return found.add(key, format!("{reason}, found {path:?}"));
    }
    match taken.map(|taken| taken.entry(path)) {
        Some(Entry::Occupied(by)) => {
            let door = by.get().trim_end_matches(".enabled");
            found.contradiction(&[&key, by.get()], format!("{path:?} is the path of both {door} and {key}"));
        }
        Some(Entry::Vacant(free)) => {
            free.insert(key);
        }
        None => {}
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    let Some(rest) = path.strip_prefix('/').filter(|rest| !rest.is_empty() && !rest.ends_with('/')) else {
        return Err("expected a path that begins with \"/\" and does not end with one");
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    if rest.split('/').any(|part| ["", ".", ".."].contains(&part) || !part.bytes().all(is_plain)) {
        return Err("expected a path of letters, digits, \"-\", \"_\", \".\" and \"~\" between single \"/\"");
    }
    if OWN_PATHS.contains(&first_segment(path)) {
        return Err("expected a path outside /api, /livez, /readyz, /metrics, /docs and /admin-ui");
    }
    Ok(())
}

fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}
