//! Tokens: who a client is, what it may receive, for how long, and until somebody takes that back.

use serde_json::{Value, json};
use tiercast::config::{AuthMode, Config, JwtAlgorithm, Right, Secret};

use crate::kit::{
    Answer, Client, ConnectOptions, KeyServer, Plain, Refused, SECRET, Signer, TestServer, Transport, eventually, key,
    part, seconds_from_now, token,
};

fn with_tokens(config: &mut Config) {
    config.auth.mode = AuthMode::Jwt;
    config.auth.jwt.secret = Secret::from(SECRET.to_owned());
    config.auth.jwt.leeway_ms = 0;
}

async fn server() -> TestServer {
    TestServer::start(with_tokens).await
}

/// Claims of a user of `org-1`, with these beside them.
fn claims(user: &str, more: Value) -> Value {
    let mut all = json!({ "sub": user, "organization_id": "org-1", "iat": seconds_from_now(-60.0) });
    let Value::Object(more) = more else { panic!("claims are an object") };
    all.as_object_mut().unwrap().extend(more);
    all
}

fn of(user: &str) -> String {
    token(claims(user, json!({})))
}

/// A socket that has come in by a token.
async fn enter(server: &TestServer, token: &str) -> Client {
    let mut client = server.connect_with(ConnectOptions::named().auth(json!({ "token": token }))).await;
    client.organization = "org-1".into();
    client
}

async fn publish(server: &TestServer, target: Value) {
    server.broadcast("kpi:update", json!({ "n": 1 }), target).await;
}

fn refusal(result: Result<Client, Refused>) -> String {
    result.err().expect("refused").message().to_owned()
}

#[tokio::test]
async fn a_token_is_taken_wherever_a_client_can_put_it() {
    let server = server().await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let named = || ConnectOptions::named().transport(transport);
        let ways = [
            named().auth(json!({ "token": of("ann") })),
            named().query("token", &of("ann")),
            named().header("authorization", &format!("Bearer {}", of("ann"))),
        ];
        for options in ways {
            let client = server.connect_with(options).await;
            server.count("the token identifies", |census| census.sessions_authenticated == 1).await;
            let (_, listed) = server.get("/connections?user_id=ann&organization_id=org-1").await;
            assert_eq!(listed["connections"][0]["socket_id"], client.socket_id.as_str());
            client.disconnect().await;
            server.count("it is gone", |census| census.sockets == 0).await;
        }
    }
    let mut client = server.connect("/").await;
    let expires = seconds_from_now(3_600.0).floor();
    let ack = client.emit("authenticate", json!({ "token": token(claims("ann", json!({ "exp": expires }))) })).await;
    assert_eq!((&ack["user_id"], &ack["organization_id"]), (&json!("ann"), &json!("org-1")));
    assert!(ack["expires_at"].as_str().is_some_and(|at| at.ends_with(".000Z")), "{ack}");
    // What the handshake brought holds for who names itself without a token.
    let mut client = server.connect_with(ConnectOptions::named().query("token", &of("ann"))).await;
    let ack = client.emit("authenticate", json!({ "user_id": "ann", "organization_id": "org-1" })).await;
    assert_eq!(ack["success"], true, "{ack}");
}

#[tokio::test]
async fn whoever_proves_nothing_gets_nowhere() {
    let server = server().await;
    let mut client = server.connect("/").await;
    let ack = client.emit("authenticate", json!({ "user_id": "ann", "organization_id": "org-1" })).await;
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("AUTH_FAILED")));
    assert!(ack["message"].as_str().unwrap().contains("a token is missing"), "{ack}");
    for (field, id) in [("user_id", "bob"), ("organization_id", "org-2")] {
        let ack = client.emit("authenticate", json!({ "token": of("ann"), field: id })).await;
        assert_eq!(ack["code"], "AUTH_FAILED");
        assert!(ack["message"].as_str().unwrap().starts_with(field), "{ack}");
    }
    let ack = client.emit("subscribe", json!({ "channels": ["kpi"] })).await;
    assert_eq!(ack["code"], "UNAUTHORIZED");
    let expired = token(claims("ann", json!({ "exp": seconds_from_now(-1.0) })));
    let early = token(claims("ann", json!({ "nbf": seconds_from_now(60.0) })));
    let (good, another) = (of("ann"), of("bob"));
    let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, another.rsplit_once('.').unwrap().1);
    for (bad, why) in
        [(&expired, "expired"), (&early, "not valid yet"), (&forged, "signature"), (&"x".into(), "malformed")]
    {
        let options = ConnectOptions::named();
        let ways = [
            options.clone().auth(json!({ "token": bad })),
            options.clone().query("token", bad),
            options.header("authorization", &format!("Bearer {bad}")),
        ];
        for options in ways {
            let message = refusal(server.try_connect(options).await);
            assert!(message.starts_with("AUTH_FAILED: ") && message.contains(why), "{message}");
            assert!(!message.contains(bad.as_str()) || bad == "x", "a refusal never repeats a token");
        }
    }
    let namespace = ConnectOptions::named().namespace("/org/org-1");
    let auth = json!({ "user_id": "ann", "organization_id": "org-1" });
    assert!(refusal(server.try_connect(namespace.clone()).await).starts_with("AUTH_FAILED"));
    assert!(refusal(server.try_connect(namespace.auth(auth)).await).starts_with("AUTH_FAILED"));
    server.count("nobody is in", |census| census.sessions_authenticated == 0).await;
}

#[tokio::test]
async fn claims_bound_what_a_socket_receives_and_where_it_gets_in() {
    let server = server().await;
    let narrow = token(claims("ann", json!({ "departments": ["sales"], "channels": ["kpi"] })));
    let mut client = enter(&server, &narrow).await;
    for target in [
        json!({ "organization_id": "org-1", "department_id": "support" }),
        json!({ "organization_id": "org-1" }),
        json!({ "organization_id": "org-2", "department_id": "sales" }),
    ] {
        publish(&server, target).await;
    }
    let sales = json!({ "organization_id": "org-1", "department_id": "sales" });
    server.broadcast("backlog:update", json!({}), sales.clone()).await;
    client.expect_silence(&server).await;
    publish(&server, sales).await;
    assert_eq!(client.next_event().await.name, "kpi:update");
    for request in [
        json!({ "channels": ["kpi"], "department_id": "support" }),
        json!({ "channels": ["kpi"], "organization_id": "org-2" }),
        json!({ "channels": ["backlog"] }),
        json!({ "channels": ["all"] }),
    ] {
        let ack = client.emit("subscribe", request.clone()).await;
        assert_eq!(ack["code"], "UNAUTHORIZED", "{request}: {ack}");
    }
    let ack = client.subscribe(json!({ "channels": ["kpi"] })).await;
    assert_eq!(ack["rooms"], json!(["kpi:org:org-1:dept:sales"]));
    let at = |namespace: &str| {
        ConnectOptions::named().namespace(namespace).auth(json!({ "token": narrow, "channels": ["kpi"] }))
    };
    for namespace in ["/org/org-2", "/org/org-1/dept/support"] {
        let message = refusal(server.try_connect(at(namespace)).await);
        assert!(message.starts_with("UNAUTHORIZED"), "{message}");
    }
    let mut member = server.connect_with(at("/org/org-1")).await;
    member.organization = "org-1".into();
    publish(&server, json!({ "organization_id": "org-1", "department_id": "support" })).await;
    member.expect_silence(&server).await;
}

#[tokio::test]
async fn an_expired_token_is_told_and_renewed_or_cut() {
    let server = TestServer::start(|config| {
        with_tokens(config);
        config.auth.refresh_grace_ms = 2_000;
    })
    .await;
    let soon = || token(claims("ann", json!({ "exp": seconds_from_now(1.0) })));
    let mut renewing = enter(&server, &soon()).await;
    let mut silent = enter(&server, &soon()).await;
    let mut plain = Plain::at(server.address, &format!("/ws?token={}", soon())).await;
    plain.next_with("event", "connected").await;
    for client in [&mut renewing, &mut silent] {
        let error = client.next_error("AUTH_FAILED").await;
        assert!(error["message"].as_str().unwrap().contains("expired"), "{error}");
    }
    assert_eq!(plain.next_with("event", "error").await["data"]["code"], "AUTH_FAILED");
    let ack = renewing.emit("authenticate", json!({ "token": of("ann") })).await;
    assert_eq!(ack["success"], true, "{ack}");
    assert!(silent.closed().await.terminal);
    assert_eq!(plain.closed().await.1, Some(1008));
    renewing.settle().await;
    server.count("only who renewed is left", |census| census.sockets == 1).await;
    let ack = renewing.emit("authenticate", json!({ "token": of("bob") })).await;
    assert_eq!(ack["code"], "AUTH_FAILED", "a new token is for the same user");
}

#[tokio::test]
async fn a_new_token_with_narrower_claims_applies_at_once_to_all_sockets_of_the_connection() {
    let server = server().await;
    let mut client = enter(&server, &of("ann")).await;
    let whole = client.subscribe(json!({ "channels": ["kpi", "alerts"] })).await;
    let sales = client.subscribe(json!({ "channels": ["kpi"], "department_id": "sales" })).await;
    let narrow = token(claims("ann", json!({ "departments": ["sales"] })));
    let ack = client.emit("authenticate", json!({ "token": narrow })).await;
    assert_eq!(ack["left_subscriptions"], json!([whole["subscription_id"]]));
    publish(&server, json!({ "organization_id": "org-1" })).await;
    publish(&server, json!({ "organization_id": "org-1", "department_id": "support" })).await;
    server
        .broadcast("system:notification", json!({}), json!({ "organization_id": "org-1", "department_id": "support" }))
        .await;
    client.expect_silence(&server).await;
    publish(&server, json!({ "organization_id": "org-1", "department_id": "sales" })).await;
    assert_eq!(client.next_event().await.name, "kpi:update");
    let channels = token(claims("ann", json!({ "departments": ["sales"], "channels": ["alerts"] })));
    let ack = client.emit("authenticate", json!({ "token": channels })).await;
    assert_eq!(ack["left_subscriptions"], json!([sales["subscription_id"]]));
    publish(&server, json!({ "organization_id": "org-1", "department_id": "sales" })).await;
    client.expect_silence(&server).await;
}

#[tokio::test]
async fn recovery_asks_for_a_token_that_holds_and_applies_its_claims() {
    let server = server().await;
    let options = |token: &str, kept: &Value| {
        let mut auth = kept.clone();
        auth["token"] = json!(token);
        ConnectOptions::named().auth(auth)
    };
    let lose = async |claims: Value| {
        let mut client = enter(&server, &token(claims)).await;
        client.subscribe(json!({ "channels": ["kpi"] })).await;
        publish(&server, json!({ "organization_id": "org-1" })).await;
        let offset = client.next_event().await.args[1].clone();
        let kept = json!({ "pid": client.connected["pid"], "offset": offset });
        client.wire.crash();
        server.count("it is gone", |census| census.sockets == 0).await;
        kept
    };
    let recovered = async |mut client: Client| client.next_named("connected").await.payload()["recovered"] == true;
    let sales = json!({ "organization_id": "org-1", "department_id": "sales" });

    let kept = lose(claims("ann", json!({}))).await;
    publish(&server, json!({ "organization_id": "org-1" })).await;
    publish(&server, sales.clone()).await;
    let narrow = token(claims("ann", json!({ "departments": ["sales"] })));
    let mut client = server.connect_with(options(&narrow, &kept)).await;
    client.organization = "org-1".into();
    assert_eq!(client.next_named("connected").await.payload()["recovered"], true);
    assert!(client.drain(&server).await.is_empty(), "its subscription was wider than its claims are now");
    client.disconnect().await;

    let kept = lose(claims("ann", json!({}))).await;
    assert!(!recovered(server.connect_with(options(&of("bob"), &kept)).await).await, "somebody else");
    assert!(recovered(server.connect_with(options(&of("ann"), &kept)).await).await, "and it is still there");
    server.count("they are gone", |census| census.sockets == 0).await;

    let kept = lose(claims("ann", json!({}))).await;
    let expired = token(claims("ann", json!({ "exp": seconds_from_now(-1.0) })));
    assert!(refusal(server.try_connect(options(&expired, &kept)).await).contains("expired"));
    assert!(
        recovered(server.connect_with(ConnectOptions::named().auth(kept)).await).await,
        "the old token holds still"
    );
    server.count("they are gone", |census| census.sockets == 0).await;

    let soon = seconds_from_now(1.0);
    let kept = lose(claims("ann", json!({ "exp": soon }))).await;
    let mut witness = enter(&server, &token(claims("bob", json!({ "exp": soon })))).await;
    witness.next_error("AUTH_FAILED").await;
    let client = server.connect_with(ConnectOptions::named().auth(kept)).await;
    assert!(!recovered(client).await, "the token that it was proven by is over");
}

#[tokio::test]
async fn a_revocation_ends_who_is_there_who_comes_back_and_who_comes_anew() {
    let server = server().await;
    let ann = token(claims("ann", json!({ "jti": "first" })));
    let other = token(claims("ann", json!({ "jti": "second" })));
    let (mut first, mut second) = (enter(&server, &ann).await, enter(&server, &other).await);
    let mut bob = enter(&server, &of("bob")).await;
    let revoke = async |body: Value| {
        let (status, answer) = server.publish("/revocations", body).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        answer["disconnected"].clone()
    };
    assert_eq!(revoke(json!({ "organization_id": "org-2" })).await, 0);
    assert_eq!(revoke(json!({ "organization_id": "org-1", "token_id": "first" })).await, 1);
    assert!(first.closed().await.terminal);
    assert!(
        refusal(server.try_connect(ConnectOptions::named().auth(json!({ "token": ann }))).await).contains("revoked")
    );
    second.settle().await;

    publish(&server, json!({ "organization_id": "org-1" })).await;
    let offset = second.next_event().await.args[1].clone();
    let kept = json!({ "pid": second.connected["pid"], "offset": offset });
    second.wire.crash();
    server.count("one is left", |census| census.sockets == 1).await;
    assert_eq!(revoke(json!({ "organization_id": "org-1", "user_id": "ann" })).await, 0);
    let mut client = server.connect_with(ConnectOptions::named().auth(kept)).await;
    assert_eq!(client.next_named("connected").await.payload()["recovered"], false);
    let ack = client.emit("authenticate", json!({ "token": other })).await;
    assert!(ack["message"].as_str().unwrap().contains("revoked"), "{ack}");
    let later = token(claims("ann", json!({ "iat": seconds_from_now(1.0) })));
    let ack = client.emit("authenticate", json!({ "token": later })).await;
    assert_eq!(ack["success"], true, "what is issued later holds: {ack}");
    bob.wire.send(format!("40/org/org-1,{}", json!({ "token": of("bob") })));
    server.count("bob has two sockets", |census| census.sockets == 3).await;
    assert_eq!(revoke(json!({ "organization_id": "org-1" })).await, 3);
    assert!(bob.closed().await.terminal && client.closed().await.terminal);
    for body in [
        json!({}),
        json!({ "organization_id": "" }),
        json!({ "organization_id": "o", "user": "u" }),
        json!({ "organization_id": "o", "user_id": "u", "token_id": "t" }),
        json!({ "organization_id": "o", "token_id": "" }),
    ] {
        assert_eq!(server.publish("/revocations", body.clone()).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn only_an_admin_of_the_organization_revokes_and_mints() {
    let server = TestServer::start(|config| {
        with_tokens(config);
        config.api.keys =
            vec![key("reader", &[Right::Read, Right::Publish], None), key("bound", &[Right::Admin], Some(&["org-2"]))];
    })
    .await;
    let body = json!({ "organization_id": "org-1", "user_id": "ann" });
    for (name, right) in [("reader", "admin"), ("bound", "that organization")] {
        for path in ["/revocations", "/token"] {
            let call = server.call(reqwest::Method::POST, path).header("x-api-key", &format!("{name}-secret"));
            let reply = server.request(call.json(&body)).await;
            assert_eq!(reply.status, 403, "{}", reply.text);
            assert!(reply.json()["error"].as_str().unwrap().contains(right), "{}", reply.text);
        }
    }
    let reply = server.request(server.call(reqwest::Method::POST, "/token").json(&body)).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn tokens_are_made_for_backends_and_renewed_for_clients() {
    let server = server().await;
    let body = json!({
        "user_id": "ann", "organization_id": "org-1", "departments": ["sales"], "channels": ["kpi"], "roles": ["lead"],
        "expires_in_ms": 60_000,
    });
    let (status, made) = server.publish("/token", body).await;
    assert_eq!(status, 200, "{made}");
    let first = made["token"].as_str().unwrap();
    let bearer =
        |token: &str| server.call(reqwest::Method::POST, "/token").header("authorization", &format!("Bearer {token}"));
    let reply = server.request(bearer(first)).await;
    let later = reply.json();
    assert_eq!((reply.status, &later["token_id"]), (200, &made["token_id"]), "{later}");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(later["expires_at"].as_str() > made["expires_at"].as_str());
    let mut client = enter(&server, later["token"].as_str().unwrap()).await;
    let ack = client.subscribe(json!({ "channels": ["kpi"] })).await;
    assert_eq!(ack["rooms"], json!(["kpi:org:org-1:dept:sales"]));
    server.publish("/revocations", json!({ "organization_id": "org-1", "token_id": made["token_id"] })).await;
    assert!(client.closed().await.terminal, "a revocation ends all that a token was exchanged for");
    assert_eq!(server.request(bearer(first)).await.status, 401);
    for (body, what) in [
        (json!({ "user_id": "ann" }), "organization_id"),
        (json!({ "user_id": "", "organization_id": "o" }), "user_id"),
        (json!({ "user_id": "u", "organization_id": "o", "channels": ["kpis"] }), "kpis"),
        (json!({ "user_id": "u", "organization_id": "o", "expires_in_ms": 1 }), "expires_in_ms"),
        (json!({ "user_id": "u", "organization_id": "o", "scope": "all" }), "scope"),
    ] {
        let (status, answer) = server.publish("/token", body).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().contains(what), "{answer}");
    }
}

#[tokio::test]
async fn a_client_reads_the_history_of_its_own_rooms_only() {
    let server = server().await;
    let narrow = token(claims("ann", json!({ "departments": ["sales"], "channels": ["kpi"] })));
    publish(&server, json!({ "organization_id": "org-1", "department_id": "sales" })).await;
    let read = async |room: &str, token: &str| {
        let call = server.call(reqwest::Method::GET, &format!("/rooms/{room}/messages"));
        server.request(call.header("authorization", &format!("Bearer {token}"))).await
    };
    let reply = read("kpi:org:org-1:dept:sales", &narrow).await;
    assert_eq!(reply.json()["messages"].as_array().map(Vec::len), Some(1), "{}", reply.text);
    let absent = read("kpi:org:org-9", &narrow).await;
    for room in [
        "kpi:org:org-1",
        "kpi:org:org-1:dept:support",
        "kpi:org:org-2:dept:sales",
        "backlog:org:org-1:dept:sales",
        "org:org-1:dept:sales",
        "user:org-1:bob",
        "user:org-2:ann",
    ] {
        let reply = read(room, &narrow).await;
        assert_eq!((reply.status, &reply.text), (404, &absent.text), "{room}");
    }
    assert_eq!(read("user:org-1:ann", &narrow).await.status, 200);
    assert_eq!(read("kpi:org:org-1", "a.b.c").await.status, 401);
    for path in ["/stats", "/connections", "/rooms", "/presence?organization_id=org-1"] {
        let call = server.call(reqwest::Method::GET, path).header("host", "a.test");
        let reply = server.request(call.header("authorization", &format!("Bearer {narrow}"))).await;
        assert_eq!(reply.status, 401, "a token is no key: {path}");
    }
}

#[tokio::test]
async fn an_event_that_asks_for_a_role_is_for_those_who_have_it() {
    let server = TestServer::start(|config| {
        with_tokens(config);
        config.client_events = vec![part(json!({
            "event": "alert:acknowledged",
            "action": "relay",
            "roles": ["lead", "supervisor"],
            "to": "organization",
        }))];
    })
    .await;
    let mut agent = enter(&server, &of("ann")).await;
    let refused = agent.emit("alert:acknowledged", json!({ "alert_id": "a" })).await;
    assert_eq!(refused["code"], "UNAUTHORIZED", "{refused}");
    let mut lead = server.connect("/").await;
    let with_role = token(claims("bob", json!({ "roles": ["supervisor"] })));
    let ack = lead.emit("authenticate", json!({ "token": with_role })).await;
    assert_eq!(ack["permissions"], json!(["subscribe", "acknowledge", "send:alert:acknowledged"]));
    let sent = lead.emit("alert:acknowledged", json!({ "alert_id": "a" })).await;
    assert_eq!(sent["success"], true, "{sent}");
    assert_eq!(agent.next_event().await.name, "alert:acknowledged");
}

#[tokio::test]
async fn a_client_whose_key_is_new_is_cut_rather_than_refused_and_comes_back() {
    let keys = KeyServer::start(Answer::Keys(vec![Signer::new("ES256").named("old").jwk()])).await;
    let server = TestServer::start(|config| {
        with_tokens(config);
        config.auth.jwt.secret = Secret::default();
        (config.auth.jwt.algorithms, config.auth.jwt.jwks_url) = (vec![JwtAlgorithm::Es256], keys.url());
        config.auth.jwt.jwks_min_refresh_ms = 100;
    })
    .await;
    let mut number = 0;
    eventually("the set of keys may be asked for again", async || {
        number += 1;
        let new = Signer::new("ES256").named(&format!("new-{number}"));
        keys.answer(Answer::Keys(vec![new.jwk()]));
        let connect = async || {
            let auth = json!({ "token": new.token(claims("ann", json!({}))) });
            server.try_connect(ConnectOptions::named().auth(auth)).await
        };
        match connect().await {
            // What the attempt before has asked for may have come with this key already.
            Ok(_) => return false,
            Err(Refused::Closed) => {}
            // The set was asked for just before: a client that is sent away for good is what is left.
            Err(refused) => return !refused.message().contains("kid"),
        }
        eventually("the client is in", async || connect().await.is_ok()).await;
        true
    })
    .await;
}
