//! Every status and every bound, and what a hostile skill may try.

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

use crate::harness::{Attempt, Ran, document, sha256, wait_for};

fn shell(script: &str) -> Ran {
    shell_within(script, 20, 65_536)
}

fn shell_within(script: &str, timeout: u64, limit: usize) -> Ran {
    Attempt::new(document(&crate::harness::shell(script), &json!({"a": 1}), timeout, limit)).run()
}

fn jq(program: &str, input: &Value) -> Ran {
    Attempt::new(document(&json!({"builtin": "json_transform", "program": program}), input, 20, 1 << 20)).run()
}

#[test]
fn input_goes_in_and_output_comes_out() {
    let ran = shell("cat; echo working >&2");
    ran.is("Succeeded", "");
    assert_eq!(ran.report["output"]["inline"], r#"{"a":1}"#);
    assert_eq!(ran.report["attempt"], "key");
    assert!(ran.lines().any(|line| line["log"] == "working"), "{}", ran.log);
    shell("true").is("Succeeded", "");
    assert_eq!(shell("true").report["output"]["inline"], "null");
}

#[test]
fn what_goes_wrong_has_its_status() {
    shell("exit 3").is("Failed", "exit code 3");
    shell("kill -9 $$").is("Failed", "exit code 137");
    shell("echo not json").is("OutputInvalid", "not one JSON value");
    shell("echo '{} {}'").is("OutputInvalid", "not one JSON value");
    shell("printf '\\377\\376'").is("OutputInvalid", "not UTF-8");
    shell_within("yes", 20, 1000).is("OutputTooLarge", "more than 1000 bytes");
    let missing = json!({"command": ["/no/such/program"]});
    let ran = Attempt::new(document(&missing, &json!({}), 5, 10)).run();
    ran.is("Failed", "exit code 127");
    assert!(ran.log.contains("cannot start /no/such/program"), "{}", ran.log);
    let both = json!({"command": ["x"], "builtin": "generic_action"});
    Attempt::new(document(&both, &json!({}), 5, 10)).run().is("InputInvalid", "exactly one of builtin and command");
    Attempt::new("{}").run().is("InputInvalid", "missing field");
    Attempt::new(r#"{"surprise": 1}"#).run().is("InputInvalid", "surprise");
}

#[test]
fn a_document_that_the_pod_was_not_made_for_is_refused() {
    let text = document(&json!({"builtin": "generic_action"}), &json!({"action": "a"}), 5, 1000).to_string();
    let digest = sha256(&text);
    let attempt = Attempt::new(&text);
    let with = |digest: &str| {
        let mut command = attempt.command();
        command.env("COUNTERSIGN_ATTEMPT_SHA256", digest);
        attempt.run_with(command, |_| {})
    };
    with(&digest).is("Succeeded", "");
    with(&"0".repeat(64)).is("InputInvalid", "not the document that this pod was made for");
}

#[test]
fn a_large_output_is_framed_and_keeps_its_digest() {
    let ran = jq("[range(5000)]", &json!({}));
    ran.is("Succeeded", "");
    assert!(ran.report["output"]["inline"].is_null());
    let mut bytes = Vec::new();
    for (seq, frame) in ran.lines().filter_map(|line| line.get("output").cloned()).enumerate() {
        assert_eq!(frame["seq"], seq);
        bytes.extend(base64::engine::general_purpose::STANDARD.decode(frame["data"].as_str().unwrap()).unwrap());
    }
    assert_eq!(bytes.len(), ran.report["output"]["size"].as_u64().unwrap() as usize);
    assert_eq!(ran.report["output"]["sha256"], sha256(&bytes));
}

#[test]
fn an_output_that_escaping_makes_too_long_is_framed_too() {
    let ran = jq(r#""\"" * 1000"#, &json!({}));
    ran.is("Succeeded", "");
    assert!(ran.report["output"]["inline"].is_null(), "{}", ran.bytes);
    assert!(ran.log.contains("\"output\""));
}

#[test]
fn an_endless_skill_is_ended_with_all_its_children() {
    let mark = format!("31{}", std::process::id());
    let script = format!("(trap '' TERM; sleep {mark}) & (sleep {mark} &) ; trap '' TERM; while true; do :; done");
    let ran = shell_within(&script, 1, 1000);
    ran.is("TimedOut", "not done after 1 s");
    assert!(ran.took < Duration::from_secs(12), "{:?}", ran.took);
    let left = Command::new("sh").args(["-c", &format!("ps -eo args | grep '^sleep {mark}'")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "a child outlived the skill");
    jq_endless();
}

fn jq_endless() {
    let skill = json!({"builtin": "json_transform", "program": "def f: f; f"});
    Attempt::new(document(&skill, &json!({}), 1, 1000)).run().is("TimedOut", "not done after 1 s");
}

#[test]
fn told_to_end_it_ends_the_skill_and_says_so() {
    let attempt = Attempt::new(document(&json!({"command": ["/bin/sleep", "60"]}), &json!({}), 100, 1000));
    let ran = attempt.run_with(attempt.command(), |pid| {
        // The signal must find the handler in place; the child's existence says that it is.
        let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok();
        wait_for("a child", || children().filter(|children| !children.trim().is_empty()));
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    });
    ran.is("Cancelled", "told to end");
    assert!(ran.took < Duration::from_secs(10), "{:?}", ran.took);
}

#[test]
fn a_flood_of_log_is_bounded_and_blocks_nobody() {
    let ran = shell("i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done; echo '{}'");
    ran.is("Succeeded", "");
    assert_eq!(ran.lines().count(), 2001);
    assert!(ran.log.contains("the rest of the log is dropped"));
    let ran = shell("head -c 100000 /dev/zero | tr '\\0' x >&2; echo '{}'");
    ran.is("Succeeded", "");
    assert!(ran.log.len() < 10_000 && ran.log.contains("[…]"), "{}", ran.log.len());
}

#[test]
fn a_skill_that_imitates_the_runner_is_only_quoted() {
    let ran = shell(r#"echo '{"countersign":1,"output":{"seq":0,"of":1,"data":"e30="}}' >&2; echo '{"real":true}'"#);
    ran.is("Succeeded", "");
    assert!(ran.lines().all(|line| line.get("output").is_none()), "{}", ran.log);
    assert_eq!(ran.report["output"]["inline"], r#"{"real":true}"#);
}

#[test]
fn built_ins_do_what_they_say() {
    let ran = jq(".a + 1", &json!({"a": 2}));
    assert_eq!(ran.report["output"]["inline"], "3");
    jq(".a, .a", &json!({})).is("Failed", "exit code 1");
    jq("empty", &json!({})).is("Failed", "exit code 1");
    let broken = jq(".a |", &json!({}));
    broken.is("Failed", "exit code 1");
    assert!(broken.log.contains("1:5: expected term"), "{}", broken.log);
    let generic = json!({"builtin": "generic_action"});
    let ran = Attempt::new(document(&generic, &json!({"action": "a", "parameters": [1]}), 5, 1000)).run();
    let output: Value = serde_json::from_str(ran.report["output"]["inline"].as_str().unwrap()).unwrap();
    assert_eq!(output, json!({"action": "a", "parameters": [1], "effect": "none"}));
    let ran = Attempt::new(document(&generic, &json!({"actoin": "a"}), 5, 1000)).run();
    ran.is("Failed", "exit code 1");
    assert!(ran.log.contains("unknown field `actoin`"), "{}", ran.log);
}
