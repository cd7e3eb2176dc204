//! Those who have nothing that lets them in, and come again and again.

use super::{attacker::Attacker, tally::End, wire::Wire};
use crate::cli::bench::frame::{self, Opcode};

/// Connections of one act.
const VISITS: usize = 3;
/// Tokens of one act.
const TOKENS: usize = 5;
/// Longest token that is tried, and a body that comes with a wrong key.
const LARGE: usize = 16 * 1024;

/// Comes in and goes.
pub(super) async fn churn(attacker: &Attacker) -> Result<(), End> {
    attacker.act();
    for _ in 0..VISITS {
        Wire::open(attacker).await?.enter("{}").await?;
    }
    Ok(())
}

/// Tries tokens: forged, not signed, too long, and none at all.
pub(super) async fn tokens(attacker: &Attacker) -> Result<(), End> {
    /// `{"alg":"none"}` and `{"sub":"admin","organization_id":"org_honest","exp":9999999999}`.
    const UNSIGNED: &str =
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsIm9yZ2FuaXphdGlvbl9pZCI6Im9yZ19ob25lc3QiLCJleHAiOjk5OTk5OTk5OTl9.";
    let forged = attacker.token().rsplit_once('.').map_or_else(String::new, |(signed, _)| format!("{signed}.AAAA"));
    let long = "x".repeat(LARGE);
    let tried = [&forged, UNSIGNED, "garbage", &long, &attacker.token()[1..]];
    let mut wire = Wire::open(attacker).await?;
    wire.enter("{}").await?;
    loop {
        let act = attacker.act() as usize;
        let mut row = Vec::new();
        for index in 0..TOKENS {
            let token = tried[(act + index) % tried.len()];
            let message = format!("42{index}[\"authenticate\",{{\"token\":\"{token}\"}}]");
            frame::write(&mut row, Opcode::Text, message.as_bytes());
        }
        wire.send(&row).await?;
        wire.rest().await?;
    }
}

/// Tries keys of the HTTP API, with and without something to publish.
pub(super) async fn keys(attacker: &Attacker) -> Result<(), End> {
    let authority = &attacker.scene.target.authority;
    let mut connection = attacker.connect_http().await?;
    loop {
        let key = format!("tc_{}", attacker.fresh());
        let body = format!("{{\"event\":\"kpi:update\",\"data\":\"{}\"}}", "x".repeat(LARGE));
        let read = format!("GET /api/ws/stats HTTP/1.1\r\nHost: {authority}\r\nX-API-Key: {key}\r\n\r\n");
        let publish = format!(
            "POST /api/ws/broadcast HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        attacker.act();
        attacker.ask(&mut connection, read.as_bytes()).await?;
        attacker.ask(&mut connection, publish.as_bytes()).await?;
        attacker.pause().await;
    }
}
