//! Connections that go some of the way and stay there.

use super::{attacker::Attacker, tally::End, wire::Wire};
use crate::cli::bench::client::poll_request;

/// Opens one session on polling after another, over one connection.
pub(super) async fn polling(attacker: &Attacker) -> Result<(), End> {
    let mut connection = attacker.connect_http().await?;
    let handshake = poll_request(&attacker.scene.target, "GET", "", "");
    loop {
        attacker.act();
        attacker.ask(&mut connection, &handshake).await?;
        attacker.pause().await;
    }
}

/// Opens a WebSocket and says nothing.
pub(super) async fn websocket(attacker: &Attacker) -> Result<(), End> {
    let mut wire = Wire::open(attacker).await?;
    attacker.act();
    wire.engine().await?;
    wire.listen_on().await
}

/// Enters a namespace, or a plain door, and does not say who it is.
pub(super) async fn silent(attacker: &Attacker) -> Result<(), End> {
    let mut wire = Wire::open(attacker).await?;
    attacker.act();
    if attacker.number.is_multiple_of(2) {
        wire.enter("{}").await?;
    } else {
        wire.upgrade(&attacker.plain_path(), "").await?;
    }
    wire.listen_on().await
}
