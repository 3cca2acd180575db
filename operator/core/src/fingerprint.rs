//! Fingerprints of Secrets: by which one is told from another by whoever may not see what is in them. They are made with a
//! key that only the brokers have, so that nobody else can try what a short secret could be.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::digest::hex;

/// What fingerprints are made with.
#[derive(Clone)]
pub struct FingerprintKey(Hmac<Sha256>);

impl FingerprintKey {
    /// With these bytes, which only the brokers have; `None` where they are fewer than 32.
    pub fn new(bytes: &[u8]) -> Option<FingerprintKey> {
        let mac = Hmac::<Sha256>::new_from_slice(bytes).ok().filter(|_| bytes.len() >= 32)?;
        Some(FingerprintKey(mac))
    }

    /// HMAC-SHA-256 over a Secret's name and all of its keys with their values, as `hmac-sha256:` and 64 hexadecimal
    /// digits. Whatever else stands in the Secret's object counts for nothing.
    pub fn of(&self, secret: &str, content: &BTreeMap<String, Vec<u8>>) -> String {
        let mut mac = self.0.clone();
        mac.update(b"countersign-secret/1");
        let parts = content.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_slice()]);
        for part in [secret.as_bytes()].into_iter().chain(parts) {
            // With its length, so that no two contents are read alike.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        format!("hmac-sha256:{}", hex(&mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for FingerprintKey {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FingerprintKey")
    }
}

/// The Secrets that brokers have, by name: the fingerprint that all of them tell, or `None` where they do not agree.
pub type Fingerprints = BTreeMap<String, Option<String>>;

/// What all live brokers agree on, each by what it has.
pub fn agreed(brokers: &[BTreeMap<String, String>]) -> Fingerprints {
    let names: BTreeSet<&String> = brokers.iter().flat_map(BTreeMap::keys).collect();
    let of = |name: &String| {
        let told: BTreeSet<Option<&String>> = brokers.iter().map(|broker| broker.get(name)).collect();
        match told.into_iter().collect::<Vec<_>>()[..] {
            [Some(only)] => Some(only.clone()),
            _ => None,
        }
    };
    names.into_iter().map(|name| (name.clone(), of(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_fingerprint_is_of_one_content_under_one_key() {
        let key = FingerprintKey::new(&[7; 32]).unwrap();
        let of = |secret: &str, entries: &[(&str, &str)]| key.of(secret, &content(entries));
        let one = of("s", &[("a", "b"), ("c", "d")]);
        assert!(one.starts_with("hmac-sha256:") && one.len() == 76, "{one}");
        assert_eq!(one, of("s", &[("c", "d"), ("a", "b")]));
        for other in [
            of("t", &[("a", "b"), ("c", "d")]),
            of("s", &[("a", "b")]),
            of("s", &[("a", "bc"), ("", "d")]),
            of("s", &[("ab", ""), ("c", "d")]),
            of("sa", &[("b", "c"), ("d", "")]),
            FingerprintKey::new(&[8; 32]).unwrap().of("s", &content(&[("a", "b"), ("c", "d")])),
        ] {
            assert_ne!(one, other);
        }
        assert!(FingerprintKey::new(&[7; 31]).is_none(), "a key that could be guessed");
        assert_eq!(format!("{key:?}"), "FingerprintKey");
    }

    #[test]
    fn a_fingerprint_counts_once_every_live_broker_tells_it() {
        let broker = |entries: &[(&str, &str)]| {
            entries.iter().map(|(name, print)| ((*name).to_owned(), (*print).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let (old, new, none) = (broker(&[("s", "1")]), broker(&[("s", "2")]), broker(&[]));
        for (brokers, expected) in [
            (vec![], None),
            (vec![none.clone()], None),
            (vec![old.clone()], Some(Some("1".to_owned()))),
            (vec![old.clone(), old.clone()], Some(Some("1".to_owned()))),
            (vec![old.clone(), new], Some(None)),
            (vec![old, none], Some(None)),
        ] {
            assert_eq!(agreed(&brokers).get("s").cloned(), expected, "{brokers:?}");
        }
    }
}
