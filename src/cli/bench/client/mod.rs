//! One client: how it connects, what it says, and what it counts.

mod conversation;
mod polling;
mod websocket;

use std::rc::Rc;

use anyhow::Result;

use self::conversation::Conversation;
use super::{args::Transport, shard::Shard};

/// A client that has subscribed.
pub(super) enum Client {
    /// Over WebSocket.
    WebSocket(websocket::Client),
    /// Over HTTP long polling.
    Polling(polling::Client),
}

impl Client {
    /// Connects, authenticates and subscribes.
    pub(super) async fn connect(shard: &Rc<Shard>, index: usize) -> Result<Self> {
        let conversation = Conversation::new(Rc::clone(shard), index);
        Ok(match shard.plan.transport {
            Transport::Websocket => Self::WebSocket(websocket::Client::connect(conversation).await?),
            Transport::Polling => Self::Polling(polling::Client::connect(conversation).await?),
        })
    }

    /// Receives until the connection ends, and says what ended it.
    pub(super) async fn stay(self) -> Result<()> {
        match self {
            Self::WebSocket(client) => client.stay().await,
            Self::Polling(client) => client.stay().await,
        }
    }
}
