//! What each entry of an export says of itself, before anything of it is proved.

use countersign_core::event::Event;
use countersign_core::tlog::entry::TaskName;
use countersign_core::tlog::{Hash, Line, entry, leaf};

/// One entry, read.
pub struct Read {
    pub leaf: Hash,
    /// If it can be read and its payload is the one that it names.
    pub content: Result<Content, String>,
}

/// What is needed of an entry to verify the others.
pub struct Content {
    pub task: Option<TaskName>,
    /// Of a rotation or an erasure whose payload is there.
    pub event: Option<Event>,
}

impl Read {
    pub fn of(line: &Line) -> Read {
        Read { leaf: leaf(&line.body), content: content(line) }
    }

    pub fn event(&self) -> Option<&Event> {
        self.content.as_ref().ok()?.event.as_ref()
    }
}

/// On every core where there are many, as this takes nearly all of the time.
pub fn all(lines: &[Line]) -> Vec<Read> {
    const MANY: usize = 1000;
    if lines.len() < MANY {
        return lines.iter().map(Read::of).collect();
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = lines.len().div_ceil(cores);
    std::thread::scope(|scope| {
        let parts: Vec<_> = lines
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(Read::of).collect::<Vec<_>>()))
            .collect();
        // A panic in one is a defect here, and goes on.
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn content(line: &Line) -> Result<Content, String> {
    let opened = entry::open(&line.body)?;
    let Some(payload) = &line.payload else { return Ok(Content { task: opened.task, event: None }) };
    let event = entry::open_payload(&opened, payload)?;
    let event = match opened.kind.as_str() {
        kind @ ("rotateKey" | "erase") => {
            let event: Event =
                serde_json::from_value(event).map_err(|error| format!("it tells of no {kind}: {error}"))?;
            if event.kind() != kind {
                return Err(format!("it is of kind {kind}, and tells of {}", event.kind()));
            }
            Some(event)
        }
        _ => None,
    };
    Ok(Content { task: opened.task, event })
}
