//! Listeners beside the main one: of plain doors, and for the other nodes of a cluster.

use std::io;

use socket2::SockRef;
use tokio::net::TcpListener;

use crate::config::{Config, LogStore};
use crate::doors::PlainDoor;

/// Port of a URL without one: RFC 9110, section 4.2.1.
const HTTP: u16 = 80;

/// Listens for the plain doors that have addresses of their own; each comes with the number of its door.
pub(super) async fn for_plain_doors(config: &Config, plain: &[PlainDoor]) -> io::Result<Vec<(u8, TcpListener)>> {
    let mut listeners = Vec::new();
    for (number, door) in plain.iter().enumerate() {
        let Some(address) = &door.listen else { continue };
        let listener = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address} for a plain door: {error}"))
        })?;
        SockRef::from(&listener).set_send_buffer_size(config.outbox.socket_buffer_bytes)?;
        listeners.push((number as u8, listener));
    }
    Ok(listeners)
}

/// Listens where the other nodes are told to come, or where the configuration says that this leads; none if they are
/// told nothing.
pub(super) async fn for_nodes(config: &Config) -> io::Result<Option<TcpListener>> {
    let cluster = &config.cluster;
    if config.log.store != LogStore::Redis || cluster.node_url.is_empty() {
        return Ok(None);
    }
    let (key, address) = match cluster.node_listen.as_str() {
        "" => ("cluster.node_url", address_of(&cluster.node_url)),
        address => ("cluster.node_listen", address.to_owned()),
    };
    let bound = TcpListener::bind(&address).await.map_err(|error| {
        let advice = "it has to be an address of this machine that nothing else listens on";
        io::Error::new(
            error.kind(),
            format!("cannot listen on {address} for the other nodes ({key}): {error}; {advice}"),
        )
    });
    bound.map(Some)
}

/// Host and port of a URL.
fn address_of(url: &str) -> String {
    let url: http::Uri = url.parse().unwrap_or_default();
    format!("{}:{}", url.host().unwrap_or_default(), url.port_u16().unwrap_or(HTTP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_listen() {
        assert_eq!(address_of("http://10.0.0.5:5001"), "10.0.0.5:5001");
        assert_eq!(address_of("http://[2001:db8::1]:5001/"), "[2001:db8::1]:5001");
        assert_eq!(address_of("http://node-1"), "node-1:80");
    }
}
