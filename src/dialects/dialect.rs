//! What every dialect can do.

use std::borrow::Cow;
use std::fmt::{self, Debug};

use serde_json::Value;
use serde_json::value::RawValue;

use super::frame::{Writer, grouped};
use crate::wire::message::Envelope;

/// How the clients of one system speak over a plain WebSocket.
///
/// A dialect keeps nothing between two frames. Frames are text, one JSON value each.
pub trait Dialect: Debug + Send + Sync {
    /// What a frame of a client asks for, in order; a batch asks for several things, and what a client says for its
    /// own sake for nothing.
    ///
    /// # Errors
    /// Why the frame cannot be read, as the client is told.
    fn read(&self, frame: &str) -> Result<Vec<Request>, String>;

    /// The frame of a published event; none if clients of this dialect do not know it.
    fn event(&self, event: &Envelope<'_>) -> Option<String>;

    /// The frames of an event of the server's own, such as `connected`, `authenticated`, `error` or `client:pong`,
    /// with the payload that a Socket.IO client would get.
    fn notice(&self, visitor: Visitor<'_>, name: &str, payload: &Value) -> Vec<String>;

    /// The frames that answer what was asked, with the ack that a Socket.IO client would get.
    fn answer(&self, asked: &Asked, ack: &Value) -> Vec<String>;

    /// The frames that refuse what was asked, with the failing ack: `{success:false, code, message, …}`. What comes
    /// with no `asked` refuses a frame that could not be read, or the connection itself.
    fn refuse(&self, asked: Option<&Asked>, failure: &Value) -> Vec<String>;

    /// Whether its clients know an event of this name; `system:*` is nothing to them unless the dialect says so.
    fn knows(&self, event: &str) -> bool {
        !event.starts_with("system:")
    }

    /// Type and content of a published event, as they stand in a batch: its whole frame, unless the dialect says
    /// otherwise.
    fn part(&self, event: &Envelope<'_>) -> Option<(String, String)> {
        self.event(event).map(|frame| (event.event.to_owned(), frame))
    }

    /// The frame of several events: each type with its contents, in order.
    fn batch(&self, groups: &[(&str, Vec<&str>)]) -> String {
        Writer::begin("type", "batch").raw("data", &format!("{{\"batches\":{}}}", grouped(groups))).end()
    }

    /// The close code (RFC 6455, section 7.4) that has this meaning for the system's clients; none if they
    /// only understand a connection that breaks.
    fn close_code(&self, ending: Ending) -> Option<u16>;
}

/// Something a frame asks for, as an event of a Socket.IO client.
#[derive(Clone)]
pub struct Request {
    /// Name of the event.
    pub name: Cow<'static, str>,
    /// Its argument.
    pub argument: Box<RawValue>,
    /// What the answer has to repeat.
    pub asked: Asked,
}

impl fmt::Debug for Request {
    /// Without its argument, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("name", &self.name).field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// What the answer to a frame has to know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Type of the frame.
    pub what: Cow<'static, str>,
    /// What else is repeated, as JSON: an id, a channel, a timestamp.
    pub detail: Option<Box<str>>,
}

/// Who is at the other end, as far as a greeting tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Visitor<'a> {
    /// The id that the client has given itself in its URL.
    pub client_id: Option<&'a str>,
}

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The client shall come back: the server restarts, or moves it away.
    Restart,
    /// The client shall stay away: it did not say who it is, went over its limits, or was sent away.
    Dismissed,
}

impl Request {
    /// An event with an argument that is already JSON.
    pub(super) fn new(name: impl Into<Cow<'static, str>>, argument: Box<RawValue>, asked: Asked) -> Self {
        Self { name: name.into(), argument, asked }
    }
}

impl Asked {
    /// A frame of this type.
    pub(super) fn new(what: impl Into<Cow<'static, str>>, detail: Option<&RawValue>) -> Self {
        Self { what: what.into(), detail: detail.map(|detail| detail.get().into()) }
    }
}
