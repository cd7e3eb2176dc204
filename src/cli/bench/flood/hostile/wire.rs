//! A connection of an attacker that listens to what the server says to it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{self, Duration, Instant},
};

use super::{attacker::Attacker, tally::End};
use crate::cli::bench::{
    frame::{self, Frame, Frames, Opcode},
    payload::{NAMED, find},
    websocket,
};

/// How long the server may take to let somebody in.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest code of a refusal that is kept.
const LONGEST_CODE: usize = 32;
/// How the status line of an answer begins.
const STATUS: &[u8] = b"HTTP/1.1 ";

/// A connection that counts refusals, and answers pings.
pub(super) struct Wire<'a> {
    attacker: &'a Attacker,
    stream: TcpStream,
    /// Once it is a WebSocket.
    frames: Option<Frames>,
    heard: Heard,
}

/// What the server has said so far.
#[derive(Default)]
struct Heard {
    /// Behind the upgrade.
    is_open: bool,
    /// The CONNECT is answered.
    is_connected: bool,
    /// The CONNECT is refused.
    is_refused: bool,
    replies: Vec<u8>,
}

impl<'a> Wire<'a> {
    /// A connection on which nothing is said yet.
    pub(super) async fn open(attacker: &'a Attacker) -> Result<Self, End> {
        Ok(Self::over(attacker, attacker.connect().await?))
    }

    /// The same over a connection that is there.
    pub(super) fn over(attacker: &'a Attacker, stream: TcpStream) -> Self {
        Self { attacker, stream, frames: None, heard: Heard::default() }
    }

    /// Turns it into a WebSocket; `extra` are further headers.
    pub(super) async fn upgrade(&mut self, path: &str, extra: &str) -> Result<(), End> {
        let request = websocket::request(path, &self.attacker.scene.target.authority, extra);
        self.send(request.as_bytes()).await?;
        let deadline = Instant::now() + OPEN_TIMEOUT;
        while !self.heard.is_open {
            self.hear_until(deadline).await?.then_some(()).ok_or_else(|| End::Cut("no answer".to_owned()))?;
        }
        Ok(())
    }

    /// Turns it into a WebSocket of Engine.IO.
    pub(super) async fn engine(&mut self) -> Result<(), End> {
        self.upgrade("/ws/?EIO=4&transport=websocket", "").await
    }

    /// Enters the main namespace with these credentials, and waits until it is let in.
    pub(super) async fn enter(&mut self, credentials: &str) -> Result<(), End> {
        self.engine().await?;
        self.say(&format!("40{credentials}")).await?;
        let deadline = Instant::now() + OPEN_TIMEOUT;
        while !self.heard.is_connected {
            self.hear_until(deadline).await?.then_some(()).ok_or_else(|| End::Cut("no answer".to_owned()))?;
            if self.heard.is_refused {
                return Err(End::Refused);
            }
        }
        Ok(())
    }

    /// Enters with the attackers' token.
    pub(super) async fn enter_as_member(&mut self) -> Result<(), End> {
        let credentials = serde_json::json!({ "token": self.attacker.token() }).to_string();
        self.enter(&credentials).await
    }

    /// Sends a text message.
    pub(super) async fn say(&mut self, message: &str) -> Result<(), End> {
        let mut bytes = Vec::with_capacity(message.len() + 16);
        frame::write(&mut bytes, Opcode::Text, message.as_bytes());
        self.send(&bytes).await
    }

    /// Sends bytes as they are.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Listens until the next act is due.
    pub(super) async fn rest(&mut self) -> Result<(), End> {
        self.listen(self.attacker.scene.pace).await
    }

    /// Listens for a while.
    pub(super) async fn listen(&mut self, wait: Duration) -> Result<(), End> {
        let deadline = Instant::now() + wait;
        while self.hear_until(deadline).await? {}
        Ok(())
    }

    /// Listens until the server ends the connection.
    pub(super) async fn listen_on(&mut self) -> Result<(), End> {
        loop {
            self.rest().await?;
        }
    }

    /// Hears what comes next; false if nothing comes in time.
    async fn hear_until(&mut self, deadline: Instant) -> Result<bool, End> {
        let Self { attacker, stream, frames, heard } = self;
        let hearing = poll_fn(|cx| {
            let mut scratch = attacker.scene.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            Poll::Ready(take(attacker, frames, heard, buffer.filled()))
        });
        let Ok(taken) = time::timeout_at(deadline, hearing).await else { return Ok(false) };
        taken?;
        if !self.heard.replies.is_empty() {
            let replies = std::mem::take(&mut self.heard.replies);
            self.send(&replies).await?;
        }
        Ok(true)
    }
}

fn take(attacker: &Attacker, frames: &mut Option<Frames>, heard: &mut Heard, mut bytes: &[u8]) -> Result<(), End> {
    if frames.is_none() {
        let Some(status) = find(bytes, STATUS).and_then(|at| bytes.get(at + STATUS.len()..at + STATUS.len() + 3))
        else {
            return Ok(());
        };
        match status {
            b"101" => {}
            [b'2', ..] => return Ok(()),
            _ => {
                attacker.refuse(&format!("HTTP {}", String::from_utf8_lossy(status)));
                return Err(End::Refused);
            }
        }
        *frames = Some(Frames::default());
        heard.is_open = true;
        bytes = find(bytes, b"\r\n\r\n").map_or(&[], |end| &bytes[end + 4..]);
    }
    let frames = frames.get_or_insert_default();
    let mut closed = None;
    let fed = frames.feed(bytes, |frame| {
        hear(attacker, heard, &frame, &mut closed);
        Ok(())
    });
    match closed {
        Some(how) => Err(End::Cut(how)),
        None => fed.map_err(|_| End::Cut("frames that cannot be read".to_owned())),
    }
}

fn hear(attacker: &Attacker, heard: &mut Heard, frame: &Frame<'_>, closed: &mut Option<String>) {
    match (frame.opcode, frame.payload) {
        (Opcode::Text, b"2") => frame::write(&mut heard.replies, Opcode::Text, b"3"),
        (Opcode::Text, [b'4', b'0', ..]) => heard.is_connected = true,
        (Opcode::Text, [b'4', b'4', ..]) => {
            heard.is_refused = true;
            attacker.refuse(&format!("connect_error {}", code_behind(frame.payload, b"\"message\":\"")));
        }
        (Opcode::Text, b"41" | [b'4', b'1', ..]) => attacker.refuse("disconnect"),
        (Opcode::Text, text) if !text.starts_with(NAMED) && find(text, b"\"code\":\"").is_some() => {
            attacker.refuse(&code_behind(text, b"\"code\":\""));
        }
        (Opcode::Ping, payload) => frame::write(&mut heard.replies, Opcode::Pong, payload),
        (Opcode::Close, [a, b, ..]) => *closed = Some(format!("close {}", u16::from_be_bytes([*a, *b]))),
        (Opcode::Close, _) => *closed = Some("close".to_owned()),
        _ => {}
    }
}

/// The code that stands behind a label.
fn code_behind(text: &[u8], label: &[u8]) -> String {
    let rest = find(text, label).map_or(&[][..], |at| &text[at + label.len()..]);
    let code = rest.iter().take(LONGEST_CODE).take_while(|byte| byte.is_ascii_uppercase() || **byte == b'_');
    code.map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_refusal_is_found() {
        let refused = br#"44{"message":"RATE_LIMIT_EXCEEDED: too many"}"#;
        assert_eq!(code_behind(refused, b"\"message\":\""), "RATE_LIMIT_EXCEEDED");
        assert_eq!(code_behind(br#"431[{"code":"UNAUTHORIZED"}]"#, b"\"code\":\""), "UNAUTHORIZED");
        assert_eq!(code_behind(b"43", b"\"code\":\""), "");
    }
}
