//! An attempt, as a pod would hold it: its document, its report, its environment.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::broker::Broker;

/// The interpreter that `make test` installs: another one on the PATH may lie where only root can read it.
pub const PYTHON: &str = "/usr/bin/python3";

/// A folder outside of the repository, which may lie below `/tmp`, where every skill writes.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

pub struct Attempt {
    folder: tempfile::TempDir,
    /// Below `/tmp`, which is a skill's own.
    scratch: tempfile::TempDir,
    runner: PathBuf,
    /// In front of the runner's own command line.
    through: Vec<&'static str>,
    env: Vec<(&'static str, String)>,
}

pub struct Ran {
    pub report: Value,
    pub bytes: usize,
    pub log: String,
    pub success: bool,
    pub took: Duration,
}

impl Attempt {
    pub fn new(document: impl ToString) -> Attempt {
        let attempt = Attempt {
            folder: folder(),
            scratch: tempfile::tempdir_in("/tmp").unwrap(),
            runner: PathBuf::from(env!("CARGO_BIN_EXE_countersign-runner")),
            through: Vec::new(),
            env: Vec::new(),
        };
        attempt.write(document);
        // The kubelet makes the file; the runner fills it.
        std::fs::File::create(attempt.report()).unwrap();
        attempt
    }

    /// Of a shell script.
    pub fn shell(script: &str) -> Attempt {
        Attempt::new(document(&shell(script), &json!({"a": 1}), 30, 1 << 20))
    }

    pub fn write(&self, document: impl ToString) {
        std::fs::write(self.path("attempt.json"), document.to_string()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the kubelet keeps.
    pub fn report(&self) -> PathBuf {
        self.path("termination-log")
    }

    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Attempt {
        self.env.push((name, value.to_string()));
        self
    }

    /// Tells it of the broker and gives it a token.
    pub fn reaches(self, broker: &Broker, token: &str) -> Attempt {
        let (file, offer) = (self.path("token"), self.scratch().join("egress"));
        std::fs::write(&file, token).unwrap();
        self.with("COUNTERSIGN_BROKER", broker.document())
            .with("COUNTERSIGN_TOKEN_FILE", file.display())
            .with("COUNTERSIGN_EGRESS_FOLDER", offer.display())
    }

    /// Starts the runner by another program.
    pub fn through(mut self, words: &[&'static str]) -> Attempt {
        self.through.extend(words);
        self
    }

    /// As in a pod: no user of the node, and no capability. It gets a copy of the runner, as the repository may lie
    /// where only root can read it.
    pub fn unprivileged(mut self) -> Attempt {
        const USER: u32 = 65532;
        let copy = self.path("countersign-runner");
        std::fs::copy(&self.runner, &copy).unwrap();
        self.runner = copy;
        for path in [self.folder.path(), self.scratch.path()] {
            std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
            for entry in std::fs::read_dir(path).unwrap() {
                std::os::unix::fs::chown(entry.unwrap().path(), Some(USER), Some(USER)).unwrap();
            }
        }
        let user = ["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups"];
        self.through(&user).through(&["--bounding-set=-all", "--inh-caps=-all"])
    }

    pub fn command(&self) -> Command {
        let words: Vec<&OsStr> = self.through.iter().map(OsStr::new).chain([self.runner.as_os_str()]).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(self.folder.path())
            .env("COUNTERSIGN_ATTEMPT_FILE", self.path("attempt.json"))
            .env("COUNTERSIGN_TERMINATION_LOG", self.report())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped());
        command
    }

    /// Runs it to its end; `meanwhile` gets the runner's pid once it has started.
    pub fn run_with(&self, mut command: Command, meanwhile: impl FnOnce(i32)) -> Ran {
        std::fs::File::options().write(true).truncate(true).open(self.report()).unwrap();
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        meanwhile(i32::try_from(child.id()).unwrap());
        let mut log = String::new();
        child.stdout.take().unwrap().read_to_string(&mut log).unwrap();
        let success = child.wait().unwrap().success();
        let message = std::fs::read_to_string(self.report()).unwrap();
        let report = serde_json::from_str(&message).unwrap_or_else(|error| panic!("{error}: {message}"));
        Ran { report, bytes: message.len(), log, success, took: start.elapsed() }
    }

    pub fn run(&self) -> Ran {
        self.run_with(self.command(), |_| {})
    }
}

pub fn shell(script: &str) -> Value {
    json!({"command": ["/bin/sh", "-c", script]})
}

pub fn document(skill: &Value, input: &Value, timeout: u64, limit: usize) -> Value {
    json!({"version": 1, "attempt": "key", "timeoutSeconds": timeout, "outputLimitBytes": limit, "skill": skill,
        "input": input})
}

pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Ran {
    #[track_caller]
    pub fn is(&self, status: &str, message: &str) {
        assert_eq!(self.report["status"], status, "{}{}", self.report, self.log);
        let said = self.report["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
        assert_eq!(self.success, status == "Succeeded");
        assert!(self.bytes < 4096, "{} bytes", self.bytes);
        assert_eq!(self.report["output"].is_null(), status != "Succeeded", "{}", self.report);
    }

    /// The output of one that succeeded.
    #[track_caller]
    pub fn output(&self) -> Value {
        assert_eq!(self.report["status"], "Succeeded", "{}{}", self.report, self.log);
        serde_json::from_str(self.report["output"]["inline"].as_str().unwrap()).unwrap()
    }

    pub fn lines(&self) -> impl Iterator<Item = Value> + '_ {
        self.log.lines().map(|line| serde_json::from_str(line).unwrap())
    }
}

/// Waits for what another process brings about.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
