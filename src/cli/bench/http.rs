//! As much HTTP/1.1 as publishing and polling take: one kept-alive connection, one request at a time.

use std::io::ErrorKind;

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{payload::find, target::Target};

const HEAD_END: &[u8] = b"\r\n\r\n";
const LARGEST_HEAD: usize = 16 * 1024;

/// A kept-alive connection.
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    /// Its status.
    pub(super) status: u16,
    /// Its body, decoded if it was chunked.
    pub(super) body: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    /// Its status.
    pub(super) status: u16,
    /// Status line and headers.
    pub(super) text: String,
}

impl Connection {
    /// Connects to the server.
    pub(super) async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address)
            .await
            .with_context(|| format!("cannot connect to {}", target.authority))?;
        Self::over(stream)
    }

    /// Speaks HTTP over a connection that is there.
    pub(super) fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a whole request and reads the whole answer; also counts the bytes of it.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<(Response, usize)> {
        self.stream.write_all(request).await?;
        let (head, head_bytes) = self.head().await?;
        let (body, body_bytes) = match head.header("transfer-encoding") {
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => self.chunks().await?,
            Some(coding) => bail!("the server answered with transfer coding {coding:?}"),
            None => {
                let length = head.header("content-length").context("the server answered without a length")?;
                let length = length.parse().context("the server answered with a malformed length")?;
                (self.take(length).await?, length)
            }
        };
        Ok((Response { status: head.status, body }, head_bytes + body_bytes))
    }

    /// Whether the server has neither closed it nor sent what nobody asked for.
    pub(super) fn is_idle(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        self.received.is_empty() && read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request that turns the connection into something else, and reads the head of the answer.
    pub(super) async fn upgrade(mut self, request: &[u8]) -> Result<(Head, TcpStream, Vec<u8>)> {
        self.stream.write_all(request).await?;
        let (head, _) = self.head().await?;
        Ok((head, self.stream, self.received))
    }

    async fn head(&mut self) -> Result<(Head, usize)> {
        let end = loop {
            if let Some(end) = find(&self.received, HEAD_END) {
                break end + HEAD_END.len();
            }
            ensure!(self.received.len() < LARGEST_HEAD, "the server sent an endless head");
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.received[..end]).into_owned();
        self.received.drain(..end);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((Head { status: status.context("the server's answer is not HTTP")?, text }, end))
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.received.len() < length {
            self.more().await?;
        }
        Ok(self.received.drain(..length).collect())
    }

    async fn chunks(&mut self) -> Result<(Vec<u8>, usize)> {
        let (mut body, mut bytes) = (Vec::new(), 0);
        loop {
            let end = loop {
                match find(&self.received, b"\r\n") {
                    Some(end) => break end + 2,
                    None => self.more().await?,
                }
            };
            let line = self.take(end).await?;
            let digits = String::from_utf8_lossy(&line);
            let digits = digits.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16).context("the server sent a malformed chunk")?;
            let chunk = self.take(length + 2).await?;
            bytes += end + length + 2;
            if length == 0 {
                return Ok((body, bytes));
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.received).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

impl Response {
    /// Status and beginning of the body, for people.
    pub(super) fn shown(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!("{}: {}", self.status, body.chars().take(300).collect::<String>())
    }
}

impl Head {
    /// The value of a header; `name` in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answered(answer: &'static [u8]) -> Result<(Response, usize)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 100]).await;
            for piece in answer.chunks(3) {
                stream.write_all(piece).await.unwrap();
            }
        });
        Connection::open(&target).await?.exchange(b"GET / HTTP/1.1\r\n\r\n").await
    }

    #[tokio::test]
    async fn a_body_is_read_by_length_or_by_chunks() {
        for answer in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".as_slice(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
        ] {
            let (response, bytes) = answered(answer).await.unwrap();
            assert_eq!((response.status, response.body.as_slice()), (200, b"hello".as_slice()));
            assert_eq!(bytes, answer.len());
        }
    }

    #[tokio::test]
    async fn an_answer_that_ends_early_is_an_error() {
        assert!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel").await.is_err());
    }
}
