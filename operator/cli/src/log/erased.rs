//! Payloads that are gone: each by an entry of the log that says so, or it was taken away behind the log's back.

use std::collections::BTreeMap;

use countersign_core::event::Event;
use countersign_core::tlog::Line;
use countersign_core::tlog::entry::TaskName;

use super::failure::Failure;

/// What one entry is, as far as erasing goes.
pub type Of<'a> = (&'a Line, Option<&'a TaskName>, Option<&'a Event>);

/// How many payloads were erased, all of them by a later entry of their own Task that names their place.
pub fn count(entries: &[Of<'_>]) -> Result<usize, Failure> {
    let mut erasers: BTreeMap<u64, Vec<(u64, Option<&TaskName>)>> = BTreeMap::new();
    for (line, task, event) in entries {
        if let Some(Event::Erase { entries, .. }) = event {
            entries.iter().for_each(|index| erasers.entry(*index).or_default().push((line.index, *task)));
        }
    }
    let gone: Vec<_> = entries.iter().filter(|(line, ..)| line.payload.is_none()).collect();
    let says = |line: &Line, task: Option<&TaskName>| {
        let by = erasers.get(&line.index).map_or(&[][..], Vec::as_slice);
        by.iter().any(|(at, of)| *at > line.index && task.is_some() && *of == task)
    };
    let taken: Vec<u64> =
        gone.iter().filter(|(line, task, _)| !says(line, *task)).map(|(line, ..)| line.index).collect();
    if taken.is_empty() { Ok(gone.len()) } else { Err(Failure::Taken(taken)) }
}
