//! Urgent events that nobody acknowledges in time.

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tiercast::config::LogStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::kit::{Client, ConnectOptions, RedisOptions, RedisServer, TestServer, eventually, nodes_with};

fn urgent(timeout_ms: u64) -> Value {
    json!({
        "event": "alert:triggered",
        "data": { "alert_id": "a-1", "severity": "critical" },
        "target": { "organization_id": "org-1", "queue_name": "q" },
        "requires_ack": true,
        "ack_timeout_ms": timeout_ms,
    })
}

async fn publish(server: &TestServer, body: Value) -> Value {
    let (status, answer) = server.publish("/broadcast", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// A request as a service got it.
struct Taken {
    head: String,
    body: String,
}

/// A service that answers each call with the next status.
async fn service(statuses: &'static [u16]) -> (String, tokio::sync::mpsc::UnboundedReceiver<Taken>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/escalations", listener.local_addr().expect("an address"));
    let (taken, calls) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.expect("a call");
            let mut bytes = Vec::new();
            let end = loop {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                    if body.len() == length.parse::<usize>().expect("a number") {
                        break Taken { head: head.to_owned(), body: body.to_owned() };
                    }
                }
                assert!(stream.read_buf(&mut bytes).await.expect("a request") > 0, "the request ends early");
            };
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            taken.send(end).expect("the test is there");
        }
    });
    (url, calls)
}

async fn named(client: &mut Client, name: &str) -> Value {
    client.next_named(name).await.data().clone()
}

#[tokio::test]
async fn what_nobody_acknowledges_in_time_is_published_as_escalated() {
    let server = TestServer::start(|config| config.escalation.publish = true).await;
    let mut agent = server.agent("org-1").await;
    let mut other = server.agent("org-2").await;
    let mut elsewhere = server.subscriber("org-1", json!({ "channels": ["alerts"], "queue_name": "r" })).await;
    let answer = publish(&server, urgent(200)).await;
    let event = agent.next_named("alert:triggered").await;
    let escalated = named(&mut agent, "alert:escalated").await;
    assert_eq!(escalated["alert_id"], "a-1");
    let escalation = &escalated["escalation"];
    assert_eq!(escalation["message_id"], answer["message_id"]);
    assert_eq!(escalation["event"], "alert:triggered");
    assert_eq!(escalation["ack_timeout_ms"], 200);
    assert_eq!(escalation["pending_count"], 1);
    assert_eq!(
        escalation["pending"],
        json!([{ "user_id": agent.user, "socket_id": agent.socket_id, "state": "timed_out" }])
    );
    // It escalates once, and late is late.
    agent.ack(&event, json!({}));
    agent.settle().await;
    agent.expect_silence(&server).await;
    other.expect_silence(&server).await;
    elsewhere.expect_silence(&server).await;
}

#[tokio::test]
async fn what_is_acknowledged_or_not_urgent_does_not_escalate() {
    let server = TestServer::start(|config| config.escalation.publish = true).await;
    let mut first = server.agent("org-1").await;
    let mut second = server.agent("org-1").await;
    publish(&server, urgent(2_000)).await;
    let event = first.next_named("alert:triggered").await;
    first.ack(&event, json!({}));
    second.next_named("alert:triggered").await;
    let mut calm = urgent(1);
    calm["data"]["severity"] = json!("warning");
    publish(&server, calm).await;
    let mut unasked = urgent(1);
    unasked["requires_ack"] = json!(false);
    publish(&server, unasked).await;
    for agent in [&mut first, &mut second] {
        agent.next_named("alert:triggered").await;
        agent.next_named("alert:triggered").await;
    }
    // What is published after all of them and escalates comes alone.
    let last = publish(&server, urgent(2_100)).await;
    for agent in [&mut first, &mut second] {
        let escalated = named(agent, "alert:escalated").await;
        assert_eq!(escalated["escalation"]["message_id"], last["message_id"]);
        assert_eq!(escalated["escalation"]["pending_count"], 2);
    }
}

#[tokio::test]
async fn nobody_to_tell_is_nobody_who_acknowledges() {
    let server = TestServer::start(|config| config.escalation.publish = true).await;
    let mut kpi = server.subscriber("org-1", json!({ "channels": ["kpi", "alerts"] })).await;
    let mut body = urgent(100);
    body["target"]["channels"] = json!(["attendance"]);
    publish(&server, body).await;
    assert_eq!(named(&mut kpi, "alert:escalated").await["escalation"]["pending"], json!([]));
}

#[tokio::test]
async fn a_service_is_called_until_it_takes_it_with_a_signature() {
    let (url, mut calls) = service(&[500, 204]).await;
    let server = TestServer::start(|config| {
        config.escalation.url = url;
        config.escalation.secret = "secret".to_owned().into();
    })
    .await;
    let mut agent = server.agent("org-1").await;
    let answer = publish(&server, urgent(50)).await;
    let refused = calls.recv().await.expect("a call");
    let taken = calls.recv().await.expect("another call");
    assert_eq!(refused.body, taken.body);
    assert!(taken.head.starts_with("POST /escalations HTTP/1.1"), "{}", taken.head);
    let body: Value = serde_json::from_str(&taken.body).expect("JSON");
    assert_eq!(body["event"], "alert:escalated");
    assert_eq!(body["data"]["escalation"]["message_id"], answer["message_id"]);
    let header = |name: &str| taken.head.lines().find_map(|line| line.strip_prefix(name)).expect("a header").to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").expect("a key");
    mac.update(format!("{}.{}", header("x-tiercast-timestamp: "), taken.body).as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("x-tiercast-signature: "), format!("sha256={digits}"));
    // Only the service was to hear of it.
    assert_eq!(agent.drain_names(&server).await, ["alert:triggered"]);
}

#[tokio::test]
async fn what_is_due_escalates_in_the_next_process_and_only_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data").to_str().expect("a path of ours").to_owned();
    let start = || {
        let path = path.clone();
        TestServer::start(move |config| {
            config.escalation.publish = true;
            config.log.store = LogStore::Disk;
            config.log.path = path;
        })
    };
    let mut server = start().await;
    let answer = publish(&server, urgent(4_000)).await;
    server.stop().await;
    drop(server);
    let server = start().await;
    let mut agent = server.connect_with(ConnectOptions::named()).await.authenticate("org-1").await;
    let escalated = named(&mut agent, "alert:escalated").await;
    assert_eq!(escalated["escalation"]["message_id"], answer["message_id"]);
    agent.disconnect().await;
    server.finish().await;
    let server = start().await;
    let mut agent = server.agent("org-1").await;
    let escalations = async || {
        let (_, alerts) = server.get("/rooms/alerts:org:org-1/messages").await;
        alerts["messages"].as_array().unwrap().iter().filter(|one| one["event"] == "alert:escalated").count()
    };
    assert_eq!(escalations().await, 1);
    let second = publish(&server, urgent(50)).await;
    let escalated = named(&mut agent, "alert:escalated").await;
    assert_eq!(escalated["escalation"]["message_id"], second["message_id"], "the first does not escalate again");
    assert_eq!(escalations().await, 2);
}

#[tokio::test]
async fn what_is_due_while_redis_is_away_or_stands_still_escalates_once_when_it_is_back() {
    for stands_still in [false, true] {
        let mut redis = RedisServer::with(RedisOptions::durable());
        let nodes = nodes_with(&redis, 2, |_, config| {
            config.escalation.publish = true;
            config.cluster.redis_timeout_ms = 300;
            (config.log.shards, config.presence.enabled) = (1, false);
        })
        .await;
        let leads = async |node: &TestServer| {
            let (_, answer) = node.get("/nodes").await;
            answer["nodes"].as_array().expect("nodes").iter().any(|node| node["leader"] == true)
        };
        eventually("one leads", async || leads(&nodes[0]).await).await;
        let mut agents = [nodes[0].agent("org-1").await, nodes[1].agent("org-1").await];
        // Due while the one that leads still does.
        let published = publish(&nodes[0], urgent(200)).await;
        for agent in &mut agents {
            agent.next_named("alert:triggered").await;
        }
        if stands_still {
            redis.pause();
        } else {
            redis.stop();
        }
        eventually("nobody leads", async || !leads(&nodes[0]).await && !leads(&nodes[1]).await).await;
        if stands_still {
            redis.resume();
        } else {
            redis.start_again();
        }
        for agent in &mut agents {
            assert_eq!(named(agent, "alert:escalated").await["escalation"]["message_id"], published["message_id"]);
        }
        // As when another node leads before it has read that.
        let life: String = redis.run("get {tiercast:0}:life");
        let newest = "redis.call('XREVRANGE',KEYS[1],'+','-','COUNT',1)[1][2][2]";
        let again = format!("return(redis.call('XADD',KEYS[1],'{life}-*','r',{newest}))");
        redis.run::<String>(&format!("eval {again} 1 {{tiercast:0}}:log"));
        // What is tried again comes within 5 s, and before what is due later.
        let later = publish(&nodes[1], urgent(if stands_still { 6_000 } else { 200 })).await;
        for agent in &mut agents {
            agent.next_named("alert:triggered").await;
            assert_eq!(named(agent, "alert:escalated").await["escalation"]["message_id"], later["message_id"]);
        }
    }
}
