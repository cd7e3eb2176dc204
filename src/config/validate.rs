//! Values that can be read but not be meant, and keys that contradict each other.
//!
//! Looks only at a finished [`Config`]; where a key was set is for `load` to
//! know. The ranges of numbers are in `ranges.rs`.

mod client_events;
mod cluster;
mod doors;
mod jwt;
mod paths;
mod ranges;
mod server;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

pub(super) use self::ranges::range;
use self::server::exposure;
use super::origin::EXPECTED as EXPECTED_ORIGIN;
use super::{ApiKey, AuthMode, Config, Freshness, OriginPattern};
use crate::events::Catalogue;
use crate::rooms::Id;

/// One value or contradiction that cannot be meant.
#[derive(Debug)]
pub(super) struct Finding {
    /// The keys it is about, the one to look at first; several of them contradict each other.
    pub(super) keys: Vec<String>,
    pub(super) message: String,
}

/// Everything about a configuration that cannot be meant.
pub(super) fn problems(config: &Config) -> Vec<Finding> {
    let mut found = Findings(ranges::problems(config));
    check_address(config, &mut found);
    server::check(config, &mut found);
    cluster::check(config, &mut found);
    paths::check(config, &mut found);
    jwt::check(config, &mut found);
    check_url("escalation.url", &config.escalation.url, &mut found);
    check_origins("server.cors_origins", &config.server.cors_origins, &mut found);
    check_custom_events(config, &mut found);
    check_freshness(config, &mut found);
    check_demo(config, &mut found);
    doors::check(config, &mut found);
    client_events::check(config, &mut found);
    check_outbox(config, &mut found);
    check_ack_timeouts(config, &mut found);
    check_api_keys(config, &mut found);
    check_logging(config, &mut found);
    found.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding { keys: vec![key.into()], message: message.into() });
    }

    fn contradiction(&mut self, keys: &[&str], message: String) {
        self.0.push(Finding { keys: keys.iter().map(|key| (*key).to_owned()).collect(), message });
    }
}

/// The development rule: what is fine between programs of one machine is not fine for the world.
fn check_address(config: &Config, found: &mut Findings) {
    let host = &config.server.host;
    if !is_host(host) {
        found.add("server.host", format!("expected an IP address or a host name, found {host:?}"));
        return;
    }
    let Some((key, why)) = exposure(config) else { return };
    if config.auth.mode == AuthMode::Trusted && !config.auth.allow_trusted {
        found.contradiction(
            &[key, "auth.mode", "auth.allow_trusted"],
            format!(
                "{why}, and auth.mode = \"trusted\" believes whatever a client says; \
                 if that is meant, set auth.allow_trusted = true"
            ),
        );
    }
    if config.api.keys.is_empty() && !config.api.allow_keyless {
        found.contradiction(
            &[key, "api.keys", "api.allow_keyless"],
            format!(
                "{why}, and without [[api.keys]] anyone may call the HTTP API; make a key with \
                 `tiercast key new --name NAME`, or set api.allow_keyless = true if that is meant"
            ),
        );
    }
}

fn is_loopback(host: &str) -> bool {
    let is_address = |address: IpAddr| address.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_address)
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    // A last label of digits is an address with a slip in it, such as `127.0.0`.
    let ends_in_digits = name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    host.parse::<IpAddr>().is_ok() || (name.len() <= 253 && !ends_in_digits && name.split('.').all(is_label))
}

/// A URL that the server calls, if there is one.
fn check_url(key: &str, url: &str, found: &mut Findings) {
    let is_one = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if !url.is_empty() && !is_one {
        // It may hold a password.
        found.add(key.to_owned(), "expected a URL such as \"https://host/path\", or \"\" for none".to_owned());
    }
}

fn check_origins(at: &str, origins: &[String], found: &mut Findings) {
    for (index, origin) in origins.iter().enumerate() {
        if OriginPattern::parse(origin).is_none() {
            found.add(format!("{at}[{index}]"), format!("{EXPECTED_ORIGIN}, found {origin:?}"));
        }
    }
}

/// Names that Socket.IO and its clients use for their own events, and ours for what is not in the catalogue.
const RESERVED_EVENTS: [&str; 30] = [
    "ack",
    "authenticate",
    "authenticated",
    "batch",
    "client:ping",
    "client:pong",
    "client:subscribe",
    "client:unsubscribe",
    "connect",
    "connect_error",
    "connect_timeout",
    "connected",
    "connecting",
    "connection",
    "disconnect",
    "disconnecting",
    "error",
    "initial_stats",
    "message",
    "newListener",
    "ping",
    "pong",
    "presence",
    "reconnect",
    "reconnect_attempt",
    "reconnect_error",
    "reconnect_failed",
    "removeListener",
    "subscribe",
    "unsubscribe",
];

/// Words that stand for something else in the name of a room or in an answer.
const RESERVED_CHANNELS: [&str; 4] = ["org", "user", "implicit", "all"];

/// With the built-in ones there are 64, one bit each.
const MAX_CUSTOM_CHANNELS: usize = 46;

fn check_custom_events(config: &Config, found: &mut Findings) {
    let built_in = Catalogue::new(&[]);
    let (mut names, mut channels) = (BTreeSet::new(), BTreeSet::new());
    for (index, event) in config.events.custom.iter().enumerate() {
        let key = |field: &str| format!("events.custom[{index}].{field}");
        if let Err(reason) = check_event_name(&event.name, &built_in) {
            found.add(key("name"), reason);
        } else if !names.insert(&event.name) {
            found.add(key("name"), format!("{:?} is there twice", event.name));
        }
        if let Err(reason) = check_channel_name(&event.channel) {
            found.add(key("channel"), reason);
        } else if built_in.channel(&event.channel).is_none()
            && channels.insert(&event.channel)
            && channels.len() == MAX_CUSTOM_CHANNELS + 1
        {
            found.add(key("channel"), format!("expected at most {MAX_CUSTOM_CHANNELS} channels of one's own"));
        }
        if event.entity.as_ref().is_some_and(String::is_empty) {
            found.add(key("entity"), "expected the name of a field; leave the key out for none");
        }
    }
}

/// Shorter, and the network decides; longer, and the silence is forgotten before it is told.
const FRESHNESS_MS: RangeInclusive<u64> = 1_000..=43_200_000;

fn check_freshness(config: &Config, found: &mut Findings) {
    let mut channels = BTreeSet::new();
    for (index, freshness) in config.events.freshness.iter().enumerate() {
        let key = |field: &str| format!("events.freshness[{index}].{field}");
        let Freshness { channel, expected_interval_ms } = freshness;
        if ["all", "presence"].contains(&channel.as_str()) {
            found.add(key("channel"), format!("expected a channel that data is published on, found {channel:?}"));
        } else if !is_channel(config, channel) {
            found.add(
                key("channel"),
                format!("expected a channel of the catalogue or of events.custom, found {channel:?}"),
            );
        } else if !channels.insert(channel) {
            found.add(key("channel"), format!("{channel:?} is there twice"));
        }
        if !FRESHNESS_MS.contains(expected_interval_ms) {
            let (least, most) = FRESHNESS_MS.into_inner();
            let expected = format!("expected an integer from {least} to {most}, found {expected_interval_ms}");
            found.add(key("expected_interval_ms"), expected);
        }
    }
}

/// Whether a channel is built in or declared; a catalogue of all that is declared may have too many to be made.
fn is_channel(config: &Config, name: &str) -> bool {
    Catalogue::new(&[]).channel(name).is_some() || config.events.custom.iter().any(|event| event.channel == name)
}

fn check_event_name(name: &str, built_in: &Catalogue) -> Result<(), String> {
    check_own_name(name)?;
    if built_in.event(name).is_some() {
        return Err(format!("{name:?} is a built-in event"));
    }
    Ok(())
}

/// A name that an event may have and that means nothing else.
fn check_own_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.-".contains(&byte);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_plain) {
        let expected = "expected 1 to 64 letters, digits, \":\", \"_\", \".\" and \"-\", such as \"order:shipped\"";
        return Err(format!("{expected}, found {name:?}"));
    }
    if RESERVED_EVENTS.contains(&name) {
        return Err(format!("{name:?} is a name that Socket.IO or this server uses itself"));
    }
    Ok(())
}

fn check_channel_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_plain) {
        return Err(format!("expected 1 to 64 lower-case letters, digits, \"_\" and \"-\", found {name:?}"));
    }
    if RESERVED_CHANNELS.contains(&name) {
        return Err(format!("{name:?} is a word with a meaning of its own; name the channel otherwise"));
    }
    Ok(())
}

fn check_demo(config: &Config, found: &mut Findings) {
    if let Err(reason) = Id::parse(&config.doors.demo.organization) {
        found.add("doors.demo.organization", reason.to_string());
    }
}

fn check_ack_timeouts(config: &Config, found: &mut Findings) {
    let (usual, longest) = (config.api.ack_timeout_ms, config.api.max_ack_timeout_ms);
    if usual > longest {
        found.contradiction(
            &["api.ack_timeout_ms", "api.max_ack_timeout_ms"],
            format!("api.ack_timeout_ms ({usual}) is longer than api.max_ack_timeout_ms ({longest})"),
        );
    }
}

fn check_outbox(config: &Config, found: &mut Findings) {
    let (soft, hard) = (config.outbox.soft_limit_bytes, config.outbox.hard_limit_bytes);
    if soft > hard {
        found.contradiction(
            &["outbox.soft_limit_bytes", "outbox.hard_limit_bytes"],
            format!("outbox.soft_limit_bytes ({soft}) is larger than outbox.hard_limit_bytes ({hard})"),
        );
    }
}

fn check_api_keys(config: &Config, found: &mut Findings) {
    let mut names = BTreeSet::new();
    for (index, api_key) in config.api.keys.iter().enumerate() {
        let key = |field: &str| format!("api.keys[{index}].{field}");
        let ApiKey { name, hash, rights, organizations, publishes_per_second, reads_per_second } = api_key;
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            found.add(key("name"), format!("expected a name for the log, found {name:?}"));
        } else if !names.insert(name) {
            found.add(key("name"), format!("{name:?} is there twice"));
        }
        if !is_hash(hash) {
            // What stands here may be the key itself, so it is not repeated.
            found.add(key("hash"), "expected \"sha256:\" and 64 hexadecimal digits, as `tiercast key new` prints them");
        }
        if rights.is_empty() {
            found.add(key("rights"), "expected at least one of publish, read and admin");
        }
        if organizations.as_ref().is_some_and(Vec::is_empty) {
            found.add(key("organizations"), "an empty list allows no organization; leave the key out to allow all");
        }
        for (field, rate) in [("publishes_per_second", publishes_per_second), ("reads_per_second", reads_per_second)] {
            if rate.is_some_and(|rate| rate > 1_000_000) {
                found.add(
                    key(field),
                    format!("expected an integer from 0 to 1000000, found {}", rate.unwrap_or_default()),
                );
            }
        }
        for (position, organization) in organizations.iter().flatten().enumerate() {
            if let Err(reason) = Id::parse(organization) {
                found.add(key(&format!("organizations[{position}]")), reason.to_string());
            }
        }
    }
}

fn is_hash(text: &str) -> bool {
    let is_hexadecimal = |digits: &str| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.strip_prefix("sha256:").is_some_and(is_hexadecimal)
}

fn check_logging(config: &Config, found: &mut Findings) {
    let level = config.logging.level.trim();
    // A filter takes a lone word that is no level for the name of a module, and would hide a slip.
    let is_filter = level.contains(['=', '[']) && EnvFilter::try_new(level).is_ok();
    if level.is_empty() || !(is_filter || level.parse::<LevelFilter>().is_ok()) {
        let expected = "expected error, warn, info, debug, trace, off, or a filter such as \"info,tiercast=debug\"";
        found.add("logging.level", format!("{expected}, found {level:?}"));
    }
}

#[cfg(test)]
mod tests;
