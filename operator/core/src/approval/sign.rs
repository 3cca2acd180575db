//! Whether somebody may sign now.

use countersign_crds::Signature;
use jiff::Timestamp;
use thiserror::Error;

use super::tally::{replaces, said};
use super::{Missing, Tally, Terms, eligible, tally};
use crate::escape::shown;

/// Whoever wants to sign, as the API server saw them.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The groups that the user is in.
    pub groups: &'a [String],
}

/// What becomes of a signature that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is added to those that are there.
    Append,
    /// This person has said just that already, as a member of the same groups, or it is over; saying it again changes
    /// nothing, so that a manifest which says it can be applied for ever.
    AlreadySaid,
}

/// Why a signature is refused, for the person who tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// They asked for the work themselves; the user's name, fit to be shown.
    #[error("{0} asked for this work, and whoever asks never signs; somebody else must")]
    Requester(String),
    /// They own the Agent that asked, or it was asked on their behalf; the user's name, fit to be shown.
    #[error("{0} owns the Agent that asked for this work, or it was asked on their behalf; somebody else must sign")]
    BehindRequester(String),
    /// It is a service account that is not listed; its `NAMESPACE/NAME`.
    #[error(
        "the service account {0} is not listed; name it under approval.serviceAccounts of every Policy rule that asks"
    )]
    ServiceAccount(String),
    /// It takes no signature since this time (UTC).
    #[error("it expired at {0}; nothing can be signed any more")]
    Expired(Timestamp),
    /// It takes no signature any more; the reason of its condition `Approved`, such as `Superseded`.
    #[error("it is {0}; nothing can be signed any more")]
    Closed(String),
    /// Somebody said no before; that user's name, fit to be shown.
    #[error("{0} rejected it already, and that is final")]
    Rejected(String),
    /// Nothing is missing; how many signatures it takes.
    #[error("it has the signatures that it takes ({0})")]
    Enough(u32),
    /// They are in none of the groups that are still missing; those, with commas between them.
    #[error("what it still takes is a signature of each of these groups: {0}")]
    OtherGroups(String),
}

/// Whether `signer` may say `approved` of this Approval. `closed` is the state of one that takes no signature
/// any more; `decisions` are those whose seal holds.
///
/// # Errors
/// Why not, in words for the signer.
pub fn may_sign(
    now: Timestamp,
    terms: &Terms<'_>,
    closed: Option<&str>,
    decisions: &[Signature],
    signer: Signer<'_>,
    approved: bool,
) -> Result<Answer, Refused> {
    let before = said(terms.required, decisions, signer.user, approved);
    if before.is_some_and(|said| !replaces(terms.required, said, now, signer.groups)) {
        return Ok(Answer::AlreadySaid);
    }
    match refusal(now, terms, closed, decisions, signer, approved, before.is_some()) {
        None => Ok(Answer::Append),
        // They are of other groups now, and it comes too late to matter.
        Some(_) if before.is_some() => Ok(Answer::AlreadySaid),
        Some(refused) => Err(refused),
    }
}

/// Why this signature is refused. What somebody says `again`, as somebody of other groups, replaces what they said.
fn refusal(
    now: Timestamp,
    terms: &Terms<'_>,
    closed: Option<&str>,
    decisions: &[Signature],
    signer: Signer<'_>,
    approved: bool,
    again: bool,
) -> Option<Refused> {
    if let Err(refused) = eligible(terms, signer) {
        return Some(refused);
    }
    let tally = tally(terms, decisions);
    if let Tally::Rejected { by } = tally {
        return Some(Refused::Rejected(shown(&by.user)));
    }
    if now >= terms.expires_at {
        return Some(Refused::Expired(terms.expires_at));
    }
    if let Some(state) = closed {
        return Some(Refused::Closed(state.to_owned()));
    }
    match tally {
        Tally::Rejected { by } => Some(Refused::Rejected(shown(&by.user))),
        Tally::Reached => Some(Refused::Enough(terms.required.count)),
        Tally::Waiting(_) if !approved || again => None,
        Tally::Waiting(Missing { people, groups }) => {
            let helps = people > 0 || signer.groups.iter().any(|group| groups.contains(group));
            (!helps)
                .then(|| Refused::OtherGroups(groups.iter().map(|group| shown(group)).collect::<Vec<_>>().join(", ")))
        }
    }
}
