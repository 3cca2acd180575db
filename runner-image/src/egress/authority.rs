//! The certificate authority of one attempt, by which the proxy is each host to a client that insists on TLS. Its keys
//! are in memory only, and nobody but this skill is told to trust it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;

/// For clocks that are behind, and for what is still in hand at the end.
const MARGIN: Duration = Duration::from_secs(3600);
/// How many hosts' certificates are kept.
const HOSTS: usize = 256;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// Of every host's certificate.
    key: KeyPair,
    lifetime: Duration,
    hosts: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    pub fn new(lifetime: Duration) -> anyhow::Result<Authority> {
        let issuing = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = dated(Vec::new(), lifetime)?;
        params.distinguished_name.push(DnType::CommonName, "countersign: one attempt");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&issuing)?.pem();
        Ok(Authority {
            issuer: Issuer::new(params, issuing),
            pem,
            key: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
            lifetime,
            hosts: Mutex::default(),
        })
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What a server of that name or address needs.
    pub fn serve(&self, host: &str) -> anyhow::Result<Arc<ServerConfig>> {
        if let Some(known) = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(self.make(host)?);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS {
            hosts.clear();
        }
        hosts.insert(host.to_owned(), Arc::clone(&made));
        Ok(made)
    }

    fn make(&self, host: &str) -> anyhow::Result<ServerConfig> {
        let mut params = dated(vec![host.to_owned()], self.lifetime)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn dated(hosts: Vec<String>, lifetime: Duration) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    let now = Timestamp::now();
    params.not_before = date(now - MARGIN)?;
    params.not_after = date(now + lifetime + MARGIN)?;
    Ok(params)
}

fn date(at: Timestamp) -> anyhow::Result<time::OffsetDateTime> {
    Ok(time::OffsetDateTime::from_unix_timestamp(at.as_second())?)
}
