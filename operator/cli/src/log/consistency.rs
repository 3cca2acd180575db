//! Whether a log is still the one that somebody kept a checkpoint of.

use std::path::Path;

use countersign_core::tlog::{CompactRange, VerifyingKey, leaf};

use super::bundle::{Bundle, CHECKPOINT, text};
use super::failure::Failure;
use super::verify::{Extent, verify};

/// The note in a file, or in an export.
pub fn checkpoint(path: &Path) -> anyhow::Result<String> {
    let file = if path.is_dir() { path.join(CHECKPOINT) } else { path.to_owned() };
    text(&file)
}

/// That the log as it was is the beginning of the log as it is.
pub fn check(old: &str, new: &Bundle, key: &VerifyingKey) -> Result<String, Failure> {
    let wrong = |why: String| Failure::Checkpoint(why);
    let proved = verify(new, key)?;
    // It may have been signed before the key changed.
    let old = proved.keys.open(old).map_err(|error| wrong(format!("the old one: {error}")))?;
    if proved.extent != Extent::Whole {
        return Err(wrong("the new export is of some entries; consistency takes the whole log".to_owned()));
    }
    let new_size = proved.checkpoint.size;
    if old.size > new_size {
        return Err(wrong(format!("the log was rolled back: it had {} entries and now has {new_size}", old.size)));
    }
    let mut range = CompactRange::default();
    let kept = new.lines.iter().take_while(|line| line.index < old.size);
    kept.for_each(|line| range.append(leaf(&line.body), |_| ()));
    if range.root() != old.root {
        return Err(wrong(format!(
            "the log was rewritten: its first {} entries are not those that were signed before",
            old.size
        )));
    }
    Ok(format!("The first {} of its {new_size} entries are those that were signed before.", old.size))
}
