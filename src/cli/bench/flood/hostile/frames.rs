//! Frames that no honest client sends.

use std::{io::Write as _, rc::Rc};

use flate2::{Compression, write::DeflateEncoder};

use super::{attacker::Attacker, polls::Session, tally::End, wire::Wire};
use crate::cli::bench::{
    frame::{self, Opcode},
    websocket,
};

const MIB: usize = 1024 * 1024;
/// Acts that pass between two messages that are truly large: they cost the attacker as much as the server.
const REST: u32 = 5;
/// Attachments that are announced, and the bytes of each that comes.
const ATTACHMENTS: usize = 1_000;
const ATTACHMENT: usize = 64 * 1024;

/// Says that much will come, or sends more than is taken.
pub(super) async fn oversized(attacker: &Attacker) -> Result<(), End> {
    match attacker.turn() % 3 {
        0 => announced(attacker).await,
        1 => whole(attacker).await,
        _ => posted(attacker).await,
    }
}

/// Announces a frame of 16 MiB.
async fn announced(attacker: &Attacker) -> Result<(), End> {
    let mut wire = Wire::open(attacker).await?;
    wire.engine().await?;
    attacker.act();
    let mut head = vec![0x81, 0x80 | 127];
    head.extend_from_slice(&(16 * MIB as u64).to_be_bytes());
    head.extend_from_slice(&[0; 1024]);
    wire.send(&head).await?;
    wire.listen_on().await
}

/// Sends events of more than 1 MiB.
async fn whole(attacker: &Attacker) -> Result<(), End> {
    let mut wire = Wire::open(attacker).await?;
    wire.enter_as_member().await?;
    loop {
        attacker.act();
        wire.say(&format!("421[\"large\",\"{}\"]", "x".repeat(MIB + MIB / 8))).await?;
        wire.listen(attacker.scene.pace * REST).await?;
    }
}

/// Announces a body of 16 MiB on polling.
async fn posted(attacker: &Attacker) -> Result<(), End> {
    let session = Session::enter(attacker).await?;
    let mut wire = Wire::open(attacker).await?;
    attacker.act();
    let head = session.request("POST", "").replace("\r\n\r\n", &format!("\r\nContent-Length: {}\r\n\r\n", 16 * MIB));
    wire.send(head.as_bytes()).await?;
    wire.send(&[b'x'; 1024]).await?;
    wire.listen_on().await
}

/// Sends a few KiB that inflate to 8 MiB, or to what just about passes.
pub(super) async fn bombs(attacker: &Attacker) -> Result<(), End> {
    let size = if attacker.turn().is_multiple_of(2) { 8 * MIB } else { MIB - 100 };
    let message = bomb(attacker, size)?;
    let mut wire = Wire::open(attacker).await?;
    wire.upgrade("/ws/?EIO=4&transport=websocket", websocket::OFFER).await?;
    wire.say(&format!("40{{\"token\":\"{}\"}}", attacker.token())).await?;
    wire.rest().await?;
    loop {
        attacker.act();
        wire.send(&message).await?;
        wire.rest().await?;
    }
}

/// A frame of that kind, which all attackers share.
fn bomb(attacker: &Attacker, size: usize) -> Result<Rc<[u8]>, End> {
    let mut bombs = attacker.scene.bombs.borrow_mut();
    if let Some(bomb) = bombs.get(&size) {
        return Ok(bomb.clone());
    }
    let bomb: Rc<[u8]> = deflated(size)?.into();
    bombs.insert(size, bomb.clone());
    Ok(bomb)
}

/// A frame with an event that has so many bytes, deflated.
fn deflated(size: usize) -> Result<Vec<u8>, End> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(b"42[\"x\",\"")?;
    let zeros = [b'0'; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let piece = left.min(zeros.len());
        encoder.write_all(&zeros[..piece])?;
        left -= piece;
    }
    encoder.write_all(b"\"]")?;
    let mut frame = Vec::new();
    frame::write(&mut frame, Opcode::Text, &encoder.finish()?);
    frame[0] |= 0x40;
    Ok(frame)
}

/// Breaks one rule after another.
pub(super) async fn invalid(attacker: &Attacker) -> Result<(), End> {
    /// Frames of RFC 6455, and packets of Engine.IO and Socket.IO: each against its rules.
    const BROKEN: [&[u8]; 12] = [
        b"\x81\x02hi",                       // not masked
        b"\xf1\x80\0\0\0\0",                 // reserved bits
        b"\x83\x80\0\0\0\0",                 // an unknown opcode
        b"\x80\x80\0\0\0\0",                 // a continuation of nothing
        b"\x09\x80\0\0\0\0",                 // a ping in pieces
        b"\x89\xfe\0\x80\0\0\0\0",           // a ping that is too long
        b"\x81\x84\0\0\0\0\xc3\x28\xa0\xa1", // no UTF-8
        b"\x88\x82\0\0\0\0\0\x01",           // a close code that there is not
        b"\x81\x84\0\0\0\0abcd",             // no packet of Engine.IO
        b"\x81\x84\0\0\0\x0049zz",           // no packet of Socket.IO
        b"\x81\x87\0\0\0\x0042[\"x\",[",     // no JSON
        b"\x81\x84\0\0\0\x005-[]",           // attachments without a number
    ];
    let mut wire = Wire::open(attacker).await?;
    wire.enter_as_member().await?;
    loop {
        let act = attacker.act() as usize + attacker.turn();
        wire.send(BROKEN[act % BROKEN.len()]).await?;
        wire.rest().await?;
    }
}

/// Announces attachments, of which some come and never all.
pub(super) async fn placeholders(attacker: &Attacker) -> Result<(), End> {
    let announced = [5, ATTACHMENTS, u32::MAX as usize][attacker.turn() % 3];
    let named = (0..announced.min(ATTACHMENTS)).map(|number| format!("{{\"_placeholder\":true,\"num\":{number}}}"));
    let header = format!("45{announced}-[\"x\",{}]", named.collect::<Vec<_>>().join(","));
    let mut attachment = Vec::new();
    frame::write(&mut attachment, Opcode::Binary, &[0; ATTACHMENT]);
    let mut wire = Wire::open(attacker).await?;
    wire.enter_as_member().await?;
    wire.say(&header).await?;
    for _ in 1..announced {
        attacker.act();
        wire.send(&attachment).await?;
        wire.rest().await?;
    }
    wire.listen_on().await
}
