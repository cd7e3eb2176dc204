//! A client over whichever transport was asked for.

use std::rc::Rc;

use anyhow::Result;

use super::conversation::Conversation;
use super::{polling, websocket};
use crate::cli::bench::args::Transport;
use crate::cli::bench::shard::Shard;

/// A client that has subscribed.
pub(in crate::cli::bench) enum Client {
    /// Over WebSocket.
    WebSocket(websocket::Client),
    /// Over HTTP long polling.
    Polling(polling::Client),
}

impl Client {
    /// Connects, authenticates and subscribes.
    pub(in crate::cli::bench) async fn connect(shard: &Rc<Shard>, index: usize) -> Result<Self> {
        let conversation = Conversation::new(Rc::clone(shard), index);
        Ok(match shard.plan.transport {
            Transport::Websocket => Self::WebSocket(websocket::Client::connect(conversation).await?),
            Transport::Polling => Self::Polling(polling::Client::connect(conversation).await?),
        })
    }

    /// Receives until the connection ends, and says what ended it.
    pub(in crate::cli::bench) async fn stay(self) -> Result<()> {
        match self {
            Self::WebSocket(client) => client.stay().await,
            Self::Polling(client) => client.stay().await,
        }
    }
}
