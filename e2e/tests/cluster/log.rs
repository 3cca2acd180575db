//! The record, read by those who answer for it: the story of a Task, exports, and their verification offline.

use std::process::{Command, Stdio};

use countersign_e2e::reader::{Forward, Reader};
use countersign_e2e::{Namespace, SOON, countersign, kubectl, sql, text, wait_until};

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
    for expected in ["adopt", "by admin", "requestApproval", "approved, by signer", "intend", "Completed"] {
        assert!(story.contains(expected), "{expected} is not in:\n{story}");
    }
    let (told, json) = countersign(&["audit", &uid, "-o", "json"]);
    assert!(told && json.lines().next().unwrap().contains(r#""kind":"adopt""#), "{json}");

    // Which layers of the sandbox held, and the image that ran, by its own digest.
    let evidence = sql(&format!(
        "select distinct (body #>> '{{evidence,noNewPrivs}}') || (body #>> '{{evidence,seccomp}}') || (body #>> '{{evidence,userNamespace}}')
           || ((body #>> '{{evidence,landlock}}')::int >= 1) || ((body #>> '{{evidence,image}}') like '%sha256:%')
         from audit where task_uid = '{uid}' and kind = 'finishAttempt'"
    ));
    assert_eq!(evidence, "truetruetruetruetrue", "of every attempt");

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
    assert!(!holds && found.starts_with("Not proved: cannot tell whether this key was rotated"), "{found}");
    assert!(found.contains("finishAttempt of") && !found.contains("came with the export"), "{found}");

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

/// `kubectl countersign` as a reader of the API, who trusts what the cluster says it should.
fn reading(forward: &Forward, token: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("kubectl-countersign")
        .args(arguments)
        .args(["--server", &forward.url, "--token-file", token])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.success(), format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn readers_export_over_the_api_and_the_log_says_so_and_another_key_follows_the_first() {
    let ns = Namespace::new("log-api");
    ns.sample("generic.yaml");
    ns.wait_for("water-the-plants", "Rejected");
    let uid = ns.uid("water-the-plants");
    let pending = || sql("select count(*) from log_pending");
    wait_until("everything is in the tree", SOON, || pending() == "0");
    let forward = Forward::open();
    let (member, auditor) =
        (Reader::new(&forward, &ns.name, "member", Some(&ns.name)), Reader::new(&forward, &ns.name, "auditor", None));
    let folder = tempfile();
    let file = |name: &str| format!("{folder}/{name}");
    std::fs::write(file("member"), &member.token).unwrap();
    std::fs::write(file("auditor"), &auditor.token).unwrap();

    let (told, story) = reading(&forward, &file("member"), &["audit", "water-the-plants", "-n", &ns.name]);
    assert!(told && story.contains("adopt") && story.contains("Rejected"), "{story}");
    let (done, said) = reading(&forward, &file("member"), &["export", "--all", "-o", &file("all")]);
    assert!(!done && said.contains("403") && said.contains("in all namespaces"), "{said}");
    let task = ["export", "--task", "water-the-plants", "-n", &ns.name, "-o", &file("task")];
    let (done, said) = reading(&forward, &file("member"), &task);
    assert!(done, "{said}");
    assert!(countersign(&["verify", &file("task")]).0);
    let by = format!(
        "select count(*) from audit where kind = 'export' and task_uid = '{uid}' and body #>> '{{by,user}}' = 'system:serviceaccount:{}:member'",
        ns.name
    );
    assert_eq!(sql(&by), "1", "the log tells of the export");

    // What was configured is in the log, and so is what is gone.
    let before = sql("select max(id) from log_entries");
    let told = |kind: &str| {
        sql(&format!(
            "select count(*) from audit where seq > {before} and kind = '{kind}' and body #>> '{{object,namespace}}' = '{}'",
            ns.name
        ))
    };
    ns.apply(
        r#"{"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "p"},
                 "spec": {"rules": [{"name": "r", "match": "true", "effect": "Deny"}]}}"#,
    );
    wait_until("the Policy is logged", SOON, || told("configure") == "1");
    ns.kubectl(&["delete", "policy.countersign.dev", "p"]);
    wait_until("that it is gone is logged", SOON, || told("remove") == "1");

    // From the first key to the next, with the first one alone in hand.
    let trusted = file("task/log.key");
    let rotated = Command::new("kubectl-countersign").arg("rotate-key").output().unwrap();
    assert!(rotated.status.success(), "{}{}", text(&rotated.stdout), text(&rotated.stderr));
    let secret = kubectl(&["-n", "countersign-system", "get", "secret", "countersign-log", "-o", "jsonpath={.data}"]);
    assert!(!secret.contains("next.ed25519.key"), "it is the current one now");
    wait_until("everything is in the tree", SOON, || pending() == "0");
    let (done, said) = reading(&forward, &file("auditor"), &["export", "--all", "-o", &file("all")]);
    assert!(done, "{said}");
    let (holds, proved) = countersign(&["verify", &file("all"), "--key", &trusted]);
    assert!(holds && proved.contains("follows from the one that you trust"), "{proved}");
    let (consistent, said) = countersign(&["consistency", &file("task/checkpoint"), &file("all"), "--key", &trusted]);
    assert!(consistent, "{said}");
    // And the log goes on under it.
    ns.sample("monitor-wallet.yaml");
    ns.wait_for("monitor-wallet", "WaitingApproval");
    wait_until("everything is in the tree", SOON, || pending() == "0");
    let recently = sql(r#"select to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
           from log_leaves l join log_entries e on e.id = l.entry where l.index = (select max(index) - 2 from log_leaves)"#);
    let since = ["export", "--since", &recently, "-o", &file("since")];
    let (done, said) = reading(&forward, &file("auditor"), &since);
    assert!(done, "{said}");
    std::fs::write(file("today"), sql("select public from log_keys order by id desc limit 1")).unwrap();
    let (holds, proved) = countersign(&["verify", &file("since"), "--key", &file("today"), "--key-is-current"]);
    assert!(holds && proved.contains("all of its entries from "), "{proved}");
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile() -> String {
    let output = Command::new("mktemp").arg("-d").output().unwrap();
    text(&output.stdout)
}
