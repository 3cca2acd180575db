//! Requests that are applied again, by another runId, by somebody else, and from a backup: each place from its seed.

use countersign_sim::{Defect, Repeats, again};

/// COUNTERSIGN_SIM_PLACE=n replays one place, step by step.
#[test]
fn nothing_of_a_repeated_request_is_launched() {
    if let Ok(seed) = std::env::var("COUNTERSIGN_SIM_PLACE") {
        let repeats = again(seed.parse().expect("a whole number"), None, true);
        println!("{repeats:#?}");
        repeats.expect("this place holds");
        return;
    }
    let places = 1_000;
    let mut sum = Repeats::default();
    for seed in 0..places {
        let Repeats { objects, launched, restored, repeated } = again(seed, None, false).unwrap_or_else(|violation| {
            panic!("place {seed}: {violation}\nreplay it: COUNTERSIGN_SIM_PLACE={seed} cargo test -p countersign-sim --test again -- --nocapture")
        });
        sum = Repeats {
            objects: sum.objects + objects,
            launched: sum.launched + launched,
            restored: sum.restored + restored,
            repeated: sum.repeated + repeated,
        };
    }
    println!("{places} places held: {sum:?}");
    // Where little is repeated, or nothing else runs, little is shown.
    assert!(sum.objects > 3 * places && sum.launched > places / 3, "{sum:?}");
    assert!(sum.restored > places / 2 && sum.repeated > places, "{sum:?}");
}

#[test]
fn an_operator_that_forgets_what_ran_or_ignores_the_mark_is_found() {
    for (defect, said) in
        [(Defect::ForgetsWhatRan, "and again as"), (Defect::IgnoresTheMark, "which came with the mark of a run")]
    {
        let found = (0..1_000).find_map(|seed| again(seed, Some(defect), false).err().map(|found| (seed, found)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{defect:?} was not found"));
        println!("{defect:?} found in place {seed}: {violation}");
        assert!(violation.to_string().contains(said), "{defect:?}: {violation}");
    }
}
