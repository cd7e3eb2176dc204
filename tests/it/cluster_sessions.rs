//! Sessions of a cluster: a client goes on where it was, on whichever node it comes back.

use serde_json::{Value, json};
use tiercast::config::Config;

use crate::kit::{
    Call, Client, ConnectOptions, Event, Forms, RedisOptions, RedisServer, Refused, TestServer, Transport, eventually,
    nodes, nodes_with,
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
                    client.wire.close();
                } else {
                    client.wire.crash();
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

#[tokio::test]
async fn a_claim_whose_answer_got_lost_costs_no_session() {
    for comes_to in [1, 2] {
        let redis = RedisServer::start();
        let mut nodes = nodes(&redis, 3).await;
        let (client, kept) = reader(&redis, &nodes[0], ConnectOptions::named()).await;
        nodes[0].kill();
        drop(client);
        let [key]: [String; 1] = redis.run::<Vec<String>>("keys *:session:*").try_into().expect("one session");
        let other = nodes[1].agent("org-1").await;
        eventually("both are there", async || records(&redis).len() == 2).await;
        let keys = redis.run::<Vec<String>>("keys *:session:*").into_iter().find(|other| *other != key);
        let claimer: String = redis.run(&format!("hget {} owner", keys.expect("the other's")));
        // Redis has done what the node asked for, and the node has not heard of it.
        redis.run::<()>(&format!("hset {key} owner {claimer} state live"));
        publish(&nodes[1], 2).await;
        let (mut client, is_recovered) = back(&nodes[comes_to], ConnectOptions::named(), &kept).await;
        assert!(is_recovered, "at node {comes_to}");
        assert_eq!(numbers(&nodes[comes_to], &mut client).await, [2]);
        other.disconnect().await;
    }
}

#[tokio::test]
async fn a_claim_that_was_not_answered_in_time_costs_no_session() {
    let redis = RedisServer::start();
    let [first, second, third] = nodes(&redis, 3).await.try_into().ok().expect("three nodes");
    let (client, kept) = reader(&redis, &first, ConnectOptions::named()).await;
    let [key]: [String; 1] = redis.run::<Vec<String>>("keys *:session:*").try_into().expect("one session");
    let claims = || redis.run::<Option<u64>>(&format!("hget {key} claims"));
    client.wire.crash();
    recorded(&redis, "gone", |_| true).await;
    let (client, is_recovered) = back(&second, ConnectOptions::named(), &kept).await;
    assert!(is_recovered && claims() == Some(1));
    client.wire.crash();
    recorded(&redis, "gone", |_| true).await;
    redis.pause();
    // Redis is going to do what it was asked for, when nobody waits for it any more.
    let tried = third.try_connect(ConnectOptions::named().auth(kept.auth())).await;
    assert!(tried.is_err(), "nobody can say whose it is");
    redis.resume();
    eventually("it is claimed", async || claims() == Some(2)).await;
    has_redis(&third).await;
    let (client, is_recovered) = back(&third, ConnectOptions::named(), &kept).await;
    assert!(is_recovered);
    client.disconnect().await;
}

#[tokio::test]
async fn a_full_redis_gives_sessions_away_all_the_same() {
    let redis = RedisServer::start();
    let [mut first, second] = nodes(&redis, 2).await.try_into().ok().expect("two nodes");
    let (client, kept) = reader(&redis, &first, ConnectOptions::named()).await;
    publish(&second, 2).await;
    first.kill();
    drop(client);
    redis.run::<()>("config set maxmemory 1");
    let (mut client, is_recovered) = back(&second, ConnectOptions::named(), &kept).await;
    assert!(is_recovered);
    assert_eq!(client.next_named("kpi:update").await.data()["n"], 2);
    redis.run::<()>("config set maxmemory 0");
    client.disconnect().await;
}

#[tokio::test]
async fn of_two_nodes_that_open_a_session_at_once_one_has_it() {
    for fate in [Fate::Unaware, Fate::Killed, Fate::Noticed] {
        let redis = RedisServer::start();
        let [mut first, second, third] = nodes(&redis, 3).await.try_into().ok().expect("three nodes");
        let (client, kept) = reader(&redis, &first, ConnectOptions::named()).await;
        let mut old = Some(client);
        match fate {
            Fate::Killed => first.kill(),
            Fate::Noticed => {
                old.take().expect("a client").wire.crash();
                recorded(&redis, "gone", |_| true).await;
            }
            _ => {}
        }
        let (one, other) =
            tokio::join!(back(&second, ConnectOptions::named(), &kept), back(&third, ConnectOptions::named(), &kept));
        assert!(!(one.1 && other.1), "{fate:?}: it was opened twice");
        assert!(one.1 || other.1, "{fate:?}: nobody has it");
        drop(old);
        one.0.disconnect().await;
        other.0.disconnect().await;
    }
}

#[tokio::test]
async fn what_a_session_becomes_is_known_everywhere() {
    let redis = RedisServer::start();
    let [mut first, second] = nodes(&redis, 2).await.try_into().ok().expect("two nodes");
    let mut client =
        first.connect_with(ConnectOptions::named()).await.authenticate("org-1").await.without_implicit().await;
    client.subscribe(json!({ "channels": ["kpi"], "queue_name": "q", "batch_ms": 20 })).await;
    let left = client.subscribe(json!({ "channels": ["backlog"] })).await;
    client.emit("presence", json!({ "status": "busy" })).await;
    client.emit("unsubscribe", json!({ "subscription_id": left["subscription_id"] })).await;
    recorded(&redis, "live", |record| {
        let list = record["interest"]["subscriptions"].as_array().expect("a list");
        list.len() == 1
            && list[0]["channels"] == json!(["kpi"])
            && list[0]["scope"]["queue_name"] == "q"
            && record["interest"]["batch_ms"] == 20
    })
    .await;
    let kept = Kept::of(&client, None);
    first.kill();
    let (client, is_recovered) = back(&second, ConnectOptions::named(), &kept).await;
    assert!(is_recovered);
    let listing = second.get(&format!("/connections/{}", kept.socket_id)).await.1;
    assert_eq!(listing["connection"]["subscriptions"], json!(["kpi:org:org-1:queue:q"]), "{listing}");
    client.disconnect().await;
}

#[tokio::test]
async fn what_overtook_on_a_node_that_was_killed_is_not_recovered() {
    for is_killed in [false, true] {
        let redis = RedisServer::start();
        let nodes = nodes_with(&redis, 2, |_, config: &mut Config| config.outbox.soft_limit_bytes = 128 * 1_024).await;
        let [mut first, second] = nodes.try_into().ok().expect("two nodes");
        let options =
            || ConnectOptions { forms: Some(Forms::Named), receive_buffer: Some(4_096), ..ConnectOptions::default() };
        let mut client = first.connect_with(options()).await.authenticate("org-1").await;
        client.wire.hold().await;
        let event = |event: &str, n: u64, priority: &str, pad: usize| {
            json!({ "event": event, "data": { "n": n, "pad": "x".repeat(pad) }, "priority": priority,
                "target": { "organization_id": "org-1" } })
        };
        // What the kernel does not take waits, and the urgent one goes first.
        for n in 1..=60 {
            assert_eq!(first.publish("/broadcast", event("backlog:snapshot", n, "medium", 200_000)).await.0, 200);
        }
        assert_eq!(first.publish("/broadcast", event("alert:triggered", 61, "urgent", 0)).await.0, 200);
        client.wire.read(usize::MAX);
        let alert = client.next_named("alert:triggered").await;
        recorded(&redis, "overtaking", |_| true).await;
        let kept = Kept::of(&client, Some(&alert));
        if is_killed {
            first.kill();
        }
        let (again, is_recovered) = back(&second, options(), &kept).await;
        assert_eq!(is_recovered, !is_killed, "only its node knows what was read");
        drop(client);
        again.disconnect().await;
    }
}

#[tokio::test]
async fn without_redis_a_node_recovers_its_own_sessions_and_no_others() {
    let mut redis = RedisServer::start();
    let [first, second] = nodes(&redis, 2).await.try_into().ok().expect("two nodes");
    let (client, kept) = reader(&redis, &first, ConnectOptions::named()).await;
    let (other, others) = reader_beside(&second).await;
    redis.stop();
    client.wire.crash();
    first.count("the connection is gone", |census| census.sockets == 0).await;
    let (client, is_recovered) = back(&first, ConnectOptions::named(), &kept).await;
    assert!(is_recovered, "its own");
    other.wire.crash();
    second.count("the connection is gone", |census| census.sockets == 0).await;
    // Nobody here can tell whether it is lost, so its client is to come again, here or elsewhere.
    for transport in [Transport::WebSocket, Transport::Polling] {
        let refused = first.try_connect(ConnectOptions::named().transport(transport).auth(others.auth())).await;
        // A stock client comes back from that, and not from a CONNECT_ERROR.
        assert!(!matches!(refused, Ok(_) | Err(Refused::Connect(_))), "{transport:?}: {:?}", refused.err());
    }
    // What could not be written is written now.
    redis.start_again();
    eventually("the other's record is there", async || {
        records(&redis).iter().any(|(state, record)| state == "gone" && record["id"] == others.socket_id)
    })
    .await;
    has_redis(&first).await;
    let (again, is_recovered) = back(&first, ConnectOptions::named(), &others).await;
    assert!(is_recovered, "the other's");
    again.disconnect().await;
    eventually("the record is there", async || {
        records(&redis).iter().any(|(state, record)| state == "live" && record["id"] == kept.socket_id)
    })
    .await;
    client.disconnect().await;
}

/// Waits until a node has noticed that Redis is there.
async fn has_redis(node: &TestServer) {
    let ready = async || Call::get(&node.url("/readyz")).send().await.expect("an answer").status == 200;
    eventually("Redis is there", ready).await;
}

/// An agent who has read nothing.
async fn reader_beside(node: &TestServer) -> (Client, Kept) {
    let client = node.connect_with(ConnectOptions::named()).await.authenticate("org-1").await;
    let kept = Kept::of(&client, None);
    (client, kept)
}

#[tokio::test]
async fn a_record_lives_as_long_as_its_session() {
    let redis = RedisServer::start();
    let [node] = nodes_with(&redis, 1, |_, config| config.recovery.max_disconnection_ms = 1_000)
        .await
        .try_into()
        .ok()
        .expect("a node");
    let (client, _) = reader(&redis, &node, ConnectOptions::named()).await;
    let left = || redis.run::<i64>(&format!("pttl {}", redis.run::<Vec<String>>("keys *:session:*")[0]));
    let mut before = left();
    for _ in 0..2 {
        eventually("it is renewed", async || left() > std::mem::replace(&mut before, left())).await;
    }
    client.disconnect().await;
}

#[tokio::test]
async fn a_node_that_has_lost_a_session_ends_it() {
    let redis = RedisServer::start();
    let [node] = nodes(&redis, 1).await.try_into().ok().expect("a node");
    let (mut client, kept) = reader(&redis, &node, ConnectOptions::named()).await;
    let key = redis.run::<Vec<String>>("keys *:session:*").remove(0);
    redis.run::<()>(&format!("hset {key} owner another"));
    client.send("subscribe", json!({ "channels": ["backlog"] }));
    assert!(client.closed().await.terminal, "its client is elsewhere");
    assert_eq!(redis.run::<String>(&format!("hget {key} owner")), "another");
    drop(client);
    // The other node does not answer, since there is none.
    let (client, is_recovered) = back(&node, ConnectOptions::named(), &kept).await;
    assert!(is_recovered);
    client.disconnect().await;
}

#[tokio::test]
async fn after_an_older_copy_of_redis_clients_stay_and_recover_in_the_new_life() {
    let mut redis = RedisServer::with(RedisOptions::durable());
    let quiet = |_: usize, config: &mut Config| (config.log.shards, config.presence.enabled) = (1, false);
    let [mut first, second] = nodes_with(&redis, 2, quiet).await.try_into().ok().expect("two nodes");
    let (mut stays, _) = reader(&redis, &first, ConnectOptions::named()).await;
    let backup = redis.back_up();
    stays.subscribe(json!({ "channels": ["backlog"] })).await;
    let mut gone = second.agent("org-1").await;
    publish(&second, 2).await;
    let last = gone.next_named("kpi:update").await;
    let kept = Kept::of(&gone, Some(&last));
    assert_eq!(numbers(&first, &mut stays).await, [2]);
    gone.wire.crash();
    second.count("the connection is gone", |census| census.sockets == 0).await;
    let mut lives = vec![redis.run::<String>("get {tiercast:0}:life")];
    // The second time it does not know the life that was begun after the first.
    for _ in 0..2 {
        redis.restart_from(&backup);
        // Nobody publishes anything, not even who is there.
        let life = || redis.run::<String>("get {tiercast:0}:life");
        eventually("another life begins", async || !lives.contains(&life())).await;
        lives.push(life());
    }
    eventually("its nodes have noticed", async || {
        let ready = Call::get(&second.url("/readyz")).send().await;
        ready.expect("an answer").status == 200
    })
    .await;
    let (gone, is_recovered) = back(&second, ConnectOptions::named(), &kept).await;
    assert!(!is_recovered, "what it has read is lost");
    publish(&second, 3).await;
    let read = stays.next_named("kpi:update").await;
    assert_eq!(read.data()["n"], 3, "it is told what is new, and nothing again");
    let kept = Kept::of(&stays, Some(&read));
    eventually("its record is as it was before", async || {
        let subscribed = |record: &Value| record["interest"]["subscriptions"].as_array().map(Vec::len);
        records(&redis).iter().any(|(_, record)| record["id"] == kept.socket_id && subscribed(record) == Some(2))
    })
    .await;
    let later = |node: usize, config: &mut Config| {
        quiet(node, config);
        config.cluster.node_id = "later".into();
    };
    let later = nodes_with(&redis, 1, later).await.pop().expect("a node");
    first.kill();
    publish(&second, 4).await;
    let (mut client, is_recovered) = back(&later, ConnectOptions::named(), &kept).await;
    assert!(is_recovered, "by a node that knows the new life only");
    assert_eq!(numbers(&later, &mut client).await, [4]);
    for client in [client, gone] {
        client.disconnect().await;
    }
    drop(stays);
}
