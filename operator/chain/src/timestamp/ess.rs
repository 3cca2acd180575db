//! The signed attribute that names the signer's certificate (RFC 2634, section 5.4; RFC 5035), so that no other one with
//! the same key can take its place.

use aws_lc_rs::digest;
use der::asn1::OctetString;
use der::oid::db::rfc5912::ID_SHA_256;
use der::{Any, Sequence};
use x509_cert::ext::pkix::name::{GeneralName, GeneralNames};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::algorithm;
use super::token::Held;

#[derive(Sequence)]
struct IssuerSerial {
    issuer: GeneralNames,
    serial: SerialNumber,
}

#[derive(Sequence)]
struct IdV1 {
    hash: OctetString,
    #[asn1(optional = "true")]
    issuer_serial: Option<IssuerSerial>,
}

#[derive(Sequence)]
struct IdV2 {
    /// SHA-256 where there is none.
    #[asn1(optional = "true")]
    algorithm: Option<AlgorithmIdentifierOwned>,
    hash: OctetString,
    #[asn1(optional = "true")]
    issuer_serial: Option<IssuerSerial>,
}

#[derive(Sequence)]
struct ListV1 {
    ids: Vec<IdV1>,
    #[asn1(optional = "true")]
    policies: Option<Any>,
}

#[derive(Sequence)]
struct ListV2 {
    ids: Vec<IdV2>,
    #[asn1(optional = "true")]
    policies: Option<Any>,
}

struct Id {
    /// `None` of an unknown one, which names nothing.
    algorithm: Option<&'static digest::Algorithm>,
    hash: OctetString,
    issuer_serial: Option<IssuerSerial>,
}

/// Certificates by their hashes: first the signer's, then those that its chain is limited to.
pub(super) struct SigningCertificates(Vec<Id>);

impl SigningCertificates {
    /// SigningCertificate, whose hashes are of SHA-1.
    pub(super) fn v1(value: &Any) -> der::Result<SigningCertificates> {
        let ListV1 { ids, policies: _ } = value.decode_as()?;
        let id = |IdV1 { hash, issuer_serial }| Id {
            algorithm: Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            hash,
            issuer_serial,
        };
        Ok(SigningCertificates(ids.into_iter().map(id).collect()))
    }

    /// SigningCertificateV2.
    pub(super) fn v2(value: &Any) -> der::Result<SigningCertificates> {
        let ListV2 { ids, policies: _ } = value.decode_as()?;
        let id = |IdV2 { algorithm, hash, issuer_serial }| Id {
            algorithm: algorithm.map_or(Some(ID_SHA_256), |named| algorithm::plain(&named)).and_then(algorithm::digest),
            hash,
            issuer_serial,
        };
        Ok(SigningCertificates(ids.into_iter().map(id).collect()))
    }

    pub(super) fn is_signer(&self, certificate: &Held) -> bool {
        self.0.first().is_some_and(|id| id.names(certificate))
    }

    /// A list of one limits nothing.
    pub(super) fn allows(&self, issuer: &Held) -> bool {
        self.0.len() == 1 || self.0.iter().any(|id| id.names(issuer))
    }
}

impl Id {
    fn names(&self, certificate: &Held) -> bool {
        let Some(algorithm) = self.algorithm else { return false };
        let tbs = &certificate.parsed.tbs_certificate;
        let issued = self.issuer_serial.as_ref().is_none_or(|IssuerSerial { issuer, serial }| {
            *issuer == [GeneralName::DirectoryName(tbs.issuer.clone())] && *serial == tbs.serial_number
        });
        issued && digest::digest(algorithm, &certificate.der).as_ref() == self.hash.as_bytes()
    }
}
