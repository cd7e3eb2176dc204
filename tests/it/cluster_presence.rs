//! Presence over the nodes of a cluster: one user on all of them, announced once, whatever becomes of nodes and Redis.

use serde_json::{Value, json};
use tiercast::config::Config;

use crate::kit::{
    Client, ConnectOptions, Event, Proxy, RedisOptions, RedisServer, TestServer, eventually, nodes_with, on_redis,
};

const UPDATE: &str = "presence:update";

/// So many nodes on which who leaves is missed after so many milliseconds, and the way of each to Redis.
async fn start(redis: &RedisServer, count: usize, grace_ms: u64) -> (Vec<TestServer>, Vec<Proxy>) {
    let mut ways = Vec::new();
    for _ in 0..count {
        ways.push(Proxy::to(redis.address()).await);
    }
    let configure = |node: usize, config: &mut Config| {
        on_redis(config, &redis.url_at(ways[node].address), node);
        config.presence.grace_ms = grace_ms;
    };
    (nodes_with(redis, count, configure).await, ways)
}

async fn get(node: &TestServer, path: &str) -> Value {
    let (status, answer) = node.get(path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// The number of the node that leads, as the others know.
async fn leader(node: &TestServer) -> Option<usize> {
    let answer = get(node, "/nodes").await;
    answer["nodes"].as_array().expect("nodes").iter().position(|node| node["leader"] == true)
}

async fn user(node: &TestServer, name: &str) -> Client {
    node.connect_with(ConnectOptions::named()).await.authenticate_as(name, "org-1").await
}

async fn watcher(node: &TestServer) -> Client {
    node.subscriber("org-1", json!({ "channels": ["presence"] })).await
}

async fn set(client: &mut Client, status: &str) {
    assert_eq!(client.emit("presence", json!({ "status": status })).await, json!({ "success": true }));
}

fn is_of(event: &Event, user: &str) -> bool {
    event.name == UPDATE && event.payload()["user_id"] == user
}

/// Whether the next status of a user that one is told is this.
async fn is_told(watcher: &mut Client, user: &str, status: &str) -> bool {
    let packet = watcher.take(|packet| packet.event().is_some_and(|event| is_of(&event, user))).await;
    packet.event().expect("an event").payload()["status"] == status
}

/// The next status of a user that each is told, with what is told before of others passed over.
async fn each_hears(watchers: &mut [Client], user: &str, status: &str) {
    for (number, watcher) in watchers.iter_mut().enumerate() {
        let packet = watcher.take(|packet| packet.event().is_some_and(|event| is_of(&event, user))).await;
        assert_eq!(packet.event().expect("an event").payload()["status"], status, "{user}, by watcher {number}");
    }
}

/// A user comes and goes, of whom each is told, and of these nobody until then.
async fn nothing_of(but: &[&str], node: &TestServer, watchers: &mut [Client]) {
    let marker = user(node, "marker").await;
    each_hears_only_of_marker(but, "online", watchers).await;
    marker.disconnect().await;
    each_hears_only_of_marker(but, "offline", watchers).await;
}

async fn each_hears_only_of_marker(but: &[&str], status: &str, watchers: &mut [Client]) {
    for watcher in watchers {
        loop {
            let packet = watcher.take(|packet| packet.event().is_some_and(|event| event.name == UPDATE)).await;
            let event = packet.event().expect("an event");
            assert!(but.iter().all(|user| !is_of(&event, user)), "{}", event.payload());
            if is_of(&event, "marker") {
                assert_eq!(event.payload()["status"], status);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_user_of_two_nodes_is_announced_once_and_goes_with_the_last_socket() {
    let redis = RedisServer::start();
    let (nodes, _ways) = start(&redis, 3, 50).await;
    let mut watchers = vec![watcher(&nodes[0]).await, watcher(&nodes[1]).await, watcher(&nodes[2]).await];
    let one = user(&nodes[0], "ada").await;
    each_hears(&mut watchers, "ada", "online").await;
    let mut two = user(&nodes[1], "ada").await;
    nothing_of(&["ada"], &nodes[2], &mut watchers).await;
    set(&mut two, "busy").await;
    each_hears(&mut watchers, "ada", "busy").await;
    // Who begins to watch is told of all, wherever they are.
    let mut late = vec![watcher(&nodes[0]).await, watcher(&nodes[2]).await];
    each_hears(&mut late, "ada", "busy").await;
    one.disconnect().await;
    nothing_of(&["ada"], &nodes[2], &mut watchers).await;
    let listed = get(&nodes[2], "/presence?organization_id=org-1&user_id=ada").await;
    assert_eq!((&listed["users"][0]["status"], &listed["users"][0]["sockets"]), (&json!("busy"), &json!(1)));
    set(&mut two, "away").await;
    each_hears(&mut watchers, "ada", "away").await;
    two.disconnect().await;
    each_hears(&mut watchers, "ada", "offline").await;
    nothing_of(&["ada"], &nodes[0], &mut watchers).await;
    let listed = get(&nodes[0], "/presence?organization_id=org-1&include=offline").await;
    assert_eq!(listed["users"][0]["status"], "offline", "{listed}");
}

#[tokio::test]
async fn the_users_of_a_node_that_dies_go_unless_they_came_back() {
    let redis = RedisServer::start();
    let (nodes, ways) = start(&redis, 3, 400).await;
    let mut watchers = vec![watcher(&nodes[0]).await, watcher(&nodes[1]).await];
    let lost = [user(&nodes[2], "gone").await, user(&nodes[2], "back").await, user(&nodes[2], "both").await];
    let mut stays = vec![user(&nodes[1], "both").await];
    for name in ["gone", "back", "both"] {
        each_hears(&mut watchers, name, "online").await;
    }
    ways[2].cut();
    stays.push(user(&nodes[0], "back").await);
    each_hears(&mut watchers, "gone", "offline").await;
    nothing_of(&["gone", "back", "both"], &nodes[0], &mut watchers).await;
    // It was not dead after all.
    ways[2].mend();
    each_hears(&mut watchers, "gone", "online").await;
    nothing_of(&["gone", "back", "both"], &nodes[1], &mut watchers).await;
    drop(lost);
    each_hears(&mut watchers, "gone", "offline").await;
    drop(stays);
}

#[tokio::test]
async fn what_one_leader_has_noticed_the_next_announces_once() {
    let redis = RedisServer::start();
    let (nodes, ways) = start(&redis, 3, 600).await;
    eventually("one leads", async || leader(&nodes[0]).await.is_some()).await;
    let leads = leader(&nodes[0]).await.expect("a leader");
    let others: Vec<usize> = (0..3).filter(|node| *node != leads).collect();
    let mut watchers = vec![watcher(&nodes[others[0]]).await, watcher(&nodes[others[1]]).await];
    let mut of_leader = vec![watcher(&nodes[leads]).await];
    let ada = user(&nodes[others[0]], "ada").await;
    let mut bob = user(&nodes[others[1]], "bob").await;
    for name in ["ada", "bob"] {
        each_hears(&mut watchers, name, "online").await;
        each_hears(&mut of_leader, name, "online").await;
    }
    ada.disconnect().await;
    ways[leads].cut();
    set(&mut bob, "busy").await;
    each_hears(&mut watchers, "bob", "busy").await;
    each_hears(&mut watchers, "ada", "offline").await;
    nothing_of(&["ada", "bob"], &nodes[others[0]], &mut watchers).await;
    // What it has missed meanwhile comes by the log.
    ways[leads].mend();
    each_hears(&mut of_leader, "bob", "busy").await;
    each_hears(&mut of_leader, "ada", "offline").await;
    nothing_of(&["ada", "bob"], &nodes[leads], &mut watchers).await;
    nothing_of(&["ada", "bob"], &nodes[others[1]], &mut of_leader).await;
}

#[tokio::test]
async fn while_redis_is_away_nobody_goes_and_then_all_is_put_right() {
    for is_emptied in [false, true] {
        let options = if is_emptied { RedisOptions::default() } else { RedisOptions::durable() };
        let mut redis = RedisServer::with(options);
        let (nodes, _ways) = start(&redis, 2, 0).await;
        let mut watchers = vec![watcher(&nodes[0]).await, watcher(&nodes[1]).await];
        let (ada, mut bob) = (user(&nodes[0], "ada").await, user(&nodes[1], "bob").await);
        each_hears(&mut watchers, "ada", "online").await;
        each_hears(&mut watchers, "bob", "online").await;
        redis.stop();
        // Longer than any node may be silent.
        eventually("nobody leads", async || leader(&nodes[0]).await.is_none() && leader(&nodes[1]).await.is_none())
            .await;
        let cid = user(&nodes[1], "cid").await;
        set(&mut bob, "busy").await;
        ada.disconnect().await;
        let ada = user(&nodes[1], "ada").await;
        redis.start_again();
        // Of ada, who went over from one node to the other meanwhile, nobody hears.
        for watcher in &mut watchers {
            let mut heard = Vec::new();
            while heard.len() < 2 {
                let packet = watcher.take(|packet| packet.event().is_some_and(|event| event.name == UPDATE)).await;
                let payload = packet.event().expect("an event").payload().clone();
                let user = payload["user_id"].as_str().expect("a user").to_owned();
                assert_ne!(user, "ada", "{payload}");
                if user == "bob" || user == "cid" {
                    heard.push((user, payload["status"].clone()));
                }
            }
            heard.sort_by(|one, other| one.0.cmp(&other.0));
            assert_eq!(heard, [("bob".to_owned(), json!("busy")), ("cid".to_owned(), json!("online"))]);
        }
        nothing_of(&["ada", "bob", "cid"], &nodes[0], &mut watchers).await;
        cid.disconnect().await;
        each_hears(&mut watchers, "cid", "offline").await;
        drop(ada);
        each_hears(&mut watchers, "ada", "offline").await;
    }
}

#[tokio::test]
async fn a_node_that_comes_later_knows_who_is_there() {
    let redis = RedisServer::start();
    let (mut nodes, _ways) = start(&redis, 1, 300).await;
    let mut watchers = vec![watcher(&nodes[0]).await];
    let mut ada = user(&nodes[0], "ada").await;
    set(&mut ada, "away").await;
    while !is_told(&mut watchers[0], "ada", "away").await {}
    let later = |_: usize, config: &mut Config| {
        config.cluster.node_id = "later".into();
        config.presence.grace_ms = 300;
    };
    let later = nodes_with(&redis, 1, later).await.pop().expect("a node");
    let mut there = vec![watcher(&later).await];
    each_hears(&mut there, "ada", "away").await;
    nothing_of(&["ada"], &later, &mut watchers).await;
    // The new one leads now, and says what is left to say.
    ada.disconnect().await;
    drop(watchers);
    nodes.pop().expect("a node").finish().await;
    each_hears(&mut there, "ada", "offline").await;
    nothing_of(&["ada"], &later, &mut there).await;
}

/// What may happen to a cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// A node is killed.
    Killed,
    /// A node cannot reach Redis for so long that it counts as gone.
    CutOff,
    /// Redis is stopped for so long that nobody leads, and comes back.
    Stopped,
    /// The same, and it comes back with nothing.
    Emptied,
}

/// Waits until each node lists these users of all that have a name of ours, and tells a new watcher of them.
async fn all_tell(nodes: &[TestServer], expected: &[(&str, &str)], fate: Fate) {
    for (number, node) in nodes.iter().enumerate() {
        eventually(&format!("{fate:?}: node {number} lists {expected:?}"), async || {
            let answer = get(node, "/presence?organization_id=org-1").await;
            let text = |user: &Value, key: &str| user[key].as_str().expect("a text").to_owned();
            let users = answer["users"].as_array().expect("users").iter();
            let mut listed: Vec<_> = users.map(|user| (text(user, "user_id"), text(user, "status"))).collect();
            listed.retain(|(user, _)| ["ada", "bob", "cid", "dan"].contains(&user.as_str()));
            let listed: Vec<_> = listed.iter().map(|(user, status)| (user.as_str(), status.as_str())).collect();
            answer["unanswered_nodes"].is_null() && listed == expected
        })
        .await;
        let mut watcher = watcher(node).await;
        for (user, status) in expected {
            // What is not announced yet is told next.
            while !is_told(&mut watcher, user, status).await {}
        }
    }
}

#[tokio::test]
async fn every_node_tells_who_is_there_whatever_has_happened() {
    for fate in [Fate::Killed, Fate::CutOff, Fate::Stopped, Fate::Emptied] {
        let mut redis =
            RedisServer::with(if fate == Fate::Emptied { RedisOptions::default() } else { RedisOptions::durable() });
        let (mut nodes, ways) = start(&redis, 3, 50).await;
        let (ada, mut bob, mut cid) =
            (user(&nodes[0], "ada").await, user(&nodes[1], "bob").await, user(&nodes[2], "cid").await);
        all_tell(&nodes, &[("ada", "online"), ("bob", "online"), ("cid", "online")], fate).await;
        match fate {
            Fate::Killed => drop(nodes.pop().map(|mut node| node.kill())),
            Fate::CutOff => ways[2].cut(),
            Fate::Stopped | Fate::Emptied => redis.stop(),
        }
        // Everything changes meanwhile.
        ada.disconnect().await;
        set(&mut bob, "busy").await;
        let mut there = vec![("bob", "busy")];
        match fate {
            Fate::Killed => cid = user(&nodes[0], "cid").await,
            Fate::CutOff => all_tell(&nodes[..2], &there, fate).await,
            Fate::Stopped | Fate::Emptied => {
                eventually("nobody leads", async || leader(&nodes[0]).await.is_none()).await;
            }
        }
        set(&mut cid, "away").await;
        let dan = user(nodes.last().expect("a node"), "dan").await;
        there.extend([("cid", "away"), ("dan", "online")]);
        match fate {
            Fate::Killed => {}
            Fate::CutOff => ways[2].mend(),
            Fate::Stopped | Fate::Emptied => redis.start_again(),
        }
        all_tell(&nodes, &there, fate).await;
        for client in [bob, cid, dan] {
            client.disconnect().await;
        }
        all_tell(&nodes, &[], fate).await;
    }
}
