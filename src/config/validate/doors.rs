//! The plain doors: whose they are, who may come in, and what their frames are like.

use super::{Findings, check_origins, exposure, is_channel, is_host, is_loopback};
use crate::config::{Config, DoorIdentity, GenericDoor, MAX_BATCH_MS};
use crate::rooms::Id;

/// A dialect has one bit for each of its shapes.
const MAX_GENERIC: usize = 20;

/// What all doors have in common.
struct Door<'a> {
    /// Its section.
    at: String,
    enabled: bool,
    organization: &'a str,
    identity: DoorIdentity,
    /// Those with which its clients can do something: their frames say who they are, or visitors receive events.
    identities: &'static [DoorIdentity],
    anonymous_channels: &'a [String],
    origins: &'a [String],
}

fn doors(config: &Config) -> Vec<Door<'_>> {
    use DoorIdentity::{Anonymous, Declared, Token};
    let (workmatrix, dexter) = (&config.doors.workmatrix, &config.doors.dexter);
    let (gym, apier) = (&config.doors.gym, &config.doors.apier);
    let generic = config.doors.generic.iter().enumerate().map(|(index, door)| Door {
        at: format!("doors.generic[{index}]"),
        enabled: true,
        organization: &door.organization,
        identity: door.identity,
        identities: &[Token, Declared, Anonymous],
        anonymous_channels: &door.anonymous_channels,
        origins: &door.origins,
    });
    let systems = [
        Door {
            at: "doors.workmatrix".into(),
            enabled: workmatrix.enabled,
            organization: &workmatrix.organization,
            identity: workmatrix.identity,
            identities: &[Declared, Token],
            anonymous_channels: &[],
            origins: &workmatrix.origins,
        },
        Door {
            at: "doors.dexter".into(),
            enabled: dexter.enabled,
            organization: &dexter.organization,
            identity: dexter.identity,
            identities: &[Token, Anonymous],
            anonymous_channels: &dexter.anonymous_channels,
            origins: &dexter.origins,
        },
        Door {
            at: "doors.gym".into(),
            enabled: gym.enabled,
            organization: &gym.organization,
            identity: gym.identity,
            identities: &[Token],
            anonymous_channels: &[],
            origins: &gym.origins,
        },
        Door {
            at: "doors.apier".into(),
            enabled: apier.enabled,
            organization: &apier.organization,
            identity: apier.identity,
            identities: &[Token, Anonymous],
            anonymous_channels: &apier.anonymous_channels,
            origins: &apier.origins,
        },
    ];
    systems.into_iter().chain(generic).collect()
}

/// Everything about the doors that cannot be meant.
pub(super) fn check(config: &Config, found: &mut Findings) {
    for door in doors(config) {
        let key = |field: &str| format!("{}.{field}", door.at);
        check_origins(&key("origins"), door.origins, found);
        for (index, channel) in door.anonymous_channels.iter().enumerate() {
            if !is_channel(config, channel) {
                let expected = "expected a channel of the catalogue or of events.custom";
                found.add(key(&format!("anonymous_channels[{index}]")), format!("{expected}, found {channel:?}"));
            }
        }
        if !door.enabled {
            continue;
        }
        if door.organization.is_empty() {
            found.add(key("organization"), "an open door needs the organization that its sockets belong to");
        } else if let Err(reason) = Id::parse(door.organization) {
            found.add(key("organization"), reason.to_string());
        }
        check_identity(config, &door, found);
    }
    check_dexter(config, found);
    check_listener(config, found);
    check_generic(config, found);
}

fn check_identity(config: &Config, door: &Door<'_>, found: &mut Findings) {
    let key = |field: &str| format!("{}.{field}", door.at);
    if !door.identities.contains(&door.identity) {
        let expected = door.identities.iter().map(|identity| format!("{:?}", word(*identity))).collect::<Vec<_>>();
        let (expected, found_one) = (expected.join(" or "), word(door.identity));
        let message =
            format!("expected {expected}, found {found_one:?}, with which clients of this door could do nothing");
        return found.add(key("identity"), message);
    }
    match door.identity {
        DoorIdentity::Anonymous if door.anonymous_channels.is_empty() => {
            found.contradiction(
                &[&key("identity"), &key("anonymous_channels")],
                "clients of this door are anonymous, and could do nothing without anonymous_channels".to_owned(),
            );
        }
        DoorIdentity::Declared if !config.auth.allow_trusted => {
            let Some((by, why)) = exposure(config) else { return };
            found.contradiction(
                &[&key("identity"), by, "auth.allow_trusted"],
                format!(
                    "{why}, and a client of this door is taken at its word; if that is meant, set \
                     auth.allow_trusted = true"
                ),
            );
        }
        DoorIdentity::Token if !config.auth.jwt.checks_tokens() && door.anonymous_channels.is_empty() => {
            found.contradiction(
                &[&key("identity"), "auth.jwt.secret"],
                "without auth.jwt.secret, public_key_file, jwks_file or jwks_url no token is accepted, so nobody could \
                 come in"
                    .to_owned(),
            );
        }
        _ => {}
    }
}

/// An identity as it is written.
fn word(identity: DoorIdentity) -> &'static str {
    match identity {
        DoorIdentity::Token => "token",
        DoorIdentity::Declared => "declared",
        DoorIdentity::Anonymous => "anonymous",
    }
}

/// What is about people and single issues is not for visitors of Dexter.
fn check_dexter(config: &Config, found: &mut Findings) {
    for (index, channel) in config.doors.dexter.anonymous_channels.iter().enumerate() {
        if ["presence", "issue", "project"].contains(&channel.as_str()) {
            let key = format!("doors.dexter.anonymous_channels[{index}]");
            found.add(key, format!("{channel:?} is only for clients with a valid token; leave it out"));
        }
    }
}

/// The address of a listener is a host and a port.
fn check_listener(config: &Config, found: &mut Findings) {
    let (listen, key) = (&config.doors.workmatrix.listen, "doors.workmatrix.listen");
    if listen.is_empty() {
        return;
    }
    let parts = listen.rsplit_once(':').map(|(host, port)| (host.trim_matches(['[', ']']), port.parse::<u16>()));
    let Some((host, Ok(_))) = parts.filter(|(host, _)| is_host(host)) else {
        return found.add(key, format!("expected host:port, such as \"127.0.0.1:8765\", found {listen:?}"));
    };
    let believes = config.doors.workmatrix.identity == DoorIdentity::Declared && !config.auth.allow_trusted;
    if config.doors.workmatrix.enabled && believes && !is_loopback(host) {
        found.contradiction(
            &[key, "doors.workmatrix.identity", "auth.allow_trusted"],
            format!(
                "others can reach {host:?}, and a client of this door is taken at its word; if that is meant, set \
                 auth.allow_trusted = true"
            ),
        );
    }
}

fn check_generic(config: &Config, found: &mut Findings) {
    for (index, door) in config.doors.generic.iter().enumerate() {
        let key = |field: &str| format!("doors.generic[{index}].{field}");
        if index >= MAX_GENERIC {
            found.add(key("path"), format!("expected at most {MAX_GENERIC} doors of one's own"));
        }
        for (position, channel) in door.channels.iter().enumerate() {
            if !is_channel(config, channel) {
                let expected = "expected a channel of the catalogue or of events.custom";
                found.add(key(&format!("channels[{position}]")), format!("{expected}, found {channel:?}"));
            }
        }
        if door.batch_ms > MAX_BATCH_MS {
            found
                .add(key("batch_ms"), format!("expected an integer from 0 to {MAX_BATCH_MS}, found {}", door.batch_ms));
        }
        check_names(&key, &names_of_keys(door), found);
        check_names(&key, &names_of_types(door), found);
        for (field, name) in names_of_keys(door).into_iter().filter(|(_, name)| OWN_KEYS.contains(name)) {
            found.add(key(field), format!("{name:?} is a key that this server writes beside; name it otherwise"));
        }
    }
}

/// Keys of a frame that are the same in every shape.
const OWN_KEYS: [&str; 4] = ["message_id", "position", "requires_ack", "timestamp"];

/// What the keys of a frame are called, each with the field that says so.
fn names_of_keys(door: &GenericDoor) -> [(&'static str, &str); 3] {
    [
        ("type_key", door.type_key.as_deref().unwrap_or("type")),
        ("data_key", door.data_key.as_deref().unwrap_or("data")),
        ("id_key", door.id_key.as_deref().unwrap_or("id")),
    ]
}

/// What the types with a meaning of their own are called, each with the field that says so.
fn names_of_types(door: &GenericDoor) -> [(&'static str, &str); 6] {
    let named = [
        ("ping", &door.ping),
        ("pong", &door.pong),
        ("subscribe", &door.subscribe),
        ("unsubscribe", &door.unsubscribe),
        ("authenticate", &door.authenticate),
        ("error", &door.error),
    ];
    named.map(|(field, name)| (field, name.as_deref().unwrap_or(field)))
}

/// Names are there, and each means one thing.
fn check_names(key: &impl Fn(&str) -> String, names: &[(&'static str, &str)], found: &mut Findings) {
    for (index, (field, name)) in names.iter().enumerate() {
        let before = names[..index].iter().find(|(_, other)| other == name);
        if name.is_empty() {
            found.add(key(field), "expected a name; leave the key out for the default");
        } else if let Some((other, _)) = before {
            found.contradiction(
                &[&key(field), &key(other)],
                format!("{name:?} is the name of both {other} and {field}"),
            );
        }
    }
}
