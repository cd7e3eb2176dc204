//! Which pages may come in: by their origin, at every door, before anything is upgraded; and never by a cookie.

use serde_json::json;
use tiercast::config::Config;

use crate::kit::{Call, ConnectOptions, Plain, Refused, SECRET, TestServer, Transport};

const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Polling, Transport::Upgrade];

const STRANGERS: [&str; 16] = [
    "https://example.com",
    "https://evilexample.com",
    "https://example.com.evil.test",
    "https://dash.example.com.evil.test",
    "http://dash.example.com",
    "https://dash.example.com:8443",
    "https://dash.example.com.",
    "https://DASH.example.com",
    "https://evil.test/.example.com",
    "https://evil.test#.example.com",
    "https://user@dash.example.com",
    "https://dash.example.com https://evil.test",
    "https://[::1]",
    "null",
    "",
    "file://",
];

/// Whether clients are believed or not must not matter, nor who listens.
fn open_to_subdomains(config: &mut Config) {
    config.auth.allow_trusted = true;
    config.server.cors_origins = vec!["https://*.example.com".into(), "http://[::1]:5173".into()];
    let doors = &mut config.doors;
    (doors.workmatrix.enabled, doors.workmatrix.organization) = (true, "work".into());
    (doors.dexter.enabled, doors.dexter.organization) = (true, "dex".into());
    doors.dexter.anonymous_channels = vec!["issues".into()];
    (doors.gym.enabled, doors.gym.organization) = (true, "gym".into());
    config.auth.jwt.secret = SECRET.to_owned().into();
    (doors.apier.enabled, doors.apier.organization) = (true, "api".into());
}

#[tokio::test]
async fn a_stranger_gets_no_session_on_either_transport_and_no_header_to_read_the_refusal_by() {
    let server = TestServer::start(open_to_subdomains).await;
    for origin in STRANGERS {
        for transport in TRANSPORTS {
            let options = ConnectOptions::named().transport(transport).header("origin", origin);
            let Err(Refused::Http(reply)) = server.try_connect(options).await else { panic!("{origin} was let in") };
            assert_eq!(reply.status, 403, "{origin} by {transport:?}: {}", reply.text);
            for header in ["access-control-allow-origin", "access-control-allow-credentials"] {
                assert!(!reply.headers.contains_key(header), "{origin}: {:?}", reply.headers);
            }
        }
    }
    assert_eq!(server.census().connections, 0, "a refusal takes no seat");
}

#[tokio::test]
async fn a_subdomain_at_any_depth_comes_in() {
    let server = TestServer::start(open_to_subdomains).await;
    for origin in [
        "https://dash.example.com",
        "https://a.b.example.com",
        "https://xn--bcher-kva.example.com",
        "http://[::1]:5173",
    ] {
        for transport in TRANSPORTS {
            let options = ConnectOptions::named().transport(transport).header("origin", origin);
            server.connect_with(options).await.settle().await;
        }
        let handshake = Call::get(&server.url("/ws/?EIO=4&transport=polling")).header("origin", origin);
        let reply = server.request(handshake).await;
        assert_eq!(reply.header("access-control-allow-origin"), origin);
        assert_eq!(reply.header("access-control-allow-credentials"), "true");
        let sid: serde_json::Value = serde_json::from_str(&reply.text[1..]).expect("OPEN");
        let path = format!("/ws/?EIO=4&transport=polling&sid={}", sid["sid"].as_str().expect("a sid"));
        server.request(Call::post(&server.url(&path)).text("1")).await;
    }
}

#[tokio::test]
async fn a_session_of_an_allowed_page_is_not_served_to_another_page() {
    let server = TestServer::start(open_to_subdomains).await;
    let options = ConnectOptions::named().transport(Transport::Polling).header("origin", "https://dash.example.com");
    let mut client = server.connect_with(options).await;
    let path = format!("/ws/?EIO=4&transport=polling&sid={}", client.wire.sid());
    for origin in STRANGERS {
        let get = server.request(Call::get(&server.url(&path)).header("origin", origin)).await;
        let post = Call::post(&server.url(&path)).header("origin", origin).text(r#"42["client:ping",{}]"#);
        assert_eq!((get.status, server.request(post).await.status), (403, 403), "{origin}");
    }
    client.settle().await;
}

#[tokio::test]
async fn every_plain_door_refuses_strangers_before_it_upgrades() {
    let server = TestServer::start(open_to_subdomains).await;
    for path in ["/ws", "/", "/ws/client_1", "/ws/checkins", "/events/ws"] {
        for origin in STRANGERS {
            let refused = Plain::open(server.address, path, &[("origin", origin)]).await.err();
            assert_eq!(refused, Some(403), "{origin} at {path}");
        }
        let opened = Plain::open(server.address, path, &[("origin", "https://dash.example.com")]).await;
        opened.unwrap_or_else(|status| panic!("{path}: {status}")).close().await;
    }
}

#[tokio::test]
async fn several_origins_are_none() {
    let server = TestServer::start(|config| config.server.cors_origins = vec!["*".into()]).await;
    let url = server.url("/ws/?EIO=4&transport=polling");
    let two = reqwest::Client::new().get(&url).header("origin", "https://a.test").header("origin", "https://b.test");
    assert_eq!(two.send().await.expect("an answer").status(), 403);
}

#[tokio::test]
async fn a_cookie_is_no_credential() {
    let server = TestServer::start(|config| config.auth.jwt.secret = SECRET.to_owned().into()).await;
    let token = crate::kit::token(json!({ "sub": "ann", "organization_id": "org-1" }));
    let cookies =
        format!("token={token}; access_token={token}; authorization=Bearer {token}; user_id=ann; io=1; sid=1");
    for transport in TRANSPORTS {
        let options = ConnectOptions::named().transport(transport).header("cookie", &cookies);
        let mut client = server.connect_with(options).await;
        let ack = client.emit("subscribe", json!({ "channels": ["kpi"] })).await;
        assert_eq!(ack["code"], "UNAUTHORIZED", "{transport:?}: {ack}");
        let (_, listed) = server.get(&format!("/connections/{}", client.socket_id)).await;
        assert!(listed["connection"].get("user_id").is_none(), "{listed}");
    }
    let mut plain = Plain::open(server.address, "/ws", &[("cookie", &cookies)]).await.expect("let in");
    plain.send(json!({ "event": "subscribe", "data": { "channels": ["kpi"] } })).await;
    assert_eq!(plain.next_with("event", "subscribe:ack").await["data"]["code"], "UNAUTHORIZED");
    plain.close().await;
}
