//! What approvers do when nobody attacks: look, sign for a step or a whole Plan, and read what became of it.
#![allow(clippy::unwrap_used, reason = "a test")]

use countersign_e2e::scene::{Scene, refused, require};
use countersign_e2e::{Namespace, SOON, User, kubectl_with, sql, text, wait_until};
use serde_json::json;

#[test]
fn the_plugin_shows_what_is_signed_for_and_signs_just_that() {
    let scene = Scene::new("plugin");
    let task = scene.spec()["taskRef"]["name"].as_str().unwrap().to_owned();
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
    assert!(done && said.contains("approved by alice; 1 of 2 so far"), "{said}");
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

/// Three steps, of which the third's input is what the second returns.
fn plan(task: &str) -> String {
    let input = json!({"address": "a", "transactions": []});
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": task,
        "annotations": {"countersign.dev/on-behalf-of": "carol"}},
        "spec": {"plan": {"steps": [
            {"name": "one", "skill": "check-balance", "input": input},
            {"name": "two", "skill": "check-balance", "needs": ["one"], "input": input},
            {"name": "three", "skill": "policy-check", "needs": ["two"],
                "input": {"balance": "${steps.two.output.balance}", "threshold": 0}}]}}})
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
    assert!(spec["subject"]["earlier"][0]["output"].as_str().unwrap().contains("\"balance\":0"), "{spec}");
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
    for account in ["gitops", "default"] {
        let account = format!("--serviceaccount={}:{account}", scene.ns.name);
        let name = account.replace([':', '=', '-'], "");
        scene.ns.kubectl(&["create", "rolebinding", &name, "--clusterrole=countersign-approver", &account]);
    }
    let sign = |account: &str| {
        let user = format!("system:serviceaccount:{}:{account}", scene.ns.name);
        let patch = r#"{"spec":{"approved":true,"reason":"merged"}}"#;
        let arguments =
            ["-n", &scene.ns.name, "--as", &user, "patch", "approval", &scene.approval, "--type", "merge", "-p", patch];
        let output = kubectl_with(&arguments, "");
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    };
    refused(sign("default"), "the service account e2e-robot/default is not listed");
    sign("gitops").unwrap();
    let task = scene.spec()["taskRef"]["name"].as_str().unwrap().to_owned();
    scene.ns.wait_for(&task, "Completed");
}
