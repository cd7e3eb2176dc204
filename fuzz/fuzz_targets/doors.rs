//! Whatever a client sends through any door of a whole server: it stays alive, closes what is closed, and forgets.

#![no_main]

mod server;

use std::cell::Cell;
use std::io::Write;
use std::net::{Shutdown, TcpStream};

use libfuzzer_sys::fuzz_target;
use server::{Http, SERVER, drain};

/// How a client comes in over a WebSocket.
const UPGRADES: [&str; 9] = [
    "/ws/?EIO=4&transport=websocket",
    "/ws/?EIO=3&transport=websocket",
    "/ws",
    "/",
    "/ws/client",
    "/ws/checkins",
    "/events/ws",
    "/generic",
    "/ws?batch_ms=5",
];

/// What a client says first, so that what follows gets further.
const OPENINGS: [&str; 4] = [
    "",
    "40{\"user_id\":\"u\",\"organization_id\":\"o\"}",
    "40/org/o/dept/d,{\"user_id\":\"u\",\"organization_id\":\"o\"}",
    "40",
];

const TEXT: &str = "Content-Type: text/plain\r\n";

/// Ends a message within an input.
const END: u8 = 0;

thread_local! {
    static INPUTS: Cell<u32> = const { Cell::new(0) };
}

fuzz_target!(|input: &[u8]| {
    let [choice, options, rest @ ..] = input else { return };
    match choice % 16 {
        door @ 0..=8 => websocket(UPGRADES[usize::from(door)], *options, rest),
        9 | 10 => polling("4", *options, rest),
        11 | 12 => polling("3", *options, rest),
        13 => {
            let mut stream = SERVER.connect();
            send(&mut stream, rest);
            end(stream);
        }
        14 => {
            let line = format!("GET /ws/?{} HTTP/1.1\r\nHost: localhost:{}\r\n", query(rest), SERVER.address.port());
            let mut stream = SERVER.connect();
            send(&mut stream, format!("{line}Connection: close\r\n\r\n").as_bytes());
            end(stream);
        }
        _ => {
            // What comes in one piece with the handshake.
            let mut stream = SERVER.connect();
            let path = UPGRADES[usize::from(*options) % UPGRADES.len()];
            send(&mut stream, &[handshake(path).as_bytes(), rest].concat());
            end(stream);
        }
    }
    SERVER.has_no_connections();
    let count = INPUTS.get() + 1;
    INPUTS.set(count);
    if count % 64 == 0 {
        SERVER.is_empty();
    }
});

/// Messages over a WebSocket, each a text, or bytes if it begins with 1, and a close.
fn websocket(path: &str, options: u8, rest: &[u8]) {
    let mut http = Http(SERVER.connect());
    http.0.write_all(handshake(path).as_bytes()).expect("room");
    let (status, _) = http.answer().expect("an answer");
    assert_eq!(status, 101, "{path}");
    let mut stream = http.0;
    let opening = OPENINGS[usize::from(options) % OPENINGS.len()];
    let mut bytes = Vec::new();
    if path.contains("EIO") && !opening.is_empty() {
        frame(&mut bytes, 1, opening.as_bytes());
    }
    for message in rest.split(|byte| *byte == END) {
        match message {
            [1, message @ ..] => frame(&mut bytes, 2, message),
            [2, message @ ..] => bytes.extend_from_slice(message),
            _ => frame(&mut bytes, 1, message),
        }
    }
    frame(&mut bytes, 8, &[]);
    send(&mut stream, &bytes);
    end(stream);
}

/// Bodies of polling, each posted by itself, between polls, and a close.
fn polling(version: &str, options: u8, rest: &[u8]) {
    let path = format!("/ws/?EIO={version}&transport=polling");
    let mut http = Http(SERVER.connect());
    let (status, open) = http.call("GET", &path, "", b"").expect("an answer");
    assert_eq!(status, 200);
    let open = String::from_utf8(open).expect("text");
    let sid = open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a session");
    let path = format!("{path}&sid={sid}");
    let opening = OPENINGS[usize::from(options) % OPENINGS.len()];
    let kind = if options & 0x80 == 0 { "text/plain" } else { "application/octet-stream" };
    let headers = format!("Content-Type: {kind}\r\n");
    if version == "4" && !opening.is_empty() {
        post(&mut http, &path, TEXT, opening.as_bytes());
    }
    for body in rest.split(|byte| *byte == 1).take(8) {
        post(&mut http, &path, &headers, body);
    }
    post(&mut http, &path, TEXT, if version == "4" { b"1" } else { b"1:1" });
}

fn post(http: &mut Http, path: &str, headers: &str, body: &[u8]) {
    let answer = http.call("POST", path, headers, body).or_else(|| {
        *http = Http(SERVER.connect());
        http.call("POST", path, headers, body)
    });
    let (status, text) = answer.expect("an answer");
    // The session may have ended before.
    assert!(matches!(status, 200 | 400 | 413), "{status} {}", String::from_utf8_lossy(&text));
}

fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        SERVER.address.port()
    )
}

fn query(bytes: &[u8]) -> String {
    let plain = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte).into() } else { format!("%{byte:02X}") };
    bytes.iter().map(plain).collect()
}

/// A frame with a mask of zeros.
fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Sends it; a server that has had enough need not take all of it.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).ok();
}

/// Says no more, and waits until the server has hung up.
fn end(stream: TcpStream) {
    stream.shutdown(Shutdown::Write).ok();
    drain(stream);
}
