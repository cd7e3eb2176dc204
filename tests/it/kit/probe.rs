//! The probe of an upgrade, step by step.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use super::endpoint::WebSocket;

/// How long an answer may take: less than a probe that says nothing is borne with.
const SOON: Duration = Duration::from_secs(5);

/// A WebSocket that a polling session has opened and not yet gone over to.
pub struct Probe {
    pub socket: WebSocket,
}

impl Probe {
    /// Sends messages in one write, whatever they are.
    pub async fn send(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.socket.feed(message).await.unwrap();
        }
        self.socket.flush().await.unwrap();
    }

    /// Sends packets in one write.
    pub async fn say(&mut self, packets: &[&str]) {
        self.send(packets.iter().map(|packet| Message::text(*packet))).await;
    }

    /// Sends bytes that need not be a frame.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    /// The next packet, or nothing if the server closes instead.
    pub async fn hear(&mut self) -> Option<String> {
        let heard = tokio::time::timeout(SOON, self.socket.next()).await.expect("an answer or an end");
        match heard {
            Some(Ok(Message::Text(text))) => Some(text.as_str().to_owned()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => None,
            Some(Ok(other)) => panic!("the probe was answered with {other:?}"),
        }
    }

    /// Asks whether packets arrive, and insists on the answer.
    pub async fn ask(&mut self) {
        self.say(&["2probe"]).await;
        assert_eq!(self.hear().await.as_deref(), Some("3probe"));
    }
}
