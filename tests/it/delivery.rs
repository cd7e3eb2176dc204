//! Who receives a published event, and that nobody receives it twice.

use serde_json::{Value, json};
use tiercast::config::{CustomEvent, Limits};

use crate::kit::{Client, ConnectOptions, Forms, TestServer, Transport};

/// Scopes of one organization: the whole, a department, a queue, a queue within a department.
fn scopes() -> [Value; 4] {
    [
        json!({}),
        json!({ "department_id": "d" }),
        json!({ "queue_name": "q" }),
        json!({ "department_id": "d", "queue_name": "q" }),
    ]
}

fn in_organization(organization: &str, scope: &Value) -> Value {
    let mut target = scope.clone();
    target["organization_id"] = json!(organization);
    target
}

fn to(channel: &str, scope: &Value) -> Value {
    let mut request = scope.clone();
    request["channels"] = json!([channel]);
    request
}

/// How many events each client has received since it was last asked.
async fn counts(server: &TestServer, clients: &mut [Client]) -> Vec<usize> {
    let mut counts = Vec::new();
    for client in clients {
        counts.push(client.drain(server).await.len());
    }
    counts
}

#[tokio::test]
async fn an_event_reaches_every_scope_that_contains_it() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for scope in scopes() {
        clients.push(server.subscriber("org-1", to("kpi", &scope)).await);
    }
    for elsewhere in [json!({ "department_id": "other" }), json!({ "department_id": "other", "queue_name": "q" })] {
        clients.push(server.subscriber("org-1", to("kpi", &elsewhere)).await);
    }
    let expected = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]];
    for (scope, expected) in scopes().iter().zip(expected) {
        let answer = server.broadcast("kpi:update", json!({}), in_organization("org-1", scope)).await;
        assert_eq!(counts(&server, &mut clients).await, expected, "{scope}");
        assert_eq!(answer["recipients_count"], expected.iter().sum::<usize>());
    }
}

#[tokio::test]
async fn a_subscription_to_all_is_one_to_each_of_five_channels() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.subscriber("org-1", json!({ "channels": ["all"] })).await;
    let events = ["kpi:computed", "backlog:snapshot", "attendance:checkin", "alert:escalated", "system:broadcast"];
    for event in events {
        server.broadcast(event, json!({}), json!({ "organization_id": "org-1" })).await;
    }
    assert_eq!(agent.drain_names(&server).await, events);
}

#[tokio::test]
async fn each_socket_receives_once_however_many_rooms_match() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for scope in scopes() {
        agent.subscribe(to("kpi", &scope)).await;
        agent.subscribe(to("all", &scope)).await;
        agent.subscribe(to("alerts", &scope)).await;
    }
    let target = json!({ "organization_id": "org-1", "department_id": "d", "queue_name": "q" });
    server.broadcast("kpi:alert", json!({}), target).await;
    assert_eq!(agent.drain_names(&server).await, ["kpi:alert"]);
}

#[tokio::test]
async fn alerts_of_every_channel_reach_alerts_too() {
    let server = TestServer::start(|_| {}).await;
    let mut watcher = server.subscriber("org-1", json!({ "channels": ["alerts"] })).await;
    let mut planner = server.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    for event in ["kpi:alert", "backlog:alert", "attendance:alert", "alert:triggered", "kpi:update"] {
        server.broadcast(event, json!({ "organization_id": "org-1" }), json!({})).await;
    }
    let alerts = ["kpi:alert", "backlog:alert", "attendance:alert", "alert:triggered"];
    assert_eq!(watcher.drain_names(&server).await, alerts);
    assert_eq!(planner.drain_names(&server).await, ["kpi:alert", "kpi:update"]);
}

#[tokio::test]
async fn a_system_event_goes_down_to_the_whole_organization() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = vec![server.agent("org-1").await, server.agent("org-1").await.without_implicit().await];
    for scope in scopes() {
        clients.push(server.subscriber("org-1", to("kpi", &scope)).await);
    }
    clients.push(server.agent("org-2").await);
    server.broadcast("system:notification", json!({}), json!({ "organization_id": "org-1" })).await;
    assert_eq!(counts(&server, &mut clients).await, [1, 1, 1, 1, 1, 1, 0]);
}

#[tokio::test]
async fn a_system_event_goes_down_within_its_department() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for scope in [
        json!({ "department_id": "d" }),
        json!({ "department_id": "d", "queue_name": "q" }),
        json!({ "department_id": "other" }),
        json!({ "department_id": "other", "queue_name": "q" }),
    ] {
        clients.push(server.subscriber("org-1", to("kpi", &scope)).await);
    }
    let target = json!({ "organization_id": "org-1", "department_id": "d" });
    server.broadcast("system:notification", json!({}), target).await;
    assert_eq!(counts(&server, &mut clients).await, [1, 1, 0, 0]);
    let target = json!({ "organization_id": "org-1", "queue_name": "q" });
    server.broadcast("system:notification", json!({}), target).await;
    assert_eq!(counts(&server, &mut clients).await, [0, 1, 0, 1]);
}

#[tokio::test]
async fn a_system_event_goes_up_as_every_event_does() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = vec![
        server.subscriber("org-1", json!({ "channels": ["notifications"] })).await,
        server.subscriber("org-1", json!({ "channels": ["notifications"], "queue_name": "q" })).await,
        server.subscriber("org-1", json!({ "channels": ["kpi"] })).await,
    ];
    let target = json!({ "organization_id": "org-1", "department_id": "d", "queue_name": "q" });
    server.broadcast("system:notification", json!({}), target).await;
    assert_eq!(counts(&server, &mut clients).await, [1, 1, 0]);
}

#[tokio::test]
async fn other_events_never_go_down() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.subscriber("org-1", json!({ "channels": ["all"], "department_id": "d" })).await;
    for event in ["kpi:update", "backlog:update", "attendance:update", "alert:triggered"] {
        server.broadcast(event, json!({}), json!({ "organization_id": "org-1" })).await;
    }
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn a_system_event_without_a_scope_reaches_everyone() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = vec![server.agent("org-1").await, server.agent("org-2").await.without_implicit().await];
    let (status, answer) =
        server.publish("/broadcast", json!({ "event": "system:notification", "data": { "message": "hello" } })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(counts(&server, &mut clients).await, [1, 1]);
}

#[tokio::test]
async fn an_event_without_a_scope_is_an_error_and_not_everyone() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for target in [json!(null), json!({}), json!({ "department_id": "d" }), json!({ "socket_ids": [agent.socket_id] })]
    {
        let body = json!({ "event": "kpi:update", "data": { "health_score": 1 }, "target": target });
        let (status, answer) = server.publish("/broadcast", body).await;
        assert_eq!(status, 400, "{target}: {answer}");
    }
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn the_target_goes_before_the_data() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = vec![server.agent("org-1").await, server.agent("org-2").await];
    let data = json!({ "organization_id": "org-1" });
    server.broadcast("kpi:update", data, json!({ "organization_id": "org-2" })).await;
    assert_eq!(counts(&server, &mut clients).await, [0, 1]);
}

#[tokio::test]
async fn a_target_may_name_other_channels() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = vec![
        server.subscriber("org-1", json!({ "channels": ["kpi"] })).await,
        server.subscriber("org-1", json!({ "channels": ["backlog"] })).await,
    ];
    let target = json!({ "organization_id": "org-1", "channels": ["backlog"] });
    server.broadcast("kpi:update", json!({}), target).await;
    assert_eq!(counts(&server, &mut clients).await, [0, 1]);
}

#[tokio::test]
async fn named_users_receive_on_every_socket_of_theirs() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for (user, organization) in [("ann", "org-1"), ("ann", "org-1"), ("bob", "org-1"), ("ann", "org-2")] {
        let client = server.connect_with(ConnectOptions::named()).await;
        clients.push(client.authenticate_as(user, organization).await);
    }
    let target = json!({ "organization_id": "org-1", "user_ids": ["ann"] });
    let answer = server.broadcast("kpi:update", json!({}), target).await;
    assert_eq!(answer["recipients_count"], 2);
    assert_eq!(counts(&server, &mut clients).await, [1, 1, 0, 0]);
}

#[tokio::test]
async fn named_sockets_and_rooms_and_users_are_united() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = vec![server.subscriber("org-1", json!({ "channels": ["kpi"], "queue_name": "q" })).await];
    for _ in 0..4 {
        clients.push(server.agent("org-1").await);
    }
    let target = json!({
        "organization_id": "org-1",
        "rooms": ["kpi:org:org-1:queue:q"],
        "socket_ids": [clients[1].socket_id, clients[2].socket_id],
        "user_ids": [clients[2].user, clients[3].user],
        "except_socket_ids": [clients[3].socket_id],
    });
    server.broadcast("kpi:update", json!({}), target).await;
    assert_eq!(counts(&server, &mut clients).await, [1, 1, 1, 0, 0]);
}

#[tokio::test]
async fn what_is_named_is_kept_within_the_scope() {
    let server = TestServer::start(|_| {}).await;
    let mut clients =
        vec![server.agent("org-1").await, server.subscriber("org-2", json!({ "channels": ["kpi"] })).await];
    let target = json!({
        "organization_id": "org-1",
        "rooms": ["kpi:org:org-2", "org:org-2"],
        "socket_ids": [clients[1].socket_id],
        "user_ids": [clients[1].user],
    });
    let body = json!({ "event": "kpi:update", "data": {}, "target": target });
    server.publish("/broadcast", body).await;
    assert_eq!(counts(&server, &mut clients).await, [0, 0]);
}

#[tokio::test]
async fn exceptions_take_away_from_a_whole_scope() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = vec![server.agent("org-1").await, server.agent("org-1").await];
    let target = json!({ "organization_id": "org-1", "except_socket_ids": [clients[0].socket_id] });
    let answer = server.broadcast("kpi:update", json!({}), target).await;
    assert_eq!(answer["recipients_count"], 1);
    assert_eq!(counts(&server, &mut clients).await, [0, 1]);
}

#[tokio::test]
async fn an_empty_list_of_names_is_nobody() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = vec![server.agent("org-1").await];
    let target = json!({ "organization_id": "org-1", "user_ids": [] });
    server.publish("/broadcast", json!({ "event": "kpi:update", "data": {}, "target": target })).await;
    assert_eq!(counts(&server, &mut clients).await, [0]);
}

#[tokio::test]
async fn equal_names_in_two_organizations_stay_apart() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for organization in ["org-1", "org-2"] {
        for scope in scopes() {
            clients.push(server.subscriber(organization, to("all", &scope)).await);
        }
    }
    let target = json!({ "organization_id": "org-2", "department_id": "d", "queue_name": "q" });
    server.broadcast("kpi:update", json!({}), target.clone()).await;
    server.broadcast("system:notification", json!({}), target).await;
    assert_eq!(counts(&server, &mut clients).await[..4], [0, 0, 0, 0]);
}

#[tokio::test]
async fn an_id_cannot_forge_a_room() {
    let server = TestServer::start(|_| {}).await;
    let forged = ["org-1:queue:q", "org-1%3Aqueue%3Aq", "org-1/queue/q", "org-1,q", "org-1 ", "ORG-1", "org-1\u{200b}"];
    let mut intruders = Vec::new();
    for organization in forged {
        let mut intruder = server.agent(organization).await;
        intruder.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
        intruders.push(intruder);
    }
    let mut queue = server.subscriber("org-1", json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1", "queue_name": "q" })).await;
    assert_eq!(counts(&server, &mut intruders).await, [0; 7]);
    assert_eq!(queue.drain(&server).await.len(), 1);
    for organization in forged {
        server.broadcast("kpi:update", json!({}), json!({ "organization_id": organization, "queue_name": "q" })).await;
    }
    queue.expect_silence(&server).await;
    assert_eq!(counts(&server, &mut intruders).await, [1; 7]);
}

#[tokio::test]
async fn an_id_that_is_none_is_refused() {
    let server = TestServer::start(|_| {}).await;
    for organization in [String::new(), "x".repeat(10_000), "a\u{0}b".into(), "a\nb".into(), "a\u{9f}b".into()] {
        let mut client = server.connect("/").await;
        assert_eq!(client.try_authenticate("ann", &organization).await["success"], false);
        let target = json!({ "organization_id": organization });
        let (status, answer) =
            server.publish("/broadcast", json!({ "event": "kpi:update", "data": {}, "target": target })).await;
        assert_eq!((status, &answer["code"]), (400, &json!("INVALID_MESSAGE")), "{organization:?}");
    }
}

#[tokio::test]
async fn an_event_of_the_config_is_delivered_like_any_other() {
    let server = TestServer::start(|config| {
        config.events.custom.push(CustomEvent {
            name: "order:shipped".into(),
            channel: "orders".into(),
            priority: serde_json::from_value(json!("high")).unwrap(),
            entity: None,
            conflated: false,
            history: true,
        });
    })
    .await;
    let mut agent = server.subscriber("org-1", json!({ "channels": ["orders"] })).await;
    let mut other = server.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    server.broadcast("order:shipped", json!({ "id": 7 }), json!({ "organization_id": "org-1" })).await;
    assert_eq!(agent.drain_names(&server).await, ["order:shipped"]);
    other.expect_silence(&server).await;
}

#[tokio::test]
async fn every_transport_receives_the_same() {
    let server =
        TestServer::start(|config| config.limits = Limits { max_connections_per_org: 3, ..config.limits.clone() });
    let server = server.await;
    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let options = ConnectOptions { forms: Some(Forms::Both), ..ConnectOptions::default() }.transport(transport);
        clients.push(server.connect_with(options).await.authenticate("org-1").await);
    }
    for n in 0..20 {
        server.broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
    }
    for client in &mut clients {
        let numbers: Vec<_> = client.drain(&server).await.iter().map(|event| event.data()["n"].clone()).collect();
        let expected: Vec<Value> = (0..20).flat_map(|n| [json!(n), json!(n)]).collect();
        assert_eq!(numbers, expected);
    }
}
