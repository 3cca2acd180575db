//! Everything that a user does, on the real cluster.

use std::time::{Duration, Instant};

use countersign_core::digest;
use countersign_e2e::{Namespace, SIGNER, User, jq_skill, kubectl, one_step, root, sql, wait_until};
use serde_json::{Value, json};

#[test]
fn the_main_job() {
    let ns = Namespace::new("main");
    ns.sample("monitor-wallet.yaml");
    let message = ns.wait_for("monitor-wallet", "WaitingApproval");
    let approval = ns.approval("Pending");
    assert_eq!(message, format!("waiting for approval {approval}"));
    let forged = r#"{"spec":{"approved":true,"reason":"fine","decisions":[{"user":"boss","approved":true,
        "at":"2026-01-01T00:00:00Z","digest":"sha256:00"}]}}"#;
    ns.kubectl(&["--as", SIGNER, "patch", "approval", &approval, "--type", "merge", "-p", forged]);
    ns.wait_for("monitor-wallet", "Completed");
    let decisions = ns.get(&format!("approval/{approval}"))["spec"]["decisions"].clone();
    let users: Vec<&str> = decisions.as_array().unwrap().iter().filter_map(|d| d["user"].as_str()).collect();
    assert_eq!(users.len(), 1, "one signature, the signer's: {decisions}");
    assert_eq!(users[0], SIGNER);
    ns.assert_recorded("monitor-wallet");
    assert_eq!(ns.approval("Consumed"), approval);
    let second = ns.refused(&[
        "--as",
        SIGNER,
        "patch",
        "approval",
        &approval,
        "--type",
        "merge",
        "-p",
        r#"{"spec":{"approved":false}}"#,
    ]);
    assert!(second.contains("it is Consumed; nothing can be signed any more"), "{second}");
    let uid = ns.uid("monitor-wallet");
    let output = sql(&format!(
        "select convert_from(body, 'UTF8')::jsonb ->> 'message' from outputs o join steps s on s.output_digest = o.digest
         where s.task_uid = '{uid}' and s.name = 'monitor_action'"
    ));
    assert_eq!(output, "the balance 450 is below the threshold 500");
}

#[test]
fn a_rejection_is_final() {
    let ns = Namespace::new("reject");
    ns.sample("monitor-wallet.yaml");
    let approval = ns.approval("Pending");
    ns.sign(&approval, false);
    let message = ns.wait_for("monitor-wallet", "Rejected");
    assert!(message.contains("ApprovalRejected") && message.contains("test"), "{message}");
    assert_eq!(ns.step("monitor-wallet", "monitor_action")["state"], "Rejected");
    let uid = ns.uid("monitor-wallet");
    assert_eq!(
        sql(&format!("select count(*) from attempts where task_uid = '{uid}' and step = 'monitor_action'")),
        "0"
    );
    assert_eq!(ns.approval("Rejected"), approval);
}

#[test]
fn an_approval_that_nobody_signs_expires() {
    let ns = Namespace::new("expire");
    ns.apply(
        r#"{"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "hasty"}, "spec": {"rules": [
        {"name": "sign", "match": "true", "effect": "RequireApproval", "approval": {"expiresAfter": "3s"}}]}}"#,
    );
    // A Policy reaches the operator by a watch; until then a Task would run without it.
    let mut n = 0;
    wait_until("the Policy is in force", Duration::from_secs(30), || {
        n += 1;
        let name = format!("task-{n}");
        ns.apply(&one_step(&name, "check-balance", r#"{"address": "a", "transactions": []}"#));
        wait_until("it was planned", Duration::from_secs(30), || ns.phase(&name).0 != "Pending");
        ns.phase(&name).0 == "WaitingApproval"
    });
    let message = ns.wait_for(&format!("task-{n}"), "Rejected");
    assert!(message.contains("ApprovalExpired"), "{message}");
    let late = ns.approval("Expired");
    let refused = ns.refused(&[
        "--as",
        SIGNER,
        "patch",
        "approval",
        &late,
        "--type",
        "merge",
        "-p",
        r#"{"spec":{"approved":true}}"#,
    ]);
    assert!(refused.contains("expired"), "{refused}");
}

#[test]
fn an_unknown_type_is_denied_and_says_how_to_allow_it() {
    let ns = Namespace::new("denied");
    ns.sample("generic.yaml");
    let message = ns.wait_for("water-the-plants", "Rejected");
    assert!(message.contains("PolicyDenied") && message.contains("add one with the label"), "{message}");
    assert_eq!(ns.kubectl(&["get", "jobs", "-l", "countersign.dev/step", "-o", "name"]), "");
}

#[test]
fn a_transfer_waits_for_its_skill_and_says_so() {
    let ns = Namespace::new("transfer");
    ns.sample("transfer-funds.yaml");
    let message = ns.wait_for("transfer-funds", "Planning");
    assert!(
        message.contains("steps[2] (onchain_action).skill: the Skill \"onchain-action\" is not installed"),
        "{message}"
    );
}

#[test]
fn transfers_over_the_limit_are_denied_and_others_signed_for() {
    let ns = Namespace::new("limit");
    jq_skill("e2e-limit", "{sent: true}", r#""idempotent": false"#);
    let plan = r#"{"apiVersion": "countersign.dev/v1alpha1", "kind": "Plan", "metadata": {"name": "transfer",
        "labels": {"countersign.dev/type": "transfer_funds"}}, "spec": {"steps": [{"name": "send", "skill": "e2e-limit"}]}}"#;
    ns.apply(plan);
    let task = |name: &str, amount: &str| {
        ns.apply(&format!(
            r#"{{"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {{"name": "{name}"}},
            "spec": {{"type": "transfer_funds", "parameters": {{"amount": {amount}}}}}}}"#
        ));
    };
    task("over", "1001");
    task("word", "\"many\"");
    task("under", "1000");
    assert!(ns.wait_for("over", "Rejected").contains("at most 1000 a transfer"));
    assert!(ns.wait_for("word", "Rejected").contains("an error denies"));
    ns.wait_for("under", "WaitingApproval");
    let approval = ns.get(&format!("approval/{}", ns.approval("Pending")));
    assert_eq!(approval["spec"]["risk"], "High");
}

#[test]
fn a_failed_step_ends_the_task_and_is_tried_again_only_where_that_is_safe() {
    let ns = Namespace::new("failed");
    jq_skill("e2e-fails-once-more", "error(\"no luck\")", r#""idempotent": true"#);
    jq_skill("e2e-fails", "error(\"no luck\")", r#""idempotent": false"#);
    let task = |name: &str, skill: &str| {
        ns.apply(&format!(
            r#"{{"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {{"name": "{name}"}},
            "spec": {{"plan": {{"steps": [
              {{"name": "first", "skill": "{skill}", "retry": {{"limit": 1, "backoff": "1s"}}}},
              {{"name": "second", "skill": "check-balance", "needs": ["first"], "input": {{"address": "a", "transactions": []}}}}]}}}}}}"#
        ));
    };
    task("again", "e2e-fails-once-more");
    task("never", "e2e-fails");
    let message = ns.wait_for("again", "Failed");
    assert!(message.contains("step first: exit code 1"), "{message}");
    ns.wait_for("never", "Failed");
    let attempts = |task: &str| sql(&format!("select count(*) from attempts where task_uid = '{}'", ns.uid(task)));
    assert_eq!((attempts("again").as_str(), attempts("never").as_str()), ("2", "1"));
    assert_eq!(ns.step("again", "second")["state"], "Skipped");
}

#[test]
fn what_runs_too_long_is_ended() {
    let ns = Namespace::new("timeout");
    jq_skill("e2e-endless-short", "def f: f; f", r#""timeout": "2s""#);
    ns.apply(&one_step("endless", "e2e-endless-short", "{}"));
    let message = ns.wait_for("endless", "Failed");
    assert!(message.contains("TimedOut") && message.contains("not done after 2 s"), "{message}");
}

#[test]
fn a_cancelled_task_ends_its_pods_and_the_record_says_so() {
    let ns = Namespace::new("cancel");
    jq_skill("e2e-endless", "def f: f; f", r#""timeout": "10m""#);
    ns.apply(&one_step("endless", "e2e-endless", "{}"));
    wait_until("its pod runs", countersign_e2e::SOON, || {
        ns.kubectl(&["get", "pods", "-l", "countersign.dev/step", "-o", "jsonpath={.items[*].status.phase}"])
            == "Running"
    });
    ns.kubectl(&["patch", "task", "endless", "--type", "merge", "-p", r#"{"spec":{"cancel":true}}"#]);
    ns.wait_for("endless", "Cancelled");
    wait_until("no pod is left", countersign_e2e::SOON, || {
        ns.kubectl(&["get", "pods", "-l", "countersign.dev/step", "-o", "name"]).is_empty()
    });
    let uid = ns.uid("endless");
    assert_eq!(sql(&format!("select outcome from attempts where task_uid = '{uid}'")), "Cancelled");
    assert_eq!(sql(&format!("select outcome || ' ' || reason from tasks where uid = '{uid}'")), "Cancelled Cancelled");
    let back = ns.refused(&["patch", "task", "endless", "--type", "merge", "-p", r#"{"spec":{"cancel":false}}"#]);
    assert!(back.contains("spec.cancel cannot be taken back"), "{back}");
}

#[test]
fn a_suspended_task_starts_nothing_until_it_is_released() {
    let ns = Namespace::new("suspend");
    ns.apply(
        r#"{"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "later"}, "spec": {"suspend": true,
        "plan": {"steps": [{"name": "only", "skill": "check-balance", "input": {"address": "a", "transactions": []}}]}}}"#,
    );
    wait_until("it says that it is suspended", countersign_e2e::SOON, || {
        let task = ns.get("task/later");
        let conditions = task["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Suspended" && c["status"] == "True")
    });
    assert_eq!(ns.kubectl(&["get", "jobs", "-l", "countersign.dev/step", "-o", "name"]), "");
    ns.kubectl(&["patch", "task", "later", "--type", "merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    ns.wait_for("later", "Completed");
}

#[test]
fn an_attempt_that_was_intended_is_held_behind_its_gate_while_its_task_is_suspended() {
    let ns = Namespace::new("suspend-late");
    // No pod appears for its Job until the quota is gone.
    ns.apply(
        r#"{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}"#,
    );
    ns.apply(&one_step("held", "check-balance", r#"{"address": "a", "transactions": []}"#));
    let jobs = || ns.kubectl(&["get", "jobs", "-l", "countersign.dev/step", "-o", "name"]);
    wait_until("its Job is there", countersign_e2e::SOON, || !jobs().is_empty());
    ns.kubectl(&["patch", "task", "held", "--type", "merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    wait_until("its step says why it does not go on", countersign_e2e::SOON, || {
        ns.step("held", "only")["reason"] == "Suspended"
    });
    ns.kubectl(&["delete", "resourcequota", "none"]);
    let gates = || {
        let pods = ns.kubectl(&["get", "pods", "-l", "countersign.dev/step", "-o", "json"]);
        let pods: Value = serde_json::from_str(&pods).unwrap();
        pods["items"][0]["spec"]["schedulingGates"].as_array().map(Vec::len)
    };
    wait_until("its pod is there", countersign_e2e::SOON, || gates().is_some());
    assert_eq!(gates(), Some(1), "and behind its gate");
    assert_eq!(ns.step("held", "only")["reason"], "Suspended");
    let message = ns.phase("held").1;
    assert!(message.contains("unset its spec.suspend"), "{message}");
    ns.kubectl(&["patch", "task", "held", "--type", "merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    ns.wait_for("held", "Completed");
}

#[test]
fn a_deleted_task_that_a_finalizer_keeps_starts_nothing_and_is_asked_to_go_once() {
    let ns = Namespace::new("finalizer");
    jq_skill("e2e-endless-finalizer", "def f: f; f", r#""timeout": "10m""#);
    let task = |name: &str, more: Value| {
        let mut spec = json!({"plan": {"steps": [
            {"name": "first", "skill": "e2e-endless-finalizer"},
            {"name": "second", "skill": "e2e-endless-finalizer"}], "parallelism": 1}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let metadata = json!({"name": name, "finalizers": ["example.com/keep"]});
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": metadata, "spec": spec})
            .to_string()
    };
    ns.apply(&task("kept", json!({})));
    ns.wait_for_step("kept", "first", "Running");
    ns.kubectl(&["delete", "task", "kept", "--wait=false"]);
    let message = ns.wait_for("kept", "Cancelled");
    assert!(message.contains("Deleted"), "{message}");
    let uid = ns.uid("kept");
    assert_eq!(sql(&format!("select count(*) from attempts where task_uid = '{uid}' and step = 'second'")), "0");

    let asked = || crate::budgets::metric("countersign_actions_total", &["kind=\"delete_task\""]);
    let before = asked();
    ns.apply(&task("expires", json!({"cancel": true, "ttlSecondsAfterFinished": 1})));
    wait_until("its deletion was asked for", countersign_e2e::SOON, || {
        !ns.get("task/expires")["metadata"]["deletionTimestamp"].is_null()
    });
    // It goes on being looked at, and nothing is asked again.
    for label in ["a", "b", "c"] {
        ns.kubectl(&["label", "task", "expires", "--overwrite", &format!("touched={label}")]);
    }
    let often = asked() - before;
    assert!(often < 10.0, "deletion was asked for {often} times");
    for name in ["kept", "expires"] {
        ns.kubectl(&["patch", "task", name, "--type", "merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    }
    wait_until("both are gone", countersign_e2e::SOON, || ns.kubectl(&["get", "tasks", "-o", "name"]).is_empty());
}

#[test]
fn a_task_fails_at_its_deadline_and_goes_after_its_time_to_live() {
    let ns = Namespace::new("deadline");
    jq_skill("e2e-endless-deadline", "def f: f; f", r#""timeout": "10m""#);
    let soon = sql("select to_char((now() + interval '6 s') at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    ns.apply(&format!(
        r#"{{"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {{"name": "late"}}, "spec": {{
        "deadline": "{soon}", "ttlSecondsAfterFinished": 8,
        "plan": {{"steps": [{{"name": "only", "skill": "e2e-endless-deadline"}}]}}}}}}"#
    ));
    let message = ns.wait_for("late", "Failed");
    assert!(message.contains("DeadlineExceeded"), "{message}");
    let uid = ns.uid("late");
    wait_until("the Task is gone", countersign_e2e::SOON, || ns.kubectl(&["get", "tasks", "-o", "name"]).is_empty());
    assert_eq!(
        sql(&format!("select outcome || ' ' || reason from tasks where uid = '{uid}'")),
        "Failed DeadlineExceeded"
    );
}

#[test]
fn branches_conditions_and_own_plans() {
    let ns = Namespace::new("plans");
    ns.sample("inline-plan.yaml");
    ns.sample("own-plan.yaml");
    ns.sample("agent.yaml");
    for task in ["inline-plan", "two-wallets", "bookkeeping"] {
        ns.wait_for(task, "Completed");
        ns.assert_recorded(task);
    }
    ns.apply(
        r#"{"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "skips"}, "spec": {"plan": {"steps": [
        {"name": "first", "skill": "check-balance", "input": {"address": "a", "transactions": []}},
        {"name": "never", "skill": "check-balance", "needs": ["first"], "when": "steps.first.output.balance > 0",
         "input": {"address": "a", "transactions": []}}]}}}"#,
    );
    ns.wait_for("skips", "Completed");
    let never = ns.step("skips", "never");
    assert_eq!((never["state"].as_str(), never["reason"].as_str()), (Some("Skipped"), Some("WhenFalse")));
    let plan = ns.kubectl(&["get", "task", "skips", "-o", "jsonpath={.status.plan.name}"]);
    let edit = r#"[{"op": "replace", "path": "/spec/steps/0/skill", "value": "other"}]"#;
    let refused = ns.refused(&["patch", "plan", &plan, "--type", "json", "-p", edit]);
    assert!(refused.contains("immutable"), "{refused}");
}

#[test]
fn steps_start_on_the_outcomes_that_they_name_and_finally_steps_always() {
    let ns = Namespace::new("outcomes");
    ns.sample("outcomes.yaml");
    let balance = json!({"address": "a", "transactions": []});
    let task = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "called-off"},
        "spec": {"plan": {"steps": [
            {"name": "check", "skill": "check-balance", "when": "1 > 2", "input": balance},
            {"name": "behind", "skill": "check-balance", "needs": ["check"], "input": balance},
            {"name": "signed", "skill": "check-balance", "approval": "Always", "input": balance},
            {"name": "clean", "skill": "check-balance", "finally": true,
             "input": {"address": "signed is ${steps.signed.outcome}", "transactions": []}}]}}});
    ns.apply(&task.to_string());
    ns.wait_for("called-off", "WaitingApproval");
    let behind = ns.step("called-off", "behind");
    assert_eq!((behind["state"].as_str(), behind["reason"].as_str()), (Some("Skipped"), Some("NeedNotMet")));
    ns.kubectl(&["patch", "task", "called-off", "--type", "merge", "-p", r#"{"spec":{"cancel":true}}"#]);
    ns.wait_for("called-off", "Cancelled");
    assert_eq!(ns.step("called-off", "signed")["state"], "Skipped");
    assert_eq!(ns.step("called-off", "clean")["state"], "Succeeded");
    ns.assert_recorded("called-off");

    let message = ns.wait_for("outcomes", "Completed");
    assert!(message.ends_with("failed, after which the Task went on: strict"), "{message}");
    for (step, state) in [("strict", "Failed"), ("lenient", "Succeeded"), ("report", "Succeeded")] {
        assert_eq!(ns.step("outcomes", step)["state"], state, "{step}");
    }
    ns.assert_recorded("outcomes");
}

#[test]
fn an_agent_may_use_only_what_it_is_allowed() {
    let ns = Namespace::new("agent");
    ns.sample("agent.yaml");
    ns.apply(
        r#"{"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "more"}, "spec": {
        "agentRef": {"name": "bookkeeper"}, "plan": {"steps": [
        {"name": "only", "skill": "policy-check", "input": {"balance": 1, "threshold": 1}}]}}}"#,
    );
    let message = ns.wait_for("more", "Rejected");
    assert!(message.contains("add it to its allowedSkills"), "{message}");
}

#[test]
fn an_image_of_ones_own_and_an_output_that_only_the_log_can_hold() {
    let ns = Namespace::new("image");
    // The runner's own image stands in for a foreign one: the runner is copied into it all the same.
    let runner = kubectl(&[
        "-n",
        countersign_e2e::SYSTEM,
        "get",
        "deployment",
        "countersign",
        "-o",
        r#"jsonpath={.spec.template.spec.containers[0].env[?(@.name=="COUNTERSIGN_RUNNER_IMAGE")].value}"#,
    ]);
    let skill = std::fs::read_to_string(root().join("config/samples/own-skill.yaml")).unwrap();
    assert!(skill.contains("command: [/word-count]"));
    let own = format!(
        r#"{{"apiVersion": "countersign.dev/v1alpha1", "kind": "Skill", "metadata": {{"name": "e2e-own-image"}}, "spec": {{
        "effect": "Read", "image": {{"reference": "{runner}", "command": ["/runner", "builtin", "json_transform",
        "{{words: (.text | split(\" \") | length)}}"]}}}}}}"#
    );
    ns.apply(&own);
    ns.apply(&one_step("words", "e2e-own-image", r#"{"text": "one two three"}"#));
    jq_skill("e2e-large", "[range(20000)]", "\"idempotent\": true");
    ns.apply(&one_step("large", "e2e-large", "{}"));
    ns.wait_for("words", "Completed");
    ns.wait_for("large", "Completed");
    let size: u64 = ns.step("large", "only")["outputBytes"].as_u64().unwrap();
    assert!(size > 100_000, "{size}");
    ns.assert_recorded("large");
}

#[test]
fn the_sandbox_is_what_it_says() {
    let ns = Namespace::new("sandbox");
    jq_skill("e2e-endless-sandbox", "def f: f; f", r#""timeout": "10m""#);
    ns.apply(&one_step("look", "e2e-endless-sandbox", "{}"));
    wait_until("its pod runs", countersign_e2e::SOON, || {
        ns.kubectl(&["get", "pods", "-l", "countersign.dev/step", "-o", "jsonpath={.items[*].status.phase}"])
            == "Running"
    });
    let pods = ns.list("pods");
    let spec = &pods["items"][0]["spec"];
    let container = &spec["containers"][0];
    assert_eq!(spec["hostUsers"], false);
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let default = json!("RuntimeDefault");
    assert_eq!(
        (&spec["securityContext"]["seccompProfile"]["type"], &container["securityContext"]["seccompProfile"]["type"]),
        (&default, &default)
    );
    // The Skill's own timeout, and half a minute for the runner to end it before the kubelet does.
    assert_eq!(spec["activeDeadlineSeconds"], 630);
    let amounts = json!({"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "128Mi"});
    assert_eq!((&container["resources"]["requests"], &container["resources"]["limits"]), (&amounts, &amounts));
    let volumes: Vec<&Value> =
        spec["volumes"].as_array().unwrap().iter().filter(|v| !v["emptyDir"].is_null()).collect();
    assert!(!volumes.is_empty(), "it has somewhere to write");
    for volume in volumes {
        assert_eq!(volume["emptyDir"], json!({"sizeLimit": "64Mi"}), "{volume}");
    }
    assert!(container["image"].as_str().unwrap().contains("@sha256:"));
    let secret = pods["items"][0]["metadata"]["labels"]["countersign.dev/attempt"].as_str().unwrap();
    assert_eq!(ns.get(&format!("secret/{secret}"))["immutable"], true);
    let jobs = ns.list("jobs");
    assert_eq!(jobs["items"][0]["spec"]["backoffLimit"], 0);
}

#[test]
fn a_tasks_own_plan_is_owned_by_it_and_its_digest_is_of_what_it_holds() {
    let ns = Namespace::new("stamped");
    ns.sample("inline-plan.yaml");
    ns.wait_for("inline-plan", "Completed");
    let task = ns.get("task/inline-plan");
    let plan = ns.get(&format!("plan/{}", task["status"]["plan"]["name"].as_str().unwrap()));
    let uid = &task["metadata"]["uid"];
    let owner = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "name": "inline-plan", "uid": uid,
        "controller": true, "blockOwnerDeletion": false});
    assert_eq!(plan["metadata"]["ownerReferences"], json!([owner]));
    assert_eq!(plan["spec"]["taskRef"], json!({"name": "inline-plan", "uid": uid}));
    let content = json!({"parallelism": plan["spec"]["parallelism"], "steps": plan["spec"]["steps"]});
    let digest = digest::of_json(&content).unwrap().to_string();
    assert_eq!((&plan["spec"]["digest"], &task["status"]["plan"]["digest"]), (&json!(digest), &json!(digest)));
    let recorded = sql(&format!("select name, digest from plans where task_uid = '{}'", uid.as_str().unwrap()));
    assert_eq!(recorded, format!("{}|{digest}", plan["metadata"]["name"].as_str().unwrap()));
    let recorded = sql(&format!("select steps from plans where task_uid = '{}'", uid.as_str().unwrap()));
    assert_eq!(
        serde_json::from_str::<Value>(&recorded).unwrap(),
        plan["spec"]["steps"],
        "what was recorded is what is shown"
    );
    ns.kubectl(&["delete", "task", "inline-plan"]);
    wait_until("the Plan goes with its Task", countersign_e2e::SOON, || {
        ns.kubectl(&["get", "plans", "-o", "name"]).is_empty()
    });
}

#[test]
fn a_policy_of_a_namespace_can_tighten_and_not_widen() {
    let ns = Namespace::new("policy");
    ns.sample("own-policy.yaml");
    ns.apply(
        r#"{"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "wide"}, "spec": {"rules": [
        {"name": "allow-all", "match": "true", "effect": "Allow"}]}}"#,
    );
    ns.sample("generic.yaml");
    ns.wait_for("water-the-plants", "Rejected");
    let mut tries = 0;
    wait_until("the Policy is in force", Duration::from_secs(60), || {
        tries += 1;
        let name = format!("signed-{tries}");
        ns.apply(&one_step(&name, "check-balance", r#"{"address": "a", "transactions": []}"#));
        wait_until("it was planned", Duration::from_secs(30), || {
            !["Pending", "Planning"].contains(&ns.phase(&name).0.as_str())
        });
        ns.phase(&name).0 == "WaitingApproval"
    });
}

/// As Flux does with what its time to live has removed.
#[test]
fn what_is_applied_again_after_it_is_gone_does_not_run_again() {
    let ns = Namespace::new("again");
    let manifest = |more: Value| {
        let step = json!({"name": "only", "skill": "check-balance", "input": {"address": "a", "transactions": []}});
        let mut spec = json!({"ttlSecondsAfterFinished": 2, "plan": {"steps": [step]}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "once"}, "spec": spec})
            .to_string()
    };
    let gone = || {
        wait_until("its time to live is up", countersign_e2e::SOON, || {
            ns.kubectl(&["get", "tasks", "-o", "name"]).is_empty()
        });
    };
    ns.apply(&manifest(json!({})));
    let first = ns.uid("once");
    gone();
    ns.apply(&manifest(json!({"ttlSecondsAfterFinished": 3600})));
    let message = ns.wait_for("once", "Completed");
    assert!(message.contains(&first) && message.contains("another spec.runId"), "{message}");
    let attempts = || {
        sql(&format!(
            "select count(*) from attempts a join tasks t on t.uid = a.task_uid where t.namespace = '{}'",
            ns.name
        ))
    };
    assert_eq!(attempts(), "1");
    ns.kubectl(&["delete", "task", "once"]);
    ns.apply(&manifest(json!({"runId": "2", "ttlSecondsAfterFinished": 3600})));
    ns.wait_for("once", "Completed");
    assert_eq!(attempts(), "2");
}

/// As Velero keeps it: what is written down goes, and annotations stay.
fn backup(ns: &Namespace, task: &str) -> Value {
    let mut object = ns.get(&format!("task/{task}"));
    object.as_object_mut().unwrap().remove("status");
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    object
}

#[test]
fn what_is_restored_from_a_backup_is_the_run_that_it_was() {
    const RUN: &str = "countersign.dev/run";
    let (ns, elsewhere) = (Namespace::new("backup"), Namespace::new("backup-elsewhere"));
    let step = json!({"name": "only", "skill": "check-balance", "input": {"address": "a", "transactions": []}});
    let task = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "once"},
        "spec": {"plan": {"steps": [step]}}});
    ns.apply(&task.to_string());
    ns.wait_for("once", "Completed");
    let (first, place) = (ns.uid("once"), kubectl(&["get", "namespace", &ns.name, "-o", "jsonpath={.metadata.uid}"]));
    let mark = json!(format!("{place}/{first}"));
    let marked = || ns.get("task/once")["metadata"]["annotations"][RUN] == mark;
    wait_until("the Task says which run it is", countersign_e2e::SOON, marked);
    // Nobody alters it, and what leaves it out keeps it.
    let another = json!({"metadata": {"annotations": {RUN: "a/b"}}}).to_string();
    let complaint = ns.refused(&["patch", "task", "once", "--type", "merge", "-p", &another]);
    assert!(complaint.contains("only the operator says which run a Task is"), "{complaint}");
    ns.kubectl(&["annotate", "task", "once", &format!("{RUN}-")]);
    ns.apply(&task.to_string());
    assert!(marked());

    let saved = backup(&ns, "once");
    let asked = saved["spec"]["requester"]["user"].clone();
    ns.kubectl(&["delete", "task", "once"]);
    for namespace in [&ns, &elsewhere] {
        namespace.grant("countersign-operator", "restorer");
    }
    let restorer = User::new("restorer", &[]);
    let restore = |to: &Namespace, object: &Value| {
        restorer.kubectl_with(&["-n", &to.name, "create", "-f", "-"], &object.to_string())
    };
    let attempts = || {
        sql(&format!(
            "select count(*) from attempts a join tasks t on t.uid = a.task_uid where t.namespace = '{}'",
            ns.name
        ))
    };
    // In another place it is refused with the fix, and so is a run that there never was.
    let fix = "remove metadata.annotations[countersign.dev/run] to ask for a run of your own";
    let complaint = restore(&elsewhere, &saved).unwrap_err();
    assert!(complaint.contains("the mark of a run in another namespace") && complaint.contains(fix), "{complaint}");
    let mut forged = saved.clone();
    forged["metadata"]["annotations"][RUN] = json!(format!("{place}/00000000-0000-0000-0000-000000000000"));
    let complaint = restore(&ns, &forged).unwrap_err();
    assert!(complaint.contains("the record knows no run") && complaint.contains(fix), "{complaint}");
    // As it was, and edited: it is that run, whoever brings it back.
    let mut edited = saved.clone();
    edited["spec"]["runId"] = json!("2");
    for object in [&saved, &edited] {
        restore(&ns, object).unwrap();
        let message = ns.wait_for("once", "Completed");
        assert!(message.contains(&first) && message.contains("create it without the annotation"), "{message}");
        assert_eq!(ns.get("task/once")["spec"]["requester"]["user"], asked);
        assert!(marked());
        assert_eq!(attempts(), "1");
        ns.kubectl(&["delete", "task", "once"]);
    }
    // Without the mark it is a request of whoever sends it.
    edited["metadata"].as_object_mut().unwrap().remove("annotations");
    restore(&ns, &edited).unwrap();
    ns.wait_for("once", "Completed");
    assert_eq!((ns.get("task/once")["spec"]["requester"]["user"].clone(), attempts()), (json!("restorer"), "2".into()));
}

#[test]
fn a_plan_of_two_hundred_steps() {
    let ns = Namespace::new("wide");
    let steps: Vec<_> = (0..200)
        .map(|n| {
            let needs: Vec<String> = (n >= 40).then(|| format!("s{}", n - 40)).into_iter().collect();
            // Of so many pods a node may fail to start one; that is not what this is about.
            json!({"name": format!("s{n}"), "skill": "check-balance", "needs": needs, "retry": {"limit": 1},
                "input": {"address": "a", "transactions": []}})
        })
        .collect();
    let task = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "wide"},
        "spec": {"plan": {"parallelism": 20, "steps": steps}}});
    let started = Instant::now();
    ns.apply(&task.to_string());
    wait_until("it completed", Duration::from_secs(400), || ns.phase("wide").0 == "Completed");
    let bytes = ns.get("task/wide")["status"].to_string().len();
    println!("200 steps in {:?}, a status of {bytes} bytes", started.elapsed());
    assert!(bytes < 256 * 1024);
    let uid = ns.uid("wide");
    assert_eq!(
        sql(&format!("select count(*) from attempts where task_uid = '{uid}' and outcome = 'Succeeded'")),
        "200"
    );
}
