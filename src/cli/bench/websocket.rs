//! A WebSocket as a client opens it and reads from it.

use std::{cell::RefCell, future::poll_fn, io, pin::Pin, task::ready};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::{
    args::Kind,
    http::{Connection, Head},
    target::Target,
};

/// The example of RFC 6455: a constant key has a constant answer, which can be checked without hashing.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The header that offers permessage-deflate, as browsers do.
pub(super) const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// Opens a WebSocket, offering permessage-deflate or not; what came behind the answer comes with it.
///
/// # Errors
/// If the server cannot be reached or refuses.
pub(super) async fn upgrade(target: &Target, client: Kind, deflate: bool) -> Result<(Head, TcpStream, Vec<u8>)> {
    let offer = if deflate { OFFER } else { "" };
    let path = format!("{}{}", target.path, client.query());
    let request = request(&path, &target.authority, offer);
    let (head, stream, early) = Connection::open(target).await?.upgrade(request.as_bytes()).await?;
    ensure!(head.status == 101, "the server answered the upgrade with {}", head.status);
    ensure!(head.header("sec-websocket-accept") == Some(ACCEPT), "the server's Sec-WebSocket-Accept is wrong");
    Ok((head, stream, early))
}

/// The request that opens a WebSocket; `extra` are further headers.
pub(super) fn request(path: &str, authority: &str, extra: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extra}\r\n"
    )
}

/// One read. The buffer is shared by the clients of a thread, so that an idle one owns none.
///
/// # Errors
/// If the connection has ended, or `take` fails.
pub(super) async fn read(
    stream: &mut TcpStream,
    scratch: &RefCell<Box<[u8]>>,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    poll_fn(|cx| {
        let mut scratch = scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()).into();
        }
        take(buffer.filled()).into()
    })
    .await
}

/// What a close frame says.
pub(super) fn closed(payload: &[u8]) -> String {
    match payload {
        [a, b, ..] => format!("the server closed the connection with code {}", u16::from_be_bytes([*a, *b])),
        _ => "the server closed the connection without a code".to_owned(),
    }
}
