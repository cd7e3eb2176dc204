//! Floods of CONNECTs.

use super::{attacker::Attacker, tally::End, wire::Wire};
use crate::cli::bench::{
    flood::setup::HOSTILE,
    frame::{self, Opcode},
};

/// CONNECTs of one act.
const ROW: usize = 25;

/// Enters namespaces that nobody has heard of: foreign ones, and new ones of its own organization, which it leaves.
pub(super) async fn namespaces(attacker: &Attacker) -> Result<(), End> {
    let mut wire = Wire::open(attacker).await?;
    wire.enter_as_member().await?;
    let token = attacker.token();
    loop {
        attacker.act();
        let (mut row, name) = (Vec::new(), attacker.fresh());
        for index in 0..ROW {
            let own = format!("/org/{HOSTILE}/dept/{name}-{index}");
            let mut said = |message: &str| frame::write(&mut row, Opcode::Text, message.as_bytes());
            if index % 2 == 0 {
                said(&format!("40/org/{name}-{index},{{\"token\":\"{token}\"}}"));
            } else {
                said(&format!("40{own},{{\"token\":\"{token}\"}}"));
                said(&format!("41{own},"));
            }
        }
        wire.send(&row).await?;
        wire.rest().await?;
    }
}

/// Enters the main namespace, where it is already.
pub(super) async fn again(attacker: &Attacker) -> Result<(), End> {
    let mut wire = Wire::open(attacker).await?;
    wire.enter_as_member().await?;
    let connect = format!("40{{\"token\":\"{}\"}}", attacker.token());
    let mut row = Vec::new();
    for _ in 0..ROW {
        frame::write(&mut row, Opcode::Text, connect.as_bytes());
    }
    loop {
        attacker.act();
        wire.send(&row).await?;
        wire.rest().await?;
    }
}
