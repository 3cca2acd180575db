//! A request runs once, whoever asks for it again.

use std::collections::BTreeMap;

use countersign_core::effect::{ClusterAction, ReconcileOutput};
use countersign_core::record::{Change, Finished, TaskOutcome};
use countersign_core::run::{PriorRun, Run, RunKey};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;

use crate::bed::{Bed, phase};

fn prior(bed: &Bed, outcome: Option<TaskOutcome>) -> PriorRun {
    let finished = outcome.map(|outcome| Finished {
        outcome,
        reason: "Reason".into(),
        message: "as it was".into(),
        at: bed.now - SignedDuration::from_hours(1),
    });
    PriorRun { uid: "before".into(), key: RunKey::of("place", bed.observed.task.as_ref().unwrap()), finished }
}

/// A bed whose Task came with this mark.
fn marked(mark: &str) -> Bed {
    let mut bed = Bed::step(json!({}));
    bed.observed.namespace_uid = "place".into();
    bed.observed.task.as_mut().unwrap().mark = Some(mark.into());
    bed
}

/// What the reconciliation writes on the Task.
fn written(decision: &ReconcileOutput) -> Option<String> {
    decision.actions.iter().find_map(|action| match action {
        ClusterAction::Mark { mark } => Some(mark.to_string()),
        _ => None,
    })
}

#[test]
fn the_first_of_a_request_is_its_run() {
    let mut bed = Bed::step(json!({}));
    bed.observed.namespace_uid = "place".into();
    let key = RunKey::of("place", bed.observed.task.as_ref().unwrap());
    let decision = bed.reconcile();
    assert!(matches!(&decision.changes[0], Change::Adopt { run: Some(Run::Own(own)), .. } if *own == key));
}

#[test]
fn what_ran_shows_how_it_ended_and_how_to_ask_for_another_run() {
    for outcome in [TaskOutcome::Completed, TaskOutcome::Failed, TaskOutcome::Rejected, TaskOutcome::Cancelled] {
        let mut bed = Bed::step(json!({}));
        bed.observed.prior = Some(prior(&bed, Some(outcome)));
        let decision = bed.reconcile();
        let [Change::Adopt { run: Some(Run::Repeats(uid)), .. }, Change::FinishTask { finished, ran: false }] =
            decision.changes.as_slice()
        else {
            panic!("{:?}", decision.changes)
        };
        assert_eq!((uid.as_str(), finished.outcome, finished.reason.as_str()), ("before", outcome, "Reason"));
        assert!(decision.actions.is_empty(), "{:?}", decision.actions);
        let (_, message) = phase(&decision);
        assert!(message.contains("uid before: as it was") && message.contains("another spec.runId"), "{message}");
        assert!(bed.reconcile().changes.is_empty(), "and so it stays");
    }
}

#[test]
fn only_a_persons_no_uses_up_a_request_of_which_nothing_ran() {
    let ran = |decision: &ReconcileOutput| {
        decision.changes.iter().find_map(|change| match change {
            Change::FinishTask { finished, ran } => Some((finished.outcome, *ran)),
            _ => None,
        })
    };
    let mut denied = Bed::step(json!({}));
    denied.rules(json!([{"name": "no", "match": "true", "effect": "Deny"}]));
    assert_eq!(ran(&denied.reconcile()), Some((TaskOutcome::Rejected, false)));
    let mut refused = Bed::step(json!({"approval": "Always"}));
    refused.reconcile();
    refused.sign("alice", false);
    assert_eq!(ran(&refused.reconcile()), Some((TaskOutcome::Rejected, true)));
}

#[test]
fn while_its_run_is_being_ended_it_waits_and_says_so() {
    let mut bed = Bed::step(json!({}));
    bed.observed.prior = Some(prior(&bed, None));
    let decision = bed.reconcile();
    assert!(decision.changes.is_empty() && decision.actions.is_empty(), "{:?}", decision.changes);
    let (phase, message) = phase(&decision);
    assert!(phase == "Planning" && message.contains("the same request still runs"), "{phase}: {message}");
    let next = decision.requeue.unwrap();
    assert!(next <= bed.now + SignedDuration::from_secs(1), "{next}");
}

#[test]
fn a_task_is_marked_as_its_run_at_the_first_look_and_until_the_mark_is_seen() {
    let mut bed = Bed::step(json!({}));
    bed.observed.namespace_uid = "place".into();
    let first = bed.reconcile();
    assert_eq!(written(&first).as_deref(), Some("place/uid"));
    assert_eq!(written(&bed.reconcile()), None, "it is there");
    // The deed was lost; whatever became of the Task meanwhile, it is owed.
    bed.observed.task.as_mut().unwrap().mark = None;
    assert_eq!(written(&bed.reconcile()).as_deref(), Some("place/uid"));
    bed.observed.task.as_mut().unwrap().mark = None;
    bed.observed.task.as_mut().unwrap().spec.cancel = true;
    let last = bed.reconcile();
    assert!(last.record.as_ref().unwrap().ending.is_some() && written(&last).is_some());
    // What goes is nobody's to mark.
    bed.observed.task.as_mut().unwrap().mark = None;
    bed.observed.task.as_mut().unwrap().deleting = true;
    assert_eq!(written(&bed.reconcile()), None);
}

#[test]
fn what_repeats_a_run_is_marked_as_that_run() {
    let mut bed = Bed::step(json!({}));
    bed.observed.namespace_uid = "place".into();
    bed.observed.prior = Some(prior(&bed, Some(TaskOutcome::Completed)));
    assert_eq!(written(&bed.reconcile()).as_deref(), Some("place/before"));
}

#[test]
fn what_carries_the_mark_of_a_run_never_runs_and_shows_how_that_ended_whoever_asks_and_for_whatever() {
    for more in [json!({}), json!({"runId": "2"}), json!({"goal": "more"}), json!({"requester": {"user": "mallory"}})] {
        for outcome in [TaskOutcome::Completed, TaskOutcome::Failed, TaskOutcome::Rejected, TaskOutcome::Cancelled] {
            let mut bed = marked("place/before");
            bed.observed.prior = Some(prior(&bed, Some(outcome)));
            let spec = &mut bed.observed.task.as_mut().unwrap().spec;
            let mut asked = serde_json::to_value(&spec).unwrap();
            asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            *spec = serde_json::from_value(asked).unwrap();
            let decision = bed.reconcile();
            let [Change::Adopt { run: Some(Run::Repeats(uid)), .. }, Change::FinishTask { finished, ran: false }] =
                decision.changes.as_slice()
            else {
                panic!("{:?}", decision.changes)
            };
            assert_eq!((uid.as_str(), finished.outcome, finished.reason.as_str()), ("before", outcome, "Reason"));
            assert!(decision.actions.is_empty(), "{:?}", decision.actions);
            let (_, message) = phase(&decision);
            assert!(message.contains("uid before: as it was"), "{message}");
            assert!(message.contains("create it without the annotation"), "{message}");
            let another = more.get("runId").or(more.get("goal")).is_some();
            assert_eq!(message.contains("of another content than this one"), another, "{message}");
            assert!(bed.reconcile().changes.is_empty(), "and so it stays");
        }
    }
}

#[test]
fn a_mark_that_is_not_of_a_run_here_is_refused_in_words_and_nothing_runs() {
    let known = |bed: &Bed| Some(prior(bed, Some(TaskOutcome::Completed)));
    for (mark, is_known, said) in [
        ("elsewhere/before", true, "the mark of a run in another namespace"),
        ("place/unknown", false, "the record knows no run of the Task with uid unknown"),
        // Its own, where the record lost the run that it was.
        ("place/uid", false, "the record knows no run of the Task with uid uid"),
        ("before", true, "\"before\" is not NAMESPACE_UID/TASK_UID"),
        ("", false, "is not NAMESPACE_UID/TASK_UID"),
    ] {
        let mut bed = marked(mark);
        bed.observed.prior = known(&bed).filter(|_| is_known);
        let decision = bed.reconcile();
        let [Change::Adopt { run: None, .. }, Change::FinishTask { finished, ran: false }] =
            decision.changes.as_slice()
        else {
            panic!("{mark}: {:?}", decision.changes)
        };
        assert_eq!((finished.outcome, finished.reason.as_str()), (TaskOutcome::Failed, "MarkRefused"));
        assert!(finished.message.contains(said), "{}", finished.message);
        let fix = "remove metadata.annotations[countersign.dev/run] to ask for a run of your own";
        assert!(finished.message.contains(fix), "{}", finished.message);
        assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    }
}

#[test]
fn while_the_run_whose_mark_it_carries_goes_on_it_waits_and_says_so() {
    let mut bed = marked("place/before");
    bed.observed.prior = Some(prior(&bed, None));
    let decision = bed.reconcile();
    assert!(decision.changes.is_empty() && decision.actions.is_empty(), "{:?}", decision.changes);
    let (phase, message) = phase(&decision);
    assert!(phase == "Planning" && message.contains("the mark of a run that goes on"), "{phase}: {message}");
    assert!(decision.requeue.is_some());
}

#[test]
fn an_approval_that_outlives_its_task_says_that_nothing_comes_of_it() {
    let mut bed = Bed::step(json!({"approval": "Always"}));
    bed.reconcile();
    bed.reconcile();
    bed.observed.task = None;
    let decision = bed.reconcile();
    let told = decision.actions.iter().find_map(|action| match action {
        ClusterAction::ReportApproval { status, .. } => {
            status.conditions.first().map(|condition| condition.reason.clone())
        }
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("Withdrawn"), "{:?}", decision.actions);
}

/// What somebody does to the Task of one name, applied again and again.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Apply,
    Reconcile,
    Work,
    Delete,
    Cancel,
    Reject,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However it is applied, deleted, cancelled and looked at: it is launched as one object at most, and every object
    /// of it comes to an end.
    #[test]
    fn a_request_is_launched_once_however_often_it_is_applied(
        signed in any::<bool>(),
        deeds in prop::collection::vec(prop::sample::select(vec![
            Deed::Apply, Deed::Reconcile, Deed::Reconcile, Deed::Work, Deed::Delete, Deed::Cancel, Deed::Reject]), 1..40),
    ) {
        let mut place = Place { signed, beds: BTreeMap::new(), current: None, ledger: BTreeMap::new(), made: 0 };
        for deed in deeds {
            place.step(deed);
        }
        // The sweep ends what is gone, and what is there is looked at until nothing follows.
        let uids: Vec<String> = place.beds.keys().cloned().collect();
        for _ in 0..8 {
            for uid in &uids {
                place.work(uid);
                place.reconcile(uid);
            }
        }
        let launched = place.beds.values().filter(|bed| launched(bed)).count();
        prop_assert!(launched <= 1, "launched as {launched} objects");
        for (uid, bed) in &place.beds {
            let waits_for_people = signed && bed.observed.record.as_ref().is_some_and(|record| record.approvals.values().any(|approval| approval.is_open()));
            let never_seen = bed.observed.record.is_none() && bed.observed.task.is_none();
            let over = bed.observed.record.as_ref().is_some_and(|record| record.finished.is_some());
            prop_assert!(over || never_seen || waits_for_people, "{uid} came to no end");
        }
    }
}

fn launched(bed: &Bed) -> bool {
    let steps = bed.observed.record.iter().flat_map(|record| record.steps.values());
    steps.flat_map(|step| &step.attempts).any(|attempt| attempt.launched())
}

/// One namespace with its table of runs, as the store keeps it.
struct Place {
    signed: bool,
    beds: BTreeMap<String, Bed>,
    /// The uid of the object that is there.
    current: Option<String>,
    ledger: BTreeMap<String, (RunKey, Option<(Finished, bool)>)>,
    made: usize,
}

impl Place {
    fn step(&mut self, deed: Deed) {
        let current = self.current.clone();
        match (deed, current) {
            (Deed::Apply, None) => {
                self.made += 1;
                let uid = format!("uid-{}", self.made);
                let mut bed = Bed::step(if self.signed { json!({"approval": "Always"}) } else { json!({}) });
                bed.observed.task.as_mut().unwrap().uid = uid.clone();
                bed.observed.namespace_uid = "place".into();
                self.beds.insert(uid.clone(), bed);
                self.current = Some(uid);
            }
            (Deed::Reconcile, Some(uid)) => self.reconcile(&uid),
            (Deed::Work, Some(uid)) => self.work(&uid),
            (Deed::Delete, Some(uid)) => {
                self.beds.get_mut(&uid).unwrap().observed.task = None;
                self.current = None;
            }
            (Deed::Cancel, Some(uid)) => {
                self.beds.get_mut(&uid).unwrap().observed.task.as_mut().unwrap().spec.cancel = true;
            }
            (Deed::Reject, Some(uid)) => self.beds.get_mut(&uid).unwrap().sign("alice", false),
            (Deed::Apply, Some(_)) | (_, None) => {}
        }
    }

    /// As the shell does it: the earlier run is looked up, and the adoption is the store's to refuse.
    fn reconcile(&mut self, uid: &str) {
        let bed = self.beds.get_mut(uid).unwrap();
        if bed.observed.record.is_none() {
            let Some(task) = &bed.observed.task else { return };
            let key = RunKey::of("place", task);
            let found =
                self.ledger.iter().find(|(_, (other, end))| *other == key && end.as_ref().is_none_or(|(_, ran)| *ran));
            bed.observed.prior = found.map(|(uid, (_, end))| PriorRun {
                uid: uid.clone(),
                key: key.clone(),
                finished: end.as_ref().map(|(end, _)| end.clone()),
            });
        }
        for change in bed.reconcile().changes {
            match change {
                Change::Adopt { uid, run: Some(Run::Own(key)), .. } => {
                    self.ledger.insert(uid, (key, None));
                }
                Change::FinishTask { finished, ran } => {
                    if let Some((_, end)) = self.ledger.get_mut(uid) {
                        *end = Some((finished, ran));
                    }
                }
                _ => {}
            }
        }
    }

    /// What was let in ends well.
    fn work(&mut self, uid: &str) {
        self.beds.get_mut(uid).unwrap().end_running();
    }
}
