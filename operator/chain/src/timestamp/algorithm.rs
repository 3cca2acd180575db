//! The algorithms that a token may be signed with.

use aws_lc_rs::digest;
use der::asn1::ObjectIdentifier;
use der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, ID_SHA_256, ID_SHA_384, ID_SHA_512, RSA_ENCRYPTION,
    SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use der::oid::db::rfc8410::ID_ED_25519;
use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as verifier;
use x509_cert::spki::AlgorithmIdentifierOwned;

type Verifier = &'static dyn SignatureVerificationAlgorithm;

/// Of certificates. RSA keys have 2048 to 8192 bits.
pub(super) const OF_CERTIFICATES: [Verifier; 13] = [
    verifier::RSA_PKCS1_2048_8192_SHA256,
    verifier::RSA_PKCS1_2048_8192_SHA384,
    verifier::RSA_PKCS1_2048_8192_SHA512,
    verifier::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    verifier::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    verifier::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    verifier::ECDSA_P256_SHA256,
    verifier::ECDSA_P256_SHA384,
    verifier::ECDSA_P256_SHA512,
    verifier::ECDSA_P384_SHA256,
    verifier::ECDSA_P384_SHA384,
    verifier::ECDSA_P384_SHA512,
    verifier::ED25519,
];

/// The name of an algorithm whose parameters are absent or NULL, as they are of all that are known here.
pub(super) fn plain(algorithm: &AlgorithmIdentifierOwned) -> Option<ObjectIdentifier> {
    let AlgorithmIdentifierOwned { oid, parameters } = algorithm;
    parameters.as_ref().is_none_or(der::Any::is_null).then_some(*oid)
}

pub(super) fn digest(name: ObjectIdentifier) -> Option<&'static digest::Algorithm> {
    [(ID_SHA_256, &digest::SHA256), (ID_SHA_384, &digest::SHA384), (ID_SHA_512, &digest::SHA512)]
        .into_iter()
        .find_map(|(known, algorithm)| (known == name).then_some(algorithm))
}

/// Of a signer (RFC 5754, RFC 8419): what its signature may be checked with, of which the key decides. Empty where the
/// two do not go together or are not known.
pub(super) fn verifiers(signature: ObjectIdentifier, digest: ObjectIdentifier) -> Vec<Verifier> {
    match (signature, digest) {
        (RSA_ENCRYPTION | SHA_256_WITH_RSA_ENCRYPTION, ID_SHA_256) => vec![verifier::RSA_PKCS1_2048_8192_SHA256],
        (RSA_ENCRYPTION | SHA_384_WITH_RSA_ENCRYPTION, ID_SHA_384) => vec![verifier::RSA_PKCS1_2048_8192_SHA384],
        (RSA_ENCRYPTION | SHA_512_WITH_RSA_ENCRYPTION, ID_SHA_512) => vec![verifier::RSA_PKCS1_2048_8192_SHA512],
        (ECDSA_WITH_SHA_256, ID_SHA_256) => vec![verifier::ECDSA_P256_SHA256, verifier::ECDSA_P384_SHA256],
        (ECDSA_WITH_SHA_384, ID_SHA_384) => vec![verifier::ECDSA_P256_SHA384, verifier::ECDSA_P384_SHA384],
        (ECDSA_WITH_SHA_512, ID_SHA_512) => vec![verifier::ECDSA_P256_SHA512, verifier::ECDSA_P384_SHA512],
        (ID_ED_25519, ID_SHA_512) => vec![verifier::ED25519],
        _ => vec![],
    }
}
