//! What a simulation says is what an operator does.

use std::time::Duration;

use countersign_core::cel::CelEvaluator;
use countersign_core::judge::PolicyJudge;
use countersign_sim::{Twins, twins};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// COUNTERSIGN_SIM_TWINS=n runs more of them, `make soak` 2,000; COUNTERSIGN_SIM_SEED=n runs the one of that seed.
#[test]
fn a_simulation_records_what_the_operator_records() {
    let only = std::env::var("COUNTERSIGN_SIM_SEED").ok().map(|seed| seed.parse::<u64>().expect("a whole number"));
    let plans = number("COUNTERSIGN_SIM_TWINS", 400);
    let seeds = only.map_or(0..plans, |seed| seed..seed + 1);
    let threads = 2;
    let run_all = |first: u64| {
        let seeds = seeds.clone();
        let evaluator = CelEvaluator::with_limit(Duration::from_secs(60));
        let judge = PolicyJudge::new(evaluator.clone());
        let all = move || {
            let (mut sum, mut differences) = (Twins::default(), Vec::new());
            for seed in seeds.skip(usize::try_from(first).expect("a small number")).step_by(threads) {
                match twins(seed, &judge) {
                    Ok(found) => sum = add(sum, found),
                    Err(difference) => differences.push(format!("Plan {seed}: {difference}")),
                }
            }
            (sum, differences)
        };
        // On a thread of the evaluator, where evaluating costs least.
        evaluator.within(Duration::from_secs(3600), all).expect("an evaluator that comes to its end")
    };
    let sum = std::thread::scope(|scope| {
        let run_all = &run_all;
        let handles: Vec<_> = (0..threads as u64).map(|first| scope.spawn(move || run_all(first))).collect();
        handles.into_iter().map(|handle| handle.join().expect("no Plan panics")).collect::<Vec<_>>()
    });
    let differences: Vec<&String> = sum.iter().flat_map(|(_, differences)| differences).collect();
    if let Some(first) = differences.first() {
        panic!(
            "{} of {plans} Plans differ; replay one with COUNTERSIGN_SIM_SEED. The first: {first}",
            differences.len()
        );
    }
    let sum = sum.into_iter().map(|(sum, _)| sum).fold(Twins::default(), add);
    println!("{plans} Plans, both ways: {sum:?}");
    if only.is_none() {
        // Plans in which little happens prove little.
        assert!(sum.attempts > plans && sum.asked > plans / 4 && sum.downgraded > plans / 50, "{sum:?}");
        assert!(sum.deferred > plans / 20 && sum.skipped > plans / 4 && sum.rejected > plans / 10, "{sum:?}");
    }
}

fn add(a: Twins, b: Twins) -> Twins {
    Twins {
        changes: a.changes + b.changes,
        attempts: a.attempts + b.attempts,
        deferred: a.deferred + b.deferred,
        asked: a.asked + b.asked,
        skipped: a.skipped + b.skipped,
        rejected: a.rejected + b.rejected,
        downgraded: a.downgraded + b.downgraded,
    }
}
