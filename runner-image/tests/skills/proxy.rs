//! What the runner and the broker are to a skill: a proxy on a Unix socket, which takes absolute-form requests, knows a few
//! hosts and refuses all others with problem details.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixListener, UnixStream};

type Body = BoxBody<Bytes, hyper::Error>;

/// Where a host of a test really is.
#[derive(Clone)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// An answer of the proxy's own, for what no real server is needed for.
    Fixed(Fixed),
}

#[derive(Clone)]
pub struct Fixed {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

pub fn fixed(status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Place {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Place::Fixed(Fixed { status, headers, body: body.into() })
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub struct Proxy {
    folder: tempfile::TempDir,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Proxy {
    /// `places`: by scheme and authority, or with a path too where one host answers differently.
    pub fn new(places: &[(&str, Place)]) -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let places: HashMap<String, Place> =
            places.iter().map(|(name, place)| ((*name).to_owned(), place.clone())).collect();
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join("egress.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let served = Served { places: Arc::new(places), seen: seen.clone() };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(served.serve(listener));
        });
        Proxy { folder, seen }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("egress.sock")
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

#[derive(Clone)]
struct Served {
    places: Arc<HashMap<String, Place>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Served {
    async fn serve(self, listener: std::os::unix::net::UnixListener) {
        let listener = UnixListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let served = self.clone();
            let service = service_fn(move |request| {
                let served = served.clone();
                async move { Ok::<_, Infallible>(served.answer(request).await) }
            });
            // A skill that goes away in the middle of an answer is no failure of the proxy's.
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let uri = parts.uri.clone();
        let seen = Seen { line: format!("{} {uri}", parts.method), headers: parts.headers.clone(), body: body.clone() };
        assert_eq!(seen.header("host"), uri.authority().map(|authority| authority.as_str()));
        self.seen.lock().unwrap().push(seen);
        let origin = format!("{}://{}", uri.scheme_str().unwrap(), uri.authority().unwrap());
        let request = Request::from_parts(parts, Full::new(body));
        match self.places.get(&format!("{origin}{}", uri.path())).or_else(|| self.places.get(&origin)) {
            Some(Place::Tcp(address)) => forward(TcpStream::connect(address).await.unwrap(), request).await,
            Some(Place::Unix(path)) => forward(UnixStream::connect(path).await.unwrap(), request).await,
            Some(Place::Fixed(Fixed { status, headers, body })) => {
                let mut answer = Response::builder().status(*status);
                for (name, value) in headers {
                    answer = answer.header(*name, value);
                }
                answer.body(whole(body.clone())).unwrap()
            }
            None => refusal(&uri),
        }
    }
}

async fn forward<S>(stream: S, request: Request<Full<Bytes>>) -> Response<Body>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut parts, body) = request.into_parts();
    parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(Request::from_parts(parts, body)).await.unwrap().map(BodyExt::boxed)
}

fn refusal(uri: &Uri) -> Response<Body> {
    let host = uri.host().unwrap();
    let problem = json!({
        "type": "about:blank",
        "title": "Egress denied",
        "status": 403,
        "detail": format!("the Skill lists no egress to {host}; add it to spec.egress"),
    });
    Response::builder()
        .status(403)
        .header("countersign-refused", "egress-denied")
        .header("content-type", "application/problem+json")
        .body(whole(problem.to_string().into_bytes()))
        .unwrap()
}

fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}
