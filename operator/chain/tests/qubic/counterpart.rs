//! Programs in Node.js that a test starts, and what most tests begin with.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use countersign_chain::network::Work;
use countersign_chain::qubic::{Amount, Key, Qubic, Settings};
use jiff::Timestamp;
use reqwest::{Client, Url};
use serde_json::{Value, json};

pub const DIGEST: [u8; 32] = [0xd1; 32];
pub const OFFSET: u32 = 5;
pub const FINAL: u32 = 3;

/// A program that ends with the test.
pub struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(name: &str) -> Program {
        assert!(
            std::env::var_os("COUNTERSIGN_TEST_NODE").is_some(),
            "set COUNTERSIGN_TEST_NODE to the folder that e2e/node/install.sh prints"
        );
        let script = format!("{}/tests/qubic/{name}.mjs", env!("CARGO_MANIFEST_DIR"));
        let command = &mut Command::new("node");
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Program { child, input, output: BufReader::new(output) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "it has ended");
        line
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Qubic's own library.
pub struct Oracle(Program);

impl Oracle {
    pub fn start() -> Oracle {
        Oracle(Program::start("oracle"))
    }

    pub fn ask(&mut self, question: Value) -> Value {
        writeln!(self.0.input, "{question}").unwrap();
        serde_json::from_str(&self.0.line()).unwrap()
    }
}

/// A node with its ticks in the test's hand.
pub struct Server {
    pub url: Url,
    client: Client,
    _program: Program,
}

impl Server {
    pub fn start() -> Server {
        let mut program = Program::start("server");
        let url = format!("http://127.0.0.1:{}/", program.line().trim()).parse().unwrap();
        Server { url, client: client(), _program: program }
    }

    /// Changes what is told, and tells how things are then.
    pub async fn tell(&self, change: Value) -> Value {
        let answer = self.post("test", &change).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.client.post(self.url.join(path).unwrap()).json(body).send().await.unwrap()
    }

    /// Bends the next answer to a path.
    pub async fn bend(&self, path: &str, how: &str) {
        self.tell(json!({ "bend": [{ "path": format!("/{path}"), "how": how }] })).await;
    }
}

/// It waits long enough for any answer that comes.
pub fn client() -> Client {
    patient(Duration::from_secs(20))
}

pub fn patient(time: Duration) -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap());
    Client::builder().timeout(time).build().unwrap()
}

pub fn key() -> Key {
    Key::from_seed(&[b'q'; 55]).unwrap()
}

pub fn settings(url: &Url) -> Settings {
    Settings {
        url: url.clone(),
        destination: None,
        tick_offset: OFFSET.try_into().unwrap(),
        input_type: 7,
        amount: Amount::Nothing,
        final_ticks: FINAL,
    }
}

pub fn qubic(server: &Server) -> Qubic {
    Qubic::new(client(), settings(&server.url), key()).unwrap()
}

pub fn work() -> Work {
    Work::Anchor(DIGEST)
}

pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}
