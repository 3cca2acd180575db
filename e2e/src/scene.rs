//! A Task that waits for signatures, the people who may give them, and what must not have happened.
#![allow(clippy::unwrap_used, reason = "a library of tests")]

use serde_json::{Value, json};

use crate::{Namespace, SOON, User, kubectl, kubectl_with, one_step, sql, wait_until};

/// A namespace in which everything takes two signatures, with a Task of dave's that waits for them; alice, bob and
/// carol may sign.
pub struct Scene {
    pub ns: Namespace,
    pub approval: String,
    pub uid: String,
    pub alice: User,
    pub bob: User,
    pub dave: User,
    /// The Approval as it was made.
    asked: Value,
}

/// The input of every step here.
pub const INPUT: &str = r#"{"address": "a", "transactions": []}"#;

impl Scene {
    pub fn new(name: &str) -> Scene {
        Scene::with(name, &json!({"count": 2}))
    }

    pub fn with(name: &str, approval: &Value) -> Scene {
        let ns = Namespace::new(name);
        for user in ["alice", "bob", "carol"] {
            ns.grant("countersign-approver", user);
        }
        ns.grant("countersign-operator", "dave");
        require(&ns, approval);
        let dave = User::new("dave", &["agents"]);
        let mut tries = 0;
        // A Policy reaches the operator by a watch; until then a Task would run without it.
        let task = loop {
            tries += 1;
            let task = format!("task-{tries}");
            dave.kubectl_with(&["-n", &ns.name, "apply", "-f", "-"], &one_step(&task, "check-balance", INPUT)).unwrap();
            wait_until("it was judged", SOON, || !["Pending", "Planning"].contains(&ns.phase(&task).0.as_str()));
            if ns.phase(&task).0 == "WaitingApproval" {
                break task;
            }
            assert!(tries < 30, "the Policy is not in force");
        };
        let uid = ns.uid(&task);
        let approval = sql(&format!("select name from approvals where task_uid = '{uid}'"));
        wait_until("the Approval is there", SOON, || {
            kubectl_with(&["-n", &ns.name, "get", "approval", &approval], "").status.success()
        });
        let asked = identity_and_spec(&ns, &approval);
        Scene { ns, approval, uid, alice: User::new("alice", &[]), bob: User::new("bob", &["security"]), dave, asked }
    }

    pub fn spec(&self) -> Value {
        self.ns.get(&format!("approval/{}", self.approval))["spec"].clone()
    }

    pub fn task(&self) -> String {
        self.asked["spec"]["taskRef"]["name"].as_str().unwrap().to_owned()
    }

    /// The Approval is the very object that was made, as it was made; nothing was signed, nothing runs, and the record
    /// says nothing else.
    pub fn assert_untouched(&self) {
        assert_eq!(identity_and_spec(&self.ns, &self.approval), self.asked);
        assert!(self.asked["spec"]["decisions"].is_null(), "it was made without decisions: {}", self.asked);
        self.assert_nothing_ran();
        assert_eq!(self.recorded_signatures(), "0");
    }

    pub fn assert_nothing_ran(&self) {
        assert_eq!(sql(&format!("select count(*) from attempts where task_uid = '{}'", self.uid)), "0");
        assert_eq!(
            self.ns.kubectl(&["get", "jobs", "-l", &format!("countersign.dev/task-uid={}", self.uid), "-o", "name"]),
            ""
        );
    }

    pub fn recorded_signatures(&self) -> String {
        sql(&format!("select count(*) from signatures where task_uid = '{}'", self.uid))
    }

    /// Two real signatures, and then it runs, once.
    pub fn finish(&self) {
        for user in [&self.alice, &self.bob] {
            user.sign(&self.ns, &self.approval).unwrap();
        }
        self.ns.wait_for(&self.task(), "Completed");
        assert_eq!(sql(&format!("select count(*) from attempts where task_uid = '{}'", self.uid)), "1");
    }
}

fn identity_and_spec(ns: &Namespace, approval: &str) -> Value {
    let approval = ns.get(&format!("approval/{approval}"));
    json!({"uid": approval["metadata"]["uid"], "spec": approval["spec"]})
}

/// A service account of the namespace, by a token of its own. Beside a certificate a token would not be looked at, so
/// this kubeconfig has none.
pub fn account(ns: &Namespace, name: &str) -> User {
    let token = ns.kubectl(&["create", "token", name]);
    let ours = kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]);
    let mut config: Value = serde_json::from_str(&ours).unwrap();
    config["users"] = json!([{"name": name, "user": {"token": token}}]);
    config["contexts"][0]["context"]["user"] = json!(name);
    let file = std::env::temp_dir().join(format!("{}-{name}.kubeconfig", ns.name));
    std::fs::write(&file, config.to_string()).unwrap();
    User { kubeconfig: file.to_str().unwrap().to_owned() }
}

/// A Policy that requires this of everything in the namespace.
pub fn require(ns: &Namespace, approval: &Value) {
    let policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "four-eyes"},
        "spec": {"rules": [{"name": "sign", "match": "true", "effect": "RequireApproval", "risk": "High", "approval": approval}]}});
    ns.apply(&policy.to_string());
}

/// Asserts that it was refused, in these words.
#[track_caller]
pub fn refused(result: Result<String, String>, words: &str) {
    match result {
        Ok(done) => panic!("it was not refused: {done}"),
        Err(complaint) => assert!(complaint.contains(words), "expected {words:?} in: {complaint}"),
    }
}
