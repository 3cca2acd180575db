//! What is killed, stopped and deleted while it works. These tests disturb the operator itself, so they take
//! their turns.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_e2e::{
    Namespace, SIGNER, SOON, SYSTEM, forwarded_get, jq_skill, kubectl, kubectl_with, one_step, script, sql, wait_until,
};
use serde_json::json;

static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

const OPERATOR: &str = "app.kubernetes.io/name=countersign";

/// Ends every replica as kill -9 would.
fn kill_operator() {
    // One that only just starts has no container yet, and nothing to lose.
    let running = "jsonpath={range .items[?(@.status.containerStatuses[0].state.running)]}{.metadata.name} {end}";
    let pods = kubectl(&["-n", SYSTEM, "get", "pods", "-l", OPERATOR, "-o", running]);
    let pods: Vec<&str> = pods.split_whitespace().collect();
    assert!(!pods.is_empty(), "no replica runs");
    script("e2e/cluster/kill-operator.sh", &pods);
}

fn operator_ready() {
    kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/countersign", "--timeout=120s"]);
}

/// What the kubelet is told of each replica: status and body.
fn readyz() -> Vec<String> {
    let running = "jsonpath={range .items[?(@.status.containerStatuses[0].state.running)]}{.metadata.name} {end}";
    let pods = kubectl(&["-n", SYSTEM, "get", "pods", "-l", OPERATOR, "-o", running]);
    pods.split_whitespace().map(|pod| forwarded_get(pod, "/readyz")).collect()
}

/// Every step of a Task was attempted once, and each attempt had one Job.
fn assert_once(ns: &Namespace, task: &str, steps: usize) {
    let uid = ns.uid(task);
    let counts =
        sql(&format!("select count(*), count(distinct step), count(pod_uid) from attempts where task_uid = '{uid}'"));
    assert_eq!(counts, format!("{steps}|{steps}|{steps}"), "attempts, steps, pods let in");
    let jobs = ns.kubectl(&["get", "jobs", "-l", &format!("countersign.dev/task-uid={uid}"), "-o", "name"]);
    assert_eq!(jobs.lines().count(), steps, "{jobs}");
    ns.assert_recorded(task);
}

#[test]
fn killed_in_every_phase_nothing_is_lost_and_nothing_runs_twice() {
    let _turn = my_turn();
    let ns = Namespace::new("killed");
    let started = Instant::now();
    // While the Task is planned, while a pod starts, while it runs, while people are asked, once they have signed.
    for (phase, wait) in
        [("planned", "Pending"), ("first", "Ready"), ("running", "Running"), ("asked", ""), ("signed", "")]
    {
        let name = format!("killed-{phase}");
        let manifest =
            std::fs::read_to_string(countersign_e2e::root().join("config/samples/monitor-wallet.yaml")).unwrap();
        ns.apply(&manifest.replace("name: monitor-wallet", &format!("name: {name}")));
        match wait {
            "Running" => ns.wait_for_step(&name, "check_balance", "Running"),
            "Ready" => {
                wait_until("a pod is there", SOON, || {
                    let uid = ns.uid(&name);
                    !ns.kubectl(&["get", "pods", "-l", &format!("countersign.dev/task-uid={uid}"), "-o", "name"])
                        .is_empty()
                });
            }
            "Pending" => {}
            _ => {
                ns.wait_for(&name, "WaitingApproval");
            }
        }
        if phase == "signed" {
            let approval = ns.approval("Pending");
            ns.sign(&approval, true);
        }
        kill_operator();
        if phase != "signed" {
            ns.wait_for(&name, "WaitingApproval");
            let approval = ns.approval("Pending");
            wait_until("the webhook is back", SOON, || {
                let patch = r#"{"spec":{"approved":true,"reason":"test"}}"#;
                let arguments =
                    ["-n", &ns.name, "--as", SIGNER, "patch", "approval", &approval, "--type", "merge", "-p", patch];
                kubectl_with(&arguments, "").status.success()
            });
        }
        ns.wait_for(&name, "Completed");
        assert_once(&ns, &name, 3);
        println!("killed while {phase}: completed once, {:?} into the test", started.elapsed());
    }
    operator_ready();
}

#[test]
fn the_other_replica_takes_over_in_time() {
    let _turn = my_turn();
    operator_ready();
    let holder = || kubectl(&["-n", SYSTEM, "get", "lease", "countersign", "-o", "jsonpath={.spec.holderIdentity}"]);
    wait_until("somebody leads", SOON, || !holder().is_empty());
    let leader = holder();
    script("e2e/cluster/kill-operator.sh", &[&leader]);
    let killed = Instant::now();
    wait_until("another leads", Duration::from_secs(15), || !holder().is_empty() && holder() != leader);
    println!("killed: taken over after {:?}", killed.elapsed());
    operator_ready();
    let leader = holder();
    kubectl(&["-n", SYSTEM, "delete", "pod", &leader, "--wait=false"]);
    let told = Instant::now();
    wait_until("another leads", Duration::from_secs(8), || !holder().is_empty() && holder() != leader);
    println!("told to end: handed over after {:?}", told.elapsed());
    operator_ready();
}

#[test]
fn without_postgresql_nothing_new_starts_and_everything_goes_on_after() {
    let _turn = my_turn();
    operator_ready();
    let ns = Namespace::new("postgres");
    let steps: Vec<_> = (0..5)
        .map(|n| {
            let needs: Vec<String> = (n > 0).then(|| format!("s{}", n - 1)).into_iter().collect();
            json!({"name": format!("s{n}"), "skill": "check-balance", "needs": needs, "input": {"address": "a", "transactions": []}})
        })
        .collect();
    let task = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "chain"},
        "spec": {"plan": {"steps": steps}}});
    ns.apply(&task.to_string());
    ns.wait_for_step("chain", "s0", "Succeeded");
    script("e2e/cluster/postgres.sh", &["kill"]);
    let stopped = Instant::now();
    wait_until("readiness says why", SOON, || {
        let replies = readyz();
        !replies.is_empty() && replies.iter().all(|reply| reply.contains(" 503 ") && reply.contains("postgresql: "))
    });
    let jobs = || ns.kubectl(&["get", "jobs", "-l", "countersign.dev/step", "-o", "name"]).lines().count();
    // What was intended before may still get its Job; after that, none for the rest of the minute.
    std::thread::sleep(Duration::from_secs(5));
    let before = jobs();
    ns.apply(&one_step("meanwhile", "check-balance", r#"{"address": "a", "transactions": []}"#));
    while stopped.elapsed() < Duration::from_secs(60) {
        assert_eq!(jobs(), before, "a Job was made while PostgreSQL was away");
        std::thread::sleep(Duration::from_secs(2));
    }
    assert!(before < 5, "the chain was still under way");
    script("e2e/cluster/postgres.sh", &["start"]);
    ns.wait_for("chain", "Completed");
    ns.wait_for("meanwhile", "Completed");
    wait_until("readiness recovers", SOON, || readyz().iter().all(|reply| reply.contains(" 200 ")));
    assert_once(&ns, "chain", 5);
}

#[test]
fn a_namespace_can_always_be_deleted() {
    let _turn = my_turn();
    operator_ready();
    jq_skill("e2e-endless-namespace", "def f: f; f", r#""timeout": "10m""#);
    let deleted = |ns: &Namespace| {
        let started = Instant::now();
        kubectl(&["delete", "namespace", &ns.name, "--timeout=90s"]);
        println!("namespace gone after {:?}", started.elapsed());
    };
    let fill = |name: &str| {
        let ns = Namespace::new(name);
        ns.sample("monitor-wallet.yaml");
        ns.wait_for("monitor-wallet", "WaitingApproval");
        ns.apply(&one_step("endless", "e2e-endless-namespace", "{}"));
        ns.wait_for_step("endless", "only", "Running");
        let uid = ns.uid("endless");
        (ns, uid)
    };
    let ended = |uid: &str| {
        // Where the pod went before its Task did, the record has it that somebody told the pod to end.
        wait_until("the record says how it ended", SOON, || {
            ["Deleted", "Cancelled"].contains(&sql(&format!("select reason from tasks where uid = '{uid}'")).as_str())
        });
        let unfinished = sql(&format!("select count(*) from attempts where task_uid = '{uid}' and outcome is null"));
        assert_eq!(unfinished, "0");
    };
    let (with, uid) = fill("gone-with");
    deleted(&with);
    ended(&uid);
    let (without, uid) = fill("gone-without");
    kubectl(&["-n", SYSTEM, "scale", "deployment/countersign", "--replicas=0"]);
    deleted(&without);
    kubectl(&["-n", SYSTEM, "scale", "deployment/countersign", "--replicas=2"]);
    operator_ready();
    ended(&uid);
}
