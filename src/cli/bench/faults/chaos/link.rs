//! One connection of a client: a WebSocket, or polls and posts.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::{io::AsyncWriteExt, net::TcpStream, time};

use crate::cli::bench::{
    args::Kind,
    client::{poll_request, sid},
    frame::{self, Frame, Frames, Opcode},
    http::Connection,
    target::Target,
    websocket,
};

/// How long a connection may take to open, and a post to be answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// What separates the packets of one body.
const SEPARATOR: u8 = 0x1E;

/// An open connection.
pub(super) enum Link {
    /// Over WebSocket.
    WebSocket { stream: TcpStream, frames: Frames, early: Vec<u8> },
    /// Over HTTP long polling.
    Polling(Box<Polling>),
}

/// Polls on one connection and posts on another, as browsers do it.
pub(super) struct Polling {
    polls: Connection,
    posts: Connection,
    target: Target,
    sid: String,
    early: Vec<u8>,
}

impl Link {
    /// Opens one.
    ///
    /// # Errors
    /// If the server is not there, or refuses.
    pub(super) async fn open(target: &Target, polling: bool) -> Result<Self> {
        let opening = async {
            if polling {
                return Ok(Self::Polling(Box::new(Polling::open(target).await?)));
            }
            let (_, stream, early) = websocket::upgrade(target, Kind::Socketio, false).await?;
            Ok(Self::WebSocket { stream, frames: Frames::default(), early })
        };
        time::timeout(PATIENCE, opening).await.context("the server did not let it in in time")?
    }

    /// Waits for packets, and sends what each is answered with.
    ///
    /// # Errors
    /// If the connection has ended, or `take` fails.
    pub(super) async fn read(
        &mut self,
        scratch: &RefCell<Box<[u8]>>,
        mut take: impl FnMut(&[u8]) -> Result<Option<String>>,
    ) -> Result<()> {
        let mut replies = Vec::new();
        match self {
            Self::WebSocket { stream, frames, early } => {
                let mut out = Vec::new();
                let mut feed = |bytes: &[u8]| {
                    frames.feed(bytes, |Frame { opcode, payload, .. }| {
                        match opcode {
                            Opcode::Text => replies.extend(take(payload)?),
                            Opcode::Ping => frame::write(&mut out, Opcode::Pong, payload),
                            Opcode::Close => bail!(websocket::closed(payload)),
                            Opcode::Binary | Opcode::Pong => {}
                        }
                        Ok(())
                    })
                };
                match std::mem::take(early) {
                    early if early.is_empty() => websocket::read(stream, scratch, feed).await?,
                    early => feed(&early)?,
                }
                replies.iter().for_each(|reply| frame::write(&mut out, Opcode::Text, reply.as_bytes()));
                stream.write_all(&out).await?;
            }
            Self::Polling(polling) => {
                let body = polling.poll().await?;
                for packet in body.split(|byte| *byte == SEPARATOR) {
                    replies.extend(take(packet)?);
                }
                if !replies.is_empty() {
                    polling.post(&replies.join("\u{1e}")).await?;
                }
            }
        }
        Ok(())
    }
}

impl Polling {
    async fn open(target: &Target) -> Result<Self> {
        let mut polls = Connection::open(target).await?;
        let (opened, _) = polls.exchange(&poll_request(target, "GET", "", "")).await?;
        let sid = sid(&opened)?;
        Ok(Self { polls, posts: Connection::open(target).await?, target: target.clone(), sid, early: opened.body })
    }

    async fn poll(&mut self) -> Result<Vec<u8>> {
        if !self.early.is_empty() {
            return Ok(std::mem::take(&mut self.early));
        }
        let (response, _) = self.polls.exchange(&poll_request(&self.target, "GET", &self.sid, "")).await?;
        ensure!(response.status == 200, "a poll was answered {}", response.shown());
        Ok(response.body)
    }

    async fn post(&mut self, packets: &str) -> Result<()> {
        let request = poll_request(&self.target, "POST", &self.sid, packets);
        let posted = time::timeout(PATIENCE, self.posts.exchange(&request)).await;
        let (response, _) = posted.context("a post was not answered in time")??;
        ensure!(response.status == 200, "a post was answered {}", response.shown());
        Ok(())
    }
}
