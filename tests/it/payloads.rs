//! Payloads of polling: what several packets in one POST do to each other, in both versions of the protocol.

use serde_json::json;

use crate::kit::{Call, Client, ConnectOptions, Kind, Packet, Protocol, TestServer, Transport};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Body {
    V4,
    V3,
    V3Binary,
}

const BODIES: [Body; 3] = [Body::V4, Body::V3, Body::V3Binary];

impl Body {
    fn protocol(self) -> Protocol {
        if self == Self::V4 { Protocol::V4 } else { Protocol::V3 }
    }

    /// A client on polling, in the main namespace.
    async fn client(self, server: &TestServer) -> Client {
        let options = ConnectOptions { protocol: self.protocol(), ..ConnectOptions::named() };
        server.connect_with(options.transport(Transport::Polling)).await.authenticate("org-1").await
    }

    /// Posts these packets as one body; the status it is answered with.
    async fn post(self, server: &TestServer, client: &Client, packets: &[String]) -> u16 {
        let version = if self == Self::V4 { 4 } else { 3 };
        let url = server.url(&format!("/ws/?EIO={version}&transport=polling&sid={}", client.wire.sid()));
        let call = match self {
            Self::V4 => Call::post(&url).text(&packets.join("\u{1e}")),
            Self::V3 => {
                let measured = |packet: &String| format!("{}:{packet}", packet.encode_utf16().count());
                Call::post(&url).text(&packets.iter().map(measured).collect::<String>())
            }
            Self::V3Binary => {
                let body: Vec<u8> = packets.iter().flat_map(|packet| binary(packet)).collect();
                Call::post(&url).header("content-type", "application/octet-stream").body(body)
            }
        };
        server.request(call).await.status
    }
}

/// A packet of a binary payload of version 3: a 0 for text, the digits of its length as bytes, 255.
fn binary(packet: &str) -> Vec<u8> {
    let digits = packet.len().to_string().into_bytes().into_iter().map(|digit| digit - b'0');
    [0].into_iter().chain(digits).chain([255]).chain(packet.bytes()).collect()
}

/// The next packet of this kind in a namespace.
async fn next(client: &mut Client, namespace: &str, kind: Kind) -> Packet {
    let own = std::mem::replace(&mut client.namespace, namespace.to_owned());
    let packet = client.take(|packet| packet.kind == kind).await;
    client.namespace = own;
    packet
}

#[tokio::test]
async fn what_follows_a_connect_in_the_same_body_finds_the_namespace_open() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 10_000).await;
    let auth = json!({ "user_id": "ann", "organization_id": "org-1" });
    for body in BODIES {
        let mut client = body.client(&server).await;
        let mut packets = Vec::new();
        for id in 0..100 {
            packets.push(format!("40/org/org-1,{auth}"));
            packets.push(format!("42/org/org-1,{id}[\"client:ping\",{{}}]"));
            packets.push("41/org/org-1,".to_owned());
        }
        assert_eq!(body.post(&server, &client, &packets).await, 200, "{body:?}");
        let refusal = body.post(&server, &client, &["40/org/org-2,{}".into(), "40/org/org-1?a=b,{}".into()]).await;
        assert_eq!(refusal, 200, "{body:?}");
        if body == Body::V4 {
            for id in 0..100 {
                let ack = next(&mut client, "/org/org-1", Kind::Ack).await;
                assert_eq!((ack.ack, &ack.data[0]["pong"]), (Some(id), &json!(true)), "{}", ack.raw);
            }
        }
        for namespace in ["/org/org-2", "/org/org-1"] {
            next(&mut client, namespace, Kind::ConnectError).await;
        }
        client.settle().await;
        client.disconnect().await;
    }
}

#[tokio::test]
async fn a_connect_behind_a_connect_begins_anew_before_its_answer_is_fetched() {
    let server = TestServer::start(|_| {}).await;
    let auth = |user: &str| json!({ "user_id": user, "organization_id": "org-1" });
    let mut client = Body::V4.client(&server).await;
    let packets = ["ann", "ben"].map(|user| format!("40/org/org-1,{}", auth(user)));
    assert_eq!(Body::V4.post(&server, &client, &packets).await, 200);
    let ping = "42/org/org-1,7[\"client:ping\",{}]".to_owned();
    assert_eq!(Body::V4.post(&server, &client, &[ping]).await, 200);
    assert_eq!(next(&mut client, "/org/org-1", Kind::Ack).await.ack, Some(7));
    let (_, listing) = server.get("/connections").await;
    let users: Vec<_> =
        listing["connections"].as_array().expect("connections").iter().map(|one| &one["user_id"]).collect();
    assert!(users.contains(&&json!("ben")) && !users.contains(&&json!("ann")), "{users:?}");
}

#[tokio::test]
async fn an_event_that_cannot_be_read_does_not_end_the_session() {
    let server = TestServer::start(|_| {}).await;
    for body in BODIES {
        let mut client = body.client(&server).await;
        let packets = ["42[5]", "420[\"a\"", "421[\"client:ping\",{}]"].map(str::to_owned);
        assert_eq!(body.post(&server, &client, &packets).await, 200, "{body:?}");
        let ack = client.take(|packet| packet.kind == Kind::Ack && packet.ack == Some(1)).await;
        assert_eq!(ack.data[0]["pong"], true);
        client.settle().await;
    }
}

#[tokio::test]
async fn lengths_of_a_binary_body_that_do_not_fit_are_refused() {
    let server = TestServer::start(|_| {}).await;
    let mut client = Body::V3Binary.client(&server).await;
    let url = server.url(&format!("/ws/?EIO=3&transport=polling&sid={}", client.wire.sid()));
    let bodies: [&[u8]; 6] =
        [b"\x00", b"\x00\x05\xff42", b"\x03\x01\xff2", b"\x00\x0a\xff2", b"\x00\xff\xff", &[0; 40]];
    for body in bodies {
        let call = Call::post(&url).header("content-type", "application/octet-stream").body(body);
        let reply = server.request(call).await;
        assert_eq!(reply.status, 400, "{body:?}: {}", reply.text);
        client.settle().await;
    }
}
