//! Ten thousand worlds, each from its seed.

use countersign_sim::{Defect, Tally, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// COUNTERSIGN_SIM_SEED=n replays one world, step by step; COUNTERSIGN_SIM_WORLDS=n runs more of them.
#[test]
fn worlds() {
    if let Ok(seed) = std::env::var("COUNTERSIGN_SIM_SEED") {
        let tally = run(seed.parse().expect("a whole number"), None, true);
        println!("{tally:#?}");
        tally.expect("this world holds");
        return;
    }
    let worlds = number("COUNTERSIGN_SIM_WORLDS", 10_000);
    let threads = 2;
    let run_all = |first: u64| {
        let mut sum = Tally::default();
        for seed in (first..worlds).step_by(threads) {
            let tally = run(seed, None, false).unwrap_or_else(|violation| {
                panic!("world {seed}: {violation}\nreplay it: COUNTERSIGN_SIM_SEED={seed} cargo test -p countersign-sim worlds -- --nocapture")
            });
            sum = add(sum, tally);
        }
        sum
    };
    let sum = std::thread::scope(|scope| {
        let run_all = &run_all;
        let handles: Vec<_> = (0..threads as u64).map(|first| scope.spawn(move || run_all(first))).collect();
        handles.into_iter().map(|handle| handle.join().expect("no world panics")).fold(Tally::default(), add)
    });
    println!("{worlds} worlds held: {sum:?}");
    // A simulation in which little happens proves little.
    assert!(sum.completed * 4 > worlds, "too few Tasks completed: {sum:?}");
    assert!(sum.crashes > worlds / 2 && sum.conflicts > worlds / 20 && sum.duplicate_pods > worlds / 20, "{sum:?}");
    assert!(sum.reserved > worlds / 2 && sum.deferred > worlds / 50 && sum.outbid > worlds / 2000, "{sum:?}");
}

fn add(a: Tally, b: Tally) -> Tally {
    Tally {
        steps: a.steps + b.steps,
        commits: a.commits + b.commits,
        conflicts: a.conflicts + b.conflicts,
        crashes: a.crashes + b.crashes,
        admissions: a.admissions + b.admissions,
        duplicate_pods: a.duplicate_pods + b.duplicate_pods,
        reserved: a.reserved + b.reserved,
        deferred: a.deferred + b.deferred,
        outbid: a.outbid + b.outbid,
        completed: a.completed + b.completed,
    }
}

/// A checker that finds nothing could be one that looks at nothing.
#[test]
fn every_planted_defect_is_found() {
    for defect in [
        Defect::ActsBeforeItRecords,
        Defect::AdmitsAnyPod,
        Defect::IgnoresTheVersion,
        Defect::ForgetsTheApproval,
        Defect::ReservesBlindly,
        Defect::StartsAllAtOnce,
        Defect::ForgetsToRequeue,
        Defect::TakesBusyForInvalid,
        Defect::BeginsWhileSuspended,
        Defect::TakesSkippedForSucceeded,
    ] {
        let found = (0..10_000).find_map(|seed| run(seed, Some(defect), false).err().map(|found| (seed, found)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{defect:?} was not found in 10,000 worlds"));
        println!("{defect:?} found in world {seed}: {violation}");
    }
}
