//! Whether there are enough signatures.

use std::collections::BTreeSet;

use countersign_crds::Decision;

use super::{Signer, Terms, eligible};

/// What the decisions amount to, in whatever order they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tally<'a> {
    /// One person said no, and that is final.
    Rejected { by: &'a Decision },
    /// As many people as it takes, and every group among them.
    Reached,
    /// How many more people it takes, and the groups that nobody represents yet; one of the two is not empty.
    Waiting { more: usize, groups: Vec<String> },
}

/// Counts each person once; a decision counts only for this very digest, in time, by somebody who may.
pub fn tally<'a>(terms: &Terms<'_>, decisions: &'a [Decision]) -> Tally<'a> {
    let counted: Vec<&Decision> = decisions.iter().filter(|decision| counts(terms, decision)).collect();
    if let Some(by) = counted.iter().find(|decision| !decision.approved) {
        return Tally::Rejected { by };
    }
    let people: BTreeSet<&str> = counted.iter().map(|decision| decision.user.as_str()).collect();
    let represented = |group: &&String| counted.iter().any(|decision| decision.groups.contains(group));
    let groups: Vec<String> = terms.required.groups.iter().filter(|group| !represented(group)).cloned().collect();
    let more = (terms.required.count as usize).saturating_sub(people.len());
    if more == 0 && groups.is_empty() {
        return Tally::Reached;
    }
    Tally::Waiting { more, groups }
}

fn counts(terms: &Terms<'_>, decision: &Decision) -> bool {
    let signer = Signer { user: &decision.user, groups: &decision.groups };
    decision.digest == terms.digest && decision.at.0 < terms.expires_at && eligible(terms, signer).is_ok()
}
