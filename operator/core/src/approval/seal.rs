//! The webhook's own signature on each decision that it stamps. Whoever can write to an Approval without the
//! webhook, or with the guard taken away, can write anything but this.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_crds::Signature;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::json;
use thiserror::Error;

use crate::json::canonical;

/// Ed25519 (RFC 8032) over RFC 8785 JSON of the decision and of the Approval that it stands in.
pub struct Seal {
    key: SigningKey,
}

/// Why there is no seal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The key has this many bytes instead of 32.
    #[error("the seal's key has {0} bytes; it must have 32")]
    Length(usize),
    /// The decision has no canonical JSON (RFC 8785); why.
    #[error("the decision cannot be sealed: {0}")]
    NotSealed(String),
}

impl Seal {
    /// From the 32 bytes of an Ed25519 secret key.
    pub fn from_secret(secret: &[u8]) -> Result<Seal, SealError> {
        let bytes: [u8; 32] = secret.try_into().map_err(|_| SealError::Length(secret.len()))?;
        Ok(Seal { key: SigningKey::from_bytes(&bytes) })
    }

    /// The decision with its seal, for the Approval of that uid.
    pub fn seal(&self, approval_uid: &str, decision: Signature) -> Result<Signature, SealError> {
        let message = message(approval_uid, &decision)?;
        let seal = STANDARD.encode(self.key.sign(&message).to_bytes());
        Ok(Signature { seal, ..decision })
    }

    /// Whether the decision stands in this Approval as it was stamped.
    pub fn holds(&self, approval_uid: &str, decision: &Signature) -> bool {
        let signature =
            STANDARD.decode(&decision.seal).ok().and_then(|bytes| ed25519_dalek::Signature::from_slice(&bytes).ok());
        let (Some(signature), Ok(message)) = (signature, message(approval_uid, decision)) else { return false };
        self.key.verifying_key().verify_strict(&message, &signature).is_ok()
    }

    /// Those of the decisions that stand as they were stamped.
    pub fn sealed(&self, approval_uid: &str, decisions: &[Signature]) -> Vec<Signature> {
        decisions.iter().filter(|decision| self.holds(approval_uid, decision)).cloned().collect()
    }
}

impl std::fmt::Debug for Seal {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

fn message(approval_uid: &str, decision: &Signature) -> Result<Vec<u8>, SealError> {
    let unsealed = Signature { seal: String::new(), ..decision.clone() };
    let message = json!({"type": "countersign.dev/decision/v1", "approval": approval_uid, "decision": unsealed});
    canonical::to_vec(&message).map_err(|error| SealError::NotSealed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn decision() -> Signature {
        Signature {
            user: "älice".into(),
            uid: Some("1".into()),
            groups: vec!["finance".into()],
            approved: true,
            reason: Some("checked".into()),
            at: Time("2026-01-01T00:00:00Z".parse().unwrap()),
            digest: "sha256:00".into(),
            seal: String::new(),
        }
    }

    #[test]
    fn a_seal_holds_for_what_was_sealed_and_for_nothing_else() {
        let seal = Seal::from_secret(&[7; 32]).unwrap();
        let sealed = seal.seal("approval-1", decision()).unwrap();
        assert!(seal.holds("approval-1", &sealed));
        assert!(!seal.holds("approval-2", &sealed), "replayed in another Approval");
        assert!(!Seal::from_secret(&[8; 32]).unwrap().holds("approval-1", &sealed), "another key");
        let altered: [fn(&mut Signature); 9] = [
            |d| d.user = "alice".into(),
            |d| d.uid = None,
            |d| d.groups.push("security".into()),
            |d| d.groups.clear(),
            |d| d.approved = false,
            |d| d.reason = None,
            |d| d.at = Time("2025-01-01T00:00:00Z".parse().unwrap()),
            |d| d.digest = "sha256:01".into(),
            |d| d.seal = String::new(),
        ];
        for (n, alter) in altered.into_iter().enumerate() {
            let mut decision = sealed.clone();
            alter(&mut decision);
            assert!(!seal.holds("approval-1", &decision), "alteration {n} was not noticed");
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert_eq!(Seal::from_secret(&[0; 31]).unwrap_err(), SealError::Length(31));
    }
}
