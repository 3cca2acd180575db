//! The path at which the webhook answers: 256 random bits that only its configuration tells, and others each day.
//!
//! It keeps whoever can reach the port from posting reviews of their own. It is a layer and not a wall: the API server
//! quotes the URL where a call fails, and whoever may read webhook configurations reads it there.

use std::sync::{Arc, PoisonError, RwLock};

use countersign_core::digest::{Digest, hex};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// For how long a path is used.
const AGE: SignedDuration = SignedDuration::from_hours(24);
/// For how long a new path is answered before it is told, so that every replica knows it by then.
const SETTLE: SignedDuration = SignedDuration::from_secs(60);
const BYTES: usize = 32;

/// Below this reviews are stamped.
pub const MUTATE: &str = "/mutate/";
/// Below this they are judged only.
pub const VALIDATE: &str = "/validate/";

/// What all replicas agree on, kept in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    path: String,
    /// The one before it, which is told until the new one has settled.
    old: Option<String>,
    made: Timestamp,
}

impl Way {
    /// The next one, where it is due.
    pub fn renewed(now: Timestamp, current: Option<&Way>, random: [u8; BYTES]) -> Option<Way> {
        match current {
            // A clock that went back would keep a path for longer.
            Some(way) if (-SETTLE..AGE).contains(&now.duration_since(way.made)) => None,
            current => Some(Way { path: hex(&random), old: current.map(|way| way.path.clone()), made: now }),
        }
    }

    /// What the configuration is to tell.
    pub fn told(&self, now: Timestamp) -> &str {
        match &self.old {
            Some(old) if now < self.made + SETTLE => old,
            Some(_) | None => &self.path,
        }
    }

    /// Whether a configuration may go on telling this path.
    pub fn may_tell(&self, now: Timestamp, path: &str) -> bool {
        path == self.path || path == self.told(now)
    }

    /// Whether it is the newest.
    pub fn is_newest(&self, path: &str) -> bool {
        path == self.path
    }

    /// What is answered: the old one as long as nobody has seen the configuration tell the new one for a while.
    pub fn answered(&self, new_is_told: bool) -> Vec<&str> {
        let old = self.old.as_deref().filter(|_| !new_is_told);
        std::iter::once(self.path.as_str()).chain(old).collect()
    }
}

/// Whether what is told in a configuration can lead to the stamping of a review, and to nothing else.
pub fn leads_to_stamping(path: &str) -> bool {
    let digits = path.strip_prefix(MUTATE).unwrap_or_default();
    digits.len() == 2 * BYTES && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The paths that are answered now, known by their digests: how long a comparison takes tells nothing of them.
#[derive(Clone, Default)]
pub struct Door(Arc<RwLock<Vec<Digest>>>);

impl Door {
    pub fn open(&self, paths: &[&str]) {
        let digests = paths.iter().map(|path| Digest::of_bytes(path.as_bytes())).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = digests;
    }

    pub fn opens(&self, path: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&Digest::of_bytes(path.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_is_told_once_everybody_answers_it_and_the_old_one_answered_until_then() {
        let start = at("2026-01-01T00:00:00Z");
        let first = Way::renewed(start, None, [1; 32]).unwrap();
        assert_eq!((first.told(start), first.answered(false)), (hex(&[1; 32]).as_str(), vec![hex(&[1; 32]).as_str()]));
        for (later, due) in
            [("2026-01-01T23:59:59Z", false), ("2026-01-02T00:00:00Z", true), ("2025-12-31T00:00:00Z", true)]
        {
            assert_eq!(Way::renewed(at(later), Some(&first), [2; 32]).is_some(), due, "{later}");
        }
        let day = at("2026-01-02T00:00:00Z");
        let second = Way::renewed(day, Some(&first), [2; 32]).unwrap();
        let (old, new) = (hex(&[1; 32]), hex(&[2; 32]));
        for (seconds, told) in [(0, &old), (59, &old), (60, &new), (86_399, &new)] {
            let now = day + SignedDuration::from_secs(seconds);
            assert_eq!(second.told(now), told, "after {seconds} s");
            assert!(second.answered(false).contains(&told.as_str()), "what is told is answered");
            assert!(second.may_tell(now, &new), "one that is ahead is not taken back");
            assert_eq!(second.may_tell(now, &old), told == &old);
        }
        assert_eq!(second.answered(false), [new.as_str(), old.as_str()]);
        assert_eq!(second.answered(true), [new.as_str()]);
    }

    #[test]
    fn only_what_is_told_opens_and_only_a_whole_path_leads_to_stamping() {
        let door = Door::default();
        let path = hex(&[1; 32]);
        assert!(!door.opens(&path) && !door.opens(""), "nothing is open to begin with");
        door.open(&[&path]);
        assert!(door.opens(&path) && !door.opens(&path[1..]) && !door.opens(""));
        for (path, leads) in [
            (format!("{MUTATE}{path}"), true),
            (format!("{VALIDATE}{path}"), false),
            (MUTATE.to_owned(), false),
            ("/mutate".to_owned(), false),
            (format!("{MUTATE}{path}/../../validate"), false),
            (format!("{MUTATE}{}", "G".repeat(64)), false),
        ] {
            assert_eq!(leads_to_stamping(&path), leads, "{path}");
        }
    }
}
