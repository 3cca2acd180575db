//! One request over one connection of its own, in HTTP/1.1. Redirects are answers like others.

use std::net::SocketAddr;
use std::time::Duration;

use countersign_crds::Protocol;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::connect::{NotConnected, connect};
use super::outgoing::Outgoing;
use super::trust::Trust;
use crate::judge::target::{Target, TargetHost};

/// Of an answer's head.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;

/// A connection over which one request goes.
pub struct Ready {
    sender: SendRequest<Outgoing>,
    pub address: SocketAddr,
}

/// Ready to send, TLS included; nothing of the request has left yet.
pub async fn ready(
    trust: &Trust,
    target: &Target,
    addresses: &[SocketAddr],
    within: Duration,
) -> Result<Ready, NotConnected> {
    let (stream, address) = connect(addresses, within).await?;
    let failed = |error: &dyn std::fmt::Display| NotConnected::Unreachable(format!("{address}: {error}"));
    let late = || failed(&"no TLS handshake in time");
    let sender = match target.protocol {
        Protocol::Https => {
            let name = server_name(&target.host).map_err(|error| failed(&error))?;
            let secured = timeout(within, trust.web().connect(name, stream)).await.map_err(|_| late())?;
            handshake(secured.map_err(|error| failed(&error))?).await
        }
        Protocol::Http => handshake(stream).await,
        Protocol::Smtps | Protocol::Smtp => return Err(failed(&"mail is not a web request")),
    };
    Ok(Ready { sender: sender.map_err(|error| failed(&error))?, address })
}

async fn handshake<S>(stream: S) -> hyper::Result<SendRequest<Outgoing>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new();
    builder.max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // It ends with the sender and the answer, and what goes wrong with it is told there.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

fn server_name(host: &TargetHost) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
    match host {
        TargetHost::Name(name) => ServerName::try_from(name.clone()),
        TargetHost::Address(address) => Ok(ServerName::from(*address)),
    }
}

impl Ready {
    pub async fn send(mut self, request: Request<Outgoing>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}
