//! Long-polling: one task that posts, one that polls, and payloads of both versions of the protocol.

use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender},
    watch,
};

use super::{
    Endpoint,
    endpoint::Protocol,
    wire::{Incoming, Order},
};

/// What stands between two packets of one payload of version 4.
const SEPARATOR: char = '\x1e';

/// Whether the polling loop should go on.
#[derive(Clone, Copy, PartialEq)]
pub enum Stop {
    No,
    /// After the poll under way; its packets are kept.
    AfterThisPoll,
    /// At once; the server is left waiting.
    Now,
}

/// Sends what is ordered.
pub struct Poster {
    pub endpoint: Endpoint,
    pub sid: String,
    pub orders: UnboundedReceiver<Order>,
}

/// Fetches what waits.
pub struct Poller {
    pub endpoint: Endpoint,
    pub sid: String,
    pub inbox: UnboundedSender<Incoming>,
}

impl Poster {
    pub async fn run(mut self, stop: watch::Sender<Stop>) {
        let mut waiting = Vec::new();
        while *stop.borrow() != Stop::AfterThisPoll && self.orders.recv_many(&mut waiting, 64).await > 0 {
            let mut packets = Vec::new();
            let mut tell = Vec::new();
            for order in waiting.drain(..) {
                match order {
                    Order::Text(text) => packets.push(text),
                    Order::Binary(bytes) => packets.push(format!("b{}", base64(&bytes))),
                    Order::Tell(sender) => tell.push(sender),
                    Order::Freeze => _ = stop.send_replace(Stop::Now),
                    Order::Pause => _ = stop.send_replace(Stop::AfterThisPoll),
                    Order::Close => packets.push("1".into()),
                    Order::Hold | Order::Read(_) => unreachable!("only a WebSocket is read message by message"),
                }
            }
            if !packets.is_empty() {
                let payload = payload(self.endpoint.protocol, &packets);
                let _ = self.endpoint.post(&self.sid, &payload).send().await;
            }
            tell.into_iter().for_each(|sender| _ = sender.send(()));
        }
    }
}

impl Poller {
    pub async fn run(self, mut stop: watch::Receiver<Stop>) {
        let protocol = self.endpoint.protocol;
        loop {
            let reply = tokio::select! {
                reply = self.endpoint.poll(Some(&self.sid)).send() => Some(reply),
                () = frozen(&mut stop) => None,
            };
            let Some(reply) = reply else { return std::future::pending().await };
            let Some(reply) = reply.filter(|reply| reply.status == 200) else {
                return drop(self.inbox.send(Incoming::Closed(None)));
            };
            for packet in packets(protocol, &reply.text) {
                match packet.as_bytes().first() {
                    Some(b'4') => drop(self.inbox.send(Incoming::Packet(packet[1..].to_owned()))),
                    // By the poller itself: the poster may have stopped for an upgrade.
                    Some(b'2') => {
                        let pong = payload(protocol, &[format!("3{}", &packet[1..])]);
                        drop(self.endpoint.post(&self.sid, &pong).send().await);
                    }
                    Some(b'1') => return drop(self.inbox.send(Incoming::Closed(None))),
                    _ => {}
                }
            }
            if *stop.borrow() == Stop::AfterThisPoll {
                return;
            }
        }
    }
}

async fn frozen(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop == Stop::Now).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One payload of these packets.
pub fn payload(protocol: Protocol, packets: &[String]) -> String {
    match protocol {
        // JavaScript counts in UTF-16.
        Protocol::V3 => {
            packets.iter().map(|packet| format!("{}:{packet}", packet.encode_utf16().count())).collect::<String>()
        }
        Protocol::V4 => packets.join(&SEPARATOR.to_string()),
    }
}

/// The packets of a payload.
pub fn packets(protocol: Protocol, payload: &str) -> Vec<String> {
    if protocol == Protocol::V4 {
        return payload.split(SEPARATOR).map(str::to_owned).collect();
    }
    let mut packets = Vec::new();
    let mut rest = payload;
    while let Some((length, packet)) = rest.split_once(':') {
        let units: Vec<u16> = packet.encode_utf16().take(length.parse().expect("a length")).collect();
        let packet = String::from_utf16(&units).expect("no character is cut");
        rest = &rest[length.len() + 1 + packet.len()..];
        packets.push(packet);
    }
    packets
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}
