//! A built-in skill as a process of its own, confined as in a pod, with nothing in its environment but what it is given.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::proxy::Proxy;

pub struct Ran {
    pub success: bool,
    pub output: String,
    pub error: String,
}

pub fn run<V: AsRef<OsStr>>(name: &str, input: &str, environment: &[(&str, V)]) -> Ran {
    let runner = env!("CARGO_BIN_EXE_countersign-runner");
    let mut child = Command::new(runner)
        .args(["confine", "--", runner, "builtin", name])
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value.as_ref())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    Ran {
        success: ended.status.success(),
        output: String::from_utf8(ended.stdout).unwrap(),
        error: String::from_utf8(ended.stderr).unwrap(),
    }
}

pub fn through(proxy: &Proxy, name: &str, input: &Value) -> Ran {
    run(name, &input.to_string(), &[("COUNTERSIGN_EGRESS_SOCKET", proxy.socket())])
}

impl Ran {
    #[track_caller]
    pub fn output(&self) -> Value {
        assert!(self.success, "{}", self.error);
        serde_json::from_str(&self.output).unwrap()
    }

    /// Nothing but this line, and no output.
    #[track_caller]
    pub fn fails(&self, message: &str) {
        assert_eq!(self.error.trim_end(), message);
        assert!(!self.success && self.output.is_empty(), "{}", self.output);
    }

    #[track_caller]
    pub fn fails_with(&self, part: &str) {
        assert!(self.error.contains(part), "{}", self.error);
        assert!(!self.success && self.output.is_empty(), "{}", self.output);
    }
}
