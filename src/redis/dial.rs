//! How connections are opened: to a server, to the master that sentinels know, or to a Redis Cluster.

use std::fs;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, PubSub};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates,
    TlsMode,
};

use super::connection::Connection;
use crate::config::{self, RedisTopology};

/// Delays between attempts of a connection that comes back by itself.
const MIN_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_millis(500);

/// How one server, or one Redis Cluster, is reached.
pub(super) struct Dial {
    /// What tells it from others: address and database, or the name of the master.
    pub(super) label: String,
    timeout: Duration,
    to: To,
}

enum To {
    Server(Box<Client>),
    /// Sentinels are asked anew each time, by a client that keeps no connection to them.
    Master(Box<dyn Fn() -> Result<SentinelClient, RedisError> + Send + Sync>),
    /// All of it, and its nodes one by one, of which each passes on what is published.
    Cluster(Box<ClusterClient>, Vec<Client>),
}

impl Dial {
    /// All that a configuration names.
    pub(super) fn all(config: &config::Cluster) -> Result<Vec<Self>, String> {
        let timeout = Duration::from_millis(config.redis_timeout_ms);
        let certificates = certificates(&config.redis_ca_file)?;
        let urls = config.redis_urls.iter().enumerate().map(|(index, url)| {
            let info = url.reveal().into_connection_info();
            info.map_err(|error| format!("cluster.redis_urls[{index}]: {}", reason(&error)))
        });
        let urls: Vec<ConnectionInfo> = urls.collect::<Result<_, _>>()?;
        let dial = |label, to| Self { label, timeout, to };
        match config.redis_topology {
            RedisTopology::Servers => urls
                .into_iter()
                .map(|url| {
                    let label = format!("{}/{}", url.addr(), url.redis_settings().db());
                    Ok(dial(label, To::Server(Box::new(client_of(url, certificates.as_ref())?))))
                })
                .collect(),
            RedisTopology::Sentinel => {
                let masters = config.sentinel_masters.iter();
                masters
                    .map(|name| {
                        let (urls, config, certificates) = (urls.clone(), config.clone(), certificates.clone());
                        let of = name.clone();
                        let ask = move || master(&urls, &of, &config, certificates.as_ref());
                        ask().map_err(|error| format!("cluster.sentinel_masters: {}", reason(&error)))?;
                        Ok(dial(name.clone(), To::Master(Box::new(ask))))
                    })
                    .collect()
            }
            RedisTopology::Cluster => {
                let mut builder = ClusterClient::builder(urls.clone())
                    .connection_timeout(timeout)
                    .response_timeout(timeout)
                    .retries(2);
                if let Some(certificates) = certificates.clone() {
                    builder = builder.certs(certificates);
                }
                let client = builder.build().map_err(|error| format!("cluster.redis_urls: {}", reason(&error)))?;
                let nodes = urls.into_iter().map(|url| client_of(url, certificates.as_ref()));
                Ok(vec![dial("cluster".to_owned(), To::Cluster(Box::new(client), nodes.collect::<Result<_, _>>()?))])
            }
        }
    }

    /// The connection for everything that is answered at once.
    pub(super) async fn shared(&self) -> Result<Connection, RedisError> {
        if let To::Server(client) = &self.to {
            let config = ConnectionManagerConfig::new()
                .set_min_delay(MIN_DELAY)
                .set_max_delay(MAX_DELAY)
                .set_number_of_retries(1)
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            let connecting = ConnectionManager::new_with_config(client.as_ref().clone(), config);
            let connected = tokio::time::timeout(self.timeout, connecting).await.map_err(|_| no_answer())?;
            return connected.map(Connection::Managed);
        }
        self.open(Duration::ZERO).await
    }

    /// A connection of its own, for commands that may wait so long for something to happen.
    pub(super) async fn open(&self, blocks_for: Duration) -> Result<Connection, RedisError> {
        let response_timeout = self.timeout + blocks_for;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(response_timeout));
        let client = match &self.to {
            To::Server(client) => client.as_ref().clone(),
            To::Master(sentinels) => self.master_of(sentinels).await?,
            To::Cluster(cluster, _) => {
                let config =
                    ClusterConfig::new().set_connection_timeout(self.timeout).set_response_timeout(response_timeout);
                let connecting = cluster.get_async_connection_with_config(config);
                let connected = tokio::time::timeout(self.timeout, connecting).await.map_err(|_| no_answer())?;
                return connected.map(Connection::Cluster);
            }
        };
        client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
    }

    /// A connection of its own that hears what is published in channels of these patterns.
    pub(super) async fn subscribe(&self, patterns: &[String]) -> Result<PubSub, RedisError> {
        let clients = match &self.to {
            To::Server(client) => std::slice::from_ref(client.as_ref()),
            To::Master(sentinels) => &[self.master_of(sentinels).await?],
            To::Cluster(_, nodes) => nodes.as_slice(),
        };
        let mut subscribed = Err(no_answer());
        for client in clients {
            let subscribing = async {
                let mut connection = client.get_async_pubsub().await?;
                connection.psubscribe(patterns).await?;
                Ok(connection)
            };
            subscribed = tokio::time::timeout(self.timeout, subscribing).await.unwrap_or_else(|_| Err(no_answer()));
            if subscribed.is_ok() {
                break;
            }
        }
        subscribed
    }

    async fn master_of(
        &self,
        sentinels: &(dyn Fn() -> Result<SentinelClient, RedisError> + Send + Sync),
    ) -> Result<Client, RedisError> {
        let mut sentinels = sentinels()?;
        // In a box, since nobody should carry its size who asks no sentinels.
        let asking = Box::pin(async { sentinels.async_get_client().await });
        tokio::time::timeout(self.timeout, asking).await.map_err(|_| no_answer())?
    }
}

fn no_answer() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}

fn client_of(url: ConnectionInfo, certificates: Option<&TlsCertificates>) -> Result<Client, String> {
    let opened = match certificates.filter(|_| is_tls(&url)) {
        Some(certificates) => Client::build_with_tls(url, certificates.clone()),
        None => Client::open(url),
    };
    opened.map_err(|error| format!("cluster.redis_urls: {}", reason(&error)))
}

/// The sentinels' own user and password are those of the URLs.
fn master(
    urls: &[ConnectionInfo],
    name: &str,
    config: &config::Cluster,
    certificates: Option<&TlsCertificates>,
) -> Result<SentinelClient, RedisError> {
    let sentinels = urls.iter().map(|url| url.addr().clone());
    let mut builder = SentinelClientBuilder::new(sentinels, name, SentinelServerType::Master)?;
    if let Some(url) = urls.first() {
        let settings = url.redis_settings();
        if let Some(user) = settings.username() {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if is_tls(url) {
            builder = builder.set_client_to_sentinel_tls_mode(TlsMode::Secure);
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
    }
    if let Some(certificates) = certificates {
        builder = builder.set_client_to_sentinel_certificates(certificates.clone());
        builder = builder.set_client_to_redis_certificates(certificates.clone());
    }
    if !config.redis_username.is_empty() {
        builder = builder.set_client_to_redis_username(&config.redis_username);
    }
    if !config.redis_password.reveal().is_empty() {
        builder = builder.set_client_to_redis_password(config.redis_password.reveal());
    }
    builder.build()
}

fn is_tls(url: &ConnectionInfo) -> bool {
    matches!(url.addr(), ConnectionAddr::TcpTls { .. })
}

fn certificates(file: &str) -> Result<Option<TlsCertificates>, String> {
    if file.is_empty() {
        return Ok(None);
    }
    let read = fs::read(file).map_err(|error| format!("cluster.redis_ca_file: {file:?} cannot be read: {error}"))?;
    Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(read) }))
}

/// What is wrong, without the URL, which may hold a password.
fn reason(error: &RedisError) -> String {
    error.category().to_owned() + &error.detail().map(|detail| format!(": {detail}")).unwrap_or_default()
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dial").field("label", &self.label).finish_non_exhaustive()
    }
}
