//! What a connection has to pass before HTTP is spoken on it: the proxy protocol and TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::proxies::Proxies;
use super::proxy_protocol;

/// First byte of a TLS handshake: RFC 8446, section 5.1.
const HANDSHAKE: u8 = 22;

/// What a browser is told that speaks http where https is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 33\r\n\r\nthis address serves https and wss";

/// How connections are received.
#[derive(Debug)]
pub(super) struct Reception {
    /// Bounds everything until the head of a request has come.
    pub(super) header_timeout: Duration,
    /// Who may speak for others.
    pub(super) proxies: Proxies,
    /// TLS, if it is spoken.
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// A connection on which HTTP can be spoken, and the address of the client as far as the connection tells it.
pub(super) enum Received {
    /// As it is.
    Plain(TcpStream, SocketAddr),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>, SocketAddr),
}

impl Reception {
    /// Waits until HTTP can be spoken.
    pub(super) async fn receive(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Received> {
        let announces = self.proxies.announces(address);
        if self.tls.is_none() && !announces {
            return Ok(Received::Plain(stream, address));
        }
        timeout(self.header_timeout, Box::pin(self.prepare(stream, address, announces))).await?
    }

    async fn prepare(&self, mut stream: TcpStream, address: SocketAddr, announces: bool) -> io::Result<Received> {
        let client = if announces { proxy_protocol::read(&mut stream).await?.unwrap_or(address) } else { address };
        let Some(tls) = &self.tls else { return Ok(Received::Plain(stream, client)) };
        let mut first = [0];
        if stream.peek(&mut first).await? > 0 && first[0] != HANDSHAKE {
            return Err(refuse_http(stream).await);
        }
        let stream = TlsAcceptor::from(tls.clone()).accept(stream).await?;
        Ok(Received::Tls(Box::new(stream), client))
    }
}

/// Answers who speaks HTTP, or anything else, where TLS is spoken.
async fn refuse_http(mut stream: TcpStream) -> io::Error {
    // What was not read when a stream is closed would take the answer back.
    let mut request = [0; 4096];
    let read = stream.try_read(&mut request).unwrap_or_default();
    if request[..read].first().is_some_and(u8::is_ascii_uppercase) {
        stream.write_all(NOT_TLS).await.ok();
        stream.shutdown().await.ok();
    }
    io::Error::new(io::ErrorKind::InvalidData, "TLS was expected")
}
