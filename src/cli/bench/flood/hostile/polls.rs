//! Sessions on polling that poll as no client does.

use super::{attacker::Attacker, tally::End, wire::Wire};
use crate::cli::bench::{
    client::{poll_request, sid},
    http::Connection,
};

/// What a poller that reads nothing takes before its system says no.
const RECEIVE_BUFFER: u32 = 4_096;
/// Polls of one session at once.
const AT_ONCE: usize = 3;

/// A session on polling, with the connection that it was opened by.
pub(super) struct Session<'a> {
    attacker: &'a Attacker,
    sid: String,
    _connection: Connection,
}

impl<'a> Session<'a> {
    /// Opens one, and enters the main namespace.
    pub(super) async fn enter(attacker: &'a Attacker) -> Result<Self, End> {
        let target = &attacker.scene.target;
        let mut connection = attacker.connect_http().await?;
        let opened = attacker.ask(&mut connection, &poll_request(target, "GET", "", "")).await?;
        let sid = sid(&opened).map_err(|_| End::Refused)?;
        let connect = format!("40{{\"token\":\"{}\"}}", attacker.token());
        let answer = attacker.ask(&mut connection, &poll_request(target, "POST", &sid, &connect)).await?;
        if answer.status != 200 {
            return Err(End::Refused);
        }
        Ok(Self { attacker, sid, _connection: connection })
    }

    /// A request of this session.
    pub(super) fn request(&self, method: &str, body: &str) -> String {
        String::from_utf8_lossy(&poll_request(&self.attacker.scene.target, method, &self.sid, body)).into_owned()
    }
}

/// Polls without reading what comes.
pub(super) async fn unread(attacker: &Attacker) -> Result<(), End> {
    let session = Session::enter(attacker).await?;
    let stream = attacker.connect_with(|socket| socket.set_recv_buffer_size(RECEIVE_BUFFER)).await?;
    let mut wire = Wire::over(attacker, stream);
    let poll = session.request("GET", "");
    loop {
        attacker.act();
        wire.send(poll.as_bytes()).await?;
        attacker.pause().await;
    }
}

/// Polls on several connections at once.
pub(super) async fn many(attacker: &Attacker) -> Result<(), End> {
    let session = Session::enter(attacker).await?;
    let poll = session.request("GET", "");
    let mut wires = Vec::with_capacity(AT_ONCE);
    for _ in 0..AT_ONCE {
        attacker.act();
        let mut wire = Wire::open(attacker).await?;
        wire.send(poll.as_bytes()).await?;
        // A refusal of one poll is not the end of the others.
        if let Err(End::Cut(how)) = wire.rest().await {
            attacker.refuse(&how);
        }
        wires.push(wire);
    }
    Ok(())
}
