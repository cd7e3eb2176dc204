//! Filters of a subscription: what they let pass.

use serde_json::{Value, json};

use crate::kit::{Event, TestServer};

async fn alert(server: &TestServer, fields: Value) {
    let mut data = json!({ "organization_id": "org-1" });
    data.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    server.broadcast("alert:triggered", data, json!({})).await;
}

fn field(events: &[Event], name: &str) -> Vec<Value> {
    events.iter().map(|event| event.payload()[name].clone()).collect()
}

#[tokio::test]
async fn severity_passes_from_the_least_one_up() {
    let server = TestServer::start(|_| {}).await;
    let mut agent =
        server.subscriber("org-1", json!({ "channels": ["alerts"], "filters": { "min_severity": "error" } })).await;
    for severity in ["info", "critical", "warning", "error"] {
        alert(&server, json!({ "severity": severity })).await;
    }
    assert_eq!(field(&agent.drain(&server).await, "severity"), ["critical", "error"]);
}

#[tokio::test]
async fn sources_and_statuses_pass_when_listed() {
    let server = TestServer::start(|_| {}).await;
    let filters = json!({ "sources": ["kpi", "schedule"], "statuses": ["active"] });
    let mut agent = server.subscriber("org-1", json!({ "channels": ["alerts"], "filters": filters })).await;
    for (n, source, status) in [(1, "kpi", "active"), (2, "kpi", "pending"), (3, "backlog", "active")] {
        alert(&server, json!({ "n": n, "source": source, "status": status })).await;
    }
    alert(&server, json!({ "n": 4, "source": "schedule", "status": "active" })).await;
    assert_eq!(field(&agent.drain(&server).await, "n"), [1, 4]);
}

#[tokio::test]
async fn an_event_that_lacks_the_field_passes() {
    let server = TestServer::start(|_| {}).await;
    let filters = json!({ "min_severity": "critical", "sources": ["kpi"], "statuses": ["active"] });
    let mut agent = server.subscriber("org-1", json!({ "channels": ["all"], "filters": filters })).await;
    server.broadcast("kpi:update", json!({ "organization_id": "org-1" }), json!({})).await;
    alert(&server, json!({})).await;
    alert(&server, json!({ "severity": "info" })).await;
    assert_eq!(agent.drain_names(&server).await, ["kpi:update", "alert:triggered"]);
}

#[tokio::test]
async fn two_subscriptions_pass_what_either_passes_once() {
    let server = TestServer::start(|_| {}).await;
    let mut agent =
        server.subscriber("org-1", json!({ "channels": ["alerts"], "filters": { "min_severity": "critical" } })).await;
    let of_kpi = json!({ "channels": ["alerts"], "queue_name": "q", "filters": { "sources": ["kpi"] } });
    agent.subscribe(of_kpi).await;
    for (n, severity, source) in
        [(1, "info", "backlog"), (2, "info", "kpi"), (3, "critical", "backlog"), (4, "critical", "kpi")]
    {
        alert(&server, json!({ "n": n, "severity": severity, "source": source, "queue_name": "q" })).await;
    }
    assert_eq!(field(&agent.drain(&server).await, "n"), [2, 3, 4]);
}

#[tokio::test]
async fn malformed_filters_are_refused() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for filters in [
        json!("critical"),
        json!({ "min_severity": 3 }),
        json!({ "min_severity": "terrible" }),
        json!({ "sources": "kpi" }),
        json!({ "statuses": [1] }),
    ] {
        let ack = agent.emit("subscribe", json!({ "channels": ["alerts"], "filters": filters })).await;
        assert_eq!(ack["code"], "INVALID_MESSAGE", "{filters}");
    }
    agent.settle().await;
}
