//! Landlock (<https://docs.kernel.org/userspace-api/landlock.html>): reads everything but the runner's own folder,
//! writes to the scratch space and a workspace only, connects and binds no TCP port, and reaches no process outside.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

/// What the attempt's document and the runner's copy are in.
const OURS: &str = "countersign";
const SCRATCH: [&str; 2] = ["/tmp", "/dev/shm"];
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// The ABI that is in force; `None` where the kernel has none. A workspace is written to as scratch is.
pub fn restrict(workspace: Option<&Path>) -> anyhow::Result<Option<u32>> {
    let abi = ABI::V6;
    let readable: Vec<PathBuf> = std::fs::read_dir("/")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_none_or(|name| name != OURS))
        .collect();
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(readable, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::WriteFile | AccessFs::IoctlDev))?
        .add_rules(path_beneath_rules(SCRATCH, AccessFs::from_all(abi)))?
        .add_rules(path_beneath_rules(workspace, AccessFs::from_all(abi)))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi as u32),
        (_, _) => None,
    })
}

/// Whether what must be refused is: writing the runner's report.
pub fn hold() -> bool {
    let report = std::env::var_os("COUNTERSIGN_TERMINATION_LOG").unwrap_or_else(|| "/dev/termination-log".into());
    let opened = std::fs::OpenOptions::new().append(true).open(report);
    opened.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
