//! What becomes of Plans whose steps end in every way: the real decider is held against a model that knows nothing of
//! looks, pods or records, only who may start and who ends a Task.
#![allow(clippy::unwrap_used, reason = "a test")]

mod model;
mod run;

use countersign_crds::{OnFailure, Outcome, Step};
use model::{Fate, Model};
use run::{Event, Run};

const SUCCEEDED: &[Outcome] = &[Outcome::Succeeded];

/// A step that needs the one named there, on these outcomes.
fn step(name: &str, after: Option<(&str, &[Outcome])>, on_failure: OnFailure, finally: bool) -> Step {
    let mut step: Step = serde_json::from_value(serde_json::json!({"name": name, "skill": name})).unwrap();
    (step.on_failure, step.finally) = (on_failure, finally);
    if let Some((before, outcomes)) = after {
        if outcomes == SUCCEEDED {
            step.needs = vec![before.to_owned()];
        } else {
            step.after = vec![countersign_crds::After { step: before.to_owned(), outcomes: outcomes.to_vec() }];
        }
    }
    step
}

/// Every set of outcomes, the empty one left out.
fn subsets() -> Vec<Vec<Outcome>> {
    let of =
        |bits: usize| Outcome::ALL.into_iter().enumerate().filter(move |(n, _)| bits >> n & 1 == 1).map(|(_, o)| o);
    (1..1 << Outcome::ALL.len()).map(|bits| of(bits).collect()).collect()
}

const ON_FAILURE: [OnFailure; 2] = [OnFailure::EndTask, OnFailure::Continue];

/// Whether the Plan is taken at all; what is refused is none of these tests' business.
fn sound(steps: &[Step]) -> bool {
    countersign_core::check::plan(&countersign_crds::PlanSpec {
        task_ref: None,
        digest: None,
        requester: None,
        parallelism: 10,
        steps: steps.to_vec(),
    })
    .is_ok()
}

/// It comes to something that the model allows; of several pods the first ends first, or the last.
fn comes_to_what_the_model_says(steps: &[Step], fates: &[Fate], orders: &[bool]) -> usize {
    let model = Model::of(steps, fates);
    for &first in orders {
        let run = Run::new(steps, fates, first).until_over(None);
        let found = run.results();
        let told = || format!("{steps:#?}\n{fates:?} came to {found:?}; possible: {:?}", model.results);
        assert!(model.results.contains(&found), "{}", told());
        assert_eq!(run.outcome(), model.outcome(&found), "{}", told());
    }
    1
}

#[test]
fn two_steps_on_every_set_of_outcomes() {
    let mut plans = 0;
    let needs = subsets();
    let needs: Vec<Option<(&str, &[Outcome])>> =
        needs.iter().map(|outcomes| Some(("a", outcomes.as_slice()))).chain([None]).collect();
    for need in needs {
        for (first, second) in ON_FAILURE.into_iter().flat_map(|a| ON_FAILURE.map(|b| (a, b))) {
            for finally in [false, true] {
                let steps = [step("a", None, first, false), step("b", need, second, finally)];
                for fates in Fate::ALL.into_iter().flat_map(|a| Fate::ALL.map(|b| [a, b])) {
                    plans +=
                        if sound(&steps) { comes_to_what_the_model_says(&steps, &fates, &[true, false]) } else { 0 };
                }
            }
        }
    }
    println!("{plans} plans");
    assert!(plans > 2_000, "{plans}");
}

#[test]
fn three_steps_in_every_shape() {
    let mut plans = 0;
    let cleared: &[Outcome] = &[Outcome::Succeeded, Outcome::Skipped];
    let on = [None, Some(SUCCEEDED), Some(&[Outcome::Failed][..]), Some(cleared)];
    let shapes = on.into_iter().flat_map(|b| on.map(|c| (b, c)));
    for ((on_b, on_c), before_c) in shapes.flat_map(|shape| ["a", "b"].map(|before| (shape, before))) {
        for (finally_b, finally_c) in [(false, false), (false, true), (true, true)] {
            for (first, second) in ON_FAILURE.into_iter().flat_map(|a| ON_FAILURE.map(|b| (a, b))) {
                // Nothing comes behind the third: what its failure means is tried with two.
                let third = if finally_c { OnFailure::Continue } else { OnFailure::EndTask };
                let steps = [
                    step("a", None, first, false),
                    step("b", on_b.map(|on| ("a", on)), second, finally_b),
                    step("c", on_c.map(|on| (before_c, on)), third, finally_c),
                ];
                if (on_c.is_none() && before_c == "b") || !sound(&steps) {
                    continue;
                }
                for fates in triples() {
                    plans += comes_to_what_the_model_says(&steps, &fates, &[plans % 2 == 0]);
                }
            }
        }
    }
    println!("{plans} plans");
    assert!(plans > 10_000, "{plans}");
}

/// What is denied and what vanishes are told apart in Plans of two.
fn triples() -> impl Iterator<Item = [Fate; 3]> {
    const FATES: [Fate; 4] = [Fate::Succeeds, Fate::Fails, Fate::Denied, Fate::WhenFalse];
    FATES.into_iter().flat_map(|a| FATES.into_iter().flat_map(move |b| FATES.map(|c| [a, b, c])))
}

/// A step, one that comes after it, and two that clean up, one of them behind the other.
fn with_cleanup() -> Vec<Step> {
    let any = Outcome::ALL;
    vec![
        step("a", None, OnFailure::EndTask, false),
        step("b", Some(("a", SUCCEEDED)), OnFailure::Continue, false),
        step("c", None, OnFailure::EndTask, true),
        step("d", Some(("c", &any)), OnFailure::EndTask, true),
    ]
}

#[test]
fn finally_steps_run_whenever_a_task_is_cancelled_or_late() {
    let steps = with_cleanup();
    for event in [Event::Cancel, Event::Deadline] {
        for fates in Fate::ALL.into_iter().flat_map(|a| Fate::ALL.map(|c| [a, Fate::Succeeds, c, Fate::Succeeds])) {
            let undisturbed = Run::new(&steps, &fates, true).until_over(None);
            for at in 1..undisturbed.looks {
                let run = Run::new(&steps, &fates, true).until_over(Some((at, event)));
                let told = || format!("{event:?} before look {at} of {fates:?}: {:?}", run.results());
                for (name, fate) in [("c", fates[2]), ("d", fates[3])] {
                    assert_eq!(run.results()[name], fate.alone(), "{}", told());
                }
                if run.work_was_over_when_it_happened {
                    assert_eq!(run.outcome(), undisturbed.outcome(), "{}", told());
                } else {
                    assert_eq!(run.reason(), event.reason(), "{}", told());
                    assert!(run.started_after_it.iter().all(|name| ["c", "d"].contains(&name.as_str())), "{}", told());
                }
            }
        }
    }
}

#[test]
fn nothing_starts_once_the_task_object_is_gone() {
    let steps = with_cleanup();
    for fates in Fate::ALL.map(|a| [a, Fate::Succeeds, Fate::Succeeds, Fate::Succeeds]) {
        let looks = Run::new(&steps, &fates, true).until_over(None).looks;
        for at in 1..looks {
            let run = Run::new(&steps, &fates, true).until_over(Some((at, Event::Delete)));
            assert!(run.started_after_it.is_empty(), "deleted before look {at}: {:?} started", run.started_after_it);
            assert_eq!(run.reason(), "Deleted", "before look {at} of {fates:?}");
        }
    }
}

#[test]
fn a_finally_step_that_is_kept_back_holds_a_cancelled_task_up_no_longer_than_a_start_may_take() {
    let steps = with_cleanup();
    let fates = [Fate::Succeeds, Fate::Succeeds, Fate::NotYet, Fate::Succeeds];
    let waits = Run::new(&steps, &fates, true).looked(100);
    assert!(waits.observed.record.as_ref().unwrap().finished.is_none(), "for as long as nobody cancels it");
    for event in [Event::Cancel, Event::Deadline] {
        let run = Run::new(&steps, &fates, true).until_over(Some((1, event)));
        let record = run.observed.record.as_ref().unwrap();
        let kept = &record.steps["c"];
        assert_eq!(kept.reason.as_deref(), Some("NotStarted"));
        assert!(kept.message.as_deref().unwrap().contains("its Skill is not there"), "{:?}", kept.message);
        assert_eq!(run.results()["d"], Outcome::Succeeded, "what takes any outcome runs behind it");
        let finished = record.finished.as_ref().unwrap();
        assert!(finished.message.contains("finally, step c"), "{}", finished.message);
        let took = finished.at.duration_since(record.ending.as_ref().unwrap().at);
        assert!(took < run::START_DEADLINE * 2, "{took:?}");
    }
}
