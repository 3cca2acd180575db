//! `broker.json`: where the broker is, how it is known, and the token that opens one session.

use std::net::SocketAddr;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;

use crate::output;

/// Its digest, where the pod's own spec names one.
pub const BROKER_SHA256: &str = "COUNTERSIGN_BROKER_SHA256";

pub struct Document {
    pub address: SocketAddr,
    pub server_name: ServerName<'static>,
    pub roots: RootCertStore,
    pub token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    version: u32,
    url: String,
    server_name: String,
    ca: String,
    token: String,
}

/// `None` where there is none: a skill without a way out.
pub fn read(path: &Path) -> Result<Option<Document>, String> {
    let expected = std::env::var(BROKER_SHA256).ok();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && expected.is_none() => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    if expected.is_some_and(|expected| output::sha256(&bytes) != expected) {
        return Err(format!("{} is not the document that this pod was made for", path.display()));
    }
    parse(&bytes).map(Some).map_err(|message| format!("{}: {message}", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Document, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Raw { version, url, server_name, ca, token } = raw;
    if version != 1 {
        return Err(format!("version {version} is not known; this runner knows 1"));
    }
    // An address: the sandbox resolves no names.
    let address = url
        .strip_prefix("https://")
        .and_then(|rest| rest.trim_end_matches('/').parse().ok())
        .ok_or_else(|| format!("url: {url:?} is not https://ADDRESS:PORT"))?;
    let server_name = ServerName::try_from(server_name).map_err(|error| format!("serverName: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("ca: {error}"))?;
        roots.add(certificate).map_err(|error| format!("ca: {error}"))?;
    }
    if roots.is_empty() {
        return Err("ca holds no certificate".to_owned());
    }
    if token.is_empty() || !token.is_ascii() {
        return Err("token is empty or not ASCII".to_owned());
    }
    Ok(Document { address, server_name, roots, token })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let good =
            json!({"version": 1, "url": "https://[fd00::7]:8443", "serverName": "b.svc", "ca": ca, "token": "t"});
        let with = |name: &str, value: serde_json::Value| {
            let mut document = good.clone();
            document[name] = value;
            parse(document.to_string().as_bytes()).err().unwrap_or_default()
        };
        assert_eq!(with("version", json!(1)), "");
        assert!(with("version", json!(2)).contains("version 2"));
        for url in ["http://10.0.0.7:8443", "https://broker.svc:8443", "https://10.0.0.7", "https://10.0.0.7:8443/x"] {
            assert!(with("url", json!(url)).contains("is not https://ADDRESS:PORT"), "{url}");
        }
        assert!(with("serverName", json!("a b")).starts_with("serverName: "));
        assert!(with("ca", json!("")).contains("holds no certificate"));
        assert!(with("token", json!("")).starts_with("token "));
        assert!(with("surprise", json!(1)).contains("surprise"));
    }
}
