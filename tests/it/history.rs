//! `GET /rooms/{room}/messages`: what a member of a room would have received.

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::{LogStore, Right};

use crate::kit::{Forms, Reply, TestServer, key};

async fn read(server: &TestServer, room: &str, query: &str) -> Reply {
    let room = room.replace('%', "%25");
    server.call(Method::GET, &format!("/rooms/{room}/messages{query}")).send().await.expect("an answer")
}

async fn messages(server: &TestServer, room: &str, query: &str) -> Value {
    let reply = read(server, room, query).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

fn ids(messages: &Value) -> Vec<Value> {
    messages["messages"].as_array().expect("messages").iter().map(|message| message["message_id"].clone()).collect()
}

/// Events at many scopes, on many channels, for many kinds of audiences.
async fn publish_all(server: &TestServer) {
    let scopes = [
        json!({ "organization_id": "org-1" }),
        json!({ "organization_id": "org-1", "department_id": "d" }),
        json!({ "organization_id": "org-1", "queue_name": "q" }),
        json!({ "organization_id": "org-1", "department_id": "d", "queue_name": "q" }),
        json!({ "organization_id": "org-1", "queue_name": "other" }),
        json!({ "organization_id": "org-2", "queue_name": "q" }),
    ];
    for event in ["kpi:update", "backlog:update", "alert:triggered", "system:notification"] {
        for scope in &scopes {
            server.broadcast(event, json!({ "a": 1 }), scope.clone()).await;
        }
    }
    server.broadcast("system:broadcast", json!({}), json!({})).await;
    let mut named = scopes[0].clone();
    named["rooms"] = json!(["kpi:org:org-1:queue:q"]);
    server.broadcast("kpi:update", json!({ "named": true }), named).await;
}

#[tokio::test]
async fn it_is_what_a_subscriber_received() {
    for store in [LogStore::Memory, LogStore::Disk] {
        let folder = tempfile::tempdir().expect("a folder");
        let server = TestServer::start(|config| {
            config.log.store = store;
            config.log.path = folder.path().join("data").to_str().expect("a path").to_owned();
        })
        .await;
        let mut subscribers = Vec::new();
        for request in [
            json!({ "channels": ["kpi"] }),
            json!({ "channels": ["kpi"], "queue_name": "q" }),
            json!({ "channels": ["alerts"], "department_id": "d" }),
            json!({ "channels": ["all"], "department_id": "d", "queue_name": "q" }),
        ] {
            let options = crate::kit::ConnectOptions { forms: Some(Forms::Envelope), ..Default::default() };
            let mut client = server.connect_with(options).await.authenticate("org-1").await.without_implicit().await;
            let ack = client.subscribe(request).await;
            subscribers.push((client, ack["rooms"][0].as_str().expect("a room").to_owned()));
        }
        publish_all(&server).await;
        for (client, room) in &mut subscribers {
            let received: Vec<_> =
                client.drain(&server).await.iter().map(|event| event.payload()["message_id"].clone()).collect();
            let history = messages(&server, room, "?limit=1000").await;
            let told = ids(&history);
            assert_eq!(told[..received.len()], received, "{room} {store:?}");
            assert_eq!(told.len(), received.len(), "{room}: more than {received:?}");
            assert_eq!(history["complete"], true);
            crate::kit::assert_shape("envelope", &history["messages"][0]);
        }
        drop(subscribers);
        server.finish().await;
    }
}

#[tokio::test]
async fn it_is_read_in_pages() {
    let server = TestServer::start(|_| {}).await;
    let mut published = Vec::new();
    for n in 0..1_200 {
        let answer = server.broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
        published.push(answer["message_id"].clone());
        server.broadcast("backlog:update", json!({}), json!({ "organization_id": "org-1" })).await;
    }
    let room = "kpi:org:org-1";
    let newest = messages(&server, room, "").await;
    assert_eq!(ids(&newest), published[1_100..]);
    let first = messages(&server, room, "?limit=1000").await["messages"][0]["position"].clone();
    let mut position = first.as_str().expect("a position").to_owned();
    let mut read = Vec::new();
    loop {
        let page = messages(&server, room, &format!("?since={position}&limit=300")).await;
        assert_eq!(page["complete"], true);
        read.extend(ids(&page));
        position = page["position"].as_str().expect("a position").to_owned();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(read, published[201..]);
    assert!(ids(&messages(&server, room, &format!("?since={position}")).await).is_empty());
}

#[tokio::test]
async fn what_is_known_is_not_sent_again() {
    let server = TestServer::start(|_| {}).await;
    server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    let tag = read(&server, "kpi:org:org-1", "").await.header("etag").to_owned();
    let again = || server.call(Method::GET, "/rooms/kpi:org:org-1/messages").header("if-none-match", &tag);
    let reply = again().send().await.expect("an answer");
    assert_eq!((reply.status, reply.text.as_str()), (304, ""));
    server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    assert_eq!(again().send().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_gap_is_admitted() {
    let server = TestServer::start(|config| config.log.max_entries = 5).await;
    let first = server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    for _ in 0..10 {
        server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    }
    let position = first["position"].as_str().expect("a position");
    for since in [position, "otherlog.3"] {
        let history = messages(&server, "kpi:org:org-1", &format!("?since={since}")).await;
        assert_eq!((ids(&history).len(), &history["complete"]), (5, &json!(false)), "{since}");
    }
}

#[tokio::test]
async fn it_is_for_who_may_read_the_organization() {
    let keys = [key("bound", &[Right::Read], Some(&["org-1"])), key("mute", &[Right::Publish], None)];
    let server = TestServer::start(|config| config.api.keys = keys.to_vec()).await.with_key("bound");
    assert_eq!(read(&server, "kpi:org:org-1", "").await.status, 200);
    for room in ["kpi:org:org-2", "nonsense", "implicit:org:org-1", "org:org-1:dept:d:dept:e"] {
        assert_eq!(read(&server, room, "").await.status, 404, "{room}");
    }
    for query in ["?since=nonsense", "?since=a.b", "?limit=0", "?limit=1001", "?limit=x"] {
        assert_eq!(read(&server, "kpi:org:org-1", query).await.status, 400, "{query}");
    }
    let server = server.with_key("mute");
    assert_eq!(read(&server, "kpi:org:org-1", "").await.status, 403);
}

#[tokio::test]
async fn what_was_published_before_a_crash_is_in_the_history() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |name: &str| {
        let path = folder.path().join(name).to_str().expect("a path of ours").to_owned();
        TestServer::start(move |config| {
            config.log.store = tiercast::config::LogStore::Disk;
            config.log.path = path;
        })
    };
    let server = start("data").await;
    for n in 1..=5 {
        server.broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
    }
    crate::kit::copy(&folder.path().join("data"), &folder.path().join("crashed"));
    server.finish().await;
    for name in ["data", "crashed"] {
        let server = start(name).await;
        server.broadcast("kpi:update", json!({ "n": 6 }), json!({ "organization_id": "org-1" })).await;
        for (query, expected) in [("", &[1, 2, 3, 4, 5, 6][..]), ("?limit=3", &[4, 5, 6])] {
            let (_, history) = server.get(&format!("/rooms/kpi:org:org-1/messages{query}")).await;
            let numbers: Vec<u64> =
                history["messages"].as_array().unwrap().iter().map(|one| one["data"]["n"].as_u64().unwrap()).collect();
            assert_eq!((numbers.as_slice(), &history["complete"]), (expected, &json!(true)), "{name} {query}");
        }
    }
}
