//! Sessions of others: what is public opens nothing, and what is secret opens only what it is for.

use serde_json::{Value, json};

use crate::kit::{Client, ConnectOptions, Endpoint, Probe, Protocol, Refused, TestServer, Transport};

fn endpoint(server: &TestServer) -> Endpoint {
    let url = reqwest::Url::parse(&server.url("/ws/")).expect("a URL");
    Endpoint { url, headers: Vec::new(), protocol: Protocol::V4, receive_buffer: None, elsewhere: None }
}

/// Asserts that an id opens no session of Engine.IO, in any way to come in with it.
async fn opens_no_session(server: &TestServer, id: &str, why: &str) {
    let thief = endpoint(server);
    for call in [thief.poll(Some(id)), thief.post(id, "41")] {
        let reply = server.request(call).await;
        assert_eq!((reply.status, reply.json()["code"].as_u64()), (400, Some(1)), "{why}: {}", reply.text);
    }
    match thief.websocket(Some(id)).await {
        Err(Refused::Http(reply)) => assert_eq!(reply.status, 400, "{why}"),
        other => panic!("{why}: {:?}", other.map(drop)),
    }
}

/// Asserts that a socket is still there, and hears what is for it.
async fn is_unharmed(server: &TestServer, client: &mut Client) {
    let marker = server.mark(client).await;
    client.expect_silence_until(&marker).await;
    client.settle().await;
}

#[tokio::test]
async fn a_public_id_opens_no_session() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let mut owner =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org").await;
        opens_no_session(&server, &owner.socket_id, "a public id").await;
        let auth = json!({ "user_id": owner.user, "organization_id": "org", "pid": owner.socket_id, "offset": "" });
        let mut thief = server.connect_with(ConnectOptions::named().auth(auth)).await;
        assert_eq!(thief.next_named("connected").await.payload()["recovered"], false);
        assert_ne!(thief.socket_id, owner.socket_id);
        is_unharmed(&server, &mut owner).await;
    }
}

#[tokio::test]
async fn an_engine_session_is_opened_by_nothing_but_its_own_id() {
    let server = TestServer::start(|_| {}).await;
    let mut owner =
        server.connect_with(ConnectOptions::named().transport(Transport::Polling)).await.authenticate("org").await;
    let sid = owner.wire.sid().to_owned();
    let other = |at: usize| {
        let letter = if sid.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{letter}{}", &sid[..at], &sid[at + 1..])
    };
    let guesses = [
        String::new(),
        sid.to_lowercase() + "A",
        sid[..sid.len() - 1].to_owned(),
        format!("{sid}="),
        format!(" {sid}"),
        other(0),
        other(sid.len() / 2),
        "../".to_owned() + &sid,
    ];
    for guess in guesses {
        opens_no_session(&server, &guess, &guess).await;
    }
    is_unharmed(&server, &mut owner).await;
}

#[tokio::test]
async fn a_session_that_is_on_a_websocket_is_neither_polled_nor_taken_over_by_another() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Upgrade] {
        let mut owner =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org").await;
        let sid = owner.wire.sid().to_owned();
        let thief = endpoint(&server);
        for call in [thief.poll(Some(&sid)), thief.post(&sid, "41")] {
            let reply = server.request(call).await;
            assert_eq!(reply.status, 400, "{transport:?}: {}", reply.text);
        }
        match thief.websocket(Some(&sid)).await {
            Err(Refused::Http(reply)) => assert_eq!(reply.status, 400, "{transport:?}"),
            Err(other) => panic!("{transport:?}: {other:?}"),
            // One that began on polling would take a probe, but it has gone over already.
            Ok(socket) => {
                let mut probe = Probe { socket };
                probe.say(&["2probe", "5", "41"]).await;
                while probe.hear().await.is_some_and(|packet| packet == "3probe") {}
            }
        }
        is_unharmed(&server, &mut owner).await;
    }
}

#[tokio::test]
async fn a_pid_is_told_to_its_own_client_only() {
    let server = TestServer::start(|_| {}).await;
    let owner = server.agent("org").await;
    let pid = owner.connected["pid"].as_str().expect("a secret").to_owned();
    server.broadcast("kpi:update", json!({ "n": 1 }), json!({ "organization_id": "org" })).await;
    for path in [
        "/connections",
        &format!("/connections/{}", owner.socket_id),
        "/rooms",
        "/stats",
        "/presence?organization_id=org",
    ] {
        let (status, answer) = server.get(path).await;
        assert_eq!(status, 200, "{path}");
        let text = answer.to_string();
        assert!(!text.contains(&pid) && !text.contains(owner.wire.sid()), "{path}");
    }
}

#[tokio::test]
async fn the_session_id_of_another_user_brings_nothing_back() {
    let server = TestServer::start(|_| {}).await;
    let auth = |user: &str, organization: &str| json!({ "user_id": user, "organization_id": organization, "session_id": "tab-1" });
    let restored = async |user: &str, organization: &str| -> Value {
        let mut client = server.connect_with(ConnectOptions::named()).await;
        let ack = client.emit("authenticate", auth(user, organization)).await;
        assert_eq!(ack["success"], true, "{ack}");
        client.disconnect().await;
        ack["restored_subscriptions"].clone()
    };
    let mut owner = server.connect_with(ConnectOptions::named().auth(auth("ann", "org-1"))).await;
    owner.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    owner.wire.crash();
    server.count("the owner is gone", |census| census.sockets == 0).await;
    for (user, organization) in [("eve", "org-1"), ("ann", "org-2")] {
        assert_eq!(restored(user, organization).await, Value::Null, "{user} of {organization}");
    }
    assert_eq!(restored("ann", "org-1").await.as_array().map(Vec::len), Some(1));
}
