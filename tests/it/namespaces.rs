//! Namespaces that mirror the tree of organizations, departments and queues.

use serde_json::{Value, json};

use crate::kit::{Client, ConnectOptions, Kind, Refused, TestServer};

fn who(organization: &str) -> Value {
    json!({ "user_id": "ann", "organization_id": organization })
}

async fn refused(server: &TestServer, namespace: &str, auth: Option<Value>) -> Refused {
    let options = ConnectOptions { auth, ..ConnectOptions::named().namespace(namespace) };
    server.try_connect(options).await.err().unwrap_or_else(|| panic!("{namespace:?} let a stranger in"))
}

/// Whether a refusal says that the credentials do not suffice.
fn about_access(refused: &Refused) -> bool {
    ["AUTH_FAILED", "UNAUTHORIZED"].iter().any(|code| refused.message().starts_with(code))
}

#[tokio::test]
async fn entering_subscribes_to_everything_of_the_scope() {
    let server = TestServer::start(|_| {}).await;
    let mut whole = server.member("org-1", "/org/org-1").await;
    let mut department = server.member("org-1", "/org/org-1/dept/d").await;
    let mut queue = server.member("org-1", "/org/org-1/queue/q").await;
    let mut both = server.member("org-1", "/org/org-1/dept/d/queue/q").await;
    assert_eq!(server.census().namespaces, 4);
    for (n, scope) in [
        json!({}),
        json!({ "department_id": "d" }),
        json!({ "queue_name": "q" }),
        json!({ "department_id": "d", "queue_name": "q" }),
    ]
    .into_iter()
    .enumerate()
    {
        let mut target = scope;
        target["organization_id"] = json!("org-1");
        server.broadcast("kpi:update", json!({ "n": n }), target).await;
    }
    for (client, expected) in
        [(&mut whole, vec![0, 1, 2, 3]), (&mut department, vec![1, 3]), (&mut queue, vec![2, 3]), (&mut both, vec![3])]
    {
        let events = client.drain(&server).await;
        let numbers: Vec<_> = events.iter().map(|event| event.payload()["n"].as_i64().unwrap()).collect();
        assert_eq!(numbers, expected, "{}", client.namespace);
    }
}

#[tokio::test]
async fn the_handshake_may_choose_the_channels() {
    let server = TestServer::start(|_| {}).await;
    let auth = json!({ "user_id": "ann", "organization_id": "org-1", "channels": ["kpi"] });
    let mut client = server.connect_with(ConnectOptions::named().namespace("/org/org-1").auth(auth)).await;
    for event in ["kpi:update", "backlog:update"] {
        server.broadcast(event, json!({}), json!({ "organization_id": "org-1" })).await;
    }
    assert_eq!(client.drain_names(&server).await, ["kpi:update"]);
}

#[tokio::test]
async fn client_events_work_as_in_the_main_namespace() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.member("org-1", "/org/org-1").await;
    client.settle().await;
    let ack = client.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    assert_eq!(ack["rooms"], json!(["kpi:org:org-1:queue:q"]));
    assert_eq!(client.emit("unsubscribe", json!({})).await["success"], true);
    server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1", "queue_name": "q" })).await;
    client.expect_silence(&server).await;
    let ack = client.emit("nonsense", json!({})).await;
    assert_eq!(ack["code"], "INVALID_MESSAGE");
}

#[tokio::test]
async fn ids_are_encoded_in_the_name() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.member("a:b/c,d é", "/org/a%3Ab%2Fc%2Cd%20%C3%A9").await;
    let data = json!({ "organization_id": "a:b/c,d é" });
    server.broadcast("kpi:update", data.clone(), json!({})).await;
    assert_eq!(client.next_event().await.payload(), &data);
    let (_, answer) = server.get(&format!("/connections/{}", client.socket_id)).await;
    assert_eq!(answer["connection"]["organization_id"], "a:b/c,d é");
}

#[tokio::test]
async fn without_credentials_that_cover_it_there_is_no_way_in() {
    let server = TestServer::start(|_| {}).await;
    for namespace in ["/org/org-1", "/org/org-1/dept/d", "/org/org-1/queue/q", "/org/org-1/dept/d/queue/q"] {
        for auth in [None, Some(json!({})), Some(json!({ "user_id": "ann" })), Some(who("org-2")), Some(who(""))] {
            let refused = refused(&server, namespace, auth.clone()).await;
            assert!(about_access(&refused), "{namespace} {auth:?}: {refused:?}");
        }
    }
    server.count("a stranger creates no namespace", |census| census.namespaces == 0 && census.seats == 0).await;
}

#[tokio::test]
async fn a_forged_name_leads_nowhere() {
    let server = TestServer::start(|_| {}).await;
    let mut victim = server.member("org-1", "/org/org-1/dept/d").await;
    let long = format!("/org/{}", "x".repeat(10_000));
    for namespace in [
        "/org",
        "/org/",
        "/org//dept/d",
        "/org/org-1/",
        "/org/org-1/dept",
        "/org/org-1/dept/",
        "/org/org-1/queue/",
        "/org/org-1/queue/q/dept/d",
        "/org/org-1/dept/d/queue/",
        "/org/org-1/dept/d/dept/e",
        "/org/org-1/dept/d/",
        "/ORG/org-1",
        "/org/org-1/../org-2",
        "/org/%00",
        "/org/a%0Ab",
        "/org/%",
        "/org/%zz",
        "/org/%FF",
        "/org/org%2D1",
        "/org/a%3ab",
        "/org/a:b",
        "/org/a b",
        "/org/\u{e9}",
        "/org/*",
        "/custom",
        "/admin",
        long.as_str(),
    ] {
        // Credentials of whatever organization a careless reader could take the name for.
        for organization in ["org-1", "org-2", "a:b", "a b", "\u{e9}", "*"] {
            let refused = refused(&server, namespace, Some(who(organization))).await;
            assert!(matches!(refused, Refused::Connect(_)), "{namespace:?} as {organization}: {refused:?}");
        }
    }
    server.count("only the victim's namespace is there", |census| census.namespaces == 1 && census.seats == 1).await;
    victim.settle().await;
    victim.expect_silence(&server).await;
}

#[tokio::test]
async fn an_id_with_separators_does_not_open_what_it_spells() {
    let server = TestServer::start(|_| {}).await;
    let mut victim = server.member("org-1", "/org/org-1/dept/d").await;
    for organization in ["org-1/dept/d", "org-1%2Fdept%2Fd", "org-1:dept:d", "org-1,"] {
        let refused = refused(&server, "/org/org-1/dept/d", Some(who(organization))).await;
        assert!(about_access(&refused), "{organization}: {refused:?}");
        let target = json!({ "organization_id": organization });
        server.broadcast("kpi:update", json!({}), target).await;
    }
    victim.expect_silence(&server).await;
}

#[tokio::test]
async fn a_comma_in_a_name_harms_nobody_else() {
    let server = TestServer::start(|_| {}).await;
    let mut bystander = server.member("org-1", "/org/org-1").await;
    let client = server.connect("/").await;
    // The comma ends the name, so what follows is no JSON.
    client.wire.send(r#"40/org/org-1,x,{"user_id":"ann","organization_id":"org-1"}"#);
    client.wire.send("40/org/org-1,");
    client.wire.written().await;
    drop(client);
    bystander.settle().await;
    server.count("only the bystander is left", |census| census.connections == 1).await;
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_as_it_was() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.agent("org-1").await;
    client.enter("/org/org-2", Some(&who("org-1"))).await.unwrap_err();
    client.namespace = "/".into();
    client.settle().await;
    client.enter("/org/org-1", Some(&who("org-1"))).await.unwrap();
    client.settle().await;
}

#[tokio::test]
async fn an_empty_namespace_is_swept() {
    let server = TestServer::start(|_| {}).await;
    for n in 0..20 {
        let client = server.member("org-1", &format!("/org/org-1/queue/q{n}")).await;
        assert!(server.census().namespaces >= 1);
        drop(client);
    }
    server.count("no namespace is left", |census| census.namespaces == 0 && census.rooms == 0).await;
}

#[tokio::test]
async fn one_connection_has_one_seat_in_an_organization() {
    let server = TestServer::start(|config| config.limits.max_connections_per_org = 1).await;
    let mut client = server.agent("org-1").await;
    for namespace in ["/org/org-1", "/org/org-1/dept/d"] {
        client.enter(namespace, Some(&who("org-1"))).await.unwrap();
    }
    let census = server.census();
    assert_eq!((census.connections, census.sockets, census.seats), (1, 3, 1));
    let refused = refused(&server, "/org/org-1", Some(who("org-1"))).await;
    assert!(refused.message().starts_with("CONNECTION_LIMIT"), "{refused:?}");
    client.leave();
    client.namespace = "/".into();
    server.count("one socket has left", |census| census.sockets == 2).await;
    assert_eq!(server.census().seats, 1);
    client.settle().await;
}

#[tokio::test]
async fn leaving_and_entering_again_at_once_is_answered_each_time() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 1_000_000).await;
    let mut client = server.connect("/").await;
    for _ in 0..100 {
        client.enter("/org/org-1", Some(&who("org-1"))).await.unwrap();
        client.leave();
    }
    client.enter("/org/org-1", Some(&who("org-1"))).await.unwrap();
    client.settle().await;
    for _ in 0..100 {
        client.leave();
        client.wire.send(format!("40/org/org-1,{}", who("org-1")));
        client.take(|packet| packet.kind == Kind::Connect).await;
    }
    client.settle().await;
}

#[tokio::test]
async fn a_connection_can_be_in_so_many_namespaces() {
    let server = TestServer::start(|config| config.limits.max_namespaces_per_connection = 3).await;
    let mut client = server.connect("/").await;
    for queue in ["a", "b"] {
        client.enter(&format!("/org/org-1/queue/{queue}"), Some(&who("org-1"))).await.unwrap();
    }
    let refused = client.enter("/org/org-1/queue/c", Some(&who("org-1"))).await.unwrap_err();
    assert!(matches!(refused, Refused::Connect(_)), "{refused:?}");
    client.namespace = "/".into();
    client.settle().await;
    client.namespace = "/org/org-1/queue/a".into();
    client.leave();
    server.count("there is room again", |census| census.sockets == 2).await;
    client.enter("/org/org-1/queue/c", Some(&who("org-1"))).await.unwrap();
}

/// A namespace is swept when its last socket leaves, and socketioxide drops packets of a swept one in silence:
/// whoever was on its way in has to be either a full member or cut.
#[tokio::test]
async fn a_socket_whose_namespace_is_swept_meanwhile_is_not_left_in_limbo() {
    let server = TestServer::start(|config| config.limits.room_cleanup_interval_ms = 1).await;
    for _ in 0..150 {
        let leaving = loop {
            let options = ConnectOptions::named().namespace("/org/org-1").auth(who("org-1"));
            match server.try_connect(options).await {
                Ok(client) => break client,
                Err(Refused::Closed) => {}
                Err(other) => panic!("neither in nor cut: {other:?}"),
            }
        };
        let options = ConnectOptions::named().namespace("/org/org-1").auth(who("org-1"));
        let (_, entering) = tokio::join!(leaving.disconnect(), server.try_connect(options));
        match entering {
            Ok(client) => member_or_cut(&server, client).await,
            Err(Refused::Closed) => {}
            Err(other) => panic!("neither in nor cut: {other:?}"),
        }
    }
    server.count("nobody is left", |census| census.seats == 0 && census.connections == 0).await;
}

async fn member_or_cut(server: &TestServer, mut client: Client) {
    let id = client.emit_unanswered("client:ping", &[json!({})]);
    if client.answer_or_end(id).await.is_none() {
        let closure = client.closed().await;
        return assert!(!closure.terminal, "a cut for the server's own reasons lets the client return");
    }
    server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    assert_eq!(client.next_event().await.name, "kpi:update");
}
