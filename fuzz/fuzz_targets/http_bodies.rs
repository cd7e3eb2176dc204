//! The bodies, queries and headers of the HTTP API, sent to a whole server, where a client listens.

#![no_main]

mod server;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use server::{Http, SERVER};

const CALLS: [(&str, &str); 22] = [
    ("POST", "/api/ws/broadcast"),
    ("POST", "/api/ws/broadcast?explain=true"),
    ("POST", "/api/ws/broadcast?wait=ack"),
    ("POST", "/api/ws/broadcast/batch"),
    ("POST", "/api/ws/broadcast/kpi"),
    ("POST", "/api/ws/broadcast/alert"),
    ("POST", "/api/ws/workmatrix/users/7/activity"),
    ("POST", "/api/ws/workmatrix/users/7/status"),
    ("POST", "/broadcast/news?channel=issue:7"),
    ("POST", "/notify/client"),
    ("POST", "/issues/7/notify"),
    ("POST", "/alerts/7/notify"),
    ("POST", "/users/7/assignments"),
    ("POST", "/api/ws/gym/members"),
    ("POST", "/api/ws/gym/notifications"),
    ("POST", "/api/ws/apier/events"),
    ("POST", "/api/ws/apier/metrics"),
    // The rest of the path comes from the input.
    ("GET", "/api/ws/rooms/"),
    ("GET", "/api/ws/connections?"),
    ("GET", "/api/ws/presence?"),
    ("GET", "/api/ws/messages/"),
    ("POST", "/api/ws/broadcast?"),
];

/// What a call may be answered with; 500 is a fault.
const EXPECTED: [u16; 10] = [200, 304, 400, 403, 404, 405, 409, 413, 414, 415];

thread_local! {
    static CONNECTION: RefCell<Option<Http>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    let [choice, options, rest @ ..] = input else { return };
    let (method, path) = CALLS[usize::from(*choice) % CALLS.len()];
    let (path, body) = if path.ends_with(['/', '?']) {
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        // What cannot stand in the first line of a request would only test the parser of HTTP.
        let tail: String = rest[..end].iter().map(|byte| plain(*byte)).collect();
        (format!("{path}{tail}"), &rest[(end + 1).min(rest.len())..])
    } else {
        (path.to_owned(), rest)
    };
    let headers = match options % 4 {
        0 => "Content-Type: application/json\r\nIdempotency-Key: again\r\n",
        1 => "Content-Type: application/cloudevents+json; charset=utf-8\r\n",
        _ => "Content-Type: application/json\r\n",
    };
    CONNECTION.with_borrow_mut(|connection| {
        let mut http = connection.take().unwrap_or_else(|| Http(SERVER.connect()));
        let answer = http.call(method, &path, headers, body).or_else(|| {
            // An answer may have been the last of its connection.
            http = Http(SERVER.connect());
            http.call(method, &path, headers, body)
        });
        let (status, body) = answer.expect("an answer");
        assert!(EXPECTED.contains(&status), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        assert!(body.is_empty() || serde_json::from_slice::<Value>(&body).is_ok(), "{method} {path}");
        *connection = Some(http);
    });
});

fn plain(byte: u8) -> String {
    if byte.is_ascii_graphic() && byte != b'#' { char::from(byte).into() } else { format!("%{byte:02X}") }
}
