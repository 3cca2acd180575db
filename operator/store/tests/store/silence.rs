//! A way to PostgreSQL that falls silent in the middle of its work, as a machine does that vanished: what is asked is lost,
//! and no connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Silence {
    /// Of the same database, by this way.
    pub url: String,
    silent: Arc<AtomicBool>,
}

impl Silence {
    pub async fn before(url: &str) -> Silence {
        let (user, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let database = database.split('?').next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{database}?sslmode=disable", listener.local_addr().unwrap());
        let silent = Arc::new(AtomicBool::new(false));
        let (server, falls) = (server.to_owned(), Arc::clone(&silent));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&falls)));
            }
        });
        Silence { url, silent }
    }

    /// From now on nothing is answered but whether a connection is there.
    pub fn falls(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// New connections are answered again; those that were lost stay so.
    #[allow(dead_code, reason = "not every test that shares this lets it speak again")]
    pub fn speaks(&self) {
        self.silent.store(false, Ordering::SeqCst);
    }
}

async fn carry(client: TcpStream, server: TcpStream, silent: Arc<AtomicBool>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
        // A pool asks with a Sync alone whether a connection is there.
        if silent.load(Ordering::SeqCst) && bytes[0] != b'S' {
            std::future::pending::<()>().await;
        }
        if to_server.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    back.abort();
}
