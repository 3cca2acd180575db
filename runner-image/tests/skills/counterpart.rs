//! Real servers, from the packages that e2e/node lists, each a process of its own on loopback.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sha2::{Digest, Sha256};

const NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/node");

/// Where e2e/node/install.sh put the packages.
pub fn packages() -> PathBuf {
    let folder = std::env::var_os("COUNTERSIGN_TEST_NODE").map_or_else(by_default, PathBuf::from);
    assert!(folder.join("node_modules").is_dir(), "{} is missing; run e2e/node/install.sh", folder.display());
    folder
}

fn by_default() -> PathBuf {
    let lock = std::fs::read(Path::new(NODE).join("package-lock.json")).unwrap();
    let key: String = Sha256::digest(lock).iter().map(|byte| format!("{byte:02x}")).collect();
    let cache = std::env::var_os("COUNTERSIGN_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/countersign"));
    cache.join("node").join(key)
}

/// A process that ends with the test.
pub struct Server(Child);

impl Server {
    /// Waits for the line that says that it is ready, and returns what comes after `mark` in it.
    pub fn start(mut command: Command, mark: &str) -> (Server, String) {
        let (said, saying) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(saying.try_clone().unwrap()).stderr(saying);
        let child = command.spawn().unwrap();
        // It holds the other ends of the pipe.
        drop(command);
        let mut said = BufReader::new(said);
        let mut lines = String::new();
        let ready = loop {
            let before = lines.len();
            assert_ne!(said.read_line(&mut lines).unwrap(), 0, "it ended before it said {mark:?}:\n{lines}");
            if let Some((_, rest)) = lines[before..].split_once(mark) {
                break rest.trim().to_owned();
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        (Server(child), ready)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A chain of its own, with ten accounts of 10,000 ether each.
pub fn anvil(chain: u64) -> (Server, SocketAddr) {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let program = packages().join(format!("node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"));
    let chain = chain.to_string();
    let arguments = ["--host", "127.0.0.1", "--port", "0", "--chain-id", &chain];
    let mut command = Command::new(program);
    command.args(arguments);
    let (server, address) = Server::start(command, "Listening on ");
    (server, address.parse().unwrap())
}

/// A server of OpenAI's API that answers as model.json says, and streams four characters at a time.
pub fn model() -> (Server, SocketAddr) {
    let program = packages().join("node_modules/@copilotkit/aimock/dist/cli.js");
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/skills/model.json");
    let mut command = Command::new("node");
    command.arg(program).args(["--port", "0", "--chunk-size", "4", "--fixtures", fixtures]);
    let (server, address) = Server::start(command, "listening on http://");
    (server, address.parse().unwrap())
}

/// The official test server of the Model Context Protocol, on a Unix socket.
pub fn everything(socket: &Path) -> Server {
    let program = packages().join("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let mut command = Command::new("node");
    command.arg(program).arg("streamableHttp").env("PORT", socket);
    Server::start(command, "listening on port").0
}

/// A contract of e2e/node, compiled: what creates it.
pub fn compiled(file: &str) -> String {
    let output =
        Command::new("node").arg(Path::new(NODE).join("compile.mjs")).arg(packages()).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compiled: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    compiled["bytecode"].as_str().unwrap().to_owned()
}
