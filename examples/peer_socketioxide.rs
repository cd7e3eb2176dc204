//! socketioxide as its documentation shows it, with the little that the load tool needs.

use std::{env, error::Error};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    routing::post,
    serve::{self, ListenerExt},
};
use serde_json::{Value, json, value::RawValue};
use socketioxide::{
    SocketIo,
    extract::{AckSender, SocketRef},
};
use tokio::net::TcpListener;

const ROOM: &str = "kpi:org:org_bench";
/// Packets that may wait for a socket; with the default of 128 events are lost as soon as they come back to back.
const BUFFER: usize = 4_096;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("usage: peer_socketioxide PORT")?;
    let (layer, io) = SocketIo::builder().req_path("/ws").max_buffer_size(BUFFER).build_layer();
    io.ns("/", on_connect);
    let app = Router::new().route("/api/ws/broadcast/kpi", post(broadcast)).with_state(io).layer(layer);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("TCP_NODELAY: {error}");
        }
    });
    serve::serve(listener, app).await?;
    Ok(())
}

async fn on_connect(socket: SocketRef) {
    socket.on("authenticate", async |socket: SocketRef, ack: AckSender| {
        acknowledge(ack, &json!({ "success": true, "socket_id": socket.id }));
    });
    socket.on("subscribe", async |socket: SocketRef, ack: AckSender| {
        socket.join(ROOM);
        acknowledge(ack, &json!({ "success": true, "rooms": [ROOM] }));
    });
}

fn acknowledge(ack: AckSender, answer: &Value) {
    if let Err(error) = ack.send(answer) {
        eprintln!("ack: {error}");
    }
}

async fn broadcast(State(io): State<SocketIo>, body: Bytes) -> (StatusCode, Json<Value>) {
    let payload: &RawValue = match serde_json::from_slice(&body) {
        Ok(payload) => payload,
        Err(error) => return (StatusCode::BAD_REQUEST, Json(json!({ "error": error.to_string() }))),
    };
    // An error here means that some socket's buffer is full, and that socket has lost the event.
    if let Err(error) = io.to(ROOM).emit("kpi:update", payload).await {
        eprintln!("emit: {error}");
    }
    (StatusCode::OK, Json(json!({ "success": true })))
}
