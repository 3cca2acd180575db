//! Whom a token's signer was certified by, up to a root (RFC 5280, section 6).

use std::time::Duration;

use der::Decode;
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage as Purpose, VerifiedPath};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::time::Validity;

use super::algorithm;
use super::token::Held;

/// id-kp-timeStamping (1.3.6.1.5.5.7.3.8), without tag and length.
const TIME_STAMPING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// Who is trusted to certify authorities. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Vec<Root>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    anchor: TrustAnchor<'static>,
    validity: Validity,
    /// How many certificates may stand between it and the authority's.
    length: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RootsError {
    #[error("the roots are not PEM: {0}")]
    Pem(String),
    #[error("there is no certificate among the roots")]
    None,
    #[error("a root cannot be read: {0}")]
    Certificate(String),
    #[error("{0} is no certificate authority, so it cannot be a root")]
    NoAuthority(String),
}

impl Roots {
    /// Reads the certificates in PEM; whatever else is there is passed over. An intermediate may be trusted as a root.
    pub fn from_pem(pem: &[u8]) -> Result<Roots, RootsError> {
        let read = |found: Result<CertificateDer<'static>, _>| match found {
            Ok(der) => Root::read(&der),
            Err(error) => Err(RootsError::Pem(format!("{error}"))),
        };
        let roots: Vec<Root> = CertificateDer::pem_slice_iter(pem).map(read).collect::<Result<_, _>>()?;
        if roots.is_empty() { Err(RootsError::None) } else { Ok(Roots(roots)) }
    }

    /// Checks all of a chain, of whatever length, as it was at that time; and what the signer's key may be used for only
    /// as far as its issuers limit it.
    pub(super) fn check(&self, signer: &Held, issuers: &[Held], time: Timestamp) -> Result<(), webpki::Error> {
        let seconds = u64::try_from(time.as_second()).map_err(|_| webpki::Error::BadDerTime)?;
        let since = Duration::from_secs(seconds);
        let anchors: Vec<TrustAnchor<'_>> = self.0.iter().map(|root| root.anchor.clone()).collect();
        let issuers: Vec<CertificateDer<'_>> =
            issuers.iter().map(|issuer| CertificateDer::from(issuer.der.as_ref())).collect();
        EndEntityCert::try_from(&signer.der)?.verify_for_usage(
            &algorithm::OF_CERTIFICATES,
            &anchors,
            &issuers,
            UnixTime::since_unix_epoch(since),
            // Few issuers name purposes, so they are let through without; the signer itself must have it.
            Purpose::required_if_present(TIME_STAMPING),
            None,
            Some(&|path| self.allow(path, since)),
        )?;
        Ok(())
    }

    /// What webpki does not look at: key usages, and what a root limits itself to.
    fn allow(&self, path: &VerifiedPath<'_>, since: Duration) -> Result<(), webpki::Error> {
        for issuer in path.intermediate_certificates() {
            let parsed = Certificate::from_der(&issuer.der()).map_err(|_| webpki::Error::BadDer)?;
            if !signs_certificates(&parsed).map_err(|_| webpki::Error::BadDer)? {
                return Err(webpki::Error::EndEntityUsedAsCa);
            }
        }
        let between = path.intermediate_certificates().count();
        let roots = self.0.iter().filter(|root| root.anchor == *path.anchor());
        let mut judged = roots.map(|root| root.allows(between, since));
        let first = judged.next().unwrap_or(Err(webpki::Error::UnknownIssuer));
        // The same root may be there twice, renewed.
        if judged.any(|other| other.is_ok()) { Ok(()) } else { first }
    }
}

impl Root {
    fn read(der: &CertificateDer<'_>) -> Result<Root, RootsError> {
        let wrong = |error: &dyn std::fmt::Display| RootsError::Certificate(error.to_string());
        let parsed = Certificate::from_der(der).map_err(|error| wrong(&error))?;
        let anchor = webpki::anchor_from_trusted_cert(der).map_err(|error| wrong(&error))?.to_owned();
        let tbs = &parsed.tbs_certificate;
        let constraints = tbs.get::<BasicConstraints>().map_err(|error| wrong(&error))?;
        let signs = signs_certificates(&parsed).map_err(|error| wrong(&error))?;
        match constraints {
            Some((_, BasicConstraints { ca: true, path_len_constraint })) if signs => {
                Ok(Root { anchor, validity: tbs.validity, length: path_len_constraint })
            }
            Some(_) | None => Err(RootsError::NoAuthority(tbs.subject.to_string())),
        }
    }

    fn allows(&self, between: usize, since: Duration) -> Result<(), webpki::Error> {
        let Validity { not_before, not_after } = self.validity;
        let (from, to) = (not_before.to_unix_duration(), not_after.to_unix_duration());
        let (time, of) = (UnixTime::since_unix_epoch(since), UnixTime::since_unix_epoch);
        if since < from {
            Err(webpki::Error::CertNotValidYet { time, not_before: of(from) })
        } else if since > to {
            Err(webpki::Error::CertExpired { time, not_after: of(to) })
        } else if self.length.is_some_and(|length| between > usize::from(length)) {
            Err(webpki::Error::PathLenConstraintViolated)
        } else {
            Ok(())
        }
    }
}

/// Whoever names no usages may do so.
fn signs_certificates(certificate: &Certificate) -> der::Result<bool> {
    Ok(certificate.tbs_certificate.get::<KeyUsage>()?.is_none_or(|(_, usage)| usage.key_cert_sign()))
}
