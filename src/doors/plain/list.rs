//! Which plain doors are open, and where.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::auth::{Authenticator, Door, System};
use crate::config::{Config, DoorIdentity, GenericDoor};
use crate::dialects::{Apier, Dexter, Dialect, Generic, Gym, Intraday, Shape, WorkMatrix};
use crate::doors::origin::Origins;
use crate::events::{Catalogue, ChannelMask};
use crate::rooms::Id;

/// The id that no Dexter client can give itself, since AV-Gym's path has its place.
const RESERVED: &str = "checkins";

/// One plain door.
#[derive(Debug, Clone)]
pub struct PlainDoor {
    /// What its clients speak.
    pub dialect: Arc<dyn Dialect>,
    /// Who they are.
    pub door: Arc<Door>,
    /// Which browsers may come in.
    pub(super) origins: Arc<Origins>,
    /// How long events are collected into one frame, unless a client says otherwise.
    pub(super) batch_ms: u64,
    /// Address of a listener of its own.
    pub listen: Option<String>,
    paths: Paths,
}

/// Where a door is.
#[derive(Debug, Clone)]
enum Paths {
    /// At exactly these.
    These(Vec<String>),
    /// At `/ws/{client_id}`.
    ClientIds,
}

/// What a path says beside the door that it leads to.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The id that a client has given itself.
    pub(super) client_id: Option<String>,
}

impl PlainDoor {
    /// What a path of the main listener says, if it leads here.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        match &self.paths {
            Paths::These(paths) => paths.iter().any(|own| own == path).then(Place::default),
            Paths::ClientIds => {
                let id = path.strip_prefix("/ws/")?;
                let id = percent_decode_str(id.strip_suffix('/').unwrap_or(id)).decode_utf8().ok()?;
                let is_one = !id.contains('/') && id != RESERVED && Id::parse(&id).is_ok();
                is_one.then(|| Place { client_id: Some(id.into_owned()) })
            }
        }
    }

    /// Whether it is the door of these paths, `path/` included.
    fn at(config: &Config, made: Made<'_>, paths: impl IntoIterator<Item = String>) -> Self {
        let both = |path: String| [format!("{path}/"), path];
        Self::new(config, made, Paths::These(paths.into_iter().flat_map(both).collect()))
    }

    fn new(config: &Config, made: Made<'_>, paths: Paths) -> Self {
        let Made { dialect, door, origins, batch_ms, listen } = made;
        let origins: Vec<String> = config.server.cors_origins.iter().chain(origins).cloned().collect();
        Self {
            dialect,
            door: Arc::new(door),
            origins: Arc::new(Origins::new(&origins)),
            batch_ms,
            listen: (!listen.is_empty()).then(|| listen.to_owned()),
            paths,
        }
    }
}

/// What a door is made of.
struct Made<'a> {
    dialect: Arc<dyn Dialect>,
    door: Door,
    origins: &'a [String],
    batch_ms: u64,
    listen: &'a str,
}

/// Every plain door that is open, those at exact paths first; a dialect has the number of its door.
pub fn plain_doors(config: &Config, catalogue: &Catalogue, authenticator: &Authenticator) -> Vec<PlainDoor> {
    let mask = |names: &[&str]| {
        names.iter().filter_map(|name| catalogue.channel(name)).fold(ChannelMask::NONE, ChannelMask::with)
    };
    let door = |system, organization: &str, identity, anonymous: Option<&[String]>, unasked: &[&str]| Door {
        system,
        organization: Id::parse(organization).ok(),
        identity,
        anonymous_channels: anonymous.filter(|channels| !channels.is_empty()).map(<[String]>::to_vec),
        unasked: mask(unasked),
        until_first: system == System::Apier,
        authenticator: authenticator.clone(),
    };
    let doors = &config.doors;
    let mut list = Vec::new();
    if doors.intraday.enabled {
        let made = Made {
            dialect: Arc::new(Intraday),
            door: door(System::Intraday, "", as_everywhere(authenticator), None, &[]),
            origins: &[],
            batch_ms: 0,
            listen: "",
        };
        list.push(PlainDoor::at(config, made, [config.server.path.clone()]));
    }
    let workmatrix = &doors.workmatrix;
    if workmatrix.enabled {
        let made = Made {
            dialect: Arc::new(WorkMatrix),
            door: door(System::WorkMatrix, &workmatrix.organization, workmatrix.identity, None, &[]),
            origins: &workmatrix.origins,
            batch_ms: 0,
            listen: &workmatrix.listen,
        };
        list.push(PlainDoor::new(config, made, Paths::These(vec!["/".into()])));
    }
    let gym = &doors.gym;
    if gym.enabled {
        let made = Made {
            dialect: Arc::new(Gym),
            door: door(System::Gym, &gym.organization, gym.identity, None, &["checkins"]),
            origins: &gym.origins,
            batch_ms: gym.batch_ms,
            listen: "",
        };
        list.push(PlainDoor::at(config, made, ["/ws/checkins".into()]));
    }
    let apier = &doors.apier;
    if apier.enabled {
        let anonymous = Some(&apier.anonymous_channels[..]);
        let unasked = ["events", "metrics"];
        let made = Made {
            dialect: Arc::new(Apier),
            door: door(System::Apier, &apier.organization, apier.identity, anonymous, &unasked),
            origins: &apier.origins,
            batch_ms: 0,
            listen: "",
        };
        list.push(PlainDoor::at(config, made, std::iter::once("/events/ws".to_owned()).chain(apier.paths.clone())));
    }
    for generic in &doors.generic {
        let anonymous = Some(&generic.anonymous_channels[..]);
        let unasked: Vec<&str> = generic.channels.iter().map(String::as_str).collect();
        let made = Made {
            dialect: Arc::new(Generic::new(shape_of(generic))),
            door: door(System::Generic, &generic.organization, generic.identity, anonymous, &unasked),
            origins: &generic.origins,
            batch_ms: generic.batch_ms,
            listen: "",
        };
        list.push(PlainDoor::at(config, made, [generic.path.clone()]));
    }
    // Last, since other doors may be at paths that a client of this one could make.
    let dexter = &doors.dexter;
    if dexter.enabled {
        // What is sent to all is sent to visitors too.
        let is_open = !dexter.anonymous_channels.is_empty();
        let global = is_open.then(|| "global".to_owned());
        let anonymous: Vec<String> = dexter.anonymous_channels.iter().cloned().chain(global).collect();
        let made = Made {
            dialect: Arc::new(Dexter),
            door: door(System::Dexter, &dexter.organization, dexter.identity, Some(&anonymous), &["global"]),
            origins: &dexter.origins,
            batch_ms: 0,
            listen: "",
        };
        list.push(PlainDoor::new(config, made, Paths::ClientIds));
    }
    list
}

/// How clients say who they are at a door that leaves it to `auth.mode`.
fn as_everywhere(authenticator: &Authenticator) -> DoorIdentity {
    if authenticator.believes() { DoorIdentity::Declared } else { DoorIdentity::Token }
}

fn shape_of(door: &GenericDoor) -> Shape {
    let default = Shape::default();
    let or = |named: &Option<String>, default: String| named.clone().unwrap_or(default);
    Shape {
        type_key: or(&door.type_key, default.type_key),
        data_key: or(&door.data_key, default.data_key),
        id_key: or(&door.id_key, default.id_key),
        ping: or(&door.ping, default.ping),
        pong: or(&door.pong, default.pong),
        subscribe: or(&door.subscribe, default.subscribe),
        unsubscribe: or(&door.unsubscribe, default.unsubscribe),
        authenticate: or(&door.authenticate, default.authenticate),
        error: or(&door.error, default.error),
        ack_suffix: or(&door.ack_suffix, default.ack_suffix),
    }
}

/// The value of a parameter; some clients write a second `?` where an `&` belongs.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    // A `+` is a space in a form, and no part of a token or a number.
    Some(percent_decode_str(written(query, name)?).decode_utf8_lossy()).filter(|value| !value.is_empty())
}

/// The same as it is written.
pub(super) fn written<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split(['&', '?']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors() -> Vec<PlainDoor> {
        let mut config = Config::default();
        for name in ["workmatrix", "dexter", "gym", "apier"] {
            let organization = "org".to_owned();
            match name {
                "workmatrix" => {
                    (config.doors.workmatrix.enabled, config.doors.workmatrix.organization) = (true, organization);
                }
                "dexter" => (config.doors.dexter.enabled, config.doors.dexter.organization) = (true, organization),
                "gym" => (config.doors.gym.enabled, config.doors.gym.organization) = (true, organization),
                _ => (config.doors.apier.enabled, config.doors.apier.organization) = (true, organization),
            }
        }
        config.doors.apier.paths = vec!["/production".into()];
        plain_doors(&config, &Catalogue::new(&[]), &Authenticator::new(&config.auth, None, &Arc::default()))
    }

    #[test]
    fn each_path_leads_to_one_door() {
        let doors = doors();
        let system = |path: &str| {
            let found: Vec<_> = doors.iter().filter(|door| door.place(path).is_some()).collect();
            assert!(found.len() < 2, "{path}");
            found.first().map(|door| door.door.system)
        };
        for path in ["/ws", "/ws/"] {
            assert_eq!(system(path), Some(System::Intraday), "{path}");
        }
        assert_eq!(system("/"), Some(System::WorkMatrix));
        for path in ["/ws/checkins", "/ws/checkins/"] {
            assert_eq!(system(path), Some(System::Gym), "{path}");
        }
        for path in ["/ws/client_1", "/ws/test-client/", "/ws/a%20b"] {
            assert_eq!(system(path), Some(System::Dexter), "{path}");
        }
        for path in ["/events/ws", "/events/ws/", "/production"] {
            assert_eq!(system(path), Some(System::Apier), "{path}");
        }
        for path in ["/ws/a/b", "/ws/a%2Fb", "/wsx", "/ws/%00", "/ws//", "/other"] {
            assert_eq!(system(path), None, "{path}");
        }
    }

    #[test]
    fn exact_paths_come_before_those_with_a_client_id() {
        let mut config = Config::default();
        (config.doors.dexter.enabled, config.doors.apier.enabled) = (true, true);
        config.doors.apier.paths = vec!["/ws/prod".into()];
        let live = serde_json::json!({ "path": "/ws/live", "organization": "org" });
        config.doors.generic.push(serde_json::from_value(live).expect("a door"));
        config.server.path = "/ws/rt".into();
        let doors =
            plain_doors(&config, &Catalogue::new(&[]), &Authenticator::new(&config.auth, None, &Arc::default()));
        let first = |path: &str| doors.iter().find(|door| door.place(path).is_some()).map(|door| door.door.system);
        for (path, system) in [
            ("/ws/prod", System::Apier),
            ("/ws/live/", System::Generic),
            ("/ws/rt", System::Intraday),
            ("/ws/product", System::Dexter),
        ] {
            assert_eq!(first(path), Some(system), "{path}");
        }
    }

    #[test]
    fn parameters_are_found_behind_a_second_question_mark_too() {
        assert_eq!(parameter("a=1?token=x%2By", "token").as_deref(), Some("x+y"));
        assert_eq!(parameter("xtoken=1&token=", "token"), None);
    }
}
