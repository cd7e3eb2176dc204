//! Sessions of a cluster: a client goes on where it was, on whichever node it comes back.

use serde_json::{Value, json};
use tiercast::config::Config;

use crate::kit::{
    Client, ConnectOptions, Event, Forms, RedisServer, TestServer, Transport, eventually, nodes, nodes_with,
};

const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Polling, Transport::Upgrade];

/// What becomes of the node that a client was on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It has noticed that the connection is gone.
    Noticed,
    /// It believes that the client is there.
    Unaware,
    /// It has stopped in good order.
    Stopped,
    /// It was killed.
    Killed,
}

/// What a client keeps of a session, as stock clients do.
#[derive(Debug, Clone)]
struct Kept {
    pid: String,
    offset: Option<String>,
    socket_id: String,
}

impl Kept {
    fn of(client: &Client, last: Option<&Event>) -> Self {
        let offset = |event: &Event| event.args.last().and_then(Value::as_str).expect("a position").to_owned();
        Self {
            pid: client.connected["pid"].as_str().expect("a session has a secret").to_owned(),
            offset: last.map(offset),
            socket_id: client.socket_id.clone(),
        }
    }

    fn auth(&self) -> Value {
        json!({ "pid": self.pid, "offset": self.offset })
    }
}

async fn publish(node: &TestServer, n: u64) {
    node.broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
}

async fn back(node: &TestServer, options: ConnectOptions, kept: &Kept) -> (Client, bool) {
    let mut client = node.connect_with(options.auth(kept.auth())).await;
    let connected = client.next_named("connected").await;
    client.organization = "org-1".into();
    (client, connected.payload()["recovered"] == true)
}

/// The numbers of the events that come until nothing more does.
async fn numbers(node: &TestServer, client: &mut Client) -> Vec<u64> {
    client.drain(node).await.iter().filter_map(|event| event.data()["n"].as_u64()).collect()
}

/// The records of sessions in Redis: state and JSON of each.
fn records(redis: &RedisServer) -> Vec<(String, Value)> {
    let keys: Vec<String> = redis.run("keys *:session:*");
    let fields =
        keys.iter().map(|key| redis.run::<(Option<String>, Option<String>)>(&format!("hmget {key} state record")));
    fields
        .filter_map(|(state, record)| Some((state?, serde_json::from_str(&record?).expect("a record is JSON"))))
        .collect()
}

/// Waits until there is one record, in this state, that fits.
async fn recorded(redis: &RedisServer, state: &str, fits: impl Fn(&Value) -> bool) {
    eventually(
        &format!("a record that is {state}"),
        async || matches!(&records(redis)[..], [(is, record)] if is == state && fits(record)),
    )
    .await;
}

/// An agent on a node who subscribes to one queue and has read the event 1, in Redis.
async fn reader(redis: &RedisServer, node: &TestServer, options: ConnectOptions) -> (Client, Kept) {
    let mut client = node.connect_with(options).await.authenticate("org-1").await;
    client.subscribe(json!({ "channels": ["kpi"], "filters": { "sources": [] } })).await;
    publish(node, 1).await;
    let last = client.drain(node).await.pop().expect("an event");
    recorded(redis, "live", |record| {
        record["interest"]["subscriptions"].as_array().is_some_and(|list| list.len() == 1)
    })
    .await;
    let kept = Kept::of(&client, Some(&last));
    (client, kept)
}

async fn recovers(fate: Fate) {
    for transport in TRANSPORTS {
        let redis = RedisServer::start();
        let [mut first, second] = nodes(&redis, 2).await.try_into().ok().expect("two nodes");
        let options = || ConnectOptions::named().transport(transport);
        let (client, kept) = reader(&redis, &first, options()).await;
        let mut old = Some(client);
        match fate {
            Fate::Noticed => {
                let client = old.take().expect("a client");
                if transport == Transport::Polling {
                    client.wire.close()
                } else {
                    client.wire.crash()
                }
                first.count("the connection is gone", |census| census.sockets == 0).await;
            }
            Fate::Unaware => {}
            Fate::Stopped => first.stop().await,
            Fate::Killed => first.kill(),
        }
        publish(&second, 2).await;
        let (mut client, is_recovered) = back(&second, options(), &kept).await;
        assert!(is_recovered, "{fate:?} {transport:?}");
        assert_eq!((&client.socket_id, client.connected["pid"].as_str()), (&kept.socket_id, Some(&*kept.pid)));
        publish(&second, 3).await;
        assert_eq!(numbers(&second, &mut client).await, [2, 3], "{fate:?} {transport:?}");
        let listing = second.get(&format!("/connections/{}", kept.socket_id)).await.1;
        assert_eq!(listing["connection"]["subscriptions"], json!(["kpi:org:org-1"]), "{listing}");
        if fate == Fate::Unaware {
            first.count("it has given the session up", |census| census.sockets == 0).await;
        }
        drop(old);
        client.disconnect().await;
        eventually("the session is over everywhere", async || records(&redis).is_empty()).await;
        // What is over is over.
        let (client, is_recovered) = back(&second, options(), &kept).await;
        assert!(!is_recovered);
        client.disconnect().await;
    }
}

#[tokio::test]
async fn a_client_whose_connection_broke_recovers_on_another_node() {
    recovers(Fate::Noticed).await;
}

#[tokio::test]
async fn a_client_recovers_on_another_node_while_its_own_believes_it_there() {
    recovers(Fate::Unaware).await;
}

#[tokio::test]
async fn a_client_of_a_node_that_stopped_recovers_on_another() {
    recovers(Fate::Stopped).await;
}

#[tokio::test]
async fn a_client_of_a_node_that_was_killed_recovers_on_another() {
    recovers(Fate::Killed).await;
}
