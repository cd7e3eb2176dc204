//! Copies keys from one Redis server to another, whatever they hold.

use std::collections::{BTreeSet, HashMap};

use redis::streams::StreamInfoStreamReply;
use redis::{RedisError, Value, cmd, pipe};

use super::moving::failed;
use crate::redis::{Keys, Server};
use crate::wire::random_letters;

/// Keys of each shard.
pub(super) type Shards = HashMap<usize, Vec<Vec<u8>>>;

/// Keys looked at and copied at a time.
const LISTED: usize = 1_000;
const COPIED: usize = 16;

/// How long a mark stays, in milliseconds.
const MARK_MS: u64 = 60_000;

/// All keys of some shards at a server.
pub(super) async fn shards(server: &Server, keys: &Keys, wanted: &[usize]) -> Result<Shards, RedisError> {
    let prefixes: Vec<String> = wanted.iter().map(|shard| keys.of(*shard, "")).collect();
    let (mut found, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(keys.all()).arg("COUNT").arg(LISTED);
        let page: Vec<Vec<u8>>;
        (cursor, page) = server.query(&scan).await?;
        found.extend(page);
        if cursor == "0" {
            break;
        }
    }
    let mut shards = Shards::new();
    for key in found {
        let place = prefixes.iter().position(|prefix| key.starts_with(prefix.as_bytes()));
        if let Some(place) = place {
            shards.entry(wanted[place]).or_default().push(key);
        }
    }
    Ok(shards)
}

/// Whether two servers are one under two names: what is written at one is read at the other.
pub(super) async fn is_same_place(one: &Server, other: &Server, mark: &str) -> Result<bool, String> {
    let written = random_letters(20);
    let set = one.query::<()>(cmd("SET").arg(mark).arg(&written).arg("PX").arg(MARK_MS)).await;
    set.map_err(|error| failed(one, &error))?;
    let read: Result<Option<String>, _> = other.query(cmd("GET").arg(mark)).await;
    let is_same = read.map_err(|error| failed(other, &error))?.as_deref() == Some(&*written);
    let deleted = one.query::<()>(cmd("DEL").arg(mark)).await;
    deleted.map_err(|error| failed(one, &error)).map(|()| is_same)
}

/// Life and offset of the newest record of a log; none if there is none.
pub(super) async fn newest(server: &Server, log: &str) -> Result<Option<(u64, u64)>, RedisError> {
    if !server.query::<bool>(cmd("EXISTS").arg(log)).await? {
        return Ok(None);
    }
    let info: StreamInfoStreamReply = server.query(cmd("XINFO").arg("STREAM").arg(log)).await?;
    let place = info.last_generated_id.split_once('-');
    Ok(place.and_then(|(life, offset)| Some((life.parse().ok()?, offset.parse().ok()?))))
}

/// Copies keys with their times to live, over what is there, and compares.
pub(super) async fn copy(from: &Server, to: &Server, keys: &[Vec<u8>]) -> Result<(), String> {
    for keys in keys.chunks(COPIED) {
        let mut dump = pipe();
        for key in keys {
            dump.cmd("DUMP").arg(key).cmd("PEXPIRETIME").arg(key);
        }
        let dumped: Vec<Value> = from.pipe(&dump).await.map_err(|error| failed(from, &error))?;
        let mut restore = pipe();
        for (key, dumped) in keys.iter().zip(dumped.chunks(2)) {
            // One that is not there any more has expired.
            if let [Value::BulkString(dump), Value::Int(expires_at_ms)] = dumped {
                let expires_at_ms = (*expires_at_ms).max(0);
                restore.cmd("RESTORE").arg(key).arg(expires_at_ms).arg(dump).arg("REPLACE").arg("ABSTTL").ignore();
            }
        }
        if !restore.is_empty() {
            to.pipe::<()>(&restore).await.map_err(|error| failed(to, &error))?;
        }
        for key in keys {
            let here = look(from, key).await.map_err(|error| failed(from, &error))?;
            let there = look(to, key).await.map_err(|error| failed(to, &error))?;
            if here.is_some() && here != there {
                let key = String::from_utf8_lossy(key);
                let (from, to) = (from.label(), to.label());
                return Err(format!("{key:?} is {here:?} at {from} and {there:?} at {to}; move again"));
            }
        }
    }
    Ok(())
}

/// Deletes keys.
pub(super) async fn remove(server: &Server, keys: &[Vec<u8>]) -> Result<(), RedisError> {
    for keys in keys.chunks(LISTED) {
        let mut unlink = pipe();
        keys.iter().for_each(|key| {
            unlink.cmd("UNLINK").arg(key).ignore();
        });
        server.pipe::<()>(&unlink).await?;
    }
    Ok(())
}

/// What a copy has to have in common: type, time at which it goes, how much there is, and of a stream its newest id.
async fn look(server: &Server, key: &[u8]) -> Result<Option<(String, i64, u64, String)>, RedisError> {
    let mut commands = pipe();
    commands.cmd("TYPE").arg(key).cmd("PEXPIRETIME").arg(key);
    let (kind, expires_at_ms): (String, i64) = server.pipe(&commands).await?;
    let count = match kind.as_str() {
        "stream" => {
            let info: StreamInfoStreamReply = server.query(cmd("XINFO").arg("STREAM").arg(key)).await?;
            return Ok(Some((kind, expires_at_ms, info.length as u64, info.last_generated_id)));
        }
        "string" => "STRLEN",
        "hash" => "HLEN",
        "list" => "LLEN",
        "set" => "SCARD",
        "zset" => "ZCARD",
        _ => return Ok(None),
    };
    let count: u64 = server.query(cmd(count).arg(key)).await?;
    Ok(Some((kind, expires_at_ms, count, String::new())))
}
