//! Publishers: each numbers what it publishes, and goes from node to node.

use std::{rc::Rc, time::Duration};

use anyhow::{Result, bail};
use serde_json::json;
use tokio::{sync::watch, time};

use super::{
    client::{World, department, organization, text_behind},
    history::{Event, Room},
};
use crate::cli::bench::{http::Connection, random::Random, target::Target};

/// What stands in front of the publisher and the number in a payload.
pub(super) const STAMP: &[u8] = b"\"chaos\":\"";
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// One publisher.
pub(super) struct Publisher {
    world: Rc<World>,
    rooms: Rc<Vec<Room>>,
    index: usize,
    random: Random,
    next: u64,
    connections: Vec<Option<Connection>>,
}

impl Publisher {
    /// A publisher to these rooms; its chances follow from the seed.
    pub(super) fn new(world: &Rc<World>, rooms: &Rc<Vec<Room>>, index: usize, seed: u64) -> Self {
        let random = Random::of_client((seed as usize).wrapping_mul(7_919).wrapping_add(index));
        let connections = world.doors.iter().map(|_| None).collect();
        Self { world: world.clone(), rooms: rooms.clone(), index, random, next: 0, connections }
    }

    /// Publishes so many events a second until it is told to stop.
    pub(super) async fn work(mut self, rate: f64, stop: watch::Receiver<bool>) {
        let mut turns = time::interval(Duration::from_secs_f64(1.0 / rate));
        turns.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        while !*stop.borrow() {
            turns.tick().await;
            let node = self.below(self.world.doors.len());
            let room = self.below(self.rooms.len());
            let room = self.rooms[room];
            // What became of it is in the record, and a node that is away is no surprise.
            let _ = self.one(node, room).await;
        }
    }

    /// Publishes one event through a node.
    ///
    /// # Errors
    /// If it was not answered with 200; nobody knows then whether it was published.
    pub(super) async fn one(&mut self, node: usize, room: Room) -> Result<()> {
        let event = Event { publisher: self.index, number: self.next };
        self.next += 1;
        let publication = self.world.record.published(event, room);
        let request = request(&self.world.doors[node], event, room);
        let kept = self.connections[node].take().filter(Connection::is_idle);
        let exchange = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(&self.world.doors[node]).await?,
            };
            let (response, _) = connection.exchange(&request).await?;
            Ok::<_, anyhow::Error>((connection, response))
        };
        let (connection, response) = time::timeout(ANSWER_TIMEOUT, exchange).await??;
        self.connections[node] = Some(connection);
        match text_behind(&response.body, b"\"position\":\"") {
            Some(position) if response.status == 200 => {
                self.world.record.acknowledged(publication, self.world.record.place(position)?);
                Ok(())
            }
            _ => bail!("publishing was answered {}", response.shown()),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random.unit() * bound as f64) as usize
    }
}

fn request(target: &Target, event: Event, room: Room) -> Vec<u8> {
    let mut place = json!({ "organization_id": organization(room.organization) });
    if let Some(number) = room.department {
        place["department_id"] = department(number).into();
    }
    let stamp = format!("{}.{}", event.publisher, event.number);
    let body = json!({ "event": "kpi:update", "data": { "chaos": stamp }, "target": place }).to_string();
    let (authority, length) = (&target.authority, body.len());
    format!(
        "POST /api/ws/broadcast HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into()
}
