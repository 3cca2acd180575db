//! The broker's own certificate, which the operator makes and renews, and the server that shows it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often to look whether it was renewed.
const EVERY: Duration = Duration::from_secs(10);
/// Of a request's head.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 200;
const HEAD: Duration = Duration::from_secs(30);

/// As it is mounted.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

pub struct Certificate {
    folder: PathBuf,
    loaded: Files,
    pub tls: RustlsConfig,
}

impl Certificate {
    pub fn load(folder: &Path) -> anyhow::Result<Certificate> {
        let loaded = Files::read(folder)?;
        let tls = RustlsConfig::from_config(Arc::new(loaded.config()?));
        Ok(Certificate { folder: folder.to_owned(), loaded, tls })
    }

    /// Follows it for as long as the process lives.
    pub async fn follow(mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            match self.refresh() {
                Ok(false) => {}
                Ok(true) => tracing::info!("a renewed certificate was loaded"),
                Err(error) => tracing::warn!(error = %format!("{error:#}"), "the certificate was not refreshed"),
            }
        }
    }

    /// Whether another one is loaded now.
    pub fn refresh(&mut self) -> anyhow::Result<bool> {
        let found = Files::read(&self.folder)?;
        if found == self.loaded {
            return Ok(false);
        }
        self.tls.reload_from_config(Arc::new(found.config()?));
        self.loaded = found;
        Ok(true)
    }
}

impl Files {
    fn read(folder: &Path) -> anyhow::Result<Files> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("{}: the broker's certificate", path.display()))
        };
        Ok(Files { certificate: read("tls.crt")?, key: read("tls.key")? })
    }

    fn config(&self) -> anyhow::Result<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("tls.crt cannot be read")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("tls.key cannot be read")?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("tls.crt and tls.key do not fit")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Serves until the handle says otherwise.
pub async fn serve(
    router: Router,
    address: SocketAddr,
    tls: RustlsConfig,
    handle: Handle<SocketAddr>,
) -> anyhow::Result<()> {
    // Head and body of an answer are written apart; together with delayed acknowledgements Nagle's algorithm would hold
    // the second back for 40 ms.
    let acceptor = RustlsAcceptor::new(tls).acceptor(NoDelayAcceptor::new());
    let mut server = axum_server::bind(address).acceptor(acceptor).handle(handle).http1_only();
    server
        .http_builder()
        .http1()
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    server.serve(router.into_make_service()).await?;
    Ok(())
}
