//! Identities: what a public key, or in small letters a digest, is written as. Four times 14 letters, each for 8 bytes
//! with the lowest digit of base 26 first, and 4 letters of checksum.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::hash::k12;

/// 60 letters.
const LENGTH: usize = 60;
const LETTERS: usize = 14;

/// Somebody's public key, or a contract's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("it is no identity: {0}")]
pub struct IdentityError(&'static str);

impl Identity {
    pub const fn from_bytes(bytes: [u8; 32]) -> Identity {
        Identity(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether only its first 8 bytes are used, as they are of contracts and of the zero address, where the type of an
    /// input has a meaning.
    pub fn is_contract(&self) -> bool {
        self.0.iter().skip(8).all(|byte| *byte == 0)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&letters(&self.0, b'A'))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Identity, IdentityError> {
        if text.len() != LENGTH || !text.bytes().all(|letter| letter.is_ascii_uppercase()) {
            return Err(IdentityError("it has not 60 capital letters"));
        }
        let mut bytes = [0; 32];
        for (part, letters) in bytes.chunks_exact_mut(8).zip(text.as_bytes().chunks_exact(LETTERS)) {
            let digits = letters.iter().rev().map(|letter| u128::from(letter - b'A'));
            let number = u64::try_from(digits.fold(0, |number, digit| number * 26 + digit));
            part.copy_from_slice(&number.map_err(|_| IdentityError("14 letters are above 8 bytes"))?.to_le_bytes());
        }
        let identity = Identity(bytes);
        match identity.to_string() == text {
            true => Ok(identity),
            false => Err(IdentityError("the checksum does not hold")),
        }
    }
}

/// A transaction's id: its digest in small letters.
pub(super) fn id(digest: &[u8; 32]) -> String {
    letters(digest, b'a')
}

fn letters(bytes: &[u8; 32], first: u8) -> String {
    let [low, middle, high] = k12(&[bytes]);
    let checksum = u64::from_le_bytes([low, middle, high & 0x03, 0, 0, 0, 0, 0]);
    let parts = bytes.as_chunks().0.iter().map(|part| (u64::from_le_bytes(*part), LETTERS)).chain([(checksum, 4)]);
    let digits = parts.flat_map(|(number, count)| {
        std::iter::successors(Some(number), |number| Some(number / 26)).take(count).map(|number| number % 26)
    });
    digits.map(|digit| char::from(first + digit as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFXIB";
    const ARBITRATOR: &str = "AFZPUAIYVPNUYGJRQVLUKOPPVLHAZQTGLYAAUUNBXFTVTAMSBKQBLEIEPCVJ";

    #[test]
    fn known_identities_are_read_and_written() {
        assert_eq!(Identity::from_bytes([0; 32]).to_string(), ZERO);
        for text in [ZERO, ARBITRATOR] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
        assert_eq!(id(&[0; 32]), ZERO.to_lowercase());
        assert!(ZERO.parse::<Identity>().unwrap().is_contract());
        assert!(!ARBITRATOR.parse::<Identity>().unwrap().is_contract());
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let above = format!("ZZZZZZZZZZZZZZ{}", &ARBITRATOR[14..]);
        for (text, why) in [
            ("", "60 capital letters"),
            (&ARBITRATOR[1..], "60 capital letters"),
            (&ARBITRATOR.to_lowercase(), "60 capital letters"),
            (&ARBITRATOR.replace('A', "1"), "60 capital letters"),
            (&ARBITRATOR.replacen("AF", "É", 1), "60 capital letters"),
            (&above, "above 8 bytes"),
            (&ARBITRATOR.replace("PCVJ", "PCVK"), "checksum"),
            (&ARBITRATOR.replacen('F', "G", 1), "checksum"),
        ] {
            let error = text.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
