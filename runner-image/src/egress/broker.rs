//! Connections to the broker: HTTP/1.1 over TLS, each serving one of the skill's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HeaderValue;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Document;

/// To a connection over which a request can be sent.
const CONNECT: Duration = Duration::from_secs(10);

/// What is streamed through, or what the runner itself says.
pub type Body = Either<Incoming, Full<Bytes>>;

pub struct Broker {
    address: SocketAddr,
    name: ServerName<'static>,
    host: HeaderValue,
    tls: TlsConnector,
}

#[derive(Debug)]
pub enum Failure {
    /// Nothing was sent. `last` where trying again would be no use.
    NotSent { why: String, last: bool },
    /// Whether it arrived is not known.
    Lost(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::NotSent { why, last: _ } => write!(formatter, "the broker cannot be reached: {why}"),
            Failure::Lost(why) => write!(formatter, "the broker was lost before it answered: {why}"),
        }
    }
}

impl Broker {
    pub fn new(document: Document) -> anyhow::Result<Broker> {
        let Document { address, server_name, roots } = document;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = HeaderValue::from_str(&format!("{}:{}", server_name.to_str(), address.port()))
            .context("serverName is no header value")?;
        Ok(Broker { address, name: server_name, host, tls: TlsConnector::from(Arc::new(tls)) })
    }

    pub fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Failure> {
        match timeout(CONNECT, self.try_connect()).await {
            Ok(result) => result,
            Err(_) => Err(self.not_sent(&format!("no connection within {} s", CONNECT.as_secs()), false)),
        }
    }

    async fn try_connect(&self) -> Result<SendRequest<Body>, Failure> {
        let again = |error: &dyn std::fmt::Display| self.not_sent(error, false);
        let stream = TcpStream::connect(self.address).await.map_err(|error| again(&error))?;
        stream.set_nodelay(true).map_err(|error| again(&error))?;
        let stream = self.tls.connect(self.name.clone(), stream).await.map_err(|error| {
            // A certificate that is not the broker's will not be a moment later.
            self.not_sent(&error, error.kind() == std::io::ErrorKind::InvalidData)
        })?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| again(&error))?;
        // It ends with the sender, and what goes wrong with it is told there.
        tokio::spawn(async { drop(connection.await) });
        Ok(sender)
    }

    fn not_sent(&self, error: &dyn std::fmt::Display, last: bool) -> Failure {
        Failure::NotSent { why: format!("{}: {error}", self.address), last }
    }
}

/// One connection, made when it is first needed and again when the broker closed it between two requests.
pub struct Connection {
    broker: Arc<Broker>,
    sender: Option<SendRequest<Body>>,
}

impl Connection {
    pub fn new(broker: Arc<Broker>) -> Connection {
        Connection { broker, sender: None }
    }

    pub async fn send(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.sender = Some(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Lost(error.into_error().to_string())),
                },
            }
        }
        let mut sender = self.broker.connect().await?;
        let response = sender.send_request(request).await.map_err(|error| Failure::Lost(error.to_string()))?;
        self.sender = Some(sender);
        Ok(response)
    }
}
