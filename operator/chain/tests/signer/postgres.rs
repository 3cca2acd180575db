//! Between a driver and PostgreSQL: counts statements, and cuts at one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::knife::{Knife, Moment};

pub struct Wire {
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    /// `server` is HOST:PORT.
    pub async fn start(server: String, knife: Arc<Knife>) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpStream::connect(&server).await.unwrap();
                for stream in [&client, &upstream] {
                    stream.set_nodelay(true).unwrap();
                }
                tokio::spawn(carry(client, upstream, Arc::clone(&knife)));
            }
        });
        Wire { port, task }
    }
}

/// Whatever ends one direction ends both.
async fn carry(client: TcpStream, upstream: TcpStream, knife: Arc<Knife>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let armed = AtomicBool::new(false);
    let asks = async {
        let mut first = true;
        while let Some((kind, message)) = read(&mut from_client, first).await {
            // A simple query, or the end of an extended one.
            if !first && matches!(kind, b'Q' | b'S') && knife.counts() {
                match knife.moment {
                    Moment::Before => return knife.fall(),
                    Moment::After => armed.store(true, Ordering::SeqCst),
                }
            }
            first = false;
            if to_server.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        while let Some((kind, message)) = read(&mut from_server, false).await {
            // Ready for the next query: the statement is done.
            if kind == b'Z' && armed.swap(false, Ordering::SeqCst) {
                return knife.fall();
            }
            if to_client.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asks => {}
        () = answers => {}
        () = knife.death() => {}
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
