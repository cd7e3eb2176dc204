//! The PROXY protocol, versions 1 and 2: what a proxy says before anything else on a connection.
//!
//! See <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>. Not one byte behind it is read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How version 2 begins (section 2.2); version 1 is never that short.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Longest header of version 1, with its end (section 2.1).
const MAX_LINE: usize = 107;

/// Most bytes of addresses and extensions in a header of version 2.
const MAX_PAYLOAD: usize = 4_096;

/// Reads the header of a connection: the address of the client, if the proxy speaks for one.
///
/// # Errors
/// If something else comes first, or the stream ends.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(malformed("a trusted proxy does not begin with the proxy protocol"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(malformed("a header of version 1 does not end"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line[..line.len() - 2]).ok_or_else(|| malformed("a header of version 1 is malformed"))
}

/// `PROXY TCP4 source destination port port`, and `PROXY UNKNOWN` with anything behind it.
fn parse_line(line: &[u8]) -> Option<Option<SocketAddr>> {
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let address = |text: &str| -> Option<IpAddr> {
                match family {
                    "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                    _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                }
            };
            let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
            address(destination).and(port(destination_port))?;
            Some(Some(SocketAddr::new(address(source)?, port(source_port)?)))
        }
        _ => None,
    }
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let (version_and_command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_PAYLOAD {
        return Err(malformed("a header of version 2 is too long"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    match (version_and_command, family) {
        // The proxy speaks for itself, as in its health checks.
        (0x20, _) => Ok(None),
        (0x21, 0x11) => source::<4>(&payload).map(|(ip, port)| Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))),
        (0x21, 0x21) => source::<16>(&payload).map(|(ip, port)| Some(SocketAddr::new(Ipv6Addr::from(ip).into(), port))),
        // Of what is no TCP no address is told.
        (0x21, _) => Ok(None),
        _ => Err(malformed("a header of version 2 has another version or command")),
    }
}

/// Source and destination address, and their ports.
fn source<const SIZE: usize>(payload: &[u8]) -> io::Result<([u8; SIZE], u16)> {
    let addresses = payload.get(..2 * SIZE + 4).ok_or_else(|| malformed("a header of version 2 is too short"))?;
    let ip = addresses[..SIZE].try_into().expect("as many bytes as were taken");
    Ok((ip, u16::from_be_bytes([addresses[2 * SIZE], addresses[2 * SIZE + 1]])))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address of the client, and what is left of the stream.
    async fn parse(bytes: &[u8]) -> (Option<Option<String>>, Vec<u8>) {
        let mut stream = bytes;
        let outcome = read(&mut stream).await.ok().map(|address| address.map(|address| address.to_string()));
        (outcome, stream.to_vec())
    }

    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, payload, b"GET /"].concat()
    }

    #[tokio::test]
    async fn version_1_tells_the_client() {
        for (line, client) in [
            ("TCP4 203.0.113.9 10.0.0.1 4711 443", Some("203.0.113.9:4711")),
            ("TCP6 2a00::1 ::1 4711 443", Some("[2a00::1]:4711")),
            ("UNKNOWN", None),
            ("UNKNOWN ffff:f...f:ffff whatever 65535 65535", None),
        ] {
            let (outcome, left) = parse(format!("PROXY {line}\r\nGET /").as_bytes()).await;
            assert_eq!(outcome, Some(client.map(str::to_owned)), "{line}");
            assert_eq!(left, b"GET /", "{line}");
        }
    }

    #[tokio::test]
    async fn what_is_not_version_1_is_refused() {
        for line in [
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 443 \r\n",
            "PROXY TCP4  203.0.113.9 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 2a00::1 ::1 4711 443\r\n",
            "PROXY TCP6 203.0.113.9 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 99999\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 +471 443\r\n",
            "PROXY TCP4 203.0.113.9 nowhere 4711 443\r\n",
            "PROXY UDP4 203.0.113.9 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\n",
            "PROXY TCP4 203.0.113",
            "PROXY \u{e9}\u{e9}\u{e9}\r\n",
            "proxy TCP4 203.0.113.9 10.0.0.1 4711 443\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "",
        ] {
            assert_eq!(parse(line.as_bytes()).await.0, None, "{line}");
        }
        let endless = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE));
        let (outcome, left) = parse(endless.as_bytes()).await;
        assert_eq!((outcome, left.len()), (None, endless.len() - MAX_LINE));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 16));
        assert_eq!(parse(longest.as_bytes()).await.0, Some(None));
    }

    #[tokio::test]
    async fn version_2_tells_the_client() {
        let four = [&[203, 0, 113, 9, 10, 0, 0, 1][..], &[0x12, 0x67, 1, 187]].concat();
        let six = [&[0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0x12, 0x67, 1, 187]].concat();
        let extended = [&four[..], &[0x20, 0, 3, 1, 2, 3]].concat();
        for (bytes, client) in [
            (binary(0x21, 0x11, &four), Some("203.0.113.9:4711")),
            (binary(0x21, 0x11, &extended), Some("203.0.113.9:4711")),
            (binary(0x21, 0x21, &six), Some("[2a00::1]:4711")),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &four), None),
            (binary(0x21, 0x00, &[1, 2, 3]), None),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
        ] {
            let (outcome, left) = parse(&bytes).await;
            assert_eq!(outcome, Some(client.map(str::to_owned)), "{bytes:?}");
            assert_eq!(left, b"GET /", "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_version_2_is_refused() {
        let four = [0; 12];
        for bytes in [
            binary(0x11, 0x11, &four),
            binary(0x22, 0x11, &four),
            binary(0x21, 0x11, &four[..11]),
            binary(0x21, 0x21, &four),
            binary(0x21, 0x11, &[0; MAX_PAYLOAD + 1]),
            binary(0x21, 0x11, &four)[..20].to_vec(),
            SIGNATURE.to_vec(),
        ] {
            assert_eq!(parse(&bytes).await.0, None, "{bytes:?}");
        }
    }
}
