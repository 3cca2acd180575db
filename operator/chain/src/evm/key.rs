//! The key of the account that pays.

use std::fmt;
use std::future::Future;
use std::path::Path;

use alloy_primitives::{Address, B256, Signature, hex};
use k256::ecdsa::SigningKey;
use thiserror::Error;
use zeroize::Zeroizing;

/// Signs for one account; it may be kept in this process or in a service outside.
pub trait Key: Send + Sync {
    fn address(&self) -> Address;

    /// A recoverable ECDSA signature (secp256k1) of a hash.
    fn sign_hash(&self, hash: B256) -> impl Future<Output = Result<Signature, KeyError>> + Send;
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("the key is not 32 bytes in hexadecimal digits")]
    Form,
    #[error("the key is zero, or beyond the order of secp256k1")]
    Range,
    #[error("{0}")]
    File(String),
    #[error("the key did not sign: {0}")]
    Unsigned(String),
    #[error("the signature is of {found}, and not of the account {expected}")]
    Stranger { found: Address, expected: Address },
}

/// A key that this process holds. Its bytes are zeroed when it is dropped.
pub struct SecretKey {
    key: SigningKey,
    address: Address,
}

impl SecretKey {
    pub fn new(bytes: &[u8; 32]) -> Result<SecretKey, KeyError> {
        let key = SigningKey::from_slice(bytes).map_err(|_| KeyError::Range)?;
        let address = Address::from_private_key(&key);
        Ok(SecretKey { key, address })
    }

    pub fn read(path: &Path) -> Result<SecretKey, KeyError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| KeyError::File(format!("{}: {error}", path.display())))?;
        SecretKey::parse(&Zeroizing::new(text))
    }

    /// Of a file's text: 64 hexadecimal digits, with or without 0x, and spaces or a line's end around them.
    pub fn parse(text: &str) -> Result<SecretKey, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).map_err(|_| KeyError::Form)?;
        SecretKey::new(&bytes)
    }
}

impl Key for SecretKey {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_hash(&self, hash: B256) -> Result<Signature, KeyError> {
        let signed = self.key.sign_prehash_recoverable(hash.as_slice());
        signed.map(Signature::from).map_err(|error| KeyError::Unsigned(error.to_string()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretKey").field(&self.address).finish()
    }
}

/// The key's signature, in the one form that nodes take (EIP-2), and by nobody else.
pub async fn signed(key: &impl Key, hash: B256) -> Result<Signature, KeyError> {
    let signature = key.sign_hash(hash).await?.normalized_s();
    let found = signature
        .recover_address_from_prehash(&hash)
        .map_err(|error| KeyError::Unsigned(format!("its signature is none: {error}")))?;
    let expected = key.address();
    if found == expected { Ok(signature) } else { Err(KeyError::Stranger { found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first account of every test network's mnemonic.
    const SECRET: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    const ADDRESS: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

    #[test]
    fn keys_are_read() {
        for text in [SECRET.to_owned(), format!("0x{SECRET}\n"), format!(" {} ", SECRET.to_uppercase())] {
            assert_eq!(SecretKey::parse(&text).unwrap().address().to_string(), ADDRESS, "{text}");
        }
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let zero = "0".repeat(64);
        let cases = [
            ("", KeyError::Form),
            ("0x", KeyError::Form),
            (&SECRET[1..], KeyError::Form),
            (&SECRET[2..], KeyError::Form),
            ("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff8000", KeyError::Form),
            ("zc0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80", KeyError::Form),
            (zero.as_str(), KeyError::Range),
            (order, KeyError::Range),
        ];
        for (text, expected) in cases {
            assert_eq!(SecretKey::parse(text).map(|key| key.address()), Err(expected), "{text}");
        }
    }

    #[test]
    fn files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(SecretKey::read(&path), Err(KeyError::File(why)) if why.contains("key")));
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        assert_eq!(SecretKey::read(&path).unwrap().address().to_string(), ADDRESS);
        std::fs::write(&path, [0xff; 32]).unwrap();
        assert!(matches!(SecretKey::read(&path), Err(KeyError::File(_))));
    }

    #[test]
    fn it_shows_nothing_but_its_address() {
        let shown = format!("{0:?} {0:#?}", SecretKey::parse(SECRET).unwrap());
        assert!(shown.contains(&ADDRESS.to_lowercase()), "{shown}");
        let bytes = hex::decode(SECRET).unwrap();
        assert!(!shown.to_lowercase().contains(&SECRET[..8]) && !shown.contains(&format!("{bytes:?}")), "{shown}");
    }

    struct Odd(SecretKey, fn(Signature) -> Result<Signature, KeyError>);

    impl Key for Odd {
        fn address(&self) -> Address {
            self.0.address()
        }

        async fn sign_hash(&self, hash: B256) -> Result<Signature, KeyError> {
            self.1(self.0.sign_hash(hash).await?)
        }
    }

    #[tokio::test]
    async fn signatures_are_of_the_account_and_in_the_one_form() {
        use alloy_primitives::{U256, uint};
        const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
        let hash = B256::repeat_byte(7);
        let key = || SecretKey::parse(SECRET).unwrap();
        let plain = signed(&key(), hash).await.unwrap();
        // A service that gives the other of the two.
        let high = Odd(key(), |s| Ok(Signature::new(s.r(), ORDER - s.s(), !s.v())));
        assert_ne!(high.sign_hash(hash).await.unwrap(), plain);
        assert_eq!(signed(&high, hash).await.unwrap(), plain);
        let other = Odd(key(), |s| Ok(Signature::new(s.r(), s.s(), !s.v())));
        assert!(matches!(signed(&other, hash).await, Err(KeyError::Stranger { .. })));
        let none = Odd(key(), |s| Ok(Signature::new(U256::ZERO, s.s(), s.v())));
        assert!(matches!(signed(&none, hash).await, Err(KeyError::Unsigned(_))));
        let silent = Odd(key(), |_| Err(KeyError::Unsigned("no answer".to_owned())));
        assert_eq!(signed(&silent, hash).await, Err(KeyError::Unsigned("no answer".to_owned())));
    }
}
