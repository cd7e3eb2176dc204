//! 429: how often a key may publish and read, how much goes to an organization, and how many keys may be tried.

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::{Config, Right};

use crate::kit::{Call, Reply, TestServer, assert_shape, key};

const ALL: &[Right] = &[Right::Publish, Right::Read, Right::Admin];

fn kpi(organization: &str) -> Value {
    json!({ "event": "kpi:update", "data": { "n": 1 }, "target": { "organization_id": organization } })
}

fn call(server: &TestServer, name: &str, method: Method, path: &str) -> Call {
    server.call(method, path).header("authorization", &format!("Bearer {name}-secret"))
}

async fn send(call: Call) -> Reply {
    call.send().await.expect("an answer")
}

async fn publish(server: &TestServer, name: &str, organization: &str) -> Reply {
    send(call(server, name, Method::POST, "/broadcast").json(&kpi(organization))).await
}

fn assert_refused(reply: &Reply) {
    assert_eq!(reply.status, 429, "{}", reply.text);
    assert_shape("http-error", &reply.json());
    assert_eq!(reply.json()["code"], "RATE_LIMIT_EXCEEDED");
    assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{:?}", reply.headers);
}

fn two_keys(config: &mut Config) {
    config.api.keys = vec![key("one", ALL, None), key("other", ALL, None)];
}

#[tokio::test]
async fn a_key_publishes_no_more_than_its_rate_and_others_are_not_touched() {
    let server = TestServer::start(|config| {
        two_keys(config);
        // So slow that no token comes back while the test runs.
        config.api.keys[0].publishes_per_second = Some(1);
    })
    .await
    .with_key("other");
    let mut agent = server.agent("org-1").await;
    assert_eq!(publish(&server, "one", "org-1").await.status, 200);
    let mut refused = Vec::new();
    for path in ["/broadcast", "/broadcast/kpi", "/broadcast/alert"] {
        let body = json!({ "event": "kpi:update", "data": {}, "organization_id": "org-1" });
        refused.push(send(call(&server, "one", Method::POST, path).json(&body)).await);
    }
    // A token may have come back in between, but not for each.
    let over = refused.iter().filter(|reply| reply.status == 429).collect::<Vec<_>>();
    assert!(!over.is_empty(), "{refused:?}");
    over.into_iter().for_each(assert_refused);
    for _ in 0..20 {
        assert_eq!(publish(&server, "other", "org-1").await.status, 200);
    }
    assert_eq!(send(call(&server, "one", Method::GET, "/stats")).await.status, 200, "reading is counted apart");
    assert!(agent.drain(&server).await.len() >= 21);
}

#[tokio::test]
async fn the_default_of_all_keys_holds_where_a_key_says_nothing() {
    let server = TestServer::start(|config| {
        two_keys(config);
        config.api.publishes_per_second_per_key = 1;
        config.api.keys[1].publishes_per_second = Some(0);
    })
    .await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(publish(&server, "one", "org-1").await.status);
        assert_eq!(publish(&server, "other", "org-1").await.status, 200, "0 is no bound");
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn an_organization_is_published_to_no_more_than_its_rate_whoever_does() {
    let server = TestServer::start(|config| {
        two_keys(config);
        config.api.publishes_per_second_per_org = 2;
    })
    .await;
    let mut replies = Vec::new();
    for name in ["one", "other"].repeat(4) {
        replies.push(publish(&server, name, "org-1").await);
    }
    let over: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
    assert!(over.len() >= 2, "{replies:?}");
    over.into_iter().for_each(assert_refused);
    assert_eq!(publish(&server, "one", "org-2").await.status, 200, "another one has its own");
}

#[tokio::test]
async fn each_broadcast_of_a_batch_counts_and_none_behind_the_first_that_is_refused_is_published() {
    let server = TestServer::start(|config| {
        two_keys(config);
        // While one is refused, a token comes back now and then.
        config.api.keys[0].publishes_per_second = Some(1_000);
        config.api.max_batch_items = 10_000;
    })
    .await
    .with_key("other");
    let mut agent = server.agent("org-1").await;
    let items: Vec<_> = (0..8_000)
        .map(|n| json!({ "event": "kpi:update", "data": { "n": n }, "target": { "organization_id": "org-1" } }))
        .collect();
    let reply = send(call(&server, "one", Method::POST, "/broadcast/batch").json(&json!(items))).await;
    assert_eq!(reply.status, 200);
    let answer = reply.json();
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), 8_000);
    let published = results.iter().take_while(|result| result["success"] == true).count();
    assert!((1_000..8_000).contains(&published), "{published}");
    for result in &results[published..] {
        assert_eq!((&result["status"], &result["code"]), (&json!(429), &json!("RATE_LIMIT_EXCEEDED")), "{result}");
    }
    let numbers: Vec<_> = agent.drain(&server).await.iter().map(|event| event.data()["n"].clone()).collect();
    assert_eq!(numbers, (0..published).map(|n| json!(n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_holds_no_more_than_the_configuration_says() {
    let server = TestServer::start(|config| config.api.max_batch_items = 3).await;
    let batch = |items: usize| json!(vec![kpi("org-1"); items]);
    assert_eq!(server.publish("/broadcast/batch", batch(3)).await.0, 200);
    let (status, answer) = server.publish("/broadcast/batch", batch(4)).await;
    assert_eq!((status, &answer["code"]), (400, &json!("INVALID_MESSAGE")), "{answer}");
}

#[tokio::test]
async fn who_reads_too_often_is_refused_and_still_publishes() {
    let server = TestServer::start(|config| {
        two_keys(config);
        config.api.reads_per_second_per_key = 1;
    })
    .await;
    let calls = [
        (Method::GET, "/stats"),
        (Method::GET, "/connections"),
        (Method::GET, "/rooms"),
        (Method::GET, "/presence?organization_id=org-1"),
        (Method::GET, "/rooms/kpi:org:org-1/messages"),
        (Method::GET, "/messages/unknown"),
        (Method::GET, "/messages/unknown/receipts"),
        (Method::GET, "/connections/unknown"),
        (Method::DELETE, "/connections/unknown"),
    ];
    let mut over = 0;
    for (method, path) in calls.iter().chain(&calls) {
        let reply = send(call(&server, "one", method.clone(), path)).await;
        match reply.status {
            429 => {
                assert_refused(&reply);
                over += 1;
            }
            status => assert!([200, 404].contains(&status), "{method} {path}: {status}"),
        }
        assert_eq!(publish(&server, "one", "org-1").await.status, 200, "publishing is counted apart");
    }
    assert!(over >= 9, "{over} of 18 were refused");
}

#[tokio::test]
async fn an_address_that_tries_out_keys_is_refused_and_keys_that_were_used_there_are_not() {
    let server = TestServer::start(|config| {
        two_keys(config);
        config.api.refusals_per_minute_per_address = 5;
    })
    .await;
    assert_eq!(send(call(&server, "one", Method::GET, "/stats")).await.status, 200);
    for _ in 0..5 {
        assert_eq!(send(call(&server, "wrong", Method::GET, "/stats")).await.status, 401);
    }
    for (method, path) in [(Method::GET, "/stats"), (Method::POST, "/broadcast"), (Method::DELETE, "/connections/x")] {
        let wrong = send(call(&server, "wrong", method.clone(), path).json(&kpi("org-1"))).await;
        assert_refused(&wrong);
        let guessed = send(call(&server, "other", method, path).json(&kpi("org-1"))).await;
        assert_eq!((guessed.status, guessed.json()), (429, wrong.json()), "a right guess looks like a wrong one");
        assert_eq!(guessed.header("retry-after"), "12");
    }
    assert_eq!(send(call(&server, "one", Method::GET, "/stats")).await.status, 200, "it was used before");
    assert_eq!(server.request(Call::get(&server.url("/api/ws/health"))).await.status, 200);
}

#[tokio::test]
async fn a_key_is_taken_from_a_header_only_and_two_keys_are_none() {
    let server = TestServer::start(two_keys).await;
    for path in ["/stats?key=one-secret", "/stats?api_key=one-secret", "/stats?token=one-secret"] {
        assert_eq!(send(server.call(Method::GET, path)).await.status, 401, "{path}");
    }
    let cookie = server.call(Method::GET, "/stats").header("cookie", "key=one-secret; authorization=Bearer one-secret");
    assert_eq!(send(cookie).await.status, 401);
    let both = call(&server, "one", Method::GET, "/stats").header("x-api-key", "other-secret");
    let reply = send(both).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
    assert_shape("http-error", &reply.json());
    let same = call(&server, "one", Method::GET, "/stats").header("x-api-key", "one-secret");
    assert_eq!(send(same).await.status, 200);
}
