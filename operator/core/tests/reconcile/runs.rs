//! A request runs once, whoever asks for it again.

use std::collections::BTreeMap;

use countersign_core::effect::ClusterAction;
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
    PriorRun { uid: "before".into(), finished }
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
