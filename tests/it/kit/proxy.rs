//! A way from one place to another over TCP that can be cut, frozen, slowed down and led elsewhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::clients;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They lead there.
    Open(SocketAddr),
    /// They are open, and nothing passes.
    Frozen(SocketAddr),
    /// They lead there, and what is answered comes so much later.
    Slow(SocketAddr, Duration),
    /// They break, new ones too.
    Cut,
}

impl Way {
    fn leads_to(self) -> Option<SocketAddr> {
        match self {
            Self::Open(to) | Self::Frozen(to) | Self::Slow(to, _) => Some(to),
            Self::Cut => None,
        }
    }
}

/// A proxy; connections break when it goes.
pub struct Proxy {
    pub address: SocketAddr,
    to: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    /// A proxy on a free port that leads there.
    pub async fn to(to: SocketAddr) -> Self {
        let listener = clients().spawn(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).await.unwrap().expect("a port");
        let address = listener.local_addr().expect("an address");
        let (way, seen) = watch::channel(Way::Open(to));
        clients().spawn(listen(listener, seen));
        Self { address, to, way }
    }

    /// Breaks all connections, and new ones as soon as they are there.
    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    /// Lets nothing pass in either direction; what was sent comes later.
    pub fn freeze(&self) {
        self.way.send_replace(Way::Frozen(self.to));
    }

    /// Lets everything pass, and what comes back so much later.
    pub fn slow_down(&self, by: Duration) {
        self.way.send_replace(Way::Slow(self.to, by));
    }

    /// Ends that.
    pub fn mend(&self) {
        self.way.send_replace(Way::Open(self.to));
    }

    /// Breaks all connections, and leads new ones elsewhere.
    pub fn lead_to(&mut self, to: SocketAddr) {
        self.to = to;
        self.mend();
    }
}

async fn listen(listener: TcpListener, way: watch::Receiver<Way>) {
    let mut ended = way.clone();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.expect("a connection"),
            _ = ended.wait_for(|_| false) => return,
        };
        tokio::spawn(lead(stream, way.clone()));
    }
}

async fn lead(mut near: TcpStream, mut way: watch::Receiver<Way>) {
    let Some(to) = way.borrow_and_update().leads_to() else { return broken(&near) };
    let Ok(mut far) = TcpStream::connect(to).await else { return broken(&near) };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        tokio::select! {
            _ = pass(near_in, far_out, way.clone(), false) => {}
            _ = pass(far_in, near_out, way.clone(), true) => {}
            _ = way.wait_for(|now| now.leads_to() != Some(to)) => {}
        }
    }
    broken(&near);
    broken(&far);
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
    is_answer: bool,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 || way.wait_for(|now| !matches!(now, Way::Frozen(_))).await.is_err() {
            return Ok(());
        }
        let slow = *way.borrow();
        if let (Way::Slow(_, by), true) = (slow, is_answer) {
            // Until then, or until it is not slow any more.
            let _ = tokio::time::timeout(by, way.wait_for(|now| *now != slow)).await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}

/// A connection that ends as one whose cable was pulled: what is under way is lost.
fn broken(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
