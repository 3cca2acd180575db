//! A runner, as the broker sees it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::NAME;

#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: TlsConnector,
    pub session: Option<String>,
}

#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl Answered {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    /// Why the broker refused, checked for its form.
    pub fn refused(&self) -> String {
        let reason =
            self.headers.get("countersign-refused").unwrap_or_else(|| panic!("{} {}", self.status, self.text()));
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!((&problem["type"], &problem["status"]), (&json!(reason.to_str().unwrap()), &json!(self.status)));
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        reason.to_str().unwrap().to_owned()
    }
}

impl Client {
    pub fn new(address: SocketAddr, ca: &str) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Client { address, tls: TlsConnector::from(Arc::new(config)), session: None }
    }

    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.tls.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap()
    }

    pub async fn open(&self, attempt: &str, token: &str) -> Answered {
        let body = json!({"attempt": attempt, "token": token}).to_string();
        self.send("POST", "/v1/sessions", &[], body).await
    }

    pub async fn get(&self, url: &str) -> Answered {
        self.forward("GET", url, &[], "").await
    }

    pub async fn post(&self, url: &str, body: impl Into<Bytes>) -> Answered {
        self.forward("POST", url, &[], body).await
    }

    pub async fn forward(&self, method: &str, url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answered {
        let mut all = vec![("countersign-url", url)];
        all.extend(headers);
        self.send(method, "/v1/forward", &all, body).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answered {
        read(self.begin(method, path, headers, body).await).await
    }

    /// The head of the answer, its body yet to be read.
    pub async fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.connect().await)).await.unwrap();
        // What goes wrong with it is told where the answer is read.
        tokio::spawn(async { drop(connection.await) });
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        let all = request.headers_mut();
        all.insert("host", NAME.parse().unwrap());
        if let Some(session) = &self.session {
            all.insert("authorization", format!("Bearer {session}").parse().unwrap());
        }
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            all.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        sender.send_request(request).await.unwrap()
    }

    /// Writes these bytes as they are, and reads until the broker closes.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is not closed properly has still said what it had to say.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub async fn read(response: Response<Incoming>) -> Answered {
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    Answered { status: parts.status.as_u16(), headers: parts.headers, body: bytes.into(), whole }
}
