//! The kit's own Redis: that it stops, pauses, forgets, follows and refuses as the tests of the cluster need it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::kit::{Proxy, RedisCluster, RedisOptions, RedisServer, Sentinel, eventually, nodes, nodes_with, on_redis};

fn set(server: &RedisServer, value: &str) {
    server.run::<()>(&format!("set key {value}"));
}

fn get(server: &RedisServer) -> Option<String> {
    server.run("get key")
}

/// What is answered to a PING within that time.
fn ping(stream: &mut TcpStream, within: Duration) -> std::io::Result<String> {
    stream.set_read_timeout(Some(within))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_durable_redis_comes_back_with_its_data_and_others_without() {
    for (options, kept) in [(RedisOptions::durable(), Some("1".to_owned())), (RedisOptions::default(), None)] {
        let mut server = RedisServer::with(options);
        set(&server, "1");
        server.restart();
        assert_eq!(get(&server), kept);
        set(&server, "2");
        server.restart_empty();
        assert_eq!(get(&server), None);
    }
}

#[test]
fn a_durable_redis_comes_back_with_an_older_copy() {
    let mut server = RedisServer::with(RedisOptions::durable());
    set(&server, "1");
    let backup = server.back_up();
    set(&server, "2");
    server.restart_from(&backup);
    assert_eq!(get(&server).as_deref(), Some("1"));
    set(&server, "3");
    server.restart();
    assert_eq!(get(&server).as_deref(), Some("3"));
}

#[test]
fn a_paused_redis_keeps_its_connections_and_answers_later() {
    let server = RedisServer::start();
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    server.pause();
    assert!(ping(&mut stream, Duration::from_millis(200)).is_err());
    server.resume();
    assert_eq!(ping(&mut stream, Duration::from_secs(5)).expect("an answer"), "+PONG\r\n");
}

#[test]
fn a_replica_has_what_its_master_had_and_can_take_its_place() {
    for options in [RedisOptions::default(), RedisOptions::durable().user("nodes", "secret").tls()] {
        let mut master = RedisServer::with(options);
        set(&master, "1");
        let replica = master.replica();
        master.stop();
        replica.promote();
        assert_eq!(get(&replica).as_deref(), Some("1"));
        set(&replica, "2");
    }
}

#[test]
fn a_redis_with_a_password_answers_nobody_without() {
    let server = RedisServer::with(RedisOptions::default().user("default", "secret"));
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    assert!(ping(&mut stream, Duration::from_secs(5)).expect("an answer").starts_with("-NOAUTH"));
    set(&server, "1");
}

#[tokio::test]
async fn a_way_can_be_frozen_slowed_down_cut_and_led_elsewhere() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    set(&other, "other");
    let mut proxy = Proxy::to(one.address()).await;
    let mut stream = TcpStream::connect(proxy.address).expect("it listens");
    let soon = Duration::from_millis(200);
    assert_eq!(ping(&mut stream, Duration::from_secs(5)).expect("an answer"), "+PONG\r\n");
    proxy.freeze();
    assert!(ping(&mut stream, soon).is_err());
    proxy.mend();
    let mut late = [0; 7];
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    stream.read_exact(&mut late).expect("what was frozen");
    proxy.slow_down(soon);
    let asked = Instant::now();
    assert_eq!(ping(&mut stream, Duration::from_secs(5)).expect("an answer"), "+PONG\r\n");
    assert!(asked.elapsed() >= soon, "{:?}", asked.elapsed());
    proxy.slow_down(Duration::from_secs(60));
    assert!(ping(&mut stream, soon).is_err());
    proxy.mend();
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    stream.read_exact(&mut late).expect("what was late");
    proxy.cut();
    assert_eq!(stream.read(&mut late).map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    let mut stream = TcpStream::connect(proxy.address).expect("it listens");
    assert!(ping(&mut stream, Duration::from_secs(5)).is_err());
    proxy.lead_to(other.address());
    let client = redis::Client::open(one.url_at(proxy.address)).expect("a URL");
    let value: String = redis::cmd("GET").arg("key").query(&mut client.get_connection().expect("a way")).expect("it");
    assert_eq!(value, "other");
}

#[tokio::test]
async fn nodes_on_one_redis_start_and_stop() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.address()).await;
    let behind = |node: usize, config: &mut _| on_redis(config, &redis.url_at(proxy.address), node + 1);
    let (one, two) = (nodes(&redis, 1).await, nodes_with(&redis, 2, behind).await);
    for node in one.into_iter().chain(two) {
        assert_eq!(node.get("/health").await.0, 200);
        node.finish().await;
    }
}

#[tokio::test]
async fn a_sentinel_puts_the_replica_in_the_place_of_a_dead_master() {
    let mut sentinel = Sentinel::start();
    assert_eq!(sentinel.master_port(), Some(sentinel.master.port));
    sentinel.master.stop();
    eventually("the replica is the master", async || sentinel.master_port() == Some(sentinel.replica.port)).await;
    eventually("it takes writes", async || !sentinel.replica.run::<String>("info replication").contains("role:slave"))
        .await;
    set(&sentinel.replica, "1");
}

#[test]
fn a_redis_cluster_spreads_keys_over_its_masters() {
    let cluster = RedisCluster::start();
    let client = redis::cluster::ClusterClient::new(cluster.urls()).expect("URLs");
    let mut connection = client.get_connection().expect("a connection");
    for number in 0..30 {
        redis::cmd("SET").arg(format!("key-{number}")).arg(1).exec(&mut connection).expect("it is taken");
    }
    assert!(cluster.masters.iter().all(|master| master.run::<u64>("dbsize") > 0));
}
