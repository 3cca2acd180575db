//! The log before a witness that is outside of the cluster: what it cosigned counts, and nothing else does.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use countersign_core::tlog::witness::Request;
use countersign_core::tlog::{Checkpoint, SigningKey, leaf};
use countersign_e2e::{Namespace, SOON, countersign, kubectl, script, sql, text, wait_until};

const OUTSIDE: &str = "e2e/outside/outside.sh";
/// A witness that was away is tried again within a minute.
const AGAIN: Duration = Duration::from_secs(150);

/// The witness as its administrator runs it: started again when the log has another key.
struct Witness {
    keys: BTreeSet<String>,
}

fn keys() -> BTreeSet<String> {
    sql("select public from log_keys").lines().map(str::to_owned).collect()
}

fn newest() -> u64 {
    sql("select max(size) from log_checkpoints").parse().unwrap()
}

fn cosigned() -> u64 {
    sql("select coalesce(max(size), 0) from log_cosignatures").parse().unwrap()
}

impl Witness {
    fn start() -> Witness {
        let keys = keys();
        script(OUTSIDE, &["witness"]);
        Witness { keys }
    }

    fn wait_until_cosigned(&mut self, size: u64) {
        wait_until("the checkpoint is cosigned", AGAIN, || {
            if keys() != self.keys {
                *self = Witness::start();
            }
            cosigned() >= size
        });
    }
}

fn everything_is_in_the_tree(uid: &str) {
    let pending =
        format!("select count(*) from log_entries e join log_pending p on p.entry = e.id where e.task_uid = '{uid}'");
    wait_until("everything is in the tree", SOON, || sql(&pending) == "0");
}

/// The key with which the log signs, as somebody has it who took over the operator.
fn stolen_key() -> SigningKey {
    let secret = |template: &str| {
        let template = format!("go-template={{{{{template}}}}}");
        kubectl(&["-n", "countersign-system", "get", "secret", "countersign-log", "-o", &template])
    };
    let hex = secret(r#"printf "%x" (index .data "ed25519.key" | base64decode)"#);
    let bytes: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    SigningKey::new(&secret("index .data \"name\" | base64decode"), bytes.try_into().unwrap()).unwrap()
}

/// The witness's answer: status and body.
fn add(request: &Request) -> (String, String) {
    let url = format!("http://{}:28680/add-checkpoint", script(OUTSIDE, &["ip"]));
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "-w", "\n%{http_code}", "--data-binary", &request.encode(), &url])
        .output()
        .unwrap();
    let answer = text(&output.stdout);
    let (body, status) = answer.rsplit_once('\n').unwrap_or_else(|| panic!("{answer}{}", text(&output.stderr)));
    (status.to_owned(), body.trim().to_owned())
}

#[test]
fn what_is_cosigned_outside_verifies_by_a_policy_and_another_history_does_not() {
    let mut witness = Witness::start();
    let ns = Namespace::new("witness");
    ns.sample("generic.yaml");
    ns.wait_for("water-the-plants", "Rejected");
    everything_is_in_the_tree(&ns.uid("water-the-plants"));
    witness.wait_until_cosigned(newest());

    let folder = text(&Command::new("mktemp").arg("-d").output().unwrap().stdout);
    let file = |name: &str| format!("{folder}/{name}");
    let policy = file("policy");
    let log = sql("select public from log_keys order by id limit 1");
    std::fs::write(&policy, format!("log {log}\n{}\n", script(OUTSIDE, &["policy"]))).unwrap();
    let (task, all) = (file("task"), file("all"));
    for arguments in [
        &["export", "--task", "water-the-plants", "-n", &ns.name, "--cosignatures", "1", "-o", &task][..],
        &["export", "--all", "--cosignatures", "1", "-o", &all],
    ] {
        let (done, said) = countersign(arguments);
        assert!(done, "{said}");
    }
    for export in [&task, &all] {
        let (holds, said) = countersign(&["verify", export, "--policy", &policy]);
        assert!(holds && said.contains("It is cosigned as") && said.contains("by outside at 20"), "{said}");
        assert!(!said.contains("came with the export"), "the policy's log is trusted: {said}");
    }
    let (consistent, said) = countersign(&["consistency", &task, &all, "--policy", &policy]);
    assert!(consistent && said.contains("It is cosigned as"), "{said}");

    // Without its cosignature the export is as good as any, but for the policy.
    let checkpoint = file("all/checkpoint");
    let honest = std::fs::read_to_string(&checkpoint).unwrap();
    let (lines, own): (Vec<&str>, Vec<&str>) =
        honest.split_inclusive('\n').partition(|line| line.contains("witness.countersign.demo"));
    assert_eq!(lines.len(), 1, "{honest}");
    std::fs::write(&checkpoint, own.concat()).unwrap();
    assert!(countersign(&["verify", &all]).0);
    let (holds, said) = countersign(&["verify", &all, "--policy", &policy]);
    assert!(!holds && said.contains("it is not cosigned by outside, as the policy demands"), "{said}");

    // Whoever has the log's key can sign another history; the witness has seen this one.
    let key = stolen_key();
    let claimed = Checkpoint::claimed(&honest).unwrap();
    let fork = |size| Checkpoint { size, root: leaf(b"another history"), ..claimed.clone() }.sign(&key);
    std::fs::write(&checkpoint, fork(claimed.size) + lines[0]).unwrap();
    let (holds, said) = countersign(&["verify", &all, "--policy", &policy]);
    assert!(!holds, "{said}");
    let mut old = 0;
    for (beyond, proof, refusal) in [(0, Vec::new(), "409"), (5, vec![leaf(b"no proof")], "422")] {
        wait_until("the witness is shown another history from what it cosigned last", SOON, || {
            let (status, body) = add(&Request { old, proof: proof.clone(), checkpoint: fork(old + beyond) });
            // Meanwhile the operator goes on.
            let told = body.parse().unwrap_or(old);
            if told != old {
                old = told;
                return false;
            }
            assert_eq!(status, refusal, "{body}");
            true
        });
    }
    std::fs::remove_dir_all(folder).unwrap();

    // A witness that is away keeps nothing from being done, and catches up.
    script(OUTSIDE, &["witness-stop"]);
    let before = cosigned();
    ns.sample("monitor-wallet.yaml");
    ns.wait_for("monitor-wallet", "WaitingApproval");
    everything_is_in_the_tree(&ns.uid("monitor-wallet"));
    assert!(newest() > before && cosigned() == before);
    let mut witness = Witness::start();
    witness.wait_until_cosigned(newest());
}
