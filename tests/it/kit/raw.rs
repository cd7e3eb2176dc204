//! HTTP byte by byte, for requests that no library would send.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{DEADLINE, Reply};

/// One TCP connection.
pub struct Raw {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, address).await
    }

    /// Connects from an address of one's own.
    pub async fn connect_from(own: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((own, 0).into()).unwrap();
        Self { stream: socket.connect(address).await.unwrap(), read: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the connection takes bytes");
    }

    /// The next answer, or nothing if the connection ends first.
    pub async fn answer(&mut self) -> Option<Reply> {
        loop {
            if let Some((reply, length)) = parse(&self.read) {
                self.read.drain(..length);
                return Some(reply);
            }
            let more = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.read)).await;
            // A connection that is closed with something unread is reset.
            if more.expect("an answer or an end").unwrap_or(0) == 0 {
                assert!(self.read.is_empty(), "half an answer: {}", String::from_utf8_lossy(&self.read));
                return None;
            }
        }
    }

    /// Sends one request, and gets one answer.
    pub async fn ask(mut self, request: impl AsRef<[u8]>) -> Reply {
        self.send(request).await;
        self.answer().await.expect("an answer")
    }

    /// The statuses of all answers until the server closes.
    pub async fn statuses(&mut self) -> Vec<u16> {
        let mut statuses = Vec::new();
        while let Some(reply) = self.answer().await {
            statuses.push(reply.status);
            // What follows is no HTTP.
            if reply.status == 101 {
                break;
            }
        }
        statuses
    }
}

/// A whole answer at the beginning of what was read, and its length.
fn parse(read: &[u8]) -> Option<(Reply, usize)> {
    let head = read.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..head]).expect("heads are text");
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: http::HeaderMap =
        headers.map(|(name, value)| (http::HeaderName::try_from(name).unwrap(), value.parse().unwrap())).collect();
    let body = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let body = read.get(head..head + body)?;
    let text = String::from_utf8_lossy(body).into_owned();
    Some((Reply { status, headers, text }, head + body.len()))
}
