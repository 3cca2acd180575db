//! The life of one Approval, explored to its end: every order of signatures, forgeries, edits, expiry, cancellation and
//! looks, with a guard that comes and goes, for one step and for a Plan that is signed for as one. The rules are the
//! product's own functions; for each invariant a variant with one of them bent shows that the explorer would find it.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "lifecycle/explorer.rs"]
mod explorer;
#[path = "lifecycle/world.rs"]
mod world;

use countersign_core::approval::{Signer, Terms};
use countersign_core::record::{ApprovalState, AttemptRecord, Change, StepRecord, TaskRecord};
use countersign_crds::{Identity, Required, Signature};
use explorer::{Comparison, Entry, Product, Rules, explore};
use jiff::Timestamp;
use world::{ASKED, ASKED_OF_A_PLAN, Asks, PLAN, SIGNERS, STEP, World, instant};

/// Nothing is found, and it comes to all of these.
fn every_state_holds(world: World, comes_to: &[&str]) {
    let explored = explore(&Product, world).unwrap();
    println!("{explored:?}, all of them");
    assert_eq!(explored.keys().map(String::as_str).collect::<Vec<_>>(), comes_to);
}

#[test]
fn every_order_of_signatures() {
    every_state_holds(SIGNERS, &["Approved", "Consumed", "Expired", "Rejected", "Requested", "ran"]);
}

#[test]
fn every_change_around_a_step() {
    every_state_holds(STEP, &EVERYTHING);
}

#[test]
fn every_change_around_a_plan() {
    every_state_holds(PLAN, &EVERYTHING);
}

#[test]
fn every_change_of_what_is_asked_for_around_a_step() {
    every_state_holds(ASKED, &EVERYTHING);
}

#[test]
fn every_change_of_what_is_asked_for_around_a_plan() {
    every_state_holds(ASKED_OF_A_PLAN, &EVERYTHING);
}

const EVERYTHING: [&str; 8] =
    ["Approved", "Consumed", "Expired", "Rejected", "Requested", "Superseded", "Withdrawn", "ran"];

/// A rule that was bent, and what the explorer must say of it.
macro_rules! broken {
    ($name:ident, $world:expr, $expected:expr, { $($rule:item)* }) => {
        #[test]
        fn $name() {
            struct Broken;
            impl Rules for Broken { $($rule)* }
            assert_eq!(explore(&Broken, $world).expect_err("the explorer did not notice"), $expected);
        }
    };
}

/// The change with other terms, where it is the one that asks.
fn asking_for(change: Change, alter: impl FnOnce(&mut Required)) -> Change {
    let mut change = change;
    if let Change::RequestApproval { required, .. } = &mut change {
        alter(required);
    }
    change
}

broken!(broken_the_requester_signs, SIGNERS, "a signature was taken of somebody who may not sign", {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: Option<&str>,
        seen: &[Signature],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        let nobody = Identity { user: "nobody".into(), uid: None, groups: Vec::new() };
        Product.may_sign(now, &Terms { requester: &nobody, ..*terms }, closed, seen, who, yes)
    }
});
broken!(broken_any_account_signs, SIGNERS, "a signature was taken of somebody who may not sign", {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: Option<&str>,
        seen: &[Signature],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        let required = Required { service_accounts: vec!["ns/robot".into()], ..terms.required.clone() };
        Product.may_sign(now, &Terms { required: &required, ..*terms }, closed, seen, who, yes)
    }
});
broken!(broken_one_is_enough, SIGNERS, "ran with the signatures of fewer people than it takes", {
    fn recorded(&self, change: Change) -> Option<Change> {
        Some(asking_for(change, |required| required.count = 1))
    }
});
broken!(broken_a_person_counts_twice, SIGNERS, "ran with the signatures of fewer people than it takes", {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: Option<&str>,
        seen: &[Signature],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        let others: Vec<Signature> = seen.iter().filter(|entry| !entry.user.starts_with(who.user)).cloned().collect();
        Product.may_sign(now, terms, closed, &others, who, yes)
    }
    // Told apart by their place in the list, as if each entry were a person.
    fn seen(&self, entries: &[&Entry]) -> Vec<Signature> {
        let apart = |(n, entry): (usize, Signature)| Signature { user: format!("{}{n}", entry.user), ..entry };
        Product.seen(entries).into_iter().enumerate().map(apart).collect()
    }
});
broken!(broken_groups_are_forgotten, SIGNERS, "ran although a group was not represented", {
    fn recorded(&self, change: Change) -> Option<Change> {
        Some(asking_for(change, |required| required.groups.clear()))
    }
});
broken!(broken_a_no_is_not_heard, SIGNERS, "ran although somebody said no", {
    fn seen(&self, entries: &[&Entry]) -> Vec<Signature> {
        Product.seen(entries).into_iter().filter(|decision| decision.approved).collect()
    }
});
broken!(broken_signed_too_late, SIGNERS, "a signature was taken too late", {
    fn may_sign(
        &self,
        _: Timestamp,
        terms: &Terms<'_>,
        _: Option<&str>,
        seen: &[Signature],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        Product.may_sign(instant(false), terms, None, seen, who, yes)
    }
});
broken!(broken_forgeries_are_believed, SIGNERS, "ran with the signatures of fewer people than it takes", {
    fn seen(&self, entries: &[&Entry]) -> Vec<Signature> {
        entries.iter().map(|entry| entry.decision.clone()).collect()
    }
});
broken!(broken_entries_are_replaced, SIGNERS, "an entry was lost", {
    fn appended(&self, _: Vec<usize>, new: usize) -> Vec<usize> {
        vec![new]
    }
});
broken!(broken_what_runs_is_not_compared, STEP, "ran something else than was signed for", {
    fn judged(&self, _: u8) -> u8 {
        0
    }
});
broken!(broken_what_runs_of_a_plan_is_not_compared, PLAN, "ran something else than was signed for", {
    fn judged(&self, _: u8) -> u8 {
        0
    }
});
/// The comparison is left out: the judge is taken to say what was decided.
macro_rules! not_compared {
    ($name:ident, $comparison:pat, $expected:expr) => {
        broken!($name, ASKED, $expected, {
            fn asked(&self, comparison: Comparison, now: Asks, decided: Asks) -> Asks {
                if matches!(comparison, $comparison) { decided } else { now }
            }
        });
    };
}

not_compared!(
    broken_what_is_asked_is_not_compared_at_intent,
    Comparison::Intent,
    "was intended although something else is asked for"
);
not_compared!(
    broken_what_is_asked_is_not_compared_at_dispatch,
    Comparison::Dispatch,
    "its Job was made although something else is asked for"
);
not_compared!(
    broken_what_is_asked_is_not_compared_at_admission,
    Comparison::Admission,
    "was let in although something else is asked for"
);
broken!(broken_the_guard_is_not_asked, STEP, "ran while the guard was broken", {
    fn guarded(&self, _: bool) -> bool {
        true
    }
});
broken!(broken_what_is_under_way_is_not_called_off, STEP, "ran although the Task was cancelled", {
    fn cancelled(&self, cancelled: bool, record: &TaskRecord) -> bool {
        cancelled && !record.steps.values().any(|step| step.live_attempt().is_some())
    }
});
broken!(broken_it_is_not_withdrawn, PLAN, "stayed open although the Task was cancelled", {
    fn recorded(&self, change: Change) -> Option<Change> {
        Some(change).filter(|change| !matches!(change, Change::WithdrawApproval { .. }))
    }
});

broken!(broken_nobody_looks_again, STEP, "waits for what nobody will look at again", {
    fn requeue(&self, _: Option<Timestamp>) -> Option<Timestamp> {
        None
    }
});

/// Forgets what ran, so that all of it is owed again.
fn forget_what_ran(record: &mut TaskRecord) {
    for step in record.steps.values_mut() {
        *step = StepRecord::open();
    }
    (record.ending, record.finished) = (None, None);
}

broken!(broken_used_twice, STEP, "ran twice", {
    fn stored(&self, mut record: TaskRecord) -> TaskRecord {
        for approval in record.approvals.values_mut().filter(|approval| approval.state == ApprovalState::Consumed) {
            approval.state = ApprovalState::Approved;
            approval.used.clear();
        }
        if record.steps.values().all(|step| step.live_attempt().is_some_and(AttemptRecord::launched)) {
            forget_what_ran(&mut record);
        }
        record
    }
});
broken!(broken_what_is_over_is_looked_at_again, STEP, "what was over went on", {
    fn loaded(&self, mut record: TaskRecord) -> TaskRecord {
        let Some(approval) = record.approvals.values_mut().find(|approval| !approval.is_open()) else { return record };
        approval.state = ApprovalState::Requested;
        forget_what_ran(&mut record);
        record
    }
});
