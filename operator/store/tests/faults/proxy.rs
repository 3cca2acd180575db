//! Between the store and PostgreSQL: counts statements, and kills the server at one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::server::Server;

/// When PostgreSQL ends, relative to a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It never sees the statement.
    Before,
    /// It has carried the statement out, and nobody hears of it.
    After,
}

/// Between two tries to connect.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(10);

pub struct Proxy {
    pub port: u16,
    statements: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Kills at the statement of this number, which begins at 1; at none where it is 0.
    pub async fn new(server: &Arc<Server>, at: u32, moment: Moment) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let statements = Arc::new(AtomicU32::new(0));
        let (server, counter) = (Arc::clone(server), Arc::clone(&statements));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // While PostgreSQL is down there is nobody to connect to.
                let upstream = loop {
                    match TcpStream::connect(("127.0.0.1", server.port)).await {
                        Ok(upstream) => break upstream,
                        Err(_) => tokio::time::sleep(AGAIN).await,
                    }
                };
                for stream in [&client, &upstream] {
                    stream.set_nodelay(true).unwrap();
                }
                tokio::spawn(carry(client, upstream, Arc::clone(&server), Arc::clone(&counter), at, moment));
            }
        });
        Proxy { port, statements, task }
    }

    pub fn statements(&self) -> u32 {
        self.statements.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    client: TcpStream,
    upstream: TcpStream,
    server: Arc<Server>,
    counter: Arc<AtomicU32>,
    at: u32,
    moment: Moment,
) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = upstream.into_split();
    // Whatever ends one direction ends both.
    let answers = tokio::spawn(answers(from_server, to_client, Arc::clone(&server), Arc::clone(&counter), at, moment));
    let mut first = true;
    while let Some((kind, message)) = read(&mut from_client, first).await {
        // A simple query, or the end of an extended one.
        if !first && matches!(kind, b'Q' | b'S') {
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            if number == at && moment == Moment::Before {
                server.crash();
                break;
            }
        }
        first = false;
        if to_server.write_all(&message).await.is_err() {
            break;
        }
    }
    if moment == Moment::Before || counter.load(Ordering::SeqCst) != at {
        answers.abort();
    }
}

async fn answers(
    mut from_server: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    server: Arc<Server>,
    counter: Arc<AtomicU32>,
    at: u32,
    moment: Moment,
) {
    while let Some((kind, message)) = read(&mut from_server, false).await {
        // Ready for the next query: the statement is done.
        if kind == b'Z' && moment == Moment::After && at != 0 && counter.load(Ordering::SeqCst) == at {
            // Only once; what comes later is let through.
            counter.fetch_add(1, Ordering::SeqCst);
            server.crash();
            return;
        }
        if to_client.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// One message of PostgreSQL's protocol, version 3; the first of a client has no kind.
async fn read<R: AsyncReadExt + Unpin>(from: &mut R, first: bool) -> Option<(u8, Vec<u8>)> {
    let mut message = Vec::new();
    let kind = if first { 0 } else { from.read_u8().await.ok()? };
    if !first {
        message.push(kind);
    }
    let length = from.read_u32().await.ok()?;
    message.extend(length.to_be_bytes());
    let start = message.len();
    message.resize(start + usize::try_from(length).unwrap() - 4, 0);
    from.read_exact(&mut message[start..]).await.ok()?;
    Some((kind, message))
}
