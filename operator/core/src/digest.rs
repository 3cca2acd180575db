//! SHA-256 digests of bytes and of JSON values.

use crate::json::{canonical, strict::StrictError};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "sha256:";

/// A SHA-256 digest (FIPS 180-4). Written everywhere, in JSON too, as `sha256:` and 64 lower-case
/// hexadecimal digits, the form of OCI image digests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The text is not `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: expected \"sha256:\" and 64 lower-case hexadecimal digits")]
pub struct DigestError;

impl Digest {
    /// The digest of these bytes.
    pub fn of_bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest that was computed elsewhere.
    pub const fn from_raw(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses the 64 hexadecimal digits alone, the form in which the runner reports.
    ///
    /// # Errors
    /// Anything but 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits, without the prefix.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Lower-case hexadecimal digits, two a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of a JSON value: SHA-256 over its canonical form (RFC 8785), so that neither the order
/// of keys nor white space counts.
///
/// # Errors
/// What [`crate::json::strict::check`] refuses: such a value has no form that all readers share.
pub fn of_json(value: &Value) -> Result<Digest, StrictError> {
    canonical::to_vec(value).map(Digest::of_bytes)
}

fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError),
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"})
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.strip_prefix(PREFIX).ok_or(DigestError).and_then(Self::from_hex)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// FIPS 180-4: the digests of the empty message and of "abc".
    #[test]
    fn published_digests() {
        for (message, digest) in [
            ("", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            assert_eq!(Digest::of_bytes(message).to_string(), digest);
        }
    }

    #[test]
    fn the_order_of_keys_and_white_space_do_not_count() {
        let one = crate::json::strict::parse(r#"{"b": [1.0, 2], "a": null}"#).unwrap();
        let other = crate::json::strict::parse(r#"{"a":null,"b":[1,2.0]}"#).unwrap();
        assert_eq!(of_json(&one), of_json(&other));
        assert_eq!(of_json(&other).unwrap(), Digest::of_bytes(r#"{"a":null,"b":[1,2]}"#));
        assert_ne!(of_json(&one), of_json(&json!({"a": null, "b": [2, 1]})));
        assert!(of_json(&json!(u64::MAX)).is_err());
    }

    #[test]
    fn only_its_own_form_is_parsed() {
        let digest = Digest::of_bytes("x");
        for wrong in [
            digest.hex(),
            digest.to_string().to_uppercase(),
            format!("{digest}0"),
            digest.to_string().replace("sha256", "sha512"),
            format!("{PREFIX}{}", "é".repeat(32)),
            String::new(),
        ] {
            assert_eq!(wrong.parse::<Digest>(), Err(DigestError), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn its_text_is_read_back(bytes in any::<[u8; 32]>()) {
            let digest = Digest::from_raw(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            prop_assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
            let json = serde_json::to_value(digest).unwrap();
            prop_assert_eq!(serde_json::from_value::<Digest>(json).unwrap(), digest);
        }
    }
}
