//! Two organizations on one server: neither learns anything of the other, not even what exists.

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::{Config, Right};

use crate::kit::{Call, Client, ConnectOptions, Plain, Refused, Reply, TestServer, key};

const ALL: &[Right] = &[Right::Publish, Right::Read, Right::Admin];

fn two_tenants(config: &mut Config) {
    config.api.keys = vec![
        key("admin", ALL, None),
        key("ours", ALL, Some(&["ours"])),
        key("theirs", ALL, Some(&["theirs"])),
        key("of-both", ALL, Some(&["ours", "theirs"])),
    ];
    let doors = &mut config.doors;
    (doors.dexter.enabled, doors.dexter.organization) = (true, "theirs".into());
    doors.dexter.anonymous_channels = vec!["issues".into()];
    (doors.workmatrix.enabled, doors.workmatrix.organization) = (true, "theirs".into());
    (doors.apier.enabled, doors.apier.organization) = (true, "ours".into());
    config.presence.grace_ms = 0;
}

fn call(server: &TestServer, name: &str, method: Method, path: &str) -> Call {
    server.call(method, path).header("authorization", &format!("Bearer {name}-secret"))
}

async fn send(call: Call) -> Reply {
    call.send().await.expect("an answer")
}

/// A socket of the other organization, and what it has left behind.
struct Theirs {
    client: Client,
    message_id: String,
    position: String,
}

async fn theirs(server: &TestServer) -> Theirs {
    let client = server.connect_with(ConnectOptions::named()).await.authenticate_as("their-user", "theirs").await;
    let mut client = client.without_implicit().await;
    client.subscribe(json!({ "channels": ["kpi"], "department_id": "sales" })).await;
    let body = json!({
        "event": "kpi:update", "data": { "n": 1 }, "requires_ack": true, "ack_timeout_ms": 60_000,
        "target": { "organization_id": "theirs", "department_id": "sales" },
    });
    let call = call(server, "theirs", Method::POST, "/broadcast").header("idempotency-key", "their key");
    let answer = send(call.json(&body)).await.json();
    assert_eq!(answer["recipients_count"], 1, "{answer}");
    client.next_named("kpi:update").await;
    let text = |field: &str| answer[field].as_str().expect("text").to_owned();
    Theirs { client, message_id: text("message_id"), position: text("position") }
}

/// An answer with the name that was asked for taken out, so that answers about two names can be compared.
fn anonymous(reply: &Reply, name: &str) -> (u16, String, Vec<String>) {
    let encoded = name.replace('%', "%25");
    let text = reply.text.replace(name, "NAME").replace(&encoded, "NAME");
    let mut headers: Vec<_> = reply.headers.keys().map(|name| name.as_str().to_owned()).collect();
    headers.sort();
    (reply.status, text, headers)
}

/// Calls with a key of ours about something of theirs and about something that does not exist: the answers are alike.
async fn assert_alike(
    server: &TestServer,
    method: &Method,
    path: &str,
    theirs: &str,
    nobodys: &str,
    body: Option<&Value>,
) -> Reply {
    let mut answers = Vec::new();
    for name in [theirs, nobodys] {
        let mut call = call(server, "ours", method.clone(), &path.replace("NAME", name));
        if let Some(body) = body {
            call = call.raw_json(body.to_string().replace("NAME", name));
        }
        let reply = send(call).await;
        answers.push((anonymous(&reply, name), reply));
    }
    let [(theirs, reply), (nobodys, _)] = <[_; 2]>::try_from(answers).expect("two");
    assert_eq!(theirs, nobodys, "{method} {path}");
    reply
}

#[tokio::test]
async fn a_key_of_one_organization_cannot_tell_what_exists_in_another() {
    let server = TestServer::start(two_tenants).await.with_key("admin");
    let theirs = theirs(&server).await;
    let ours = server.agent("ours").await;
    let socket = theirs.client.socket_id.as_str();
    let nobody = "0".repeat(socket.len());
    let no_message = "msg_1_abcdefghi";
    let get = Method::GET;
    for (method, path, name, nobodys, status) in [
        (&get, "/connections/NAME", socket, nobody.as_str(), 404),
        (&Method::DELETE, "/connections/NAME", socket, &nobody, 404),
        (&get, "/connections?organization_id=NAME", "theirs", "nobody", 200),
        (&get, "/connections?user_id=NAME", "their-user", "no-user", 200),
        (&get, "/connections?room=NAME", "kpi:org:theirs:dept:sales", "kpi:org:nobody:dept:sales", 200),
        (&get, "/messages/NAME", &theirs.message_id, no_message, 404),
        (&get, "/messages/NAME/receipts", &theirs.message_id, no_message, 404),
        (&get, "/rooms/NAME/messages", "kpi:org:theirs:dept:sales", "kpi:org:nobody:dept:sales", 404),
        (&get, "/rooms/NAME/messages", "org:theirs", "org:nobody", 404),
        (&get, "/rooms/NAME/messages", "user:theirs:their-user", "user:theirs:no-user", 404),
        (&get, "/rooms/NAME/messages", socket, &nobody, 404),
        (&get, "/rooms/org:ours/messages?since=NAME", &theirs.position, &theirs.position.replace(".", ".9"), 200),
        (&get, "/presence?organization_id=NAME", "theirs", "nobody", 200),
        (&get, "/presence?organization_id=NAME&include=offline", "theirs", "nobody", 200),
        (&get, "/presence?organization_id=theirs&user_id=NAME", "their-user", "no-user", 200),
        (&get, "/presence?organization_id=ours&user_id=NAME", "their-user", "no-user", 200),
        (&get, "/dexter/connections", "", "", 403),
    ] {
        // A position is of a shard and not of an organization, so what is at it may differ for ours alone.
        if path.contains("since") {
            let reply = send(call(&server, "ours", method.clone(), &path.replace("NAME", name))).await;
            assert_eq!((reply.status, &reply.json()["messages"]), (status, &json!([])));
            continue;
        }
        let reply = assert_alike(&server, method, path, name, nobodys, None).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        if path.starts_with("/presence") {
            assert!(!reply.text.contains("last_seen"), "{path}: {}", reply.text);
        }
    }
    for path in ["/connections", "/rooms"] {
        let listed = send(call(&server, "ours", Method::GET, path)).await.text;
        assert!(listed.contains(&ours.socket_id) && !listed.contains("theirs"), "{path}: {listed}");
        assert!(!listed.contains(socket) && !listed.contains("their-user"), "{path}: {listed}");
    }
    let stats = send(call(&server, "ours", Method::GET, "/stats")).await.text;
    assert!(!stats.contains("theirs"), "{stats}");
}

#[tokio::test]
async fn a_broadcast_cannot_tell_what_exists_in_another_organization() {
    let server = TestServer::start(two_tenants).await.with_key("admin");
    let mut theirs = theirs(&server).await;
    let _ours = server.agent("ours").await;
    let socket = theirs.client.socket_id.clone();
    let nobody = "0".repeat(socket.len());
    let post = Method::POST;
    let body = |target: Value| json!({ "event": "kpi:update", "data": {}, "target": target });
    for (target, name, nobodys, status) in [
        (json!({ "organization_id": "NAME" }), "theirs", "nobody", 403),
        (json!({ "organization_id": "NAME", "department_id": "sales" }), "theirs", "nobody", 403),
        (json!({ "organization_id": "theirs", "user_ids": ["NAME"] }), "their-user", "no-user", 403),
        (json!({ "organization_id": "ours", "socket_ids": ["NAME"] }), socket.as_str(), nobody.as_str(), 403),
        (json!({ "organization_id": "ours", "rooms": ["NAME"] }), &socket, &nobody, 403),
        (json!({ "organization_id": "ours", "rooms": ["NAME"] }), "kpi:org:theirs", "kpi:org:nobody", 403),
        (json!({ "organization_id": "ours", "user_ids": ["NAME"] }), "their-user", "no-user", 200),
        (json!({ "organization_id": "ours", "except_socket_ids": ["NAME"] }), &socket, &nobody, 200),
    ] {
        for path in ["/broadcast", "/broadcast?explain=true", "/broadcast/batch"] {
            let mut body = body(target.clone());
            if path == "/broadcast/batch" {
                body = json!([body]);
            }
            let mut told = Vec::new();
            for name in [name, nobodys] {
                let call = call(&server, "ours", post.clone(), path);
                let reply = send(call.raw_json(body.to_string().replace("NAME", name))).await;
                // What is published has an id and a place of its own.
                let mut answer = reply.json();
                let answer = if path == "/broadcast/batch" { &mut answer["results"][0] } else { &mut answer };
                for field in ["message_id", "position", "sent_at"] {
                    answer.as_object_mut().expect("an object").remove(field);
                }
                // It waits for a user of ours whom nobody has heard of, whether or not another has that name.
                told.push((answer.clone(), reply.status));
            }
            assert_eq!(told[0], told[1], "{path} {target}");
            let own = told[0].0["status"].as_u64().unwrap_or(told[0].1.into());
            assert_eq!(own, status, "{path} {target}: {}", told[0].0);
        }
    }
    for (path, fields) in [
        ("/broadcast/kpi", json!({ "organization_id": "NAME" })),
        ("/broadcast/alert", json!({ "organization_id": "NAME", "status": "resolved" })),
    ] {
        let reply = assert_alike(&server, &post, path, "theirs", "nobody", Some(&fields)).await;
        assert_eq!(reply.status, 403, "{path}: {}", reply.text);
    }
    for path in ["/dexter/notify/NAME", "/dexter/users/NAME/assignments", "/workmatrix/users/NAME/status"] {
        let fields = json!({ "issue_id": 1, "title": "t", "status": "active" });
        let reply = assert_alike(&server, &post, path, "their-user", "no-user", Some(&fields)).await;
        assert_eq!(reply.status, 403, "{path}: {}", reply.text);
    }
    theirs.client.expect_silence(&server).await;
}

#[tokio::test]
async fn an_idempotency_key_means_something_to_its_own_key_and_organization_only() {
    let server = TestServer::start(two_tenants).await.with_key("admin");
    let theirs = theirs(&server).await;
    let body = |organization: &str| json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": organization } });
    let mut seen = vec![json!(theirs.message_id)];
    // Their key is used by them for another body: a conflict would tell that it was used at all.
    for (name, organization) in [("ours", "ours"), ("of-both", "ours"), ("of-both", "theirs"), ("admin", "theirs")] {
        let call = call(&server, name, Method::POST, "/broadcast").header("idempotency-key", "their key");
        let reply = send(call.json(&body(organization))).await;
        assert_eq!(reply.status, 200, "{name} for {organization}: {}", reply.text);
        let id = reply.json()["message_id"].clone();
        assert!(!seen.contains(&id), "{name} for {organization} is answered with somebody else's message");
        seen.push(id);
    }
    let call = call(&server, "ours", Method::POST, "/broadcast").header("idempotency-key", "their key");
    assert_eq!(send(call.json(&body("theirs"))).await.status, 403, "the key is no way around");
}

#[tokio::test]
async fn without_a_key_nothing_tells_what_exists() {
    let server = TestServer::start(two_tenants).await.with_key("admin");
    let theirs = theirs(&server).await;
    let nobody = "0".repeat(theirs.client.socket_id.len());
    for (path, name, nobodys) in [
        ("/connections/NAME", theirs.client.socket_id.as_str(), nobody.as_str()),
        ("/messages/NAME", &theirs.message_id, "msg_1_abcdefghi"),
        ("/messages/NAME/receipts", &theirs.message_id, "msg_1_abcdefghi"),
        ("/rooms/NAME/messages", "org:theirs", "org:nobody"),
        ("/presence?organization_id=NAME", "theirs", "nobody"),
        ("/nothing/NAME", "theirs", "nobody"),
    ] {
        let mut told = Vec::new();
        for name in [name, nobodys] {
            let url = server.url(&format!("/api/ws{}", path.replace("NAME", name)));
            told.push(anonymous(&server.request(Call::get(&url)).await, name));
        }
        assert_eq!(told[0], told[1], "{path}");
        assert_eq!(told[0].0, if path.starts_with("/nothing") { 404 } else { 401 }, "{path}");
    }
}

#[tokio::test]
async fn a_socket_cannot_tell_what_exists_in_another_organization() {
    let server = TestServer::start(two_tenants).await.with_key("admin");
    let mut theirs = theirs(&server).await;
    let mut ours = server.agent("ours").await;
    for (event, payload, name, nobodys) in [
        ("subscribe", json!({ "channels": ["kpi"], "organization_id": "NAME" }), "theirs", "nobody"),
        ("subscribe", json!({ "channels": ["presence"], "organization_id": "NAME" }), "theirs", "nobody"),
        (
            "subscribe",
            json!({ "channels": ["kpi"], "organization_id": "NAME", "since": theirs.position }),
            "theirs",
            "nobody",
        ),
        ("subscribe", json!({ "channels": ["NAME"] }), "kpi:org:theirs", "kpi:org:nobody"),
        (
            "unsubscribe",
            json!({ "channels": ["kpi"], "subscription_id": "NAME" }),
            "sub_1_abcdefghi",
            "sub_2_abcdefghi",
        ),
        ("ack", json!({ "message_id": "NAME" }), &theirs.message_id, "msg_1_abcdefghi"),
        (
            "message",
            json!({ "message_id": "m", "event": "typing", "data": { "room": "NAME" } }),
            "user:theirs:their-user",
            "user:theirs:no-user",
        ),
        ("authenticate", json!({ "user_id": "NAME", "organization_id": "theirs" }), "their-user", "no-user"),
    ] {
        let mut told = Vec::new();
        for name in [name, nobodys] {
            let payload = serde_json::from_str(&payload.to_string().replace("NAME", name)).expect("JSON");
            let answer = ours.emit(event, payload).await;
            told.push(answer.to_string().replace(name, "NAME"));
        }
        assert_eq!(told[0], told[1], "{event} {payload}");
    }
    // Their message is still not acknowledged, whoever else has said so.
    let path = format!("/messages/{}/receipts", theirs.message_id);
    let receipts = send(call(&server, "theirs", Method::GET, &path)).await.json();
    assert_eq!((&receipts["acknowledged"], receipts["pending"].as_array().map(Vec::len)), (&json!([]), Some(1)));
    // A position of theirs is a place in the log and not a way to what stands there.
    let ack = ours.subscribe(json!({ "channels": ["kpi"], "since": theirs.position })).await;
    assert_eq!(ack["replayed"], 0, "{ack}");
    let ack = ours.subscribe(json!({ "channels": ["all"], "since": "last" })).await;
    assert!(!ack.to_string().contains("theirs"), "{ack}");
    let told = ours.drain(&server).await;
    assert!(told.iter().all(|event| !event.raw.contains("theirs")), "{told:#?}");
    theirs.client.expect_silence(&server).await;
}

#[tokio::test]
async fn a_namespace_of_another_organization_is_refused_like_one_of_nobody() {
    let server = TestServer::start(two_tenants).await.with_key("admin");
    let member = server.member("theirs", "/org/theirs/dept/sales").await;
    let mut told = Vec::new();
    for organization in ["theirs", "nobody"] {
        for rest in ["", "/dept/sales", "/queue/q"] {
            let options = ConnectOptions::named()
                .namespace(&format!("/org/{organization}{rest}"))
                .auth(json!({ "user_id": "u", "organization_id": "ours" }));
            let Err(Refused::Connect(data)) = server.try_connect(options).await else { panic!("let in") };
            told.push((rest, data.to_string().replace(organization, "NAME")));
        }
    }
    assert_eq!(told[..3], told[3..]);
    drop(member);
}

#[tokio::test]
async fn a_session_of_another_organization_is_not_taken_up_by_its_own_id() {
    let server = TestServer::start(two_tenants).await.with_key("admin");
    let auth = json!({ "user_id": "ann", "organization_id": "theirs", "session_id": "s-1" });
    let mut first = server.connect_with(ConnectOptions::named().auth(auth)).await;
    first.subscribe(json!({ "channels": ["kpi"] })).await;
    first.disconnect().await;
    let mut other = server.connect("/").await;
    let auth = json!({ "user_id": "ann", "organization_id": "ours", "session_id": "s-1" });
    let ack = other.emit("authenticate", auth).await;
    assert!(ack.get("restored_subscriptions").is_none_or(|restored| *restored == json!([])), "{ack}");
    // A secret that nobody was given is answered like none.
    let auth = json!({ "user_id": "ann", "organization_id": "ours", "pid": "abcdefghijklmnopqrst", "offset": "x.1.0" });
    let mut stranger = server.connect_with(ConnectOptions::named().auth(auth)).await;
    assert_eq!(stranger.next_named("connected").await.payload()["recovered"], false);
}

#[tokio::test]
async fn a_plain_client_cannot_tell_what_exists_in_another_organization() {
    let server = TestServer::start(two_tenants).await.with_key("admin");
    let theirs = theirs(&server).await;
    let mut plain = Plain::at(server.address, "/ws").await;
    plain.authenticate("ann", "ours").await;
    for (event, data, name, nobodys) in [
        ("subscribe", json!({ "channels": ["kpi"], "organization_id": "NAME" }), "theirs", "nobody"),
        ("subscribe", json!({ "channels": ["presence"], "organization_id": "NAME" }), "theirs", "nobody"),
        ("ack", json!({ "message_id": "NAME" }), &theirs.message_id, "msg_1_abcdefghi"),
        ("authenticate", json!({ "user_id": "NAME", "organization_id": "theirs" }), "their-user", "no-user"),
    ] {
        let mut told = Vec::new();
        for name in [name, nobodys] {
            let data: Value = serde_json::from_str(&data.to_string().replace("NAME", name)).expect("JSON");
            plain.send(json!({ "event": event, "data": data, "id": 1 })).await;
            let mut answer = plain.next_with("event", &format!("{event}:ack")).await;
            answer["data"].as_object_mut().expect("data").remove("timestamp");
            told.push(answer.to_string().replace(name, "NAME"));
        }
        assert_eq!(told[0], told[1], "{event} {data}");
    }
    plain
        .send(json!({ "event": "subscribe", "data": { "channels": ["kpi"], "since": theirs.position }, "id": 2 }))
        .await;
    let answer = loop {
        let frame = plain.next().await.expect("a frame");
        assert_ne!(frame["message_id"], json!(theirs.message_id), "{frame}");
        if frame["id"] == 2 {
            break frame;
        }
    };
    assert_eq!(answer["data"]["replayed"], 0, "{answer}");
    plain.close().await;

    // At a door that knows no organization, theirs cannot even be named.
    let mut apier = Plain::at(server.address, "/events/ws").await;
    for channel in ["kpi", "kpi:org:theirs", "issues", "presence"] {
        apier
            .send(
                json!({ "type": "subscribe", "channel": channel, "channels": [channel], "organization_id": "theirs" }),
            )
            .await;
    }
    let marker = json!({ "organization_id": "ours" });
    server.broadcast("event_created", json!({ "id": "marker" }), marker).await;
    loop {
        let frame = apier.next().await.expect("a frame");
        assert_ne!(frame["message_id"], json!(theirs.message_id), "{frame}");
        if frame.to_string().contains("marker") {
            break;
        }
    }
    apier.close().await;
    let path = format!("/messages/{}/receipts", theirs.message_id);
    let receipts = send(call(&server, "theirs", Method::GET, &path)).await.json();
    assert_eq!(receipts["acknowledged"], json!([]), "{receipts}");
}
