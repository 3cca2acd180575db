//! Whether what was decided is still what would be decided now. It is asked three times: when an attempt is intended,
//! when its Job is made, and when its pod is let in.

use countersign_crds::Step;

use super::Worklist;
use super::view::View;
use crate::binding::{Binding, difference_texts};
use crate::blocked::Blocked;
use crate::digest::Digest;
use crate::judge::{Judgement, Prepared};
use crate::money::Money;
use crate::record::{ApprovalState, AttemptRecord, TaskRecord};

/// Holds what would run now, and what it takes, against what was decided: what was signed for, where it was. An error
/// names the members that differ.
pub(super) fn compare(decided: Digest, signed: Option<&Binding>, now: &Prepared) -> Result<(), Vec<String>> {
    if decided == now.digest {
        return Ok(());
    }
    let Some(signed) = signed else {
        // It took no signature when it was decided.
        let asks = now.binding.ask.iter();
        return Err(asks.map(|ask| format!("ask.required: none -> {}", ask.required.count)).collect());
    };
    Err(difference_texts(&signed.differences(&now.binding)))
}

/// How an attempt stands whose pod was not let in yet.
#[derive(Debug, PartialEq)]
pub(super) enum AttemptVerdict {
    /// It is what would be decided now.
    Same,
    /// The same would be decided, within other limits of where it may go: it is launched again, under the same
    /// signatures.
    OtherLimits,
    /// It cannot be told now, so it stays as it is.
    NotNow(Blocked),
    /// There is no Task or Plan any more to judge it by.
    Gone,
    /// It is not what would be decided now; the members that differ, where they are known.
    Other(Vec<String>),
}

/// What voided the attempt's Approval, where it was voided for another of its steps.
pub(super) fn superseded<'a>(record: &'a TaskRecord, attempt: &AttemptRecord) -> Option<&'a [String]> {
    match &record.approvals.get(attempt.approval.as_ref()?)?.state {
        ApprovalState::Superseded { changed } => Some(changed),
        ApprovalState::Requested
        | ApprovalState::Approved
        | ApprovalState::Rejected
        | ApprovalState::Expired
        | ApprovalState::Consumed
        | ApprovalState::Withdrawn => None,
    }
}

/// Judges the attempt's step once more. The Job is made where this says [`AttemptVerdict::Same`] and there is none yet;
/// the pod is let in where it says so and there is one.
pub(super) fn verdict_on(view: &View<'_>, record: &Worklist, step: &str, attempt: &AttemptRecord) -> AttemptVerdict {
    let approval = attempt.approval.as_ref().and_then(|name| record.approvals.get(name));
    let judge = |spec: &Step| view.judge(record, spec, attempt.number, Money::ZERO);
    let other = |member: &str| AttemptVerdict::Other(vec![member.to_owned()]);
    match record.step(step).and_then(judge) {
        None => AttemptVerdict::Gone,
        Some(Judgement::Blocked { blocked, budget: _ }) => AttemptVerdict::NotNow(blocked),
        Some(Judgement::Skip) => other("when"),
        Some(Judgement::Invalid { .. }) => other("input"),
        Some(Judgement::Denied { .. }) => other("policies"),
        Some(Judgement::Ready(now)) => {
            let covered = approval.and_then(|approval| approval.covers.get(step));
            let signed = covered.and_then(|covered| covered.binding.as_deref());
            let several = approval.is_some_and(|approval| approval.covers.len() > 1);
            let limits = attempt.launch.as_ref().map(|launch| &launch.limits);
            match compare(attempt.digest, signed, &now) {
                Ok(()) if limits.is_some_and(|limits| *limits != now.limits) => AttemptVerdict::OtherLimits,
                Ok(()) => AttemptVerdict::Same,
                Err(changed) => AttemptVerdict::Other(if several { of_step(step, changed) } else { changed }),
            }
        }
    }
}

/// The members of one of several steps.
pub(super) fn of_step(step: &str, changed: Vec<String>) -> Vec<String> {
    changed.into_iter().map(|field| format!("{step}.{field}")).collect()
}
