//! What Skills do beyond their sandbox, and what they cannot: on the real cluster, with a real chain node, a receiver of
//! webhooks that checks signatures, and decoys that nothing may reach.

use std::sync::{Mutex, PoisonError};

use countersign_e2e::outside::{self, Decoy};
use countersign_e2e::{Namespace, SOON, SYSTEM, kubectl, kubectl_with, one_step, root, script, sql, text, wait_until};
use serde_json::{Value, json};

/// A Skill on this built-in.
fn skill(name: &str, builtin: &str, effect: &str, more: Value) {
    let mut spec = json!({"effect": effect, "idempotent": true, "builtin": {"name": builtin}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    apply_skill(name, &spec);
}

fn apply_skill(name: &str, spec: &Value) {
    let manifest =
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Skill", "metadata": {"name": name}, "spec": spec});
    let output = kubectl_with(&["apply", "-f", "-"], &manifest.to_string());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// What a step returned, from the record.
fn output(ns: &Namespace, task: &str, step: &str) -> Value {
    let body = sql(&format!(
        "select convert_from(o.body, 'UTF8') from steps s join outputs o on o.digest = s.output_digest
         where s.task_uid = '{}' and s.name = '{step}'",
        ns.uid(task)
    ));
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{task}/{step}: {error}: {body:?}"))
}

/// What became of a Task's calls, in order: `METHOD URL OUTCOME STATUS`.
fn calls(ns: &Namespace, task: &str) -> Vec<String> {
    let query = format!(
        "select concat_ws(' ', c.method, c.url, c.outcome, c.status) from calls c join attempts a on a.key = c.attempt
         where a.task_uid = '{}' order by a.intended_at, c.number",
        ns.uid(task)
    );
    sql(&query).lines().map(str::to_owned).collect()
}

/// Runs one step to its end, whatever that is; the phase and its message.
fn run(ns: &Namespace, task: &str, skill: &str, input: &Value) -> (String, String) {
    ns.apply(&one_step(task, skill, &input.to_string()));
    let over = ["Completed", "Failed", "Rejected"];
    wait_until(&format!("{task} is over"), SOON, || over.contains(&ns.phase(task).0.as_str()));
    ns.phase(task)
}

#[test]
fn a_wallet_is_watched_and_the_alarm_is_signed_for_and_delivered_once() {
    let ns = Namespace::new("chain");
    let chain = root().join("config/samples/chain");
    let file = |name: &str| chain.join(name).to_str().unwrap().to_owned();
    kubectl(&["apply", "-f", &file("skills.yaml")]);
    ns.kubectl(&["apply", "-f", &file("limits.yaml"), "-f", &file("plan.yaml")]);
    // An account of this test's own, so that the demo's is left as it is.
    let account = "0x00000000000000000000000000000000C0FFEE01";
    let task = std::fs::read_to_string(file("task.yaml")).unwrap();
    let task = task.replace("0x70997970C51812dc3A010C7d01b50e0d17dc79C8", account);
    outside::rpc("anvil_setBalance", &json!([account, "0x308b8f19700a4e0000"]));
    ns.apply(&task);
    ns.wait_for("watch-wallet", "Completed");
    assert_eq!(ns.step("watch-wallet", "notify")["state"], "Skipped");
    assert_eq!(output(&ns, "watch-wallet", "check_balance")["amount"], "895.5");
    let made = calls(&ns, "watch-wallet");
    assert!(
        !made.is_empty()
            && made.iter().all(|call| call.starts_with("POST http://chain.countersign.demo:28545/ answered 200")),
        "{made:?}"
    );

    ns.kubectl(&["delete", "task", "watch-wallet"]);
    outside::rpc("anvil_setBalance", &json!([account, "0x1"]));
    // The same request does not run again; this one asks for another run.
    ns.apply(&task.replace("spec:\n", "spec:\n  runId: again\n"));
    ns.wait_for("watch-wallet", "WaitingApproval");
    let approval = ns.approval("Pending");
    let subject = ns.get(&format!("approval/{approval}"))["spec"]["subject"].clone();
    assert_eq!(
        subject["egress"][0],
        "POST to https://hooks.countersign.demo:28443 /alarms, also at 10.0.0.0/8, showing Secret demo-webhook (secret)"
    );
    assert_eq!(subject["costCeiling"], "0.05");
    ns.sign(&approval, true);
    ns.wait_for("watch-wallet", "Completed");
    ns.assert_recorded("watch-wallet");
    let key = output(&ns, "watch-wallet", "notify")["idempotencyKey"].clone();
    let alarms: Vec<Value> = outside::received().into_iter().filter(|entry| entry["id"] == key).collect();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(alarms[0]["alarm"]["data"]["account"], account);
    // What it was recorded to cost, and the secret nowhere.
    let uid = ns.uid("watch-wallet");
    let cost = sql(&format!(
        "select sum(s.cost) from sessions s join attempts a on a.key = s.attempt where a.task_uid = '{uid}'"
    ));
    assert_eq!(cost, "10000");
    let key = kubectl(&["-n", SYSTEM, "get", "secret", "demo-webhook", "-o", "jsonpath={.data.secret}"]);
    let told = sql(&format!("select string_agg(body::text, '') from audit where task_uid = '{uid}'"));
    let objects = ns.kubectl(&["get", "tasks,plans,approvals,jobs,pods,secrets,events", "-o", "json"]);
    for (place, text) in [("the record", &told), ("the namespace", &objects)] {
        assert!(!text.contains("whsec_") && !text.contains(&key), "the secret is in {place}");
    }
    ns.kubectl(&["delete", "task", "watch-wallet"]);
}

/// To the receiver of webhooks; more, such as a credential, as given.
fn hooks(methods: &[&str], paths: &[&str], more: Value) -> Value {
    let mut egress = json!({"host": "hooks.countersign.demo", "port": 28443, "methods": methods, "paths": paths,
        "addresses": ["10.0.0.0/8"]});
    egress.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    egress
}

const HOOKS: &str = "https://hooks.countersign.demo:28443";

/// There is one metadata address, and one test at a time listens on it.
static METADATA: Mutex<()> = Mutex::new(());

#[test]
fn nobody_goes_where_the_skill_does_not_say_and_no_disguise_helps() {
    let ns = Namespace::new("egress");
    let _alone = METADATA.lock().unwrap_or_else(PoisonError::into_inner);
    let metadata = Decoy::at_added("169.254.169.254", 80);
    let internal = Decoy::at(&format!("{}:28999", outside::ip()));
    // It lists the internal host by a name that nobody resolves for it, and not its address range.
    let listed = json!([
        hooks(&["GET"], &["/hello", "/redirect"], json!({})),
        {"host": "169.254.169.254", "protocol": "Http"},
        {"host": "10.213.0.1", "protocol": "Http", "port": 28999},
    ]);
    skill("e2e-http", "http_call", "Read", json!({"egress": listed}));
    let call = |task: &str, input: Value| run(&ns, task, "e2e-http", &input);

    let (phase, message) = call("hello", json!({"url": format!("{HOOKS}/hello")}));
    assert_eq!(phase, "Completed", "{message}");
    assert_eq!(output(&ns, "hello", "only")["json"], json!({"hello": "world"}));

    let decoy = &internal.address;
    let refused = [
        ("path", json!({"url": format!("{HOOKS}/echo")}), "/echo"),
        ("dots", json!({"url": format!("{HOOKS}/hello/../echo")}), "/echo"),
        ("encoded", json!({"url": format!("{HOOKS}/hello%2f..%2fecho")}), ""),
        ("method", json!({"url": format!("{HOOKS}/hello"), "method": "POST", "body": {}}), "POST"),
        ("host", json!({"url": "https://elsewhere.example/"}), "elsewhere.example"),
        ("user", json!({"url": "https://hooks.countersign.demo:28443@169.254.169.254/"}), ""),
        ("metadata", json!({"url": "http://169.254.169.254/latest/meta-data/"}), "169.254.169.254"),
        ("decimal", json!({"url": "http://2852039166/"}), "169.254.169.254"),
        ("octal", json!({"url": "http://0251.0376.0251.0376/"}), "169.254.169.254"),
        ("hex", json!({"url": "http://0xa9fea9fe/"}), "169.254.169.254"),
        ("mapped", json!({"url": "http://[::ffff:169.254.169.254]/"}), ""),
        ("private", json!({"url": format!("http://{decoy}/")}), "10.213.0.1"),
        ("loopback", json!({"url": "http://127.0.0.1:8080/metrics"}), "127.0.0.1"),
        ("api", json!({"url": "https://10.214.0.1/version"}), "10.214.0.1"),
        (
            "redirect",
            json!({"url": format!("{HOOKS}/redirect?to=http://169.254.169.254/"), "followRedirects": 3}),
            "169.254.169.254",
        ),
        (
            "redirect-in",
            json!({"url": format!("{HOOKS}/redirect?to=http://{decoy}/"), "followRedirects": 3}),
            "10.213.0.1",
        ),
    ];
    // All at once, as each is a Task of its own.
    for (task, input, _) in &refused {
        ns.apply(&one_step(task, "e2e-http", &input.to_string()));
    }
    for (task, _, words) in &refused {
        ns.wait_for(task, "Failed");
        let of = format!("countersign.dev/task-uid={}", ns.uid(task));
        let log = ns.kubectl(&["logs", "-l", &of, "--tail=-1", "--prefix"]);
        assert!(log.contains(words), "{task}: {words:?} is not in {log}");
    }
    assert_eq!((metadata.hits(), internal.hits()), (0, 0), "a decoy was reached");
    let left: Vec<String> = ["hello", "redirect", "redirect-in"].iter().flat_map(|task| calls(&ns, task)).collect();
    assert_eq!(left.iter().filter(|call| call.contains(" answered ")).count(), 3, "{left:?}");
    // What was refused never left, and nobody else was asked.
    for task in ["path", "metadata", "decimal", "host"] {
        assert!(calls(&ns, task).iter().all(|call| !call.contains("answered")), "{task}: {:?}", calls(&ns, task));
    }
}

#[test]
fn a_policy_of_the_namespace_tightens_where_its_skills_go() {
    let ns = Namespace::new("tightened");
    skill("e2e-tight", "http_call", "Read", json!({"egress": [hooks(&["GET"], &[], json!({}))]}));
    let get = |task: &str, path: &str| run(&ns, task, "e2e-tight", &json!({"url": format!("{HOOKS}{path}")}));
    assert_eq!(get("before", "/echo").0, "Completed");
    let limits = json!({"egress": [{"host": "hooks.countersign.demo", "paths": ["/hello"]}]});
    let policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "limits"}, "spec": limits});
    ns.apply(&policy.to_string());
    let mut tries = 0;
    // It reaches the operator by a watch.
    while get(&format!("after-{tries}"), "/echo").0 != "Failed" {
        tries += 1;
        assert!(tries < 10, "the Policy is not in force");
    }
    assert_eq!(get("allowed", "/hello").0, "Completed");
}

#[test]
fn a_credential_is_shown_outside_and_never_in_the_sandbox() {
    let ns = Namespace::new("credential");
    let shown = json!({"credential": {"secret": "demo-api", "key": "api-key"}});
    skill("e2e-shows", "http_call", "Read", json!({"egress": [hooks(&["GET"], &["/echo"], shown)]}));
    let input = json!({"url": format!("{HOOKS}/echo"), "headers": {"authorization": "Bearer of-my-own"}});
    let (phase, message) = run(&ns, "echo", "e2e-shows", &input);
    assert_eq!(phase, "Completed", "{message}");
    let encoded = kubectl(&["-n", SYSTEM, "get", "secret", "demo-api", "-o", "jsonpath={.data.api-key}"]);
    let key = text(&base64(&encoded));
    let seen = output(&ns, "echo", "only").to_string();
    assert!(!seen.contains(&key), "{seen}");
    assert!(seen.contains("[redacted by the broker]") && !seen.contains("of-my-own"), "{seen}");
    let everything = ns.kubectl(&["get", "tasks,jobs,pods,secrets", "-o", "json"]);
    let log = ns.kubectl(&["logs", "-l", "countersign.dev/step=only", "--tail=-1"]);
    assert!(!everything.contains(&key) && !everything.contains(&encoded) && !log.contains(&key));
}

fn base64(text: &str) -> Vec<u8> {
    let output = std::process::Command::new("base64")
        .arg("-d")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = output.unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn an_annotation_of_a_secret_voids_no_signature() {
    let ns = Namespace::new("secret-annotated");
    let shown = json!({"credential": {"secret": "demo-api", "key": "api-key"}});
    skill("e2e-resigned", "http_call", "External", json!({"egress": [hooks(&["GET"], &["/hello"], shown)]}));
    ns.apply(&one_step("resigned", "e2e-resigned", &json!({"url": format!("{HOOKS}/hello")}).to_string()));
    let approval = ns.approval("Pending");
    // What is in it is the same.
    kubectl(&[
        "-n",
        SYSTEM,
        "annotate",
        "--overwrite",
        "secret",
        "demo-api",
        &format!("touched-by={}", std::process::id()),
    ]);
    ns.sign(&approval, true);
    ns.wait_for("resigned", "Completed");
    assert_eq!(ns.approval_state(&approval).0, "Consumed", "it ran under that very signature");
}

#[test]
fn a_token_that_was_used_is_of_no_more_use() {
    let ns = Namespace::new("token");
    skill("e2e-waits", "http_call", "Read", json!({"egress": [hooks(&["GET"], &["/hello"], json!({}))]}));
    assert_eq!(run(&ns, "used", "e2e-waits", &json!({"url": format!("{HOOKS}/hello")})).0, "Completed");
    let key = ns.kubectl(&["get", "jobs", "-l", "countersign.dev/step", "-o", "jsonpath={.items[0].metadata.name}"]);
    let token = text(&base64(&ns.kubectl(&["get", "secret", &key, "-o", "jsonpath={.data.token}"])));
    let broker = kubectl(&["-n", SYSTEM, "get", "service", "countersign-broker", "-o", "jsonpath={.spec.clusterIP}"]);
    let open = |attempt: &str, token: &str| {
        let body = json!({"attempt": attempt, "token": token}).to_string();
        let url = format!("https://{broker}:8443/v1/sessions");
        let arguments = [
            "-sk",
            "--max-time",
            "10",
            "-w",
            " %{http_code}",
            "-H",
            "content-type: application/json",
            "-d",
            &body,
            &url,
        ];
        text(&std::process::Command::new("curl").args(arguments).output().unwrap().stdout)
    };
    let again = open(&key, &token);
    assert!(again.ends_with(" 409") || again.ends_with(" 410"), "{again}");
    let guessed = open(&key, &token.chars().rev().collect::<String>());
    assert!(guessed.ends_with(" 401"), "{guessed}");
    let nobody = open("no-such-attempt", &token);
    assert!(nobody.ends_with(" 401"), "{nobody}");
}

#[test]
fn files_are_handed_on_and_stay_in_the_workspace() {
    let ns = Namespace::new("files");
    skill("e2e-writes", "fs_write", "Write", json!({"workspace": "Write"}));
    skill("e2e-reads", "fs_read", "Read", json!({"workspace": "Read"}));
    let write = |name: &str, needs: &[&str], path: &str, content: &str| json!({"name": name, "skill": "e2e-writes", "needs": needs, "input": {"path": path, "content": content}});
    let read = |name: &str, needs: &[&str], path: &str| json!({"name": name, "skill": "e2e-reads", "needs": needs, "input": {"path": path}});
    let task = |name: &str, steps: Value| {
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": name},
            "spec": {"plan": {"steps": steps}}})
        .to_string()
    };
    let steps = json!([
        write("one", &[], "notes/a.txt", "from one"),
        write("two", &["one"], "notes/b.txt", "from two"),
        read("back", &["two"], "notes/a.txt"),
        read("beside", &["two"], "notes/b.txt"),
    ]);
    ns.apply(&task("handed", steps));
    ns.wait_for("handed", "Completed");
    assert_eq!(output(&ns, "handed", "back")["content"], "from one");
    assert_eq!(output(&ns, "handed", "beside")["content"], "from two");
    let trees = sql(&format!("select count(distinct workspace) from steps where task_uid = '{}'", ns.uid("handed")));
    assert_eq!(trees, "2");
    for (name, path) in
        [("up", "../../etc/passwd"), ("absolute", "/etc/passwd"), ("input", "../countersign/input/token")]
    {
        ns.apply(&task(name, json!([read("only", &[], path)])));
        ns.wait_for(name, "Failed");
    }
    // Two that know nothing of each other cannot both have the last word.
    let both = json!([
        write("left", &[], "same.txt", "left"),
        write("right", &[], "same.txt", "right"),
        read("which", &["left", "right"], "same.txt"),
    ]);
    ns.apply(&task("both", both));
    let message = ns.wait_for("both", "Failed");
    assert!(message.contains("same.txt"), "{message}");
}

#[test]
fn an_attacker_with_a_shell_and_curl_gets_nowhere() {
    let ns = Namespace::new("attacker");
    let image = script("e2e/attacker/image.sh", &[]);
    let _alone = METADATA.lock().unwrap_or_else(PoisonError::into_inner);
    let metadata = Decoy::at_added("169.254.169.254", 80);
    let internal = Decoy::at(&format!("{}:28998", outside::ip()));
    let resolver = Decoy::at_added("10.213.99.53", 53);
    let spec = json!({"effect": "External", "timeout": "5m", "image": {"reference": image, "command": ["/bin/attack"]},
        "resources": {"cpu": "200m", "memory": "128Mi"},
        "egress": [hooks(&["GET"], &["/hello"], json!({}))]});
    apply_skill("e2e-attacker", &spec);
    let api = kubectl(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"]);
    let decoys = [metadata.address.as_str(), internal.address.as_str(), resolver.address.as_str()].join(" ");
    ns.apply(&one_step("attack", "e2e-attacker", &json!({"api": api, "decoys": decoys}).to_string()));
    ns.sign(&ns.approval("Pending"), true);
    let message = ns.wait_for("attack", "Completed");
    let found = output(&ns, "attack", "only");
    assert_eq!(found["done"], "yes", "{message}: {found}");
    let got: Vec<_> =
        found.as_object().unwrap().iter().filter(|(name, got)| *name != "done" && **got != "refused").collect();
    assert!(got.is_empty(), "{got:?}");
    assert_eq!((metadata.hits(), internal.hits(), resolver.hits()), (0, 0, 0), "a decoy was reached");
    let evidence = sql(&format!(
        "select body->'evidence' from audit where task_uid = '{}' and kind = 'finishAttempt'",
        ns.uid("attack")
    ));
    let evidence: Value = serde_json::from_str(&evidence).unwrap();
    assert_eq!((&evidence["seccomp"], &evidence["userNamespace"]), (&json!(true), &json!(true)), "{evidence}");
    assert!(evidence["landlock"].is_number(), "{evidence}");
}

#[test]
fn ordinary_clients_work_unchanged() {
    let ns = Namespace::new("curl");
    let image = script("e2e/attacker/image.sh", &[]);
    let curl = format!("curl -sS --fail {HOOKS}/hello");
    let spec = json!({"effect": "Read", "image": {"reference": image, "command": ["/bin/sh", "-c", curl]},
        "egress": [hooks(&["GET"], &["/hello"], json!({}))]});
    apply_skill("e2e-curl", &spec);
    let (phase, message) = run(&ns, "curl", "e2e-curl", &json!({}));
    assert_eq!(phase, "Completed", "{message}");
    assert_eq!(output(&ns, "curl", "only"), json!({"hello": "world"}));
    assert_eq!(calls(&ns, "curl"), [format!("GET {HOOKS}/hello answered 200")]);
}
