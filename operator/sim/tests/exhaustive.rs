//! Every reachable state of small worlds: the invariants hold in it, and from it a few looks lead to rest.

use countersign_sim::{Defect, Small, explore};

/// More would take too long to be run with every change.
const MOST: usize = 60_000;

fn every_state_holds(small: Small) {
    let explored = explore(small, MOST, None).unwrap_or_else(|violation| panic!("{small:?}: {violation}"));
    println!("{small:?}: {explored:?}, all of them");
    assert!(explored.states > 100, "{small:?}: {explored:?}");
}

#[test]
fn a_signed_step() {
    every_state_holds(Small::Signed);
}

#[test]
fn two_steps_that_two_people_sign_for_as_one() {
    every_state_holds(Small::Together);
}

#[test]
fn two_steps_in_a_row() {
    every_state_holds(Small::Chain);
}

#[test]
fn what_is_held_up_comes_to_its_end_or_to_a_person() {
    every_state_holds(Small::Held);
}

#[test]
fn harm() {
    every_state_holds(Small::Harm);
}

#[test]
fn what_is_paid_for() {
    every_state_holds(Small::Paid);
}

#[test]
fn two_leaders() {
    every_state_holds(Small::Duel);
}

#[test]
fn planted_defects_are_reached() {
    for (small, defect) in [
        (Small::Signed, Defect::ActsBeforeItRecords),
        (Small::Duel, Defect::AdmitsAnyPod),
        (Small::Duel, Defect::IgnoresTheVersion),
        (Small::Signed, Defect::ForgetsTheApproval),
        (Small::Together, Defect::StartsAllAtOnce),
        (Small::Held, Defect::ForgetsToRequeue),
        (Small::Held, Defect::TakesBusyForInvalid),
        (Small::Held, Defect::BeginsWhileSuspended),
    ] {
        match explore(small, MOST, Some(defect)) {
            Ok(explored) => panic!("{defect:?} was not found: {explored:?}"),
            Err(found) => println!("{defect:?}: {found}"),
        }
    }
}
