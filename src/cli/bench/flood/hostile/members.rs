//! What a user with a token does to annoy others: one of another organization than that of the honest clients.

use super::{attacker::Attacker, tally::End, wire::Wire};
use crate::cli::bench::frame::{self, Opcode};

/// Messages of one act.
const ROW: u64 = 25;
/// What a reader that reads nothing takes before its system says no.
const RECEIVE_BUFFER: u32 = 4_096;
/// Ids of acks that all recipients of an entry share begin here.
const SHARED_ACK_IDS: u64 = 1 << 40;

/// Subscribes and unsubscribes, at ever new scopes.
pub(super) async fn subscriptions(attacker: &Attacker) -> Result<(), End> {
    let mut wire = Wire::open(attacker).await?;
    wire.enter_as_member().await?;
    loop {
        let act = attacker.act();
        let message = |index: u64| match index % 5 {
            4 => "42[\"unsubscribe\",{}]".to_owned(),
            _ => format!(
                "42{index}[\"subscribe\",{{\"channels\":[\"kpi\",\"alerts\"],\"department_id\":\"d-{act}-{index}\"}}]"
            ),
        };
        wire.send(&row(message)).await?;
        wire.rest().await?;
    }
}

/// Acknowledges what nobody has sent.
pub(super) async fn acks(attacker: &Attacker) -> Result<(), End> {
    let mut wire = Wire::open(attacker).await?;
    wire.enter_as_member().await?;
    loop {
        let act = attacker.act();
        let message = |index: u64| match index % 3 {
            0 => format!("42[\"ack\",{{\"message_id\":\"msg_{act}_abcdefgh{index}\"}}]"),
            1 => format!("43{index}[]"),
            _ => format!("43{}[]", SHARED_ACK_IDS + act * ROW + index),
        };
        wire.send(&row(message)).await?;
        wire.rest().await?;
    }
}

/// Receives what its organization is sent, asks for answers, and reads nothing.
pub(super) async fn deaf(attacker: &Attacker) -> Result<(), End> {
    let stream = attacker.connect_with(|socket| socket.set_recv_buffer_size(RECEIVE_BUFFER)).await?;
    let mut wire = Wire::over(attacker, stream);
    wire.enter_as_member().await?;
    loop {
        attacker.act();
        wire.send(&row(|index| format!("42{index}[\"client:ping\",{{}}]"))).await?;
        attacker.pause().await;
    }
}

/// The messages of one act.
fn row(message: impl Fn(u64) -> String) -> Vec<u8> {
    let mut row = Vec::new();
    for index in 0..ROW {
        frame::write(&mut row, Opcode::Text, message(index).as_bytes());
    }
    row
}
