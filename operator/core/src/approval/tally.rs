//! Whether there are enough signatures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use countersign_crds::{Required, Signature};
use jiff::Timestamp;

use super::{Signer, Terms, eligible};
use crate::escape::shown;

/// What the decisions amount to, in whatever order they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tally<'a> {
    /// One person said no, and that is final.
    Rejected {
        /// The signature of the person who did.
        by: &'a Signature,
    },
    /// As many people as it takes, and every group among them.
    Reached,
    /// Neither yet: what is still missing.
    Waiting(Missing),
}

/// What an Approval still lacks; one of the two is not empty. Its words go on after "waiting for".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// How many more people must sign, of whatever group.
    pub people: usize,
    /// The groups that nobody represents yet.
    pub groups: Vec<String>,
}

impl Missing {
    /// How many signatures it lacks at least: one person may represent several groups.
    pub fn signatures(&self) -> usize {
        self.people.max(usize::from(!self.groups.is_empty()))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.signatures();
        let groups: Vec<String> = self.groups.iter().map(|group| shown(group)).collect();
        match groups.as_slice() {
            [] if least == 1 => f.write_str("1 more signature"),
            [] => write!(f, "{least} more signatures"),
            [group] if least == 1 => write!(f, "1 more, from group {group}"),
            [group] => write!(f, "{least} more, one of them from group {group}"),
            groups if groups.len() > least => write!(f, "at least {least} more, from groups {}", groups.join(", ")),
            groups if groups.len() == least => write!(f, "{least} more, from groups {}", groups.join(", ")),
            groups => write!(f, "{least} more, among them from groups {}", groups.join(", ")),
        }
    }
}

/// Counts each person once, as who they were when they signed last; a decision counts only for this very digest, in time,
/// by somebody who may.
pub fn tally<'a>(terms: &Terms<'_>, decisions: &'a [Signature]) -> Tally<'a> {
    if let Some(by) = decisions.iter().find(|decision| !decision.approved && counts(terms, decision)) {
        return Tally::Rejected { by };
    }
    let people = people(terms, decisions);
    let represented = |group: &&String| people.values().any(|decision| decision.groups.contains(group));
    let groups: Vec<String> = terms.required.groups.iter().filter(|group| !represented(group)).cloned().collect();
    let more = (terms.required.count as usize).saturating_sub(people.len());
    if more == 0 && groups.is_empty() {
        return Tally::Reached;
    }
    Tally::Waiting(Missing { people: more, groups })
}

/// Who approved, each with the decision of theirs that counts: the last.
pub fn people<'a>(terms: &Terms<'_>, decisions: &'a [Signature]) -> BTreeMap<&'a str, &'a Signature> {
    let mut people: BTreeMap<&str, &Signature> = BTreeMap::new();
    for decision in decisions.iter().filter(|decision| decision.approved && counts(terms, decision)) {
        let counted = people.entry(&decision.user).or_insert(decision);
        if rank(terms.required, decision) > rank(terms.required, counted) {
            *counted = decision;
        }
    }
    people
}

fn counts(terms: &Terms<'_>, decision: &Signature) -> bool {
    let signer = Signer { user: &decision.user, groups: &decision.groups };
    decision.digest == terms.digest && decision.at.0 < terms.expires_at && eligible(terms, signer).is_ok()
}

/// Whether it says what its author has not said before, or says it as somebody of other groups, as far as groups are
/// asked for. Said again, the same thing changes nothing.
pub fn is_new(required: &Required, known: &[Signature], decision: &Signature) -> bool {
    let said = said(required, known, &decision.user, decision.approved);
    said.is_none_or(|said| replaces(required, said, decision.at.0, &decision.groups))
}

/// Whether what the author of `said` says again, then and as one of these groups, counts in its place.
pub(super) fn replaces(required: &Required, said: &Signature, at: Timestamp, groups: &[String]) -> bool {
    let groups = represents(required, groups);
    groups != represents(required, &said.groups) && (at, groups) > rank(required, said)
}

/// What this person said last of those who say just this.
pub(super) fn said<'a>(
    required: &Required,
    decisions: &'a [Signature],
    user: &str,
    approved: bool,
) -> Option<&'a Signature> {
    let theirs = decisions.iter().filter(|decision| decision.user == user && decision.approved == approved);
    theirs.max_by_key(|decision| rank(required, decision))
}

/// Of two decisions by one person the one of the higher rank is the later; at the same second it is settled by what they
/// say, so that the order in which they stand means nothing.
fn rank<'a>(required: &'a Required, decision: &'a Signature) -> (Timestamp, BTreeSet<&'a str>) {
    (decision.at.0, represents(required, &decision.groups))
}

/// The groups that are asked for, of those that somebody is in.
fn represents<'a>(required: &'a Required, groups: &[String]) -> BTreeSet<&'a str> {
    required.groups.iter().filter(|group| groups.contains(group)).map(String::as_str).collect()
}
