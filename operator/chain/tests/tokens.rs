//! Tokens that are wrong in one thing.

use aws_lc_rs::digest::{self, SHA384};
use countersign_chain::timestamp::{Stamp, StampError, verify};
use proptest::prelude::*;

use crate::forge::{
    Attribute, CONTENT_TYPE, DATA, ED25519, Forge, MESSAGE_DIGEST, RSA, SHA_256, SHA_384, SHA_512, SIGNING_CERTIFICATE,
    algorithm, octets, oid, seq, set, sid, tlv,
};
use crate::pki::{Kind, Pki, REPLY, Reply, TSA, Wanted, reply, verifies};
use crate::{DIGEST, sha1};

/// `Extensions` as the [1] of a TSTInfo.
fn extensions(critical: bool) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    tlv(0xa1, &[&seq(&[&oid("1.2.3.4.99"), flag, &octets(b"\x05\0")])])
}

#[test]
fn forged_tokens_that_are_right_are_accepted_by_openssl_and_here() {
    let pki = Pki::usual(Kind::P256);
    pki.key("edwards", Kind::Ed25519);
    pki.certificate(Wanted::new("edwards", Some("issuer"), TSA));
    let (roots, usual) = (pki.roots(&["root"]), Forge::new(&pki, &DIGEST));
    let null = |name| seq(&[&oid(name), &[5, 0]]);
    let key_id = tlv(0x80, &[sha1_of_key(&pki).as_slice()]);
    let edwards = pki.der("edwards");
    type Change<'a> = &'a dyn Fn(&mut Forge);
    let table: [(&str, bool, Change<'_>); 12] = [
        ("just so", true, &|_| ()),
        ("parameters of NULL", true, &|forge| {
            forge.digest_algorithm = null(SHA_256);
            forge.imprint = seq(&[&null(SHA_256), &octets(&DIGEST)]);
        }),
        // Of which openssl's `ts` knows nothing.
        ("named by its key", false, &|forge| {
            (forge.sid, forge.signer_version) = (key_id.clone(), 3);
        }),
        ("a nonce of twelve bytes", true, &|forge| forge.rest = vec![tlv(2, &[&[0x7f; 12]])]),
        ("a negative nonce", true, &|forge| forge.rest = vec![tlv(2, &[&[0xff]])]),
        ("an extension", true, &|forge| forge.rest = vec![extensions(false)]),
        ("an extension of its certificates", true, &|forge| forge.unsigned = Some(unsigned())),
        ("a certificate that nobody can read", false, &|forge| {
            forge.certificates.push(tlv(0xa1, &[b"\x05\0"]));
        }),
        ("also named by SHA-1", true, &|forge| {
            forge.edit = |attributes, forge| {
                let id = seq(&[&octets(&sha1(&forge.named))]);
                attributes.push((SIGNING_CERTIFICATE.to_owned(), vec![seq(&[&seq(&[&id])])]));
            };
        }),
        ("a digest that is named though it need not be", true, &|forge| {
            forge.edit = |attributes, forge| {
                let id = seq(&[&algorithm(SHA_256), &forge.named_hash()]);
                attributes[2].1 = vec![seq(&[&seq(&[&id])])];
            };
        }),
        ("named by its issuer and number, too", true, &|forge| {
            forge.edit = |attributes, forge| name_issuer(attributes, forge, "issuer", &[0x10, 0x01]);
        }),
        // Here openssl 3.0 knows no Ed25519.
        ("Ed25519", false, &|forge| {
            forge.key = pki.key_der("edwards");
            (forge.edwards, forge.announced) = (true, SHA_512);
            (forge.named, forge.certificates) = (edwards.clone(), vec![edwards.clone(), pki.der("issuer")]);
            (forge.digest_algorithm, forge.signature_algorithm) = (algorithm(SHA_512), algorithm(ED25519));
        }),
    ];
    for (name, real, change) in table {
        let mut forge = usual.clone();
        change(&mut forge);
        let token = forge.token();
        let Stamp { time, serial, policy, tsa, accuracy } =
            verify(&token, &DIGEST, &roots).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(time, "2025-01-02T03:04:05.5Z".parse().unwrap(), "{name}");
        assert_eq!((serial.as_str(), policy.to_string(), accuracy), ("abcd", "1.2.3.4.1".to_owned(), None), "{name}");
        assert_eq!(tsa, if forge.edwards { "CN=edwards" } else { "CN=tsa" });
        if real {
            assert!(verifies(&pki, &token, &DIGEST, "root", &["issuer"]), "{name}");
        }
    }
}

fn unsigned() -> Vec<u8> {
    set(0xa1, vec![seq(&[&oid("1.2.3.4.98"), &set(0x31, vec![octets(b"unsigned")])])])
}

/// As openssl's `subjectKeyIdentifier = hash`: of the key without its algorithm.
fn sha1_of_key(pki: &Pki) -> Vec<u8> {
    pki.openssl(&["pkey", "-in", "tsa.key", "-pubout", "-outform", "DER", "-out", "tsa.spki"]);
    let spki = std::fs::read(pki.path("tsa.spki")).unwrap();
    // An uncompressed point of P-256 ends it.
    sha1(&spki[spki.len() - 65..])
}

#[test]
fn a_token_that_is_wrong_in_one_thing_is_refused() {
    let pki = Pki::usual(Kind::P256);
    // The same name, key and serial number.
    pki.certificate(Wanted { key: "tsa", subject: "tsa", ..Wanted::new("twin", Some("issuer"), TSA) });
    pki.certificate(Wanted::new("other", Some("issuer"), TSA));
    let (roots, usual) = (pki.roots(&["root"]), Forge::new(&pki, &DIGEST));
    let (twin, issuer) = (pki.der("twin"), pki.der("issuer"));
    let at = |tag: u8, bytes: &'static [u8]| tlv(tag, &[bytes]);
    type Change<'a> = &'a dyn Fn(&mut Forge);
    let table: [(&str, Change<'_>); 60] = [
        ("the token is not signed", &|forge| forge.outer_type = DATA),
        ("no time stamp, but of the type 1.2.840.113549.1.7.1", &|forge| forge.content_type = DATA),
        ("version is not that", &|forge| forge.version = 1),
        ("version is not that", &|forge| forge.signer_version = 3),
        ("version is not that", &|forge| forge.sid = tlv(0x80, &[&[7; 20]])),
        ("not exactly one signer", &|forge| forge.signers = 2),
        ("not exactly one signer", &|forge| forge.signers = 0),
        ("not announced", &|forge| forge.announced = SHA_384),
        // What is signed of the content.
        ("of another content", &|forge| forge.content = Some(Forge { serial: at(2, b"\x07"), ..forge.clone() }.info())),
        ("of another content", &|forge| {
            forge.edit = |attributes, _| attributes[1].1 = vec![octets(&[0; 32])];
        }),
        ("of another content", &|forge| forge.edit = |attributes, _| attributes[1].1 = vec![octets(&[])]),
        ("no digest", &|forge| {
            forge.edit = |attributes, _| drop(attributes.remove(1));
        }),
        ("no content type", &|forge| {
            forge.edit = |attributes, _| drop(attributes.remove(0));
        }),
        ("another content type", &|forge| {
            forge.edit = |attributes, _| attributes[0].1 = vec![oid(DATA)];
        }),
        ("no signing certificate", &|forge| {
            forge.edit = |attributes, _| drop(attributes.pop());
        }),
        ("no signed attributes", &|forge| {
            forge.edit = |attributes, _| attributes.clear();
        }),
        ("without exactly one value", &|forge| {
            forge.edit = |attributes, _| attributes[1].1.push(octets(&[0; 32]));
        }),
        ("without exactly one value", &|forge| {
            forge.edit = |attributes, _| attributes[2].1.clear();
        }),
        ("an attribute twice", &|forge| {
            forge.edit = |attributes, _| attributes.push((CONTENT_TYPE.to_owned(), vec![oid(DATA)]));
        }),
        ("an attribute twice", &|forge| {
            forge.edit = |attributes, _| attributes.push((MESSAGE_DIGEST.to_owned(), vec![octets(&[0; 32])]));
        }),
        ("not DER", &|forge| {
            forge.edit = |attributes, _| attributes[1].1 = vec![oid(DATA)];
        }),
        // Who signed.
        ("is another than", &|forge| forge.certificates[0] = twin.clone()),
        ("is another than", &|forge| forge.named = issuer.clone()),
        ("is another than", &|forge| {
            forge.edit = |attributes, _| attributes[2].1 = vec![seq(&[&seq(&[])])];
        }),
        ("is another than", &|forge| {
            forge.edit = |attributes, _| {
                let id = seq(&[&octets(&[7; 20])]);
                attributes.push((SIGNING_CERTIFICATE.to_owned(), vec![seq(&[&seq(&[&id])])]));
            };
        }),
        ("is another than", &|forge| {
            forge.edit = |attributes, _| {
                let id = seq(&[&algorithm("1.3.14.3.2.26"), &octets(&sha1(b"of an algorithm not known there"))]);
                attributes[2].1 = vec![seq(&[&seq(&[&id])])];
            };
        }),
        // The right hash, but of another issuer or serial number.
        ("is another than", &|forge| {
            forge.edit = |attributes, forge| name_issuer(attributes, forge, "root", &[0x10, 0x01])
        }),
        ("is another than", &|forge| {
            forge.edit = |attributes, forge| name_issuer(attributes, forge, "issuer", &[0x10, 0x02])
        }),
        ("is not in the token", &|forge| forge.certificates.clear()),
        ("is not in the token", &|forge| drop(forge.certificates.remove(0))),
        ("is not in the token", &|forge| forge.sid = sid("issuer", &[0x10, 0x02])),
        ("is not in the token", &|forge| forge.sid = sid("elsewhere", &[0x10, 0x01])),
        ("is not in the token", &|forge| (forge.sid, forge.signer_version) = (tlv(0x80, &[&[7; 20]]), 3)),
        ("UnknownIssuer", &|forge| drop(forge.certificates.pop())),
        // Limited to a chain that is not this one.
        ("UnknownIssuer", &|forge| {
            forge.edit = |attributes, forge| {
                let ids = [seq(&[&forge.named_hash()]), seq(&[&octets(&[7; 32])])].concat();
                attributes[2].1 = vec![seq(&[&seq(&[&ids])])];
            };
        }),
        ("does not hold", &|forge| forge.key = pki.key_der("other")),
        // With what.
        ("not known here", &|forge| forge.signature_algorithm = algorithm(RSA)),
        ("not known here", &|forge| forge.signature_algorithm = algorithm("1.2.840.10045.4.3.3")),
        ("not known here", &|forge| forge.signature_algorithm = seq(&[&oid("1.2.840.10045.4.3.2"), &octets(b"")])),
        ("not known here", &|forge| forge.digest_algorithm = seq(&[&oid(SHA_256), &octets(b"")])),
        ("not known here", &|forge| {
            (forge.digest_algorithm, forge.announced) = (algorithm("1.3.14.3.2.26"), "1.3.14.3.2.26");
        }),
        // What was stamped.
        ("another digest", &|forge| forge.imprint = seq(&[&algorithm(SHA_256), &octets(&[0; 32])])),
        ("another digest", &|forge| forge.imprint = seq(&[&algorithm(SHA_256), &octets(&DIGEST[..31])])),
        ("another digest", &|forge| forge.imprint = seq(&[&algorithm(SHA_512), &octets(&DIGEST)])),
        ("another digest", &|forge| {
            forge.imprint = seq(&[&algorithm(SHA_384), &octets(digest::digest(&SHA384, &DIGEST).as_ref())]);
        }),
        ("not of version 1", &|forge| forge.info_version = 2),
        ("critical extension", &|forge| forge.rest = vec![extensions(true)]),
        ("not DER", &|forge| forge.serial = at(2, b"\xff\x01")),
        ("not DER", &|forge| forge.serial = Vec::new()),
        ("not DER", &|forge| forge.rest = vec![at(2, b"\x01"), at(2, b"\x01")]),
        ("not DER", &|forge| forge.rest = vec![at(0xa2, b"")]),
        ("time is no time", &|forge| forge.time = "20250102030405"),
        ("time is no time", &|forge| forge.time = "20250102030405.50Z"),
        ("time is no time", &|forge| forge.time = "20251302030405Z"),
        ("BadDerTime", &|forge| forge.time = "19600102030405Z"),
        ("CertNotValidYet", &|forge| forge.time = "20191231235959Z"),
        ("CertExpired", &|forge| forge.time = "20990101000001Z"),
        ("CertExpired", &|forge| forge.time = "99981231235959Z"),
        ("accuracy is out", &|forge| forge.rest = vec![seq(&[&at(0x80, b"\x03\xe8")])]),
        ("accuracy is out", &|forge| forge.rest = vec![seq(&[&at(2, b"\x01"), &at(0x81, b"\0")])]),
    ];
    verify(&usual.token(), &DIGEST, &roots).unwrap();
    for (place, (expected, change)) in table.into_iter().enumerate() {
        let mut forge = usual.clone();
        change(&mut forge);
        let error = verify(&forge.token(), &DIGEST, &roots).expect_err(&format!("{place}: {expected}"));
        assert!(error.to_string().contains(expected), "{place}: {expected}: {error}");
    }
    assert_eq!(verify(&usual.token(), &[0; 32], &roots), Err(StampError::Digest));
}

fn name_issuer(attributes: &mut [Attribute], forge: &Forge, issuer: &str, serial: &[u8]) {
    // Its name as a directoryName, and its number, stand as they do in the SignerIdentifier.
    let id = sid(issuer, serial);
    let name_end = 2 + usize::from(id[3]) + 2;
    let general = seq(&[&tlv(0xa4, &[&id[2..name_end]])]);
    let id = seq(&[&forge.named_hash(), &seq(&[&general, &id[name_end..]])]);
    attributes[2].1 = vec![seq(&[&seq(&[&id])])];
}

/// A token of openssl's, in whose answer it ends.
fn real(pki: &Pki, how: Reply<'_>) -> Vec<u8> {
    let digest: String = DIGEST.iter().map(|byte| format!("{byte:02x}")).collect();
    pki.openssl(&["ts", "-query", "-digest", &digest, "-sha256", "-cert", "-out", "query"]);
    let answer = reply(pki, how, &std::fs::read(pki.path("query")).unwrap());
    let (file, out) = (pki.keep("tsr", &answer), pki.path("token"));
    pki.openssl(&["ts", "-reply", "-in", file.to_str().unwrap(), "-token_out", "-out", out.to_str().unwrap()]);
    std::fs::read(out).unwrap()
}

fn find(haystack: &[u8], needle: &[u8]) -> std::ops::Range<usize> {
    let start = haystack.windows(needle.len()).position(|window| window == needle).unwrap();
    start..start + needle.len()
}

/// Every byte of the signed content, the attributes, the signature and the chain counts. Only certificates that the
/// chain does not need can be spoiled, and then the token says what it said.
#[test]
fn no_byte_that_counts_can_be_changed() {
    for (kind, how, spare) in [
        (Kind::P256, REPLY, None),
        (Kind::Rsa, Reply { digest: "sha512", ess: "sha1", ..REPLY }, None),
        (Kind::P256, Reply { chain: &["issuer", "root"], ..REPLY }, Some("root")),
    ] {
        let pki = Pki::usual(kind);
        let roots = pki.roots(&["root"]);
        let token = real(&pki, how);
        let spare = spare.map_or(0..0, |name| find(&token, &pki.der(name)));
        let stamp = verify(&token, &DIGEST, &roots).unwrap();
        let mut spoilt = 0;
        for place in 0..token.len() {
            for bits in [0x01, 0x20, 0xff] {
                let mut changed = token.clone();
                changed[place] ^= bits;
                match verify(&changed, &DIGEST, &roots) {
                    Err(_) => {}
                    Ok(same) => {
                        assert!(spare.contains(&place), "{kind:?}: byte {place} of {} ^ {bits:#x}", token.len());
                        assert_eq!(same, stamp, "{kind:?}: byte {place} ^ {bits:#x}");
                        spoilt += 1;
                    }
                }
            }
        }
        assert_eq!(spoilt > 0, !spare.is_empty());
        for length in 0..token.len() {
            verify(&token[..length], &DIGEST, &roots).unwrap_err();
        }
        for more in [&[0][..], &[0x30, 0], &token] {
            verify(&[&token, more].concat(), &DIGEST, &roots).unwrap_err();
        }
    }
}

#[test]
fn whatever_it_is_given_it_does_not_panic() {
    let pki = Pki::usual(Kind::P256);
    let roots = pki.roots(&["root"]);
    let token = real(&pki, REPLY);
    let stamp = verify(&token, &DIGEST, &roots).unwrap();
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 4096, ..ProptestConfig::default() });
    let random = prop::collection::vec(any::<u8>(), 0..512);
    runner
        .run(&random, |bytes| {
            prop_assert!(verify(&bytes, &DIGEST, &roots).is_err());
            Ok(())
        })
        .unwrap();
    let places = prop::collection::vec((0..token.len(), any::<u8>()), 1..6);
    let cuts = (0..token.len(), 0..8_usize, prop::collection::vec(any::<u8>(), 0..8));
    runner
        .run(&(places, cuts), |(places, (cut, gone, put))| {
            let mut bytes = token.clone();
            for (place, byte) in places {
                bytes[place] = byte;
            }
            bytes.splice(cut..(cut + gone).min(token.len()), put);
            if let Ok(same) = verify(&bytes, &DIGEST, &roots) {
                prop_assert_eq!(same, stamp.clone());
            }
            Ok(())
        })
        .unwrap();
}
