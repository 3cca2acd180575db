//! Whose certificates lead to a root, and whose do not.

use countersign_chain::timestamp::{Roots, RootsError, verify};

use crate::DIGEST;
use crate::forge::{Forge, sid};
use crate::pki::{CA, Kind, Pki, TSA, Wanted};

const NO_EKU: &str = "keyUsage = critical, digitalSignature\n";
const LATE: &str = "20250102030404Z";
const EARLY: &str = "20250102030406Z";

/// A token of `tsa` below `issuer` below `root`, stamped at 2025-01-02T03:04:05.5Z, where these are made otherwise.
fn token(wanted: &[Wanted<'_>]) -> (Pki, Vec<u8>) {
    let pki = Pki::usual(Kind::P256);
    let mut made: Vec<&str> = Vec::new();
    for wanted in wanted {
        pki.certificate(*wanted);
        made.push(wanted.name);
    }
    let token = Forge::new(&pki, &DIGEST).token();
    (pki, token)
}

#[test]
fn a_certificate_that_is_wrong_in_one_thing_is_refused() {
    let root = |extensions| Wanted::new("root", None, extensions);
    let issuer = |extensions| Wanted::new("issuer", Some("root"), extensions);
    let tsa = |extensions| Wanted::new("tsa", Some("issuer"), extensions);
    let table: &[(&str, &[Wanted<'_>])] = &[
        ("not for time stamping", &[tsa(NO_EKU)]),
        ("not for time stamping", &[tsa("extendedKeyUsage = timeStamping\n")]),
        ("not for time stamping", &[tsa("extendedKeyUsage = critical, timeStamping, codeSigning\n")]),
        ("not for time stamping", &[tsa("extendedKeyUsage = critical, codeSigning\n")]),
        ("not for time stamping", &[tsa("extendedKeyUsage = critical, anyExtendedKeyUsage\n")]),
        (
            "something else than signing",
            &[tsa("extendedKeyUsage = critical, timeStamping\nkeyUsage = critical, keyAgreement\n")],
        ),
        (
            "something else than signing",
            &[tsa("extendedKeyUsage = critical, timeStamping\nkeyUsage = digitalSignature, keyCertSign\n")],
        ),
        ("CaUsedAsEndEntity", &[tsa("extendedKeyUsage = critical, timeStamping\nbasicConstraints = CA:true\n")]),
        (
            "UnsupportedCriticalExtension",
            &[tsa("extendedKeyUsage = critical, timeStamping\n1.2.3.4 = critical, DER:0500\n")],
        ),
        ("CertExpired", &[Wanted { to: LATE, ..tsa(TSA) }]),
        ("CertNotValidYet", &[Wanted { from: EARLY, ..tsa(TSA) }]),
        ("EndEntityUsedAsCa", &[issuer("basicConstraints = critical, CA:false\n")]),
        ("EndEntityUsedAsCa", &[issuer("keyUsage = critical, keyCertSign\n")]),
        ("EndEntityUsedAsCa", &[issuer("basicConstraints = critical, CA:true\nkeyUsage = critical, cRLSign\n")]),
        ("RequiredEkuNotFound", &[issuer("basicConstraints = critical, CA:true\nextendedKeyUsage = serverAuth\n")]),
        (
            "UnsupportedCriticalExtension",
            &[issuer("basicConstraints = critical, CA:true\n1.2.3.4 = critical, DER:0500\n")],
        ),
        ("CertExpired", &[Wanted { to: LATE, ..issuer(CA) }]),
        ("CertNotValidYet", &[Wanted { from: EARLY, ..issuer(CA) }]),
        ("InvalidSignature", &[Wanted { key: "another", subject: "issuer", ..issuer(CA) }]),
        ("CertExpired", &[Wanted { to: LATE, ..root(CA) }]),
        ("CertNotValidYet", &[Wanted { from: EARLY, ..root(CA) }]),
        ("PathLenConstraintViolated", &[root("basicConstraints = critical, CA:true, pathlen:0\n")]),
        ("InvalidSignature", &[Wanted { key: "another", subject: "root", ..root(CA) }]),
        ("UnknownIssuer", &[Wanted { subject: "elsewhere", ..root(CA) }]),
    ];
    for (place, (expected, wanted)) in table.iter().enumerate() {
        let (pki, token) = token(wanted);
        let error = verify(&token, &DIGEST, &pki.roots(&["root"])).expect_err(expected).to_string();
        assert!(error.contains(expected), "{place}: {expected}: {error}");
    }
}

#[test]
fn a_certificate_that_says_less_or_more_is_accepted() {
    let root = |extensions| Wanted::new("root", None, extensions);
    let issuer = |extensions| Wanted::new("issuer", Some("root"), extensions);
    let tsa = |extensions| Wanted::new("tsa", Some("issuer"), extensions);
    let table: &[&[Wanted<'_>]] = &[
        &[],
        &[tsa("extendedKeyUsage = critical, timeStamping\n")],
        &[tsa("extendedKeyUsage = critical, timeStamping\nkeyUsage = nonRepudiation, digitalSignature\n")],
        &[tsa("extendedKeyUsage = critical, timeStamping\n1.2.3.4 = DER:0500\nbasicConstraints = CA:false\n")],
        &[issuer("basicConstraints = critical, CA:true, pathlen:0\nextendedKeyUsage = timeStamping, codeSigning\n")],
        &[root("basicConstraints = critical, CA:true, pathlen:1\n")],
        &[Wanted { from: "20250102030405Z", ..tsa(TSA) }],
        &[Wanted { to: "20250102030405Z", ..tsa(TSA) }],
        // Long gone, but not then.
        &[
            Wanted { to: EARLY, ..root(CA) },
            Wanted { to: EARLY, ..issuer(CA) },
            Wanted { from: "20250102030404Z", to: EARLY, ..tsa(TSA) },
        ],
    ];
    for (place, wanted) in table.iter().enumerate() {
        let (pki, token) = token(wanted);
        verify(&token, &DIGEST, &pki.roots(&["root"])).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
}

#[test]
fn any_of_the_roots_will_do() {
    let (pki, token) = token(&[]);
    pki.certificate(Wanted { key: "other", ..Wanted::new("other", None, CA) });
    pki.certificate(Wanted { key: "root", subject: "root", to: LATE, ..Wanted::new("expired", None, CA) });
    pki.certificate(Wanted { key: "another", subject: "root", ..Wanted::new("namesake", None, CA) });
    for (names, holds) in [
        (&["root"][..], true),
        (&["other"], false),
        (&["other", "root"], true),
        (&["expired"], false),
        (&["expired", "root"], true),
        (&["root", "expired"], true),
        (&["namesake"], false),
        (&["namesake", "root"], true),
        // An intermediate may be trusted by itself.
        (&["issuer"], true),
    ] {
        assert_eq!(verify(&token, &DIGEST, &pki.roots(names)).is_ok(), holds, "{names:?}");
    }
}

/// The intermediate that an authority's chain goes through may limit how many follow.
#[test]
fn an_intermediate_limits_those_below_it() {
    for (length, holds) in [(0, false), (1, true)] {
        let pki = Pki::new();
        let limit = format!("basicConstraints = critical, CA:true, pathlen:{length}\n");
        pki.certificate(Wanted::new("root", None, CA));
        pki.certificate(Wanted::new("first", Some("root"), &limit));
        pki.certificate(Wanted::new("issuer", Some("first"), CA));
        pki.certificate(Wanted::new("tsa", Some("issuer"), TSA));
        let mut forge = Forge::new(&pki, &DIGEST);
        forge.certificates.push(pki.der("first"));
        let verified = verify(&forge.token(), &DIGEST, &pki.roots(&["root"]));
        assert_eq!(verified.is_ok(), holds, "{length}: {verified:?}");
    }
}

#[test]
fn short_keys_are_refused() {
    let pki = Pki::new();
    pki.key("issuer", Kind::RsaShort);
    pki.certificate(Wanted::new("root", None, CA));
    pki.certificate(Wanted::new("issuer", Some("root"), CA));
    pki.certificate(Wanted::new("tsa", Some("issuer"), TSA));
    let error = verify(&Forge::new(&pki, &DIGEST).token(), &DIGEST, &pki.roots(&["root"])).unwrap_err();
    assert!(error.to_string().contains("InvalidSignature"), "{error}");
}

/// Whoever has no certificate of an authority but makes itself one.
#[test]
fn nobody_certifies_itself() {
    let pki = Pki::usual(Kind::P256);
    pki.certificate(Wanted::new("tsa", None, TSA));
    let mut forge = Forge::new(&pki, &DIGEST);
    forge.sid = sid("tsa", &[0x20, 0x02]);
    forge.certificates.push(pki.der("root"));
    let error = verify(&forge.token(), &DIGEST, &pki.roots(&["root"])).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert_eq!(Roots::from_pem(&pki.pem(&["tsa"])), Err(RootsError::NoAuthority("CN=tsa".to_owned())));
}

#[test]
fn roots_are_certificates_of_authorities() {
    let pki = Pki::usual(Kind::P256);
    pki.certificate(Wanted::new("unsigning", None, "basicConstraints = critical, CA:true\nkeyUsage = cRLSign\n"));
    let pem = pki.pem(&["root"]);
    let key = std::fs::read(pki.path("root.key")).unwrap();
    assert_eq!(Roots::from_pem(&[&key[..], &pem].concat()), Roots::from_pem(&pem));
    assert!(Roots::from_pem(&[b"# a root\n\n", &pem[..], b"\n# no more\n"].concat()).is_ok());
    let no_authority = |name: &str| RootsError::NoAuthority(format!("CN={name}"));
    assert_eq!(Roots::from_pem(b""), Err(RootsError::None));
    assert_eq!(Roots::from_pem(&key), Err(RootsError::None));
    assert_eq!(Roots::from_pem(&pki.der("root")), Err(RootsError::None));
    assert_eq!(Roots::from_pem(&pki.pem(&["root", "tsa"])), Err(no_authority("tsa")));
    assert_eq!(Roots::from_pem(&pki.pem(&["unsigning"])), Err(no_authority("unsigning")));
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(matches!(Roots::from_pem(broken.as_bytes()), Err(RootsError::Certificate(_))));
    let text = String::from_utf8(pem.clone()).unwrap();
    for broken in [text.replace("END", "FIN"), text.replacen('M', "!", 1), text[..text.len() / 2].to_owned()] {
        assert!(matches!(Roots::from_pem(broken.as_bytes()), Err(RootsError::Pem(_))), "{broken}");
    }
}
