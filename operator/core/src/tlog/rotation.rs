//! Rotation: the old key and the new one both sign that the new one follows, so whoever trusts a log's first key can
//! follow it to the one that signs today.

use thiserror::Error;

use super::note::{NoteError, SigningKey, VerifyingKey};

const STATEMENT: &str = "countersign.dev/rotate-key/v1";

/// Why it is not so that one key follows another.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RotationError {
    /// It is no signed note, or not signed by both keys.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// What is signed is another text.
    #[error("it is not the statement that {new} follows {old}")]
    Statement {
        /// The key that was used before, `NAME+HEX+BASE64`.
        old: String,
        /// The key that is to follow it, `NAME+HEX+BASE64`.
        new: String,
    },
    /// The keys have different names, or are the same.
    #[error("both keys must be of one log, and differ")]
    Keys,
}

/// The statement that `new` follows `old`, signed by both.
///
/// # Errors
/// The keys are not of one log, or are the same.
pub fn rotate(old: &SigningKey, new: &SigningKey) -> Result<String, RotationError> {
    let (from, to) = (old.verifying_key(), new.verifying_key());
    if from.name() != to.name() || from == to {
        return Err(RotationError::Keys);
    }
    Ok(old.sign_with(new, &statement(&from, &to)))
}

/// That a note says so.
///
/// # Errors
/// It is not signed by both, or says something else.
pub fn verify_rotation(note: &str, old: &VerifyingKey, new: &VerifyingKey) -> Result<(), RotationError> {
    if old.name() != new.name() || old == new {
        return Err(RotationError::Keys);
    }
    let expected = statement(old, new);
    for key in [old, new] {
        if key.open(note)? != expected {
            return Err(RotationError::Statement { old: old.to_string(), new: new.to_string() });
        }
    }
    Ok(())
}

fn statement(old: &VerifyingKey, new: &VerifyingKey) -> String {
    format!("{STATEMENT}\n{old}\n{new}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: u8) -> SigningKey {
        SigningKey::new(name, [secret; 32]).unwrap()
    }

    #[test]
    fn it_takes_both_keys_and_says_which_follows_which() {
        let (one, two, three) = (key("l", 1), key("l", 2), key("l", 3));
        let note = rotate(&one, &two).unwrap();
        let [a, b, c] = [&one, &two, &three].map(SigningKey::verifying_key);
        assert_eq!(verify_rotation(&note, &a, &b), Ok(()));
        assert!(matches!(verify_rotation(&note, &b, &a), Err(RotationError::Statement { .. })));
        assert_eq!(
            verify_rotation(&note, &a, &c),
            Err(RotationError::Statement { old: a.to_string(), new: c.to_string() })
        );
        let alone = one.sign(&statement(&a, &b));
        assert_eq!(verify_rotation(&alone, &a, &b), Err(NoteError::Unsigned("l".into()).into()));
        assert_eq!(rotate(&one, &one), Err(RotationError::Keys));
        assert_eq!(rotate(&one, &key("other", 2)), Err(RotationError::Keys));
    }
}
