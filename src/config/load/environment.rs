//! Variables of the environment: from a name to a key, and from a text to the values it may mean.

use super::tree::{Path, Step, Value};
use crate::config::problem::Place;

const PREFIX: &str = "TIERCAST__";

/// A variable that sets a key.
pub(super) struct Setting {
    pub(super) variable: String,
    pub(super) path: Path,
    /// What the text may mean, or why it can mean nothing.
    pub(super) readings: Result<Vec<Value>, String>,
}

/// The settings among the variables, the older names first because the newer win. With the door of WorkMatrix open,
/// its listener has the older names of host and port; `listen` is where that would be without them.
pub(super) fn settings(variables: &[(String, String)], listen: Option<&str>) -> Vec<Setting> {
    let older = listen
        .and_then(|listen| workmatrix(variables, listen))
        .into_iter()
        .chain(variables.iter().filter_map(|(name, text)| older(name, text, listen.is_some())));
    let newer = variables.iter().filter_map(|(name, text)| newer(name, text));
    older.chain(newer).collect()
}

/// The variable that sets a key such as `server.port`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The variables that look like ours and set nothing, each with the name that was probably meant.
pub(super) fn strangers(variables: &[(String, String)]) -> Vec<(String, String)> {
    let is_meant = |name: &str| name.to_uppercase().starts_with("TIERCAST") && !name.starts_with(PREFIX);
    let strangers = variables.iter().map(|(name, _)| name).filter(|name| is_meant(name));
    let meant = |name: &String| {
        let (_, rest) = name.split_at("TIERCAST".len());
        format!("{PREFIX}{}", rest.trim_start_matches('_').to_uppercase())
    };
    strangers.map(|name| (name.clone(), meant(name))).collect()
}

fn newer(name: &str, text: &str) -> Option<Setting> {
    let keys = name.strip_prefix(PREFIX)?.to_lowercase();
    let path = Path(keys.split("__").map(|key| Step::Key(key.to_owned())).collect());
    Some(Setting { variable: name.to_owned(), path, readings: Ok(readings(text, &place(name))) })
}

/// The listener of WorkMatrix, from its own variables.
fn workmatrix(variables: &[(String, String)], listen: &str) -> Option<Setting> {
    let value = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str());
    let (host, port) = (value("WEBSOCKET_HOST"), value("WEBSOCKET_PORT"));
    let variable = if port.is_some() { "WEBSOCKET_PORT" } else { "WEBSOCKET_HOST" };
    let (own_host, own_port) = listen.rsplit_once(':').unwrap_or(("127.0.0.1", "8765"));
    let listen = format!("{}:{}", host.or(port.map(|_| own_host))?, port.unwrap_or(own_port));
    Some(Setting {
        variable: variable.to_owned(),
        path: Path::parse("doors.workmatrix.listen"),
        readings: Ok(vec![Value::String(listen)]),
    })
}

fn older(name: &str, text: &str, is_workmatrix: bool) -> Option<Setting> {
    let (key, readings) = match name {
        "WEBSOCKET_HOST" | "WEBSOCKET_PORT" if is_workmatrix => return None,
        "WEBSOCKET_ENABLED" => ("doors.dexter.enabled", Ok(readings(&text.to_lowercase(), &place(name)))),
        "WEBSOCKET_HOST" => ("server.host", Ok(readings(text, &place(name)))),
        "WEBSOCKET_PORT" => ("server.port", Ok(readings(text, &place(name)))),
        "WEBSOCKET_MAX_CONNECTIONS" => ("limits.max_connections_total", Ok(readings(text, &place(name)))),
        "WEBSOCKET_HEARTBEAT_INTERVAL" => ("heartbeat.ping_interval_ms", milliseconds(text)),
        _ => return None,
    };
    Some(Setting { variable: name.to_owned(), path: Path::parse(key), readings })
}

fn place(variable: &str) -> Place {
    Place::Variable(variable.to_owned())
}

/// What a text may mean, the likeliest first: TOML, a plain string, strings between commas.
fn readings(text: &str, place: &Place) -> Vec<Value> {
    let plain = Value::String(text.to_owned());
    match toml_value(text) {
        // Brackets can only be meant as TOML.
        Some(value @ (toml::Value::Array(_) | toml::Value::Table(_))) => vec![Value::from_toml(value, place)],
        Some(value) => vec![Value::from_toml(value, place), plain, between_commas(text, place)],
        None => vec![plain, between_commas(text, place)],
    }
}

fn toml_value(text: &str) -> Option<toml::Value> {
    // A line break would let the text go on with further keys.
    let line = (!text.contains(['\n', '\r'])).then(|| format!("value = {text}"))?;
    toml::from_str::<toml::Table>(&line).ok()?.remove("value")
}

fn between_commas(text: &str, place: &Place) -> Value {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Value::from_toml(toml::Value::Array(items.map(toml::Value::from).collect()), place)
}

fn milliseconds(seconds: &str) -> Result<Vec<Value>, String> {
    let number = seconds.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let Some(number) = number else {
        return Err(format!("expected a number of seconds, found {seconds:?}"));
    };
    Ok(vec![Value::Integer((number * 1_000.0).round() as i64)])
}
