//! Falls once: on one message of all that a driver sends, to PostgreSQL or to the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The message never arrives.
    Before,
    /// It was carried out, and nobody hears of it.
    After,
}

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The driver dies there.
    Life,
    /// It lives, and has lost the connection.
    Line,
}

pub struct Knife {
    at: u32,
    pub moment: Moment,
    cut: Cut,
    messages: AtomicU32,
    fell: AtomicBool,
    dead: CancellationToken,
}

impl Knife {
    /// On the message of this number, which begins at 1; on none where it is 0.
    pub fn new(at: u32, moment: Moment, cut: Cut) -> Arc<Knife> {
        let (messages, fell, dead) = (AtomicU32::new(0), AtomicBool::new(false), CancellationToken::new());
        Arc::new(Knife { at, moment, cut, messages, fell, dead })
    }

    pub fn none() -> Arc<Knife> {
        Knife::new(0, Moment::Before, Cut::Line)
    }

    /// Counts a message; whether it is the one.
    pub fn counts(&self) -> bool {
        self.messages.fetch_add(1, Ordering::SeqCst) + 1 == self.at
    }

    pub fn fall(&self) {
        self.fell.store(true, Ordering::SeqCst);
        match self.cut {
            Cut::Life => self.dead.cancel(),
            Cut::Line => {}
        }
    }

    pub fn fell(&self) -> bool {
        self.fell.load(Ordering::SeqCst)
    }

    pub async fn death(&self) {
        self.dead.cancelled().await;
    }
}
