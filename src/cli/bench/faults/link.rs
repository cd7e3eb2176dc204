//! One WebSocket connection of a client, whatever happens on it.

use std::{rc::Rc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use socket2::SockRef;
use tokio::{io::AsyncWriteExt, net::TcpStream, time};

use super::{conversation::Conversation, shard::Shard};
use crate::cli::bench::{
    args::Kind,
    frame::{self, Frame, Frames, Opcode},
    websocket,
};

/// How long a stock client waits for a connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// An open connection.
pub(super) struct Link {
    stream: TcpStream,
    frames: Frames,
    replies: Vec<u8>,
    shard: Rc<Shard>,
}

impl Link {
    /// Opens a WebSocket.
    pub(super) async fn open(shard: Rc<Shard>, conversation: &mut Conversation) -> Result<Self> {
        let upgrade = time::timeout(OPEN_TIMEOUT, websocket::upgrade(&shard.plan.target, Kind::Socketio, false)).await;
        let (head, stream, early) = upgrade.context("the server did not answer the upgrade")??;
        let extension = head.header("sec-websocket-extensions");
        ensure!(extension.is_none(), "the server chose an extension that was not offered");
        let mut link = Self { stream, frames: Frames::default(), replies: Vec::new(), shard };
        link.take(&early, conversation)?;
        link.reply().await?;
        Ok(link)
    }

    /// Reads once.
    pub(super) async fn read(&mut self, conversation: &mut Conversation) -> Result<()> {
        let Self { stream, frames, replies, shard } = self;
        websocket::read(stream, &shard.scratch, |bytes| take(frames, replies, bytes, conversation, shard)).await
    }

    /// Sends what there is to say.
    pub(super) async fn reply(&mut self) -> Result<()> {
        if !self.replies.is_empty() {
            self.stream.write_all(&self.replies).await?;
            self.replies = Vec::new();
        }
        Ok(())
    }

    /// Breaks the connection without a word, so that what is under way in either direction is lost.
    pub(super) fn cut(self) {
        // One that does not know how to do that is closed instead.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn take(&mut self, bytes: &[u8], conversation: &mut Conversation) -> Result<()> {
        take(&mut self.frames, &mut self.replies, bytes, conversation, &self.shard)
    }
}

fn take(
    frames: &mut Frames,
    replies: &mut Vec<u8>,
    bytes: &[u8],
    conversation: &mut Conversation,
    shard: &Shard,
) -> Result<()> {
    let now = shard.plan.clock.now();
    frames.feed(bytes, |Frame { opcode, deflated, payload }| {
        ensure!(!deflated, "the server deflated a message unasked");
        match opcode {
            Opcode::Text => {
                if let Some(reply) = conversation.packet(payload, now)? {
                    frame::write(replies, Opcode::Text, reply.as_bytes());
                }
            }
            Opcode::Ping => frame::write(replies, Opcode::Pong, payload),
            Opcode::Close => bail!(websocket::closed(payload)),
            Opcode::Binary | Opcode::Pong => {}
        }
        Ok(())
    })
}
