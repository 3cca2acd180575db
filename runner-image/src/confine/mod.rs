//! The sandbox's second layer: what a skill gives up before its first instruction. The runner starts the skill through
//! itself (`confine`), and before that a probe of the same making, which tries what must not work and tells what held.

mod divert;
mod files;
pub mod kernel;
mod limits;
mod syscalls;

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

/// One thing that keeps a skill where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Layer {
    NoNewPrivs,
    Seccomp,
    Landlock,
    UserNamespace,
}

/// Which layers held, as the probe found them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    pub no_new_privs: bool,
    /// No socket but a Unix one could be made.
    pub seccomp: bool,
    /// The ABI that is in force; `None` where the kernel has no Landlock, or what it should refuse was not refused.
    pub landlock: Option<u32>,
    /// The pod's root is not the node's.
    pub user_namespace: bool,
    pub kernel: String,
}

impl Evidence {
    fn has(&self, layer: Layer) -> bool {
        match layer {
            Layer::NoNewPrivs => self.no_new_privs,
            Layer::Seccomp => self.seccomp,
            Layer::Landlock => self.landlock.is_some(),
            Layer::UserNamespace => self.user_namespace,
        }
    }

    /// What is required and did not hold.
    pub fn lacks<'a>(&self, required: &'a [Layer]) -> Vec<&'a Layer> {
        required.iter().filter(|layer| !self.has(**layer)).collect()
    }
}

/// What a skill keeps beyond what every skill keeps.
#[derive(Default)]
pub struct Grants<'a> {
    /// Its inet sockets are answered by whoever holds the other end of this; without it there are none.
    pub sockets: Option<BorrowedFd<'a>>,
    /// It writes here, too.
    pub workspace: Option<&'a Path>,
}

/// The same, as `confine` reads them from its arguments.
#[derive(Default)]
struct Granted {
    sockets: Option<RawFd>,
    workspace: Option<PathBuf>,
}

const SOCKETS: &str = "--sockets";
const WORKSPACE: &str = "--workspace";

/// A command that starts the program behind all the layers that there are.
pub fn wrap(runner: &Path, grants: &Grants, program: &OsStr) -> Command {
    let Grants { sockets, workspace } = grants;
    let mut command = Command::new(runner);
    command.arg("confine");
    if let Some(sockets) = sockets {
        command.arg(SOCKETS).arg(sockets.as_raw_fd().to_string());
    }
    if let Some(workspace) = workspace {
        command.arg(WORKSPACE).arg(workspace);
    }
    command.arg("--").arg(program);
    command
}

/// What holds for a command that is started behind the layers.
pub fn probe(runner: &Path) -> anyhow::Result<Evidence> {
    let output = Command::new(runner).arg("probe").output().context("the sandbox's probe could not be started")?;
    if !output.status.success() {
        bail!("the sandbox's probe failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("the sandbox's probe said nothing that can be read")
}

/// Becomes the command, behind all the layers that there are. Returns only where that fails.
pub fn confine(words: &[&str]) -> anyhow::Result<()> {
    let (granted, command) = granted(words)?;
    let [program, arguments @ ..] = command else { bail!("confine: name a program") };
    kernel::close_on_exec().context("descriptors left open")?;
    apply(&granted)?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}

fn granted<'a>(mut words: &'a [&'a str]) -> anyhow::Result<(Granted, &'a [&'a str])> {
    let mut granted = Granted::default();
    loop {
        words = match words {
            ["--", command @ ..] => return Ok((granted, command)),
            [SOCKETS, number, rest @ ..] => {
                granted.sockets = Some(number.parse().with_context(|| format!("confine: {SOCKETS} {number}"))?);
                rest
            }
            [WORKSPACE, folder, rest @ ..] => {
                granted.workspace = Some(folder.into());
                rest
            }
            _ => bail!("confine: {words:?}; use [{SOCKETS} NUMBER] [{WORKSPACE} FOLDER] -- COMMAND"),
        }
    }
}

/// Takes the layers on, tries what they should refuse, and prints what was found.
pub fn print_probe() -> anyhow::Result<()> {
    let abi = apply(&Granted::default())?;
    let refused = |family| {
        let made = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
        made.err() == Some(Errno::EPERM)
    };
    let families = [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Netlink, AddressFamily::Packet];
    let evidence = Evidence {
        no_new_privs: prctl::get_no_new_privs()?,
        seccomp: families.into_iter().all(refused),
        landlock: abi.filter(|_| files::hold()),
        user_namespace: in_user_namespace(),
        kernel: nix::sys::utsname::uname()?.release().to_string_lossy().into_owned(),
    };
    println!("{}", serde_json::to_string(&evidence)?);
    Ok(())
}

/// In this order: the filter forbids what Landlock and the limits are set with.
fn apply(granted: &Granted) -> anyhow::Result<Option<u32>> {
    let Granted { sockets, workspace } = granted;
    let sockets = sockets.map(kernel::inherited).transpose().context("the stream to the runner")?;
    prctl::set_no_new_privs().context("no_new_privs")?;
    limits::set(in_user_namespace()).context("resource limits")?;
    let abi = files::restrict(workspace.as_deref()).context("Landlock")?;
    syscalls::filter(sockets.is_some()).context("seccomp")?;
    if let Some(sockets) = sockets {
        let flags = kernel::offered().context("seccomp: this kernel asks nobody about a call")?;
        let listener = kernel::install(&divert::program(), flags).context("seccomp: a filter with a listener")?;
        kernel::hand_over(sockets.as_fd(), listener.as_fd()).context("seccomp: the listener")?;
    }
    Ok(abi)
}

/// The first user namespace maps everything onto itself.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_whitespace().collect();
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}
