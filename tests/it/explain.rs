//! Where a message went, and why.

use serde_json::{Value, json};
use tiercast::config::{LogStore, Right};

use crate::kit::{Client, ConnectOptions, TestServer, key};

async fn explained(server: &TestServer, body: Value) -> Value {
    let (status, answer) = server.publish("/broadcast?explain=true", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn alone(server: &TestServer, request: Value) -> Client {
    server.subscriber("org-1", request).await
}

#[tokio::test]
async fn a_publisher_is_told_why_an_event_reached_whom() {
    let server = TestServer::start(|_| {}).await;
    let _implicit = server.agent("org-1").await;
    let _wide = alone(&server, json!({ "channels": ["alerts"] })).await;
    let _queue = alone(&server, json!({ "channels": ["all"], "queue_name": "q" })).await;
    let _severe = alone(&server, json!({ "channels": ["alerts"], "filters": { "min_severity": "critical" } })).await;
    let left_out = alone(&server, json!({ "channels": ["alerts"] })).await;
    let _elsewhere = alone(&server, json!({ "channels": ["alerts"], "queue_name": "r" })).await;
    let _member = server.member("org-1", "/org/org-1/queue/q").await;
    let _foreign = server.agent("org-2").await;
    let body = json!({
        "event": "alert:triggered",
        "data": { "severity": "warning" },
        "target": { "organization_id": "org-1", "queue_name": "q", "except_socket_ids": [left_out.socket_id] },
    });
    let answer = explained(&server, body).await;
    assert_eq!(answer["recipients_count"], 4);
    let explanation = &answer["explanation"];
    assert_eq!(explanation["nodes"], json!([{ "node": "local", "sockets": 4 }]));
    assert_eq!(
        explanation["rooms"],
        json!([
            { "namespace": "/", "room": "alerts:org:org-1", "sockets": 3 },
            { "namespace": "/", "room": "all:org:org-1:queue:q", "sockets": 1 },
            { "namespace": "/", "room": "implicit:org:org-1", "sockets": 1 },
            { "namespace": "/org/org-1/queue/q", "room": "all:org:org-1:queue:q", "sockets": 1 },
        ])
    );
    let counts = ["filtered", "excepted", "conflated", "dropped", "offline"].map(|name| explanation[name].as_u64());
    assert_eq!(counts, [1, 1, 0, 0, 0].map(Some), "{explanation}");

    let to_users = json!({ "organization_id": "org-1", "user_ids": ["nobody", "no one"] });
    let answer = explained(&server, json!({ "event": "alert:triggered", "data": {}, "target": to_users })).await;
    assert_eq!((&answer["recipients_count"], &answer["explanation"]["offline"]), (&json!(0), &json!(2)));
    let answer = explained(&server, json!({ "event": "system:broadcast", "data": {} })).await;
    assert_eq!(answer["explanation"]["nodes"][0]["sockets"], 8, "{answer}");
    assert_eq!((&answer["explanation"]["filtered"], &answer["explanation"]["rooms"]), (&json!(0), &json!([])));
    let (_, plain) = server.publish("/broadcast", json!({ "event": "system:broadcast", "data": {} })).await;
    assert_eq!(plain["explanation"], Value::Null);
    let (status, answer) = server.publish("/broadcast/kpi?explain=true", json!({ "organization_id": "org-1" })).await;
    assert_eq!((status, answer["explanation"]["filtered"].as_u64()), (200, Some(0)), "{answer}");
    let (status, _) = server.publish("/broadcast/kpi?explain=perhaps", json!({ "organization_id": "org-1" })).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn what_a_slow_reader_loses_for_an_event_is_told() {
    let server = TestServer::start(|config| {
        config.outbox.soft_limit_bytes = 32 * 1_024;
        config.outbox.socket_buffer_bytes = 8 * 1_024;
    })
    .await;
    let options = ConnectOptions { receive_buffer: Some(4_096), ..ConnectOptions::named() };
    let client = server.connect_with(options).await.authenticate("org-1").await;
    client.wire.hold().await;
    let target = json!({ "organization_id": "org-1" });
    let kpi = json!({ "event": "kpi:update", "data": { "pad": "x".repeat(8_000) }, "target": target });
    let low = json!({ "event": "attendance:alert", "data": {}, "target": target, "priority": "low" });
    let mut conflated = 0;
    for _ in 0..100 {
        conflated += explained(&server, kpi.clone()).await["explanation"]["conflated"].as_u64().unwrap();
    }
    assert!(conflated > 0);
    assert_eq!(explained(&server, low).await["explanation"]["dropped"], 1);
}

#[tokio::test]
async fn explanations_and_messages_need_the_right_to_read() {
    let keys = vec![
        key("publisher", &[Right::Publish], None),
        key("bound", &[Right::Publish, Right::Read], Some(&["org-2"])),
        key("reader", &[Right::Publish, Right::Read], None),
    ];
    let server = TestServer::start(|config| config.api.keys = keys).await.with_key("publisher");
    let body = json!({ "event": "kpi:update", "data": { "n": 1 }, "target": { "organization_id": "org-1" } });
    let (status, answer) = server.publish("/broadcast?explain=true", body.clone()).await;
    assert_eq!(status, 403, "{answer}");
    let (_, answer) = server.publish("/broadcast", body).await;
    let path = format!("/messages/{}", answer["message_id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.0, 403);
    let server = server.with_key("bound");
    let (foreign, unknown) = (server.get(&path).await, server.get("/messages/msg_1_abcdefghi").await);
    assert_eq!((foreign.0, &foreign), (404, &unknown), "a foreign message is like none");
    let server = server.with_key("reader");
    assert_eq!(server.get(&path).await.1["message"]["data"], json!({ "n": 1 }));
}

#[tokio::test]
async fn a_message_is_found_by_its_id_in_memory_and_on_the_disk() {
    for store in [LogStore::Memory, LogStore::Disk] {
        let folder = tempfile::tempdir().expect("a folder");
        let server = TestServer::start(|config| {
            config.log.store = store;
            config.log.path = folder.path().join("data").to_str().expect("a path of ours").to_owned();
            config.log.shards = 2;
        })
        .await;
        let mut ids = Vec::new();
        for n in 0..1_500 {
            let target = json!({ "organization_id": format!("org-{}", n % 3), "department_id": "d" });
            let answer = server.broadcast("backlog:alert", json!({ "n": n }), target).await;
            if n % 100 == 0 {
                ids.push((n, answer["message_id"].as_str().unwrap().to_owned(), answer["position"].clone()));
            }
        }
        for (n, id, position) in ids {
            let (status, answer) = server.get(&format!("/messages/{id}")).await;
            assert_eq!(status, 200, "{n} on {store:?}: {answer}");
            assert_eq!((&answer["message"]["data"]["n"], &answer["position"]), (&json!(n), &position));
            let room = |channel: &str, rest: &str| json!(format!("{channel}:org:org-{}{rest}", n % 3));
            assert_eq!(answer["channels"], json!(["backlog", "alerts", "all"]));
            let rooms = answer["rooms"].as_array().unwrap();
            for expected in
                [room("backlog", ""), room("alerts", ""), room("backlog", ":dept:d"), room("alerts", ":dept:d")]
            {
                assert!(rooms.contains(&expected), "{expected} in {rooms:?}");
            }
            assert_eq!(rooms.len(), 6);
        }
        let target = json!({ "organization_id": "org-1", "user_ids": ["u"], "except_socket_ids": ["x"] });
        let answer = server.broadcast("kpi:alert", json!({}), target).await;
        let (_, found) = server.get(&format!("/messages/{}", answer["message_id"].as_str().unwrap())).await;
        assert_eq!(found["target"], json!({ "user_ids": ["u"], "socket_ids": [], "rooms": [] }));
        assert_eq!((&found["rooms"], &found["except_socket_ids"]), (&json!(["user:org-1:u"]), &json!(["x"])));
        let answer = server.broadcast("system:broadcast", json!({}), json!({})).await;
        let (status, found) = server.get(&format!("/messages/{}", answer["message_id"].as_str().unwrap())).await;
        assert_eq!((status, &found["rooms"]), (200, &json!([])));
        for id in ["msg_0_aaaaaaaaa", "msg_x_y", "x", "msg_99999999999999_aaaaaaaaa", "msg_-1_aaaaaaaaa"] {
            assert_eq!(server.get(&format!("/messages/{id}")).await.0, 404, "{id}");
        }
    }
}
