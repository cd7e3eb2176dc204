//! The polling transport: polls on one connection, posts on another, as browsers do it.

use std::{pin::pin, rc::Rc, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time;

use super::conversation::Conversation;
use crate::cli::bench::{
    http::{Connection, Response},
    target::Target,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// What separates the packets of one body.
const SEPARATOR: u8 = 0x1E;

/// A client on polling.
pub(in crate::cli::bench) struct Client {
    polls: Connection,
    posts: Posts,
    poll: Vec<u8>,
    conversation: Conversation,
}

/// The connection that packets are sent on.
struct Posts {
    connection: Connection,
    target: Target,
    sid: String,
}

impl Client {
    /// Connects, authenticates and subscribes.
    pub(super) async fn connect(conversation: Conversation) -> Result<Self> {
        time::timeout(CONNECT_TIMEOUT, Self::open(conversation)).await.context("the server did not answer in time")?
    }

    /// Polls until the connection ends.
    pub(super) async fn stay(mut self) -> Result<()> {
        loop {
            let (response, bytes) = self.polls.exchange(&self.poll).await?;
            self.take(response, bytes).await?;
        }
    }

    async fn open(conversation: Conversation) -> Result<Self> {
        let target = conversation.shard.plan.target_of(conversation.index).clone();
        let mut polls = Connection::open(&target).await?;
        let (response, bytes) = polls.exchange(&request(&target, "GET", "", "")).await?;
        let sid = sid(&response)?;
        let poll = request(&target, "GET", &sid, "");
        let posts = Posts { connection: Connection::open(&target).await?, target, sid };
        let mut client = Self { polls, posts, poll, conversation };
        client.take(response, bytes).await?;
        while !client.conversation.is_ready() {
            client.poll_or_repeat().await?;
        }
        Ok(client)
    }

    /// One poll, during which what the server does not answer is said again.
    async fn poll_or_repeat(&mut self) -> Result<()> {
        let Self { polls, posts, poll, conversation } = self;
        let (response, bytes) = {
            let mut polling = pin!(polls.exchange(poll));
            loop {
                match time::timeout(ANSWER_TIMEOUT, polling.as_mut()).await {
                    Ok(polled) => break polled?,
                    Err(_) => posts.send(&conversation.repeat()?).await?,
                }
            }
        };
        self.take(response, bytes).await
    }

    async fn take(&mut self, response: Response, bytes: usize) -> Result<()> {
        let Response { status, body } = response;
        ensure!(status == 200, "a poll was answered {status}: {}", String::from_utf8_lossy(&body));
        let shard = Rc::clone(&self.conversation.shard);
        let (now, before) = (shard.plan.clock.now(), shard.frames());
        let mut replies = Vec::new();
        for packet in body.split(|byte| *byte == SEPARATOR) {
            replies.extend(self.conversation.message(packet, now)?);
        }
        shard.count_read(before, bytes, now);
        if replies.is_empty() { Ok(()) } else { self.posts.send(&replies.join("\u{1e}")).await }
    }
}

impl Posts {
    async fn send(&mut self, packets: &str) -> Result<()> {
        let request = request(&self.target, "POST", &self.sid, packets);
        let (response, _) = self.connection.exchange(&request).await?;
        ensure!(response.status == 200, "a post was answered {}", response.status);
        Ok(())
    }
}

/// A request of the polling transport; a handshake has no `sid` yet, and a poll no `body`.
pub(in crate::cli::bench) fn request(target: &Target, method: &str, sid: &str, body: &str) -> Vec<u8> {
    let Target { path, authority, .. } = target;
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\n"),
    };
    format!("{method} {path}?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: {authority}\r\n{length}\r\n{body}").into()
}

/// The session id that a handshake is answered with.
pub(in crate::cli::bench) fn sid(opened: &Response) -> Result<String> {
    let Response { status, body } = opened;
    ensure!(*status == 200, "the handshake was answered {status}: {}", String::from_utf8_lossy(body));
    let json = body.strip_prefix(b"0").context("the server did not begin with an OPEN packet")?;
    let open: serde_json::Value = serde_json::from_slice(json).context("the server's OPEN packet is malformed")?;
    Ok(open["sid"].as_str().context("the server's OPEN packet names no sid")?.to_owned())
}
