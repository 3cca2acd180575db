//! What simulations answer is an interface: its schema is committed, and it is the one of the code.
//!
//! `make simulation-schema` writes it.

use std::path::PathBuf;

use countersign_core::simulate::{Replay, Simulation, VERSION, compare};
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use crate::bed::{Bed, set};

/// What is answered.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Answer {
    OfATask(Box<Simulation>),
    OfThePast(Replay),
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("simulation").join(format!("v{VERSION}.json"))
}

fn current() -> Value {
    let mut schema = serde_json::to_value(schema_for!(Answer)).unwrap();
    schema["title"] = json!(format!("Simulations, version {VERSION}"));
    schema["$id"] = json!(format!("https://countersign.dev/simulation/v{VERSION}.json"));
    schema
}

fn committed() -> Value {
    let text = std::fs::read_to_string(path());
    let text = text.unwrap_or_else(|error| panic!("{}: {error}; run `make simulation-schema`", path().display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_committed_schema_is_that_of_the_code() {
    if std::env::var_os("COUNTERSIGN_WRITE_SIMULATION").is_some() {
        std::fs::write(path(), serde_json::to_string_pretty(&current()).unwrap() + "\n").unwrap();
    }
    assert_eq!(committed(), current(), "{} is stale; run `make simulation-schema`", path().display());
}

#[test]
fn what_is_answered_is_as_the_schema_says() {
    let validator = jsonschema::validator_for(&committed()).unwrap();
    let mut bed = Bed::plan(json!([
        {"name": "one", "skill": "buy"},
        {"name": "two", "skill": "echo", "needs": ["one"], "input": {"n": "${steps.one.output}"}, "approval": "Always"},
    ]));
    bed.rule(json!({"name": "n", "match": "step.input.n == 1", "effect": "Deny"}));
    bed.budget(json!({"namespace": {"daily": "5"}}));
    let tried = set(&[("ops", "starter", json!({"rules": []}))]);
    let answer = serde_json::to_value(compare(bed.now, &bed.inputs, tried, vec!["ops/starter".into()], &bed.judge));
    let answer = answer.unwrap();
    let complaints: Vec<String> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    assert_eq!(answer["cost"]["maximum"], json!("0"), "money is text");
    let mut wrong = answer;
    wrong["cost"]["maximum"] = json!(0.5);
    assert!(!validator.is_valid(&wrong));
}
