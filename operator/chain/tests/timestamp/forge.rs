//! Tokens written byte by byte and signed, so that each can be wrong in one thing.

use aws_lc_rs::digest::{self, SHA256, SHA512};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use countersign_chain::timestamp::ObjectIdentifier;

use crate::pki::Pki;

pub const SHA_256: &str = "2.16.840.1.101.3.4.2.1";
pub const SHA_384: &str = "2.16.840.1.101.3.4.2.2";
pub const SHA_512: &str = "2.16.840.1.101.3.4.2.3";
pub const ECDSA_SHA_256: &str = "1.2.840.10045.4.3.2";
pub const RSA: &str = "1.2.840.113549.1.1.1";
pub const ED25519: &str = "1.3.101.112";
pub const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
pub const DATA: &str = "1.2.840.113549.1.7.1";
pub const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
pub const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
pub const SIGNING_CERTIFICATE: &str = "1.2.840.113549.1.9.16.2.12";
pub const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";

pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut out = vec![tag];
    match value.len() {
        length @ 0..0x80 => out.push(u8::try_from(length).unwrap()),
        length => {
            let bytes = u16::try_from(length).unwrap().to_be_bytes();
            let bytes = if bytes[0] == 0 { &bytes[1..] } else { &bytes[..] };
            out.push(0x80 | u8::try_from(bytes.len()).unwrap());
            out.extend(bytes);
        }
    }
    out.extend(value);
    out
}

pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

/// SET OF, in its order.
pub fn set(tag: u8, mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(tag, &[&parts.concat()])
}

pub fn oid(name: &str) -> Vec<u8> {
    tlv(6, &[name.parse::<ObjectIdentifier>().unwrap().as_bytes()])
}

pub fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(4, &[bytes])
}

pub fn algorithm(name: &str) -> Vec<u8> {
    seq(&[&oid(name)])
}

/// A type and its values.
pub type Attribute = (String, Vec<Vec<u8>>);

#[derive(Clone)]
pub struct Forge {
    /// In PKCS #8.
    pub key: Vec<u8>,
    pub edwards: bool,
    /// The certificates in the token.
    pub certificates: Vec<Vec<u8>>,
    /// The certificate by which the signed attribute names the signer, by SHA-256.
    pub named: Vec<u8>,
    /// DER of all of the SignerIdentifier.
    pub sid: Vec<u8>,
    pub outer_type: &'static str,
    pub content_type: &'static str,
    pub version: u8,
    pub signer_version: u8,
    pub announced: &'static str,
    pub digest_algorithm: Vec<u8>,
    pub signature_algorithm: Vec<u8>,
    pub signers: usize,
    pub info_version: u8,
    pub imprint: Vec<u8>,
    pub serial: Vec<u8>,
    pub time: &'static str,
    /// What follows the time, as DER: accuracy, ordering, nonce, tsa, extensions.
    pub rest: Vec<Vec<u8>>,
    /// Of what is signed, in the order: content type, digest, signing certificate.
    pub edit: fn(&mut Vec<Attribute>, &Forge),
    /// Instead of the content that was signed.
    pub content: Option<Vec<u8>>,
    pub unsigned: Option<Vec<u8>>,
}

impl Forge {
    /// As the authority `tsa` below `issuer` would stamp this.
    pub fn new(pki: &Pki, digest: &[u8; 32]) -> Forge {
        let tsa = pki.der("tsa");
        Forge {
            key: pki.key_der("tsa"),
            edwards: false,
            certificates: vec![tsa.clone(), pki.der("issuer")],
            named: tsa,
            sid: sid("issuer", &[0x10, 0x01]),
            outer_type: "1.2.840.113549.1.7.2",
            content_type: TST_INFO,
            version: 3,
            signer_version: 1,
            announced: SHA_256,
            digest_algorithm: algorithm(SHA_256),
            signature_algorithm: algorithm(ECDSA_SHA_256),
            signers: 1,
            info_version: 1,
            imprint: seq(&[&algorithm(SHA_256), &octets(digest)]),
            serial: tlv(2, &[&[0, 0xab, 0xcd]]),
            time: "20250102030405.5Z",
            rest: Vec::new(),
            edit: |_, _| (),
            content: None,
            unsigned: None,
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        if self.edwards {
            return Ed25519KeyPair::from_pkcs8(&self.key).unwrap().sign(message).as_ref().to_vec();
        }
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.key).unwrap();
        key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// By which the signer is named, as an OCTET STRING.
    pub fn named_hash(&self) -> Vec<u8> {
        octets(digest::digest(&SHA256, &self.named).as_ref())
    }

    pub fn info(&self) -> Vec<u8> {
        let version = tlv(2, &[&[self.info_version]]);
        let time = tlv(0x18, &[self.time.as_bytes()]);
        seq(&[&version, &oid("1.2.3.4.1"), &self.imprint, &self.serial, &time, &self.rest.concat()])
    }

    pub fn token(&self) -> Vec<u8> {
        let info = self.info();
        let hasher = if self.edwards { &SHA512 } else { &SHA256 };
        let named = self.named_hash();
        let mut attributes = vec![
            (CONTENT_TYPE.to_owned(), vec![oid(self.content_type)]),
            (MESSAGE_DIGEST.to_owned(), vec![octets(digest::digest(hasher, &info).as_ref())]),
            (SIGNING_CERTIFICATE_V2.to_owned(), vec![seq(&[&seq(&[&seq(&[&named])])])]),
        ];
        (self.edit)(&mut attributes, self);
        let encoded: Vec<Vec<u8>> =
            attributes.into_iter().map(|(name, values)| seq(&[&oid(&name), &set(0x31, values)])).collect();
        let signature = octets(&self.sign(&set(0x31, encoded.clone())));
        let attributes = if encoded.is_empty() { Vec::new() } else { set(0xa0, encoded) };
        let version = tlv(2, &[&[self.signer_version]]);
        let unsigned = self.unsigned.clone().unwrap_or_default();
        let head = [&version[..], &self.sid, &self.digest_algorithm, &attributes].concat();
        let signers = (0..self.signers).map(|place| {
            // Two that are the same would be no SET.
            let other = if place == 0 { signature.clone() } else { octets(&[0; 8]) };
            seq(&[&head, &self.signature_algorithm, &other, &unsigned])
        });
        let signers = set(0x31, signers.collect());
        let content = self.content.clone().unwrap_or(info);
        let content = seq(&[&oid(self.content_type), &tlv(0xa0, &[&octets(&content)])]);
        let certificates = set(0xa0, self.certificates.clone());
        let digests = set(0x31, vec![algorithm(self.announced)]);
        let data = seq(&[&tlv(2, &[&[self.version]]), &digests, &content, &certificates, &signers]);
        seq(&[&oid(self.outer_type), &tlv(0xa0, &[&data])])
    }
}

/// By the issuer's common name and a serial number.
pub fn sid(issuer: &str, serial: &[u8]) -> Vec<u8> {
    let name = set(0x31, vec![seq(&[&oid("2.5.4.3"), &tlv(0x0c, &[issuer.as_bytes()])])]);
    seq(&[&seq(&[&name]), &tlv(2, &[serial])])
}

/// A TimeStampResp.
pub fn response(status: &[u8], token: &[u8]) -> Vec<u8> {
    seq(&[&seq(&[status]), token])
}
