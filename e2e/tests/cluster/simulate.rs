//! What would become of a Task, asked of the operator on the real cluster; and that asking leaves no trace.

use std::io::Write;
use std::process::{Command, Stdio};

use countersign_e2e::reader::Forward;
use countersign_e2e::{Namespace, SOON, kubectl, root, sql, text, wait_until};
use serde_json::{Value, json};

/// Somebody who may make Tasks in one namespace, and their token in a file.
fn requester(ns: &Namespace) -> String {
    ns.kubectl(&["create", "serviceaccount", "planner"]);
    let who = format!("--serviceaccount={}:planner", ns.name);
    for role in ["countersign-operator", "countersign-agent-user"] {
        ns.kubectl(&["create", "rolebinding", role, &format!("--clusterrole={role}"), &who]);
    }
    let file = std::env::temp_dir().join(format!("{}-token", ns.name));
    std::fs::write(&file, ns.kubectl(&["create", "token", "planner"])).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Exit code, and all that was printed.
fn simulate(forward: &Forward, token: &str, namespace: &str, arguments: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new("kubectl")
        .args(["countersign", "simulate", "-n", namespace, "--server", &forward.url, "--token-file", token])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

fn task(spec: Value) -> String {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "what-if"}, "spec": spec})
        .to_string()
}

/// Everything of the record that a Task's life could touch, and the newest version of anything of ours in the cluster.
fn traces(ns: &Namespace) -> String {
    let uid = format!("(select uid from tasks where namespace = '{}')", ns.name);
    let rows = sql(&format!(
        "select (select count(*) from tasks where namespace = '{0}'), (select count(*) from attempts where task_uid in {uid}),
            (select count(*) from reservations where namespace = '{0}'), (select count(*) from budget_decisions where namespace = '{0}'),
            (select count(*) from log_entries where task_uid in {uid}),
            (select coalesce(max(xmin::text::bigint), 0) from budgets where subject like '{0}%')",
        ns.name
    ));
    let objects = ns.kubectl(&[
        "get",
        "tasks,plans,approvals,agents,policies,jobs,pods,secrets",
        "-o",
        "jsonpath={.items[*].metadata.resourceVersion}",
    ]);
    format!("{rows} {objects}")
}

#[test]
fn what_would_become_of_a_task_is_known_before_and_asking_leaves_no_trace() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let ns = Namespace::new(&format!("what-if-{now}"));
    let sample = |name: &str| root().join("config/samples/budgets").join(name).to_str().unwrap().to_owned();
    kubectl(&["apply", "-f", &sample("skills.yaml")]);
    ns.kubectl(&["apply", "-f", &sample("agents.yaml"), "-f", &sample("policy.yaml")]);
    let (forward, token) = (Forward::open(), requester(&ns));
    wait_until("the Agents' budgets are counted", SOON, || {
        ns.get("agent/batch-agent")["status"]["today"]["remaining"] == "10"
    });
    let before = traces(&ns);

    // A picture, which leaves the cluster and is paid for, after a price.
    let url = |path: &str| format!("https://hooks.countersign.demo:28443{path}");
    let steps = json!([
        {"name": "price", "skill": "price-oracle", "input": {"url": url("/v1/price")}},
        {"name": "picture", "skill": "image-gen", "needs": ["price"],
         "input": {"method": "POST", "url": url("/v1/images/generations"), "body": {"prompt": "a coin"}}},
    ]);
    let wanted = task(json!({"agentRef": {"name": "user-agent"}, "plan": {"steps": steps}}));
    let (code, answer) = simulate(&forward, &token, &ns.name, &["-f", "-", "-o", "json"], &wanted);
    assert_eq!(code, 0, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("operator/core/simulation/v1.json")).unwrap())
            .unwrap();
    let complaints: Vec<String> =
        jsonschema::validator_for(&schema).unwrap().iter_errors(&answer).map(|error| error.to_string()).collect();
    assert_eq!(complaints, Vec::<String>::new(), "it is what the published schema says");
    assert_eq!(answer["feasible"], true);
    assert_eq!(answer["cost"]["maximum"], "0.09");
    let approvals = answer["approvals"].as_array().unwrap();
    assert_eq!(approvals.len(), 1, "the picture needs a signature: {approvals:?}");
    let (code, table) = simulate(&forward, &token, &ns.name, &["-f", "-"], &wanted);
    assert_eq!(code, 0);
    assert!(table.contains("picture") && table.contains("0.09"), "{table}");

    // What costs too much is not feasible, and says why.
    let dear = json!([{"name": "compute", "skill": "batch-compute", "input": {"values": [1, 2]}}]);
    let dear = task(json!({"agentRef": {"name": "batch-agent"}, "budget": "0.1", "plan": {"steps": dear}}));
    let (code, table) = simulate(&forward, &token, &ns.name, &["-f", "-"], &dear);
    assert_eq!(code, 3, "{table}");
    assert!(table.contains("it may cost up to 0.5"), "{table}");

    // A stricter Policy, tried and not installed.
    let stricter = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "no-pictures"},
        "spec": {"rules": [{"name": "pictures", "match": "skill.name == 'image-gen'", "effect": "Deny", "message": "no pictures"}]}});
    let file = std::env::temp_dir().join(format!("{}-policy.json", ns.name));
    std::fs::write(&file, stricter.to_string()).unwrap();
    let policy = file.to_str().unwrap();
    let (code, table) = simulate(&forward, &token, &ns.name, &["-f", "-", "--policy", policy], &wanted);
    assert_eq!(code, 3, "{table}");
    assert!(table.contains("no pictures"), "{table}");

    // Whoever may not make Tasks there is not answered, and what is wrong is named.
    let (code, refused) = simulate(&forward, &token, "default", &["-f", "-"], &wanted);
    assert_eq!(code, 1);
    assert!(refused.contains("may not"), "{refused}");
    let wrong = task(json!({"budget": "-1", "plan": {"steps": [{"name": "a", "skill": "s", "needs": ["z"]}]}}));
    let (code, refused) = simulate(&forward, &token, &ns.name, &["-f", "-"], &wrong);
    assert_eq!(code, 1);
    assert!(refused.contains("spec.budget") || refused.contains("there is no step"), "{refused}");

    assert_eq!(traces(&ns), before, "nothing of all that is anywhere");

    // What was said is what becomes of it.
    ns.apply(&task(json!({"agentRef": {"name": "user-agent"}, "plan": {"steps": [steps[0]]}})));
    ns.wait_for("what-if", "Completed");
    assert_eq!(ns.get("task/what-if")["status"]["cost"]["spent"], "0.05");
    // And the Policy that was tried would have changed nothing of it.
    let (code, past) = simulate(&forward, &token, &ns.name, &["--policy", policy, "--last", "10", "-o", "json"], "");
    assert_eq!(code, 0, "{past}");
    let past: Value = serde_json::from_str(&past).unwrap();
    assert_eq!(past["differences"], json!([]), "{past}");
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_file(&token).unwrap();
}
