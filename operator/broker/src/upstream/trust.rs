//! Whose certificates are trusted: Mozilla's list, and what the cluster adds.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

#[derive(Clone)]
pub struct Trust {
    web: TlsConnector,
    /// The added ones, as mail takes them.
    added: Vec<Certificate>,
}

impl Trust {
    pub fn read(added: Option<&Path>) -> anyhow::Result<Trust> {
        let Some(path) = added else { return Trust::new(&[]) };
        let pem = std::fs::read(path).with_context(|| format!("{}: the trusted certificates", path.display()))?;
        let trust = Trust::new(&pem).with_context(|| path.display().to_string())?;
        anyhow::ensure!(!trust.added.is_empty(), "{}: there is no certificate (PEM) in it", path.display());
        Ok(trust)
    }

    /// `added` are certificates in PEM.
    pub fn new(added: &[u8]) -> anyhow::Result<Trust> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let mut for_mail = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(added) {
            let certificate = certificate.context("a certificate cannot be read")?;
            for_mail.push(Certificate::from_der(certificate.to_vec())?);
            roots.add(certificate).context("a certificate cannot be trusted")?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Trust { web: TlsConnector::from(Arc::new(config)), added: for_mail })
    }

    pub fn web(&self) -> &TlsConnector {
        &self.web
    }

    /// For a mail server of this name.
    pub fn mail(&self, name: &str) -> Result<TlsParameters, lettre::transport::smtp::Error> {
        let parameters = TlsParameters::builder(name.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
        self.added.iter().cloned().fold(parameters, |all, one| all.add_root_certificate(one)).build_rustls()
    }
}
