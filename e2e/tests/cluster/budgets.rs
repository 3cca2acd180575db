//! Money on the real cluster: what is reserved and paid, what is turned away, put off or made cheaper, and who can
//! change that.

use std::time::Duration;

use countersign_e2e::outside;
use countersign_e2e::{Namespace, SOON, SYSTEM, User, forwarded_get, jq_skill, kubectl, root, sql, wait_until};
use serde_json::{Value, json};

/// What was spent in a namespace of that name stays spent, so each run has its own.
fn fresh(name: &str) -> Namespace {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Namespace::new(&format!("{name}-{}", now.as_secs()))
}

fn sample(name: &str) -> String {
    root().join("config/samples/budgets").join(name).to_str().unwrap().to_owned()
}

/// A Task of an Agent with one step.
fn task(name: &str, agent: &str, skill: &str, input: &Value, more: &Value) -> String {
    let mut spec =
        json!({"agentRef": {"name": agent}, "plan": {"steps": [{"name": "only", "skill": skill, "input": input}]}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

fn numbers() -> Value {
    json!({"values": [3, 1, 4, 1, 5, 9, 2, 6]})
}

/// The sum of a metric's lines that hold all of these labels.
pub fn metric(name: &str, labels: &[&str]) -> f64 {
    let pods = ["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=countersign", "-o", "name"];
    let lines = kubectl(&pods)
        .lines()
        .map(|pod| forwarded_get(pod.trim_start_matches("pod/"), "/metrics"))
        .collect::<Vec<_>>()
        .join("\n");
    let of = |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label));
    lines.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn today(ns: &Namespace, agent: &str, field: &str) -> String {
    let agent = ns.get(&format!("agent/{agent}"));
    agent["status"]["today"][field].as_str().unwrap_or_default().to_owned()
}

fn books_are_even() {
    assert_eq!(sql("select accounts, held, revenue, budgets_held, budgets_spent from ledger_differences"), "0|0|0|0|0");
}

#[test]
fn bulk_work_leaves_people_their_part_and_archives_are_made_smaller_where_money_is_short() {
    let ns = fresh("spending");
    kubectl(&["apply", "-f", &sample("skills.yaml")]);
    ns.kubectl(&["apply", "-f", &sample("agents.yaml"), "-f", &sample("policy.yaml")]);
    // A Policy is to be known before work is judged by it.
    wait_until("the Agents' budgets are counted", SOON, || today(&ns, "user-agent", "remaining") == "20");
    ns.kubectl(&["apply", "-f", &sample("tasks.yaml")]);
    for name in ["quote", "figures", "archive"] {
        ns.wait_for(name, "Completed");
        ns.assert_recorded(name);
    }
    let spent = |name: &str| ns.get(&format!("task/{name}"))["status"]["cost"]["spent"].clone();
    assert_eq!([spent("quote"), spent("figures"), spent("archive")], ["0.05", "0.5", "0.2"]);
    // 0.75 of 2 are spent, and of the 2 low priority may use 1.2.
    let before = metric("countersign_budget_decisions_total", &["verdict=\"Rejected\"", "priority=\"Low\""]);
    ns.apply(&task("more-figures", "batch-agent", "batch-compute", &numbers(), &json!({})));
    let message = ns.wait_for("more-figures", "Rejected");
    assert!(
        message.contains(&format!("the namespace {} has spent 0.75", ns.name))
            && message.contains("low priority may use 1.2"),
        "{message}"
    );
    assert_eq!(
        ns.kubectl(&["get", "task", "more-figures", "--no-headers"]).split_whitespace().nth(4),
        Some("Rejected")
    );
    // Its own word for its priority does not help, and nothing ran.
    ns.apply(&task("urgent", "batch-agent", "batch-compute", &numbers(), &json!({"priority": "High"})));
    ns.wait_for("urgent", "Rejected");
    assert_eq!(sql(&format!("select count(*) from attempts where task_uid = '{}'", ns.uid("urgent"))), "0");
    wait_until("it is counted", SOON, || {
        metric("countersign_budget_decisions_total", &["verdict=\"Rejected\"", "priority=\"Low\""]) >= before + 2.0
    });
    // Whoever people wait for goes on.
    ns.apply(&task(
        "still-quoted",
        "user-agent",
        "price-oracle",
        &json!({"url": "https://hooks.countersign.demo:28443/v1/price"}),
        &json!({}),
    ));
    ns.wait_for("still-quoted", "Completed");

    // An archive does not fit whole into what its Task may cost; what is in it does.
    let log = json!({"path": "a.log", "content": "info a\nerror b\nerror c\n"});
    ns.apply(&task("short", "ops-agent", "log-archive", &log, &json!({"budget": "0.1"})));
    ns.wait_for("short", "Completed");
    let step = ns.step("short", "only");
    assert_eq!((&step["budget"], &step["downgradedTo"]), (&json!("Downgraded"), &json!("log-archive-summary")));
    assert_eq!(ns.get("task/short")["status"]["cost"], json!({"spent": "0.02", "held": "0", "decision": "Downgraded"}));
    let output = sql(&format!(
        "select convert_from(o.body, 'UTF8') from steps s join outputs o on o.digest = s.output_digest where s.task_uid = '{}'",
        ns.uid("short")
    ));
    assert!(output.contains("\"errors\":2"), "{output}");
    // The record has each with the numbers that it was decided on.
    let decisions = sql(&format!(
        "select verdict || ' ' || skill || ' ' || (lines -> 0 ->> 'spent') from budget_decisions
         where namespace = '{}' and step = 'only' order by id",
        ns.name
    ));
    let expected = "Rejected batch-compute 0.75\nRejected batch-compute 0.75\nAllowed price-oracle 0.75\nDowngraded log-archive-summary 0.8";
    assert_eq!(decisions, expected);
    let told = sql(&format!(
        "select string_agg(body::text, '') from audit where task_uid = '{}' and kind = 'intend'",
        ns.uid("short")
    ));
    assert!(told.contains("log-archive is downgraded to log-archive-summary"), "{told}");
    wait_until("the Agent says what it spent", SOON, || today(&ns, "ops-agent", "spent") == "0.22");
    assert_eq!(today(&ns, "ops-agent", "remaining"), "4.78");
    books_are_even();
}

#[test]
fn what_does_not_fit_waits_and_starts_when_its_limit_is_raised() {
    let ns = fresh("waiting-for-money");
    let agent = |daily: &str| {
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "poor"},
               "spec": {"allowedSkills": ["log-archive-summary", "e2e-beside-the-dear"], "budget": {"daily": daily}}})
        .to_string()
    };
    ns.apply(&agent("0.03"));
    wait_until("it is counted", SOON, || today(&ns, "poor", "remaining") == "0.03");
    let log = json!({"path": "a.log", "content": "x"});
    ns.apply(&task("first", "poor", "log-archive-summary", &log, &json!({})));
    ns.wait_for("first", "Completed");
    jq_skill("e2e-beside-the-dear", ".", r#""timeout": "1m""#);
    let steps = json!([{"name": "only", "skill": "log-archive-summary", "input": log},
        {"name": "free", "skill": "e2e-beside-the-dear"}]);
    let plan = json!({"plan": {"parallelism": 1, "steps": steps}});
    ns.apply(&task("second", "poor", "log-archive-summary", &log, &plan));
    wait_until("it is put off", SOON, || ns.step("second", "only")["reason"] == "Deferred");
    // What waits for money holds no place that the other could have.
    ns.wait_for_step("second", "free", "Succeeded");
    let message = ns.step("second", "only")["message"].to_string();
    assert!(
        message.contains("has spent 0.02 and holds 0 of 0.03 today") && message.contains("waits until"),
        "{message}"
    );
    assert_eq!(ns.kubectl(&["get", "task", "second", "--no-headers"]).split_whitespace().nth(4), Some("Deferred"));
    ns.apply(&agent("1"));
    ns.wait_for("second", "Completed");
    let verdicts = sql(&format!(
        "select string_agg(verdict, ' ' order by id) from budget_decisions where task_uid = '{}'",
        ns.uid("second")
    ));
    assert_eq!(verdicts, "Deferred Allowed");
    books_are_even();
}

#[test]
fn people_are_told_at_50_80_and_100_percent_by_condition_event_and_webhook() {
    let ns = fresh("alerts");
    let agent = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "spender"},
        "spec": {"allowedSkills": ["log-archive-summary"], "budget": {"daily": "0.04"}}});
    ns.apply(&agent.to_string());
    wait_until("it is counted", SOON, || today(&ns, "spender", "remaining") == "0.04");
    let condition = |reason: &str| {
        let agent = ns.get("agent/spender");
        agent["status"]["conditions"][0]["reason"] == reason
    };
    assert!(condition("Plenty"));
    let log = json!({"path": "a.log", "content": "x"});
    ns.apply(&task("first", "spender", "log-archive-summary", &log, &json!({})));
    ns.wait_for("first", "Completed");
    wait_until("the Agent says that half is gone", SOON, || condition("Half"));
    ns.apply(&task("second", "spender", "log-archive-summary", &log, &json!({})));
    ns.wait_for("second", "Completed");
    wait_until("the Agent says that all is gone", SOON, || condition("Exhausted"));
    let status = ns.get("agent/spender")["status"]["conditions"][0]["status"].clone();
    assert_eq!(status, "False");
    wait_until("there are Events", SOON, || {
        let reasons = ns.kubectl(&[
            "get",
            "events",
            "--field-selector",
            "involvedObject.name=spender",
            "-o",
            "jsonpath={.items[*].reason}",
        ]);
        ["Budget50Percent", "Budget80Percent", "BudgetExhausted"].iter().all(|reason| reasons.contains(reason))
    });
    // The receiver checks their signatures, and keeps each once.
    let told = || -> Vec<i64> {
        let alarms = outside::received().into_iter().map(|entry| entry["alarm"].clone());
        let ours = alarms.filter(|alarm| alarm["data"]["subject"] == format!("{}/spender", ns.name));
        let mut percents: Vec<i64> = ours.filter_map(|alarm| alarm["data"]["percent"].as_i64()).collect();
        percents.sort_unstable();
        percents
    };
    wait_until("the webhook has all three", Duration::from_secs(60), || told() == [50, 80, 100]);
    books_are_even();
}

/// Each as a person with `kubectl` and the rights that it takes to try.
#[test]
fn budgets_cannot_be_got_around() {
    let ns = fresh("thieves");
    ns.kubectl(&["apply", "-f", &sample("agents.yaml")]);
    let mallory = User::new("mallory", &[]);
    ns.grant("countersign-operator", "mallory");
    ns.grant("countersign-agent-user", "mallory");
    let apply = |manifest: &str| mallory.kubectl_with(&["-n", &ns.name, "apply", "-f", "-"], manifest);
    // Tasks are mallory's to make, Agents, Policies and Skills are not, nor what is said of them.
    let raise = r#"{"spec":{"budget":{"daily":"1000"}}}"#;
    let refused = mallory.kubectl(&["-n", &ns.name, "patch", "agent", "batch-agent", "--type", "merge", "-p", raise]);
    assert!(refused.unwrap_err().contains("forbidden"));
    let forge = r#"{"status":{"today":{"spent":"0","held":"0","remaining":"1000"}}}"#;
    let forged = mallory.kubectl(&[
        "-n",
        &ns.name,
        "patch",
        "agent",
        "batch-agent",
        "--subresource",
        "status",
        "--type",
        "merge",
        "-p",
        forge,
    ]);
    assert!(forged.unwrap_err().contains("forbidden"));
    apply(&task("small", "batch-agent", "batch-compute", &numbers(), &json!({"budget": "0.1"}))).unwrap();
    ns.wait_for("small", "Rejected");
    let more = r#"{"spec":{"budget":"100"}}"#;
    let edited = mallory.kubectl(&["-n", &ns.name, "patch", "task", "small", "--type", "merge", "-p", more]);
    assert!(edited.unwrap_err().contains("spec.budget is immutable"));

    // Amounts that are none, and what is not to be said here, are refused with the field.
    for (spec, words) in [
        (json!({"budget": {"daily": "-5"}}), "spec.budget.daily"),
        (json!({"budget": {"daily": "0.0000001"}}), "spec.budget.daily"),
        (json!({"budget": {"daily": 5}}), "spec.budget.daily"),
        (json!({"budget": {"timeZone": "UTC"}}), "a budget limits something"),
        (
            json!({"budget": {"daily": "5", "timeZone": "Mars/Olympus"}}),
            "spec.budget.timeZone: \\\"Mars/Olympus\\\" is not a time zone",
        ),
        (json!({"budget": {"daily": "5", "floorPercent": 101}}), "spec.budget.floorPercent"),
    ] {
        let mut agent = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "odd"}, "spec": {"allowedSkills": []}});
        agent["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let complaint = ns.apply_refused(&agent.to_string());
        assert!(complaint.replace("\\\"", "\"").contains(&words.replace("\\\"", "\"")), "{spec}: {complaint}");
    }
    let policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "p"},
        "spec": {"budget": {"cluster": {"daily": "1"}}}});
    assert!(
        ns.apply_refused(&policy.to_string())
            .contains("spec.budget.cluster: is for a Policy in the operator's own namespace")
    );
    for (cost, words) in [
        (json!({"ceiling": "-1", "perAttempt": "0"}), "spec.cost.ceiling"),
        (json!({"ceiling": "1", "perAttempt": "2"}), "spec.cost.perAttempt: 2 is more than the ceiling"),
        (json!({"ceiling": "1"}), "set cost.perAttempt, list egress"),
    ] {
        let skill = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Skill", "metadata": {"name": "e2e-thief"},
            "spec": {"effect": "Read", "builtin": {"name": "generic_action"}, "cost": cost}});
        let complaint = ns.apply_refused(&skill.to_string());
        assert!(complaint.contains(words), "{complaint}");
    }

    // What an attempt leaves behind cannot be taken out of the books, by the operator's own role either.
    let operator = kubectl(&["-n", SYSTEM, "get", "secret", "countersign-database", "-o", "jsonpath={.data.url}"]);
    assert!(!operator.is_empty());
    books_are_even();
}
