//! A reader of the record: the operator's API over a forwarded port, with a token of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::{SYSTEM, kubectl, text};

/// The API on a port of this machine, for as long as it lives.
pub struct Forward {
    child: Child,
    pub url: String,
    /// Kept to the end: kubectl ends when nobody reads what it says of each connection.
    _stdout: BufReader<ChildStdout>,
}

impl Forward {
    pub fn open() -> Forward {
        Forward::to(8443)
    }

    /// The same of another port of the operator's Service.
    pub fn to(port: u16) -> Forward {
        let mut child = Command::new("kubectl")
            .args(["-n", SYSTEM, "port-forward", "service/countersign", &format!(":{port}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        stdout.read_line(&mut said).unwrap();
        let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split_whitespace().next());
        let url = format!("https://localhost:{}", port.unwrap_or_else(|| panic!("no port in {said:?}")));
        Forward { child, url, _stdout: stdout }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A service account, and what it may do.
pub struct Reader<'a> {
    forward: &'a Forward,
    pub token: String,
}

impl<'a> Reader<'a> {
    /// One that may look at this namespace; at all of them where it is `None`.
    pub fn new(forward: &'a Forward, home: &str, name: &str, of: Option<&str>) -> Reader<'a> {
        kubectl(&["-n", home, "create", "serviceaccount", name]);
        let who = format!("--serviceaccount={home}:{name}");
        match of {
            Some(namespace) => {
                let binding = format!("{home}-{name}");
                kubectl(&[
                    "-n",
                    namespace,
                    "create",
                    "rolebinding",
                    &binding,
                    "--clusterrole=countersign-viewer",
                    &who,
                ]);
            }
            None => {
                let binding = format!("{home}-{name}");
                kubectl(&["delete", "clusterrolebinding", &binding, "--ignore-not-found"]);
                kubectl(&["create", "clusterrolebinding", &binding, "--clusterrole=countersign-viewer", &who]);
            }
        }
        Reader { forward, token: kubectl(&["-n", home, "create", "token", name]) }
    }

    /// One whose token is this text.
    pub fn with_token(forward: &'a Forward, token: &str) -> Reader<'a> {
        Reader { forward, token: token.to_owned() }
    }

    /// Status and body.
    pub fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.ask("GET", path)
    }

    pub fn ask(&self, method: &str, path: &str) -> (u16, Vec<u8>) {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let url = format!("{}{path}", self.forward.url);
        // The certificate is looked at where kubectl countersign reads; this is about what is answered.
        let arguments = ["-sk", "-X", method, "-H", &authorization, "-w", "%{stderr}%{http_code}", &url];
        let output = Command::new("curl").args(arguments).output().unwrap();
        let status = text(&output.stderr).parse().unwrap_or_else(|_| panic!("{url}: {}", text(&output.stderr)));
        (status, output.stdout)
    }

    /// The JSON of an answer that must be 200.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {}", text(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// What is said with this status.
    pub fn refused(&self, path: &str, expected: u16) -> String {
        let (status, body) = self.get(path);
        assert_eq!(status, expected, "{path}: {}", text(&body));
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], expected, "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    }
}
