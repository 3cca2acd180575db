//! The events of the log are an interface: within a version members are added, never taken away or altered, so that
//! what reads today's log also reads tomorrow's.
//!
//! `make events` writes the schema; every version of it that was ever committed must still hold.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;
use std::process::Command;

use countersign_core::event::Event;
use countersign_core::record::Change;
use countersign_core::tlog::entry::VERSION;
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

/// What an entry's payload tells.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Payload {
    OfATask(Box<Change>),
    OfTheSystem(Event),
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("events").join(name)
}

fn committed() -> Value {
    let path = file(&format!("v{VERSION}.json"));
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make events`", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn current() -> Value {
    let mut schema = serde_json::to_value(schema_for!(Payload)).unwrap();
    schema["title"] = json!(format!("Events of the log, version {VERSION}"));
    schema["$id"] = json!(format!("https://countersign.dev/events/v{VERSION}.json"));
    schema
}

/// Every way in which the schema `new` is not `old` with members added.
fn broken(old: &Value, new: &Value) -> Vec<String> {
    breaks("", &plain(old), &plain(new))
}

/// The schema with constants as `enum`s, as which they stand until their variants are described.
fn plain(schema: &Value) -> Value {
    let Value::Object(members) = schema else {
        let Value::Array(items) = schema else { return schema.clone() };
        return items.iter().map(plain).collect();
    };
    let constants = |variant: &Value| match (variant.get("const"), variant.get("enum")) {
        (Some(constant), None) => Some(vec![constant.clone()]),
        (None, Some(Value::Array(constants))) => Some(constants.clone()),
        _ => None,
    };
    let choice = members.get("oneOf").and_then(Value::as_array);
    let choice = choice.and_then(|variants| variants.iter().map(constants).collect::<Option<Vec<_>>>());
    let mut plain: serde_json::Map<String, Value> =
        members.iter().map(|(key, value)| (key.clone(), plain(value))).collect();
    if let Some(constants) = choice {
        plain.remove("oneOf");
        plain.insert("type".into(), json!("string"));
        plain.insert("enum".into(), constants.concat().into());
    }
    if let Some(constant) = plain.remove("const").filter(|_| plain.get("type") == Some(&json!("string"))) {
        plain.insert("enum".into(), json!([constant]));
    }
    // Anything may stand there.
    if plain.keys().all(|key| key == "description") { json!(true) } else { Value::Object(plain) }
}

/// As [`broken`], of what stands at a place.
fn breaks(at: &str, old: &Value, new: &Value) -> Vec<String> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return if old == new { Vec::new() } else { vec![format!("{at}: {old} became {new}")] };
    };
    let mut found = Vec::new();
    for (key, was) in old {
        let at = format!("{at}/{key}");
        let Some(is) = new.get(key) else {
            // A bound that is gone only allows more.
            if !matches!(key.as_str(), "description" | "maxLength" | "maxItems" | "maxProperties") {
                found.push(format!("{at} is gone"));
            }
            continue;
        };
        match (key.as_str(), was, is) {
            // The last is the API server's, not JSON Schema's: it says what may be written, not how it is read.
            (
                "description"
                | "title"
                | "default"
                | "maxLength"
                | "maxItems"
                | "maxProperties"
                | "x-kubernetes-validations",
                _,
                _,
            ) => {}
            ("oneOf" | "anyOf" | "enum" | "allOf", Value::Array(was), Value::Array(is)) => {
                for variant in was
                    .iter()
                    .filter(|was| !is.iter().any(|is| name(is) == name(was) && breaks("", was, is).is_empty()))
                {
                    let closest = is.iter().find(|is| name(is) == name(variant));
                    let why = closest.map_or_else(Vec::new, |is| breaks(&at, variant, is));
                    found.push(format!("{at}: {} is gone or altered: {}", name(variant), why.join("; ")));
                }
            }
            ("required", Value::Array(was), Value::Array(is)) => {
                let (gone, added): (Vec<_>, Vec<_>) = (
                    was.iter().filter(|name| !is.contains(name)).collect(),
                    is.iter().filter(|name| !was.contains(name)).collect(),
                );
                if !gone.is_empty() || !added.is_empty() {
                    found.push(format!("{at}: no longer required {gone:?}, newly required {added:?}"));
                }
            }
            _ => found.extend(breaks(&at, was, is)),
        }
    }
    let stricter = new.keys().filter(|key| {
        !old.contains_key(*key) && ["required", "enum", "const", "pattern", "type", "maxLength"].contains(&key.as_str())
    });
    found.extend(stricter.map(|key| format!("{at}/{key} is new")));
    found
}

/// By what a variant is known: its kind, its constant or its reference.
fn name(variant: &Value) -> String {
    let known = ["/properties/kind/const", "/properties/kind/enum", "/const", "/$ref", "/type"];
    known.iter().find_map(|pointer| variant.pointer(pointer)).unwrap_or(variant).to_string()
}

#[test]
fn the_committed_schema_is_that_of_the_code() {
    let path = file(&format!("v{VERSION}.json"));
    if std::env::var_os("COUNTERSIGN_WRITE_EVENTS").is_some() {
        if path.exists() {
            let found = broken(&committed(), &current());
            assert!(
                found.is_empty(),
                "within version {VERSION} members are only added; raise entry::VERSION, or mend:\n{}",
                found.join("\n")
            );
        }
        std::fs::write(&path, serde_json::to_string_pretty(&current()).unwrap() + "\n").unwrap();
    }
    assert_eq!(committed(), current(), "{} is stale; run `make events`", path.display());
}

#[test]
fn every_schema_that_was_ever_committed_still_holds() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let path = format!("events/v{VERSION}.json");
    // Without a repository, as in a source archive, there is no history to hold it against.
    let Some(commits) = git(&["log", "--format=%H", "--", &path]) else { return };
    for commit in commits.lines() {
        let Some(text) = git(&["show", &format!("{commit}:./{path}")]) else { continue };
        let found = broken(&serde_json::from_str(&text).unwrap(), &current());
        assert!(found.is_empty(), "since {commit}:\n{}", found.join("\n"));
    }
}

#[test]
fn events_of_every_kind_that_were_logged_still_read() {
    let validator = jsonschema::validator_for(&committed()).unwrap();
    let samples = std::fs::read_to_string(file(&format!("v{VERSION}.samples.jsonl"))).unwrap();
    let mut kinds = Vec::new();
    for line in samples.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let kind = event["kind"].as_str().unwrap().to_owned();
        let complaints: Vec<String> = validator.iter_errors(&event).map(|error| error.to_string()).collect();
        assert!(complaints.is_empty(), "{kind}: {complaints:?}");
        // Nothing of it is lost on the way through our own types.
        let again = match serde_json::from_value::<Change>(event.clone()) {
            Ok(change) => serde_json::to_value(change).unwrap(),
            Err(_) => serde_json::to_value(serde_json::from_value::<Event>(event.clone()).unwrap()).unwrap(),
        };
        let lost = breaks_values("", &event, &again);
        assert!(lost.is_empty(), "{kind}: {lost:?}");
        kinds.push(kind);
    }
    let all: Vec<String> = current()["$defs"]["Change"]["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .chain(current()["$defs"]["Event"]["oneOf"].as_array().unwrap())
        .map(|variant| variant["properties"]["kind"]["const"].as_str().unwrap().to_owned())
        .collect();
    for kind in all {
        assert!(
            kinds.contains(&kind),
            "no sample of {kind} in events/v{VERSION}.samples.jsonl; take one from the view `audit`"
        );
    }
}

/// Members of `event` that are not in `again`.
fn breaks_values(at: &str, event: &Value, again: &Value) -> Vec<String> {
    match (event, again) {
        (Value::Object(event), Value::Object(again)) => event
            .iter()
            .flat_map(|(key, was)| match again.get(key) {
                Some(is) => breaks_values(&format!("{at}/{key}"), was, is),
                None => vec![format!("{at}/{key} is lost")],
            })
            .collect(),
        (event, again) if event == again => Vec::new(),
        (event, again) => vec![format!("{at}: {event} became {again}")],
    }
}

#[test]
fn whatever_is_not_an_addition_is_found() {
    let old = json!({"oneOf": [
        {"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "string"}}, "required": ["kind", "x"]},
        {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]},
    ], "$defs": {"E": {"type": "string", "enum": ["one", "two"]}}});
    let with = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        broken(&old, &new)
    };
    assert!(
        with("/oneOf/1/properties", json!({"kind": {"const": "b"}, "new": {"type": "string"}})).is_empty(),
        "an optional member"
    );
    assert!(with("/$defs/E/enum", json!(["one", "two", "three"])).is_empty(), "another value");
    let described = |value: &str| json!({"type": "string", "const": value, "description": "d"});
    assert!(with("/$defs/E", json!({"oneOf": [described("one"), described("two")]})).is_empty(), "described");
    for (pointer, value) in [
        ("/oneOf", json!([old["oneOf"][0]])),
        ("/oneOf/0/properties", json!({"kind": {"const": "a"}})),
        ("/oneOf/0/properties/x/type", json!("integer")),
        ("/oneOf/0/required", json!(["kind"])),
        ("/$defs/E", json!({"oneOf": [{"type": "string", "const": "one", "description": "d"}]})),
        ("/oneOf/1/required", json!(["kind", "y"])),
        ("/$defs/E/enum", json!(["one"])),
        ("/$defs", json!({})),
    ] {
        assert!(!with(pointer, value.clone()).is_empty(), "{pointer} = {value}");
    }
}
