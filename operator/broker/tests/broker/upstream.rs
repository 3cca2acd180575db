//! Upstreams: real servers on loopback addresses, in plain HTTP or over TLS, which keep what came to them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub type Answer = Response<BoxBody<Bytes, std::io::Error>>;

#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

type Handler = Arc<dyn Fn(Seen) -> BoxFuture<'static, Answer> + Send + Sync>;

pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Upstream {
    /// Listens on this address, at a free port.
    pub async fn start<F, A>(ip: &str, tls: Option<TlsAcceptor>, answer: F) -> Upstream
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        Upstream::start_at(SocketAddr::new(ip.parse().unwrap(), 0), tls, answer).await
    }

    pub async fn start_at<F, A>(address: SocketAddr, tls: Option<TlsAcceptor>, answer: F) -> Upstream
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<usize>>::default());
        let handler: Handler = Arc::new(move |seen| Box::pin(answer(seen)));
        let (all, counted) = (Arc::clone(&seen), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *counted.lock().unwrap() += 1;
                let (tls, handler, all) = (tls.clone(), Arc::clone(&handler), Arc::clone(&all));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, handler, all).await;
                            }
                        }
                        None => serve(stream, handler, all).await,
                    }
                });
            }
        });
        Upstream { address, seen, connections }
    }

    /// What must never be reached.
    pub async fn decoy(address: SocketAddr) -> Upstream {
        Upstream::start_at(address, None, |_| async { text("decoy") }).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn serve<S>(stream: S, handler: Handler, all: Arc<Mutex<Vec<Seen>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, all) = (Arc::clone(&handler), Arc::clone(&all));
        async move {
            let (parts, body) = request.into_parts();
            // A body that breaks off tells the upstream nothing.
            let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
            let path = parts.uri.to_string();
            let seen = Seen { method: parts.method, path, headers: parts.headers, body };
            all.lock().unwrap().push(seen.clone());
            Ok::<_, Infallible>(handler(seen).await)
        }
    });
    // The broker may go away at any time.
    drop(Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

pub fn text(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed())
}

pub fn status(status: u16, headers: &[(&'static str, &str)]) -> Answer {
    let mut answer = text("");
    *answer.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        answer.headers_mut().append(*name, value.parse().unwrap());
    }
    answer
}

/// A body in chunks, with a pause before each.
pub fn chunks(content_type: &str, chunks: Vec<Bytes>, pause: Duration) -> Answer {
    let chunks = stream::unfold(chunks.into_iter(), move |mut chunks| async move {
        let chunk = chunks.next()?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Some((Ok(Frame::data(chunk)), chunks))
    });
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(sync(chunks))));
    answer.headers_mut().insert("content-type", content_type.parse().unwrap());
    answer
}

/// A stream that may be shared between threads, as hyper asks.
fn sync<S>(stream: S) -> impl futures::Stream<Item = S::Item> + Send + Sync
where
    S: futures::Stream + Send + 'static,
    S::Item: Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(item) = futures::StreamExt::next(&mut stream).await {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}
