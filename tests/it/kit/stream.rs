//! What a WebSocket is opened over: a TCP stream, bare or under TLS.

use std::io;

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Either of them.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Speaks TLS over a TCP stream.
pub async fn secure(tcp: TcpStream, config: std::sync::Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(config).connect(ServerName::from(tcp.peer_addr()?.ip()), tcp).await
}
