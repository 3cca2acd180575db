//! Signed notes (<https://c2sp.org/signed-note>): a text, and below it a line for each signature.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey as Secret, VerifyingKey as Public};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::digest::hex;

/// The type of a key that signs notes, in its identifier and in its encoding.
const TYPE: u8 = 1;
const MARK: &str = "\u{2014} ";

/// A key that signs notes, with the name under which it does.
pub struct SigningKey {
    name: String,
    secret: Secret,
}

/// A key that notes are verified with: `NAME+HEX+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    public: Public,
}

/// One line of a note that says it is a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key that is said to have signed.
    pub name: String,
    /// The first four bytes of SHA-256 over the key's name, a newline, its type and its public key (C2SP signed-note).
    pub key_id: [u8; 4],
    /// The signature itself: 64 bytes of Ed25519 (RFC 8032), after eight of the time in a cosignature.
    pub bytes: Vec<u8>,
}

/// Why a note or a key is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoteError {
    /// This name of a key is empty, or holds white space or a plus.
    #[error("the name of a key must not be empty, nor hold a space or a plus: {0:?}")]
    Name(String),
    /// A text is no key of the kind that is asked for; why not.
    #[error("the key is not NAME+HEX+BASE64 of an Ed25519 key: {0}")]
    Key(&'static str),
    /// A text is no signed note (C2SP signed-note); why not.
    #[error("it is not a signed note: {0}")]
    Malformed(&'static str),
    /// No signature says that it is of the key of this name.
    #[error("it is not signed by {0}")]
    Unsigned(String),
    /// What says that it is a signature of the key of this name does not verify.
    #[error("the signature of {0} does not hold")]
    Forged(String),
}

pub(super) fn check_name(name: &str) -> Result<(), NoteError> {
    let wrong = name.is_empty() || name.contains('+') || name.chars().any(char::is_whitespace);
    if wrong { Err(NoteError::Name(name.to_owned())) } else { Ok(()) }
}

pub(super) fn key_id(kind: u8, name: &str, public: &Public) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', kind]);
    hasher.update(public.as_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// `NAME+HEX+BASE64` of an Ed25519 key of this type.
pub(super) fn encode_key(kind: u8, name: &str, public: &Public) -> String {
    let mut key = vec![kind];
    key.extend(public.as_bytes());
    format!("{name}+{}+{}", hex(&key_id(kind, name, public)), STANDARD.encode(key))
}

pub(super) fn decode_key(kind: u8, text: &str) -> Result<(String, Public), NoteError> {
    let mut parts = text.trim().splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::Key("it has not three parts"));
    };
    check_name(name)?;
    let key = STANDARD.decode(key).map_err(|_| NoteError::Key("the key is not base64"))?;
    let Some((_, bytes)) = key.split_first().filter(|(found, _)| **found == kind) else {
        return Err(NoteError::Key("it is of another type than belongs here: 1 for a log's key, 4 for a witness's"));
    };
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| NoteError::Key("the key has not 32 bytes"))?;
    let public = Public::from_bytes(&bytes).map_err(|_| NoteError::Key("the key is no point of the curve"))?;
    if id == hex(&key_id(kind, name, &public)) {
        Ok((name.to_owned(), public))
    } else {
        Err(NoteError::Key("its identifier is not that of the key"))
    }
}

/// A line below a note's text, with its newline.
pub(super) fn line(name: &str, key_id: [u8; 4], signature: &[u8]) -> String {
    let mut bytes = key_id.to_vec();
    bytes.extend(signature);
    format!("{MARK}{name} {}\n", STANDARD.encode(bytes))
}

/// The signature that says it is this key's.
pub(super) fn find(signatures: Vec<Signature>, name: &str, key_id: [u8; 4]) -> Result<Signature, NoteError> {
    let ours = signatures.into_iter().find(|signature| signature.name == name && signature.key_id == key_id);
    ours.ok_or_else(|| NoteError::Unsigned(name.to_owned()))
}

impl SigningKey {
    /// The key of this name with this Ed25519 secret (RFC 8032).
    ///
    /// # Errors
    /// The name is empty, or holds white space or a plus.
    pub fn new(name: &str, secret: [u8; 32]) -> Result<SigningKey, NoteError> {
        check_name(name)?;
        Ok(SigningKey { name: name.to_owned(), secret: Secret::from_bytes(&secret) })
    }

    /// The public key that its signatures are verified with.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey { name: self.name.clone(), public: self.secret.verifying_key() }
    }

    /// The note: the text, which ends with a newline, and this key's signature.
    pub fn sign(&self, text: &str) -> String {
        format!("{text}\n{}", self.line(text))
    }

    /// The note with the signatures of both.
    pub fn sign_with(&self, other: &SigningKey, text: &str) -> String {
        format!("{text}\n{}{}", self.line(text), other.line(text))
    }

    fn line(&self, text: &str) -> String {
        let id = key_id(TYPE, &self.name, &self.secret.verifying_key());
        line(&self.name, id, &self.secret.sign(text.as_bytes()).to_bytes())
    }
}

impl std::fmt::Debug for SigningKey {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.name)
    }
}

impl VerifyingKey {
    /// The name under which the key signs; of a log's key, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both are the same key, whatever their names.
    pub fn is_same_key(&self, other: &VerifyingKey) -> bool {
        self.public == other.public
    }

    /// The text of a note that this key has signed.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = parse(note)?;
        let signature = find(signatures, &self.name, key_id(TYPE, &self.name, &self.public))?;
        let forged = || NoteError::Forged(self.name.clone());
        let parsed = ed25519_dalek::Signature::from_slice(&signature.bytes).map_err(|_| forged())?;
        self.public.verify_strict(text.as_bytes(), &parsed).map_err(|_| forged())?;
        Ok(text)
    }
}

impl std::fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&encode_key(TYPE, &self.name, &self.public))
    }
}

impl std::str::FromStr for VerifyingKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<VerifyingKey, NoteError> {
        let (name, public) = decode_key(TYPE, text)?;
        Ok(VerifyingKey { name, public })
    }
}

/// The text with its last newline, and the signatures.
pub(super) fn parse(note: &str) -> Result<(&str, Vec<Signature>), NoteError> {
    if note.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError::Malformed("it holds a control character"));
    }
    let split = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before the signatures"))?;
    let (text, lines) = (&note[..=split], &note[split + 2..]);
    let Some(lines) = lines.strip_suffix('\n') else {
        return Err(NoteError::Malformed("it does not end with a newline"));
    };
    let signature = |line: &str| {
        let (name, encoded) = line.strip_prefix(MARK)?.split_once(' ')?;
        check_name(name).ok()?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (id, rest) = bytes.split_first_chunk::<4>()?;
        Some(Signature { name: name.to_owned(), key_id: *id, bytes: rest.to_vec() })
    };
    let parsed: Option<Vec<Signature>> = lines.split('\n').map(signature).collect();
    Ok((text, parsed.ok_or(NoteError::Malformed("a line below the text is no signature"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, made by Go's golang.org/x/mod/sumdb/note.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\
        \n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn notes_of_another_implementation_are_read() {
        let key: VerifyingKey = GO_KEY.parse().unwrap();
        assert_eq!(key.to_string(), GO_KEY);
        assert!(key.open(GO_NOTE).unwrap().ends_with("what your problem is.\n"));
    }

    #[test]
    fn a_note_holds_for_its_text_and_key_only() {
        let key = SigningKey::new("log.example/1", [7; 32]).unwrap();
        let note = key.sign("a\nb\n");
        assert_eq!(key.verifying_key().open(&note).unwrap(), "a\nb\n");
        let other = SigningKey::new("log.example/1", [8; 32]).unwrap().verifying_key();
        assert_eq!(other.open(&note), Err(NoteError::Unsigned("log.example/1".into())));
        assert_eq!(
            key.verifying_key().open(&note.replace("a\nb", "a\nc")),
            Err(NoteError::Forged("log.example/1".into()))
        );
        for (broken, why) in
            [("", "no empty line"), ("text\n\n", "does not end"), ("text\n\nnonsense\n", "is no signature")]
        {
            let error = key.verifying_key().open(broken).unwrap_err().to_string();
            assert!(error.contains(why), "{broken:?}: {error}");
        }
    }

    #[test]
    fn keys_that_are_not_what_they_say_are_refused() {
        for wrong in
            ["", "a+b", "a b+00000000+AA", &GO_KEY.replace("c74f20a3", "c74f20a4"), &GO_KEY.replace("+ARpc", "+Ahpc")]
        {
            assert!(wrong.parse::<VerifyingKey>().is_err(), "{wrong}");
        }
        assert!(SigningKey::new("a+b", [0; 32]).is_err());
    }
}
