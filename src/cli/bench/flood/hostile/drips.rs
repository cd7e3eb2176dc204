//! Requests that never end, a byte for each act.

use super::{attacker::Attacker, polls::Session, tally::End, wire::Wire};
use crate::cli::bench::websocket;

/// Bytes that a body is said to have.
const LENGTH: usize = 500_000;

/// Sends the head of a handshake.
pub(super) async fn head(attacker: &Attacker) -> Result<(), End> {
    let authority = &attacker.scene.target.authority;
    let head = format!("GET /ws/?EIO=4&transport=polling HTTP/1.1\r\nHost: {authority}\r\nX-Drip: ");
    drip(Wire::open(attacker).await?, attacker, &head).await
}

/// Sends packets on polling, as somebody who has come in.
pub(super) async fn poll_body(attacker: &Attacker) -> Result<(), End> {
    let session = Session::enter(attacker).await?;
    let head = session.request("POST", "");
    let head = head.replace("\r\n\r\n", &format!("\r\nContent-Length: {LENGTH}\r\n\r\n"));
    drip(Wire::open(attacker).await?, attacker, &head).await
}

/// Publishes with a key that is none.
pub(super) async fn api_body(attacker: &Attacker) -> Result<(), End> {
    let authority = &attacker.scene.target.authority;
    let head = format!(
        "POST /api/ws/broadcast HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n\
         Authorization: Bearer tc_none\r\nContent-Length: {LENGTH}\r\n\r\n"
    );
    drip(Wire::open(attacker).await?, attacker, &head).await
}

/// Asks to come in by a plain door.
pub(super) async fn upgrade(attacker: &Attacker) -> Result<(), End> {
    let request = websocket::request(&attacker.plain_path(), &attacker.scene.target.authority, "X-Drip: ");
    drip(Wire::open(attacker).await?, attacker, request.trim_end()).await
}

async fn drip(mut wire: Wire<'_>, attacker: &Attacker, head: &str) -> Result<(), End> {
    wire.send(head.as_bytes()).await?;
    loop {
        attacker.act();
        wire.send(b"a").await?;
        wire.rest().await?;
    }
}
