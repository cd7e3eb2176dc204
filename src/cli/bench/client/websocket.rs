//! The WebSocket transport: what is negotiated, frames, and clients that stop reading.

use std::{rc::Rc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use super::conversation::Conversation;
use crate::cli::bench::{
    frame::{self, Frame, Frames, Opcode},
    http::Head,
    inflate::Window,
    shard::Shard,
    websocket,
};

const UPGRADE_TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A stalled client that gets nothing for so long after it reads again is still connected.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A client on a WebSocket.
pub(in crate::cli::bench) struct Client {
    stream: TcpStream,
    incoming: Incoming,
}

/// What is read, apart from the stream that it is read from.
struct Incoming {
    frames: Frames,
    conversation: Conversation,
    replies: Vec<u8>,
}

impl Client {
    /// Connects, authenticates and subscribes.
    pub(super) async fn connect(conversation: Conversation) -> Result<Self> {
        let plan = &conversation.shard.plan;
        let target = plan.target_of(conversation.index);
        let upgrade = time::timeout(UPGRADE_TIMEOUT, websocket::upgrade(target, plan.client, plan.deflate));
        let (head, stream, early) = upgrade.await.context("the server did not answer the upgrade")??;
        let mut client =
            Self { stream, incoming: Incoming { frames: Frames::default(), conversation, replies: Vec::new() } };
        client.incoming.agree(&head)?;
        client.incoming.take(&early)?;
        client.reply().await?;
        while !client.incoming.conversation.is_ready() {
            match time::timeout(ANSWER_TIMEOUT, client.read()).await {
                Ok(read) => read?,
                Err(_) => client.incoming.repeat()?,
            }
            client.reply().await?;
        }
        client.incoming.conversation.stop_inflating();
        client.incoming.replies = Vec::new();
        Ok(client)
    }

    /// Receives until the connection ends, or stalls.
    pub(super) async fn stay(mut self) -> Result<()> {
        let shard = Rc::clone(&self.incoming.conversation.shard);
        if shard.plan.stalls(self.incoming.conversation.index) {
            return self.stall(&shard).await;
        }
        loop {
            self.read().await?;
            self.reply().await?;
        }
    }

    /// One read. The buffer is the shard's, so that an idle client owns none.
    async fn read(&mut self) -> Result<()> {
        let Self { stream, incoming } = self;
        let shard = Rc::clone(&incoming.conversation.shard);
        websocket::read(stream, &shard.scratch, |bytes| incoming.take(bytes)).await
    }

    async fn reply(&mut self) -> Result<()> {
        if !self.incoming.replies.is_empty() {
            self.stream.write_all(&self.incoming.replies).await?;
            self.incoming.replies.clear();
        }
        Ok(())
    }

    /// Reads nothing until the measurement is over, then finds out whether the server has cut it.
    async fn stall(mut self, shard: &Shard) -> Result<()> {
        let mut release = shard.release.clone();
        release.wait_for(|released| *released).await?;
        let mut rest = vec![0; 64 * 1024];
        loop {
            match time::timeout(DRAIN_TIMEOUT, self.stream.read(&mut rest)).await {
                Ok(Ok(0) | Err(_)) => {
                    shard.tally.borrow_mut().stalled_cut += 1;
                    return Ok(());
                }
                Ok(Ok(_)) => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

impl Incoming {
    /// Takes up what was negotiated.
    fn agree(&mut self, head: &Head) -> Result<()> {
        let plan = &self.conversation.shard.plan;
        let extensions = head.header("sec-websocket-extensions").unwrap_or_default();
        match (plan.deflate, extensions.contains("permessage-deflate")) {
            (true, false) => bail!("the server declined permessage-deflate"),
            (false, true) => bail!("the server chose an extension that was not offered"),
            _ => {}
        }
        if plan.deflate {
            let alone = extensions.contains("server_no_context_takeover");
            self.conversation.inflate(if alone { Window::None } else { Window::Kept });
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let Self { frames, conversation, replies } = self;
        let shard = Rc::clone(&conversation.shard);
        let now = shard.plan.clock.now();
        let before = shard.frames();
        frames.feed(bytes, |frame| take_frame(conversation, replies, &frame, now))?;
        shard.count_read(before, bytes.len(), now);
        Ok(())
    }

    fn repeat(&mut self) -> Result<()> {
        let reply = self.conversation.repeat()?;
        frame::write(&mut self.replies, Opcode::Text, reply.as_bytes());
        Ok(())
    }
}

fn take_frame(conversation: &mut Conversation, replies: &mut Vec<u8>, frame: &Frame<'_>, now: u64) -> Result<()> {
    let reply = match frame.opcode {
        Opcode::Text if frame.deflated => conversation.deflated(frame.payload, now)?,
        Opcode::Text => conversation.message(frame.payload, now)?,
        Opcode::Ping => {
            frame::write(replies, Opcode::Pong, frame.payload);
            None
        }
        Opcode::Close => bail!(websocket::closed(frame.payload)),
        Opcode::Binary | Opcode::Pong => None,
    };
    if let Some(reply) = reply {
        frame::write(replies, Opcode::Text, reply.as_bytes());
    }
    Ok(())
}
