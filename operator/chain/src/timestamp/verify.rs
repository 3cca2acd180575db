//! What a token proves.

use std::time::Duration;

use alloy_primitives::hex;
use der::asn1::ObjectIdentifier;
use der::oid::db::rfc5280::ID_KP_TIME_STAMPING;
use jiff::Timestamp;
use thiserror::Error;
use webpki::EndEntityCert;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, KeyUsages};

use super::algorithm;
use super::chain::Roots;
use super::token::{Held, Signature, Token};
use super::wire;

/// That an authority has seen a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When, by its clock.
    pub time: Timestamp,
    /// Unique among its stamps; hexadecimal digits, two of each byte.
    pub serial: String,
    /// By which it worked.
    pub policy: ObjectIdentifier,
    /// The subject of its certificate, for people.
    pub tsa: String,
    /// How far off `time` may be, to either side; `None` where the authority does not say.
    pub accuracy: Option<Duration>,
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StampError {
    #[error("the token is not DER: {0}")]
    Der(#[from] der::Error),
    #[error("the token is not signed: its content is of the type {0}")]
    NotSigned(ObjectIdentifier),
    #[error("what is signed is no time stamp, but of the type {0}")]
    NoStamp(ObjectIdentifier),
    #[error("the token is malformed: {0}")]
    Syntax(&'static str),
    #[error("the token has not exactly one signer")]
    Signers,
    #[error("what the token's signer has signed has {0}")]
    Attribute(&'static str),
    #[error("the token's signature is of another content")]
    Content,
    #[error("the token is signed with {0} and {1}, or parameters of these, which are not known here")]
    Algorithm(ObjectIdentifier, ObjectIdentifier),
    #[error("the signer's certificate is not in the token")]
    NoCertificate,
    #[error("the signer's certificate is another than the one that was signed with")]
    Substituted,
    #[error("the signer's certificate is not for time stamping, critically and alone")]
    Purpose,
    #[error("the signer's key is for something else than signing")]
    Usage,
    #[error("the signer's certificate leads to none of the roots: {0:?}")]
    Chain(webpki::Error),
    #[error("the signature does not hold")]
    Forged,
    #[error("the stamp is of another digest")]
    Digest,
    #[error("the stamp has a critical extension, which is not known here")]
    Extension,
}

/// Checks a token (the DER of a TimeStampToken) of a SHA-256 digest, up to the roots. Needs neither network nor clock.
pub fn verify(token: &[u8], digest: &[u8; 32], roots: &Roots) -> Result<Stamp, StampError> {
    read(token, digest, roots).map(|(stamp, _)| stamp)
}

/// Checks all of a token but who its signer is: that its signature holds, and that it is of the digest.
pub fn claimed(token: &[u8], digest: &[u8; 32]) -> Result<Stamp, StampError> {
    let Token { info, signer, issuers: _, signature } = Token::parse(token)?;
    let (stamp, _) = stamp(info, digest, signer.parsed.tbs_certificate.subject.to_string())?;
    check_purpose(&signer.parsed)?;
    check_signature(&signer, &signature)?;
    Ok(stamp)
}

/// Also says for which nonce it is, if it is one of ours.
pub(super) fn read(token: &[u8], digest: &[u8; 32], roots: &Roots) -> Result<(Stamp, Option<u64>), StampError> {
    let Token { info, signer, issuers, signature } = Token::parse(token)?;
    let subject = signer.parsed.tbs_certificate.subject.to_string();
    let (stamp, nonce) = stamp(info, digest, subject)?;
    check_purpose(&signer.parsed)?;
    roots.check(&signer, &issuers, stamp.time).map_err(StampError::Chain)?;
    check_signature(&signer, &signature)?;
    Ok((stamp, nonce))
}

fn stamp(info: wire::Info, digest: &[u8; 32], tsa: String) -> Result<(Stamp, Option<u64>), StampError> {
    // The authority's name in there says no more than its certificate.
    let wire::Info { version, policy, imprint, serial, time, accuracy, ordering: _, nonce, authority: _, extensions } =
        info;
    if version != 1 {
        return Err(StampError::Syntax("the stamp is not of version 1"));
    }
    if imprint.sha256() != Some(*digest) {
        return Err(StampError::Digest);
    }
    if extensions.into_iter().flatten().any(|extension| extension.critical) {
        return Err(StampError::Extension);
    }
    let time = wire::time(&time).ok_or(StampError::Syntax("the stamp's time is no time"))?;
    let accuracy = accuracy.map(|accuracy| {
        accuracy.duration().ok_or(StampError::Syntax("the stamp's accuracy is out of the range that it may have"))
    });
    let stamp = Stamp { time, serial: hex::encode(serial.as_bytes()), policy, tsa, accuracy: accuracy.transpose()? };
    Ok((stamp, nonce.as_ref().and_then(wire::nonce)))
}

/// RFC 3161, section 2.3: a key that is for time stamping alone.
fn check_purpose(signer: &Certificate) -> Result<(), StampError> {
    let tbs = &signer.tbs_certificate;
    match tbs.get::<ExtendedKeyUsage>()? {
        Some((true, ExtendedKeyUsage(purposes))) if purposes == [ID_KP_TIME_STAMPING] => {}
        Some(_) | None => return Err(StampError::Purpose),
    }
    let signing = KeyUsages::DigitalSignature | KeyUsages::NonRepudiation;
    match tbs.get::<KeyUsage>()? {
        Some((_, KeyUsage(usages))) if usages.is_empty() || !signing.contains(usages) => Err(StampError::Usage),
        Some(_) | None => Ok(()),
    }
}

fn check_signature(signer: &Held, signature: &Signature) -> Result<(), StampError> {
    let Signature { algorithm, digest, message, value } = signature;
    let certificate = EndEntityCert::try_from(&signer.der).map_err(StampError::Chain)?;
    for verifier in algorithm::verifiers(*algorithm, *digest) {
        match certificate.verify_signature(verifier, message, value.as_bytes()) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => return Err(StampError::Forged),
        }
    }
    Err(StampError::Algorithm(*algorithm, *digest))
}
