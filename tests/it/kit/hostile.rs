//! A TCP connection that says what it likes, from an address of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::DEADLINE;

/// One connection; it asks for nothing by itself.
pub struct Hostile {
    stream: TcpStream,
}

impl Hostile {
    /// Connects from 127.0.0.`from`, with little room for what it does not read.
    pub async fn open(address: SocketAddr, from: u8) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).expect("an address of this machine");
        Self { stream: socket.connect(address).await.expect("a connection") }
    }

    /// Connects and asks.
    pub async fn ask(address: SocketAddr, from: u8, request: &str) -> Self {
        let mut raw = Self::open(address, from).await;
        assert!(raw.send(request).await, "the server takes a request");
        raw
    }

    /// Sends bytes; false if the server has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends a byte again and again until the server closes, and returns what it has answered.
    pub async fn drip(&mut self, byte: u8) -> String {
        let mut answer = Vec::new();
        let dripping = async {
            loop {
                let mut bytes = [0; 1_024];
                tokio::select! {
                    read = self.stream.read(&mut bytes) => match read {
                        Ok(count) if count > 0 => answer.extend_from_slice(&bytes[..count]),
                        _ => return,
                    },
                    () = tokio::time::sleep(Duration::from_millis(20)) => {
                        if self.stream.write_all(&[byte]).await.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, dripping).await.expect("the server closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Everything that comes until the server closes.
    pub async fn ended(&mut self) -> String {
        let mut answer = Vec::new();
        let reading = self.stream.read_to_end(&mut answer);
        tokio::time::timeout(DEADLINE, reading).await.expect("the server closes").ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What comes, up to and with this text.
    pub async fn answer_with(&mut self, text: &str) -> String {
        let mut answer = String::new();
        let reading = async {
            while !answer.contains(text) {
                let mut bytes = [0; 1_024];
                let count = self.stream.read(&mut bytes).await.expect("an answer");
                assert!(count > 0, "closed before {text:?}: {answer:?}");
                answer.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.unwrap_or_else(|_| panic!("no {text:?}"));
        answer
    }
}
