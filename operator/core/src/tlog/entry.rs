//! What one leaf of the log is of: an envelope that tells what happened, when and to which Task, and the digest of
//! what exactly; that itself stands apart, so that it can be erased.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::{Digest, hex};
use crate::json::{canonical, strict};

/// The version of the envelope and of the events in it. Within a version only members are added.
pub const VERSION: u32 = 1;
/// Bytes of a salt. Without it, whoever can guess an event could check the guess against its hash.
pub const SALT_BYTES: usize = 16;

/// The envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Which version of the envelope, and of the event in its payload, this is.
    pub version: u32,
    /// What happened: the name of the change.
    pub kind: String,
    /// When it happened, in UTC.
    pub at: Timestamp,
    /// The Task that it happened to; `None` where it is of none, such as a change of leader.
    pub task: Option<TaskName>,
    /// SHA-256 of the payload's bytes.
    pub payload: Digest,
    /// Hexadecimal.
    pub salt: String,
}

/// Names the Task that an entry is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskName {
    /// The namespace that the Task is in.
    pub namespace: String,
    /// The Task's name in its namespace.
    pub name: String,
    /// The Task's uid, which no other Task of that name has.
    pub uid: String,
}

/// An entry as it is stored: the bytes of which the leaf is, and those of its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The envelope in canonical form (RFC 8785): the bytes whose hash is the leaf.
    pub body: Vec<u8>,
    /// The event with a salt of its own, in canonical form (RFC 8785): the bytes that can be erased.
    pub payload: Vec<u8>,
}

/// Closes an event into an entry. The salts are random, one for each of the two.
///
/// # Errors
/// The event holds what has no canonical form, such as an integer beyond 2^53-1.
pub fn close(
    kind: &str,
    at: Timestamp,
    task: Option<TaskName>,
    event: &Value,
    salts: [[u8; SALT_BYTES]; 2],
) -> Result<Sealed, strict::StrictError> {
    let [salt, payload_salt] = salts.map(|salt| hex(&salt));
    let payload = canonical::to_vec(&json!({"salt": payload_salt, "event": event}))?;
    let entry = Entry { version: VERSION, kind: kind.to_owned(), at, task, payload: Digest::of_bytes(&payload), salt };
    Ok(Sealed { body: canonical::to_vec(&json!(entry))?, payload })
}

/// Reads an entry back, strictly: bytes that are not the canonical form of what they say are refused.
///
/// # Errors
/// Why not, for whoever verifies.
pub fn open(body: &[u8]) -> Result<Entry, String> {
    let value = strict::parse(body).map_err(|error| format!("it is not strict JSON: {error}"))?;
    let again = canonical::to_vec(&value).map_err(|error| format!("it has no canonical form: {error}"))?;
    if again != body {
        return Err("it is not in canonical form".to_owned());
    }
    let entry: Entry = serde_json::from_value(value).map_err(|error| format!("it is no entry: {error}"))?;
    if entry.version != VERSION {
        return Err(format!("it is of version {}; this reads version {VERSION}", entry.version));
    }
    Ok(entry)
}

/// The event of a payload that the entry names.
///
/// # Errors
/// Why it is not that.
pub fn open_payload(entry: &Entry, payload: &[u8]) -> Result<Value, String> {
    if Digest::of_bytes(payload) != entry.payload {
        return Err(format!("its payload is not the one whose digest it holds, {}", entry.payload));
    }
    let value = strict::parse(payload).map_err(|error| format!("its payload is not strict JSON: {error}"))?;
    value.get("event").cloned().ok_or_else(|| "its payload holds no event".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Sealed {
        let task = TaskName { namespace: "ns".into(), name: "t".into(), uid: "u".into() };
        let at = "2026-11-21T00:00:00.123456Z".parse().unwrap();
        close("intend", at, Some(task), &json!({"step": "s", "b": 1, "a": 2}), [[1; 16], [2; 16]]).unwrap()
    }

    #[test]
    fn what_is_closed_is_opened() {
        let Sealed { body, payload } = sealed();
        let entry = open(&body).unwrap();
        assert_eq!((entry.kind.as_str(), entry.task.as_ref().unwrap().uid.as_str()), ("intend", "u"));
        assert_eq!(open_payload(&entry, &payload).unwrap(), json!({"a": 2, "b": 1, "step": "s"}));
    }

    #[test]
    fn other_bytes_are_refused_with_the_reason() {
        let Sealed { body, payload } = sealed();
        let text = String::from_utf8(body.clone()).unwrap();
        for (altered, why) in [
            (text.replace("{\"at\"", "{ \"at\""), "not in canonical form"),
            (text.replace("\"kind\"", "\"at\""), "not strict JSON"),
            (text.replace("\"version\":1", "\"version\":2"), "of version 2"),
            (text.replace("\"version\":1", "\"versio\":1"), "no entry"),
            (text[..text.len() - 1].to_owned(), "not strict JSON"),
        ] {
            let error = open(altered.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{altered}: {error}");
        }
        let entry = open(&body).unwrap();
        for at in 0..payload.len() {
            let mut bent = payload.clone();
            bent[at] ^= 1;
            assert!(open_payload(&entry, &bent).is_err(), "byte {at}");
        }
    }
}
