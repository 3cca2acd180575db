//! Signatures while what guards them is down, gone or altered: nothing is dispatched. These tests take away what the
//! whole cluster shares, so they take their turns, and put it back.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_e2e::reader::Forward;
use countersign_e2e::scene::{INPUT, Scene, refused};
use countersign_e2e::{SOON, SYSTEM, kubectl, kubectl_with, one_step, text, wait_until};
use serde_json::{Value, json};

static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

const WEBHOOK: &str = "mutatingwebhookconfiguration/countersign";
const VALIDATING: &str = "validatingwebhookconfiguration/countersign";
const POLICY: &str = "validatingadmissionpolicy/countersign-approvals";
const BINDING: &str = "validatingadmissionpolicybinding/countersign-approvals";
const REQUESTERS: &str = "validatingadmissionpolicybinding/countersign-requesters";

/// Something that is taken away, and put back when this is dropped.
struct Taken {
    object: Value,
}

impl Taken {
    fn away(name: &str) -> Taken {
        let mut object: Value = serde_json::from_str(&kubectl(&["get", name, "-o", "json"])).unwrap();
        let metadata = object["metadata"].clone();
        object["metadata"] =
            json!({"name": metadata["name"], "labels": metadata["labels"], "annotations": metadata["annotations"]});
        object.as_object_mut().unwrap().remove("status");
        kubectl(&["delete", name]);
        Taken { object }
    }

    /// In its place, something else.
    fn replaced(name: &str, alter: impl FnOnce(&mut Value)) -> Taken {
        let taken = Taken::away(name);
        let mut other = taken.object.clone();
        alter(&mut other);
        create(&other);
        taken
    }
}

/// As Helm does it, so that the next upgrade finds nothing of somebody else's.
fn create(object: &Value) {
    let made = kubectl_with(&["apply", "--server-side", "--field-manager=helm", "-f", "-"], &object.to_string());
    assert!(made.status.success(), "{}", text(&made.stderr));
}

impl Drop for Taken {
    fn drop(&mut self) {
        let object = self.object.to_string();
        kubectl_with(&["delete", "--ignore-not-found", "-f", "-"], &object);
        create(&self.object);
    }
}

/// The guard is seen by the API server's own caches a moment later; until then a change might still pass.
fn settle(scene: &Scene, refused_now: bool) {
    let patch = json!({"spec": {"decisions": [forged(scene, "nobody")]}}).to_string();
    let arguments =
        ["-n", &scene.ns.name, "patch", "approval", &scene.approval, "--type=merge", "--dry-run=server", "-p", &patch];
    wait_until("the change has taken effect", SOON, || kubectl_with(&arguments, "").status.success() != refused_now);
}

fn forged(scene: &Scene, user: &str) -> Value {
    json!({"user": user, "approved": true, "at": "2026-01-01T00:00:00Z", "digest": scene.spec()["digest"], "seal": "AAAA"})
}

fn held(scene: &Scene, words: &str) {
    let task = scene.task();
    wait_until("it says why it waits", SOON, || {
        let step = scene.ns.step(&task, "only");
        step["message"].as_str().is_some_and(|message| message.contains(words))
    });
    scene.assert_nothing_ran();
}

#[test]
fn without_the_webhook_nothing_is_signed_and_a_forged_entry_counts_for_nothing() {
    let _turn = my_turn();
    let scene = Scene::new("guard-webhook");
    {
        let _webhook = Taken::away(WEBHOOK);
        // What one writes oneself now stays as it is written.
        settle(&scene, true);
        refused(
            scene.bob.sign(&scene.ns, &scene.approval),
            "the webhook that stamps signatures did not see this request",
        );
        refused(
            scene.bob.patch(&scene.ns, &scene.approval, &json!({"decisions": [forged(&scene, "alice")]})),
            "a decision is one's own",
        );
        refused(
            scene.dave.patch(&scene.ns, &scene.approval, &json!({"decisions": [forged(&scene, "dave")]})),
            "forbidden",
        );
        // One's own entry by hand passes the policy, and has no seal that holds.
        scene.bob.patch(&scene.ns, &scene.approval, &json!({"decisions": [forged(&scene, "bob")]})).unwrap();
        let task = one_step("unstamped", "check-balance", INPUT);
        let created = scene.dave.kubectl_with(&["-n", &scene.ns.name, "apply", "-f", "-"], &task);
        refused(created, "the webhook that stamps spec.requester did not see this request");
    }
    assert_eq!(scene.ns.signers(&scene.approval), ["bob"]);
    assert_eq!(scene.ns.approval_state(&scene.approval).0, "Pending");
    assert_eq!(scene.recorded_signatures(), "0");
    scene.assert_nothing_ran();
    wait_until("the webhook is back", SOON, || scene.bob.sign(&scene.ns, &scene.approval).is_ok());
    scene.finish();
}

#[test]
fn without_the_webhooks_what_was_asked_for_stays_and_so_does_who_asked() {
    let _turn = my_turn();
    let scene = Scene::new("guard-asked");
    let ns = scene.ns.name.as_str();
    let task = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "asked", "namespace": ns},
        "spec": {"suspend": true, "parameters": {"a": {"deep": [1, 2]}}, "plan": {"steps": [{"name": "only", "skill": "check-balance", "input": {"address": "a", "transactions": []}}]}}});
    scene.dave.kubectl_with(&["create", "-f", "-"], &task.to_string()).unwrap();
    let copy = scene.ns.get(&format!("task/{}", scene.task()))["status"]["plan"]["name"].as_str().unwrap().to_owned();
    let before = || (scene.ns.get("task/asked")["spec"].clone(), scene.ns.get(&format!("plan/{copy}"))["spec"].clone());
    let asked = before();
    let patch = |object: &[&str], patch: &Value| {
        let patch = patch.to_string();
        let kind = if patch.starts_with('[') { "--type=json" } else { "--type=merge" };
        scene.dave.kubectl(&[&["-n", ns, "patch"], object, &[kind, "-p", &patch]].concat())
    };
    let template = |namespace: &str, requester: Option<&str>| {
        let mut plan = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Plan",
            "metadata": {"name": "e2e-guard", "namespace": namespace}, "spec": {"steps": [{"name": "only", "skill": "check-balance"}]}});
        plan["spec"]
            .as_object_mut()
            .unwrap()
            .extend(requester.map(|user| ("requester".to_owned(), json!({"user": user}))));
        plan.to_string()
    };
    {
        let _webhooks = [WEBHOOK, VALIDATING].map(Taken::away);
        settle(&scene, true);
        for change in [
            json!({"spec": {"parameters": {"a": {"deep": [1, 3]}}}}),
            json!({"spec": {"parameters": {"b": 1}}}),
            json!([{"op": "remove", "path": "/spec/parameters"}]),
            json!([{"op": "replace", "path": "/spec/plan/steps/0/skill", "value": "generic-action"}]),
            json!([{"op": "add", "path": "/spec/plan/steps/0/input", "value": {"address": "b"}}]),
            json!([{"op": "replace", "path": "/spec/plan/parallelism", "value": 99}]),
        ] {
            let words = "spec.parameters and spec.plan are immutable; create a new Task";
            refused(patch(&["task", "asked"], &change), words);
        }
        for change in [
            json!([{"op": "replace", "path": "/spec/steps/0/skill", "value": "generic-action"}]),
            json!([{"op": "replace", "path": "/spec/steps/0/input/address", "value": "b"}]),
            json!([{"op": "add", "path": "/spec/steps/-", "value": {"name": "more", "skill": "generic-action"}}]),
            json!([{"op": "replace", "path": "/spec/parallelism", "value": 99}]),
        ] {
            refused(patch(&["plan", &copy], &change), "a Task's own copy of a Plan is immutable");
        }
        // What may change still may.
        patch(&["task", "asked"], &json!({"spec": {"ttlSecondsAfterFinished": 60}})).unwrap();
        patch(&["task", "asked"], &json!([{"op": "remove", "path": "/spec/ttlSecondsAfterFinished"}])).unwrap();
        let create = |template: &str| scene.dave.kubectl_with(&["create", "-f", "-"], template);
        refused(create(&template(ns, None)), "the webhook that stamps spec.requester did not see this request");
        refused(create(&template(ns, Some("alice"))), "spec.requester is whoever sends the request");
        // As Helm does it while the operator is not up yet.
        let installed = kubectl_with(&["create", "--dry-run=server", "-f", "-"], &template(SYSTEM, None));
        assert!(installed.status.success(), "{}", text(&installed.stderr));
    }
    assert_eq!(before(), asked);
    wait_until("the webhook is back", SOON, || {
        let again = template(ns, Some("alice"));
        scene.dave.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &again).is_ok()
    });
    scene.assert_untouched();
    scene.finish();
}

#[test]
fn without_the_policy_signatures_wait_until_it_is_back() {
    let _turn = my_turn();
    for (name, words) in [
        (BINDING, "ValidatingAdmissionPolicyBinding countersign-approvals is not there"),
        (POLICY, "ValidatingAdmissionPolicy countersign-approvals is not there"),
        (REQUESTERS, "ValidatingAdmissionPolicyBinding countersign-requesters is not there"),
    ] {
        let scene = Scene::new("guard-policy");
        {
            let _taken = Taken::away(name);
            for user in [&scene.alice, &scene.bob] {
                user.sign(&scene.ns, &scene.approval).unwrap();
            }
            wait_until("it has its signatures", SOON, || scene.ns.approval_state(&scene.approval).0 == "Approved");
            held(&scene, words);
        }
        let task = scene.task();
        scene.ns.wait_for(&task, "Completed");
    }
}

#[test]
fn a_guard_that_was_altered_is_no_guard() {
    let _turn = my_turn();
    let scene = Scene::new("guard-altered");
    let sign_all = || [&scene.alice, &scene.bob].map(|user| user.sign(&scene.ns, &scene.approval).unwrap());
    let policy = Taken::replaced(POLICY, |policy| {
        policy["spec"]["validations"].as_array_mut().unwrap().pop();
    });
    sign_all();
    held(&scene, "ValidatingAdmissionPolicy countersign-approvals was altered");
    // The one before the other is whole again, as nothing is held between the two.
    let webhook = Taken::replaced(WEBHOOK, |webhook| webhook["webhooks"][0]["failurePolicy"] = json!("Ignore"));
    drop(policy);
    held(&scene, "failurePolicy was altered");
    drop(webhook);
    let task = scene.task();
    scene.ns.wait_for(&task, "Completed");
}

#[test]
fn with_all_of_it_gone_a_forged_quorum_counts_for_nothing_then_and_later() {
    let _turn = my_turn();
    let scene = Scene::new("guard-all");
    {
        let _taken = [WEBHOOK, BINDING, POLICY].map(Taken::away);
        settle(&scene, false);
        let entries = json!([forged(&scene, "alice"), forged(&scene, "bob")]);
        scene.bob.patch(&scene.ns, &scene.approval, &json!({"decisions": entries})).unwrap();
        assert_eq!(scene.ns.signers(&scene.approval), ["alice", "bob"]);
    }
    wait_until("the webhook is back", SOON, || scene.alice.sign(&scene.ns, &scene.approval).is_ok());
    wait_until("what is real is recorded", SOON, || scene.recorded_signatures() == "1");
    assert_eq!(scene.ns.approval_state(&scene.approval).0, "Pending", "one real signature of two");
    scene.assert_nothing_ran();
    scene.finish();
}

#[test]
fn with_the_operator_down_nothing_is_signed_and_nothing_asked_for() {
    let _turn = my_turn();
    let scene = Scene::new("guard-down");
    let replicas = kubectl(&["-n", SYSTEM, "get", "deployment", "countersign", "-o", "jsonpath={.spec.replicas}"]);
    let scale =
        |replicas: &str| kubectl(&["-n", SYSTEM, "scale", "deployment/countersign", &format!("--replicas={replicas}")]);
    scale("0");
    wait_until("nobody serves", SOON, || {
        kubectl(&["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=countersign", "-o", "name"]).is_empty()
    });
    let signed = scene.alice.sign(&scene.ns, &scene.approval);
    let task = one_step("meanwhile", "check-balance", INPUT);
    let created = scene.dave.kubectl_with(&["-n", &scene.ns.name, "apply", "-f", "-"], &task);
    scale(&replicas);
    refused(signed, "failed calling webhook");
    refused(created, "failed calling webhook");
    kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/countersign", "--timeout=120s"]);
    scene.assert_untouched();
    scene.finish();
}

#[test]
fn the_webhook_answers_only_at_the_path_that_its_configurations_tell() {
    let told =
        |configuration| kubectl(&["get", configuration, "-o", "jsonpath={.webhooks[0].clientConfig.service.path}"]);
    let _turn = my_turn();
    let forward = Forward::to(443);
    let status = |path: &str| {
        let url = format!("{}{path}", forward.url);
        let arguments = ["-sk", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "-d", "{}", &url];
        text(&Command::new("curl").args(arguments).output().unwrap().stdout)
    };
    for (configuration, root) in [(WEBHOOK, "/mutate/"), (VALIDATING, "/validate/")] {
        let path = told(configuration);
        assert!(path.strip_prefix(root).is_some_and(|digits| digits.len() == 64), "{path}");
        assert_eq!(status(&path), "400", "it is asked for a review");
        for other in
            [root.trim_end_matches('/').to_owned(), format!("{root}{}", "0".repeat(64)), format!("/other{path}")]
        {
            assert_eq!(status(&other), "404", "{other}");
        }
    }
    let addresses =
        kubectl(&["-n", SYSTEM, "get", "service", "countersign", "-o", "jsonpath={.spec.publishNotReadyAddresses}"]);
    assert!(addresses.is_empty() || addresses == "false", "only replicas that are ready are called");
}
