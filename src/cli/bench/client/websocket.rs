//! The WebSocket transport: upgrade, frames, and clients that stop reading.

use std::{future::poll_fn, io, pin::Pin, rc::Rc, task::ready, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time,
};

use super::conversation::Conversation;
use crate::cli::bench::{
    frame::{self, Frame, Frames, Opcode},
    http::{Connection, Head},
    inflate::Window,
    shard::{Plan, Shard},
};

/// The example of RFC 6455: a constant key has a constant answer, which can be checked without hashing.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
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
        let upgrade = time::timeout(UPGRADE_TIMEOUT, upgrade(&conversation.shard.plan));
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
        poll_fn(|cx| {
            let mut scratch = shard.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()).into();
            }
            incoming.take(buffer.filled()).into()
        })
        .await
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
    /// Checks the answer to the upgrade and takes up what was negotiated.
    fn agree(&mut self, head: &Head) -> Result<()> {
        let plan = &self.conversation.shard.plan;
        ensure!(head.status == 101, "the server answered the upgrade with {}", head.status);
        ensure!(head.header("sec-websocket-accept") == Some(ACCEPT), "the server's Sec-WebSocket-Accept is wrong");
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
        Opcode::Text => conversation.packet(frame.payload, now)?,
        Opcode::Ping => {
            frame::write(replies, Opcode::Pong, frame.payload);
            None
        }
        Opcode::Close => bail!("the server closed the connection with code {}", close_code(frame.payload)),
        Opcode::Binary | Opcode::Pong => None,
    };
    if let Some(reply) = reply {
        frame::write(replies, Opcode::Text, reply.as_bytes());
    }
    Ok(())
}

fn close_code(payload: &[u8]) -> String {
    match payload {
        [a, b, ..] => u16::from_be_bytes([*a, *b]).to_string(),
        _ => "none".to_owned(),
    }
}

async fn upgrade(plan: &Plan) -> Result<(Head, TcpStream, Vec<u8>)> {
    let target = &plan.target;
    let offer = match plan.deflate {
        true => "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        false => "",
    };
    let request = format!(
        "GET {}?EIO=4&transport=websocket HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n",
        target.path, target.authority,
    );
    Connection::open(target).await?.upgrade(request.as_bytes()).await
}
