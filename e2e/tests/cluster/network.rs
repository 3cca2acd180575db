//! Whether the cluster enforces NetworkPolicies is tried, told, and, where the chart asks for it, required. The local
//! cluster's network enforces none; rules of the node's own stand in for one that does.

use std::process::Command;

use countersign_e2e::{Namespace, SOON, SYSTEM, jq_skill, kubectl, one_step, root, text, wait_until};
use serde_json::Value;

/// Lets pods reach the broker's port and nothing else, as the operator's NetworkPolicy says; what is of the operator's
/// own namespace is left alone.
struct Enforced;

impl Enforced {
    fn new() -> Enforced {
        let ips = |selector: &str| {
            let all =
                kubectl(&["-n", SYSTEM, "get", "pods", "-l", selector, "-o", "jsonpath={.items[*].status.podIP}"]);
            all.split_whitespace().collect::<Vec<_>>().join(", ")
        };
        let broker = ips("app.kubernetes.io/name=countersign-broker");
        let ours = [ips("app.kubernetes.io/name=countersign"), broker.clone()].join(", ");
        let rules = "ct state established,related accept\n ip saddr != 10.215.0.0/16 accept\n";
        let table = format!(
            "table ip countersign_e2e {{
               chain forward {{ type filter hook forward priority 10; {rules} ip saddr {{ {ours} }} accept
                 ip daddr {{ {broker} }} tcp dport 8443 accept\n drop\n }}
               chain input {{ type filter hook input priority 10; {rules} ip saddr {{ {ours} }} accept\n drop\n }}
             }}"
        );
        nft(&["-f", "-"], &table);
        Enforced
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        nft(&["delete", "table", "ip", "countersign_e2e"], "");
    }
}

fn nft(arguments: &[&str], input: &str) {
    let mut child = Command::new("nft").args(arguments).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft {}: {input}", arguments.join(" "));
}

/// Upgrades the chart with one value changed.
fn require(required: bool) {
    let chart = root().join("charts/countersign");
    let value = format!("sandbox.requireNetworkPolicy={required}");
    let arguments = [
        "upgrade",
        "countersign",
        chart.to_str().unwrap(),
        "-n",
        SYSTEM,
        "--reuse-values",
        "--set",
        &value,
        "--wait",
        "--timeout",
        "3m",
    ];
    let output = Command::new("helm").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Puts the chart's own value back.
struct Required;

impl Drop for Required {
    fn drop(&mut self) {
        require(false);
    }
}

/// Status, reason and message of a Task's condition.
fn isolated(ns: &Namespace, task: &str) -> Option<(String, String, String)> {
    let task = ns.get(&format!("task/{task}"));
    let conditions = task["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == "NetworkIsolated")?;
    let of = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((of("status"), of("reason"), of("message")))
}

#[test]
fn what_the_network_lets_through_is_told_and_can_be_forbidden() {
    if text(&Command::new("nft").args(["list", "tables"]).output().unwrap().stdout).contains("kube-proxy") {
        on_a_network_that_enforces_nothing();
    } else {
        println!("skipped: what stands in for an enforcing network are rules of the local node");
    }
}

fn on_a_network_that_enforces_nothing() {
    jq_skill("e2e-network", ".", "\"timeout\": \"1m\"");
    let ns = Namespace::new("network-open");
    // Suspended, so that it is still there when the canary comes back.
    ns.apply(&one_step("told", "e2e-network", "{}").replace(r#""plan":"#, r#""suspend": true, "plan":"#));
    wait_until("the condition is there", SOON, || isolated(&ns, "told").is_some());
    let (status, reason, message) = isolated(&ns, "told").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotEnforced"));
    assert!(message.contains("10.214.0.1:443"), "{message}");
    ns.kubectl(&["patch", "task", "told", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    ns.wait_for("told", "Completed");
    let policy: Value = ns.get("networkpolicy/countersign-sandbox");
    assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));

    let _back = Required;
    require(true);
    ns.apply(&one_step("held", "e2e-network", "{}"));
    wait_until("the step says why it is held", SOON, || {
        ns.step("held", "only")["message"].as_str().is_some_and(|message| message.contains("reached 10.214.0.1:443"))
    });
    assert_eq!(
        ns.kubectl(&["get", "jobs", "-l", "countersign.dev/step=only", "-o", "name"]).lines().count(),
        1,
        "only the first's"
    );

    let enforced = Enforced::new();
    let closed = Namespace::new("network-closed");
    closed.apply(&one_step("runs", "e2e-network", "{}"));
    closed.wait_for("runs", "Completed");
    let (status, reason, _) = isolated(&closed, "runs").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Enforced"));
    let uid = closed.uid("runs");
    let evidence = countersign_e2e::sql(&format!(
        "select body->'evidence'->>'networkPolicy' from audit where task_uid = '{uid}' and kind = 'finishAttempt'"
    ));
    assert_eq!(evidence, "true");
    drop(enforced);
}
