//! How long it takes, and what it waits for.

use std::time::Duration;

use countersign_core::simulate::{DurationSource, History, RiskKind};
use serde_json::json;

use crate::bed::{Bed, money, range, risks};

/// Skills that take as many seconds as their name says.
fn timed(parallelism: u32) -> Bed {
    let steps = json!([
        {"name": "a", "skill": "t2"},
        {"name": "b", "skill": "t5", "needs": ["a"]},
        {"name": "c", "skill": "t3", "needs": ["a"]},
        {"name": "d", "skill": "t1", "needs": ["b", "c"]},
    ]);
    let mut bed = Bed::new(json!({"plan": {"parallelism": parallelism, "steps": steps}}));
    for seconds in [1, 2, 3, 5] {
        bed.skill(&format!("t{seconds}"), json!({"expectedDuration": format!("{seconds}s"), "timeout": "10s"}));
    }
    bed
}

#[test]
fn the_critical_path_respects_how_many_may_run_at_once() {
    for (parallelism, p50, p95, path, starts) in [
        (10, 8.0, 30.0, ["a", "b", "d"].as_slice(), [0.0, 2.0, 2.0, 7.0]),
        (1, 11.0, 40.0, &["a", "b", "c", "d"], [0.0, 2.0, 7.0, 10.0]),
    ] {
        let simulation = timed(parallelism).simulate();
        let duration = &simulation.duration;
        assert_eq!((duration.p50_seconds, duration.p95_seconds), (p50, p95));
        assert_eq!(duration.critical_path, path);
        let found: Vec<f64> = simulation.steps.iter().map(|step| step.starts_after_seconds).collect();
        assert_eq!(found, starts);
    }
}

#[test]
fn history_counts_more_than_what_a_skill_says_of_itself() {
    let mut bed = timed(10);
    let runs = History { runs: 40, p50: Duration::from_millis(500), p95: Duration::from_secs(4), mean_cost: None };
    bed.inputs.history.insert("t5".into(), runs);
    let simulation = bed.simulate();
    assert_eq!(simulation.duration.critical_path, ["a", "c", "d"], "what was long is short");
    assert_eq!(simulation.duration.p50_seconds, 6.0);
    let step = bed.step("b").duration;
    assert_eq!((step.p50_seconds, step.p95_seconds, step.source), (0.5, 4.0, DurationSource::History));
    let new: Vec<String> = risks(&simulation, RiskKind::NoHistory).iter().flat_map(|risk| risk.steps.clone()).collect();
    assert_eq!(new, ["d", "a", "c"], "by Skill");
}

#[test]
fn without_any_word_of_it_the_timeout_counts() {
    let mut bed = Bed::plan(json!([{"name": "only", "skill": "slow", "timeout": "7s"}]));
    bed.skill("slow", json!({}));
    let step = bed.step("only").duration;
    assert_eq!((step.p50_seconds, step.p95_seconds, step.source), (7.0, 7.0, DurationSource::Timeout));
    assert!(risks(&bed.simulate(), RiskKind::NoHistory)[0].message.contains("its timeout"));
}

#[test]
fn retries_count_where_they_are_made() {
    for (idempotent, attempts, cost) in [(true, 4, ["0.1", "0.1", "4"]), (false, 1, ["0.1", "0.1", "1"])] {
        let mut bed = Bed::plan(json!([{"name": "only", "skill": "buy", "retry": {"limit": 3}}]));
        bed.priced("buy", "1", json!({"idempotent": idempotent}));
        assert_eq!(bed.step("only").cost.attempts, attempts);
        assert_eq!(range(&bed.simulate()), cost);
        assert_eq!(risks(&bed.simulate(), RiskKind::NotRetried).len(), usize::from(!idempotent));
        let mean = History { runs: 1, p50: Duration::ZERO, p95: Duration::ZERO, mean_cost: Some(money("0.3")) };
        bed.inputs.history.insert("buy".into(), mean);
        assert_eq!(range(&bed.simulate())[1], "0.3", "the mean of what it cost before");
    }
}
