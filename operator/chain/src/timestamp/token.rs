//! A token's outside: CMS SignedData (RFC 5652, section 5) with one signer.

use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    DigestAlgorithmIdentifiers, EncapsulatedContentInfo, SignerIdentifier, SignerInfo, SignerInfos,
};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::oid::db::rfc5911::{
    ID_AA_SIGNING_CERTIFICATE, ID_AA_SIGNING_CERTIFICATE_V_2, ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA,
};
use der::{Any, Decode, Encode, Sequence};
use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::attr::Attributes;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use super::ess::SigningCertificates;
use super::verify::StampError;
use super::{algorithm, wire};

/// id-ct-TSTInfo.
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");

/// As in `cms`, but with certificates as they came: one that cannot be read must not spoil the others, and their hashes
/// are of just these bytes.
#[derive(Sequence)]
struct SignedData {
    version: CmsVersion,
    digests: DigestAlgorithmIdentifiers,
    content: EncapsulatedContentInfo,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true", optional = "true")]
    certificates: Option<SetOfVec<Any>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true", optional = "true")]
    crls: Option<SetOfVec<Any>>,
    signers: SignerInfos,
}

/// A certificate that came with a token.
pub(super) struct Held {
    pub(super) der: CertificateDer<'static>,
    pub(super) parsed: Certificate,
}

/// A token whose signature belongs to its content, if it is that of the signer's key.
pub(super) struct Token {
    pub(super) info: wire::Info,
    pub(super) signer: Held,
    /// What the signer's chain may be made of, in no order.
    pub(super) issuers: Vec<Held>,
    pub(super) signature: Signature,
}

pub(super) struct Signature {
    pub(super) algorithm: ObjectIdentifier,
    pub(super) digest: ObjectIdentifier,
    pub(super) message: Vec<u8>,
    pub(super) value: OctetString,
}

impl Token {
    pub(super) fn parse(token: &[u8]) -> Result<Token, StampError> {
        let ContentInfo { content_type, content } = ContentInfo::from_der(token)?;
        if content_type != ID_SIGNED_DATA {
            return Err(StampError::NotSigned(content_type));
        }
        let SignedData { version, digests, content, certificates, crls: _, signers } = content.decode_as()?;
        let EncapsulatedContentInfo { econtent_type, econtent } = content;
        if econtent_type != TST_INFO {
            return Err(StampError::NoStamp(econtent_type));
        }
        let content: OctetString = econtent.ok_or(StampError::Syntax("it has no content"))?.decode_as()?;
        let mut signers = signers.0.into_vec();
        let (Some(signer), true) = (signers.pop(), signers.is_empty()) else { return Err(StampError::Signers) };
        let SignerInfo {
            version: of_signer,
            sid,
            digest_alg,
            signed_attrs,
            signature_algorithm,
            signature,
            unsigned_attrs: _,
        } = signer;
        let fits = match &sid {
            SignerIdentifier::IssuerAndSerialNumber(_) => of_signer == CmsVersion::V1,
            SignerIdentifier::SubjectKeyIdentifier(_) => of_signer == CmsVersion::V3,
        };
        if version != CmsVersion::V3 || !fits {
            return Err(StampError::Syntax("its version is not that of its content"));
        }
        let unknown = || StampError::Algorithm(signature_algorithm.oid, digest_alg.oid);
        let algorithm = algorithm::plain(&signature_algorithm).ok_or_else(unknown)?;
        let digest = algorithm::plain(&digest_alg).ok_or_else(unknown)?;
        let hasher = algorithm::digest(digest).ok_or_else(unknown)?;
        if !digests.iter().any(|announced| algorithm::plain(announced) == Some(digest)) {
            return Err(StampError::Syntax("its digest algorithm is not announced"));
        }

        let attributes = signed_attrs.ok_or(StampError::Attribute("no signed attributes"))?;
        let of_content = aws_lc_rs::digest::digest(hasher, content.as_bytes());
        check_content(&attributes, of_content.as_ref())?;
        let named = named(&attributes)?;

        let certificates = certificates.map(SetOfVec::into_vec).unwrap_or_default();
        let mut issuers: Vec<Held> = certificates.iter().filter_map(Held::read).collect();
        let place = issuers.iter().position(|held| held.is(&sid)).ok_or(StampError::NoCertificate)?;
        let signer = issuers.swap_remove(place);
        if !named.iter().all(|list| list.is_signer(&signer)) {
            return Err(StampError::Substituted);
        }
        issuers.retain(|issuer| named.iter().all(|list| list.allows(issuer)));

        let info = wire::Info::from_der(content.as_bytes())?;
        // What is signed is their encoding as a SET, not as the [0] that they are in the token.
        let message = attributes.to_der()?;
        Ok(Token { info, signer, issuers, signature: Signature { algorithm, digest, message, value: signature } })
    }
}

/// The one value of an attribute that may be there once.
fn attribute(attributes: &Attributes, name: ObjectIdentifier) -> Result<Option<&Any>, StampError> {
    let mut found = attributes.iter().filter(|attribute| attribute.oid == name);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(attribute), None) => match attribute.values.as_slice() {
            [value] => Ok(Some(value)),
            _ => Err(StampError::Attribute("an attribute without exactly one value")),
        },
        (Some(_), Some(_)) => Err(StampError::Attribute("an attribute twice")),
    }
}

fn check_content(attributes: &Attributes, digest: &[u8]) -> Result<(), StampError> {
    let content_type = attribute(attributes, ID_CONTENT_TYPE)?.ok_or(StampError::Attribute("no content type"))?;
    if content_type.decode_as::<ObjectIdentifier>()? != TST_INFO {
        return Err(StampError::Attribute("another content type"));
    }
    let signed = attribute(attributes, ID_MESSAGE_DIGEST)?.ok_or(StampError::Attribute("no digest"))?;
    if signed.decode_as::<OctetString>()?.as_bytes() == digest { Ok(()) } else { Err(StampError::Content) }
}

/// Either attribute will do; where both are there, both must hold.
fn named(attributes: &Attributes) -> Result<Vec<SigningCertificates>, StampError> {
    let v1 = attribute(attributes, ID_AA_SIGNING_CERTIFICATE)?.map(SigningCertificates::v1).transpose()?;
    let v2 = attribute(attributes, ID_AA_SIGNING_CERTIFICATE_V_2)?.map(SigningCertificates::v2).transpose()?;
    let named: Vec<SigningCertificates> = v1.into_iter().chain(v2).collect();
    if named.is_empty() { Err(StampError::Attribute("no signing certificate")) } else { Ok(named) }
}

impl Held {
    fn read(value: &Any) -> Option<Held> {
        let der = value.to_der().ok()?;
        Some(Held { parsed: Certificate::from_der(&der).ok()?, der: der.into() })
    }

    fn is(&self, sid: &SignerIdentifier) -> bool {
        let tbs = &self.parsed.tbs_certificate;
        match sid {
            SignerIdentifier::IssuerAndSerialNumber(id) => {
                id.issuer == tbs.issuer && id.serial_number == tbs.serial_number
            }
            SignerIdentifier::SubjectKeyIdentifier(id) => {
                matches!(tbs.get::<SubjectKeyIdentifier>(), Ok(Some((_, own))) if own == *id)
            }
        }
    }
}
