//! What the durations that a user can write may be: said once, checked at admission and where they are used.

use crate::problem::Problem;
use crate::time::{DurationError, GoDuration};

/// A duration's bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The shortest that is allowed.
    pub min: GoDuration,
    /// The longest that is allowed.
    pub max: GoDuration,
}

const SECOND: u32 = 1;
const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;

/// How long one attempt may run: `timeout` of a Skill and of a step.
pub const TIMEOUT: Bounds = Bounds::seconds(SECOND, DAY);
/// How long an attempt usually takes: a Skill's `expectedDuration`.
pub const EXPECTED: Bounds = Bounds::seconds(SECOND, DAY);
/// The pauses between attempts: a step's `retry.backoff` and `retry.maxBackoff`.
pub const BACKOFF: Bounds = Bounds::seconds(SECOND, DAY);
/// How long an Approval waits: a rule's `approval.expiresAfter`.
pub const EXPIRES_AFTER: Bounds = Bounds::seconds(SECOND, 90 * DAY);

impl Bounds {
    const fn seconds(min: u32, max: u32) -> Bounds {
        Bounds { min: GoDuration::from_secs(min), max: GoDuration::from_secs(max) }
    }

    /// The duration that a text says, within these bounds.
    ///
    /// # Errors
    /// It says none, or one beyond them.
    pub fn parse(self, text: &str) -> Result<GoDuration, DurationError> {
        GoDuration::parse_within(text, self.min, self.max)
    }

    /// What is wrong with the text of a field.
    pub fn problem(self, field: impl Into<String>, text: &str) -> Option<Problem> {
        self.parse(text).err().map(|error| Problem::new(field, error.to_string()))
    }
}
