//! A PostgreSQL of the test's own, to be killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use countersign_store::{Store, StoreOptions, Timeouts};

pub struct Server {
    folder: PathBuf,
    pub port: u16,
    /// What is taken down with it.
    mounted: bool,
    crashing: Mutex<()>,
}

/// PostgreSQL refuses to run as root; then it runs as the user that its package made.
fn as_nobody_special(program: &Path) -> Command {
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "env", "-C", "/"]).arg(program);
    command
}

fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed: run the tests with `make test`")
        .map(|entry| entry.unwrap().path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    versions.sort();
    versions.pop().unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    pub fn new() -> Server {
        Server::start_in(false, "")
    }

    /// One whose disk has so many MiB.
    pub fn on_a_disk_of(megabytes: u32) -> Server {
        Server::start_in(true, &format!("size={megabytes}m"))
    }

    fn start_in(mounted: bool, size: &str) -> Server {
        let output = Command::new("mktemp").args(["-d", "/tmp/countersign-postgres-XXXXXX"]).output().unwrap();
        let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        if mounted {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&folder));
        }
        if Command::new("chown").arg("postgres:").arg(&folder).stderr(Stdio::null()).status().unwrap().success() {
            run(Command::new("chmod").arg("755").arg(&folder));
        }
        // Whoever takes it in between makes the start fail, and the test with it.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = folder.join("data");
        run(as_nobody_special(&program("initdb")).arg("-D").arg(&data).args([
            "--auth",
            "trust",
            "-U",
            "countersign",
            "--encoding",
            "UTF8",
        ]));
        // A process that is killed leaves what it wrote to the kernel; only a machine that stops would need fsync.
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_wal_size = 32MB\nmin_wal_size = 32MB\n\
             shared_buffers = 16MB\nautovacuum = off\nfsync = off\n"
        );
        let configuration = data.join("postgresql.conf");
        let written = std::fs::read_to_string(&configuration).unwrap() + &settings;
        std::fs::write(&configuration, written).unwrap();
        let server = Server { folder, port, mounted, crashing: Mutex::default() };
        server.start();
        server
    }

    pub fn start(&self) {
        // Its output would be waited for as long as the server lives.
        let status = self
            .control(&["-w", "-t", "60", "-l"])
            .arg(self.folder.join("data/log"))
            .arg("start")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{}", self.log());
    }

    /// As a crash would: nothing is finished, nothing is flushed.
    pub fn kill(&self) {
        run(self.control(&["-m", "immediate", "-w"]).arg("stop"));
    }

    /// Killed, and started again by whoever runs it.
    pub fn crash(&self) {
        let _crashing = self.crashing.lock().unwrap();
        self.kill();
        self.start();
    }

    /// Waits for a crash that is under way.
    pub fn settled(&self) {
        drop(self.crashing.lock().unwrap());
    }

    pub fn runs(&self) -> bool {
        self.control(&[]).arg("status").stdout(Stdio::null()).status().unwrap().success()
    }

    fn control(&self, arguments: &[&str]) -> Command {
        let mut command = as_nobody_special(&program("pg_ctl"));
        command.arg("-D").arg(self.folder.join("data")).args(arguments);
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("data/log")).unwrap_or_default()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty database.
    pub async fn database(&self, name: &str) -> String {
        let admin = open(format!("postgres://countersign@127.0.0.1:{}/postgres?sslmode=disable", self.port));
        sqlx::query(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(admin.pool()).await.unwrap();
        admin.close().await;
        format!("postgres://countersign@127.0.0.1:{}/{name}?sslmode=disable", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.runs() {
            self.kill();
        }
        if self.mounted {
            run(Command::new("umount").arg(&self.folder));
        }
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Empties what the last run left; it takes a superuser to get past the triggers.
pub async fn empty(store: &Store) {
    let statement = "set session_replication_role = replica;
        truncate tasks, plans, steps, approvals, signatures, attempts, outputs, log_entries, log_payloads, log_pending,
            log_leaves, log_tiles, log_checkpoints, log_keys, configurations, budgets, runs restart identity cascade;
        set session_replication_role = origin";
    sqlx::raw_sql(statement).execute(store.pool()).await.unwrap();
}

pub fn open(url: String) -> Store {
    Store::open(&StoreOptions {
        url,
        max_connections: 2,
        acquire_timeout: Duration::from_secs(3),
        timeouts: Timeouts::default(),
    })
    .unwrap()
}
