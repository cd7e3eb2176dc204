//! What a stock client remembers so that it can take its session up again.
//!
//! The rules are those of socket.io-client 4.8, in which the offset outlives
//! the session that it belongs to:
//! <https://github.com/socketio/socket.io/blob/main/packages/socket.io-client/lib/socket.ts>.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::bench::requests::shown;

/// The secret of the session, and the position of the last event.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    pid: Option<String>,
    offset: Option<String>,
}

/// What is read of a CONNECT reply.
#[derive(Deserialize)]
struct Reply {
    pid: Option<String>,
}

impl Recovery {
    /// The CONNECT packet.
    pub(super) fn connect(&self) -> String {
        let Some(pid) = &self.pid else { return "40".to_owned() };
        let mut auth = Map::from_iter([("pid".to_owned(), Value::from(pid.as_str()))]);
        if let Some(offset) = &self.offset {
            auth.insert("offset".to_owned(), Value::from(offset.as_str()));
        }
        format!("40{}", Value::Object(auth))
    }

    /// Takes the reply to it, behind the packet's type; whether the session goes on.
    ///
    /// # Errors
    /// If it is malformed.
    pub(super) fn connected(&mut self, reply: &[u8]) -> Result<bool> {
        let Reply { pid } =
            serde_json::from_slice(reply).with_context(|| format!("malformed CONNECT reply {}", shown(reply)))?;
        let recovered = pid.is_some() && pid == self.pid;
        self.pid = pid;
        Ok(recovered)
    }

    /// Takes the offset of an event, if it has one: its last argument, or its name, if that is a string.
    pub(super) fn event(&mut self, packet: &[u8]) {
        // An event that asks for an acknowledgement has a function as last argument.
        let Some(offset) = packet.strip_prefix(b"42").and_then(last_string).filter(|_| self.pid.is_some()) else {
            return;
        };
        self.offset = Some(offset);
    }
}

/// The last item of an array, if that is a string.
fn last_string(array: &[u8]) -> Option<String> {
    let items = array.strip_prefix(b"[")?.trim_ascii_end().strip_suffix(b"]")?.trim_ascii_end();
    let inside = items.strip_suffix(b"\"")?;
    let quotes = (0..inside.len()).rev().filter(|at| inside[*at] == b'"');
    let start = quotes.into_iter().find(|at| escapes(&inside[..*at]).is_multiple_of(2))?;
    serde_json::from_slice(&items[start..]).ok()
}

/// How many backslashes there are at the end.
fn escapes(text: &[u8]) -> usize {
    text.iter().rev().take_while(|byte| **byte == b'\\').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_pid() -> Recovery {
        let mut recovery = Recovery::default();
        assert!(!recovery.connected(br#"{"sid":"s","pid":"p"}"#).unwrap());
        recovery
    }

    #[test]
    fn a_session_goes_on_only_under_the_same_secret() {
        let mut recovery = with_pid();
        assert!(recovery.connected(br#"{"sid":"s","pid":"p"}"#).unwrap());
        assert!(!recovery.connected(br#"{"sid":"t","pid":"q"}"#).unwrap());
        assert!(!recovery.connected(br#"{"sid":"u"}"#).unwrap());
        assert!(!recovery.connected(br#"{"sid":"u"}"#).unwrap(), "no secret is not the same secret");
        assert_eq!(recovery.connect(), "40");
        assert!(recovery.connected(b"[]x").is_err());
    }

    #[test]
    fn the_offset_is_the_last_string_of_an_event() {
        let mut recovery = with_pid();
        assert_eq!(recovery.connect(), r#"40{"pid":"p"}"#);
        for (packet, offset) in [
            (r#"42["kpi:update",{"a":"b"},"e.1.0"]"#, "e.1.0"),
            (r#"42["connected",{"socket_id":"x"}]"#, "e.1.0"),
            (r#"42["x",["a","b"]]"#, "e.1.0"),
            (r#"421["x",{},"e.9.0"]"#, "e.1.0"),
            (r#"43["e.9.0"]"#, "e.1.0"),
            (r#"42["x",null]"#, "e.1.0"),
            (r#"42["x",{},"e.2.0" ] "#, "e.2.0"),
            (r#"42["x","say \"when\""]"#, r#"say "when""#),
            (r#"42["x","ends with \\"]"#, r"ends with \"),
            (r#"42["x","",""]"#, ""),
            (r#"42["a name alone"]"#, "a name alone"),
        ] {
            recovery.event(packet.as_bytes());
            assert_eq!(recovery.offset.as_deref(), Some(offset), "{packet}");
        }
    }

    #[test]
    fn the_offset_outlives_the_session() {
        let mut recovery = with_pid();
        recovery.event(br#"42["x","e.1.0"]"#);
        assert!(!recovery.connected(br#"{"pid":"q"}"#).unwrap());
        assert_eq!(recovery.connect(), r#"40{"offset":"e.1.0","pid":"q"}"#);
    }

    #[test]
    fn without_a_secret_no_offset_is_taken() {
        let mut recovery = Recovery::default();
        recovery.event(br#"42["x","e.1.0"]"#);
        assert_eq!(recovery.offset, None);
    }
}
