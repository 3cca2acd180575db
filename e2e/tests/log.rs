//! The record, read by those who answer for it: the story of a Task, exports, and their verification offline.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Stdio};

use countersign_e2e::{Namespace, SOON, script, sql, text, wait_until};

/// `kubectl countersign` with the record's URL and no cluster: whether it went well, and all that it printed.
fn countersign(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("kubectl-countersign")
        .args(arguments)
        .env("COUNTERSIGN_DATABASE_URL", script("e2e/cluster/postgres.sh", &["local-url"]))
        .env("KUBECONFIG", "/nowhere")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.success(), format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn what_was_done_is_told_exported_and_verified_offline() {
    let ns = Namespace::new("log");
    ns.sample("monitor-wallet.yaml");
    ns.wait_for("monitor-wallet", "WaitingApproval");
    ns.sign(&ns.approval("Pending"), true);
    ns.wait_for("monitor-wallet", "Completed");
    let uid = ns.uid("monitor-wallet");
    let pending = || {
        sql(&format!(
            "select count(*) from log_entries e join log_pending p on p.entry = e.id where e.task_uid = '{uid}'"
        ))
    };
    wait_until("everything is in the tree", SOON, || pending() == "0");

    let (told, story) = countersign(&["audit", "monitor-wallet", "-n", &ns.name]);
    assert!(told, "{story}");
    for expected in ["adopt", "asked for by admin", "requestApproval", "approved by signer", "intend", "Completed"] {
        assert!(story.contains(expected), "{expected} is not in:\n{story}");
    }
    let (told, json) = countersign(&["audit", &uid, "-o", "json"]);
    assert!(told && json.lines().next().unwrap().contains(r#""kind":"adopt""#), "{json}");

    let folder = tempfile();
    let task = format!("{folder}/task");
    let (done, said) = countersign(&["export", "--task", "monitor-wallet", "-n", &ns.name, "-o", &task]);
    assert!(done, "{said}");
    let (holds, proved) = countersign(&["verify", &task]);
    assert!(
        holds && proved.contains("stands in it at its place") && proved.contains("came with the export"),
        "{proved}"
    );
    let digest = ns.step("monitor-wallet", "monitor_action")["outputDigest"].as_str().unwrap().to_owned();
    let (holds, found) = countersign(&["verify", &task, "--key", &format!("{task}/log.key"), "--hash", &digest]);
    assert!(holds && found.contains("finishAttempt of") && !found.contains("came with the export"), "{found}");

    // One changed character, and it says which entry.
    let entries = std::fs::read_to_string(format!("{task}/entries.jsonl")).unwrap();
    let second = entries.lines().nth(1).unwrap();
    let first = entries.lines().next().unwrap();
    let index: serde_json::Value = serde_json::from_str(second).unwrap();
    std::fs::write(format!("{task}/entries.jsonl"), entries.replace(first, "").trim_start()).unwrap();
    assert!(countersign(&["verify", &task]).0, "some entries of a Task prove themselves, and say that they are some");
    let at = second.find("\"body\":\"").unwrap() + 48;
    let other = if &second[at..=at] == "A" { "B" } else { "A" };
    let bent = format!("{}{other}{}", &second[..at], &second[at + 1..]);
    std::fs::write(format!("{task}/entries.jsonl"), entries.replace(second, &bent)).unwrap();
    let (holds, why) = countersign(&["verify", &task]);
    assert!(!holds && why.contains(&format!("entry {}", index["index"])), "{why}");

    // The whole log, twice: the second begins with the first.
    let (early, late) = (format!("{folder}/early"), format!("{folder}/late"));
    let (done, said) = countersign(&["export", "--all", "-o", &early]);
    assert!(done, "{said}");
    ns.sample("generic.yaml");
    ns.wait_for("water-the-plants", "Rejected");
    let uid = ns.uid("water-the-plants");
    let pending = || {
        sql(&format!(
            "select count(*) from log_entries e join log_pending p on p.entry = e.id where e.task_uid = '{uid}'"
        ))
    };
    wait_until("everything is in the tree", SOON, || pending() == "0");
    let (done, said) = countersign(&["export", "--all", "-o", &late]);
    assert!(done, "{said}");
    for export in [&early, &late] {
        let (holds, proved) = countersign(&["verify", export]);
        assert!(holds && proved.contains("in their order, and nothing else"), "{proved}");
    }
    let (consistent, said) = countersign(&["consistency", &format!("{early}/checkpoint"), &late]);
    assert!(consistent && said.contains("are those that were signed before"), "{said}");
    let (consistent, said) = countersign(&["consistency", &late, &early]);
    assert!(!consistent && said.contains("rolled back"), "{said}");
    let (done, said) = countersign(&["export", "--all", "-o", &late]);
    assert!(!done && said.contains("exists; name a folder that does not"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile() -> String {
    let output = Command::new("mktemp").arg("-d").output().unwrap();
    text(&output.stdout)
}
