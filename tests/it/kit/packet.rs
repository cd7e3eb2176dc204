//! Socket.IO packets (protocol v5) as text: parsed and written by hand.

use serde_json::{Value, json};

/// Type of a Socket.IO packet; the digit is its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
    BinaryEvent,
    BinaryAck,
}

/// One packet that came in.
#[derive(Debug, Clone)]
pub struct Packet {
    pub kind: Kind,
    pub namespace: String,
    pub ack: Option<u64>,
    pub data: Value,
    /// The frame as it came, without the Engine.IO digit.
    pub raw: String,
}

/// One event that came in.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: String,
    pub args: Vec<Value>,
    /// Set when the server wants a Socket.IO ack.
    pub ack: Option<u64>,
    pub raw: String,
}

impl Event {
    /// The first argument.
    pub fn payload(&self) -> &Value {
        self.args.first().unwrap_or(&Value::Null)
    }

    /// The event's own name, whatever form it came in.
    pub fn entry(&self) -> &str {
        if self.name == "message" { self.payload()["event"].as_str().unwrap_or("message") } else { &self.name }
    }

    /// The published data, whatever form it came in.
    pub fn data(&self) -> &Value {
        if self.name == "message" { &self.payload()["data"] } else { self.payload() }
    }
}

impl Packet {
    /// Reads a frame without its Engine.IO digit.
    pub fn parse(raw: &str) -> Self {
        let mut rest = raw;
        let kind = match take(&mut rest, 1) {
            "0" => Kind::Connect,
            "1" => Kind::Disconnect,
            "2" => Kind::Event,
            "3" => Kind::Ack,
            "4" => Kind::ConnectError,
            "5" => Kind::BinaryEvent,
            "6" => Kind::BinaryAck,
            other => panic!("a packet of unknown type {other:?}: {raw}"),
        };
        if matches!(kind, Kind::BinaryEvent | Kind::BinaryAck) {
            let dash = rest.find('-').expect("a binary packet names its attachments");
            rest = &rest[dash + 1..];
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            let end = rest.find(',').unwrap_or(rest.len());
            namespace = take(&mut rest, end);
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let ack = take(&mut rest, digits).parse().ok();
        let data = if rest.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(rest).unwrap_or_else(|error| panic!("{error} in {raw}"))
        };
        Self { kind, namespace: namespace.into(), ack, data, raw: raw.into() }
    }

    /// The event that an EVENT packet carries.
    pub fn event(&self) -> Option<Event> {
        if !matches!(self.kind, Kind::Event | Kind::BinaryEvent) {
            return None;
        }
        let mut args = self.data.as_array().expect("an event is an array").clone();
        let name = args.remove(0).as_str().expect("an event has a name").to_owned();
        Some(Event { name, args, ack: self.ack, raw: self.raw.clone() })
    }
}

/// Writes an EVENT packet, Engine.IO digit included.
pub fn event(namespace: &str, ack: Option<u64>, name: &str, args: &[Value]) -> String {
    let mut array = vec![json!(name)];
    array.extend_from_slice(args);
    write("42", namespace, ack, &Value::Array(array))
}

/// Writes an ACK packet.
pub fn ack(namespace: &str, id: u64, args: &[Value]) -> String {
    write("43", namespace, Some(id), &Value::Array(args.to_vec()))
}

/// Writes a CONNECT packet.
pub fn connect(namespace: &str, auth: Option<&Value>) -> String {
    match auth {
        Some(auth) => write("40", namespace, None, auth),
        None => format!("40{}", prefix(namespace)),
    }
}

/// Writes a DISCONNECT packet.
pub fn disconnect(namespace: &str) -> String {
    format!("41{}", prefix(namespace))
}

fn write(digits: &str, namespace: &str, ack: Option<u64>, data: &Value) -> String {
    let ack = ack.map(|id| id.to_string()).unwrap_or_default();
    format!("{digits}{}{ack}{data}", prefix(namespace))
}

fn prefix(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}

fn take<'a>(rest: &mut &'a str, length: usize) -> &'a str {
    let (head, tail) = rest.split_at(length);
    *rest = tail;
    head
}
