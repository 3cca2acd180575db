//! What is kept of an anchor so that it can be proved later:
//! `{"version":1,"transaction":"BASE64","tick":NUMBER,"id":"LETTERS"}`, in this order and without spaces.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::identity::Identity;
use super::transaction::{Transaction, TransactionError};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    version: u32,
    transaction: String,
    tick: u32,
    id: String,
}

/// What evidence proves by itself: that the source has signed a digest, for this tick and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The transaction's id.
    pub transaction: String,
    pub tick: u32,
    /// Who has signed it.
    pub source: Identity,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvidenceError {
    #[error("the evidence is not written as it should be: {0}")]
    Malformed(String),
    #[error("the evidence's version is {0}, and 1 is known")]
    Version(u32),
    #[error("the evidence's transaction: {0}")]
    Transaction(#[from] TransactionError),
    #[error("the evidence's tick is {said}, and the transaction's {signed}")]
    Tick { said: u32, signed: u32 },
    #[error("the evidence's id is not the transaction's")]
    Id,
    #[error("the evidence is of another digest")]
    Digest,
    #[error("the transaction was signed by {found}, not by {expected}")]
    Source { found: Identity, expected: Identity },
}

/// The evidence of a transaction that was included.
pub(super) fn write(transaction: &Transaction) -> Vec<u8> {
    let bytes = STANDARD.encode(transaction.to_bytes());
    render(&Evidence { version: VERSION, transaction: bytes, tick: transaction.tick(), id: transaction.id() })
}

fn render(evidence: &Evidence) -> Vec<u8> {
    let Evidence { version, transaction, tick, id } = evidence;
    let quoted = |text: &str| serde_json::Value::from(text);
    format!(r#"{{"version":{version},"transaction":{},"tick":{tick},"id":{}}}"#, quoted(transaction), quoted(id)).into()
}

/// Checks evidence without asking anybody: the signature, the tag, the digest, the tick, the id and, where one is
/// expected, the source. It cannot prove that the transaction was included in its tick, which only the network's nodes
/// know: for that, see [`confirm`](super::confirm). Nor can it prove when it was signed, which was before its tick has
/// passed only if it was included.
pub fn verify(evidence: &[u8], digest: &[u8; 32], expected: Option<&Identity>) -> Result<Proved, EvidenceError> {
    let malformed = |why: &str| EvidenceError::Malformed(why.to_owned());
    let parsed: Evidence = serde_json::from_slice(evidence).map_err(|error| malformed(&error.to_string()))?;
    if parsed.version != VERSION {
        return Err(EvidenceError::Version(parsed.version));
    }
    // Of each evidence there is one form only.
    if render(&parsed) != evidence {
        return Err(malformed("it has another form than it is written in"));
    }
    let bytes = STANDARD.decode(&parsed.transaction).map_err(|_| malformed("the transaction is not base64"))?;
    let transaction = Transaction::parse(&bytes)?;
    if transaction.digest() != digest {
        return Err(EvidenceError::Digest);
    }
    if transaction.tick() != parsed.tick {
        return Err(EvidenceError::Tick { said: parsed.tick, signed: transaction.tick() });
    }
    if transaction.id() != parsed.id {
        return Err(EvidenceError::Id);
    }
    let found = transaction.source();
    match expected.filter(|expected| **expected != found) {
        Some(expected) => Err(EvidenceError::Source { found, expected: *expected }),
        None => Ok(Proved { transaction: parsed.id, tick: parsed.tick, source: found }),
    }
}
