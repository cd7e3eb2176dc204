//! `[doors]`: one struct for each door beside Socket.IO.

use serde::Deserialize;

/// Longest time that events are collected into one frame, in milliseconds.
pub const MAX_BATCH_MS: u64 = 100;

/// `[doors]`: the doors beside Socket.IO.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Doors {
    /// `[doors.demo]`: the demo dashboard.
    pub demo: DemoDoor,
    /// `[doors.intraday]`: Socket.IO's events in plain JSON.
    pub intraday: IntradayDoor,
    /// `[doors.workmatrix]`: WorkMatrix.
    pub workmatrix: WorkMatrixDoor,
    /// `[doors.dexter]`: Dexter.
    pub dexter: DexterDoor,
    /// `[doors.gym]`: AV-Gym.
    pub gym: GymDoor,
    /// `[doors.apier]`: API/er.
    pub apier: ApierDoor,
    /// `[[doors.generic]]`: systems whose frames the configuration describes.
    pub generic: Vec<GenericDoor>,
}

/// `[doors.intraday]`: plain JSON at the paths of the Socket.IO door.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntradayDoor {
    /// Whether a WebSocket without `EIO` in its query may speak plain JSON. Defaults to true.
    pub enabled: bool,
}

impl Default for IntradayDoor {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[doors.workmatrix]`: plain WebSockets of WorkMatrix frontends and agents.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkMatrixDoor {
    /// Whether the door is open, at `/`. Defaults to false.
    pub enabled: bool,
    /// Organization of its sockets and intakes. Required when it is open.
    pub organization: String,
    /// How its clients say who they are. Defaults to `declared`.
    pub identity: DoorIdentity,
    /// Address of a listener of its own, `host:port`, where every path is this door; none if it is empty, as it is by
    /// default.
    pub listen: String,
    /// Browser origins that may come in beside those of `server.cors_origins`.
    pub origins: Vec<String>,
}

impl Default for WorkMatrixDoor {
    fn default() -> Self {
        Self {
            enabled: false,
            organization: String::new(),
            identity: DoorIdentity::Declared,
            listen: String::new(),
            origins: Vec::new(),
        }
    }
}

/// `[doors.dexter]`: plain WebSockets of Dexter frontends, and Dexter's HTTP calls.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DexterDoor {
    /// Whether the door is open, at `/ws/{client_id}`. Defaults to false.
    pub enabled: bool,
    /// Organization of its sockets and intakes. Required when it is open.
    pub organization: String,
    /// How its clients say who they are. Defaults to `token`.
    pub identity: DoorIdentity,
    /// What a client without a valid token may subscribe to; such a client may not come in if there is nothing, as by
    /// default.
    pub anonymous_channels: Vec<String>,
    /// Browser origins that may come in beside those of `server.cors_origins`.
    pub origins: Vec<String>,
}

impl Default for DexterDoor {
    fn default() -> Self {
        Self {
            enabled: false,
            organization: String::new(),
            identity: DoorIdentity::Token,
            anonymous_channels: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// `[doors.gym]`: plain WebSockets of AV-Gym frontends, and its register of check-ins.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GymDoor {
    /// Whether the door is open, at `/ws/checkins`. Defaults to false.
    pub enabled: bool,
    /// Organization of its sockets and intakes. Required when it is open.
    pub organization: String,
    /// How its clients say who they are. Defaults to `token`.
    pub identity: DoorIdentity,
    /// How long events are collected into one frame; 0 is not at all. Defaults to 100.
    pub batch_ms: u64,
    /// File with a JSON list of the members; one that is not absolute is beside the configuration file. None if it is
    /// empty, as it is by default.
    pub members_file: String,
    /// What becomes of a check-in of somebody who is not in that file. Defaults to `accept`.
    pub unknown_members: UnknownMembers,
    /// Browser origins that may come in beside those of `server.cors_origins`.
    pub origins: Vec<String>,
}

impl Default for GymDoor {
    fn default() -> Self {
        Self {
            enabled: false,
            organization: String::new(),
            identity: DoorIdentity::Token,
            batch_ms: 100,
            members_file: String::new(),
            unknown_members: UnknownMembers::Accept,
            origins: Vec::new(),
        }
    }
}

/// `[doors.apier]`: plain WebSockets of API/er frontends.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApierDoor {
    /// Whether the door is open, at `/events/ws`. Defaults to false.
    pub enabled: bool,
    /// Organization of its sockets and intakes. Required when it is open.
    pub organization: String,
    /// How its clients say who they are. Defaults to `anonymous`.
    pub identity: DoorIdentity,
    /// What a client without a valid token may receive. Defaults to all channels of the system.
    pub anonymous_channels: Vec<String>,
    /// Further paths of the door, such as `/production`.
    pub paths: Vec<String>,
    /// Browser origins that may come in beside those of `server.cors_origins`.
    pub origins: Vec<String>,
}

impl Default for ApierDoor {
    fn default() -> Self {
        let channels = ["events", "event_update", "event_created", "event_deleted", "metrics"];
        Self {
            enabled: false,
            organization: String::new(),
            identity: DoorIdentity::Anonymous,
            anonymous_channels: channels.map(String::from).to_vec(),
            paths: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// `[doors.demo]`: the demo dashboard at `/` and its data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemoDoor {
    /// Whether `GET /` is the demo dashboard. Defaults to false; `serve --demo` sets it.
    pub enabled: bool,
    /// Organization that the demo's data is published to. Defaults to `org_demo`.
    pub organization: String,
    /// Time between two publications. Defaults to 1,000.
    pub interval_ms: u64,
}

impl Default for DemoDoor {
    fn default() -> Self {
        Self { enabled: false, organization: "org_demo".into(), interval_ms: 1_000 }
    }
}

/// `[[doors.generic]]`: plain WebSockets of a system whose frames are an object with a type and data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenericDoor {
    /// Path of the door, such as `/live`.
    pub path: String,
    /// Organization of its sockets.
    pub organization: String,
    /// How its clients say who they are. Defaults to `token`.
    #[serde(default = "by_token")]
    pub identity: DoorIdentity,
    /// What a client without a valid token may subscribe to; such a client may not come in if there is nothing, as by
    /// default.
    #[serde(default)]
    pub anonymous_channels: Vec<String>,
    /// Channels that clients receive without asking. Defaults to none.
    #[serde(default)]
    pub channels: Vec<String>,
    /// How long events are collected into one frame; 0 is not at all. Defaults to 0.
    #[serde(default)]
    pub batch_ms: u64,
    /// Browser origins that may come in beside those of `server.cors_origins`.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Key of a frame's type. Defaults to `type`.
    #[serde(default)]
    pub type_key: Option<String>,
    /// Key of its data. Defaults to `data`.
    #[serde(default)]
    pub data_key: Option<String>,
    /// Key of the id that an answer repeats. Defaults to `id`.
    #[serde(default)]
    pub id_key: Option<String>,
    /// Type of a ping. Defaults to `ping`.
    #[serde(default)]
    pub ping: Option<String>,
    /// Type of its answer. Defaults to `pong`.
    #[serde(default)]
    pub pong: Option<String>,
    /// Type that subscribes. Defaults to `subscribe`.
    #[serde(default)]
    pub subscribe: Option<String>,
    /// Type that unsubscribes. Defaults to `unsubscribe`.
    #[serde(default)]
    pub unsubscribe: Option<String>,
    /// Type by which a client says who it is. Defaults to `authenticate`.
    #[serde(default)]
    pub authenticate: Option<String>,
    /// Type of an error. Defaults to `error`.
    #[serde(default)]
    pub error: Option<String>,
    /// What an answer's type has behind the type that it answers. Defaults to `:ack`.
    #[serde(default)]
    pub ack_suffix: Option<String>,
}

fn by_token() -> DoorIdentity {
    DoorIdentity::Token
}

/// How clients of a plain door say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorIdentity {
    /// By a token, see `[auth.jwt]`.
    Token,
    /// As they like, by the development rule.
    Declared,
    /// They do not.
    Anonymous,
}

/// What becomes of a check-in of somebody whom nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownMembers {
    /// The member is taken, and named by the id.
    #[default]
    Accept,
    /// It is refused.
    Refuse,
}
