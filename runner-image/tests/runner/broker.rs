//! A broker of the tests' own, over TLS, which says what came to it: sessions, calls to a few hosts, and files.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{Barrier, Notify, mpsc};
use tokio_rustls::TlsAcceptor;

use crate::harness::sha256;

type Body = BoxBody<Bytes, Infallible>;

const NAME: &str = "countersign-broker.test.svc";
/// How many calls `https://meet.test/` takes at once, and answers only then.
pub const TOGETHER: usize = 16;

pub struct Broker {
    address: SocketAddr,
    ca: String,
    pub state: Arc<State>,
    /// It serves as long as this lives.
    _runtime: Runtime,
}

/// A call as it came to `/v1/forward`.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub bytes: usize,
    pub sha256: String,
}

pub struct State {
    pub seen: Mutex<Vec<Seen>>,
    /// What was opened, and by which tokens.
    pub sessions: Mutex<Vec<Value>>,
    used: Mutex<BTreeSet<String>>,
    /// How many times it says that it is not there yet.
    pub absent: Mutex<usize>,
    pub files: Mutex<BTreeMap<String, Bytes>>,
    pub uploads: Mutex<Vec<String>>,
    release: Notify,
    meeting: Barrier,
}

impl Broker {
    pub fn start() -> Broker {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (ca, tls) = identity();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            seen: Mutex::default(),
            sessions: Mutex::default(),
            used: Mutex::default(),
            absent: Mutex::default(),
            files: Mutex::default(),
            uploads: Mutex::default(),
            release: Notify::new(),
            meeting: Barrier::new(TOGETHER),
        });
        runtime.spawn(serve(listener, tls, Arc::clone(&state)));
        Broker { address, ca, state, _runtime: runtime }
    }

    pub fn document(&self) -> Value {
        json!({"version": 1, "url": format!("https://{}", self.address), "serverName": NAME, "ca": self.ca})
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Keeps bytes as a file or a tree; their digest.
    pub fn keep(&self, bytes: impl Into<Bytes>) -> String {
        self.state.keep(bytes.into())
    }

    /// Keeps a tree of these files.
    pub fn tree(&self, files: &[(&str, &str)]) -> String {
        let entry = |(path, content): &(&str, &str)| {
            let digest = self.keep((*content).to_owned());
            ((*path).to_owned(), json!({"bytes": content.len(), "digest": digest}))
        };
        let files: serde_json::Map<String, Value> = files.iter().map(entry).collect();
        self.keep(json!({"files": files}).to_string())
    }
}

fn identity() -> (String, TlsAcceptor) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let certificate = CertificateParams::new([NAME.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (ca, TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: tokio::net::TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request| Arc::clone(&state).answer(request));
            // A client may go away at any time; a host of the tests does.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[derive(Debug)]
struct HangUp;

impl std::fmt::Display for HangUp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the host hangs up")
    }
}

impl std::error::Error for HangUp {}

impl State {
    fn keep(&self, bytes: Bytes) -> String {
        let digest = format!("sha256:{}", sha256(&bytes));
        self.files.lock().unwrap().insert(digest.clone(), bytes);
        digest
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, HangUp> {
        let (parts, mut body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if path == "/v1/sessions" {
            let body = body.collect().await.unwrap().to_bytes();
            return Ok(self.open(serde_json::from_slice(&body).unwrap()));
        }
        let session = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !session.starts_with("Bearer session-of-") {
            return Ok(problem(401, "session", "the session is not known"));
        }
        if path == "/v1/forward" {
            if parts.headers["countersign-url"] == "https://full.test/" {
                // Read and dropped behind its answer, which a connection that is closed with bytes unread could lose.
                tokio::spawn(async move { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} });
                return Ok(problem(413, "too-large", "the body has more than the broker takes"));
            }
            let mut hash = Vec::new();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|_| HangUp)?.into_data() else { continue };
                bytes += data.len();
                hash.extend_from_slice(&data);
            }
            let url = parts.headers["countersign-url"].to_str().unwrap().to_owned();
            let seen = Seen { method: parts.method, url, headers: parts.headers, bytes, sha256: sha256(hash) };
            self.seen.lock().unwrap().push(seen.clone());
            return self.forward(seen).await;
        }
        let put = parts.method == Method::PUT;
        let content = body.collect().await.unwrap().to_bytes();
        Ok(match (put, path.strip_prefix("/v1/").unwrap().split_once('/')) {
            (true, None) => {
                let digest = self.keep(content);
                self.uploads.lock().unwrap().push(digest.clone());
                answer(201, json!({"digest": digest}).to_string())
            }
            (false, Some((_, digest))) => match self.files.lock().unwrap().get(digest) {
                Some(bytes) => answer(200, bytes.clone()),
                None => problem(404, "not-found", "there is no such file"),
            },
            _ => problem(400, "bad-request", &path),
        })
    }

    fn open(&self, request: Value) -> Response<Body> {
        {
            let mut absent = self.absent.lock().unwrap();
            if *absent > 0 {
                *absent -= 1;
                return problem(503, "record-unavailable", "not yet");
            }
        }
        let token = request["token"].as_str().unwrap().to_owned();
        if token == "unknown" {
            return problem(401, "token", "the token is not known");
        }
        if !self.used.lock().unwrap().insert(token.clone()) {
            return problem(409, "token-used", "the token was used at 12:00");
        }
        self.sessions.lock().unwrap().push(request);
        answer(201, json!({"session": format!("session-of-{token}")}).to_string())
    }

    /// What each host of the tests does.
    async fn forward(self: Arc<Self>, seen: Seen) -> Result<Response<Body>, HangUp> {
        let host = seen.url.split('/').nth(2).unwrap();
        Ok(match host {
            "gone.test" => return Err(HangUp),
            "denied.test" => problem(403, "egress-denied", "denied.test is not in the Skill's egress"),
            // The rest of it comes once somebody has asked release.test for it.
            "events.test" => {
                let (sender, body) = mpsc::channel(1);
                tokio::spawn(async move {
                    sender.send(Bytes::from_static(b"data: first\n\n")).await.unwrap();
                    self.release.notified().await;
                    sender.send(Bytes::from_static(b"data: second\n\n")).await.unwrap();
                });
                let mut response = Response::new(Fed(body).boxed());
                response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
                response
            }
            "release.test" => {
                self.release.notify_one();
                answer(200, "released")
            }
            "large.test" => {
                let (sender, body) = mpsc::channel(1);
                tokio::spawn(async move {
                    for _ in 0..LARGE_CHUNKS {
                        if sender.send(Bytes::from(vec![7; LARGE_CHUNK])).await.is_err() {
                            return;
                        }
                    }
                });
                Response::new(Fed(body).boxed())
            }
            "meet.test" => {
                self.meeting.wait().await;
                answer(200, "met")
            }
            _ => {
                let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
                let body = json!({"method": seen.method.as_str(), "url": seen.url, "bytes": seen.bytes,
                    "sha256": seen.sha256, "accept": header("accept")});
                let mut response = answer(200, body.to_string());
                response.headers_mut().insert("countersign-price", "1".parse().unwrap());
                response
            }
        })
    }
}

pub const LARGE_CHUNKS: usize = 400;
pub const LARGE_CHUNK: usize = 64 * 1024;

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn problem(status: u16, reason: &'static str, detail: &str) -> Response<Body> {
    let body = json!({"type": reason, "title": reason, "status": status, "detail": detail});
    let mut response = answer(status, body.to_string());
    response.headers_mut().insert("countersign-refused", reason.parse().unwrap());
    response.headers_mut().insert("content-type", "application/problem+json".parse().unwrap());
    response
}

/// A body that comes in pieces.
struct Fed(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
