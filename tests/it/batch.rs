//! `POST /broadcast/batch`: many broadcasts in one call.

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::Right;

use crate::kit::{TestServer, key};

fn item(organization: &str, n: u64) -> Value {
    json!({ "event": "kpi:update", "data": { "n": n }, "target": { "organization_id": organization } })
}

#[tokio::test]
async fn items_are_published_in_order_and_answered_one_by_one() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let mut batch: Vec<Value> = (0..50).map(|n| item("org-1", n)).collect();
    batch.insert(20, json!({ "event": "kpi:nothing", "data": {} }));
    batch.insert(30, json!({ "data": {} }));
    batch.insert(40, json!("nonsense"));
    let (status, answer) = server.publish("/broadcast/batch", json!(batch)).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), 53);
    for (index, result) in results.iter().enumerate() {
        if [20, 30, 40].contains(&index) {
            assert_eq!((&result["success"], &result["status"]), (&json!(false), &json!(400)), "{index}: {result}");
            assert_eq!(result["code"], "INVALID_MESSAGE");
        } else {
            assert_eq!(
                (&result["success"], &result["recipients_count"]),
                (&json!(true), &json!(1)),
                "{index}: {result}"
            );
        }
    }
    let numbers: Vec<_> = agent.drain(&server).await.iter().filter_map(|event| event.payload()["n"].as_u64()).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_batch_is_refused_as_a_whole() {
    let server = TestServer::start(|config| config.limits.max_message_size_bytes = 10_000).await;
    for (body, status) in [
        (json!([]), 400),
        (json!({}), 400),
        (json!(vec![item("org-1", 1); 1_001]), 400),
        (json!(vec![json!(1); 1_001]), 400),
        (json!("x".repeat(100_000)), 413),
    ] {
        assert_eq!(server.publish("/broadcast/batch", body).await.0, status);
    }
    let mut large = item("org-1", 1);
    large["data"]["pad"] = json!("x".repeat(20_000));
    let (status, answer) = server.publish("/broadcast/batch", json!([large, item("org-1", 2)])).await;
    assert_eq!(
        (status, &answer["results"][0]["status"], &answer["results"][1]["success"]),
        (200, &json!(413), &json!(true))
    );
}

#[tokio::test]
async fn a_batch_that_is_repeated_is_published_once() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let batch = json!([item("org-1", 1), item("org-1", 1), item("org-1", 2)]);
    let mut answers = Vec::new();
    for _ in 0..3 {
        let call = server.call(Method::POST, "/broadcast/batch").header("idempotency-key", "b").json(&batch);
        answers.push(call.send().await.expect("an answer").json());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(agent.drain(&server).await.len(), 3);
}

#[tokio::test]
async fn a_bound_key_reaches_its_own_organizations_only() {
    let keys = [key("bound", &[Right::Publish], Some(&["org-1"]))];
    let server = TestServer::start(|config| config.api.keys = keys.to_vec()).await.with_key("bound");
    let (_, answer) = server.publish("/broadcast/batch", json!([item("org-2", 1), item("org-1", 1)])).await;
    assert_eq!(
        (&answer["results"][0]["status"], &answer["results"][1]["success"]),
        (&json!(403), &json!(true)),
        "{answer}"
    );
}

#[tokio::test]
async fn a_batch_may_have_the_longest_key() {
    let server = TestServer::start(|_| {}).await;
    let body = json!([{ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-1" } }]);
    for (length, status) in [(255, 200), (256, 400)] {
        let call =
            server.call(reqwest::Method::POST, "/broadcast/batch").header("idempotency-key", &"k".repeat(length));
        let reply = call.json(&body).send().await.expect("an answer");
        assert_eq!(reply.status, status, "{}", reply.text);
        if status == 200 {
            assert_eq!(reply.json()["results"][0]["success"], true, "{}", reply.text);
        }
    }
}
