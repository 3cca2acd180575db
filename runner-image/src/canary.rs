//! Tries what a sandbox's network must not let through, from a pod to which the same NetworkPolicies apply. It runs
//! unconfined: the runner's own layers would hide what the network does.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Rules may come into force a little after a pod has started, and what is open meanwhile is open.
const ROUNDS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Targets {
    must_not_reach: Vec<SocketAddr>,
    must_reach: Option<SocketAddr>,
}

#[derive(Serialize)]
struct Report {
    version: u32,
    /// What it should not have reached.
    reached: Vec<SocketAddr>,
    /// What it should have reached and did not.
    missed: Option<SocketAddr>,
}

pub fn run(targets: &str) -> anyhow::Result<()> {
    let Targets { must_not_reach, must_reach } = serde_json::from_str(targets).context("the canary's targets")?;
    let mut report = Report { version: 1, reached: Vec::new(), missed: must_reach };
    for _ in 0..ROUNDS {
        report.reached.extend(must_not_reach.iter().copied().filter(reaches));
        report.missed = report.missed.filter(|target| !reaches(target));
    }
    report.reached.sort_unstable();
    report.reached.dedup();
    let path = std::env::var_os("COUNTERSIGN_TERMINATION_LOG").unwrap_or_else(|| "/dev/termination-log".into());
    std::fs::write(&path, serde_json::to_vec(&report)?).context("the canary's report cannot be written")
}

/// Only a connection counts: a rejection may be the network's own.
fn reaches(target: &SocketAddr) -> bool {
    TcpStream::connect_timeout(target, PATIENCE).is_ok()
}
