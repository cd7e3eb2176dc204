//! Where a connection is made and how: its address, the version of its protocol and the size of its buffer.

use std::net::SocketAddr;

use tokio::net::TcpSocket;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::{Call, Refused, Reply, Stream, clients, secure, trusting};

/// A stream after its WebSocket handshake.
pub type WebSocket = WebSocketStream<Box<dyn Stream>>;

/// The version of Engine.IO that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `EIO=3`: Socket.IO 2.
    V3,
    /// `EIO=4`: Socket.IO 3 and 4.
    V4,
}

/// Where connections are made, and how.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub url: reqwest::Url,
    pub headers: Vec<(String, String)>,
    pub protocol: Protocol,
    /// Bytes that the kernel keeps for the reader of a WebSocket; the system's own number if there is none.
    pub receive_buffer: Option<u32>,
    /// Another node, to which everything goes that names a session.
    pub elsewhere: Option<SocketAddr>,
}

impl Endpoint {
    /// The address of a transport, of a session if one is named.
    pub fn address(&self, transport: &str, sid: Option<&str>) -> reqwest::Url {
        let version = match self.protocol {
            Protocol::V3 => "3",
            Protocol::V4 => "4",
        };
        let mut url = self.url.clone();
        if let Some(other) = self.elsewhere.filter(|_| sid.is_some()) {
            url.set_ip_host(other.ip()).expect("a host");
            url.set_port(Some(other.port())).expect("a port");
        }
        let mut query = url.query_pairs_mut();
        query.append_pair("EIO", version).append_pair("transport", transport);
        if let Some(sid) = sid {
            query.append_pair("sid", sid);
        }
        drop(query);
        url
    }

    /// Makes a polling request of a session, or of one that begins.
    pub fn poll(&self, sid: Option<&str>) -> Call {
        self.with_headers(Call::get(self.address("polling", sid).as_str()))
    }

    /// Posts a payload to a session.
    pub fn post(&self, sid: &str, payload: &str) -> Call {
        self.with_headers(Call::post(self.address("polling", Some(sid)).as_str()).text(payload))
    }

    fn with_headers(&self, call: Call) -> Call {
        self.headers.iter().fold(call, |call, (name, value)| call.header(name, value))
    }

    /// Opens a WebSocket, or tells how it was refused.
    pub async fn websocket(&self, sid: Option<&str>) -> Result<WebSocket, Refused> {
        let url = self.address("websocket", sid);
        let mut request = url.as_str().replacen("http", "ws", 1).into_client_request().expect("a request");
        for (name, value) in &self.headers {
            let name = http::HeaderName::try_from(name.as_str()).expect("a header name");
            request.headers_mut().insert(name, value.parse().expect("a header value"));
        }
        let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().expect("an address");
        let (receive_buffer, is_secure) = (self.receive_buffer, url.scheme() == "https");
        let mut config = WebSocketConfig::default();
        if let Some(size) = receive_buffer {
            // What is read ahead would be room in which nothing waits.
            config = config.read_buffer_size(size as usize);
        }
        let opening = clients().spawn(async move {
            let socket = TcpSocket::new_v4()?;
            if let Some(size) = receive_buffer {
                // Before connecting: the window is agreed in the handshake.
                socket.set_recv_buffer_size(size)?;
            }
            let tcp = socket.connect(address).await?;
            let stream: Box<dyn Stream> =
                if is_secure { Box::new(secure(tcp, trusting(rustls::ALL_VERSIONS)).await?) } else { Box::new(tcp) };
            client_async_with_config(request, stream, Some(config)).await
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
}
