//! Work, rules and decisions from a Git repository, applied by the real Flux controllers, again and again.

use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_e2e::{Namespace, SIGNER, SOON, root, script, sql, wait_until};
use serde_json::{Value, json};

const ACCOUNTS: [(&str, &str); 3] = [
    ("platform", "countersign-admin"),
    ("requester", "countersign-operator"),
    ("countersigner", "countersign-approver"),
];
const TASK: &str = "nightly-check-2026-11-21";

/// The repository of `config/gitops`, as a team would keep it.
struct Repository {
    work: PathBuf,
    bare: String,
}

impl Repository {
    fn new() -> Repository {
        let bare = script("e2e/cluster/flux.sh", &["repository", "work"]);
        let work = PathBuf::from(format!("{bare}.work"));
        if work.exists() {
            std::fs::remove_dir_all(&work).unwrap();
        }
        let repository = Repository { work, bare };
        run("git", &["clone", "--quiet", &repository.bare, repository.work.to_str().unwrap()]);
        for folder in ["policies", "tasks"] {
            copy(&root().join("config/gitops").join(folder), &repository.work.join(folder));
        }
        repository.write(
            "decisions/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
        );
        repository.commit("Begin");
        repository
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.work.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.work.join(path)).unwrap()
    }

    fn commit(&self, message: &str) {
        let git = |arguments: &[&str]| run("git", &[&["-C", self.work.to_str().unwrap()], arguments].concat());
        git(&["add", "-A"]);
        git(&["-c", "user.name=e2e", "-c", "user.email=e2e@localhost", "commit", "--quiet", "-m", message]);
        git(&["push", "--quiet", "origin", "HEAD:main"]);
    }

    /// Commits somebody's word on an Approval.
    fn decide(&self, ns: &Namespace, approval: &str) {
        let decision = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Approval",
            "metadata": {"name": approval, "namespace": ns.name}, "spec": {"approved": true, "reason": "reviewed in the merge request"}});
        self.write("decisions/decision.yaml", &decision.to_string());
        self.write(
            "decisions/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [decision.yaml]\n",
        );
        self.commit("Approve");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Asks Flux to apply everything now, and waits until it has.
fn reconcile(ns: &Namespace, round: &str) {
    for object in ["gitrepository/work", "kustomization/policies", "kustomization/tasks", "kustomization/decisions"] {
        ns.kubectl(&["annotate", "--overwrite", object, &format!("reconcile.fluxcd.io/requestedAt={round}")]);
        wait_until(&format!("{object} was reconciled"), SOON, || {
            ns.get(object)["status"]["lastHandledReconcileAt"] == round
        });
    }
}

/// Status and message of a Kustomization's condition Ready.
fn ready(ns: &Namespace, kustomization: &str) -> (String, String) {
    let object = ns.get(&format!("kustomization/{kustomization}"));
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition: Value = conditions.into_iter().find(|c| c["type"] == "Ready").unwrap_or_default();
    let of = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (of("status"), of("message"))
}

fn version(ns: &Namespace, object: &str) -> String {
    ns.kubectl(&["get", object, "-o", "jsonpath={.metadata.uid} {.metadata.generation} {.metadata.resourceVersion}"])
}

#[test]
fn from_git_applied_again_and_again_a_task_runs_once_and_decisions_stay() {
    let url = script("e2e/cluster/flux.sh", &["start"]);
    let ns = Namespace::new("gitops");
    for (account, role) in ACCOUNTS {
        ns.kubectl(&["create", "serviceaccount", account]);
        let (role, account_flag) = (format!("--clusterrole={role}"), format!("--serviceaccount={}:{account}", ns.name));
        ns.kubectl(&["create", "rolebinding", account, &role, &account_flag]);
    }
    let repository = Repository::new();
    let cluster = std::fs::read_to_string(root().join("config/gitops/clusters/countersign.yaml")).unwrap();
    ns.apply(&cluster.replace("https://git.example.com", &url).replace("payments", &ns.name));

    // The rules and the request come from Git; a person signs.
    wait_until("the Task waits", SOON, || {
        let found = ns.kubectl(&["get", "tasks", "-o", "name"]);
        found.contains(TASK) && ns.phase(TASK).0 == "WaitingApproval"
    });
    let requester = format!("system:serviceaccount:{}:requester", ns.name);
    assert_eq!(ns.get(&format!("task/{TASK}"))["spec"]["requester"]["user"], requester.as_str());
    let first = ns.approval("Pending");
    assert_eq!(ns.get(&format!("approval/{first}"))["spec"]["onBehalfOf"], "the treasury team");
    ns.sign(&first, true);
    ns.wait_for_step(TASK, "check_balance", "Succeeded");
    wait_until("the next step waits", SOON, || ns.phase(TASK).0 == "WaitingApproval");
    let second = ns.approval("Pending");

    // A commit of an account that no rule lists is no signature.
    repository.decide(&ns, &second);
    reconcile(&ns, "unlisted");
    wait_until("Flux says why", SOON, || ready(&ns, "decisions").1.contains("is not listed"));
    assert_eq!(ns.signers(&second), [""; 0]);

    // The platform team lists it; the rules changed, so what waited is asked for again.
    let policy = repository.read("policies/four-eyes.yaml");
    let listed = format!("{{count: 1, serviceAccounts: [{}/countersigner]}}", ns.name);
    repository.write("policies/four-eyes.yaml", &policy.replace("{count: 1}", &listed));
    repository.commit("List the account whose merged commits count");
    reconcile(&ns, "listed");
    wait_until("it is asked for again", SOON, || ns.approval_state(&second).0 == "Superseded");
    let third = ns.approval("Pending");
    repository.decide(&ns, &third);
    reconcile(&ns, "third");
    ns.wait_for_step(TASK, "policy_check", "Succeeded");
    assert_eq!(ns.signers(&third), [format!("system:serviceaccount:{}:countersigner", ns.name)]);
    wait_until("the last step waits", SOON, || ns.phase(TASK).0 == "WaitingApproval");
    let last = ns.approval("Pending");
    repository.decide(&ns, &last);
    reconcile(&ns, "last");
    ns.wait_for(TASK, "Completed");

    // Applied again and again: nothing drifts, nothing runs, no decision is touched.
    let objects = [format!("task/{TASK}"), format!("approval/{last}"), format!("approval/{first}")];
    reconcile(&ns, "settled");
    let before = objects.each_ref().map(|object| version(&ns, object));
    let uid = ns.uid(TASK);
    // One that was decided before the Policy was known, and voided by it, never had a pod let in.
    let attempts =
        || sql(&format!("select count(pod_uid), count(distinct step) from attempts where task_uid = '{uid}'"));
    assert_eq!(attempts(), "3|3");
    for round in 0..5 {
        reconcile(&ns, &format!("again-{round}"));
        for kustomization in ["policies", "tasks", "decisions"] {
            let (status, message) = ready(&ns, kustomization);
            assert_eq!(status, "True", "{kustomization}: {message}");
        }
    }
    assert_eq!(objects.each_ref().map(|object| version(&ns, object)), before, "no drift");
    assert_eq!(attempts(), "3|3");
    assert_eq!(ns.signers(&first), [SIGNER]);

    // What leaves the repository is called off; its record stays.
    std::fs::remove_file(repository.work.join("tasks/nightly-check.yaml")).unwrap();
    repository.write("tasks/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n");
    repository
        .write("decisions/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n");
    repository.commit("Done with it");
    reconcile(&ns, "pruned");
    wait_until("the Task is gone", SOON, || !ns.kubectl(&["get", "tasks", "-o", "name"]).contains(TASK));
    assert_eq!(sql(&format!("select outcome from tasks where uid = '{uid}'")), "Completed");
    ns.kubectl(&["delete", "kustomization,gitrepository", "--all", "--wait"]);
    script("e2e/cluster/flux.sh", &["stop"]);
}
