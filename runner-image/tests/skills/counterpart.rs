//! Real servers, from the packages that e2e/node lists, each a process of its own on loopback.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sha2::{Digest, Sha256};

const NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/node");

/// Where e2e/node/install.sh put the packages.
pub fn packages() -> PathBuf {
    let folder = std::env::var_os("COUNTERSIGN_NODE").map_or_else(by_default, PathBuf::from);
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
    pub fn start(command: &mut Command, mark: &str) -> (Server, String) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let said = loop {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "it ended before it said {mark:?}");
            if let Some((_, rest)) = line.split_once(mark) {
                break rest.trim().to_owned();
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        (Server(child), said)
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
    let (server, address) = Server::start(Command::new(program).args(arguments), "Listening on ");
    (server, address.parse().unwrap())
}

/// A contract of e2e/node, compiled: what creates it.
pub fn compiled(file: &str) -> String {
    let output =
        Command::new("node").arg(Path::new(NODE).join("compile.mjs")).arg(packages()).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compiled: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    compiled["bytecode"].as_str().unwrap().to_owned()
}
