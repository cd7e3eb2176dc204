//! Requests that two readers could read in two ways: the server reads one request, or none.

use tokio::io::AsyncReadExt;

use crate::kit::{Raw, TestServer};

/// A handshake that must never be read where it is part of something else.
const HIDDEN: &str = "GET /ws/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Comes behind everything, and is only answered if the connection is in order.
const LAST: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A handshake with something else in it.
fn handshake(change: impl Fn(&str) -> String) -> String {
    change(HIDDEN)
}

/// The statuses that bytes are answered with, and what follows them.
async fn statuses(server: &TestServer, bytes: &str) -> Vec<u16> {
    let mut raw = Raw::connect(server.address).await;
    raw.send(format!("{bytes}{LAST}")).await;
    let statuses = raw.statuses().await;
    drop(raw);
    server.count("no WebSocket is left", |census| census.connections == 0).await;
    statuses
}

#[tokio::test]
async fn a_handshake_in_a_body_stays_in_it() {
    let server = TestServer::start(|_| {}).await;
    let length = HIDDEN.len();
    let size = format!("{length:x}");
    // Each of them is one request that is not allowed, and the last one.
    for request in [
        format!("POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
        format!(
            "POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n{HIDDEN}\r\n0\r\n\r\n"
        ),
        format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
    ] {
        let statuses = statuses(&server, &request).await;
        // Nothing is read behind chunks.
        assert!(matches!(statuses[..], [405 | 200, 200] | [405]), "{statuses:?} for {request}");
    }
}

#[tokio::test]
async fn two_lengths_are_never_followed_by_another_request() {
    let server = TestServer::start(|_| {}).await;
    let length = HIDDEN.len();
    let size = format!("{length:x}");
    for (heads, body) in [
        // What ends the body for one reader begins the hidden request for the other.
        (format!("Content-Length: {}\r\nTransfer-Encoding: chunked", length + 5), format!("0\r\n\r\n{HIDDEN}")),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {}", length + 5), format!("0\r\n\r\n{HIDDEN}")),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked".to_owned(), format!("{size}\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked".to_owned(), format!("0\r\n\r\n{HIDDEN}")),
        (format!("Content-Length: 0\r\nContent-Length: {length}"), HIDDEN.to_owned()),
        (format!("Content-Length: {length}\r\nContent-Length: 0"), HIDDEN.to_owned()),
        (format!("Content-Length: 0, {length}"), HIDDEN.to_owned()),
        (format!("Content-Length: +{length}"), HIDDEN.to_owned()),
        (format!("Content-Length: -{length}"), HIDDEN.to_owned()),
        (format!("Content-Length: 0x{size}"), HIDDEN.to_owned()),
        (format!("Content-Length: {length} {length}"), HIDDEN.to_owned()),
        ("Content-Length: 99999999999999999999999".to_owned(), HIDDEN.to_owned()),
        ("Content-Length:".to_owned(), HIDDEN.to_owned()),
        (format!("Content-Length : {length}"), HIDDEN.to_owned()),
        ("Transfer-Encoding: identity".to_owned(), HIDDEN.to_owned()),
        ("Transfer-Encoding: chunked, identity".to_owned(), format!("0\r\n\r\n{HIDDEN}")),
        ("Transfer-Encoding: xchunked".to_owned(), format!("0\r\n\r\n{HIDDEN}")),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(), format!("0\r\n\r\n{HIDDEN}")),
        ("Transfer-Encoding : chunked".to_owned(), format!("0\r\n\r\n{HIDDEN}")),
        ("Transfer-Encoding:\x0bchunked".to_owned(), format!("0\r\n\r\n{HIDDEN}")),
        // A header that is folded (RFC 9112, section 5.2), and one that ends early.
        ("X: y\r\n Content-Length: 5".to_owned(), HIDDEN.to_owned()),
        ("Transfer-Encoding:\r\n chunked".to_owned(), format!("0\r\n\r\n{HIDDEN}")),
        ("X: y\rContent-Length: 5".to_owned(), HIDDEN.to_owned()),
        ("X: y\0z".to_owned(), HIDDEN.to_owned()),
    ] {
        let request = format!("POST /livez HTTP/1.1\r\nHost: localhost\r\n{heads}\r\n\r\n{body}");
        let statuses = statuses(&server, &request).await;
        assert!(matches!(statuses[..], [400 | 405]), "{statuses:?} for {request}");
    }
    // Before version 1.1 there are no chunks.
    let old = format!(
        "POST /livez HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
    );
    assert_eq!(statuses(&server, &old).await, [400]);
}

#[tokio::test]
async fn what_hides_behind_a_length_that_contradicts_the_chunks_is_not_served() {
    let server = TestServer::start(|_| {}).await;
    let post = |headers: &str, body: &str| {
        format!("POST /api/ws/broadcast HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}")
    };
    assert_eq!(statuses(&server, &post("Content-Length: 2\r\n", "{}")).await, [415, 200], "two requests are two");
    let length = format!("Content-Length: {}\r\n", "0\r\n\r\n".len() + LAST.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    for headers in [format!("{length}{chunked}"), format!("{chunked}{length}"), chunked.to_owned()] {
        let answers = statuses(&server, &post(&headers, "0\r\n\r\n")).await;
        assert_eq!(answers.len(), 1, "{headers}: {answers:?}");
    }
}

#[tokio::test]
async fn chunks_that_are_malformed_are_never_followed_by_another_request() {
    let server = TestServer::start(|_| {}).await;
    for chunks in [
        "x\r\n",
        "-1\r\n",
        "0x0\r\n\r\n",
        " 0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "\r\n\r\n",
        "0\n\r\n",
        "1;a=\"\n\"\r\na\r\n0\r\n\r\n",
        "0\r\nX\r\n\r\n",
    ] {
        let request = format!(
            "POST /ws/?EIO=4&transport=polling&sid=none HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{HIDDEN}"
        );
        let statuses = statuses(&server, &request).await;
        assert!(matches!(statuses[..], [] | [400]), "{statuses:?} for {chunks:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_is_not_in_order_is_refused_and_ends_its_connection() {
    let server = TestServer::start(|config| {
        let door = &mut config.doors.workmatrix;
        (door.enabled, door.organization) = (true, "org-1".into());
    })
    .await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let instead = |other: &'static str| handshake(|text| text.replace(key, other));
    for request in [
        handshake(|text| text.replace("HTTP/1.1", "HTTP/1.0")),
        handshake(|text| text.replace("GET", "POST")),
        handshake(|text| text.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n5\r\n\r\n")),
        handshake(|text| text.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        instead(""),
        instead("Sec-WebSocket-Key:\r\n"),
        instead("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n"),
        instead("Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n"),
        instead("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=\r\n"),
        instead("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, x\r\n"),
        instead("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
    ] {
        // A proxy that takes the refused handshake for a WebSocket passes on what follows without a look.
        for path in ["/ws/?EIO=4&transport=websocket", "/ws"] {
            let request = request.replace("/ws/?EIO=4&transport=websocket", path);
            assert_eq!(statuses(&server, &request).await, [400], "{request}");
        }
    }
    let version = handshake(|text| text.replace("Version: 13", "Version: 7"));
    assert_eq!(statuses(&server, &version).await, [426]);
    let origin = handshake(|text| text.replace("Host:", "Origin: http://evil.example\r\nHost:"));
    assert!(matches!(statuses(&server, &origin).await[..], [401 | 403]));
    let nowhere = handshake(|text| text.replace("/ws/", "/nowhere/"));
    assert_eq!(statuses(&server, &nowhere).await, [404]);
}

#[tokio::test]
async fn what_follows_a_handshake_is_frames_and_no_request() {
    let server = TestServer::start(|_| {}).await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(format!("{HIDDEN}{LAST}{LAST}")).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 101);
    let mut rest = Vec::new();
    tokio::time::timeout(crate::kit::DEADLINE, raw.stream.read_to_end(&mut rest)).await.expect("an end").ok();
    let told = String::from_utf8_lossy(&rest);
    assert!(!told.contains("HTTP/1.1"), "{told}");
    server.count("it is gone", |census| census.connections == 0).await;
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_a_row() {
    let server = TestServer::start(|_| {}).await;
    let ordinary = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(statuses(&server, &ordinary.repeat(5)).await, [200; 6]);
    assert_eq!(statuses(&server, &format!("{ordinary}{HIDDEN}")).await, [200, 101]);
}
