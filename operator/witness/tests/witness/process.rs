//! The binary itself, on a port of its own, and a client that speaks bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use countersign_core::tlog::{CosigningKey, WitnessKey};

pub const BINARY: &str = env!("CARGO_BIN_EXE_countersign-witness");

pub fn key() -> CosigningKey {
    CosigningKey::new("witness.example/w1", [3; 32]).unwrap()
}

pub fn public() -> WitnessKey {
    key().witness_key()
}

pub fn command(folder: &Path, logs: &[String]) -> Command {
    let file = folder.with_extension("key");
    std::fs::write(&file, key().to_secret() + "\n").unwrap();
    let mut command = Command::new(BINARY);
    command.arg("--listen").arg("127.0.0.1:0").arg("--key").arg(file).arg("--data").arg(folder);
    command.args(logs.iter().flat_map(|log| ["--log", log]));
    command.stdout(Stdio::piped());
    command
}

pub struct Process {
    child: Child,
    pub address: String,
    /// What it wrote until it served; what comes later is read by whoever wants it.
    pub logs: BufReader<std::process::ChildStdout>,
}

impl Process {
    pub fn start(folder: &Path, logs: &[String]) -> Process {
        let mut child = command(folder, logs).spawn().unwrap();
        let mut logs = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(logs.read_line(&mut line).unwrap(), 0, "it ended before it served");
            if let Some((_, rest)) = line.split_once(r#""address":""#) {
                break rest.split('"').next().unwrap().to_owned();
            }
        };
        Process { child, address, logs }
    }

    /// As a loss of power would, but for the disk's own cache.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As an administrator would: whether it went well.
    pub fn end(mut self) -> bool {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().success()
    }

    pub fn add(&self, body: &str) -> Answer {
        post(&self.address, body).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

pub fn post(address: &str, body: &str) -> std::io::Result<Answer> {
    let length = body.len();
    let head =
        format!("POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    send(address, format!("{head}{body}").as_bytes())
}

pub fn send(address: &str, request: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| std::io::Error::other(format!("no answer: {answer:?}")))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default().to_owned();
    Some(Answer { status, content_type, body: body.to_owned() })
}
