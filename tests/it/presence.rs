//! Presence: who is there, with which status, and who is told so.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::Right;

use crate::kit::{Client, ConnectOptions, Event, Plain, TestServer, Transport, assert_shape, key};

const UPDATE: &str = "presence:update";

/// A server on which who leaves is missed after so many milliseconds.
async fn start(grace_ms: u64) -> TestServer {
    TestServer::start(|config| config.presence.grace_ms = grace_ms).await
}

async fn connect(server: &TestServer, user: &str) -> Client {
    server.connect_with(ConnectOptions::named()).await.authenticate_as(user, "org-1").await
}

async fn watcher(server: &TestServer) -> Client {
    server.subscriber("org-1", json!({ "channels": ["presence"] })).await
}

/// The next status of a user that a socket is told.
async fn next(client: &mut Client, user: &str) -> String {
    let is_of = |event: Event| event.name == UPDATE && event.payload()["user_id"] == user;
    let packet = client.take(|packet| packet.event().is_some_and(is_of)).await;
    let event = packet.event().expect("an event");
    assert_shape("presence-update", event.payload());
    event.payload()["status"].as_str().expect("a status").to_owned()
}

/// The users that events tell of, with their statuses.
fn told(events: &[Event]) -> Vec<(String, String)> {
    let text = |event: &Event, field: &str| event.payload()[field].as_str().expect("text").to_owned();
    let updates = events.iter().filter(|event| event.entry() == UPDATE);
    updates.map(|event| (text(event, "user_id"), text(event, "status"))).collect()
}

async fn set(client: &mut Client, status: &str) {
    assert_eq!(client.emit("presence", json!({ "status": status })).await, json!({ "success": true }));
}

async fn list(server: &TestServer, query: &str) -> Value {
    let (status, answer) = server.get(&format!("/presence?organization_id=org-1{query}")).await;
    assert_eq!(status, 200, "{answer}");
    assert_shape("presence", &answer);
    answer
}

/// Users and statuses of a listing.
fn users(listing: &Value) -> Vec<(&str, &str)> {
    let users = listing["users"].as_array().expect("users").iter();
    users.map(|user| (user["user_id"].as_str().expect("an id"), user["status"].as_str().expect("a status"))).collect()
}

#[tokio::test]
async fn several_tabs_are_one_user_who_has_the_strongest_status() {
    let server = start(50).await;
    let mut watcher = watcher(&server).await;
    let mut one = connect(&server, "ada").await;
    assert_eq!(next(&mut watcher, "ada").await, "online");
    let mut two = connect(&server, "ada").await;
    set(&mut two, "busy").await;
    assert_eq!(next(&mut watcher, "ada").await, "busy");
    set(&mut one, "away").await;
    set(&mut two, "offline").await;
    assert_eq!(next(&mut watcher, "ada").await, "away");
    set(&mut one, "online").await;
    assert_eq!(next(&mut watcher, "ada").await, "online");
    set(&mut one, "offline").await;
    assert_eq!(next(&mut watcher, "ada").await, "offline", "appears so");
    let (listed, hidden) = (list(&server, "").await, list(&server, "&user_id=ada").await);
    assert!(!users(&listed).contains(&("ada", "offline")), "{listed}");
    assert_eq!((users(&hidden), &hidden["users"][0]["sockets"]), (vec![("ada", "offline")], &json!(2)));
    set(&mut two, "busy").await;
    assert_eq!(next(&mut watcher, "ada").await, "busy");
    one.disconnect().await;
    two.disconnect().await;
    assert_eq!(next(&mut watcher, "ada").await, "offline");
    assert_eq!(told(&watcher.drain(&server).await).iter().filter(|(user, _)| user == "ada").count(), 0);
}

#[tokio::test]
async fn a_reconnection_is_not_seen() {
    let server = start(1_000).await;
    let mut watcher = watcher(&server).await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let mut ada = connect(&server, "ada").await;
        set(&mut ada, "away").await;
        let mut bob = connect(&server, "bob").await;
        while next(&mut watcher, "ada").await != "away" {}
        assert_eq!(next(&mut watcher, "bob").await, "online");
        ada.settle().await;
        // One whose session is recovered has its status back, and one that begins anew is online.
        let pid = ada.connected["pid"].as_str().expect("a secret").to_owned();
        ada.wire.crash();
        let options = ConnectOptions::named().transport(transport).auth(json!({ "pid": pid }));
        let mut ada = server.connect_with(options).await;
        assert_eq!(ada.next_named("connected").await.payload()["recovered"], true);
        assert_eq!(users(&list(&server, "&user_id=ada").await), [("ada", "away")]);
        bob.settle().await;
        bob.disconnect().await;
        let bob = connect(&server, "bob").await;
        // What is missed first is told first.
        let other = connect(&server, "other").await;
        assert_eq!(next(&mut watcher, "other").await, "online");
        other.disconnect().await;
        assert_eq!(next(&mut watcher, "other").await, "offline");
        let told = told(&watcher.drain(&server).await);
        assert!(told.iter().all(|(user, _)| user != "ada" && user != "bob"), "{told:?}");
        ada.disconnect().await;
        bob.disconnect().await;
        assert_eq!(next(&mut watcher, "ada").await, "offline");
        assert_eq!(next(&mut watcher, "bob").await, "offline");
    }
}

#[tokio::test]
async fn who_breaks_off_is_offline_within_the_heartbeat_and_the_grace_period() {
    let server = TestServer::start(|config| {
        config.heartbeat.ping_interval_ms = 100;
        config.heartbeat.ping_timeout_ms = 1_000;
        config.presence.grace_ms = 100;
    })
    .await;
    let mut watcher = watcher(&server).await;
    let cut = connect(&server, "cut").await;
    let silent = connect(&server, "silent").await;
    assert_eq!(next(&mut watcher, "cut").await, "online");
    assert_eq!(next(&mut watcher, "silent").await, "online");
    let begun = Instant::now();
    cut.wire.crash();
    silent.wire.freeze();
    assert_eq!(next(&mut watcher, "cut").await, "offline");
    assert_eq!(next(&mut watcher, "silent").await, "offline");
    assert!(begun.elapsed() >= Duration::from_millis(100), "not before the grace period is over");
    let listing = list(&server, "&include=offline").await;
    assert_eq!(users(&listing)[0], ("cut", "offline"));
    assert_eq!(users(&list(&server, "").await), [(watcher.user.as_str(), "online")]);
    let last_seen = |user: &Value| user["last_seen"].as_str().expect("a time").to_owned();
    assert!(last_seen(&listing["users"][0]) < last_seen(&list(&server, "").await["users"][0]));
    drop(silent);
}

#[tokio::test]
async fn a_status_is_one_of_four_and_of_somebody() {
    let server = start(5_000).await;
    let mut unknown = server.connect("/").await;
    assert_eq!(unknown.emit("presence", json!({ "status": "busy" })).await["code"], "UNAUTHORIZED");
    let mut ada = connect(&server, "ada").await;
    for wrong in [json!({ "status": "asleep" }), json!({ "status": 1 }), json!({}), json!("busy"), Value::Null] {
        let ack = ada.emit("presence", wrong.clone()).await;
        assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("INVALID_MESSAGE")), "{wrong}: {ack}");
    }
    assert_eq!(users(&list(&server, "").await), [("ada", "online")]);
}

#[tokio::test]
async fn who_subscribes_is_told_who_is_there() {
    let server = TestServer::start(|config| config.limits.max_connections_per_org = 1_000).await;
    let mut there = Vec::new();
    for n in 0..230 {
        there.push(connect(&server, &format!("user-{n:03}")).await);
    }
    set(&mut there[7], "busy").await;
    let everybody: BTreeSet<String> = there.iter().map(|client| client.user.clone()).collect();
    let mut told_of = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling] {
        let options = ConnectOptions::named().transport(transport);
        for request in [json!({ "channels": ["presence"] }), json!({ "channels": ["presence"], "since": "last" })] {
            let mut late = server.connect_with(options.clone()).await.authenticate_as("late", "org-1").await;
            late.subscribe(request).await;
            told_of.push(late);
        }
    }
    let auth = json!({ "user_id": "late", "organization_id": "org-1", "channels": ["presence"] });
    told_of.push(server.connect_with(ConnectOptions::named().namespace("/org/org-1").auth(auth)).await);
    for mut client in told_of {
        let mut found = BTreeSet::new();
        while !everybody.is_subset(&found) {
            let event = client.next_named(UPDATE).await;
            let user = event.payload()["user_id"].as_str().expect("a user").to_owned();
            let status = if user == "user-007" { "busy" } else { "online" };
            assert_eq!(event.payload()["status"], status, "{user}");
            assert!(found.insert(user.clone()) || user == "late", "{user} is told once");
        }
        client.organization = "org-1".into();
        assert!(told(&client.drain(&server).await).iter().all(|(user, _)| user == "late"));
    }
}

#[tokio::test]
async fn no_change_is_lost_while_somebody_subscribes() {
    let server = start(0).await;
    let mut ada = connect(&server, "ada").await;
    for round in 0..30 {
        let mut late = server.agent("org-1").await;
        let status = if round % 2 == 0 { "busy" } else { "away" };
        ada.send("presence", json!({ "status": status }));
        late.subscribe(json!({ "channels": ["presence"] })).await;
        while next(&mut late, "ada").await != status {}
        late.disconnect().await;
        ada.settle().await;
    }
}

#[tokio::test]
async fn only_who_listens_in_the_organization_is_told() {
    let server = start(0).await;
    let mut watcher = watcher(&server).await;
    let foreign = server.subscriber("org-2", json!({ "channels": ["presence", "all"] })).await;
    let department = json!({ "channels": ["presence"], "department_id": "d" });
    let busy_only = json!({ "channels": ["presence"], "filters": { "statuses": ["busy"] } });
    let mut others = vec![
        ("another organization", foreign, vec![]),
        ("implicitly", server.agent("org-1").await, vec![]),
        ("all", server.subscriber("org-1", json!({ "channels": ["all"] })).await, vec![]),
        ("a department", server.subscriber("org-1", department).await, vec![]),
        ("a filter", server.subscriber("org-1", busy_only).await, vec!["busy"]),
    ];
    let mut ada = connect(&server, "ada").await;
    assert_eq!(next(&mut watcher, "ada").await, "online");
    set(&mut ada, "busy").await;
    assert_eq!(next(&mut watcher, "ada").await, "busy");
    ada.disconnect().await;
    assert_eq!(next(&mut watcher, "ada").await, "offline");
    for (who, client, statuses) in &mut others {
        let told = told(&client.drain(&server).await);
        let of_ada = told.iter().filter(|(user, _)| user == "ada");
        assert_eq!(of_ada.map(|(_, status)| status.as_str()).collect::<Vec<_>>(), *statuses, "{who}");
        assert!(who != &"another organization" || told.iter().all(|(user, _)| *user == client.user), "{told:?}");
    }
}

#[tokio::test]
async fn for_nobody_nothing_is_published() {
    let server = start(0).await;
    let mut elsewhere = server.subscriber("org-2", json!({ "channels": ["presence"] })).await;
    let mut ada = connect(&server, "ada").await;
    set(&mut ada, "busy").await;
    connect(&server, "bob").await.disconnect().await;
    // What is due first is looked at first.
    let other = server.connect_with(ConnectOptions::named()).await.authenticate_as("other", "org-2").await;
    assert_eq!(next(&mut elsewhere, "other").await, "online");
    let (_, stats) = server.get("/stats").await;
    let published = stats["stats"]["messages_by_event"][UPDATE].as_u64().expect("a number");
    assert!(published <= 2, "only of those in the other organization: {published}");
    drop(other);
}

#[tokio::test]
async fn a_watcher_that_comes_back_is_told_who_went() {
    let server = start(0).await;
    let mut watcher = watcher(&server).await;
    let ada = connect(&server, "ada").await;
    let bob = connect(&server, "bob").await;
    assert_eq!(next(&mut watcher, "ada").await, "online");
    assert_eq!(next(&mut watcher, "bob").await, "online");
    let mut second = self::watcher(&server).await;
    let pid = watcher.connected["pid"].as_str().expect("a secret").to_owned();
    let marker = server.mark(&watcher).await;
    let last = watcher.next_named("system:broadcast").await;
    assert_eq!(last.payload()["marker"], marker);
    let offset = last.args.last().expect("a position").clone();
    watcher.wire.crash();
    server.count("the watcher is gone", |census| census.sockets == 3).await;
    ada.disconnect().await;
    while next(&mut second, "ada").await != "offline" {}
    let auth = json!({ "pid": pid, "offset": offset });
    let mut back = server.connect_with(ConnectOptions::named().auth(auth)).await;
    assert_eq!(back.next_named("connected").await.payload()["recovered"], true);
    assert_eq!(next(&mut back, "ada").await, "offline");
    assert_eq!(next(&mut back, "bob").await, "online");
    drop(bob);
}

#[tokio::test]
async fn users_are_listed_with_what_they_listen_to() {
    let server = start(0).await;
    let mut ada = connect(&server, "ada").await;
    ada.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    let mut tab = connect(&server, "ada").await.without_implicit().await;
    tab.subscribe(json!({ "channels": ["presence"] })).await;
    let mut bob = connect(&server, "bob").await.without_implicit().await;
    set(&mut bob, "away").await;
    let _cid = connect(&server, "cid").await;
    let gone = connect(&server, "gone").await;
    assert_eq!(next(&mut tab, "gone").await, "online");
    gone.disconnect().await;
    assert_eq!(next(&mut tab, "gone").await, "offline");
    let all = list(&server, "").await;
    assert_eq!(users(&all), [("ada", "online"), ("bob", "away"), ("cid", "online")]);
    assert_eq!(all["total_count"], 3);
    assert_eq!((&all["users"][0]["sockets"], &all["users"][0]["channels"]), (&json!(2), &json!(["kpi", "presence"])));
    assert_eq!(all["users"][2]["channels"], json!([]));
    for (query, expected) in [
        ("&channel=presence", vec!["ada"]),
        ("&channel=backlog", vec!["ada", "cid"]),
        ("&channel=kpi", vec!["ada", "cid"]),
        ("&user_id=gone", vec!["gone"]),
        ("&user_id=nobody", vec![]),
        ("&include=offline", vec!["ada", "bob", "cid", "gone"]),
    ] {
        let listing = list(&server, query).await;
        assert_eq!(users(&listing).iter().map(|(user, _)| *user).collect::<Vec<_>>(), expected, "{query}");
    }
    let first = list(&server, "&limit=2").await;
    assert_eq!((first["users"].as_array().map(Vec::len), &first["total_count"]), (Some(2), &json!(3)));
    let rest = list(&server, "&limit=2&cursor=bob").await;
    assert_eq!(
        (&first["next_cursor"], users(&rest), rest.get("next_cursor")),
        (&json!("bob"), vec![("cid", "online")], None)
    );
    for query in
        ["", "?organization_id=", "?organization_id=org-1&channel=weather", "?organization_id=org-1&include=all"]
    {
        let (status, answer) = server.get(&format!("/presence{query}")).await;
        assert_eq!((status, &answer["code"]), (400, &json!("INVALID_MESSAGE")), "{query}: {answer}");
    }
}

#[tokio::test]
async fn many_listeners_are_listed_in_pages() {
    const MANY: usize = 90;
    let server = start(0).await;
    let mut sockets = Vec::new();
    for user in 0..MANY {
        let user = connect(&server, &format!("u{user:03}")).await;
        sockets.push(if sockets.len() % 2 == 0 { user } else { user.without_implicit().await });
    }
    for (query, count) in [("", MANY), ("&channel=kpi", MANY / 2)] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = list(&server, &format!("{query}&limit=20&cursor={cursor}")).await;
            assert_eq!(page["total_count"], count, "{query}");
            found.extend(users(&page).into_iter().map(|(user, _)| user.to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            assert_eq!(Some(next), found.last().map(String::as_str));
            cursor = next.to_owned();
        }
        let step = MANY / count;
        let expected: Vec<String> = (0..MANY).step_by(step).map(|user| format!("u{user:03}")).collect();
        assert_eq!(found, expected, "{query}");
    }
    let (status, answer) = server.get(&format!("/presence?organization_id=org-1&cursor={}", "x".repeat(129))).await;
    assert_eq!((status, &answer["code"]), (400, &json!("INVALID_MESSAGE")), "{answer}");
}

#[tokio::test]
async fn a_key_sees_its_own_organizations() {
    let server = TestServer::start(|config| {
        config.api.keys = vec![
            key("publisher", &[Right::Publish], None),
            key("reader", &[Right::Read], None),
            key("of-two", &[Right::Read], Some(&["org-2"])),
        ];
    })
    .await;
    let _ada = connect(&server, "ada").await;
    let get = async |name: &str| {
        let call = server.call(Method::GET, "/presence?organization_id=org-1");
        let reply = call.header("authorization", &format!("Bearer {name}-secret")).send().await.expect("an answer");
        (reply.status, reply.json()["total_count"].clone())
    };
    assert_eq!(get("nobody").await.0, 401);
    assert_eq!(get("publisher").await.0, 403);
    assert_eq!(get("reader").await, (200, json!(1)));
    assert_eq!(get("of-two").await, (200, json!(0)));
}

#[tokio::test]
async fn a_server_that_stops_announces_nobody_as_gone() {
    let mut server = start(0).await;
    let options = ConnectOptions::named().transport(Transport::Polling);
    let mut watcher = server.connect_with(options).await.authenticate("org-1").await;
    watcher.subscribe(json!({ "channels": ["presence"] })).await;
    let mut others = Vec::new();
    for user in ["ada", "bob", "cid"] {
        others.push(connect(&server, user).await);
        assert_eq!(next(&mut watcher, user).await, "online");
    }
    server.stop().await;
    watcher.closed().await;
    let told = told(&watcher.break_off().await);
    assert!(told.iter().all(|(_, status)| status != "offline"), "{told:?}");
}

#[tokio::test]
async fn where_it_is_off_nobody_is_there() {
    let server = TestServer::start(|config| config.presence.enabled = false).await;
    let mut watcher = watcher(&server).await;
    let mut ada = connect(&server, "ada").await;
    assert_eq!(ada.emit("presence", json!({ "status": "busy" })).await["code"], "INVALID_MESSAGE");
    assert_eq!(server.get("/presence?organization_id=org-1").await.0, 404);
    watcher.expect_silence(&server).await;
}

#[tokio::test]
async fn visitors_do_not_count() {
    let server = TestServer::start(|config| {
        let dexter = &mut config.doors.dexter;
        (dexter.enabled, dexter.organization) = (true, "dex".into());
        dexter.anonymous_channels = vec!["issues".into()];
        config.presence.grace_ms = 0;
    })
    .await;
    let mut watcher = server.subscriber("dex", json!({ "channels": ["presence"] })).await;
    let mut visitor = Plain::at(server.address, "/ws/visitor").await;
    visitor.send(json!({ "type": "presence", "status": "busy" })).await;
    server.count("the visitor is there", |census| census.sockets == 2).await;
    visitor.close().await;
    server.count("the visitor is gone", |census| census.sockets == 1).await;
    let ada = server.connect_with(ConnectOptions::named()).await.authenticate_as("ada", "dex").await;
    let told = async |client: &mut Client| client.next_named(UPDATE).await.payload()["user_id"].clone();
    let mut first = told(&mut watcher).await;
    while first == watcher.user {
        first = told(&mut watcher).await;
    }
    assert_eq!(first, "ada");
    let (_, listing) = server.get("/presence?organization_id=dex&include=offline").await;
    assert_eq!(listing["total_count"], 2, "{listing}");
    drop(ada);
}

#[tokio::test]
async fn a_door_can_tell_who_is_there_without_being_asked() {
    let server = TestServer::start(|config| {
        let door = json!({
            "path": "/live", "organization": "org-1", "identity": "anonymous",
            "channels": ["presence"], "anonymous_channels": ["presence"],
        });
        config.doors.generic.push(serde_json::from_value(door).expect("a door"));
        config.presence.grace_ms = 0;
    })
    .await;
    let mut ada = connect(&server, "ada").await;
    assert_eq!(users(&list(&server, "").await), [("ada", "online")]);
    let mut screen = Plain::at(server.address, "/live").await;
    let first = screen.next_with("type", UPDATE).await;
    assert_eq!((&first["data"]["user_id"], &first["data"]["status"]), (&json!("ada"), &json!("online")));
    set(&mut ada, "busy").await;
    while screen.next_with("type", UPDATE).await["data"]["status"] != "busy" {}
    screen.close().await;
}
