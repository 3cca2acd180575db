//! Seeds, keys and SchnorrQ signatures (Costello and Longa, "SchnorrQ", 2016), with KangarooTwelve for their hash as
//! Qubic has it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

use super::curve::Point;
use super::hash::k12;
use super::identity::Identity;
use super::scalar::Scalar;

/// Letters of a seed.
const LENGTH: usize = 55;
/// What is read of a file: more than a seed and the end of its line.
const MOST: u64 = 64;

/// Who signs. Its secrets are overwritten when it is dropped.
pub struct Key {
    /// Any 256 bits; the public key is the generator so many times.
    private: Zeroizing<[u8; 32]>,
    /// What makes the nonces secret.
    prefix: Zeroizing<[u8; 32]>,
    identity: Identity,
}

#[derive(Debug, Error)]
pub enum SeedError {
    #[error("the file of the seed cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("a seed is 55 letters from a to z, and nothing else")]
    Malformed,
}

impl Key {
    /// Of a file with a seed, which may end with a newline.
    pub fn read(path: &Path) -> Result<Key, SeedError> {
        // Large enough that it is never moved, which would leave a copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(4 * MOST as usize));
        File::open(path)?.take(MOST).read_to_end(&mut text)?;
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        Key::from_seed(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Of 55 letters from a to z.
    pub fn from_seed(letters: &[u8]) -> Result<Key, SeedError> {
        let mut seed = Zeroizing::new([0; LENGTH]);
        if letters.len() != LENGTH || !letters.iter().all(u8::is_ascii_lowercase) {
            return Err(SeedError::Malformed);
        }
        seed.iter_mut().zip(letters).for_each(|(digit, letter)| *digit = letter - b'a');
        let subseed = Zeroizing::new(k12::<32>(&[seed.as_slice()]));
        let both = Zeroizing::new(k12::<64>(&[subseed.as_slice()]));
        let (mut private, mut prefix) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        private.copy_from_slice(&both[..32]);
        prefix.copy_from_slice(&both[32..]);
        let identity = Identity::from_bytes(Point::generator().times(&private).encode());
        Ok(Key { private, prefix, identity })
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The same for the same digest each time.
    pub fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        let nonce = Zeroizing::new(k12::<32>(&[self.prefix.as_slice(), digest]));
        let commitment = Point::generator().times(&nonce).encode();
        let challenge = Scalar::reduce(&k12(&[&commitment, self.identity.as_bytes(), digest]));
        let answer = Scalar::reduce(&nonce).minus(Scalar::reduce(&self.private).times(challenge));
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&commitment);
        signature[32..].copy_from_slice(&answer.encode());
        signature
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Key").field(&self.identity).finish()
    }
}

impl Identity {
    /// Whether it has signed a digest. What a node may let pass is refused all the same: an answer of N or more, by
    /// which a second signature could be made of one, and keys outside of the generator's group.
    pub fn has_signed(&self, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let holds = || {
            let (commitment, answer) = signature.split_at(32);
            let answer = Scalar::decode(answer.try_into().ok()?)?;
            let public = Point::decode(self.as_bytes()).filter(|public| public.is_of_the_group())?;
            let challenge = k12(&[commitment, self.as_bytes(), digest]);
            let expected = Point::generator().times(&answer.encode()).plus(public.times(&challenge));
            Some(expected.encode() == commitment)
        };
        holds().unwrap_or(false)
    }
}
