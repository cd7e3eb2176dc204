//! Proxies in front of the server: whose word counts, and what follows from it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tiercast::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::{Certified, ConnectOptions, Plain, Raw, TestServer, Transport, eventually, secure, trusting};

const SOON: Duration = Duration::from_secs(5);

/// A trusted proxy, and a stranger: both are this machine.
const PROXY: Ipv4Addr = Ipv4Addr::LOCALHOST;
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn behind_proxies(config: &mut Config) {
    config.server.trusted_proxies = vec!["127.0.0.1".into(), "10.0.0.0/8".into()];
    config.auth.allow_trusted = true;
    config.api.allow_keyless = true;
}

/// The address that the only connection is listed with.
async fn listed(server: &TestServer) -> String {
    let mut address = String::new();
    eventually("it is listed", async || {
        let (_, answer) = server.get("/connections").await;
        address = answer["connections"][0]["ip_address"].as_str().unwrap_or_default().to_owned();
        !address.is_empty()
    })
    .await;
    address
}

#[tokio::test]
async fn the_address_that_a_trusted_proxy_tells_is_listed() {
    let server = TestServer::start(behind_proxies).await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        for (header, value, expected) in [
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("forwarded", "for=6.6.6.6, for=\"[2a00::1]:80\";proto=https", "2a00::1"),
            ("x-forwarded-for", "nonsense", "127.0.0.1"),
            ("x-real-ip", "6.6.6.6", "127.0.0.1"),
        ] {
            let options = ConnectOptions::named().transport(transport).header(header, value);
            let client = server.connect_with(options).await.authenticate("org-1").await;
            assert_eq!(listed(&server).await, expected, "{header}: {value}");
            client.disconnect().await;
            server.count("it is gone", |census| census.connections == 0).await;
        }
    }
}

#[tokio::test]
async fn what_a_stranger_tells_is_ignored() {
    let server = TestServer::start(|config| {
        behind_proxies(config);
        config.server.trusted_proxies = vec!["10.0.0.0/8".into()];
    })
    .await;
    for (header, value) in [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")] {
        let options = ConnectOptions::named().header(header, value);
        let client = server.connect_with(options).await.authenticate("org-1").await;
        assert_eq!(listed(&server).await, "127.0.0.1");
        client.disconnect().await;
        server.count("it is gone", |census| census.connections == 0).await;
    }
}

#[tokio::test]
async fn a_client_id_belongs_to_the_address_behind_the_proxy() {
    let server = TestServer::start(|config| {
        behind_proxies(config);
        let door = &mut config.doors.dexter;
        (door.enabled, door.organization) = (true, "org-1".into());
        door.identity = tiercast::config::DoorIdentity::Anonymous;
        door.anonymous_channels = vec!["kpi".into()];
    })
    .await;
    let open = async |address| Plain::open(server.address, "/ws/desk-7", &[("x-forwarded-for", address)]).await;
    let mut first = open("203.0.113.9").await.expect("a client");
    // Once it is greeted the id is its own.
    first.next().await.expect("a greeting");
    assert_eq!(open("203.0.113.10").await.err(), Some(409));
    // The same client has come again.
    let second = open("6.6.6.6, 203.0.113.9").await.expect("a client");
    drop((first, second));
}

#[tokio::test]
async fn the_servers_own_origin_is_the_one_that_the_client_sees() {
    let server = TestServer::start(behind_proxies).await;
    let ask = async |from: Ipv4Addr, headers: &str| {
        let request = format!(
            "GET /ws/?EIO=4&transport=websocket HTTP/1.1\r\nHost: inner:5000\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {headers}\r\n"
        );
        Raw::connect_from(from, server.address).await.ask(request).await.status
    };
    let own = "Origin: https://live.example\r\n";
    let told = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: live.example\r\n";
    let standard = "Forwarded: for=203.0.113.9;proto=https;host=live.example\r\n";
    for told in [told, standard] {
        assert_eq!(ask(PROXY, &format!("{own}{told}")).await, 101);
        assert_eq!(ask(PROXY, &format!("Origin: http://live.example\r\n{told}")).await, 403);
        assert_eq!(ask(PROXY, &format!("Origin: https://inner:5000\r\n{told}")).await, 403);
        assert_eq!(ask(STRANGER, &format!("{own}{told}")).await, 403);
    }
    assert_eq!(ask(PROXY, &format!("{own}X-Forwarded-Proto: https\r\n")).await, 403);
    assert_eq!(ask(PROXY, "Origin: http://inner:5000\r\n").await, 101);
    server.count("they are gone", |census| census.connections == 0).await;
}

fn announced(config: &mut Config) {
    behind_proxies(config);
    config.server.proxy_protocol = true;
    config.server.header_timeout_ms = 500;
}

fn version_2(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([10, 0, 0, 1, 0x12, 0x67, 1, 187]);
    header
}

const POLL: &str = "GET /ws/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n";

/// Opens a session through a proxy that begins with these bytes; the address that the session is listed with, or
/// nothing if the connection is closed.
async fn session(server: &TestServer, from: Ipv4Addr, begin: &[u8], headers: &str) -> Option<String> {
    let mut raw = Raw::connect_from(from, server.address).await;
    raw.send([begin, POLL.as_bytes(), headers.as_bytes(), b"\r\n"].concat()).await;
    let answer = raw.answer().await.filter(|answer| answer.status == 200)?;
    let sid = serde_json::from_str::<serde_json::Value>(&answer.text[1..]).expect("OPEN")["sid"].clone();
    let post = |body: &str| {
        let path = format!("/ws/?EIO=4&transport=polling&sid={}", sid.as_str().expect("a sid"));
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    raw.send(post("40")).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);
    let client = raw_listed(server, from, begin).await;
    raw.send(post("1")).await;
    raw.answer().await.expect("an answer");
    server.count("it is gone", |census| census.connections == 0).await;
    Some(client)
}

/// The listing, asked for in the same way.
async fn raw_listed(server: &TestServer, from: Ipv4Addr, begin: &[u8]) -> String {
    let mut address = String::new();
    eventually("it is listed", async || {
        let request = [begin, b"GET /api/ws/connections HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        let answer = Raw::connect_from(from, server.address).await.ask(request).await.json();
        address = answer["connections"][0]["ip_address"].as_str().unwrap_or_default().to_owned();
        !address.is_empty()
    })
    .await;
    address
}

#[tokio::test]
async fn the_proxy_protocol_tells_the_client() {
    let server = TestServer::start(announced).await;
    let one = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n".as_slice();
    let two = &version_2([203, 0, 113, 9]);
    for begin in [one, two] {
        assert_eq!(session(&server, PROXY, begin, "").await.as_deref(), Some("203.0.113.9"));
        // What the client says by itself is ignored.
        let forged = "X-Forwarded-For: 6.6.6.6\r\n";
        assert_eq!(session(&server, PROXY, begin, forged).await.as_deref(), Some("203.0.113.9"));
    }
    // A proxy behind the one that announces it.
    let inner = session(&server, PROXY, &version_2([10, 7, 7, 7]), "X-Forwarded-For: 203.0.113.9\r\n").await;
    assert_eq!(inner.as_deref(), Some("203.0.113.9"));
    let unknown = session(&server, PROXY, b"PROXY UNKNOWN\r\n", "").await;
    assert_eq!(unknown.as_deref(), Some("127.0.0.1"));
}

#[tokio::test]
async fn the_proxy_protocol_is_asked_of_proxies_and_of_nobody_else() {
    let server = TestServer::start(announced).await;
    assert_eq!(session(&server, PROXY, b"", "").await, None, "a proxy has to announce its client");
    assert_eq!(session(&server, STRANGER, b"", "").await.as_deref(), Some("127.0.0.9"));
    let forged = session(&server, STRANGER, b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n", "").await;
    assert_eq!(forged, None, "a stranger has nothing to announce");
    assert_eq!(session(&server, STRANGER, &version_2([203, 0, 113, 9]), "").await, None);
    // Half of one does not hold its connection.
    for half in [&b""[..], b"PROXY TCP4 ", &version_2([1, 2, 3, 4])[..14]] {
        let mut raw = Raw::connect(server.address).await;
        raw.send(half).await;
        let end = tokio::time::timeout(SOON, raw.stream.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{half:?} is ended");
    }
}

#[tokio::test]
async fn the_proxy_protocol_comes_before_tls() {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let server = TestServer::start(|config| {
        announced(config);
        Certified::fresh().write(folder.path(), &mut config.server.tls);
    })
    .await;
    for begin in [b"PROXY TCP6 2a00::1 ::1 4711 443\r\n".as_slice(), &version_2([203, 0, 113, 9])] {
        let answer = ask_over_tls(server.address, begin).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let mut raw = Raw::connect(server.address).await;
    // A TLS handshake, but nothing before it.
    raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    let end = tokio::time::timeout(SOON, raw.stream.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "it is ended");
}

async fn ask_over_tls(address: SocketAddr, begin: &[u8]) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(begin).await.unwrap();
    let mut stream = secure(tcp, trusting(rustls::ALL_VERSIONS)).await.expect("a TLS connection");
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn every_word_of_a_proxy_is_read_without_a_fault() {
    let server = TestServer::start(behind_proxies).await;
    for value in ["", ",", ",,,", "\"", "for=", "for=\"", "=;=", ";;;,", "for=[", "[", "]", ":", "1.2.3.4:99999", "é"]
    {
        for header in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"] {
            let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{header}: {value}\r\n\r\n");
            assert_eq!(Raw::connect(server.address).await.ask(request).await.status, 200, "{header}: {value}");
        }
    }
    let many = "10.1.1.1, ".repeat(1_000);
    let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {many}6.6.6.6\r\n\r\n");
    assert_eq!(Raw::connect(server.address).await.ask(request).await.status, 200);
    assert_eq!(server.publish("/broadcast", json!({})).await.0, 400);
}
