//! The witnesses of the log: where each is, and by which key its cosignatures are known.

use std::sync::Arc;

use countersign_core::tlog::WitnessKey;
use countersign_service::settings::{SettingError, Source, wrong};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

const NAME: &str = "COUNTERSIGN_WITNESSES";

#[derive(Clone)]
pub struct Witness {
    /// Its submission prefix, without a slash at the end.
    pub url: String,
    pub key: WitnessKey,
    /// Whose certificates are trusted: the public ones, or those of its own CA.
    pub tls: ClientConfig,
}

impl std::fmt::Debug for Witness {
    /// Without all the certificates.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Witness { url, key, tls: _ } = self;
        write!(f, "{url} {key}")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    url: String,
    key: String,
    #[serde(default)]
    ca: String,
}

/// A JSON list, as the chart writes it.
pub fn read(source: &Source<'_>) -> Result<Vec<Witness>, SettingError> {
    let Some(text) = source.optional(NAME) else { return Ok(Vec::new()) };
    let said: Vec<Said> = serde_json::from_str(&text).map_err(|error| wrong(NAME, error.to_string()))?;
    let witnesses = said
        .into_iter()
        .enumerate()
        .map(|(place, said)| witness(said).map_err(|why| wrong(NAME, format!("witnesses[{place}].{why}"))));
    let witnesses: Vec<Witness> = witnesses.collect::<Result<_, _>>()?;
    let twice = |(place, witness): (usize, &Witness)| {
        witnesses[..place].iter().any(|other| other.key.is_same_key(&witness.key)).then_some(place)
    };
    match witnesses.iter().enumerate().find_map(twice) {
        Some(place) => Err(wrong(NAME, format!("witnesses[{place}].key: another one has the same key"))),
        None => Ok(witnesses),
    }
}

fn witness(said: Said) -> Result<Witness, String> {
    let Said { url, key, ca } = said;
    let parsed: axum::http::Uri = url.parse().map_err(|error| format!("url: {error}"))?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) || parsed.host().is_none() || parsed.query().is_some() {
        return Err(format!("url: {url:?} is not https://HOST[:PORT][/PATH], or http:// within the cluster"));
    }
    let key = key.parse().map_err(|error| format!("key: {error}"))?;
    Ok(Witness { url: url.trim_end_matches('/').to_owned(), key, tls: tls(&ca)? })
}

fn tls(ca: &str) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if ca.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("ca: {error}"))?;
        roots.add(certificate).map_err(|error| format!("ca: {error}"))?;
    }
    if roots.is_empty() {
        return Err("ca: there is no certificate (PEM) in it".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| format!("TLS: {error}"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";

    fn said(text: &str) -> Result<Vec<Witness>, String> {
        read(&Source(&|_| Some(text.to_owned()))).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_chart_writes_is_read_and_what_is_wrong_is_named() {
        let one = format!(r#"{{"url": "https://w.example/one/", "key": "{KEY}"}}"#);
        let witnesses = said(&format!("[{one}]")).unwrap();
        assert_eq!((witnesses.len(), witnesses[0].url.as_str()), (1, "https://w.example/one"));
        assert!(said("[]").unwrap().is_empty() && said("").unwrap().is_empty());
        for (text, why) in [
            (format!("[{one}, {one}]"), "witnesses[1].key: another one has the same key"),
            (one.replace("https", "ftp"), "witnesses[0].url: "),
            (one.replace("/one/", "/?a=b"), "witnesses[0].url: "),
            (one.replace("BOv", "AOv"), "witnesses[0].key: "),
            (one.replace("\"key\"", "\"ca\": \"none\", \"key\""), "witnesses[0].ca: there is no certificate"),
            (one.replace("\"key\"", "\"surprise\": 1, \"key\""), "surprise"),
        ] {
            let text = if text.starts_with('[') { text } else { format!("[{text}]") };
            let error = said(&text).unwrap_err();
            assert!(error.starts_with(NAME) && error.contains(why), "{why}: {error}");
        }
    }
}
