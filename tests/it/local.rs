//! The development rule, over the wire: without keys and tokens only what is local in every way is served.

use std::net::Ipv4Addr;

use tiercast::config::AuthMode;

use crate::kit::{Raw, TestServer};

/// What is asked for without a key: the HTTP API, both transports of Socket.IO, and a plain door.
const HANDSHAKE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Target, headers, and the status that says it is served.
const ASKED: [(&str, &str, u16); 4] = [
    ("/api/ws/stats", "", 200),
    ("/ws/?EIO=4&transport=polling", "", 200),
    ("/ws/?EIO=4&transport=websocket", HANDSHAKE, 101),
    ("/ws", HANDSHAKE, 101),
];

async fn start() -> TestServer {
    TestServer::start(|config| {
        assert_eq!(config.auth.mode, AuthMode::Trusted);
        // Sessions on polling that nobody goes on with.
        config.limits.connect_timeout_ms = 50;
    })
    .await
}

/// Asserts that a request is served, or not, whatever it is for.
async fn assert_served(server: &TestServer, from: Ipv4Addr, target: &str, headers: &str, served: bool) {
    for (path, more, status) in ASKED {
        let request = format!("GET {target}{path} HTTP/1.1\r\n{headers}{more}\r\n");
        let answer = Raw::connect_from(from, server.address).await.ask(&request).await;
        let expected = if served { &[status][..] } else { &[400, 401, 403] };
        assert!(expected.contains(&answer.status), "{} {}, for {request}", answer.status, answer.text);
    }
    server.count("they are gone", |census| census.connections == 0).await;
}

#[tokio::test]
async fn programs_and_allowed_pages_of_this_machine_are_served() {
    let server = start().await;
    let port = server.address.port();
    for headers in [
        "Host: localhost\r\n".to_owned(),
        format!("Host: localhost:{port}\r\n"),
        format!("Host: 127.0.0.1:{port}\r\n"),
        "Host: [::1]\r\n".to_owned(),
        "Host: localhost:5000\r\nOrigin: http://localhost:3000\r\n".to_owned(),
        format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"),
    ] {
        assert_served(&server, Ipv4Addr::LOCALHOST, "", &headers, true).await;
    }
    // Every address of 127.0.0.0/8 is this machine's own.
    assert_served(&server, Ipv4Addr::new(127, 0, 0, 2), "", "Host: localhost\r\n", true).await;
    // What a target names is the host, whatever the header says.
    assert_served(&server, Ipv4Addr::LOCALHOST, "http://localhost", "Host: evil.example\r\n", true).await;
}

#[tokio::test]
async fn what_came_through_a_proxy_is_not_local() {
    let server = start().await;
    for header in [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Port: 80",
        "X-Forwarded-Server: a",
        "X-Original-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "Forwarded:",
        "X-Real-IP: 127.0.0.1",
        "Via: 1.1 proxy",
    ] {
        let headers = format!("Host: localhost\r\n{header}\r\n");
        assert_served(&server, Ipv4Addr::LOCALHOST, "", &headers, false).await;
    }
}

#[tokio::test]
async fn names_that_lead_here_by_rebinding_are_not_local() {
    let server = start().await;
    let port = server.address.port();
    for host in [
        "evil.example",
        "evil.example:5000",
        "localhost.evil.example",
        "localhost.",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "0.0.0.0",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "localhost:5000:80",
        "localhost@evil.example",
        "",
    ] {
        assert_served(&server, Ipv4Addr::LOCALHOST, "", &format!("Host: {host}\r\n"), false).await;
    }
    // The page of such a name says that it is the server's own.
    let page = format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n");
    assert_served(&server, Ipv4Addr::LOCALHOST, "", &page, false).await;
    assert_served(&server, Ipv4Addr::LOCALHOST, "", "", false).await;
    assert_served(&server, Ipv4Addr::LOCALHOST, "http://evil.example", "Host: localhost\r\n", false).await;
    assert_served(&server, Ipv4Addr::LOCALHOST, "", "Host: localhost\r\nHost: localhost\r\n", false).await;
    let both = "Host: localhost\r\nHost: evil.example\r\n";
    assert_served(&server, Ipv4Addr::LOCALHOST, "", both, false).await;
    assert_served(&server, Ipv4Addr::LOCALHOST, "http://localhost", both, false).await;
}

#[tokio::test]
async fn pages_of_elsewhere_are_not_local() {
    let server = start().await;
    for origin in [
        "null",
        "http://evil.example",
        // Another program of this machine, perhaps another user's.
        "http://localhost:9999",
        "http://127.0.0.1:9999",
        "http://localhost",
        "https://localhost:3000",
        "http://localhost:3000.evil.example",
        "file://",
        "",
    ] {
        let headers = format!("Host: localhost:5000\r\nOrigin: {origin}\r\n");
        assert_served(&server, Ipv4Addr::LOCALHOST, "", &headers, false).await;
    }
    let two = "Host: localhost:5000\r\nOrigin: http://localhost:3000\r\nOrigin: http://localhost:3000\r\n";
    assert_served(&server, Ipv4Addr::LOCALHOST, "", two, false).await;
}
