//! Money on a real chain, asked for on the real cluster: it moves once, as it was signed for, or not at all and says so.

use std::time::Duration;

use countersign_e2e::{Namespace, SOON, SYSTEM, User, kubectl, one_step, outside, script, sql, wait_until};
use serde_json::{Value, json};

const OUTSIDE: &str = "e2e/outside/outside.sh";
/// For a payment to be final, with whatever was killed on its way.
const FINAL: Duration = Duration::from_secs(240);

/// A Skill that pays Ether of the chain outside, and one millionth of the budget for each.
fn skill(name: &str, builtin: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut skill = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "Skill", "metadata": {"name": name},
        "spec": {
            "effect": "Irreversible", "idempotent": true, "timeout": "5m", "builtin": {"name": builtin},
            "cost": {"ceiling": "1"},
            "payment": {"network": "ethereum", "assets": [{"name": "ETH", "decimals": 18, "most": "8", "price": "0.1"}]},
        },
    });
    change(&mut skill["spec"]);
    skill
}

fn install(skill: &Value) {
    let applied = countersign_e2e::kubectl_with(&["apply", "-f", "-"], &skill.to_string());
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
}

fn refused(skill: &Value) -> String {
    let applied = countersign_e2e::kubectl_with(&["apply", "-f", "-"], &skill.to_string());
    assert!(!applied.status.success(), "{skill} was taken");
    String::from_utf8_lossy(&applied.stderr).into_owned()
}

/// Somebody whom nobody else pays, by a number of the test's own.
fn payee(number: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("0x{:020x}{number:020x}", now.as_nanos())
}

fn balance(of: &str) -> u128 {
    let hex = outside::rpc("eth_getBalance", &json!([of, "latest"]));
    u128::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap()
}

/// How often the router has paid under this id.
fn paid(id: &str) -> usize {
    let router = script(OUTSIDE, &["router"]);
    let logs =
        outside::rpc("eth_getLogs", &json!([{"address": router, "fromBlock": "0x0", "topics": [null, null, id]}]));
    serde_json::from_str::<Vec<Value>>(&logs).unwrap().len()
}

fn payment(ns: &Namespace, task: &str) -> Value {
    ns.step(task, "only")["payment"].clone()
}

fn kill(name: &str) {
    let label = format!("app.kubernetes.io/name={name}");
    let pods = kubectl(&["-n", SYSTEM, "get", "pods", "-l", &label, "-o", "jsonpath={.items[*].metadata.name}"]);
    script("e2e/cluster/kill-operator.sh", &pods.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn a_payment_is_made_once_whatever_is_killed_on_its_way() {
    let ns = Namespace::new("pays");
    install(&skill("pays-once", "pay", |_| {}));
    let mut payees = Vec::new();
    for (n, killed) in ["none", "countersign-signer", "countersign-broker", "countersign-signer"].iter().enumerate() {
        let (task, to) = (format!("pay-{n}"), payee(n as u64));
        ns.apply(&one_step(&task, "pays-once", &json!({"to": to, "amount": "0.5", "asset": "ETH"}).to_string()));
        let approval = ns.approval("Pending");
        assert_eq!(balance(&to), 0, "nothing moves before it is signed for");
        let shown = ns.get(&format!("approval/{approval}"))["spec"]["subject"]["payment"].clone();
        assert!(shown.as_str().unwrap().to_lowercase().starts_with(&format!("0.5 eth to {to} on ethereum")), "{shown}");
        ns.sign(&approval, true);
        if *killed != "none" {
            let uid = ns.uid(&task);
            wait_until("it is asked for", SOON, || {
                sql(&format!("select count(*) from payments where task_uid = '{uid}'")) == "1"
            });
            kill(killed);
        }
        payees.push((task, to));
    }
    for (task, to) in &payees {
        wait_until(&format!("{task} is over"), FINAL, || ns.phase(task).0 == "Completed");
        let payment = payment(&ns, task);
        assert_eq!(
            (payment["state"].as_str(), payment["mode"].as_str()),
            (Some("Confirmed"), Some("Live")),
            "{payment}"
        );
        assert_eq!(paid(payment["id"].as_str().unwrap()), 1, "{task}");
        assert_eq!(balance(to), 500_000_000_000_000_000, "{task}");
        let output = format!(
            "select body ->> 'transaction' from outputs o join steps s on s.output_digest = o.digest where s.task_uid = '{}'",
            ns.uid(task)
        );
        let output = output.replace("body ->>", "convert_from(o.body, 'UTF8')::jsonb ->>");
        assert_eq!(sql(&output), payment["transaction"].as_str().unwrap());
        assert_eq!(ns.get(&format!("task/{task}"))["status"]["cost"]["spent"], "0.05");
        ns.assert_recorded(task);
    }
    assert_eq!(sql("select accounts, held, revenue, budgets_held, budgets_spent from ledger_differences"), "0|0|0|0|0");
    // The record of each comes to be seen outside.
    for (task, _) in &payees {
        wait_until("it is anchored", FINAL, || ns.step(task, "only")["anchor"].is_string());
        let anchor = ns.step(task, "only")["anchor"].as_str().unwrap().to_owned();
        assert!(anchor.starts_with("ethereum:0x") || anchor.starts_with("stamps:"), "{anchor}");
    }
}

#[test]
fn a_mock_moves_nothing_and_says_so() {
    let ns = Namespace::new("mock");
    install(&skill("pays-nobody", "onchain_action", |spec| spec["payment"]["mode"] = json!("Mock")));
    let to = payee(20);
    ns.apply(&one_step("pretend", "pays-nobody", &json!({"to": to, "amount": 7}).to_string()));
    let approval = ns.approval("Pending");
    let shown = ns.get(&format!("approval/{approval}"))["spec"]["subject"]["payment"].to_string();
    assert!(shown.contains("(mock: nothing moves)"), "{shown}");
    ns.sign(&approval, true);
    wait_until("it is over", FINAL, || ns.phase("pretend").0 == "Completed");
    let payment = payment(&ns, "pretend");
    assert_eq!((payment["mode"].as_str(), payment["state"].as_str()), (Some("Mock"), Some("Confirmed")));
    assert!(payment["transaction"].as_str().unwrap().starts_with("mock:0x"), "{payment}");
    assert_eq!((balance(&to), paid(payment["id"].as_str().unwrap())), (0, 0));
}

#[test]
fn beyond_the_signers_own_limit_nothing_moves_and_the_dead_letter_says_why() {
    let ns = Namespace::new("limit");
    install(&skill("pays-much", "pay", |_| {}));
    let to = payee(30);
    // The Skill lets 8 pass, and the signer signs for 5.
    ns.apply(&one_step("much", "pays-much", &json!({"to": to, "amount": "6"}).to_string()));
    ns.sign(&ns.approval("Pending"), true);
    wait_until("it is over", FINAL, || ns.phase("much").0 == "Failed");
    let step = ns.step("much", "only");
    let message = step["payment"]["message"].as_str().unwrap();
    assert!(message.contains("is more than the signer's limit of 5000000000000000000"), "{message}");
    assert_eq!(step["payment"]["state"], "Dead");
    assert_eq!((balance(&to), paid(step["payment"]["id"].as_str().unwrap())), (0, 0));
    assert_eq!(ns.get("task/much")["status"]["cost"]["spent"], "0", "what did not move costs nothing");

    let forward = countersign_e2e::reader::Forward::open();
    let viewer = countersign_e2e::reader::Reader::new(&forward, &ns.name, "viewer", Some(&ns.name));
    let admin = countersign_e2e::reader::Reader::new(&forward, &ns.name, "admin", None);
    let name = format!("outbox-{}", ns.name);
    kubectl(&[
        "create",
        "clusterrolebinding",
        &name,
        "--clusterrole=countersign-admin",
        &format!("--serviceaccount={}:admin", ns.name),
    ]);
    let listed = admin.json("/api/v1/outbox?state=Dead");
    let item =
        listed["items"].as_array().unwrap().iter().find(|item| item["namespace"] == ns.name.as_str()).unwrap().clone();
    let retries = format!("/api/v1/outbox/{}/retries", item["id"]);
    assert_eq!(viewer.ask("POST", &retries).0, 403, "whoever may only look");
    assert_eq!(admin.ask("POST", "/api/v1/outbox/999999999/retries").0, 404);
    assert_eq!(admin.ask("POST", &retries).0, 204);
    let uid = ns.uid("much");
    let revived = format!(
        "select count(*) from audit where task_uid = '{uid}' and kind = 'revivePayment' and body #>> '{{by,user}}' like '%:admin'"
    );
    assert_eq!(sql(&revived), "1", "the log says who wanted it");
    let ended = format!("select count(*) from audit where task_uid = '{uid}' and kind = 'endPayment'");
    wait_until("the limit holds again", SOON, || sql(&ended) == "2");
    assert_eq!(balance(&to), 0);
    kubectl(&["delete", "clusterrolebinding", &name]);
}

#[test]
fn what_cannot_be_paid_is_refused_before_anything_runs() {
    let ns = Namespace::new("refused");
    for (change, words) in [
        (json!({"payment": null}), "payment goes with the built-ins pay and onchain_action"),
        (json!({"effect": "External"}), "set effect Irreversible, or payment.mode Mock"),
        (json!({"idempotent": false}), "set idempotent true"),
        (json!({"egress": [{"host": "a.example"}]}), "leave egress out"),
        (json!({"builtin": {"name": "http_call"}}), "payment goes with the built-ins"),
        (json!({"payment": {"network": "ethereum", "assets": []}}), "assets"),
        (
            json!({"payment": {"network": "ethereum", "assets": [{"name": "ETH", "decimals": 2, "most": "0.001", "price": "0"}]}}),
            "at most 2 places",
        ),
        (
            json!({"payment": {"network": "ethereum", "recipients": ["0x70997970c51812dc3A010C7d01b50e0d17dc79C8"], "assets": [{"name": "ETH", "decimals": 2, "most": "1", "price": "0"}]}}),
            "EIP-55",
        ),
    ] {
        let skill = skill("never", "pay", |spec| {
            for (field, value) in change.as_object().unwrap() {
                spec[field] = value.clone();
            }
        });
        let said = refused(&skill);
        assert!(said.contains(words), "{change}: {said}");
    }
    let to = payee(40);
    install(&skill("pays-listed", "pay", |spec| spec["payment"]["recipients"] = json!([to])));
    install(&skill("pays-elsewhere", "pay", |spec| spec["payment"]["network"] = json!("nowhere")));
    for (task, skill, input, words) in [
        ("zero", "pays-listed", json!({"to": to, "amount": "0"}), "input.amount: is 0"),
        ("text", "pays-listed", json!({"to": to, "amount": "much"}), "input.amount: write a decimal string"),
        (
            "more",
            "pays-listed",
            json!({"to": to, "amount": "8.1"}),
            "input.amount: 8.1 ETH is more than the Skill's most, 8",
        ),
        ("other", "pays-listed", json!({"to": payee(41), "amount": "1"}), "input.to"),
        ("nobody", "pays-listed", json!({"amount": "1"}), "input.to"),
    ] {
        ns.apply(&one_step(task, skill, &input.to_string()));
        wait_until(task, SOON, || ["Failed", "Rejected"].contains(&ns.phase(task).0.as_str()));
        let message = ns.step(task, "only")["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{task}: {message}");
        assert_eq!(sql(&format!("select count(*) from attempts where task_uid = '{}'", ns.uid(task))), "0");
    }
    ns.apply(&one_step("elsewhere", "pays-elsewhere", &json!({"to": to, "amount": "1"}).to_string()));
    wait_until("it says what it waits for", SOON, || {
        ns.step("elsewhere", "only")["message"]
            .as_str()
            .is_some_and(|said| said.contains("list it in the chart's signer.networks"))
    });
    assert_eq!(balance(&to), 0);
}

#[test]
fn a_sandbox_cannot_have_anything_paid_that_was_not_signed_for() {
    let ns = Namespace::new("thief");
    let call = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "Skill", "metadata": {"name": "asks-for-money"},
        "spec": {
            "effect": "External", "timeout": "1m", "builtin": {"name": "http_call"}, "cost": {"ceiling": "0"},
            "egress": [{"host": "payment.countersign.internal", "methods": ["POST"]}],
        },
    });
    install(&call);
    let to = payee(50);
    let input = json!({
        "url": "https://payment.countersign.internal/", "method": "POST",
        "body": {"to": to, "amount": "1", "asset": "ETH", "network": "ethereum"},
    });
    ns.apply(&one_step("thief", "asks-for-money", &input.to_string()));
    ns.sign(&ns.approval("Pending"), true);
    wait_until("it is over", FINAL, || ns.phase("thief").0 == "Failed");
    let job = sql(&format!("select key from attempts where task_uid = '{}'", ns.uid("thief")));
    let said = ns.kubectl(&["logs", &format!("job/{job}"), "--all-containers"]);
    assert!(said.contains("the attempt may not pay anything"), "{said}");
    assert_eq!(sql(&format!("select count(*) from payments where task_uid = '{}'", ns.uid("thief"))), "0");
    assert_eq!(balance(&to), 0);

    // Nobody without a right of their own in the operator's namespace sees a key or a node's address.
    let rita = User::new("rita-of-payments", &[]);
    for role in ["countersign-approver", "countersign-viewer", "countersign-operator"] {
        ns.grant(role, "rita-of-payments");
    }
    for secret in ["demo-chain-key", "countersign-signer", "countersign-database"] {
        let said = rita.kubectl(&["-n", SYSTEM, "get", "secret", secret]).unwrap_err();
        assert!(said.contains("forbidden"), "{said}");
    }
    // Nor does a Task's own namespace hold it, and no sandbox mounts it.
    assert_eq!(
        ns.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].spec.volumes[*].secret.secretName}"])
            .contains("demo-chain-key"),
        false
    );
}

#[test]
fn what_is_signed_for_is_what_is_paid_or_nothing() {
    let ns = Namespace::new("bound");
    let mut contract = skill("pays-bound", "pay", |_| {});
    install(&contract);
    let to = payee(60);
    ns.apply(&one_step("bound", "pays-bound", &json!({"to": to, "amount": "0.25"}).to_string()));
    let approval = ns.approval("Pending");
    // Somebody who may write Skills changes what a unit is, so that the same input moves a hundred times as much.
    contract["spec"]["payment"]["assets"][0]["decimals"] = json!(20);
    install(&contract);
    wait_until("a signature counts for nothing", SOON, || ns.approval_state(&approval).0 == "Superseded");
    let again = ns.approval("Pending");
    let shown = ns.get(&format!("approval/{again}"))["spec"]["subject"]["payment"].to_string();
    assert!(shown.contains("0.25 ETH"), "{shown}");
    assert_eq!(
        (balance(&to), sql(&format!("select count(*) from payments where task_uid = '{}'", ns.uid("bound")))),
        (0, "0".into())
    );
    kubectl(&["-n", &ns.name, "delete", "task", "bound"]);
}
