//! Which key signs today: from the one that is trusted, over every rotation, each signed by both keys.

use countersign_core::event::Event;
use countersign_core::tlog::{Checkpoint, Line, VerifyingKey, entry, leaf, verify_inclusion, verify_rotation};

use super::bundle::Bundle;
use super::failure::{Failure, entry_fails};

/// From the trusted key to the newest; the rotations before it are verified and not followed.
pub fn follow(bundle: &Bundle, trusted: &VerifyingKey) -> Result<Vec<VerifyingKey>, Failure> {
    let mut keys = vec![trusted.clone()];
    let mut last: Option<VerifyingKey> = None;
    for line in &bundle.rotations {
        let (old, new) = rotation(line).or_else(|why| entry_fails(line.index, why))?;
        if last.as_ref().is_some_and(|last| *last != old) {
            return entry_fails(line.index, "rotates another key than the one before it began");
        }
        if keys.last() == Some(&old) {
            keys.push(new.clone());
        }
        last = Some(new);
    }
    Ok(keys)
}

/// A checkpoint that one of these keys signed: the log's may have changed since.
pub fn open(note: &str, keys: &[VerifyingKey]) -> Result<Checkpoint, String> {
    let opened = keys.iter().rev().map(|key| Checkpoint::open(note, key)).reduce(Result::or);
    opened.ok_or("there is no key to verify with")?.map_err(|error| error.to_string())
}

fn rotation(line: &Line) -> Result<(VerifyingKey, VerifyingKey), String> {
    let opened = entry::open(&line.body)?;
    let payload = line.payload.as_ref().ok_or("its payload is gone")?;
    let event = entry::open_payload(&opened, payload)?;
    let event = serde_json::from_value(event).map_err(|error| format!("it tells of no rotation: {error}"))?;
    let Event::RotateKey { old, new, note, at: _ } = event else { return Err("it tells of no rotation".to_owned()) };
    let key = |text: &str| text.parse::<VerifyingKey>().map_err(|error| error.to_string());
    let (old, new) = (key(&old)?, key(&new)?);
    verify_rotation(&note, &old, &new).map_err(|error| error.to_string())?;
    Ok((old, new))
}

/// The rotations stand in the log as well.
pub fn logged(bundle: &Bundle, checkpoint: &Checkpoint) -> Result<(), Failure> {
    for line in &bundle.rotations {
        let Some(proof) = &line.proof else { return entry_fails(line.index, "has no proof, and tells of a key") };
        verify_inclusion(&leaf(&line.body), line.index, checkpoint.size, proof, &checkpoint.root)
            .or_else(|error| entry_fails(line.index, format!("tells of a key and is not what was logged: {error}")))?;
    }
    Ok(())
}
