//! The floor: what delivering costs when nothing is done but writing.
//!
//! It answers the load tool's handshake and keeps the naked connections. For a
//! POST it builds one frame and writes it to each of them, one write each, on
//! as many tasks as there are cores, and answers when all is written.

use std::{env, error::Error, sync::Arc};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// What a writer is told.
enum Order {
    /// One more connection.
    Keep(TcpStream),
    /// A frame for all of them; drops the permit when done.
    Write(Bytes, tokio::sync::OwnedSemaphorePermit),
}

type Writers = Arc<[mpsc::UnboundedSender<Order>]>;

#[tokio::main]
async fn main() -> Result<()> {
    let port = env::args().nth(1).ok_or("usage: peer_floor PORT")?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let writers: Writers = (0..std::thread::available_parallelism()?.get()).map(|_| start_writer()).collect();
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let writers = Arc::clone(&writers);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, number, &writers).await {
                eprintln!("connection {number}: {error}");
            }
        });
    }
    Ok(())
}

fn start_writer() -> mpsc::UnboundedSender<Order> {
    let (orders, mut inbox) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut connections: Vec<TcpStream> = Vec::new();
        while let Some(order) = inbox.recv().await {
            match order {
                Order::Keep(stream) => connections.push(stream),
                Order::Write(frame, done) => {
                    write_to_all(&mut connections, &frame).await;
                    drop(done);
                }
            }
        }
    });
    orders
}

async fn write_to_all(connections: &mut Vec<TcpStream>, frame: &[u8]) {
    let mut index = 0;
    while index < connections.len() {
        if write(&mut connections[index], frame).await.is_ok() {
            index += 1;
        } else {
            connections.swap_remove(index);
        }
    }
}

/// One write, unless the socket is full.
async fn write(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    match stream.try_write(frame) {
        Ok(written) if written == frame.len() => Ok(()),
        Ok(written) => stream.write_all(&frame[written..]).await,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.write_all(frame).await,
        Err(error) => Err(error),
    }
}

async fn serve(mut stream: TcpStream, number: usize, writers: &Writers) -> Result<()> {
    let mut received = Vec::new();
    loop {
        let Some(head) = take_until(&mut stream, &mut received, b"\r\n\r\n").await? else { return Ok(()) };
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        if head.contains("upgrade: websocket") {
            return open(stream, received, number, writers).await;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.ok_or("no length")?.trim().parse()?;
        while received.len() < length {
            read(&mut stream, &mut received).await?;
        }
        let body: Vec<u8> = received.drain(..length).collect();
        publish(&body, writers).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"success\":true}").await?;
    }
}

async fn publish(body: &[u8], writers: &Writers) -> Result<()> {
    let packet = [b"42[\"kpi:update\",".as_slice(), body, b"]"].concat();
    let frame = Bytes::from(text_frame(&packet));
    let count = u32::try_from(writers.len())?;
    let writing = Arc::new(Semaphore::new(writers.len()));
    for writer in writers.iter() {
        let permit = Arc::clone(&writing).acquire_owned().await?;
        writer.send(Order::Write(frame.clone(), permit))?;
    }
    let _all_written = writing.acquire_many(count).await?;
    Ok(())
}

/// The load tool's handshake: its key is constant, and so is every answer.
async fn open(mut stream: TcpStream, mut received: Vec<u8>, number: usize, writers: &Writers) -> Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )
        .await?;
    let open =
        "0{\"sid\":\"floor\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":60000,\"maxPayload\":1000000}";
    stream.write_all(&text_frame(open.as_bytes())).await?;
    for answer in ["40{\"sid\":\"floor\"}", "431[{\"success\":true}]", "432[{\"success\":true}]"] {
        take_frame(&mut stream, &mut received).await?;
        stream.write_all(&text_frame(answer.as_bytes())).await?;
    }
    writers[number % writers.len()].send(Order::Keep(stream))?;
    Ok(())
}

fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..126), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Reads one of the load tool's frames and throws it away.
async fn take_frame(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<()> {
    loop {
        let length = match received.as_slice() {
            [_, short, ..] if short & 0x7F < 126 => Some(6 + usize::from(short & 0x7F)),
            [_, _, a, b, ..] => Some(8 + usize::from(u16::from_be_bytes([*a, *b]))),
            _ => None,
        };
        match length.filter(|length| received.len() >= *length) {
            Some(length) => {
                received.drain(..length);
                return Ok(());
            }
            None => read(stream, received).await?,
        }
    }
}

async fn take_until(stream: &mut TcpStream, received: &mut Vec<u8>, end: &[u8]) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some(at) = received.windows(end.len()).position(|window| window == end) {
            return Ok(Some(received.drain(..at + end.len()).collect()));
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

async fn read(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<()> {
    match stream.read_buf(received).await? {
        0 => Err("the connection ended".into()),
        _ => Ok(()),
    }
}
