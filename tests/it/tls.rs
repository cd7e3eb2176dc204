//! HTTPS and wss: everything works as it does in the clear, and nobody who is slow or wrong holds anything.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tiercast::config::{Config, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::kit::{
    Call, Certified, ConnectOptions, DEADLINE, TestServer, Transport, eventually, part, secrets, secure, trusting,
};

/// Less than [`DEADLINE`], so that what is bounded by it and what never comes are told apart.
const SOON: Duration = Duration::from_secs(5);

async fn start(configure: impl FnOnce(&mut Config)) -> (TestServer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let server = TestServer::start(|config| {
        Certified::fresh().write(&path, &mut config.server.tls);
        configure(config);
    });
    (server.await, folder)
}

fn target() -> Value {
    json!({ "organization_id": "org-1" })
}

fn options(transport: Transport) -> ConnectOptions {
    ConnectOptions::named().transport(transport)
}

/// A bare TLS connection.
async fn tls(address: SocketAddr) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    secure(tcp, trusting(rustls::ALL_VERSIONS)).await.expect("a TLS connection")
}

/// A WebSocket whose TLS can be got at, once the server has said `connected`.
async fn websocket(stream: TlsStream<TcpStream>) -> WebSocketStream<TlsStream<TcpStream>> {
    let (mut socket, _) =
        client_async("wss://localhost/ws/?EIO=4&transport=websocket&forms=named", stream).await.expect("a WebSocket");
    socket.send(Message::text("40")).await.unwrap();
    hear(&mut socket, r#"42["connected""#).await;
    socket
}

/// The next text that begins so.
async fn hear(socket: &mut WebSocketStream<TlsStream<TcpStream>>, beginning: &str) -> String {
    let heard = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) if text.starts_with(beginning) => return text.to_string(),
                Some(Ok(_)) => {}
                end => panic!("{end:?} before {beginning}"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, heard).await.unwrap_or_else(|_| panic!("nothing begins with {beginning}"))
}

async fn ask_for_pong(socket: &mut WebSocketStream<TlsStream<TcpStream>>, id: usize) {
    socket.send(Message::text(format!(r#"42{id}["client:ping",{{}}]"#))).await.unwrap();
    hear(socket, &format!("43{id}[")).await;
}

#[tokio::test]
async fn every_transport_works() {
    let (server, _folder) = start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let mut client = server.connect_with(options(transport)).await.authenticate("org-1").await;
        client.settle().await;
        let name = if transport == Transport::Polling { "polling" } else { "websocket" };
        let (_, answer) = server.get(&format!("/connections/{}", client.socket_id)).await;
        assert_eq!(answer["connection"]["transport"], name);
        let answer = server.broadcast("kpi:update", json!({ "n": 1 }), target()).await;
        assert_eq!(answer["recipients_count"], 1);
        assert_eq!(client.next_event().await.payload()["n"], 1);
        client.disconnect().await;
        server.count("it is gone", |census| census.connections == 0).await;
    }
}

#[tokio::test]
async fn large_messages_arrive_whole_in_both_directions() {
    let (server, _folder) = start(|config| {
        config.events.custom = vec![part(json!({ "name": "drawing", "channel": "drawings" }))];
        config.client_events = vec![part(json!({ "event": "drawing", "action": "relay", "to": "organization" }))];
        config.compression.compression_enabled = false;
    })
    .await;
    for transport in [Transport::WebSocket, Transport::Upgrade] {
        let mut one = server.connect_with(options(transport)).await.authenticate("org-1").await;
        let mut other = server.connect_with(options(transport)).await.authenticate("org-1").await;
        for size in [1, 4_000, 16_384, 65_535, 65_536, 300_000, 900_000] {
            let text: String = (0..size).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
            let ack = one.emit("drawing", json!({ "text": text })).await;
            assert_eq!(ack["success"], true, "{ack}");
            assert_eq!(other.next_named("drawing").await.payload()["text"], text, "{size} bytes");
            server.broadcast("kpi:update", json!({ "text": text }), target()).await;
            for client in [&mut one, &mut other] {
                assert_eq!(client.next_named("kpi:update").await.payload()["text"], text, "{size} bytes");
            }
        }
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_gets_everything_in_order() {
    let (server, _folder) = start(|config| {
        config.outbox.write_stall_timeout_ms = 600_000;
        config.outbox.socket_buffer_bytes = 8_192;
        config.compression.compression_enabled = false;
    })
    .await;
    let options = ConnectOptions { receive_buffer: Some(8_192), ..ConnectOptions::named() };
    let mut slow = server.connect_with(options).await.authenticate("org-1").await;
    slow.wire.hold().await;
    let mut sent = Vec::new();
    // Of every size, so that what is written ends anywhere in a record.
    for n in 0..120_usize {
        let pad: String = (0..(n * 977) % 30_000).map(|k| char::from(b'a' + ((n + k) % 26) as u8)).collect();
        server.broadcast("alert:triggered", json!({ "n": n, "pad": pad }), target()).await;
        sent.push(pad);
    }
    slow.wire.read(usize::MAX / 2);
    for (n, pad) in sent.iter().enumerate() {
        let event = slow.next_event().await;
        assert_eq!((&event.payload()["n"], event.payload()["pad"].as_str()), (&json!(n), Some(pad.as_str())));
    }
    slow.settle().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_and_holds_nobody() {
    let (server, _folder) = start(|config| {
        config.outbox.write_stall_timeout_ms = 1_000;
        config.outbox.hard_limit_bytes = 1 << 30;
    })
    .await;
    let mut healthy = server.agent("org-1").await;
    let stalled = server.agent("org-1").await;
    stalled.wire.freeze();
    let pad = "x".repeat(64 * 1_024);
    for n in 0..400 {
        server.broadcast("alert:triggered", json!({ "n": n, "pad": pad }), target()).await;
    }
    let since = Instant::now();
    server.count("it is gone", |census| census.connections == 1).await;
    assert!(since.elapsed() < SOON, "it took {:?}", since.elapsed());
    for n in 0..400 {
        assert_eq!(healthy.next_event().await.payload()["n"], n);
    }
    let (_, stats) = server.get("/stats").await;
    assert_eq!(stats["stats"]["active_connections"], 1);
}

#[tokio::test]
async fn a_backlog_beyond_the_bound_cuts_at_once() {
    let (server, _folder) = start(|config| {
        config.outbox.hard_limit_bytes = 1 << 20;
        config.outbox.write_stall_timeout_ms = 600_000;
    })
    .await;
    let _healthy = server.agent("org-1").await;
    let stalled = server.agent("org-1").await;
    stalled.wire.freeze();
    let pad = "x".repeat(64 * 1_024);
    for n in 0..400 {
        server.broadcast("alert:triggered", json!({ "n": n, "pad": pad }), target()).await;
    }
    server.count("it is gone", |census| census.connections == 1).await;
}

#[tokio::test]
async fn new_keys_are_agreed_in_the_midst() {
    let (server, _folder) = start(|_| {}).await;
    let mut socket = websocket(tls(server.address).await).await;
    for id in 0..20 {
        socket.get_mut().get_mut().1.refresh_traffic_keys().unwrap();
        ask_for_pong(&mut socket, id).await;
    }
}

#[tokio::test]
async fn the_oldest_version_is_the_configured_one() {
    for (min_version, takes_old) in [(TlsVersion::V1_2, true), (TlsVersion::V1_3, false)] {
        let (server, _folder) = start(|config| config.server.tls.min_version = min_version).await;
        for (version, taken) in [(&rustls::version::TLS12, takes_old), (&rustls::version::TLS13, true)] {
            let tcp = TcpStream::connect(server.address).await.unwrap();
            let Ok(stream) = secure(tcp, trusting(&[version])).await else {
                assert!(!taken, "{version:?} is refused");
                continue;
            };
            assert!(taken, "{version:?} is taken");
            ask_for_pong(&mut websocket(stream).await, 1).await;
        }
    }
}

#[tokio::test]
async fn an_orderly_end_is_told_in_tls_too() {
    let (mut server, _folder) = start(|config| config.server.shutdown_grace_ms = 500).await;
    let mut socket = websocket(tls(server.address).await).await;
    let mut http = tls(server.address).await;
    http.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    // Without a close_notify this would be an unexpected end.
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
        panic!("the server closes in an orderly way");
    };
    tokio::join!(server.stop(), reading);
    let mut rest = Vec::new();
    socket.get_mut().read_to_end(&mut rest).await.expect("an orderly end");
}

#[tokio::test]
async fn a_client_that_says_goodbye_only_in_tls_has_left() {
    // So that nothing else ends it.
    let (server, _folder) = start(|config| config.auth.auth_required = false).await;
    let mut socket = websocket(tls(server.address).await).await;
    assert_eq!(server.census().connections, 1);
    let (tcp, session) = socket.get_mut().get_mut();
    session.send_close_notify();
    let mut goodbye = Vec::new();
    session.write_tls(&mut goodbye).unwrap();
    // The TCP connection stays open.
    tcp.write_all(&goodbye).await.unwrap();
    server.count("it is gone", |census| census.connections == 0).await;
}

#[tokio::test]
async fn damaged_records_end_their_connection_only() {
    let (server, _folder) = start(|_| {}).await;
    let mut bystander = server.agent("org-1").await;
    for garbage in
        [&b"\x17\x03\x03\x00\x20garbage-garbage-garbage-garbage."[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]]
    {
        let mut socket = websocket(tls(server.address).await).await;
        socket.get_mut().get_mut().0.write_all(garbage).await.unwrap();
        let end = tokio::time::timeout(SOON, async { while let Some(Ok(_)) = socket.next().await {} });
        end.await.expect("the connection ends");
        server.count("it is gone", |census| census.connections == 1).await;
    }
    bystander.settle().await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended_and_holds_nobody() {
    let (server, _folder) = start(|config| config.server.header_timeout_ms = 500).await;
    // A record of a handshake that never ends, and nothing at all.
    let beginnings: [&[u8]; 3] = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"];
    let mut slow = Vec::new();
    for _ in 0..20 {
        for beginning in beginnings {
            let mut tcp = TcpStream::connect(server.address).await.unwrap();
            tcp.write_all(beginning).await.unwrap();
            slow.push(tcp);
        }
    }
    let mut client = server.agent("org-1").await;
    client.settle().await;
    assert_eq!(server.census().connections, 1, "a handshake has no seat");
    for mut tcp in slow {
        let end = tokio::time::timeout(SOON, tcp.read_to_end(&mut Vec::new())).await.expect("it is ended");
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    // A handshake that is done does not buy more time for the request.
    let mut silent = tls(server.address).await;
    let end = tokio::time::timeout(SOON, silent.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "it is ended");
}

#[tokio::test]
async fn what_is_not_tls_is_refused_in_the_clear() {
    let (server, _folder) = start(|_| {}).await;
    let plain = format!("http://{}/livez", server.address);
    let reply = Call::get(&plain).send().await.expect("an answer");
    assert_eq!((reply.status, reply.text.as_str()), (400, "this address serves https and wss"));
    for garbage in [&b"\0\0\0\0"[..], b"SSH-2.0-x\r\n", &[0x15; 40], &[0x16; 40]] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(garbage).await.unwrap();
        let end = tokio::time::timeout(SOON, tcp.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{garbage:?} is ended");
    }
    server.agent("org-1").await.settle().await;
}

#[tokio::test]
async fn a_listener_of_a_doors_own_speaks_tls() {
    let (server, _folder) = start(|config| {
        let door = &mut config.doors.workmatrix;
        (door.enabled, door.organization, door.listen) = (true, "org-1".into(), "127.0.0.1:0".into());
    })
    .await;
    let address = server.plain_addresses()[0];
    let (mut socket, _) = client_async("wss://localhost/", tls(address).await).await.expect("a WebSocket");
    let first = tokio::time::timeout(DEADLINE, socket.next()).await.expect("a frame").unwrap().unwrap();
    assert!(first.is_text(), "{first:?}");
    assert!(Call::get(&format!("http://{address}/")).send().await.is_some_and(|reply| reply.status == 400));
}

/// The certificate that a new connection is shown.
async fn shown(server: &TestServer) -> Vec<u8> {
    let stream = tls(server.address).await;
    stream.get_ref().1.peer_certificates().expect("certificates")[0].to_vec()
}

async fn is_shown(server: &TestServer, certified: &Certified) {
    let expected = certified.certificate.der().to_vec();
    eventually("the certificate is shown", async || shown(server).await == expected).await;
}

#[tokio::test]
async fn certificates_are_read_again_when_a_pair_fits() {
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = folder.path();
    let (first, second, third) = (Certified::fresh(), Certified::fresh(), Certified::fresh());
    let server = TestServer::start(|config| {
        first.write(path, &mut config.server.tls);
        config.server.tls.reload_interval_ms = 100;
    })
    .await;
    let mut living = server.agent("org-1").await;
    is_shown(&server, &first).await;
    let faults = || secrets::lines_with(&["the certificate stays the one before", &path.to_string_lossy()]);
    let is_refused = async |change: &dyn Fn()| {
        let before = faults();
        change();
        eventually("what the files hold is refused", async || faults() > before).await;
    };
    // One after the other: until both are there the old pair stays.
    is_refused(&|| drop(second.write_certificate(path))).await;
    assert_eq!(shown(&server).await, first.certificate.der().to_vec());
    second.write_key(path);
    is_shown(&server, &second).await;
    // The same the other way round, with rubbish and a file that is away in between.
    is_refused(&|| drop(third.write_key(path))).await;
    for broken in ["", "no PEM at all", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        is_refused(&|| std::fs::write(path.join("cert.pem"), broken).unwrap()).await;
        assert_eq!(shown(&server).await, second.certificate.der().to_vec(), "{broken}");
    }
    is_refused(&|| std::fs::remove_file(path.join("cert.pem")).unwrap()).await;
    assert_eq!(shown(&server).await, second.certificate.der().to_vec());
    third.write_certificate(path);
    is_shown(&server, &third).await;
    // Whoever was there has noticed nothing.
    living.settle().await;
    server.broadcast("kpi:update", json!({ "n": 1 }), target()).await;
    assert_eq!(living.next_event().await.payload()["n"], 1);
}
