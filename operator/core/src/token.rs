//! The token by which the broker knows an attempt: it can be made again after a crash, and by nobody without the key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What the operator and the broker share, and nobody else has.
pub struct TokenKey(Hmac<Sha256>);

impl TokenKey {
    /// The key of this secret of 32 bytes.
    pub fn new(secret: [u8; 32]) -> TokenKey {
        // HMAC takes a block of 64 bytes, and fills up what is shorter with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&secret);
        TokenKey(Hmac::new(&block.into()))
    }

    /// The token of an attempt in the one pod that was let in for it.
    pub fn token(&self, attempt: &str, pod_uid: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(attempt, pod_uid).finalize().into_bytes())
    }

    /// Whether this is that token; takes as long for every wrong one.
    pub fn holds(&self, attempt: &str, pod_uid: &str, token: &str) -> bool {
        let Ok(token) = URL_SAFE_NO_PAD.decode(token) else { return false };
        self.mac(attempt, pod_uid).verify_slice(&token).is_ok()
    }

    fn mac(&self, attempt: &str, pod_uid: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        // Neither a name nor a uid holds a zero byte, so no two of these are alike.
        for part in ["countersign-attempt/1", "\0", attempt, "\0", pod_uid] {
            mac.update(part.as_bytes());
        }
        mac
    }
}

impl std::fmt::Debug for TokenKey {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_attempt_in_one_pod_under_one_key() {
        let key = TokenKey::new([7; 32]);
        let token = key.token("a-1", "pod-1");
        assert!(key.holds("a-1", "pod-1", &token));
        for (attempt, pod) in [("a-2", "pod-1"), ("a-1", "pod-2"), ("a-1\0pod", "-1"), ("", "")] {
            assert!(!key.holds(attempt, pod, &token), "{attempt} {pod}");
        }
        assert!(!TokenKey::new([8; 32]).holds("a-1", "pod-1", &token));
        for bent in [&token[1..], &format!("{token}A"), "", "====", &token.to_uppercase()] {
            assert!(!key.holds("a-1", "pod-1", bent), "{bent}");
        }
    }
}
