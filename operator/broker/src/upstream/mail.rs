//! One message to one mail server, over TLS or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use countersign_crds::Protocol;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;

use crate::judge::mail::Mail;

#[derive(Debug)]
pub enum MailFailure {
    /// Neither the login nor a word of the message left.
    NotSent(String),
    /// The server said no.
    Rejected { code: Option<u16>, why: String },
    /// Whether it was accepted is not known.
    Lost(String),
}

/// A connection that is encrypted, whatever the server would rather have.
pub struct Secured {
    connection: AsyncSmtpConnection,
    pub address: SocketAddr,
}

pub async fn secure(
    tls: &TlsParameters,
    protocol: Protocol,
    addresses: &[SocketAddr],
    within: Duration,
) -> Result<Secured, MailFailure> {
    let mut problems = Vec::new();
    for address in addresses {
        let tried = tokio::time::timeout(within, secure_one(tls, protocol, *address, within)).await;
        match tried.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(connection) => return Ok(Secured { connection, address: *address }),
            Err(problem) => problems.push(format!("{address}: {problem}")),
        }
    }
    Err(MailFailure::NotSent(problems.join("; ")))
}

async fn secure_one(
    tls: &TlsParameters,
    protocol: Protocol,
    address: SocketAddr,
    within: Duration,
) -> Result<AsyncSmtpConnection, String> {
    let hello = ClientId::Domain("countersign-broker".to_owned());
    let failed = |error: lettre::transport::smtp::Error| error.to_string();
    let wrapped = match protocol {
        Protocol::Smtps => Some(tls.clone()),
        Protocol::Smtp => None,
        Protocol::Https | Protocol::Http => return Err("it is not a mail server".to_owned()),
    };
    let starttls = wrapped.is_none();
    let connected = AsyncSmtpConnection::connect_tokio1(address, Some(within), &hello, wrapped, None).await;
    let mut connection = connected.map_err(failed)?;
    if starttls {
        if !connection.can_starttls() {
            return Err("the server offers no TLS (STARTTLS), and nothing is sent without".to_owned());
        }
        connection.starttls(tls.clone(), &hello).await.map_err(failed)?;
    }
    if connection.is_encrypted() { Ok(connection) } else { Err("the connection is not encrypted".to_owned()) }
}

impl Secured {
    /// The server's last word.
    pub async fn send(mut self, login: Option<(String, String)>, mail: &Mail) -> Result<Response, MailFailure> {
        if let Some((user, password)) = login {
            let login = Credentials::new(user, password);
            self.connection.auth(DEFAULT_MECHANISMS, &login).await.map_err(failure)?;
        }
        let Mail { envelope, message } = mail;
        let response = self.connection.send(envelope, message).await.map_err(failure)?;
        self.connection.abort().await;
        Ok(response)
    }
}

fn failure(error: lettre::transport::smtp::Error) -> MailFailure {
    let why = error.to_string();
    match error.status() {
        Some(code) => MailFailure::Rejected { code: Some(code.into()), why },
        // What the client found out by itself, such as a server that takes no login.
        None if error.is_client() => MailFailure::Rejected { code: None, why },
        None => MailFailure::Lost(why),
    }
}
