//! Socket.IO packets inside Engine.IO messages, as text.
//!
//! Protocol: <https://socket.io/docs/v4/socket-io-protocol/>. A packet is
//! `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`; an Engine.IO
//! message puts a `4` in front.

use super::{Pid, PublicId};

/// The type of a Socket.IO packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ask for a namespace, or be let in.
    Connect,
    /// Leave a namespace.
    Disconnect,
    /// An event.
    Event,
    /// The answer to an event.
    Ack,
    /// A namespace is refused.
    ConnectError,
    /// An event with attachments.
    BinaryEvent,
    /// An answer with attachments.
    BinaryAck,
}

impl Kind {
    /// The type of a packet by its first byte.
    pub fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            b'0' => Self::Connect,
            b'1' => Self::Disconnect,
            b'2' => Self::Event,
            b'3' => Self::Ack,
            b'4' => Self::ConnectError,
            b'5' => Self::BinaryEvent,
            b'6' => Self::BinaryAck,
            _ => return None,
        })
    }
}

/// The head of a packet, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// Type of the packet.
    pub kind: Kind,
    /// Namespace, `/` when none is written; without its query.
    pub namespace: &'a str,
    /// Whether a query follows the namespace.
    pub has_query: bool,
    /// Attachments that follow; as many as can be named when the number cannot be read.
    pub attachments: u32,
    /// Ack id, if one is written.
    pub id: Option<u64>,
    /// The JSON, or nothing.
    pub body: &'a str,
}

/// Reads the head of a packet, without the `4` of Engine.IO.
pub fn parse(packet: &str) -> Option<Head<'_>> {
    let kind = Kind::of(*packet.as_bytes().first()?)?;
    let mut rest = &packet[1..];
    let mut attachments = 0;
    if matches!(kind, Kind::BinaryEvent | Kind::BinaryAck) {
        let (count, behind) = rest.split_once('-')?;
        attachments = count.parse().unwrap_or(u32::MAX);
        rest = behind;
    }
    let mut namespace = "/";
    let mut has_query = false;
    if rest.starts_with('/') {
        let end = rest.find(',').unwrap_or(rest.len());
        namespace = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or("");
        if let Some((path, _)) = namespace.split_once('?') {
            (namespace, has_query) = (path, true);
        }
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let id = rest[..digits].parse().ok();
    Some(Head { kind, namespace, has_query, attachments, id, body: &rest[digits..] })
}

/// `4<type>[<namespace>,]`: how every Engine.IO message of a packet begins.
fn begin(out: &mut String, kind: char, namespace: &str) {
    out.push('4');
    out.push(kind);
    if namespace != "/" {
        out.push_str(namespace);
        out.push(',');
    }
}

/// The Engine.IO message of an event: `42[<namespace>,][<id>]["name",<argument>…]`.
///
/// `arguments` is JSON without its brackets: the name, and what follows it.
pub fn event(namespace: &str, id: Option<u64>, arguments: &str) -> String {
    let mut out = String::with_capacity(arguments.len() + namespace.len() + 24);
    begin(&mut out, '2', namespace);
    if let Some(id) = id {
        out.push_str(&id.to_string());
    }
    out.push('[');
    out.push_str(arguments);
    out.push(']');
    out
}

/// The Engine.IO message of an answer: `43[<namespace>,]<id>[<argument>]`.
pub fn ack(namespace: &str, id: i64, argument: &str) -> String {
    let mut out = String::with_capacity(argument.len() + namespace.len() + 24);
    begin(&mut out, '3', namespace);
    out.push_str(&id.to_string());
    out.push('[');
    out.push_str(argument);
    out.push(']');
    out
}

/// The Engine.IO message that ends a namespace: `41[<namespace>,]`.
pub fn disconnect(namespace: &str) -> String {
    let mut out = String::new();
    begin(&mut out, '1', namespace);
    out
}

/// The Engine.IO message that lets a socket into a namespace: `40[<namespace>,]{"sid":…,"pid":…}`.
pub fn connect(namespace: &str, admission: &Admission) -> String {
    let mut out = String::new();
    begin(&mut out, '0', namespace);
    out.push_str(&admission.body());
    out
}

/// What a CONNECT reply tells a client: its public id, and how it takes its session up again, if it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Its public id.
    pub id: PublicId,
    /// The secret of its session.
    pub pid: Option<Pid>,
}

impl Admission {
    /// `{"sid":…,"pid":…}`: both are letters and digits, ours, and need no escapes.
    pub fn body(&self) -> String {
        match &self.pid {
            Some(pid) => format!(r#"{{"sid":"{}","pid":"{}"}}"#, self.id, pid.reveal()),
            None => format!(r#"{{"sid":"{}"}}"#, self.id),
        }
    }
}

/// The Engine.IO message that refuses a namespace: `44[<namespace>,]{"message":…}`.
pub fn connect_error(namespace: &str, message: &str) -> String {
    let mut out = String::new();
    begin(&mut out, '4', namespace);
    out.push_str(&serde_json::json!({ "message": message }).to_string());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_with_and_without_namespace_and_id() {
        let head = parse(r#"2["kpi:update",{}]"#).expect("a packet");
        assert_eq!((head.kind, head.namespace, head.id, head.body), (Kind::Event, "/", None, r#"["kpi:update",{}]"#));
        let head = parse(r#"3/org/acme,1099511627776[1]"#).expect("a packet");
        assert_eq!((head.kind, head.namespace, head.id), (Kind::Ack, "/org/acme", Some(1 << 40)));
        assert_eq!(parse("1/org/acme").expect("a packet").namespace, "/org/acme");
        assert_eq!(parse("0/org/acme?token=x,{}").expect("a packet").namespace, "/org/acme");
        let head = parse(r#"51-/n,7["e",{"_placeholder":true,"num":0}]"#).expect("a packet");
        assert_eq!((head.id, head.attachments), (Some(7), 1));
        assert_eq!(parse(r#"599999999999-["e"]"#).expect("a packet").attachments, u32::MAX);
        assert_eq!(parse(""), None);
        assert_eq!(parse("9"), None);
    }

    #[test]
    fn packets_are_written_as_the_protocol_asks() {
        assert_eq!(event("/", None, r#""e",1"#), r#"42["e",1]"#);
        assert_eq!(event("/org/a", Some(5), r#""e",1"#), r#"42/org/a,5["e",1]"#);
        assert_eq!(ack("/", 3, "{}"), "433[{}]");
        assert_eq!(disconnect("/"), "41");
        assert_eq!(disconnect("/org/a"), "41/org/a,");
        let admission = Admission { id: PublicId::fresh(), pid: None };
        assert_eq!(connect("/org/a", &admission), format!(r#"40/org/a,{{"sid":"{}"}}"#, admission.id));
        let pid = Pid::fresh();
        let reply = connect("/", &Admission { pid: Some(pid.clone()), ..admission });
        assert!(reply.contains(pid.reveal()) && !format!("{pid:?}").contains(pid.reveal()));
        assert_eq!(connect_error("/", "no"), r#"44{"message":"no"}"#);
    }
}
