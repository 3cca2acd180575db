//! Where the broker is and how it is known, as the pod's own spec says it, and the token that opens one session, from the
//! attempt's Secret.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;

/// The document, in the pod's own spec: a Secret could be put there by somebody else.
pub const BROKER: &str = "COUNTERSIGN_BROKER";
pub const TOKEN_FILE: &str = "COUNTERSIGN_TOKEN_FILE";

pub struct Document {
    pub address: SocketAddr,
    pub server_name: ServerName<'static>,
    pub roots: RootCertStore,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    version: u32,
    url: String,
    server_name: String,
    ca: String,
}

/// The document and the token; `None` where the pod is told of no broker: a skill without a way out.
pub fn read() -> Result<Option<(Document, String)>, String> {
    let Some(text) = std::env::var_os(BROKER) else { return Ok(None) };
    let document = parse(text.as_encoded_bytes()).map_err(|message| format!("{BROKER}: {message}"))?;
    let path = std::env::var_os(TOKEN_FILE).map_or_else(|| "/countersign/input/token".into(), PathBuf::from);
    let token = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let token = token.trim().to_owned();
    if token.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(Some((document, token))) }
}

fn parse(bytes: &[u8]) -> Result<Document, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Raw { version, url, server_name, ca } = raw;
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
    Ok(Document { address, server_name, roots })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let good = json!({"version": 1, "url": "https://[fd00::7]:8443", "serverName": "b.svc", "ca": ca});
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
        assert!(with("surprise", json!(1)).contains("surprise"));
    }
}
