//! How much one client of the webhook may ask for, so that none keeps the API server waiting: each address has
//! connections, requests at once and a rate of its own.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of one address at once. The API server opens one for each call that it makes at once.
const CONNECTIONS: usize = 256;
/// Requests of one address at once; more of them wait for one another.
const REQUESTS: usize = 16;
/// New connections of one address in a second, and how many at once.
const OPENED: (u32, u32) = (50, 256);
/// Requests of one address in a second, and how many at once; more of them wait.
const ASKED: (u32, u32) = (200, 400);
/// From the first byte of a body to the answer; the API server waits no longer either.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses that are remembered before the quiet ones are forgotten.
const ADDRESSES: usize = 1024;

/// Cheap to clone; all clones share what they know.
#[derive(Clone)]
pub struct Bounds {
    clients: Arc<Mutex<HashMap<IpAddr, Weak<Client>>>>,
    opened: Arc<DefaultKeyedRateLimiter<IpAddr>>,
    asked: Arc<DefaultKeyedRateLimiter<IpAddr>>,
    /// For how long one request may take.
    pub patience: Duration,
}

/// What one address has, for as long as it has any of it.
struct Client {
    connections: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

/// A connection or a request that is counted for as long as this is held.
pub struct Counted {
    _permit: OwnedSemaphorePermit,
    _client: Arc<Client>,
}

impl Bounds {
    pub fn new(patience: Duration) -> Bounds {
        let limiter = |(rate, burst)| {
            let some = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
            Arc::new(RateLimiter::keyed(Quota::per_second(some(rate)).allow_burst(some(burst))))
        };
        Bounds { clients: Arc::default(), opened: limiter(OPENED), asked: limiter(ASKED), patience }
    }

    /// A new connection of this address, if it may have one more.
    pub fn connect(&self, address: IpAddr) -> Option<Counted> {
        let address = address.to_canonical();
        let client = self.client(address);
        self.opened.check_key(&address).ok()?;
        let permit = Arc::clone(&client.connections).try_acquire_owned().ok()?;
        Some(Counted { _permit: permit, _client: client })
    }

    /// Waits until this address may ask once more. Whoever calls it bounds the time.
    pub async fn ask(&self, address: IpAddr) -> Option<Counted> {
        let address = address.to_canonical();
        let client = self.client(address);
        let permit = Arc::clone(&client.requests).acquire_owned().await.ok()?;
        self.asked.until_key_ready(&address).await;
        Some(Counted { _permit: permit, _client: client })
    }

    fn client(&self, address: IpAddr) -> Arc<Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&address).and_then(Weak::upgrade) {
            return client;
        }
        if clients.len() >= ADDRESSES {
            clients.retain(|_, client| client.strong_count() > 0);
            self.opened.retain_recent();
            self.asked.retain_recent();
        }
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let client = Arc::new(Client { connections: semaphore(CONNECTIONS), requests: semaphore(REQUESTS) });
        clients.insert(address, Arc::downgrade(&client));
        client
    }
}

/// Lets connections in within the bounds, before a byte of them is read.
#[derive(Clone)]
pub struct Gate(pub Bounds);

impl<S> Accept<TcpStream, S> for Gate {
    type Stream = Held;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Held, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let held = || {
            let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "too many connections of this address");
            let counted = self.0.connect(stream.peer_addr()?.ip()).ok_or_else(refused)?;
            // Head and body of an answer are written apart.
            stream.set_nodelay(true)?;
            Ok((Held { stream, _counted: counted }, service))
        };
        std::future::ready(held())
    }
}

/// A connection that counts for as long as it is open.
pub struct Held {
    stream: TcpStream,
    _counted: Counted,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whatever_one_address_takes_another_has_its_own() {
        let bounds = Bounds::new(PATIENCE);
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let connections: Vec<_> = std::iter::from_fn(|| bounds.connect(one)).collect();
        assert_eq!(connections.len(), CONNECTIONS);
        assert!(bounds.connect("::ffff:10.0.0.1".parse().unwrap()).is_none(), "the same one, as IPv6 writes it");
        assert!(bounds.connect(other).is_some());

        let mut asking = Vec::new();
        for _ in 0..REQUESTS {
            asking.push(bounds.ask(one).await.unwrap());
        }
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, bounds.ask(one)).await.is_err(), "one more waits");
        assert!(tokio::time::timeout(soon, bounds.ask(other)).await.is_ok());
        asking.pop();
        assert!(tokio::time::timeout(soon, bounds.ask(one)).await.is_ok(), "for as long as they take");
    }

    #[test]
    fn addresses_that_went_away_are_forgotten() {
        let bounds = Bounds::new(PATIENCE);
        for n in 0..2 * 1024u32 {
            assert!(bounds.connect(IpAddr::V4(n.into())).is_some());
        }
        assert!(bounds.clients.lock().unwrap().len() <= ADDRESSES);
    }
}
