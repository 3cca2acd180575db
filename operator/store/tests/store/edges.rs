//! Whatever admission accepts is accepted by everything that keeps it: every string that a user can write, read off the
//! kinds' schemas and pushed to its edge, against PostgreSQL, the size that etcd takes, and what labels may be.

use countersign_core::check;
use countersign_core::names::is_label;
use countersign_core::schema::Schema;
use countersign_crds::all_crds;
use countersign_store::Store;
use serde_json::{Value, json};

use crate::database::Database;

/// What etcd takes in one request, less what stands beside a spec.
const ETCD_BYTES: usize = 1_400_000;

/// Strings whose content is a language of its own, so that not every text of the right length is right.
const LANGUAGES: [&str; 4] = ["match", "when", "program", "timeZone"];

/// Strings that become values of labels.
const LABELS: [&str; 4] = ["/type", "/steps/0/name", "/plan/steps/0/name", "/steps/0/skill"];

/// A string of a kind's spec: a JSON pointer, and its schema.
struct Field {
    pointer: String,
    schema: Value,
}

/// Every string below a schema; `0` stands for each element of a list.
fn strings(schema: &Value, pointer: &str, found: &mut Vec<Field>) {
    match schema["type"].as_str() {
        Some("string") => found.push(Field { pointer: pointer.to_owned(), schema: schema.clone() }),
        Some("array") => strings(&schema["items"], &format!("{pointer}/0"), found),
        _ => {
            for (name, below) in schema["properties"].as_object().into_iter().flatten() {
                strings(below, &format!("{pointer}/{name}"), found);
            }
        }
    }
}

/// Specs that set every string that there is to set.
fn samples(kind: &str) -> Vec<Value> {
    let step = json!({
        "name": "a", "skill": "k", "input": {"x": "text", "y": {"z": "text"}}, "needs": ["b"],
        "after": [{"step": "c", "outcomes": ["Failed"]}], "onFailure": "Continue", "when": "true",
        "retry": {"limit": 1, "backoff": "1s", "maxBackoff": "5m"}, "timeout": "1m", "approval": "Policy",
    });
    let steps = json!([step, {"name": "b", "skill": "k"}, {"name": "c", "skill": "k"}]);
    let requester = json!({"user": "u", "uid": "1", "groups": ["g"]});
    let budget =
        json!({"perAttempt": "1", "hourly": "1", "daily": "1", "monthly": "1", "total": "1", "timeZone": "UTC"});
    match kind {
        "Task" => vec![
            json!({"type": "t", "goal": "g", "parameters": {"x": "text", "y": ["text"]}, "agentRef": {"name": "a", "namespace": "n"},
                "priority": "Low", "budget": "1", "runId": "again", "requester": requester, "deadline": "2026-01-01T00:00:00Z"}),
            json!({"planRef": {"name": "p"}}),
            json!({"plan": {"steps": steps}}),
        ],
        "Plan" => vec![
            json!({"requester": requester, "steps": steps}),
            json!({"taskRef": {"name": "t", "uid": "u"}, "digest": "d", "steps": steps}),
        ],
        "Policy" => vec![json!({
            "mode": "Enforce",
            "rules": [{"name": "r", "match": "true", "effect": "RequireApproval", "risk": "Low", "message": "m",
                "approval": {"groups": ["g"], "serviceAccounts": ["n/s"], "scope": "Step", "expiresAfter": "1h"}}],
            "egress": [{"host": "example.com", "methods": ["GET"], "paths": ["/a"]}],
            "budget": {"cluster": budget, "namespace": budget},
        })],
        "Agent" => vec![json!({"description": "d", "priority": "Low", "allowedSkills": ["k"], "budget": budget,
            "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "n"}], "owners": [{"kind": "ServiceAccount", "name": "a", "namespace": "n"}]})],
        "Skill" => {
            let common = json!({
                "description": "d", "effect": "Write", "idempotent": true, "input": {"title": "text"},
                "output": {"title": "text"}, "timeout": "1m", "expectedDuration": "1s", "runtimeClassName": "r",
                "resources": {"cpu": "1", "memory": "1Mi"}, "workspace": "Read", "overBudget": "Defer",
                "downgradeTo": "k",
                "cost": {"ceiling": "1", "perAttempt": "1", "perCall": "1", "perMillionInputTokens": "1",
                    "perMillionOutputTokens": "1"},
            });
            let with = |more: Value| {
                let mut all = common.clone();
                all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                all
            };
            let credential = json!({"secret": "s", "key": "k", "header": "H", "scheme": "Value"});
            vec![
                with(json!({
                    "image": {"reference": format!("i@sha256:{}", "0".repeat(64)), "command": ["c"]},
                    "egress": [{"host": "example.com", "protocol": "Https", "methods": ["GET"], "paths": ["/a"],
                        "addresses": ["10.0.0.0/8"], "credential": credential}],
                })),
                with(json!({
                    "builtin": {"name": "json_transform", "program": "."},
                    "egress": [{"host": "example.com", "jsonRpc": ["eth_call"],
                        "credential": {"secret": "s", "key": "k", "username": "u"}}],
                })),
                with(json!({
                    "builtin": {"name": "pay"}, "effect": "Irreversible",
                    "payment": {"network": "n", "mode": "Mock", "recipients": [format!("0x{}", "0".repeat(40))],
                        "assets": [{"name": "ETH", "token": format!("0x{}", "0".repeat(40)), "decimals": 18,
                            "most": "1", "price": "1"}]},
                })),
            ]
        }
        other => panic!("no sample of {other}"),
    }
}

/// Texts at the edge of what a field's schema takes, and beyond.
fn edges(schema: &Value) -> Vec<String> {
    let most = usize::try_from(schema["maxLength"].as_u64().unwrap_or(64)).unwrap();
    let mut texts: Vec<String> =
        ["\u{10ffff}", "é", "\u{202e}", "\\", "\"", "\u{1}", "a", "A", "9", "a.", "a-", "/", "0"]
            .into_iter()
            .map(|part| part.chars().cycle().take(most).collect())
            .collect();
    let first = "a".to_owned();
    texts.extend(
        ["_", "-", ".", "a_", "_a"]
            .map(|rest| first.clone() + &rest.chars().cycle().take(most - 1).collect::<String>()),
    );
    let own = [
        "", "a_", "a-", "-a", "*.a", "0x", "0s", "1s", "24h", "25h", "48h", "1ms", "2160h", "99999h", "0", "0.1",
        "\u{feff}",
    ];
    texts.extend(own.map(str::to_owned));
    texts
}

/// What the webhook says of a spec, as the field and the fault; the schema's own refusal has no text.
fn admit(kind: &str, schema: &Schema, spec: &Value) -> Result<(), String> {
    schema.validate(spec).map_err(|_| String::new())?;
    let told = |problems: Vec<check::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    check::storable(spec).map_err(told)?;
    match kind {
        "Task" => check::task(&read(spec)?),
        "Plan" => check::plan(&read(spec)?),
        "Policy" => check::policy(&read(spec)?, true),
        "Agent" => check::agent(&read(spec)?),
        "Skill" => check::skill(&read(spec)?),
        other => panic!("no check of {other}"),
    }
    .map_err(told)
}

/// A time that is none is refused before anything is checked.
fn read<T: serde::de::DeserializeOwned>(spec: &Value) -> Result<T, String> {
    serde_json::from_value(spec.clone()).map_err(|_| String::new())
}

async fn keeps(store: &Store, spec: &Value) -> Result<(), String> {
    let text = spec.to_string();
    let kept: Result<Value, _> = sqlx::query_scalar("select $1::jsonb").bind(spec).fetch_one(store.pool()).await;
    match kept {
        Ok(kept) if kept == *spec && text.len() <= ETCD_BYTES => Ok(()),
        Ok(_) => Err(format!("{} bytes, or not what was written", text.len())),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn whatever_is_admitted_can_be_kept_and_labelled() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let (mut tried, mut admitted, mut wrong) = (0, 0, Vec::new());
    for crd in all_crds() {
        let kind = crd.spec.names.kind.clone();
        // The operator writes Approvals; what people add to them is the reason, which their webhook bounds.
        if kind == "Approval" {
            continue;
        }
        let spec = json!(crd.spec.versions[0].schema).pointer("/openAPIV3Schema/properties/spec").cloned().unwrap();
        let schema = Schema::compile(&spec).unwrap();
        let mut fields = Vec::new();
        strings(&spec, "", &mut fields);
        // Free JSON has strings of its own.
        let free = [
            "/parameters/x",
            "/parameters/y/0",
            "/steps/0/input/x",
            "/steps/0/input/y/z",
            "/plan/steps/0/input/x",
            "/input/title",
            "/output/title",
        ];
        fields.extend(free.map(|pointer| Field { pointer: pointer.to_owned(), schema: json!({"maxLength": 1000}) }));
        let samples = samples(&kind);
        for sample in &samples {
            let said = schema.validate(sample);
            assert!(said.is_ok(), "the sample of {kind} is wrong: {said:?}: {sample}");
        }
        for Field { pointer, schema: of } in &fields {
            let is_free = free.contains(&pointer.as_str());
            let setting: Vec<&Value> =
                samples.iter().filter(|sample| sample.pointer(pointer).is_some_and(Value::is_string)).collect();
            if setting.is_empty() {
                assert!(is_free, "{kind}{pointer}: no sample sets it");
                continue;
            }
            let bounded = ["maxLength", "enum", "format", "pattern"].iter().any(|bound| !of[bound].is_null());
            assert!(bounded, "{kind}{pointer}: has no bound");
            let name = pointer.rsplit('/').find(|part| part.parse::<u32>().is_err()).unwrap();
            let any_text = of["pattern"].is_null() && of["enum"].is_null() && of["format"].is_null();
            for sample in setting {
                let put = |text: &str| {
                    let mut spec = sample.clone();
                    *spec.pointer_mut(pointer).unwrap() = json!(text);
                    spec
                };
                for text in edges(of) {
                    let spec = put(&text);
                    let answer = admit(&kind, &schema, &spec);
                    tried += 1;
                    let at_its_edge = any_text
                        && !LANGUAGES.contains(&name)
                        && text.chars().count() > 1
                        && text.starts_with(['\u{10ffff}', 'é', '\u{202e}']);
                    if let (true, Err(said)) = (at_its_edge, &answer)
                        && !["needs", "after"].iter().any(|field| said.contains(field))
                    {
                        wrong.push(format!(
                            "{kind}{pointer}: {:?} is refused: {said}",
                            text.chars().take(3).collect::<String>()
                        ));
                    }
                    if answer.is_ok() {
                        admitted += 1;
                        if let Err(why) = keeps(&store, &spec).await {
                            wrong.push(format!("{kind}{pointer}: {text:.20?} is admitted and not kept: {why}"));
                        }
                        if LABELS.contains(&pointer.as_str()) && !is_label(&text) {
                            wrong.push(format!("{kind}{pointer}: {text:.20?} is admitted and is no label"));
                        }
                    }
                }
                match admit(&kind, &schema, &put("x\0y")) {
                    Ok(()) => wrong.push(format!("{kind}{pointer}: U+0000 is admitted")),
                    Err(said) if said.is_empty() || said.contains(name) => {}
                    Err(said) => wrong.push(format!("{kind}{pointer}: U+0000 is refused without its field: {said}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{tried} texts, {admitted} of them admitted and kept");
    assert!(admitted > 500, "{admitted} of {tried} were admitted: the samples do not pass themselves");
}
