//! A client on a plain WebSocket: frames of JSON in and out.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{DEADLINE, secrets};

/// A connection; dropping it is what a crashed client looks like.
pub struct Plain {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Plain {
    /// Opens a path such as `/ws`, or tells the status that refused it.
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("an address");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        match tokio::time::timeout(DEADLINE, connect_async(request)).await.expect("an answer") {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Opens a path, and insists on it.
    pub async fn at(address: SocketAddr, path: &str) -> Self {
        Self::open(address, path, &[]).await.unwrap_or_else(|status| panic!("{path} is refused with {status}"))
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_message(Message::text(frame.to_string())).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        self.socket.send(message).await.expect("the connection takes a frame");
    }

    /// The next frame, or the close code that ends the connection.
    pub async fn next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let message = tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    secrets::told("to a plain client", &text);
                    return Ok(serde_json::from_str(&text).expect("frames are JSON"));
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next frame whose field has this value.
    pub async fn next_with(&mut self, field: &str, value: &str) -> Value {
        loop {
            let frame = self.next().await.unwrap_or_else(|code| panic!("closed ({code:?}) before {field}={value}"));
            if frame[field] == value {
                return frame;
            }
        }
    }

    /// Frames up to the close, and its code.
    pub async fn closed(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Ok(frame) => frames.push(frame),
                Err(code) => return (frames, code),
            }
        }
    }

    /// On `/ws`: says who it is.
    pub async fn authenticate(&mut self, user: &str, organization: &str) {
        let data = serde_json::json!({ "user_id": user, "organization_id": organization });
        self.send(serde_json::json!({ "event": "authenticate", "data": data })).await;
        let answer = self.next_with("event", "authenticate:ack").await;
        assert_eq!(answer["data"]["success"], true, "{answer}");
    }

    /// Closes, and waits until the server has closed too.
    pub async fn close(mut self) {
        self.socket.close(None).await.ok();
        while self.next().await.is_ok() {}
    }
}
