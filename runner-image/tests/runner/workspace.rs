//! A Task's files: what is there at the start, what is kept, and what is not.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::broker::Broker;
use crate::harness::{Attempt, Ran, document, sha256, shell};

struct Files {
    broker: Broker,
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        Files { broker: Broker::start(), folder: crate::harness::folder() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    /// Runs a script in a workspace of these trees.
    fn run(&self, trees: &[&String], keep: bool, script: &str) -> Ran {
        let mut text = document(&shell(&format!("cd \"$COUNTERSIGN_WORKSPACE\" && {script}")), &json!({}), 30, 65_536);
        text["workspace"] = json!({"trees": trees, "keep": keep});
        // An empty volume for each pod.
        let _ = std::fs::remove_dir_all(self.path());
        std::fs::create_dir(self.path()).unwrap();
        let token = format!("token-{}", self.broker.state.sessions.lock().unwrap().len());
        Attempt::new(text).reaches(&self.broker, &token).with("COUNTERSIGN_WORKSPACE", self.path().display()).run()
    }

    /// What is kept under a digest.
    fn kept(&self, digest: &str) -> Vec<u8> {
        self.broker.state.files.lock().unwrap()[digest].to_vec()
    }
}

fn workspace(ran: &Ran) -> String {
    assert_eq!(ran.report["status"], "Succeeded", "{}{}", ran.report, ran.log);
    ran.report["workspace"].as_str().unwrap().to_owned()
}

#[test]
fn files_go_from_one_step_to_the_next() {
    let files = Files::new();
    let (one, two) =
        (files.broker.tree(&[("a.txt", "1"), ("d/b.txt", "2")]), files.broker.tree(&[("a.txt", "1"), ("c", "3")]));
    let script = "cat a.txt d/b.txt c >&2; echo >&2; mkdir -p new/deep empty; printf x > 'new/deep/ü \"q\".txt'; printf 1 > same; \
                  rm c; printf changed > d/b.txt";
    let ran = files.run(&[&one, &two], true, script);
    let digest = workspace(&ran);
    assert!(ran.log.contains("\"123\""), "{}", ran.log);
    let bytes = files.kept(&digest);
    let tree: Value = serde_json::from_slice(&bytes).unwrap();
    let entry = |content: &str| json!({"bytes": content.len(), "digest": format!("sha256:{}", sha256(content))});
    let expected = json!({"files": {"a.txt": entry("1"), "d/b.txt": entry("changed"), "new/deep/ü \"q\".txt": entry("x"),
        "same": entry("1")}});
    assert_eq!(tree, expected);
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected.to_string(), "canonical: sorted, without spaces");
    assert_eq!(digest, format!("sha256:{}", sha256(&bytes)));
    // Only what the broker did not have was sent, and the tree last.
    let mut uploads = files.broker.state.uploads.lock().unwrap().clone();
    assert_eq!(uploads.pop(), Some(digest.clone()));
    uploads.sort();
    let mut new = ["changed", "x"].map(|content| format!("sha256:{}", sha256(content)));
    new.sort();
    assert_eq!(uploads, new);
    let next = files.run(&[&digest], false, "cat d/b.txt >&2; echo >&2; ls >&2");
    next.is("Succeeded", "");
    assert!(next.log.contains("\"changed\"") && !next.log.contains("\"c\""), "{}", next.log);
    assert!(next.report["workspace"].is_null(), "{}", next.report);
}

#[test]
fn nothing_is_kept_of_a_skill_that_failed_or_may_not_write() {
    let files = Files::new();
    let ran = files.run(&[], true, "echo x > x; exit 3");
    ran.is("Failed", "exit code 3");
    assert!(ran.report["workspace"].is_null());
    files.run(&[], false, "echo x > x").is("Succeeded", "");
    assert_eq!(files.broker.state.uploads.lock().unwrap().len(), 0);
    assert_eq!(files.kept(&workspace(&files.run(&[], true, "true"))), br#"{"files":{}}"#);
}

#[test]
fn without_a_workspace_its_folder_is_not_written_to() {
    let files = Files::new();
    std::fs::create_dir(files.path()).unwrap();
    let attempt = Attempt::shell(&format!("echo x > {}/x", files.path().display()));
    let ran = attempt.reaches(&files.broker, "a-token").with("COUNTERSIGN_WORKSPACE", files.path().display()).run();
    assert!(ran.log.contains("Permission denied"), "{}", ran.log);
    assert!(!files.path().join("x").exists());
}

#[test]
fn trees_that_cannot_be_are_refused_before_the_start() {
    let files = Files::new();
    let (one, two) = (files.broker.tree(&[("a/b.txt", "1")]), files.broker.tree(&[("a/b.txt", "2")]));
    let ran = files.run(&[&one, &two], true, "echo started >&2");
    ran.is("InputInvalid", "\"a/b.txt\" differs between the trees ");
    let said = ran.report["message"].as_str().unwrap();
    assert!(said.contains(&one) && said.contains(&two), "{said}");
    assert!(!ran.log.contains("started"), "{}", ran.log);
    let above = files.broker.tree(&[("a", "file")]);
    files.run(&[&one, &above], true, "true").is("InputInvalid", "a file in one and a folder in the other");
    let leaving = files.broker.tree(&[("../../outside", "x")]);
    files.run(&[&leaving], true, "true").is("InputInvalid", "is not a plain relative path");
    assert!(!files.folder.path().join("outside").exists());
    files.run(&[&"sha256:../../x".to_owned()], true, "true").is("InputInvalid", "64 hexadecimal digits");
    let nowhere = format!("sha256:{}", "0".repeat(64));
    files.run(&[&nowhere], true, "true").is("Failed", "there is no such file (404 Not Found)");
    // A broker that says something else under a digest:
    files.broker.state.files.lock().unwrap().insert(nowhere.clone(), "{\"files\":{}}".into());
    files.run(&[&nowhere], true, "true").is("InputInvalid", "what came has another digest");
    let entry = json!({"files": {"a": {"bytes": 7, "digest": files.broker.keep("1")}}});
    let wrong = files.broker.keep(entry.to_string());
    files.run(&[&wrong], true, "true").is("InputInvalid", "\"a\" has 1 bytes; its tree says 7");
}

#[test]
fn only_plain_files_are_kept() {
    let files = Files::new();
    for (script, says) in [
        ("mkdir d; ln -s /etc/passwd d/link", "\"d/link\" is a symbolic link"),
        ("ln -s /proc link", "\"link\" is a symbolic link"),
        ("mkfifo pipe", "\"pipe\" is a pipe"),
        ("/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'", "\"sock\" is a socket"),
        ("echo x > one; ln one two", "is a hard link"),
        ("mknod device c 1 3", "\"device\" is a device"),
        ("touch \"$(printf 'bad\\377name')\"", "has a name that is not UTF-8"),
        ("mkdir -p $(seq -s / 40)", "is more than 32 folders deep"),
    ] {
        let ran = files.run(&[], true, script);
        ran.is("OutputInvalid", says);
        assert_eq!(ran.report["exitCode"], 0);
    }
    assert_eq!(files.broker.state.uploads.lock().unwrap().len(), 0);
}

#[test]
fn what_is_kept_has_bounds() {
    let files = Files::new();
    files.run(&[], true, "for at in $(seq 1001); do : > $at; done").is("OutputTooLarge", "more than 1000 files");
    files.run(&[], true, "for at in $(seq 1001); do mkdir $at; done").is("OutputTooLarge", "more than 1000 folders");
    files
        .run(&[], true, "head -c 8388609 /dev/zero > big")
        .is("OutputTooLarge", "\"big\" with more than 8388608 bytes");
    let all = "for at in 1 2 3 4; do head -c 8388608 /dev/zero > $at; done";
    files.run(&[], true, &format!("{all}; echo x > 5")).is("OutputTooLarge", "more than 33554432 bytes in all");
    workspace(&files.run(&[], true, all));
    workspace(&files.run(&[], true, "for at in $(seq 1000); do : > $at; done"));
}

#[test]
fn a_workspace_needs_the_broker_and_a_folder() {
    let mut text = document(&shell("true"), &json!({}), 5, 1000);
    text["workspace"] = json!({"trees": [], "keep": false});
    Attempt::new(&text).run().is("InputInvalid", "COUNTERSIGN_BROKER names none");
    let broker = Broker::start();
    let attempt = Attempt::new(text).reaches(&broker, "a-token");
    attempt.with("COUNTERSIGN_WORKSPACE", "/no/such/folder").run().is("Failed", "the pod mounts no /no/such/folder");
}
