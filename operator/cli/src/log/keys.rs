//! Which key signs at which size of the log: each from the rotation on that both keys signed, until the next one.

use std::collections::BTreeMap;

use countersign_core::event::Event;
use countersign_core::tlog::{Checkpoint, Line, VerifyingKey, leaf, verify_inclusion, verify_rotation};

use super::bundle::Bundle;
use super::failure::{Failure, entry_fails};
use super::read::Read;

/// The keys of a log, the first one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    terms: Vec<Term>,
    /// Which of them is the one that the reader trusts.
    trusted: usize,
}

/// The time of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: VerifyingKey,
    /// The smallest size of the tree that it signs: the rotation to it stands at the place before.
    from: u64,
}

impl Keys {
    /// By every rotation that the export holds, wherever it stands in it. Whether they were logged is not known before
    /// the tree is proved.
    pub fn of(bundle: &Bundle, read: &[Read], trusted: &VerifyingKey) -> Result<Keys, Failure> {
        let mut terms: Vec<Term> = Vec::new();
        for (index, (old, new)) in rotations(bundle, read)? {
            match terms.last() {
                None => terms.push(Term { key: old, from: 0 }),
                Some(last) if last.key == old => {}
                Some(_) => return entry_fails(index, "rotates another key than the one before it began"),
            }
            terms.push(Term { key: new, from: index + 1 });
        }
        if terms.is_empty() {
            terms.push(Term { key: trusted.clone(), from: 0 });
        }
        // A key that was trusted again later counts from there on.
        match terms.iter().rposition(|term| term.key == *trusted) {
            Some(trusted) => Ok(Keys { terms, trusted }),
            None => Err(Failure::Checkpoint(format!(
                "is not signed by {trusted}, nor by a key that follows from it; its log's first key is {}",
                terms[0].key
            ))),
        }
    }

    /// A checkpoint that was signed by the key whose time it was: one that is retired signs nothing more.
    pub fn open(&self, note: &str) -> Result<Checkpoint, String> {
        let size = Checkpoint::claimed(note).map_err(|error| error.to_string())?.size;
        let current = self.terms.iter().rposition(|term| term.from <= size).unwrap_or(0);
        let key = &self.terms[current].key;
        let refused = match Checkpoint::open(note, key) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(error) => error,
        };
        let signs = |term: &&Term| Checkpoint::open(note, &term.key).is_ok();
        let Some(at) = self.terms[..current].iter().rposition(|term| signs(&term)) else {
            return Err(refused.to_string());
        };
        let (retired, end) = (&self.terms[at].key, self.terms[at + 1].from - 1);
        Err(format!("is signed by {retired}, which entry {end} retired: from there on it takes the signature of {key}"))
    }

    /// From which entry on all must be told so that it is known that the key of this checkpoint was not retired before it:
    /// the one after the rotation that its time began with.
    pub fn since(&self, checkpoint: &Checkpoint) -> u64 {
        self.terms.iter().rfind(|term| term.from <= checkpoint.size).map_or(0, |term| term.from)
    }

    /// How many rotations lead from the trusted key to the newest.
    pub fn followed(&self) -> usize {
        self.terms.len() - 1 - self.trusted
    }
}

type Pair = (VerifyingKey, VerifyingKey);

/// The rotations among the entries and beside them, by their place.
fn rotations(bundle: &Bundle, read: &[Read]) -> Result<BTreeMap<u64, Pair>, Failure> {
    let among = bundle.lines.iter().zip(read).filter(|(_, read)| matches!(read.event(), Some(Event::RotateKey { .. })));
    let mut found: BTreeMap<u64, (&Line, Pair)> = BTreeMap::new();
    for (line, read) in among {
        let pair = pair(read).or_else(|why| entry_fails(line.index, why))?;
        found.insert(line.index, (line, pair));
    }
    for line in &bundle.rotations {
        let pair = pair(&Read::of(line)).or_else(|why| entry_fails(line.index, why))?;
        match found.insert(line.index, (line, pair)) {
            Some((other, _)) if other.body != line.body => {
                return entry_fails(line.index, "tells of a key, and is another in rotations.jsonl");
            }
            Some(_) | None => {}
        }
    }
    Ok(found.into_iter().map(|(index, (_, pair))| (index, pair)).collect())
}

/// The old key and the new one, if both signed that one follows the other.
fn pair(read: &Read) -> Result<Pair, String> {
    let event = read.content.as_ref().map_err(Clone::clone)?.event.as_ref();
    let Some(Event::RotateKey { old, new, note, at: _ }) = event else {
        return Err("it tells of no rotation, or its payload is gone".to_owned());
    };
    let key = |text: &str| text.parse::<VerifyingKey>().map_err(|error| error.to_string());
    let (old, new) = (key(old)?, key(new)?);
    verify_rotation(note, &old, &new).map_err(|error| error.to_string())?;
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
