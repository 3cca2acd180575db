//! Wrong manifests, each with its message; and every rule of the CRDs, accepting and rejecting.

use std::collections::BTreeSet;

use countersign_e2e::{Namespace, kubectl_with, text};
use serde_json::{Value, json};

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn step(name: &str) -> Value {
    json!({"name": name, "skill": "check-balance"})
}

#[test]
fn wrong_manifests_are_refused_with_field_and_fix() {
    let ns = Namespace::new("wrong");
    let with = |mut step: Value, more: Value| {
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let inline = |steps: Value| object("Task", "wrong", json!({"plan": {"steps": steps}}));
    let cases = [
        (inline(json!([with(step("a"), json!({"needs": ["b"]})), with(step("b"), json!({"needs": ["a"]}))])), "cycle"),
        (inline(json!([with(step("a"), json!({"needs": ["z"]}))])), "there is no step \"z\""),
        (inline(json!([step("a"), step("a")])), "Duplicate value"),
        (
            inline(json!([step("a"), with(step("b"), json!({"after": [{"step": "a", "outcomes": ["Failed"]}]}))])),
            "set onFailure: Continue there",
        ),
        (
            inline(json!([step("a"), with(step("b"), json!({"after": [{"step": "a", "outcomes": ["Late"]}]}))])),
            "spec.plan.steps[1].after[0].outcomes[0]",
        ),
        (inline(json!([with(step("a"), json!({"when": "steps.b.output"}))])), "step \"b\" does not come before"),
        (
            inline(json!([with(step("a"), json!({"input": {"x": "${task.parameters.p}"}}))])),
            "add it to spec.parameters",
        ),
        (inline(json!([with(step("a"), json!({"input": {"x": "${1 +}"}}))])), "input.x"),
        (inline(json!([with(step("a"), json!({"timeout": "soon"}))])), "spec.plan.steps[0].timeout"),
        (inline(json!([{"name": "A", "skill": "s"}])), "spec.plan.steps[0].name"),
        (inline(json!([{"name": "sum_", "skill": "s"}])), "becomes the value of a label"),
        (inline(json!([with(step("a"), json!({"timeout": "0s"}))])), "0s is not between 1s and 24h0m0s"),
        (inline(json!([with(step("a"), json!({"input": {"x": "\u{0}"}}))])), "holds the character U+0000"),
        (object("Task", "wrong", json!({"type": "monitor_"})), "spec.type"),
        (
            object(
                "Policy",
                "wrong",
                json!({"rules": [{"name": "r", "match": "task.namespac == 'x'", "effect": "Deny"}]}),
            ),
            "did you mean \"namespace\"?",
        ),
        (
            object(
                "Policy",
                "wrong",
                json!({"rules": [{"name": "r", "match": "'x'.matches(r'\\w{400}')", "effect": "Deny"}]}),
            ),
            "the pattern takes more than",
        ),
        (
            object(
                "Skill",
                "wrong",
                json!({"effect": "Read", "builtin": {"name": "json_transform", "program": "nosuch"}}),
            ),
            "spec.builtin.program: 1:1: undefined filter: nosuch",
        ),
        (inline(json!([])), "spec.plan.steps"),
        (object("Task", "wrong", json!({"type": "t", "surprise": 1})), "unknown field \"spec.surprise\""),
        (object("Task", "wrong", json!({"type": "t", "priority": "Urgent"})), "spec.priority"),
        (
            object("Task", "wrong", json!({"type": "t", "parameters": {"n": 9_007_199_254_740_993_i64}})),
            "spec.parameters",
        ),
        (
            object("Policy", "wrong", json!({"rules": [{"name": "r", "match": "task.", "effect": "Allow"}]})),
            "spec.rules[0].match",
        ),
        (
            object("Policy", "wrong", json!({"rules": [{"name": "r", "match": "true", "effect": "Maybe"}]})),
            "spec.rules[0].effect",
        ),
        (
            object(
                "Skill",
                "wrong",
                json!({"effect": "Read", "builtin": {"name": "generic_action"}, "input": {"type": 7}}),
            ),
            "spec.input",
        ),
        (
            object("Skill", "wrong", json!({"effect": "Read", "image": {"reference": "a/b:latest", "command": ["x"]}})),
            "spec.image.reference",
        ),
        (
            object("Plan", "wrong", json!({"taskRef": {"name": "t", "uid": "u"}, "digest": "d", "steps": [step("a")]})),
            "spec.taskRef",
        ),
    ];
    for (manifest, expected) in cases {
        let complaint = ns.apply_refused(&manifest.to_string());
        assert!(complaint.contains(expected), "expected {expected:?} in: {complaint}");
    }
    let approval = object("Approval", "forged", approval_spec());
    let complaint = ns.apply_refused(&approval.to_string());
    assert!(complaint.contains("only the operator creates Approvals"), "{complaint}");
}

fn approval_spec() -> Value {
    json!({
        "taskRef": {"name": "t", "uid": "u"}, "step": "s", "attempt": 1, "digest": format!("sha256:{}", "0".repeat(64)),
        "expiresAt": "2999-01-01T00:00:00Z", "requester": {"user": "dave"}, "risk": "Low", "required": {"count": 1},
        "subject": {"skill": "k", "effect": "Read", "input": {}, "image": "i"},
    })
}

#[test]
fn what_only_planning_can_know_fails_there_with_step_and_field() {
    let ns = Namespace::new("planning");
    let task = |name: &str, parameters: Value, input: Value| {
        let steps = json!([{"name": "only", "skill": "check-balance", "input": input}]);
        ns.apply(&object("Task", name, json!({"parameters": parameters, "plan": {"steps": steps}})).to_string());
    };
    task("type", json!({"t": "not a list"}), json!({"address": "a", "transactions": "${task.parameters.t}"}));
    let message = ns.wait_for("type", "Failed");
    assert!(message.contains("steps[0] (only).input.transactions"), "{message}");
    task("missing", json!({}), json!({"address": "a"}));
    let message = ns.wait_for("missing", "Failed");
    assert!(message.contains("transactions"), "{message}");
    // The template does not know the Task, so a missing parameter shows only when they meet.
    ns.apply(
        &object("Task", "parameter", json!({"type": "monitor_wallet", "parameters": {"address": "a"}})).to_string(),
    );
    let message = ns.wait_for("parameter", "Failed");
    assert!(message.contains("the Task has no parameter \"transactions\"; add it to spec.parameters"), "{message}");
    ns.apply(&object("Task", "plan", json!({"planRef": {"name": "nowhere"}})).to_string());
    let message = ns.wait_for("plan", "Planning");
    assert!(message.contains("there is no Plan \"nowhere\""), "{message}");
}

/// One rule of a CRD: an object that it accepts, and one, made or changed, that it rejects.
struct Case {
    rule: &'static str,
    accepted: Value,
    rejected: Value,
    update: bool,
}

fn cases() -> Vec<Case> {
    let create = |rule, accepted, rejected| Case { rule, accepted, rejected, update: false };
    let update = |rule, accepted, rejected| Case { rule, accepted, rejected, update: true };
    let task = |spec| object("Task", "case", spec);
    let skill = |spec| object("Skill", "e2e-case", spec);
    let stamped = |uid: &str| json!({"taskRef": {"name": "t", "uid": uid}, "digest": "d", "steps": [step("a")]});
    let rule =
        |effect: &str| json!([{"name": "r", "match": "true", "effect": effect, "approval": {"expiresAfter": "1h"}}]);
    let mut immutable = Vec::new();
    for (field, one, other) in [
        ("goal", json!("a"), json!("b")),
        ("priority", json!("Low"), json!("High")),
        ("agentRef", json!({"name": "a"}), json!({"name": "b"})),
        ("budget", json!("1"), json!("2")),
        ("runId", json!("a"), json!("b")),
    ] {
        let rule: &'static str = match field {
            "goal" => "spec.goal is immutable; create a new Task",
            "priority" => "spec.priority is immutable; create a new Task",
            "budget" => "spec.budget is immutable; create a new Task",
            "runId" => "spec.runId is immutable; create a new Task",
            _ => "spec.agentRef is immutable; create a new Task",
        };
        let with = |value| task(json!({"type": "e2e_case", "suspend": true, field: value}));
        immutable.push(update(rule, with(one), with(other)));
    }
    let suspended = |more: Value| {
        let mut spec = json!({"suspend": true});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task(spec)
    };
    let approval = |more: Value| {
        let mut spec = approval_spec();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object("Approval", "case", spec)
    };
    let decision = json!({"user": "u", "approved": true, "at": "2026-01-01T00:00:00Z", "digest": "d"});
    let mut cases = vec![
        create(
            "set exactly one of spec.type, spec.planRef and spec.plan",
            suspended(json!({"type": "t"})),
            suspended(json!({})),
        ),
        update(
            "spec.type is immutable; create a new Task",
            suspended(json!({"type": "a"})),
            suspended(json!({"type": "b"})),
        ),
        update(
            "spec.planRef is immutable; create a new Task",
            suspended(json!({"planRef": {"name": "a"}})),
            suspended(json!({"planRef": {"name": "b"}})),
        ),
        update(
            "spec.cancel cannot be taken back; create a new Task",
            suspended(json!({"type": "a", "cancel": true})),
            suspended(json!({"type": "a", "cancel": false})),
        ),
        create(
            "spec.digest goes with spec.taskRef; both are the operator's, leave both out of a template",
            object("Plan", "case", json!({"steps": [step("a")]})),
            object("Plan", "case", json!({"digest": "d", "steps": [step("a")]})),
        ),
        update(
            "spec.taskRef and spec.digest are immutable",
            object("Plan", "case", stamped("a")),
            object("Plan", "case", stamped("b")),
        ),
        create(
            "approval goes with effect RequireApproval; change the effect or leave approval out",
            object("Policy", "case", json!({"rules": rule("RequireApproval")})),
            object("Policy", "case", json!({"rules": rule("Allow")})),
        ),
        create(
            "set exactly one of spec.builtin and spec.image",
            skill(json!({"effect": "Read", "builtin": {"name": "generic_action"}})),
            skill(json!({"effect": "Read"})),
        ),
        create(
            "program goes with name json_transform, which needs it",
            skill(json!({"effect": "Read", "builtin": {"name": "json_transform", "program": "."}})),
            skill(json!({"effect": "Read", "builtin": {"name": "generic_action", "program": "."}})),
        ),
        update(
            "spec.taskRef, spec.step and spec.attempt are immutable",
            approval(json!({})),
            approval(json!({"step": "other"})),
        ),
        update(
            "spec.digest is immutable",
            approval(json!({})),
            approval(json!({"digest": format!("sha256:{}", "1".repeat(64))})),
        ),
        update(
            "spec.expiresAt is immutable",
            approval(json!({})),
            approval(json!({"expiresAt": "2999-01-02T00:00:00Z"})),
        ),
        update(
            "spec.requester and spec.onBehalfOf are immutable",
            approval(json!({"onBehalfOf": "a"})),
            approval(json!({"onBehalfOf": "b"})),
        ),
        update(
            "spec.required, spec.risk and spec.scope are immutable",
            approval(json!({"required": {"count": 2}})),
            approval(json!({"required": {"count": 1}})),
        ),
        update(
            "spec.requester is immutable",
            suspended(json!({"type": "a", "requester": {"user": "a"}})),
            suspended(json!({"type": "a", "requester": {"user": "b"}})),
        ),
        update(
            "spec.decisions is append-only",
            approval(json!({"decisions": [decision]})),
            approval(json!({"decisions": []})),
        ),
        create("spec.reason goes with spec.approved", approval(json!({})), approval(json!({"reason": "because"}))),
        update(
            "spec.requester is immutable",
            object("Plan", "case", json!({"requester": {"user": "a"}, "steps": [step("a")]})),
            object("Plan", "case", json!({"requester": {"user": "b"}, "steps": [step("a")]})),
        ),
    ];
    let agent = |subject: Value| object("Agent", "case", json!({"allowedSkills": [], "subjects": [subject]}));
    let excluding = |subject: Value| approval(json!({"required": {"count": 1, "excluded": [subject]}}));
    let account = json!({"kind": "ServiceAccount", "name": "a", "namespace": "n"});
    let of_the_api_server = json!({"kind": "Group", "name": "system:masters"});
    for with in [&agent as &dyn Fn(Value) -> Value, &excluding] {
        cases.push(create(
            "a ServiceAccount has a namespace, a User and a Group have none",
            with(account.clone()),
            with(json!({"kind": "User", "name": "a", "namespace": "n"})),
        ));
        cases.push(create(
            "groups of the API server hold whoever comes to be in them; name users, service accounts or a group of your own",
            with(json!({"kind": "Group", "name": "auditors"})),
            with(of_the_api_server.clone()),
        ));
    }
    cases.extend(immutable);
    cases.extend(egress_cases());
    cases.extend(budget_cases());
    cases.extend(payment_cases());
    cases
}

/// Those of what a Skill pays.
fn payment_cases() -> Vec<Case> {
    let asset = |name: &str| json!({"name": name, "decimals": 18, "most": "1", "price": "0"});
    let pays = |more: Value| {
        let payment = json!({"network": "main", "assets": [asset("ETH")]});
        let builtin = json!({"name": "pay"});
        let mut spec = json!({"effect": "Irreversible", "idempotent": true, "builtin": builtin, "payment": payment});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object("Skill", "e2e-case", spec)
    };
    let of = |assets: &[&str]| {
        let assets: Vec<Value> = assets.iter().map(|name| asset(name)).collect();
        pays(json!({"payment": {"network": "main", "assets": assets}}))
    };
    let mock = json!({"network": "main", "mode": "Mock", "assets": [asset("ETH")]});
    let cases = [
        (
            "payment goes with the built-ins pay and onchain_action, which need it",
            pays(json!({"builtin": {"name": "onchain_action"}})),
            pays(json!({"builtin": {"name": "generic_action"}})),
        ),
        (
            "a payment cannot be taken back: set effect Irreversible, or payment.mode Mock",
            pays(json!({"effect": "External", "payment": mock})),
            pays(json!({"effect": "External"})),
        ),
        (
            "a payment is made once however often it is asked for: set idempotent true",
            pays(json!({})),
            pays(json!({"idempotent": false})),
        ),
        (
            "a Skill that pays goes nowhere itself; leave egress out",
            pays(json!({"egress": []})),
            pays(json!({"egress": [{"host": "a.example"}]})),
        ),
        ("each asset has a name of its own", of(&["ETH", "WETH"]), of(&["ETH", "ETH"])),
    ];
    let create = |(rule, accepted, rejected)| Case { rule, accepted, rejected, update: false };
    cases.into_iter().map(create).collect()
}

/// Those of what things cost and what may be spent.
fn budget_cases() -> Vec<Case> {
    let create = |rule, accepted, rejected| Case { rule, accepted, rejected, update: false };
    let costs = |more: Value| {
        let mut spec = json!({"effect": "Read", "builtin": {"name": "generic_action"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object("Skill", "e2e-case", spec)
    };
    let agent = |budget: Value| object("Agent", "case", json!({"allowedSkills": [], "budget": budget}));
    let policy = |budget: Value| object("Policy", "case", json!({"budget": budget}));
    vec![
        create(
            "without egress and payment a Skill costs something by the attempt only: set cost.perAttempt, list egress, or leave cost out",
            costs(json!({"cost": {"ceiling": "1.5", "perAttempt": "1"}})),
            costs(json!({"cost": {"ceiling": "1.5", "perCall": "1"}})),
        ),
        create(
            "overBudget goes with cost; set cost, or leave overBudget out",
            costs(json!({"cost": {"ceiling": "1", "perAttempt": "1"}, "overBudget": "Reject"})),
            costs(json!({"overBudget": "Reject"})),
        ),
        create(
            "a budget limits something: set perAttempt, hourly, daily, monthly or total",
            agent(json!({"daily": "1"})),
            agent(json!({"floorPercent": 10})),
        ),
        create(
            "a budget limits something: set perAttempt, hourly, daily, monthly or total",
            policy(json!({"namespace": {"total": "1"}})),
            policy(json!({"namespace": {"timeZone": "UTC"}})),
        ),
        create(
            "a budget is of something: set cluster or namespace",
            policy(json!({"cluster": {"hourly": "0.000001"}})),
            policy(json!({})),
        ),
    ]
}

/// Those of where a Skill goes, what it shows there and what it costs.
fn egress_cases() -> Vec<Case> {
    let create = |rule, accepted, rejected| Case { rule, accepted, rejected, update: false };
    let goes = |effect: &str, egress: Value| {
        let spec = json!({"effect": effect, "builtin": {"name": "http_call"}, "egress": [egress]});
        object("Skill", "e2e-case", spec)
    };
    let shows = |credential: Value| goes("External", json!({"host": "a.example", "credential": credential}));
    let lasts = |expected: &str| {
        let builtin = json!({"name": "generic_action"});
        let spec = json!({"effect": "Read", "builtin": builtin, "timeout": "60s", "expectedDuration": expected});
        object("Skill", "e2e-case", spec)
    };
    let policy = |spec| object("Policy", "case", spec);
    vec![
        create(
            "a Skill of effect Read sends GET, HEAD and OPTIONS only, or jsonRpc methods that read; change effect or egress",
            goes("Write", json!({"host": "a.example", "methods": ["POST"]})),
            goes("Read", json!({"host": "a.example", "methods": ["GET", "POST"]})),
        ),
        create(
            "a Skill of effect Read lists jsonRpc methods that are known to read only (eth_call, eth_getBalance, ...); change effect or egress",
            goes("Read", json!({"host": "a.example", "jsonRpc": ["eth_call"]})),
            goes("Read", json!({"host": "a.example", "jsonRpc": ["eth_call", "eth_sendRawTransaction"]})),
        ),
        create("expectedDuration is at most timeout, after which an attempt is ended", lasts("1m"), lasts("61s")),
        create(
            "jsonRpc goes with protocol Https or Http",
            goes("External", json!({"host": "a.example", "jsonRpc": ["x"]})),
            goes("External", json!({"host": "a.example", "protocol": "Smtps", "jsonRpc": ["x"]})),
        ),
        create(
            "methods and paths go with protocol Https or Http; leave them out",
            goes("External", json!({"host": "a.example", "protocol": "Smtps"})),
            goes("External", json!({"host": "a.example", "protocol": "Smtps", "paths": ["/"]})),
        ),
        create(
            "jsonRpc means POST of these methods only; leave methods out",
            goes("External", json!({"host": "a.example", "methods": ["POST"]})),
            goes("External", json!({"host": "a.example", "methods": ["POST"], "jsonRpc": ["x"]})),
        ),
        create(
            "username means Basic authentication (RFC 7617), which has a header of its own; leave header out",
            shows(json!({"secret": "s", "key": "k", "username": "u"})),
            shows(json!({"secret": "s", "key": "k", "username": "u", "header": "x-key"})),
        ),
        create(
            "scheme StandardWebhook has headers of its own; leave header and username out",
            shows(json!({"secret": "s", "key": "k", "scheme": "StandardWebhook"})),
            shows(json!({"secret": "s", "key": "k", "scheme": "StandardWebhook", "header": "x-key"})),
        ),
        create(
            "a Policy says something: set spec.rules, spec.egress or spec.budget",
            policy(json!({"egress": []})),
            policy(json!({"mode": "Enforce"})),
        ),
    ]
}

/// The rules are the API server's own, so the webhooks, which would speak first, are looked around: this runs
/// on copies of the CRDs in a group of their own.
#[test]
fn every_rule_of_the_crds_accepts_and_rejects() {
    let ns = Namespace::new("rules");
    let group = "rules.e2e.countersign.dev";
    let mut rules = BTreeSet::new();
    let mut plurals = Vec::new();
    for crd in countersign_crds::all_crds() {
        let mut crd = serde_json::to_value(&crd).unwrap();
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        collect_rules(&kind, &crd, &mut rules);
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap().to_owned();
        crd["metadata"]["name"] = json!(format!("{plural}.{group}"));
        crd["spec"]["group"] = json!(group);
        crd["spec"]["names"]["shortNames"] = json!([]);
        crd["spec"]["names"]["categories"] = json!([]);
        let output = kubectl_with(&["apply", "-f", "-"], &crd.to_string());
        assert!(output.status.success(), "{}", text(&output.stderr));
        plurals.push(format!("crd/{plural}.{group}"));
    }
    for crd in &plurals {
        countersign_e2e::kubectl(&["wait", "--for=condition=Established", crd, "--timeout=60s"]);
    }
    let apply = |manifest: &Value| {
        let manifest = manifest.to_string().replace("countersign.dev/v1alpha1", &format!("{group}/v1alpha1"));
        let mut output =
            kubectl_with(&["-n", &ns.name, "apply", "--server-side", "--force-conflicts", "-f", "-"], &manifest);
        // Discovery may be a moment behind the CRD.
        for _ in 0..50 {
            if !text(&output.stderr).contains("no matches for kind") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
            output =
                kubectl_with(&["-n", &ns.name, "apply", "--server-side", "--force-conflicts", "-f", "-"], &manifest);
        }
        output
    };
    for Case { rule, accepted, rejected, update } in cases() {
        let delete = || {
            let manifest = accepted.to_string().replace("countersign.dev/v1alpha1", &format!("{group}/v1alpha1"));
            kubectl_with(&["-n", &ns.name, "delete", "--ignore-not-found", "-f", "-"], &manifest);
        };
        delete();
        let output = apply(&accepted);
        assert!(output.status.success(), "{rule}: the accepted case was rejected: {}", text(&output.stderr));
        if !update {
            delete();
        }
        let complaint = text(&apply(&rejected).stderr);
        assert!(complaint.contains(rule), "expected {rule:?} in: {complaint}");
        delete();
        let kind = accepted["kind"].as_str().unwrap().to_owned();
        assert!(rules.remove(&(kind, rule.to_owned())), "{rule} is no rule of a CRD, or has two cases");
    }
    for crd in &plurals {
        countersign_e2e::kubectl(&["delete", crd, "--wait=false"]);
    }
    assert!(rules.is_empty(), "rules without a case: {rules:#?}");
}

/// Kind and message: what two kinds say in the same words is two rules.
fn collect_rules(kind: &str, value: &Value, rules: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(map) => {
            for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                rules.insert((kind.to_owned(), rule["message"].as_str().unwrap().to_owned()));
            }
            map.values().for_each(|value| collect_rules(kind, value, rules));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_rules(kind, value, rules)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
