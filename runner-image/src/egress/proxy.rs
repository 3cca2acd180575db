//! The proxy: HTTP/1.1 from the skill, each request forwarded to the broker, bodies streamed both ways.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority as HostAndPort;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::broker::{Body, Connection};
use super::headers;
use super::lingering_close::LingeringClose;
use super::session::Session;

/// Connections that are served at once.
const CONNECTIONS: usize = 64;
/// Of a request's head.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;

pub struct Proxy {
    session: Arc<Session>,
    authority: Authority,
    seats: Arc<Semaphore>,
}

/// The right to be served; a tunnel shares that of its connection.
pub type Seat = Arc<OwnedSemaphorePermit>;

/// What a request on a connection without a proxy's form is for.
#[derive(Clone)]
enum Within {
    /// The `Host` that it names.
    Open,
    /// The host that the tunnel was made to.
    Tunnel(HostAndPort),
}

/// An answer of the proxy's own.
struct Refusal {
    status: StatusCode,
    reason: &'static str,
    detail: String,
}

impl Refusal {
    fn bad_request(detail: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, reason: "bad-request", detail: detail.into() }
    }

    fn response(self) -> Response<Body> {
        let Refusal { status, reason, detail } = self;
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({"type": reason, "title": title, "status": status.as_u16(), "detail": detail}).to_string();
        let mut response = Response::new(Either::Right(Full::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().insert(headers::REFUSED, HeaderValue::from_static(reason));
        response
    }
}

impl Proxy {
    pub fn new(session: Arc<Session>, authority: Authority) -> Proxy {
        Proxy { session, authority, seats: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    pub async fn seat(&self) -> Option<Seat> {
        Arc::clone(&self.seats).acquire_owned().await.ok().map(Arc::new)
    }

    /// Serves whoever connects; beyond the bound they wait.
    pub async fn listen(self: Arc<Self>, listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let Some(seat) = self.seat().await else { return };
            tokio::spawn(Arc::clone(&self).serve(stream, seat));
        }
    }

    pub async fn serve<S>(self: Arc<Self>, stream: S, seat: Seat)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_within(stream, seat, Within::Open).await;
    }

    async fn serve_within<S>(self: Arc<Self>, stream: S, seat: Seat, within: Within)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broker = Arc::new(Mutex::new(self.session.connection()));
        let service = service_fn(|request| {
            let (proxy, broker, seat, within) =
                (Arc::clone(&self), Arc::clone(&broker), Arc::clone(&seat), within.clone());
            async move {
                let answered = proxy.answer(request, &broker, seat, &within).await;
                Ok::<_, Infallible>(answered.unwrap_or_else(Refusal::response))
            }
        });
        let connection = Builder::new()
            .max_header_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(LingeringClose::new(stream)), service)
            .with_upgrades();
        // What goes wrong here the skill sees: its connection ends.
        drop(connection.await);
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        broker: &Mutex<Connection>,
        seat: Seat,
        within: &Within,
    ) -> Result<Response<Body>, Refusal> {
        if request.method() == Method::CONNECT {
            return self.tunnel(request, seat, within);
        }
        let url = url(&request, within)?;
        let request = self.forwarded(request, &url)?;
        let response = broker.lock().await.send(request).await.map_err(|failure| Refusal {
            status: StatusCode::BAD_GATEWAY,
            reason: "broker-unreachable",
            detail: failure.to_string(),
        })?;
        let (mut parts, body) = response.into_parts();
        headers::response(&mut parts.headers);
        Ok(Response::from_parts(parts, Either::Left(body)))
    }

    fn forwarded(&self, request: Request<Incoming>, url: &str) -> Result<Request<Body>, Refusal> {
        let (parts, body) = request.into_parts();
        let forward = self.session.request(parts.method, "/v1/forward").header(headers::URL, url);
        let mut forward =
            forward.body(Either::Left(body)).map_err(|error| Refusal::bad_request(format!("{url}: {error}")))?;
        headers::request(parts.headers, forward.headers_mut());
        Ok(forward)
    }

    /// Becomes the host that the client wants to reach.
    fn tunnel(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        seat: Seat,
        within: &Within,
    ) -> Result<Response<Body>, Refusal> {
        if let Within::Tunnel(_) = within {
            return Err(Refusal::bad_request("CONNECT within CONNECT leads nowhere"));
        }
        let Some(to) = request.uri().authority().filter(|to| to.port().is_some()).cloned() else {
            return Err(Refusal::bad_request("CONNECT needs HOST:PORT"));
        };
        let tls = self
            .authority
            .serve(to.host().trim_matches(['[', ']']))
            .map_err(|error| Refusal::bad_request(format!("CONNECT {to}: {error}")))?;
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(self.serve_tunnel(upgrade, TlsAcceptor::from(tls), seat, to));
        Ok(Response::new(Either::Right(Full::new(Bytes::new()))))
    }

    async fn serve_tunnel(self: Arc<Self>, upgrade: OnUpgrade, tls: TlsAcceptor, seat: Seat, to: HostAndPort) {
        let Ok(stream) = upgrade.await else { return };
        // A client that does not trust the certificate says so itself.
        let Ok(stream) = tls.accept(TokioIo::new(stream)).await else { return };
        self.serve_within(stream, seat, Within::Tunnel(to)).await;
    }
}

/// The absolute URL that a request is for.
fn url(request: &Request<Incoming>, within: &Within) -> Result<String, Refusal> {
    let uri = request.uri();
    if uri.scheme().is_some() && uri.authority().is_some() {
        return Ok(uri.to_string());
    }
    let host = match within {
        Within::Tunnel(to) => to.as_str().strip_suffix(":443").unwrap_or(to.as_str()).to_owned(),
        Within::Open => {
            let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
            let host = host.filter(|host| host.parse::<HostAndPort>().is_ok());
            host.ok_or_else(|| Refusal::bad_request("the request names no host; send its whole URL"))?.to_owned()
        }
    };
    origin(&host, uri).ok_or_else(|| Refusal::bad_request(format!("{uri} is not a path")))
}

fn origin(host: &str, uri: &Uri) -> Option<String> {
    let path = uri.path_and_query().map(hyper::http::uri::PathAndQuery::as_str).filter(|path| path.starts_with('/'))?;
    Some(format!("https://{host}{path}"))
}
