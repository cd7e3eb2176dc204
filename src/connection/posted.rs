//! What comes in by a POST of polling on its way to Engine.IO, which gets one packet at a time.
//!
//! Each is looked at when everything before it has had its effect. One by one
//! also bounds what Engine.IO's decoder of version 3 takes, which copies all
//! that is left of a body for every packet in it.

use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use super::connection::Connection;
use super::inspect::{Verdict, inspect_polled};
use super::payload::Format;

/// Closes a session.
const CLOSE: &str = "1";

/// How long a CONNECT may take before it is handed on again: socketioxide has ignored it if it still marked the
/// socket as connecting, which it does for a moment longer than anybody outside can tell.
const PATIENCE: Duration = Duration::from_millis(2);

/// How often it is handed on again, each time after four times as long.
const REPEATS: u32 = 5;

/// The packets of one POST.
pub struct Posted {
    connection: Arc<Connection>,
    format: Format,
    packets: IntoIter<String>,
    /// The CONNECT that was handed on last, while what follows waits for it.
    connect: Option<String>,
    repeats: u32,
}

impl Posted {
    /// Reads a body; none if it is no payload.
    pub fn read(format: Format, body: &[u8], connection: &Arc<Connection>) -> Option<Self> {
        let packets = format.decode(body)?.into_iter();
        Some(Self { connection: connection.clone(), format, packets, connect: None, repeats: 0 })
    }

    /// Whether the client ends its session with it.
    pub fn closes(&self) -> bool {
        self.packets.as_slice().iter().any(|packet| packet == CLOSE)
    }

    /// The next packet for Engine.IO, as a payload of text of its own.
    pub async fn next(&mut self) -> Option<String> {
        while let Some(connect) = &self.connect {
            if self.connection.connected(PATIENCE * 4u32.pow(self.repeats)).await || self.repeats == REPEATS {
                self.connect = None;
            } else {
                self.repeats += 1;
                return Some(connect.clone());
            }
        }
        for packet in self.packets.by_ref() {
            if self.connection.is_dismissed() {
                return None;
            }
            match inspect_polled(&packet, &self.connection) {
                Verdict::Pass => return Some(self.format.encode(&packet)),
                Verdict::Connect => {
                    self.connect = Some(self.format.encode(&packet));
                    self.repeats = 0;
                    return self.connect.clone();
                }
                Verdict::Drop => {}
                Verdict::Replace(instead) => return Some(self.format.encode(&instead)),
            }
        }
        None
    }
}

impl std::fmt::Debug for Posted {
    /// What a client sends may hold a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Posted").field("format", &self.format).finish_non_exhaustive()
    }
}
