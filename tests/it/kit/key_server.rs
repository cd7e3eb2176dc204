//! A service that answers with a JSON Web Key Set, or fails to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Response, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::clients;

/// What it answers with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These keys.
    Keys(Vec<Value>),
    /// A body.
    Text(String),
    /// These keys after a while, as from far away.
    Late(Duration, Vec<Value>),
    /// These keys under a status.
    Status(u16, Vec<Value>),
    /// Another place.
    Redirect(String),
    /// Nothing, ever.
    Silence,
}

/// The service; dropping it closes its port.
pub struct KeyServer {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl KeyServer {
    /// One at a free port.
    pub async fn start(answer: Answer) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), answer).await
    }

    /// One at this address.
    pub async fn at(address: SocketAddr, answer: Answer) -> Self {
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (answers, count) = (answer.clone(), asked.clone());
        let router = Router::new().fallback(async move || {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answers.lock().unwrap().clone();
            respond(answer).await
        });
        let listener = clients().spawn(TcpListener::bind(address)).await.unwrap().expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = clients().spawn(async move { axum::serve(listener, router).await.expect("the service runs") });
        Self { address, answer, asked, task }
    }

    /// Ends, and leaves the port to others.
    pub async fn stop(mut self) {
        self.task.abort();
        (&mut self.task).await.ok();
    }

    pub fn url(&self) -> String {
        format!("http://{}/keys.json", self.address)
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(answer: Answer) -> Response<Body> {
    let response = Response::builder();
    let set = |keys: Vec<Value>| Body::from(json!({ "keys": keys }).to_string());
    match answer {
        Answer::Keys(keys) => response.body(set(keys)),
        Answer::Late(after, keys) => {
            tokio::time::sleep(after).await;
            response.body(set(keys))
        }
        Answer::Status(status, keys) => response.status(status).body(set(keys)),
        Answer::Text(text) => response.body(Body::from(text)),
        Answer::Redirect(to) => response.status(302).header(header::LOCATION, to).body(Body::empty()),
        Answer::Silence => std::future::pending().await,
    }
    .expect("a response")
}
