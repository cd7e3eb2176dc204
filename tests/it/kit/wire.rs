//! One Engine.IO connection (EIO=4): frames in, frames out, pings answered, over WebSocket or long-polling.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use super::{Refused, Reply, call::Call, clients};

/// What stands between two packets of one polling body.
const SEPARATOR: char = '\x1e';

/// What came in from the connection.
#[derive(Debug)]
pub enum Incoming {
    /// A Socket.IO packet, without the Engine.IO digit.
    Packet(String),
    /// The transport is gone, with the close code if there was one.
    Closed(Option<u16>),
}

/// What is asked of the connection's task.
enum Outgoing {
    Text(String),
    Binary(Vec<u8>),
    /// Tell when everything before has been written.
    Tell(oneshot::Sender<()>),
    /// Never read again, but stay connected.
    Freeze,
    /// Stop polling and posting, with nothing under way: the transport is about to change.
    Pause,
    Close,
}

/// One Engine.IO connection; dropping it is what a crashed client looks like.
pub struct Wire {
    /// The OPEN packet.
    pub open: Value,
    url: reqwest::Url,
    headers: Vec<(String, String)>,
    incoming: UnboundedReceiver<Incoming>,
    inbox: UnboundedSender<Incoming>,
    outgoing: UnboundedSender<Outgoing>,
    tasks: Vec<JoinHandle<()>>,
    polling: bool,
}

type WebSocket = WebSocketStream<TcpStream>;

impl Wire {
    /// Opens by WebSocket.
    pub async fn websocket(url: reqwest::Url, headers: Vec<(String, String)>) -> Result<Self, Refused> {
        let mut socket = upgrade(with(&url, "websocket", None), &headers).await?;
        let open = loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) if text.starts_with('0') => break text[1..].to_owned(),
                Some(Ok(_)) => {}
                _ => return Err(Refused::Closed),
            }
        };
        let mut wire = Self::new(url, headers, &open);
        wire.run_websocket(socket);
        Ok(wire)
    }

    /// Opens by HTTP long-polling.
    pub async fn polling(url: reqwest::Url, headers: Vec<(String, String)>) -> Result<Self, Refused> {
        let reply = call(Call::get(with(&url, "polling", None).as_str()), &headers).await;
        if reply.status != 200 {
            return Err(Refused::Http(reply));
        }
        let open = reply.text.strip_prefix('0').expect("an OPEN packet").split(SEPARATOR).next().unwrap().to_owned();
        let mut wire = Self::new(url, headers, &open);
        wire.run_polling();
        Ok(wire)
    }

    /// The Engine.IO session id.
    pub fn sid(&self) -> &str {
        self.open["sid"].as_str().expect("OPEN carries a sid")
    }

    /// Moves from polling to WebSocket the way the official client does.
    pub async fn upgrade(&mut self) {
        let mut socket = upgrade(with(&self.url, "websocket", Some(self.sid())), &self.headers)
            .await
            .unwrap_or_else(|refused| panic!("the upgrade was refused: {refused:?}"));
        socket.send(Message::text("2probe")).await.unwrap();
        let probe = socket.next().await.expect("an answer to the probe").unwrap();
        assert_eq!(probe.to_text().unwrap(), "3probe");
        // The poll under way has to come back, empty or not, before the switch: no packet may be lost in it.
        let _ = self.outgoing.send(Outgoing::Pause);
        for task in self.tasks.drain(..) {
            tokio::time::timeout(super::DEADLINE, task).await.expect("the pending poll is answered").unwrap();
        }
        socket.send(Message::text("5")).await.unwrap();
        self.polling = false;
        self.run_websocket(socket);
    }

    /// Sends one frame as it is.
    pub fn send(&self, frame: impl Into<String>) {
        let _ = self.outgoing.send(Outgoing::Text(frame.into()));
    }

    /// Sends one binary frame as it is.
    pub fn send_binary(&self, frame: Vec<u8>) {
        let _ = self.outgoing.send(Outgoing::Binary(frame));
    }

    /// Waits until every frame so far is out; a connection that is gone counts as having got them.
    pub async fn written(&self) {
        let (tell, told) = oneshot::channel();
        let _ = self.outgoing.send(Outgoing::Tell(tell));
        let _ = tokio::time::timeout(super::DEADLINE, told).await.expect("frames can be written");
    }

    /// Stops reading for good, with the transport left open.
    pub fn freeze(&self) {
        let _ = self.outgoing.send(Outgoing::Freeze);
    }

    /// The next thing that comes in.
    pub async fn next(&mut self) -> Incoming {
        self.incoming.recv().await.unwrap_or(Incoming::Closed(None))
    }

    /// Is gone without a word, on either transport.
    pub fn crash(mut self) {
        self.polling = false;
    }

    /// Closes the transport in the orderly way.
    pub fn close(&self) {
        let _ = self.outgoing.send(Outgoing::Close);
    }

    fn new(url: reqwest::Url, headers: Vec<(String, String)>, open: &str) -> Self {
        let open = serde_json::from_str(open).expect("OPEN is JSON");
        let (inbox, incoming) = unbounded_channel();
        let (outgoing, _) = unbounded_channel();
        Self { open, url, headers, incoming, inbox, outgoing, tasks: Vec::new(), polling: false }
    }

    fn run_websocket(&mut self, socket: WebSocket) {
        let (outgoing, orders) = unbounded_channel();
        self.outgoing = outgoing;
        self.tasks.push(clients().spawn(pump(socket, orders, self.inbox.clone())));
    }

    fn run_polling(&mut self) {
        let (outgoing, orders) = unbounded_channel();
        let url = with(&self.url, "polling", Some(self.sid()));
        let poster = Poster { url: url.clone(), headers: self.headers.clone(), orders };
        let poller = Poller { url, headers: self.headers.clone(), inbox: self.inbox.clone() };
        let (stop, stopped) = tokio::sync::watch::channel(Stop::No);
        self.outgoing = outgoing;
        self.polling = true;
        self.tasks.push(clients().spawn(poster.run(stop)));
        self.tasks.push(clients().spawn(poller.run(stopped)));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut self.tasks);
        if !self.polling {
            return tasks.iter().for_each(JoinHandle::abort);
        }
        // Nothing tells a server that a polling client is gone but a CLOSE packet or its silence.
        let post = Call::post(with(&self.url, "polling", Some(self.sid())).as_str()).text("1");
        let headers = self.headers.clone();
        clients().spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(5), try_call(post, &headers)).await;
            tasks.iter().for_each(JoinHandle::abort);
        });
    }
}

/// Reads and writes one WebSocket until it ends.
async fn pump(mut socket: WebSocket, mut orders: UnboundedReceiver<Outgoing>, inbox: UnboundedSender<Incoming>) {
    let code = loop {
        let message = tokio::select! {
            order = orders.recv() => {
                let sent = match order {
                    Some(Outgoing::Text(text)) => socket.feed(Message::text(text)).await,
                    Some(Outgoing::Binary(bytes)) => socket.feed(Message::binary(bytes)).await,
                    Some(Outgoing::Tell(tell)) => {
                        let _ = socket.flush().await;
                        let _ = tell.send(());
                        continue;
                    }
                    Some(Outgoing::Freeze) => return std::future::pending().await,
                    Some(Outgoing::Pause | Outgoing::Close) | None => socket.close(None).await,
                };
                // What is queued goes out in as few writes as possible: bursts are what tests are after.
                if sent.is_ok() && orders.is_empty() {
                    let _ = socket.flush().await;
                }
                continue;
            }
            message = socket.next() => message,
        };
        match message {
            Some(Ok(Message::Text(text))) => match text.as_bytes().first() {
                Some(b'4') => drop(inbox.send(Incoming::Packet(text[1..].to_owned()))),
                Some(b'2') => drop(socket.send(Message::text(format!("3{}", &text[1..]))).await),
                _ => {}
            },
            Some(Ok(Message::Close(frame))) => break frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break None,
        }
    };
    let _ = inbox.send(Incoming::Closed(code));
}

/// Whether the polling loop should go on.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    No,
    /// After the poll under way; its packets are kept.
    AfterThisPoll,
    /// At once; the server is left waiting.
    Now,
}

struct Poster {
    url: reqwest::Url,
    headers: Vec<(String, String)>,
    orders: UnboundedReceiver<Outgoing>,
}

impl Poster {
    async fn run(mut self, stop: tokio::sync::watch::Sender<Stop>) {
        let mut waiting = Vec::new();
        while *stop.borrow() != Stop::AfterThisPoll && self.orders.recv_many(&mut waiting, 64).await > 0 {
            let mut body = Vec::new();
            let mut tell = Vec::new();
            for order in waiting.drain(..) {
                match order {
                    Outgoing::Text(text) => body.push(text),
                    Outgoing::Binary(bytes) => body.push(format!("b{}", base64(&bytes))),
                    Outgoing::Tell(sender) => tell.push(sender),
                    Outgoing::Freeze => _ = stop.send_replace(Stop::Now),
                    Outgoing::Pause => _ = stop.send_replace(Stop::AfterThisPoll),
                    Outgoing::Close => body.push("1".into()),
                }
            }
            if !body.is_empty() {
                let body = body.join(&SEPARATOR.to_string());
                let _ = try_call(Call::post(self.url.as_str()).text(&body), &self.headers).await;
            }
            tell.into_iter().for_each(|sender| _ = sender.send(()));
        }
    }
}

struct Poller {
    url: reqwest::Url,
    headers: Vec<(String, String)>,
    inbox: UnboundedSender<Incoming>,
}

impl Poller {
    async fn run(self, mut stop: tokio::sync::watch::Receiver<Stop>) {
        loop {
            let reply = tokio::select! {
                reply = try_call(Call::get(self.url.as_str()), &self.headers) => Some(reply),
                () = frozen(&mut stop) => None,
            };
            let Some(reply) = reply else { return std::future::pending().await };
            let Some(reply) = reply.filter(|reply| reply.status == 200) else {
                return drop(self.inbox.send(Incoming::Closed(None)));
            };
            for packet in reply.text.split(SEPARATOR) {
                match packet.as_bytes().first() {
                    Some(b'4') => drop(self.inbox.send(Incoming::Packet(packet[1..].to_owned()))),
                    // By the poller itself: the poster may have stopped for an upgrade.
                    Some(b'2') => {
                        let pong = format!("3{}", &packet[1..]);
                        drop(try_call(Call::post(self.url.as_str()).text(&pong), &self.headers).await);
                    }
                    Some(b'1') => return drop(self.inbox.send(Incoming::Closed(None))),
                    _ => {}
                }
            }
            if *stop.borrow() == Stop::AfterThisPoll {
                return;
            }
        }
    }
}

async fn frozen(stop: &mut tokio::sync::watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop == Stop::Now).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Opens a WebSocket, or tells how it was refused.
async fn upgrade(url: reqwest::Url, headers: &[(String, String)]) -> Result<WebSocket, Refused> {
    let mut request = url.as_str().replacen("http", "ws", 1).into_client_request().expect("a request");
    for (name, value) in headers {
        let name = http::HeaderName::try_from(name.as_str()).expect("a header name");
        request.headers_mut().insert(name, value.parse().expect("a header value"));
    }
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let opening = clients().spawn(async move {
        let stream = TcpStream::connect(address).await.map_err(tungstenite::Error::Io)?;
        tokio_tungstenite::client_async(request, stream).await
    });
    match tokio::time::timeout(super::DEADLINE, opening).await.expect("an answer to the upgrade").unwrap() {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let (head, body) = response.into_parts();
            let text = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
            Err(Refused::Http(Reply { status: head.status.as_u16(), headers: head.headers, text }))
        }
        Err(_) => Err(Refused::Closed),
    }
}

async fn call(call: Call, headers: &[(String, String)]) -> Reply {
    try_call(call, headers).await.expect("an HTTP answer")
}

async fn try_call(mut call: Call, headers: &[(String, String)]) -> Option<Reply> {
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.send().await
}

fn with(url: &reqwest::Url, transport: &str, sid: Option<&str>) -> reqwest::Url {
    let mut url = url.clone();
    let mut query = url.query_pairs_mut();
    query.append_pair("EIO", "4").append_pair("transport", transport);
    if let Some(sid) = sid {
        query.append_pair("sid", sid);
    }
    drop(query);
    url
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}
