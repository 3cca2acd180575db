//! The record over HTTPS: who may read what, what the answers hold, and log clients that know only C2SP's formats.

use std::process::{Command, Stdio};

use countersign_core::tlog::{Checkpoint, CompactRange, VerifyingKey, entry, leaf};
use countersign_e2e::reader::{Forward, Reader};
use countersign_e2e::{Namespace, SOON, kubectl, sql, text, wait_until};

/// A Task that a person rejected, all of it in the log.
fn rejected(ns: &Namespace) -> String {
    ns.sample("monitor-wallet.yaml");
    ns.wait_for("monitor-wallet", "WaitingApproval");
    ns.sign(&ns.approval("Pending"), false);
    ns.wait_for("monitor-wallet", "Rejected");
    let uid = ns.uid("monitor-wallet");
    logged(&uid);
    uid
}

fn logged(uid: &str) {
    let pending = || {
        sql(&format!(
            "select count(*) from log_entries e join log_pending p on p.entry = e.id where e.task_uid = '{uid}'"
        ))
    };
    wait_until("everything is in the tree", SOON, || pending() == "0");
}

#[test]
fn who_may_list_tasks_reads_them_and_nobody_else() {
    let (ns, other) = (Namespace::new("reading"), Namespace::new("reading-other"));
    let uid = rejected(&ns);
    let forward = Forward::open();
    let here = Reader::new(&forward, &ns.name, "here", Some(&ns.name));
    let there = Reader::new(&forward, &ns.name, "there", Some(&other.name));
    let nowhere = Reader::with_token(&forward, &kubectl(&["-n", &ns.name, "create", "token", "default"]));
    let path = |rest: &str| format!("/api/v1/namespaces/{}/{rest}", ns.name);

    // No token, a made-up one, one that has another's signature, one for somebody else's audience.
    let audience = kubectl(&["-n", &ns.name, "create", "token", "here", "--audience", "elsewhere"]);
    let (head, signature) = here.token.rsplit_once('.').unwrap();
    let bent = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for token in ["", "nonsense", &bent, &audience, &"x".repeat(4_000)] {
        let nobody = Reader::with_token(&forward, token);
        for path in [&path("tasks"), "/log/checkpoint", "/api/v1/keys", "/api/v1/tasks"] {
            nobody.refused(path, 401);
        }
    }
    // Known, and without a right.
    for reader in [&nowhere, &there] {
        for rest in ["tasks", "steps", "tasks/monitor-wallet", &format!("tasks/{uid}"), &format!("tasks/{uid}/entries")]
        {
            let said = reader.refused(&path(rest), 403);
            assert!(
                said.contains(&format!("may not list tasks of countersign.dev in namespace {}", ns.name)),
                "{said}"
            );
        }
    }
    for reader in [&nowhere, &there, &here] {
        for all in ["/api/v1/tasks", "/api/v1/steps", "/api/v1/entries", "/log/tile/entries/000.p/1"] {
            assert!(reader.refused(all, 403).contains("in all namespaces"), "{all}");
        }
        assert_eq!(reader.ask("POST", "/api/v1/exports").0, 403);
        // That there is a log, and how large it is, is no secret: its hashes are salted.
        assert_eq!(reader.get("/log/checkpoint").0, 200);
    }
    // A uid does not open another namespace's door.
    let elsewhere = format!("/api/v1/namespaces/{}/tasks/{uid}", other.name);
    there.refused(&elsewhere, 404);
    there.refused(&format!("{elsewhere}/entries"), 404);
    assert_eq!(there.ask("POST", &format!("{elsewhere}/exports")).0, 404);
    // A right that is taken away is gone at once.
    assert_eq!(here.get(&path("tasks")).0, 200);
    ns.kubectl(&["delete", "rolebinding", &format!("{}-here", ns.name)]);
    wait_until("the right is gone", SOON, || here.get(&path("tasks")).0 == 403);
}

#[test]
fn how_a_task_came_out_is_told_with_its_causes() {
    let ns = Namespace::new("reading-causes");
    // The record outlives the namespace of an earlier run.
    let start = sql(r#"select to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#);
    let uid = rejected(&ns);
    let forward = Forward::open();
    let reader = Reader::new(&forward, &ns.name, "reader", Some(&ns.name));
    let path = |rest: &str| format!("/api/v1/namespaces/{}/{rest}", ns.name);

    let task = reader.json(&path("tasks/monitor-wallet"));
    assert_eq!((&task["outcome"], &task["uid"]), (&"Rejected".into(), &uid.as_str().into()), "{task}");
    let causes: Vec<_> =
        task["causes"].as_array().unwrap().iter().map(|cause| cause["kind"].as_str().unwrap()).collect();
    assert_eq!(causes, ["Task", "Step", "Approval", "Signature"], "{task:#}");
    assert_eq!(task["causes"][3]["name"], "signer");
    assert_eq!(task["steps"][2]["state"], "Rejected");

    let states = reader.json(&path(&format!("tasks?state=Rejected&type=monitor_wallet&requester=admin&since={start}")));
    assert_eq!(states["items"][0]["uid"], uid.as_str(), "{states}");
    assert_eq!(reader.json(&path("tasks?state=Completed"))["items"].as_array().unwrap().len(), 0);
    let output = task["steps"][0]["output"]["digest"].as_str().unwrap().to_owned();
    let found = reader.json(&path(&format!("steps?hash={}", output.trim_start_matches("sha256:"))));
    assert_eq!(found["items"][0]["name"], "check_balance", "{found}");

    // Pages of one.
    let mut names = Vec::new();
    let mut next = Some(String::new());
    while let Some(cursor) = next {
        let page = reader.json(&path(&format!("steps?limit=1&since={start}{cursor}")));
        names.push(page["items"][0]["name"].as_str().unwrap().to_owned());
        next = page["continue"].as_str().map(|cursor| format!("&continue={cursor}"));
    }
    assert_eq!(names, ["check_balance", "policy_check", "monitor_action"]);

    for (wrong, why) in [
        ("tasks?limit=0", "limit: 0 is not between 1 and 1000"),
        ("tasks?since=yesterday", "since: is not a time such as"),
        ("tasks?continue=x", "continue: is not what an earlier page gave"),
        ("tasks?colour=red", "unknown field `colour`"),
        ("tasks/monitor-wallet/entries?size=999999999", "size: the log has"),
    ] {
        let said = reader.refused(&path(wrong), 400);
        assert!(said.contains(why), "{wrong}: {said}");
    }
    assert!(reader.refused(&path("tasks/nothing"), 404).contains("no Task nothing of namespace"));
    // Names never become labels.
    let metrics =
        kubectl(&["get", "--raw", "/api/v1/namespaces/countersign-system/services/countersign:8080/proxy/metrics"]);
    assert!(!metrics.contains(&ns.name) && !metrics.contains("monitor-wallet"), "{metrics}");
}

#[test]
fn a_log_client_reads_checkpoint_tiles_and_entries() {
    let ns = Namespace::new("reading-tiles");
    let forward = Forward::open();
    let auditor = Reader::new(&forward, &ns.name, "auditor", None);
    let key = auditor.json("/api/v1/keys")["keys"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    let key: VerifyingKey = key.parse().unwrap();
    let note = String::from_utf8(auditor.get("/log/checkpoint").1).unwrap();
    let checkpoint = Checkpoint::open(&note, &key).unwrap();

    // The root, from the bundles of entries alone and from the tiles alone.
    let (mut of_entries, mut of_tiles) = (CompactRange::default(), CompactRange::default());
    let mut index = 0;
    while index * 256 < checkpoint.size {
        let width = (checkpoint.size - index * 256).min(256);
        let partial = if width == 256 { String::new() } else { format!(".p/{width}") };
        let (status, tile) = auditor.get(&format!("/log/tile/0/{index:03}{partial}"));
        assert_eq!((status, tile.len() as u64), (200, 32 * width), "tile {index}");
        for hash in tile.as_chunks::<32>().0 {
            of_tiles.append(countersign_core::digest::Digest::from_raw(*hash), |_| ());
        }
        let (status, bundle) = auditor.get(&format!("/log/tile/entries/{index:03}{partial}"));
        assert_eq!(status, 200);
        let mut rest = bundle.as_slice();
        let mut count = 0;
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (body, after) = after.split_at(u16::from_be_bytes(*length).into());
            entry::open(body).unwrap();
            of_entries.append(leaf(body), |_| ());
            rest = after;
            count += 1;
        }
        assert_eq!(count, width);
        index += 1;
    }
    assert_eq!((of_entries.root(), of_tiles.root()), (checkpoint.root, checkpoint.root));
    auditor.refused("/log/tile/0/999", 404);
    auditor.refused("/log/tile/0/1", 400);
    auditor.refused("/log/tile/entries/999", 404);
}

#[test]
fn whoever_asks_too_much_waits_and_nobody_else() {
    let ns = Namespace::new("reading-limits");
    let forward = Forward::open();
    let greedy = Reader::new(&forward, &ns.name, "greedy", Some(&ns.name));
    let modest = Reader::new(&forward, &ns.name, "modest", Some(&ns.name));
    // As fast as it goes; 20 a second and five seconds' worth at once are allowed.
    let url = format!("{}/log/checkpoint", forward.url);
    let config: String = (0..600).map(|_| format!("url = \"{url}\"\noutput = /dev/null\n")).collect();
    let header = format!("Authorization: Bearer {}", greedy.token);
    let mut curl = Command::new("curl")
        .args([
            "-skZ",
            "--no-progress-meter",
            "--parallel-max",
            "6",
            "-H",
            &header,
            "-w",
            "%{http_code} %header{retry-after}\n",
            "-K",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut curl.stdin.take().unwrap(), config.as_bytes()).unwrap();
    let said = text(&curl.wait_with_output().unwrap().stdout);
    let refused: Vec<&str> = said.lines().filter(|line| line.starts_with("429")).collect();
    let answered = said.lines().filter(|line| line.starts_with("200")).count();
    assert!(answered >= 100 && !refused.is_empty(), "{answered} answered, {} refused", refused.len());
    assert!(refused.iter().all(|line| line.split_whitespace().nth(1).is_some_and(|wait| wait.parse::<u32>().is_ok())));
    assert_eq!(modest.get("/log/checkpoint").0, 200, "somebody else is answered");
    // It is not for ever.
    wait_until("the greedy one is answered again", SOON, || greedy.get("/log/checkpoint").0 == 200);
}
