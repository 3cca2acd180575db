//! Attacks on signatures, each as a person with `kubectl` and exactly the rights that it takes to try. Each must be
//! refused, or change nothing that counts: nothing runs, and the record stays as it was.

use std::time::Duration;

use countersign_e2e::scene::{INPUT, Scene, account, refused, require};
use countersign_e2e::{Namespace, SOON, User, jq_skill, kubectl, kubectl_with, one_step, sql, text, wait_until};
use serde_json::{Value, json};

#[test]
fn the_quorum_and_what_is_signed_for_cannot_be_changed() {
    let scene = Scene::new("attack-fields");
    let zeros = format!("sha256:{}", "0".repeat(64));
    for (field, value) in [
        ("required", json!({"count": 1})),
        ("digest", json!(zeros)),
        ("requester", json!({"user": "somebody"})),
        ("expiresAt", json!("2999-01-01T00:00:00Z")),
        ("risk", json!("Low")),
        ("step", json!("other")),
        ("taskRef", json!({"name": "other", "uid": "other"})),
        ("subject", json!({"input": {"address": "b"}})),
        ("onBehalfOf", json!("the boss")),
    ] {
        // Alone, and beside a signature of one's own.
        refused(scene.bob.patch(&scene.ns, &scene.approval, &json!({field: value})), "immutable");
        refused(scene.bob.patch(&scene.ns, &scene.approval, &json!({field: value, "approved": true})), "immutable");
    }
    scene.assert_untouched();
    scene.finish();
}

#[test]
fn decisions_of_others_can_be_neither_added_nor_changed_nor_dropped() {
    let scene = Scene::new("attack-decisions");
    let spec = scene.spec();
    let forged = |user: &str| json!({"user": user, "approved": true, "at": "2026-01-01T00:00:00Z", "digest": spec["digest"], "seal": "AAAA"});
    let all = json!([forged("alice"), forged("carol"), forged("bob")]);
    scene.bob.patch(&scene.ns, &scene.approval, &json!({"decisions": all})).unwrap();
    scene.assert_untouched();
    // With a real signature of one's own, in the same patch.
    scene.bob.patch(&scene.ns, &scene.approval, &json!({"decisions": all, "approved": true})).unwrap();
    assert_eq!(scene.ns.signers(&scene.approval), ["bob"]);
    for patch in [
        json!([{"op": "replace", "path": "/spec/decisions/0/user", "value": "alice"}]),
        json!([{"op": "replace", "path": "/spec/decisions/0/approved", "value": false}]),
        json!([{"op": "remove", "path": "/spec/decisions/0"}]),
        json!([{"op": "add", "path": "/spec/decisions/-", "value": forged("alice")}]),
        json!([{"op": "copy", "from": "/spec/decisions/0", "path": "/spec/decisions/-"}]),
    ] {
        let file =
            ["-n", &scene.ns.name, "patch", "approval", &scene.approval, "--type=json", "--patch-file=/dev/stdin"];
        scene.bob.kubectl_with(&file, &patch.to_string()).unwrap();
        assert_eq!(scene.ns.signers(&scene.approval), ["bob"], "after {patch}");
    }
    // Saying it again is no second signature.
    scene.bob.sign(&scene.ns, &scene.approval).unwrap();
    assert_eq!(scene.ns.signers(&scene.approval), ["bob"]);
    scene.assert_nothing_ran();
    scene.finish();
}

#[test]
fn server_side_apply_with_force_is_a_signature_or_nothing() {
    let scene = Scene::new("attack-ssa");
    let mut whole = scene.ns.get(&format!("approval/{}", scene.approval));
    let metadata = json!({"name": scene.approval, "namespace": scene.ns.name});
    whole["metadata"] = metadata.clone();
    whole.as_object_mut().unwrap().remove("status");
    let apply = |object: &Value| {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        scene.bob.kubectl_with(&arguments, &object.to_string())
    };
    whole["spec"]["required"] = json!({"count": 1});
    whole["spec"]["approved"] = json!(true);
    refused(apply(&whole), "immutable");
    scene.assert_untouched();
    let partial = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Approval", "metadata": metadata,
        "spec": {"approved": true, "reason": "applied"}});
    for _ in 0..3 {
        apply(&partial).unwrap();
    }
    assert_eq!(scene.ns.signers(&scene.approval), ["bob"], "applied again and again, it counts once");
    scene.assert_nothing_ran();
    scene.finish();
}

#[test]
fn nobody_signs_for_work_of_their_own() {
    let scene = Scene::new("attack-own");
    scene.ns.grant("countersign-approver", "dave");
    refused(scene.dave.sign(&scene.ns, &scene.approval), "dave asked for this work, and whoever asks never signs");
    // The same person with other groups is the same person.
    let other = kubectl_with(
        &[
            "-n",
            &scene.ns.name,
            "--as",
            "dave",
            "--as-group",
            "security",
            "patch",
            "approval",
            &scene.approval,
            "--type",
            "merge",
            "-p",
            r#"{"spec":{"approved":true}}"#,
        ],
        "",
    );
    assert!(text(&other.stderr).contains("whoever asks never signs"), "{}", text(&other.stderr));
    // By a token of a service account that may patch Approvals, and that no rule lists.
    let to_default = format!("--serviceaccount={}:default", scene.ns.name);
    scene.ns.kubectl(&["create", "rolebinding", "robot", "--clusterrole=countersign-approver", &to_default]);
    let robot = account(&scene.ns, "default");
    let who = robot.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).unwrap();
    assert_eq!(who, format!("system:serviceaccount:{}:default", scene.ns.name), "the token is who it is");
    refused(robot.sign(&scene.ns, &scene.approval), "is not listed");
    // As somebody else, without the right to be.
    let patch = r#"{"spec":{"approved":true}}"#;
    let arguments =
        ["-n", &scene.ns.name, "--as", "alice", "patch", "approval", &scene.approval, "--type", "merge", "-p", patch];
    refused(scene.dave.kubectl(&arguments), "cannot impersonate");
    // In the name of another from the start: the requester is stamped, whatever the manifest says.
    let mut task: Value = serde_json::from_str(&one_step("framed", "check-balance", INPUT)).unwrap();
    task["spec"]["requester"] = json!({"user": "alice"});
    scene.dave.kubectl_with(&["-n", &scene.ns.name, "apply", "-f", "-"], &task.to_string()).unwrap();
    assert_eq!(scene.ns.get("task/framed")["spec"]["requester"]["user"], "dave");
    let later = [
        "-n",
        &scene.ns.name,
        "patch",
        "task",
        "framed",
        "--type",
        "merge",
        "-p",
        r#"{"spec":{"requester":{"user":"alice"}}}"#,
    ];
    scene.dave.kubectl(&later).unwrap();
    assert_eq!(scene.ns.get("task/framed")["spec"]["requester"]["user"], "dave", "kept through an update");
    scene.assert_untouched();
}

#[test]
fn whoever_writes_a_template_is_named_in_it_whatever_it_says() {
    let scene = Scene::new("attack-plan-author");
    let plan = |requester: &str| {
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Plan", "metadata": {"name": "framed", "namespace": scene.ns.name},
            "spec": {"requester": {"user": requester}, "steps": [{"name": "only", "skill": "check-balance"}]}})
        .to_string()
    };
    let named = || scene.ns.get("plan/framed")["spec"]["requester"]["user"].clone();
    scene.dave.kubectl_with(&["create", "-f", "-"], &plan("alice")).unwrap();
    assert_eq!(named(), "dave");
    let uid = scene.ns.get("plan/framed")["metadata"]["uid"].clone();
    let framed = ["-n", scene.ns.name.as_str(), "patch", "plan", "framed"];
    for patch in [json!({"spec": {"requester": {"user": "alice"}}}), json!({"spec": {"requester": null}})] {
        let merge = ["--type=merge", "-p", &patch.to_string()];
        scene.dave.kubectl(&[&framed[..], &merge].concat()).unwrap();
        assert_eq!(named(), "dave", "after {patch}");
    }
    let remove = ["--type=json", "-p", r#"[{"op":"remove","path":"/spec/requester"}]"#];
    scene.dave.kubectl(&[&framed[..], &remove].concat()).unwrap();
    let force = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    scene.dave.kubectl_with(&force, &plan("alice")).unwrap();
    // Another person's edit does not make it theirs.
    scene.ns.grant("countersign-operator", "alice");
    scene.alice.kubectl_with(&force, &plan("alice")).unwrap();
    assert_eq!((named(), scene.ns.get("plan/framed")["metadata"]["uid"].clone()), (json!("dave"), uid));
    // The operator's copy for a Task carries the Task's requester, and no user makes such a copy.
    let copy = scene.ns.get(&format!("task/{}", scene.task()))["status"]["plan"]["name"].clone();
    let copy = scene.ns.get(&format!("plan/{}", copy.as_str().unwrap()));
    assert_eq!(copy["spec"]["requester"]["user"], "dave");
    let ready_made = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Plan",
        "metadata": {"name": "ready-made", "namespace": scene.ns.name}, "spec": copy["spec"]});
    refused(scene.dave.kubectl_with(&["create", "-f", "-"], &ready_made.to_string()), "spec.taskRef");
    scene.assert_untouched();
}

#[test]
fn the_status_and_ready_made_approvals_are_the_operators() {
    let scene = Scene::new("attack-status");
    let patch = r#"{"status":{"conditions":[{"type":"Approved","status":"True","reason":"Approved","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let arguments = [
        "-n",
        &scene.ns.name,
        "patch",
        "approval",
        &scene.approval,
        "--subresource=status",
        "--type",
        "merge",
        "-p",
        patch,
    ];
    refused(scene.bob.kubectl(&arguments), "forbidden");
    // Somebody gave a user far more than a role of ours holds.
    scene.ns.kubectl(&[
        "create",
        "role",
        "too-much",
        "--verb=*",
        "--resource=approvals.countersign.dev,approvals.countersign.dev/status",
    ]);
    scene.ns.kubectl(&["create", "rolebinding", "too-much", "--role=too-much", "--user=bob"]);
    refused(scene.bob.kubectl(&arguments), "only the operator writes the status");
    assert_eq!(scene.ns.approval_state(&scene.approval).0, "Pending");
    // Deleted and made anew by hand, with all signatures in it.
    let mut whole = scene.ns.get(&format!("approval/{}", scene.approval));
    whole["metadata"] = json!({"name": "ready-made", "namespace": scene.ns.name});
    whole["spec"]["decisions"] =
        json!([{"user": "alice", "approved": true, "at": "2026-01-01T00:00:00Z", "digest": whole["spec"]["digest"]}]);
    refused(scene.bob.kubectl_with(&["create", "-f", "-"], &whole.to_string()), "only the operator creates Approvals");
    scene.alice.sign(&scene.ns, &scene.approval).unwrap();
    wait_until("it is recorded", SOON, || scene.recorded_signatures() == "1");
    scene.bob.kubectl(&["-n", &scene.ns.name, "delete", "approval", &scene.approval]).unwrap();
    wait_until("the operator makes it anew", SOON, || {
        let found = kubectl_with(&["-n", &scene.ns.name, "get", "approval", &scene.approval], "");
        found.status.success()
    });
    assert_eq!(scene.ns.signers(&scene.approval), [""; 0]);
    assert_eq!(scene.recorded_signatures(), "1", "what alice said is on record");
    scene.assert_nothing_ran();
    scene.finish();
}

#[test]
fn a_consumed_approval_serves_nothing_else() {
    let scene = Scene::new("attack-replay");
    scene.finish();
    let used = scene.spec();
    scene
        .dave
        .kubectl_with(&["-n", &scene.ns.name, "apply", "-f", "-"], &one_step("second", "check-balance", INPUT))
        .unwrap();
    scene.ns.wait_for("second", "WaitingApproval");
    let second = scene.ns.approval("Pending");
    assert_ne!(second, scene.approval);
    scene.bob.patch(&scene.ns, &second, &json!({"decisions": used["decisions"]})).unwrap();
    assert_eq!(scene.ns.signers(&second), [""; 0]);
    refused(User::new("carol", &[]).sign(&scene.ns, &scene.approval), "Consumed");
    assert_eq!(sql(&format!("select count(*) from attempts where task_uid = '{}'", scene.ns.uid("second"))), "0");
}

#[test]
fn what_changes_after_a_signature_voids_it_and_is_named() {
    let scene = Scene::with("attack-change", &json!({"count": 2, "expiresAfter": "1h"}));
    let task = scene.task();
    let patch = |patch: &str| {
        scene.dave.kubectl(&["-n", &scene.ns.name, "patch", "task", &task, "--type", "merge", "-p", patch])
    };
    refused(patch(r#"{"spec":{"parameters":{"a":1}}}"#), "immutable");
    refused(patch(r#"{"spec":{"plan":{"steps":[{"name":"only","skill":"generic-action"}]}}}"#), "immutable");
    let plan = scene.ns.get(&format!("task/{task}"))["status"]["plan"]["name"].as_str().unwrap().to_owned();
    let edit = r#"[{"op":"replace","path":"/spec/steps/0/skill","value":"generic-action"}]"#;
    refused(
        scene.dave.kubectl(&["-n", &scene.ns.name, "patch", "plan", &plan, "--type", "json", "-p", edit]),
        "immutable",
    );
    scene.alice.sign(&scene.ns, &scene.approval).unwrap();
    // What is asked for is part of what is signed: another ask asks again, of as many as it says.
    require(&scene.ns, &json!({"count": 1, "expiresAfter": "2h"}));
    wait_until("it is void", SOON, || scene.ns.approval_state(&scene.approval).0 == "Superseded");
    assert!(
        scene.ns.approval_state(&scene.approval).1.contains("ask.required: 2 -> 1"),
        "{:?}",
        scene.ns.approval_state(&scene.approval)
    );
    refused(scene.bob.sign(&scene.ns, &scene.approval), "Superseded");
    scene.assert_nothing_ran();
    let again = scene.ns.approval("Pending");
    assert_ne!(again, scene.approval);
    scene.bob.sign(&scene.ns, &again).unwrap();
    scene.ns.wait_for(&task, "Completed");
}

#[test]
fn a_skill_that_changes_after_the_signature_is_not_the_one_that_was_signed_for() {
    let ns = Namespace::new("attack-skill");
    countersign_e2e::jq_skill("e2e-attack-skill", "{a: 1}", r#""idempotent": true"#);
    let task = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "t"},
        "spec": {"suspend": false, "plan": {"steps": [{"name": "only", "skill": "e2e-attack-skill", "approval": "Always"}]}}});
    ns.apply(&task.to_string());
    ns.wait_for("t", "WaitingApproval");
    let approval = ns.approval("Pending");
    // Held up, so that the signature is there and nothing has started when the Skill changes.
    ns.kubectl(&["patch", "task", "t", "--type", "merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    ns.sign(&approval, true);
    wait_until("it is approved", SOON, || ns.approval_state(&approval).0 == "Approved");
    countersign_e2e::jq_skill("e2e-attack-skill", "{a: 2}", r#""idempotent": true"#);
    ns.kubectl(&["patch", "task", "t", "--type", "merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    wait_until("it is void", SOON, || ns.approval_state(&approval).0 == "Superseded");
    assert!(ns.approval_state(&approval).1.contains("skill"), "{:?}", ns.approval_state(&approval));
    assert_eq!(ns.kubectl(&["get", "jobs", "-l", "countersign.dev/step", "-o", "name"]), "");
    kubectl(&["delete", "skill", "e2e-attack-skill"]);
}

#[test]
fn a_secret_or_a_job_put_in_the_place_of_ours_runs_nothing() {
    let scene = Scene::new("attack-plant");
    let task = scene.task();
    let key = countersign_core::names::attempt_key(&scene.uid, &task, "only", 1);
    // Whoever may make Jobs knows the name that the attempt will have.
    let job = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": key, "labels": {"countersign.dev/attempt": key, "countersign.dev/task-uid": scene.uid}},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {"labels": {"countersign.dev/attempt": key, "countersign.dev/task-uid": scene.uid}, "annotations": {"countersign.dev/task": task}},
            "spec": {"restartPolicy": "Never", "schedulingGates": [{"name": "countersign.dev/admit"}],
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": "skill", "image": "registry.local/countersign/evil:1", "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}}});
    scene.ns.apply(&job.to_string());
    for user in [&scene.alice, &scene.bob] {
        user.sign(&scene.ns, &scene.approval).unwrap();
    }
    let message = scene.ns.wait_for(&task, "Failed");
    assert!(message.contains("is not what was decided"), "{message}");
    assert_eq!(
        sql(&format!("select count(pod_uid) from attempts where task_uid = '{}'", scene.uid)),
        "0",
        "no pod was let in"
    );
    // A Secret with another input, put there before ours.
    scene
        .dave
        .kubectl_with(&["-n", &scene.ns.name, "apply", "-f", "-"], &one_step("second", "check-balance", INPUT))
        .unwrap();
    scene.ns.wait_for("second", "WaitingApproval");
    let key = countersign_core::names::attempt_key(&scene.ns.uid("second"), "second", "only", 1);
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": key}, "stringData": {"attempt.json": "{}"}});
    scene.ns.apply(&secret.to_string());
    let approval = scene.ns.approval("Pending");
    for user in [&scene.alice, &scene.bob] {
        user.sign(&scene.ns, &approval).unwrap();
    }
    let message = scene.ns.wait_for("second", "Failed");
    assert!(!message.contains("balance"), "{message}");
}

#[test]
fn nothing_is_signed_after_a_no_or_too_late() {
    let scene = Scene::new("attack-final");
    scene.alice.patch(&scene.ns, &scene.approval, &json!({"approved": false, "reason": "not like this"})).unwrap();
    for user in [&scene.bob, &scene.alice] {
        refused(user.sign(&scene.ns, &scene.approval), "rejected it already, and that is final");
    }
    let task = scene.task();
    assert!(scene.ns.wait_for(&task, "Rejected").contains("not like this"));
    scene.assert_nothing_ran();
    let late = Scene::with("attack-late", &json!({"count": 2, "expiresAfter": "8s"}));
    late.alice.sign(&late.ns, &late.approval).unwrap();
    wait_until("it is past its time", SOON, || late.ns.approval_state(&late.approval).0 == "Expired");
    refused(late.bob.sign(&late.ns, &late.approval), "it expired at");
    late.assert_nothing_ran();
}

#[test]
fn two_at_the_same_instant_both_count() {
    let scene = Scene::new("attack-instant");
    std::thread::scope(|scope| {
        let signed = [&scene.alice, &scene.bob].map(|user| scope.spawn(|| user.sign(&scene.ns, &scene.approval)));
        signed.into_iter().for_each(|signed| drop(signed.join().unwrap().unwrap()));
    });
    let mut signers = scene.ns.signers(&scene.approval);
    signers.sort();
    assert_eq!(signers, ["alice", "bob"]);
    let task = scene.task();
    scene.ns.wait_for(&task, "Completed");
    assert_eq!(scene.recorded_signatures(), "2");
}

#[test]
fn of_fifty_who_race_three_sign_and_one_job_runs() {
    let scene = Scene::with("attack-race", &json!({"count": 3}));
    scene.ns.kubectl(&["create", "rolebinding", "crowd", "--clusterrole=countersign-approver", "--group=crowd"]);
    let sign = |n: usize| {
        let name = format!("racer-{n}");
        let patch = r#"{"spec":{"approved":true}}"#;
        let arguments = [
            "-n",
            &scene.ns.name,
            "--as",
            &name,
            "--as-group",
            "crowd",
            "patch",
            "approval",
            &scene.approval,
            "--type",
            "merge",
            "-p",
            patch,
        ];
        kubectl_with(&arguments, "").status.success()
    };
    let signed = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..50).map(|n| scope.spawn(move || sign(n))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).filter(|signed| *signed).count()
    });
    assert_eq!((signed, scene.ns.signers(&scene.approval).len()), (3, 3));
    let task = scene.task();
    scene.ns.wait_for(&task, "Completed");
    assert_eq!(scene.recorded_signatures(), "3");
    assert_eq!(
        sql(&format!("select count(*), count(distinct pod_uid) from attempts where task_uid = '{}'", scene.uid)),
        "1|1"
    );
}

#[test]
fn every_group_must_be_represented() {
    let scene = Scene::with("attack-groups", &json!({"count": 1, "groups": ["security"]}));
    scene.alice.sign(&scene.ns, &scene.approval).unwrap();
    let carol = User::new("carol", &[]);
    refused(carol.sign(&scene.ns, &scene.approval), "each of these groups: security");
    wait_until("it says who is missing", SOON, || scene.ns.approval_state(&scene.approval).1.contains("security"));
    scene.assert_nothing_ran();
    scene.bob.sign(&scene.ns, &scene.approval).unwrap();
    let task = scene.task();
    scene.ns.wait_for(&task, "Completed");
}

#[test]
fn a_right_to_patch_is_no_right_to_sign() {
    let scene = Scene::new("attack-rights");
    scene.ns.kubectl(&["create", "role", "patcher", "--verb=get,patch,update", "--resource=approvals.countersign.dev"]);
    scene.ns.kubectl(&["create", "rolebinding", "patcher", "--role=patcher", "--user=eve"]);
    let eve = User::new("eve", &[]);
    refused(eve.sign(&scene.ns, &scene.approval), "it takes the verb approve on riskclasses/high");
    // A role for low risk is none for high.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "low"}, "rules": [
        {"apiGroups": ["countersign.dev"], "resources": ["riskclasses"], "resourceNames": ["low"], "verbs": ["approve"]}]});
    scene.ns.apply(&role.to_string());
    scene.ns.kubectl(&["create", "rolebinding", "low", "--role=low", "--user=eve"]);
    refused(eve.sign(&scene.ns, &scene.approval), "riskclasses/high");
    scene.assert_untouched();
}

#[test]
fn a_megabyte_of_reason_is_refused_with_its_bound() {
    let scene = Scene::new("attack-reason");
    let patch = json!({"approved": true, "reason": "a".repeat(1_000_000)});
    refused(scene.bob.patch(&scene.ns, &scene.approval, &patch), "at most 1024");
    scene.assert_untouched();
}

#[test]
fn names_that_look_alike_are_told_apart() {
    let scene = Scene::new("attack-names");
    let homoglyph = "аlice";
    scene.ns.kubectl(&[
        "create",
        "rolebinding",
        "look-alike",
        "--clusterrole=countersign-approver",
        &format!("--user={homoglyph}"),
    ]);
    scene.alice.sign(&scene.ns, &scene.approval).unwrap();
    let look_alike = User::new(homoglyph, &[]);
    look_alike.sign(&scene.ns, &scene.approval).unwrap();
    assert_eq!(scene.ns.signers(&scene.approval), ["alice", homoglyph]);
    wait_until("both are shown", SOON, || scene.ns.approval_state(&scene.approval).1.contains("\\u{430}lice, alice"));
    let events =
        || scene.ns.kubectl(&["get", "events", "--field-selector", &format!("involvedObject.name={}", scene.approval)]);
    wait_until("the events tell them apart", Duration::from_secs(30), || {
        events().contains("approved by \\u{430}lice: checked")
    });
}

/// Tags, a soft hyphen, a Hangul filler, an override of direction, an escape of a terminal, and what looks like an escape.
#[test]
fn what_would_hide_from_whoever_signs_is_spelt_out_wherever_they_read() {
    const HIDDEN: &str = "to\u{e0041}\u{ad}\u{3164}\u{202e}\u{1b}[2J \\u{202e}";
    const SHOWN: &str = r"to\u{e0041}\u{ad}\u{3164}\u{202e}\u{1b}[2J \u{5c}u{202e}";
    let ns = Namespace::new("attack-hidden");
    let task = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "hidden",
        "annotations": {"countersign.dev/on-behalf-of": HIDDEN}}, "spec": {"plan": {"steps": [
            {"name": "only", "skill": "check-balance", "approval": "Always",
                "input": {"address": HIDDEN, "transactions": []}}]}}});
    ns.apply(&task.to_string());
    ns.wait_for("hidden", "WaitingApproval");
    let approval = ns.approval("Pending");
    let spec = ns.get(&format!("approval/{approval}"))["spec"].clone();
    assert_eq!((spec["subject"]["input"]["address"].as_str(), spec["onBehalfOf"].as_str()), (Some(SHOWN), Some(SHOWN)));
    let described = ns.kubectl(&["describe", "approval", &approval]);
    assert!(described.contains(SHOWN), "{described}");
    let viewer = User::new("ivan", &[]);
    ns.grant("countersign-approver", "ivan");
    for command in [&["explain", "hidden"][..], &["explain", &approval]] {
        let (_, told) = viewer.countersign(&[&["-n", ns.name.as_str()], command].concat());
        assert!(told.contains(SHOWN), "{told}");
        assert!(!told.chars().any(|c| "\u{e0041}\u{ad}\u{3164}\u{202e}\u{1b}".contains(c)), "{told:?}");
    }
    // What a signer writes is read by the next.
    viewer.patch(&ns, &approval, &json!({"approved": false, "reason": HIDDEN})).unwrap();
    let reason = ns.get(&format!("approval/{approval}"))["spec"]["decisions"][0]["reason"].clone();
    assert_eq!(reason, SHOWN);
    ns.wait_for("hidden", "Rejected");
}

#[test]
fn a_namespaces_rule_cannot_bring_back_what_the_cluster_downgraded() {
    let ns = Namespace::new("attack-layers");
    jq_skill("e2e-layers-full", "{ran: \"full\"}", r#""downgradeTo": "e2e-layers-small""#);
    jq_skill("e2e-layers-small", "{ran: \"small\"}", r#""idempotent": true"#);
    let rule = |effect: &str| json!([{"name": "full", "match": format!("task.namespace == '{}' && skill.name == 'e2e-layers-full'", ns.name), "effect": effect}]);
    let policy = |namespace: &str, effect: &str| {
        let policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy",
            "metadata": {"name": "e2e-layers", "namespace": namespace}, "spec": {"rules": rule(effect)}});
        let applied = kubectl_with(&["apply", "-f", "-"], &policy.to_string());
        assert!(applied.status.success(), "{}", text(&applied.stderr));
    };
    policy("countersign-system", "Downgrade");
    policy(&ns.name, "RequireApproval");
    let mut tries = 0;
    let (task, approval) = loop {
        tries += 1;
        let task = format!("layers-{tries}");
        ns.apply(&one_step(&task, "e2e-layers-full", "{}"));
        wait_until("it was judged", SOON, || !["Pending", "Planning"].contains(&ns.phase(&task).0.as_str()));
        // Until both Policies have reached the operator, either alone binds.
        if ns.phase(&task).0 == "WaitingApproval" {
            let approval = ns.approval("Pending");
            if ns.get(&format!("approval/{approval}"))["spec"]["subject"]["skill"] == "e2e-layers-small" {
                break (task, approval);
            }
            ns.kubectl(&["patch", "task", &task, "--type", "merge", "-p", r#"{"spec":{"cancel":true}}"#]);
            ns.wait_for(&task, "Cancelled");
        }
        assert!(tries < 30, "the Policies are not in force");
    };
    ns.sign(&approval, true);
    ns.wait_for(&task, "Completed");
    assert_eq!(ns.step(&task, "only")["downgradedTo"], "e2e-layers-small");
    kubectl(&["-n", "countersign-system", "delete", "policy", "e2e-layers"]);
    kubectl(&["delete", "skill", "e2e-layers-full", "e2e-layers-small"]);
}
