//! A Skill in gVisor: the sandbox there is gVisor itself, and the log says so.

use countersign_e2e::{Namespace, jq_skill, kubectl, one_step, script, sql};
use serde_json::Value;

#[test]
fn a_skill_runs_in_gvisor_and_the_log_says_which_layers_held() {
    let why_not = script("e2e/cluster/gvisor.sh", &[]);
    if !why_not.is_empty() {
        println!("skipped: {why_not}");
        return;
    }
    let ns = Namespace::new("gvisor");
    jq_skill("e2e-gvisor", "{sum: (.numbers | add)}", r#""runtimeClassName": "gvisor""#);
    jq_skill("e2e-no-gvisor", "{sum: (.numbers | add)}", r#""idempotent": true"#);
    let finished = |task: &str, skill: &str| -> Value {
        ns.apply(&one_step(task, skill, r#"{"numbers": [1, 2, 3]}"#));
        ns.wait_for(task, "Completed");
        ns.assert_recorded(task);
        let of = format!("from audit where task_uid = '{}' and kind = 'finishAttempt'", ns.uid(task));
        assert_eq!(sql(&format!("select body ->> 'outcome' {of}")), "Succeeded", "of one attempt");
        serde_json::from_str(&sql(&format!("select body -> 'evidence' {of}"))).unwrap()
    };
    let inside = finished("inside", "e2e-gvisor");
    let outside = finished("outside", "e2e-no-gvisor");

    assert_eq!(inside["runtimeClass"], "gvisor", "{inside}");
    assert!(inside["kernel"].as_str().unwrap().ends_with("-gvisor"), "gVisor's kernel, not the node's: {inside}");
    assert_eq!(inside["noNewPrivs"], true, "{inside}");
    assert_eq!(inside["seccomp"], true, "gVisor has seccomp filters, and this one refused what it should: {inside}");
    assert!(inside.get("landlock").is_none(), "gVisor has no Landlock, and nobody may claim it: {inside}");
    assert!(inside["image"].as_str().unwrap().contains("@sha256:"), "{inside}");

    assert!(outside.get("runtimeClass").is_none(), "{outside}");
    let node = kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kernelVersion}"]);
    assert!(node.split_whitespace().any(|kernel| outside["kernel"] == kernel), "one of {node}: {outside}");
}
