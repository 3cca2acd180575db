//! What the tests against a real cluster share: kubectl, a namespace of one's own, the record in PostgreSQL.
//! Failures panic, as in any test; the message holds what the command said.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a library of tests")]

#[cfg(test)]
mod documents;
pub mod outside;
pub mod reader;
pub mod scene;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The operator's own namespace.
pub const SYSTEM: &str = "countersign-system";
/// Who signs for the tests' Tasks.
pub const SIGNER: &str = "signer";
/// How long anything that should happen may take; the machine may be slow.
pub const SOON: Duration = Duration::from_secs(120);

/// Where the repository is.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs kubectl; its standard input is `input`.
pub fn kubectl_with(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl is on the PATH: run the tests with `make test`");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs kubectl, which must succeed; returns what it printed.
pub fn kubectl(arguments: &[&str]) -> String {
    let output = kubectl_with(arguments, "");
    assert!(output.status.success(), "kubectl {}: {}", arguments.join(" "), text(&output.stderr));
    text(&output.stdout)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Runs a script of the repository, which must succeed.
pub fn script(path: &str, arguments: &[&str]) -> String {
    let output = Command::new(root().join(path)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{path} {}: {}", arguments.join(" "), text(&output.stderr));
    text(&output.stdout)
}

/// GET of a path from the operator's HTTP port of one pod; the whole answer, head and body.
pub fn forwarded_get(pod: &str, path: &str) -> String {
    let mut forward = Command::new("kubectl")
        .args(["-n", SYSTEM, "port-forward", &format!("pod/{pod}"), ":8080"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    // Kept to the end: kubectl ends when nobody reads what it says of each connection.
    let mut stdout = BufReader::new(forward.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
    let answer = port.and_then(|port| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    });
    forward.kill().unwrap();
    forward.wait().unwrap();
    answer.unwrap_or_else(|| format!("no answer: {said}"))
}

/// `kubectl countersign` with the record's URL and no cluster: whether it went well, and all that it printed.
pub fn countersign(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("kubectl-countersign")
        .args(arguments)
        .env("COUNTERSIGN_DATABASE_URL", script("e2e/cluster/postgres.sh", &["local-url"]))
        .env("KUBECONFIG", "/nowhere")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.success(), format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
}

/// One query of the record: lines of `|`-separated fields.
pub fn sql(query: &str) -> String {
    script("e2e/cluster/postgres.sh", &["psql", "-At", "-c", query])
}

/// Polls until `what` is so.
pub fn wait_until(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < limit, "gave up after {limit:?} waiting until {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A namespace for one test, deleted at its end.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new(name: &str) -> Namespace {
        let name = format!("e2e-{name}");
        kubectl(&["delete", "namespace", &name, "--ignore-not-found", "--timeout=120s"]);
        kubectl(&["create", "namespace", &name]);
        kubectl(&["label", "namespace", &name, "pod-security.kubernetes.io/enforce=restricted"]);
        wait_until("the default service account exists", SOON, || {
            kubectl_with(&["-n", &name, "get", "serviceaccount", "default"], "").status.success()
        });
        // Whoever asks never signs, so there is somebody who does.
        let signer = format!("--user={SIGNER}");
        kubectl(&["-n", &name, "create", "rolebinding", "signer", "--clusterrole=countersign-approver", &signer]);
        Namespace { name }
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["-n", &self.name], arguments].concat())
    }

    /// kubectl in this namespace, which must fail; returns what it complained of.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = kubectl_with(&[&["-n", self.name.as_str()], arguments].concat(), "");
        assert!(!output.status.success(), "kubectl {} was not refused: {}", arguments.join(" "), text(&output.stdout));
        text(&output.stderr)
    }

    pub fn apply(&self, manifest: &str) {
        let output = kubectl_with(&["-n", &self.name, "apply", "-f", "-"], manifest);
        assert!(output.status.success(), "{}\n{manifest}", text(&output.stderr));
    }

    pub fn sample(&self, name: &str) {
        let path = root().join("config/samples").join(name);
        self.kubectl(&["apply", "-f", path.to_str().unwrap()]);
    }

    /// Applies what must be refused; returns the complaint.
    pub fn apply_refused(&self, manifest: &str) -> String {
        let output = kubectl_with(&["-n", &self.name, "apply", "-f", "-"], manifest);
        assert!(!output.status.success(), "it was admitted:\n{manifest}");
        text(&output.stderr)
    }

    pub fn get(&self, object: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", object, "-o", "json"])).unwrap()
    }

    /// What steps have of a kind: a canary has Jobs and pods too.
    pub fn list(&self, kind: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", kind, "-l", "countersign.dev/step", "-o", "json"])).unwrap()
    }

    /// A Task's phase and message.
    pub fn phase(&self, task: &str) -> (String, String) {
        let task = self.get(&format!("task/{task}"));
        let conditions = task["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let of = |field: &str| {
            let succeeded = conditions.iter().find(|c| c["type"] == "Succeeded");
            succeeded.and_then(|c| c[field].as_str()).unwrap_or("Pending").to_owned()
        };
        (of("reason"), of("message"))
    }

    /// Waits until a Task is in this phase; returns the message. Ends early in another final phase.
    pub fn wait_for(&self, task: &str, phase: &str) -> String {
        let start = Instant::now();
        loop {
            let (now, message) = self.phase(task);
            if now == phase {
                return message;
            }
            let over = ["Completed", "Failed", "Rejected", "Cancelled"].contains(&now.as_str());
            assert!(!over && start.elapsed() < SOON, "{task} is {now}, not {phase}: {message}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A field of a step in a Task's status.
    pub fn step(&self, task: &str, step: &str) -> Value {
        let task = self.get(&format!("task/{task}"));
        let steps = task["status"]["steps"].as_array().cloned().unwrap_or_default();
        steps.into_iter().find(|s| s["name"] == step).unwrap_or_default()
    }

    pub fn wait_for_step(&self, task: &str, step: &str, state: &str) {
        wait_until(&format!("step {step} of {task} is {state}"), SOON, || self.step(task, step)["state"] == state);
    }

    pub fn uid(&self, task: &str) -> String {
        self.kubectl(&["get", "task", task, "-o", "jsonpath={.metadata.uid}"])
    }

    /// The name of the only Approval in this state.
    pub fn approval(&self, state: &str) -> String {
        let mut found = None;
        wait_until(&format!("an approval is {state}"), SOON, || {
            let list: Value = serde_json::from_str(&self.kubectl(&["get", "approvals", "-o", "json"])).unwrap();
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let so = |item: &&Value| {
                let conditions = item["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|c| c["type"] == "Approved" && c["reason"] == state)
            };
            found = items.iter().find(so).and_then(|item| item["metadata"]["name"].as_str().map(str::to_owned));
            found.is_some()
        });
        found.unwrap()
    }

    /// Gives a ClusterRole to a user within the namespace.
    pub fn grant(&self, role: &str, user: &str) {
        let (role, name) = (format!("--clusterrole={role}"), format!("{user}-{role}"));
        self.kubectl(&["create", "rolebinding", &name, &role, &format!("--user={user}")]);
    }

    /// The users of an Approval's decisions, in their order.
    pub fn signers(&self, approval: &str) -> Vec<String> {
        let decisions = self.get(&format!("approval/{approval}"))["spec"]["decisions"].clone();
        let decisions = decisions.as_array().cloned().unwrap_or_default();
        decisions.iter().filter_map(|decision| decision["user"].as_str().map(str::to_owned)).collect()
    }

    /// Reason and message of an Approval's condition.
    pub fn approval_state(&self, approval: &str) -> (String, String) {
        let approval = self.get(&format!("approval/{approval}"));
        let condition = approval["status"]["conditions"][0].clone();
        let of = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        (of("reason"), of("message"))
    }

    pub fn sign(&self, approval: &str, approved: bool) {
        let patch = format!(r#"{{"spec":{{"approved":{approved},"reason":"test"}}}}"#);
        self.kubectl(&["--as", SIGNER, "patch", "approval", approval, "--type", "merge", "-p", &patch]);
    }

    /// Asserts that no attempt of a Task ever had a second pod let in, and that the record agrees with the status.
    pub fn assert_recorded(&self, task: &str) {
        let uid = self.uid(task);
        let status = self.get(&format!("task/{task}"));
        for step in status["status"]["steps"].as_array().unwrap() {
            let name = step["name"].as_str().unwrap();
            let row = sql(&format!(
                "select outcome, coalesce(input_digest, ''), coalesce(output_digest, '') from step_overview
                 where task_uid = '{uid}' and step = '{name}'"
            ));
            let field = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
            assert_eq!(row, [field("state"), field("inputDigest"), field("outputDigest")].join("|"), "step {name}");
        }
        let doubled =
            sql(&format!("select key from attempts where task_uid = '{uid}' group by key having count(*) > 1"));
        assert_eq!(doubled, "");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        kubectl_with(&["delete", "namespace", &self.name, "--wait=false"], "");
    }
}

/// Somebody with a certificate and rights of their own.
pub struct User {
    kubeconfig: String,
}

impl User {
    /// A person of this name and these groups, as the cluster's CA vouches for.
    pub fn new(name: &str, groups: &[&str]) -> User {
        User { kubeconfig: script("e2e/cluster/user.sh", &[&[name], groups].concat()) }
    }

    /// kubectl as this person: what it printed, or what it complained of.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_with(arguments, "")
    }

    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let output = kubectl_with(&[&["--kubeconfig", self.kubeconfig.as_str()], arguments].concat(), input);
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// `kubectl countersign` as this person: whether it went well, and all that it printed.
    pub fn countersign(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("kubectl")
            .arg("countersign")
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.success(), format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
    }

    /// A merge patch of an Approval's spec.
    pub fn patch(&self, ns: &Namespace, approval: &str, spec: &Value) -> Result<String, String> {
        let patch = json!({"spec": spec}).to_string();
        let file = "--patch-file=/dev/stdin";
        self.kubectl_with(&["-n", &ns.name, "patch", "approval", approval, "--type=merge", file], &patch)
    }

    pub fn sign(&self, ns: &Namespace, approval: &str) -> Result<String, String> {
        self.patch(ns, approval, &json!({"approved": true, "reason": "checked"}))
    }
}

/// A Task with an inline Plan of one step of this Skill.
pub fn one_step(name: &str, skill: &str, input: &str) -> String {
    format!(
        r#"{{"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {{"name": "{name}"}},
        "spec": {{"plan": {{"steps": [{{"name": "only", "skill": "{skill}", "input": {input}}}]}}}}}}"#
    )
}

/// A Skill that runs a jq program; Skills are cluster-wide, so its name must be the test's own.
pub fn jq_skill(name: &str, program: &str, extra: &str) {
    let program = Value::String(program.to_owned());
    let manifest = format!(
        r#"{{"apiVersion": "countersign.dev/v1alpha1", "kind": "Skill", "metadata": {{"name": "{name}"}},
        "spec": {{"effect": "Read", "builtin": {{"name": "json_transform", "program": {program}}}, {extra}}}}}"#
    );
    let output = kubectl_with(&["apply", "-f", "-"], &manifest);
    assert!(output.status.success(), "{}", text(&output.stderr));
}
