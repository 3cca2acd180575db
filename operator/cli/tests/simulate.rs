//! `kubectl countersign simulate` against an API that answers one request: what it asks, what it prints, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const TASK: &str = "kind: Task\nmetadata: {name: t, namespace: team}\nspec: {type: a}\n";
const POLICY: &str = "kind: Policy\nmetadata: {name: p, namespace: ops}\nspec: {rules: []}\n";

fn simulation(feasible: bool) -> Value {
    json!({
        "version": 1, "at": "2026-11-21T09:00:00Z", "namespace": "team", "task": "t", "feasible": feasible, "obstacles": [],
        "cost": {"minimum": "0", "expected": "0", "maximum": "0", "complete": true},
        "duration": {"p50Seconds": 0.0, "p95Seconds": 0.0, "criticalPath": []},
        "steps": [], "approvals": [], "budgets": [], "irreversibleSteps": [], "risks": []})
}

/// Runs it with the API answering so; what was asked of it where, and what came of it.
fn run(arguments: &[&str], status: &str, answer: &Value) -> ((String, Value), Output) {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (token, ca) = (file("token", "secret\n"), file("ca", ""));
    file("task.yaml", TASK);
    file("policy.yaml", POLICY);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = format!("http://{address}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-countersign"))
        .arg("simulate")
        .args(arguments)
        .arg("--server")
        .arg(server)
        .arg("--token-file")
        .arg(token)
        .arg("--ca-file")
        .arg(ca)
        .current_dir(folder.path())
        .env("KUBECONFIG", folder.path().join("none"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It need not be read.
    let _ = child.stdin.take().unwrap().write_all(TASK.as_bytes());
    let answered = std::thread::spawn({
        let (status, answer) = (status.to_owned(), answer.to_string());
        move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim().to_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
                if line.starts_with("authorization") {
                    assert_eq!(line, "authorization: bearer secret");
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            (&stream).write_all((head + &answer).as_bytes()).unwrap();
            let path = first.split(' ').take(2).collect::<Vec<_>>().join(" ");
            (path, serde_json::from_slice(&body).unwrap())
        }
    });
    let output = child.wait_with_output().unwrap();
    // Where it never asked, nobody waits for it.
    drop(TcpStream::connect(address));
    (answered.join().unwrap_or_else(|_| panic!("it did not ask: {}", text(&output.stderr))), output)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_exit_code_says_whether_it_is_feasible() {
    for (feasible, code) in [(true, 0), (false, 3)] {
        let (asked, output) = run(&["-f", "task.yaml"], "200 OK", &simulation(feasible));
        let (path, body) = asked;
        assert_eq!(path, "POST /api/v1/namespaces/team/simulations");
        assert_eq!((&body["task"]["spec"], &body["policies"]), (&json!({"type": "a"}), &json!([])));
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let verdict = if feasible { "FEASIBLE: Task t" } else { "NOT FEASIBLE: Task t" };
        assert!(text(&output.stdout).starts_with(verdict), "{}", text(&output.stdout));
    }
    let problem = json!({"detail": "task.spec.type: is wrong"});
    let (_, output) = run(&["-f", "task.yaml"], "400 Bad Request", &problem);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("task.spec.type: is wrong"), "{}", text(&output.stderr));
}

#[test]
fn a_task_may_come_from_standard_input_and_the_answer_go_on_to_programs() {
    let (asked, output) = run(&["-f", "-", "-o", "json", "-n", "other"], "200 OK", &simulation(true));
    assert_eq!(asked.0, "POST /api/v1/namespaces/other/simulations", "as it is said");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), simulation(true));
    let (_, output) = run(&["-f", "-", "-o", "yaml"], "200 OK", &simulation(true));
    assert!(text(&output.stdout).contains("feasible: true"), "{}", text(&output.stdout));
}

#[test]
fn policies_are_tried_on_a_task_or_on_the_past() {
    let (asked, _) = run(&["-f", "task.yaml", "--policy", "policy.yaml"], "200 OK", &simulation(true));
    assert_eq!(asked.1["policies"][0]["metadata"]["name"], "p");
    let replay = json!({"version": 1, "at": "2026-11-21T09:00:00Z", "namespace": "team", "policies": ["ops/p"], "tasks": 1,
        "steps": 1, "cut": false, "differences": [], "unjudged": []});
    let (asked, output) = run(&["--policy", "policy.yaml", "--last", "7", "-n", "team"], "200 OK", &replay);
    let (path, body) = asked;
    assert_eq!(path, "POST /api/v1/namespaces/team/simulations/replays");
    assert_eq!((&body["last"], body["policies"].as_array().map(Vec::len)), (&json!(7), Some(1)));
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("0 of 1 steps"), "{}", text(&output.stdout));
}
