//! What approvers do when nobody attacks: look, sign for a step or a whole Plan, and read what became of it.

use countersign_e2e::scene::{Scene, account, refused, require};
use countersign_e2e::{Namespace, SOON, User, jq_skill, kubectl, kubectl_with, sql, wait_until};
use serde_json::json;

#[test]
fn the_plugin_shows_what_is_signed_for_and_signs_just_that() {
    let scene = Scene::new("plugin");
    let task = scene.task();
    let ns = ["-n", scene.ns.name.as_str()];
    let run = |user: &User, arguments: &[&str]| user.countersign(&[&ns, arguments].concat());
    for (user, expected) in [(&scene.alice, "may sign"), (&scene.dave, "asked for it")] {
        let (done, pending) = run(user, &["pending"]);
        assert!(done && pending.contains(&scene.approval) && pending.contains(expected), "{pending}");
    }
    let (done, said) = run(&scene.alice, &["approve", &scene.approval]);
    assert!(!done && said.contains("there is nobody to ask; say --yes"), "{said}");
    assert!(
        said.contains("Asked for by  dave") && said.contains("Skill check-balance, which has effect Read"),
        "{said}"
    );
    scene.assert_untouched();
    let (done, said) = run(&scene.dave, &["approve", &scene.approval, "--yes"]);
    assert!(!done && said.contains("forbidden"), "{said}");
    let (done, said) = run(&scene.alice, &["approve", &scene.approval, "--yes", "--reason", "looked at it"]);
    assert!(done && said.contains("approved by alice; it waits for 1 more signature"), "{said}");
    let (done, explained) = run(&scene.dave, &["explain", &task]);
    assert!(
        done && explained.contains("waiting for 1 more signature") && explained.contains("looked at it"),
        "{explained}"
    );
    let (done, said) = run(&scene.bob, &["reject", &scene.approval, "--yes", "--reason", "not today"]);
    assert!(done && said.contains("rejected by bob"), "{said}");
    scene.ns.wait_for(&task, "Rejected");
    let (done, explained) = run(&scene.dave, &["explain", &task]);
    assert!(done && explained.contains("was rejected by bob: not today"), "{explained}");
    let (done, explained) = run(&scene.dave, &["explain", "nothing-of-that-name"]);
    assert!(!done && explained.contains("there is no Task and no Approval"), "{explained}");
    let (done, pending) = run(&scene.alice, &["pending"]);
    assert!(done && pending.contains("Nothing waits for a signature"), "{pending}");
}

#[test]
fn whoever_may_look_everywhere_sees_what_waits_everywhere() {
    let (here, there) = (Scene::new("pending-here"), Scene::new("pending-there"));
    let (done, said) = here.alice.countersign(&["pending", "-A"]);
    assert!(!done && said.contains("forbidden"), "alice may look at one namespace: {said}");
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "e2e-pending"}, "subjects": [{"kind": "User", "name": "wendy", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "countersign-viewer"}});
    let bound = kubectl_with(&["apply", "-f", "-"], &binding.to_string());
    assert!(bound.status.success(), "{bound:?}");
    let wendy = User::new("wendy", &[]);
    let mut said = String::new();
    wait_until("the right to look has taken effect", SOON, || {
        let (done, seen) = wendy.countersign(&["pending", "-A"]);
        said = seen;
        done
    });
    kubectl(&["delete", "clusterrolebinding", "e2e-pending"]);
    for scene in [&here, &there] {
        let line = said.lines().find(|line| line.contains(&scene.approval)).unwrap_or_default();
        assert!(line.starts_with(&scene.ns.name) && line.contains("may not sign"), "{said}");
    }
}

#[test]
fn describe_shows_what_is_signed_for_and_who_asked() {
    let scene = Scene::new("describe");
    let said = scene.alice.kubectl(&["-n", &scene.ns.name, "describe", "approval", &scene.approval]).unwrap();
    // kubectl puts a field and its value on one line, and a rule's members below `Rules:`.
    let fields: Vec<String> = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for field in [
        "Skill: check-balance",
        "Effect: Read",
        "Address: a",
        "Policy: e2e-describe/four-eyes",
        "Rule: sign",
        "User: dave",
        "Count: 2",
        "Risk: High",
    ] {
        assert!(fields.iter().any(|line| line == field), "{field:?} is not in:\n{said}");
    }
    let of =
        |name: &str| fields.iter().position(|line| line == name).unwrap_or_else(|| panic!("no {name} in:\n{said}"));
    assert!(
        of("Requester:") < of("User: dave") && of("Input:") < of("Address: a") && of("Rules:") < of("Rule: sign"),
        "{said}"
    );
    wait_until("it tells of its Events", SOON, || {
        scene.ns.kubectl(&["describe", "approval", &scene.approval]).contains("Requested")
    });
}

/// Waits until an Event of this reason tells of the Approval; returns what it says.
fn event(ns: &Namespace, approval: &str, reason: &str) -> String {
    let of = format!("involvedObject.kind=Approval,involvedObject.name={approval},reason={reason}");
    let mut said = String::new();
    wait_until(&format!("{approval} has an Event {reason}"), SOON, || {
        said = ns.kubectl(&["get", "events", "--field-selector", &of, "-o", "jsonpath={.items[*].message}"]);
        !said.is_empty()
    });
    said
}

#[test]
fn every_end_of_an_approval_is_an_event() {
    let ns = Namespace::new("events");
    jq_skill("e2e-events", "{a: 1}", r#""idempotent": true"#);
    let ask = |task: &str| {
        let step = json!({"name": "only", "skill": "e2e-events", "approval": "Always"});
        ns.apply(&json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": task}, "spec": {"plan": {"steps": [step]}}}).to_string());
        ns.wait_for(task, "WaitingApproval");
        ns.approval("Pending")
    };
    let rejected = ask("rejected");
    ns.sign(&rejected, false);
    assert_eq!(event(&ns, &rejected, "Rejected"), "somebody said no, and that is final");
    assert!(event(&ns, &rejected, "Signed").contains("rejected by signer: test"));
    ns.wait_for("rejected", "Rejected");

    let withdrawn = ask("withdrawn");
    ns.kubectl(&["patch", "task", "withdrawn", "--type", "merge", "-p", r#"{"spec":{"cancel":true}}"#]);
    assert_eq!(event(&ns, &withdrawn, "Withdrawn"), "the Task ended before it was used");
    ns.wait_for("withdrawn", "Cancelled");

    let superseded = ask("superseded");
    jq_skill("e2e-events", "{a: 2}", r#""idempotent": true"#);
    assert!(event(&ns, &superseded, "Superseded").contains("what would run changed: skill"));
    wait_until("its status says so too", SOON, || ns.approval_state(&superseded).0 == "Superseded");
    let again = ns.approval("Pending");
    assert_ne!(again, superseded, "it asks again");
    ns.kubectl(&["patch", "task", "superseded", "--type", "merge", "-p", r#"{"spec":{"cancel":true}}"#]);
    ns.wait_for("superseded", "Cancelled");

    let late = Scene::with("events-late", &json!({"count": 2, "expiresAfter": "8s"}));
    assert_eq!(event(&late.ns, &late.approval, "Expired"), "the signatures that it takes did not come in time");
    kubectl(&["delete", "skill", "e2e-events"]);
}

/// Three steps, of which the third's input is what the two before it return, and it waits for one of them only.
fn plan(task: &str) -> String {
    let input = json!({"address": "a", "transactions": []});
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": task,
        "annotations": {"countersign.dev/on-behalf-of": "carol"}},
        "spec": {"plan": {"steps": [
            {"name": "one", "skill": "check-balance", "input": input},
            {"name": "two", "skill": "check-balance", "needs": ["one"], "input": input},
            {"name": "three", "skill": "policy-check", "needs": ["two"],
                "input": {"balance": "${steps.two.output.balance}", "threshold": "${steps.one.output.balance}"}}]}}})
    .to_string()
}

#[test]
fn one_signature_for_a_plan_covers_what_is_known_and_the_rest_asks_again() {
    let ns = Namespace::new("plan-scope");
    require(&ns, &json!({"scope": "Plan"}));
    let mut tries = 0;
    let task = loop {
        tries += 1;
        let task = format!("plan-{tries}");
        ns.apply(&plan(&task));
        wait_until("it was judged", SOON, || !["Pending", "Planning"].contains(&ns.phase(&task).0.as_str()));
        if ns.phase(&task).0 == "WaitingApproval" {
            break task;
        }
        ns.kubectl(&["patch", "task", &task, "--type", "merge", "-p", r#"{"spec":{"cancel":true}}"#]);
    };
    let uid = ns.uid(&task);
    let first = ns.approval("Pending");
    let spec = ns.get(&format!("approval/{first}"))["spec"].clone();
    assert_eq!(
        (&spec["scope"], &spec["step"], &spec["covers"][0]["step"]),
        (&json!("Plan"), &json!("one"), &json!("two"))
    );
    assert_eq!(spec["covers"].as_array().unwrap().len(), 1);
    assert_eq!(spec["onBehalfOf"], "carol", "a claim, shown");
    ns.sign(&first, true);
    ns.wait_for_step(&task, "two", "Succeeded");
    ns.wait_for_step(&task, "three", "WaitingApproval");
    let second = ns.approval("Pending");
    let spec = ns.get(&format!("approval/{second}"))["spec"].clone();
    assert_eq!(spec["subject"]["input"]["balance"], 0);
    for (n, step) in ["one", "two"].into_iter().enumerate() {
        let earlier = &spec["subject"]["earlier"][n];
        assert_eq!(earlier["step"], step, "what the input refers to: {spec}");
        assert!(earlier["output"].as_str().unwrap().contains("\"balance\":0"), "{spec}");
    }
    ns.sign(&second, true);
    ns.wait_for(&task, "Completed");
    ns.assert_recorded(&task);
    let used = sql(&format!("select count(*), count(distinct approval) from attempts where task_uid = '{uid}'"));
    assert_eq!(used, "3|2", "three attempts under two Approvals");
}

#[test]
fn an_approval_says_how_it_differs_from_what_was_approved_last() {
    let ns = Namespace::new("since");
    let apply = |task: &str, address: &str| {
        ns.apply(
            &json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": task}, "spec": {
            "planRef": {"name": "watch"}, "parameters": {"address": address}}})
            .to_string(),
        );
        ns.wait_for(task, "WaitingApproval");
        ns.approval("Pending")
    };
    ns.apply(&json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Plan", "metadata": {"name": "watch"}, "spec": {"steps": [
        {"name": "only", "skill": "check-balance", "approval": "Always",
            "input": {"address": "${task.parameters.address}", "transactions": []}}]}}).to_string());
    let first = apply("first", "here");
    let since =
        |approval: &str| ns.get(&format!("approval/{approval}"))["spec"]["subject"]["sinceLastApproved"].clone();
    assert!(since(&first).is_null(), "nothing was approved before");
    ns.sign(&first, true);
    ns.wait_for("first", "Completed");
    let second = apply("second", "there");
    let expected = json!([{"field": "input.address", "before": "\"here\"", "now": "\"there\""}]);
    assert_eq!(
        (since(&second)["approval"].as_str(), &since(&second)["differences"]),
        (Some(first.as_str()), &expected)
    );
    ns.sign(&second, true);
    ns.wait_for("second", "Completed");
    let third = apply("third", "there");
    assert!(since(&third)["differences"].is_null(), "just as before: {}", since(&third));
    let events = ns.kubectl(&[
        "get",
        "events",
        "--field-selector",
        &format!("involvedObject.name={second}"),
        "-o",
        "jsonpath={.items[*].reason}",
    ]);
    for reason in ["Requested", "Signed", "Approved", "Used"] {
        assert!(events.contains(reason), "{reason} is not among {events}");
    }
}

#[test]
fn a_listed_service_account_counts_and_another_does_not() {
    let scene = Scene::with("robot", &json!({"count": 1, "serviceAccounts": ["e2e-robot/gitops"]}));
    scene.ns.kubectl(&["create", "serviceaccount", "gitops"]);
    let sign = |name: &str| {
        let to = format!("--serviceaccount={}:{name}", scene.ns.name);
        scene.ns.kubectl(&["create", "rolebinding", name, "--clusterrole=countersign-approver", &to]);
        account(&scene.ns, name).sign(&scene.ns, &scene.approval)
    };
    refused(sign("default"), "the service account e2e-robot/default is not listed");
    sign("gitops").unwrap();
    assert_eq!(scene.ns.signers(&scene.approval), ["system:serviceaccount:e2e-robot:gitops"]);
    scene.ns.wait_for(&scene.task(), "Completed");
}

#[test]
fn whoever_joined_a_group_signs_anew_and_counts_as_who_they_are_then() {
    let scene = Scene::with("anew", &json!({"count": 2, "groups": ["treasury"]}));
    let (ns, approval) = (&scene.ns, &scene.approval);
    for user in [&scene.alice, &scene.bob] {
        user.sign(ns, approval).unwrap();
    }
    wait_until("it says whom it lacks", SOON, || {
        ns.approval_state(approval)
            == (
                "Pending".into(),
                "waiting for 1 more, from group treasury; sign with kubectl patch: spec.approved and spec.reason"
                    .into(),
            )
    });
    let shown = ns.kubectl(&["get", "approval", approval]);
    let expires = scene.spec()["expiresAt"].as_str().unwrap().to_owned();
    assert!(shown.contains("EXPIRES") && shown.contains(&expires) && shown.contains("2/3"), "{shown}");
    let since = |ns: &Namespace| {
        ns.get(&format!("approval/{approval}"))["status"]["conditions"][0]["lastTransitionTime"].clone()
    };
    let before = since(ns);
    // Said again by the same person, it changes nothing.
    scene.alice.sign(ns, approval).unwrap();
    assert_eq!(ns.signers(approval), ["alice", "bob"]);
    let (done, said) = scene.alice.countersign(&["-n", &ns.name, "approve", approval, "--yes"]);
    assert!(done && said.contains("it waits for 1 more, from group treasury"), "{said}");
    assert_eq!(since(ns), before, "still pending is no transition");
    User::new("alice", &["treasury"]).sign(ns, approval).unwrap();
    assert_eq!(ns.signers(approval), ["alice", "bob", "alice"], "what was said stays");
    ns.wait_for(&scene.task(), "Completed");
}

/// An Agent that may look at balances, and a Policy that asks for so many signatures where it has priority High.
fn urgent(ns: &Namespace, count: u32) {
    let agent = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "bond"},
        "spec": {"allowedSkills": ["check-balance"], "priority": "Normal"}});
    let rule = json!({"name": "urgent", "match": "agent != null && agent.priority == 'High'", "effect": "RequireApproval",
        "approval": {"count": count}});
    let policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "urgent"},
        "spec": {"rules": [rule]}});
    for object in [agent, policy] {
        ns.apply(&object.to_string());
    }
}

/// A Task that acts for the Agent.
fn acting(name: &str) -> String {
    let input: serde_json::Value = serde_json::from_str(countersign_e2e::scene::INPUT).unwrap();
    let step = json!({"name": "only", "skill": "check-balance", "input": input});
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": name},
        "spec": {"agentRef": {"name": "bond"}, "plan": {"steps": [step]}}})
    .to_string()
}

const TO_HIGH: [&str; 6] = ["patch", "agent", "bond", "--type", "merge", "-p"];

#[test]
fn a_signature_does_not_outlive_what_was_asked_for() {
    let scene = Scene::with("more-asked", &json!({"count": 2}));
    urgent(&scene.ns, 3);
    scene.ns.apply(&acting("rising"));
    scene.ns.wait_for("rising", "WaitingApproval");
    let uid = scene.ns.uid("rising");
    let approval = sql(&format!("select name from approvals where task_uid = '{uid}'"));
    wait_until("it can be signed", SOON, || scene.alice.sign(&scene.ns, &approval).is_ok());
    scene.ns.kubectl(&[&TO_HIGH[..], &[r#"{"spec":{"priority":"High"}}"#]].concat());
    wait_until("it is void", SOON, || scene.ns.approval_state(&approval).0 == "Superseded");
    let (_, message) = scene.ns.approval_state(&approval);
    assert!(message.contains("ask.required: 2 -> 3") && message.contains("agent.priority"), "{message}");
    let asked = format!("select required ->> 'count' from approvals where task_uid = '{uid}' and state = 'Requested'");
    assert_eq!(sql(&asked), "3");
    assert_eq!(sql(&format!("select count(*) from attempts where task_uid = '{uid}'")), "0");
}

#[test]
fn what_waits_for_its_pod_unsigned_is_not_let_in_once_a_signature_is_asked_for() {
    let ns = Namespace::new("asked-late");
    // No pod can be made here.
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    ns.apply(&quota.to_string());
    urgent(&ns, 1);
    ns.apply(&acting("waits"));
    let uid = ns.uid("waits");
    let attempts = format!("select coalesce(outcome, 'under way') from attempts where task_uid = '{uid}'");
    wait_until("it is under way", SOON, || sql(&attempts) == "under way");
    ns.kubectl(&[&TO_HIGH[..], &[r#"{"spec":{"priority":"High"}}"#]].concat());
    wait_until("it is voided", SOON, || sql(&attempts) == "Voided");
    let approval = ns.approval("Pending");
    ns.kubectl(&["delete", "resourcequota", "none"]);
    ns.sign(&approval, true);
    ns.wait_for("waits", "Completed");
    assert_eq!(ns.approval_state(&approval).0, "Consumed");
}
