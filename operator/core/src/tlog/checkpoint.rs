//! Checkpoints (<https://c2sp.org/tlog-checkpoint>): how large the log is and what its root is, signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::hash::Hash;
use super::note::{NoteError, SigningKey, VerifyingKey, parse};
use crate::digest::Digest;

/// What the log was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name; the first line.
    pub origin: String,
    /// How many entries the log has.
    pub size: u64,
    /// The root of the tree over them (RFC 6962, section 2.1).
    pub root: Hash,
}

/// Why a note is not a checkpoint of the log that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// It is no signed note, or not signed by the key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Its text is not a checkpoint's (C2SP tlog-checkpoint); why not.
    #[error("it is not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It is of another log than the key.
    #[error("it is of the log {found:?}, not of {expected:?}")]
    Origin {
        /// The origin in its first line.
        found: String,
        /// The name of the key.
        expected: String,
    },
}

impl Checkpoint {
    /// The signed note.
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.text())
    }

    /// The note with the signatures of two keys, where one follows the other.
    pub fn sign_with_both(&self, old: &SigningKey, new: &SigningKey) -> String {
        old.sign_with(new, &self.text())
    }

    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// The checkpoint that a note holds, if this key has signed it and it is of the key's log.
    pub fn open(note: &str, key: &VerifyingKey) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = Checkpoint::parse(key.open(note)?)?;
        if checkpoint.origin != key.name() {
            let expected = key.name().to_owned();
            return Err(CheckpointError::Origin { found: checkpoint.origin, expected });
        }
        Ok(checkpoint)
    }

    /// What is anchored of a note: the SHA-256 of what is signed in it. Its signatures have no part in that, so those
    /// that are added later change nothing.
    pub fn anchored(note: &str) -> Result<[u8; 32], CheckpointError> {
        Ok(*Digest::of_bytes(parse(note)?.0).as_bytes())
    }

    /// What a note says of a log, whoever signed it; not to be believed.
    pub fn claimed(note: &str) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::parse(parse(note)?.0)
    }

    fn parse(text: &str) -> Result<Checkpoint, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty()).ok_or(malformed("no origin"))?.to_owned();
        let decimal = lines.next().ok_or(malformed("no size"))?;
        let size: u64 = decimal.parse().map_err(|_| malformed("the size is no number"))?;
        if size.to_string() != decimal {
            return Err(malformed("the size is not written as decimals are"));
        }
        let root = lines.next().ok_or(malformed("no root"))?;
        let root = STANDARD.decode(root).map_err(|_| malformed("the root is not base64"))?;
        let root: [u8; 32] = root.try_into().map_err(|_| malformed("the root has not 32 bytes"))?;
        // The last piece is what follows the last newline.
        if lines.next_back().is_some_and(|last| !last.is_empty()) || lines.any(str::is_empty) {
            return Err(malformed("a line of an extension is empty, or cut off"));
        }
        Ok(Checkpoint { origin, size, root: Digest::from_raw(root) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::empty_root;

    fn key() -> SigningKey {
        SigningKey::new("log.example/1", [7; 32]).unwrap()
    }

    #[test]
    fn what_was_signed_is_what_is_opened() {
        let checkpoint = Checkpoint { origin: "log.example/1".into(), size: 7, root: empty_root() };
        let note = checkpoint.sign(&key());
        assert_eq!(Checkpoint::open(&note, &key().verifying_key()), Ok(checkpoint));
        // Lines that a later version may add are no reason to refuse it.
        let extended =
            key().sign(&format!("log.example/1\n7\n{}\nextension\n", STANDARD.encode(empty_root().as_bytes())));
        assert_eq!(Checkpoint::open(&extended, &key().verifying_key()).unwrap().size, 7);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = STANDARD.encode(empty_root().as_bytes());
        for (text, why) in [
            ("log.example/1\n".to_owned(), "no number"),
            (format!("log.example/1\n07\n{root}\n"), "as decimals are"),
            (format!("log.example/1\n-1\n{root}\n"), "no number"),
            ("log.example/1\n1\nAAAA\n".to_owned(), "32 bytes"),
            (format!("other.example\n1\n{root}\n"), "not of"),
            (format!("log.example/1\n1\n{root}\n\nextension\n"), "is empty"),
        ] {
            let error = Checkpoint::open(&key().sign(&text), &key().verifying_key()).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
