//! Resource limits, for what the pod's cgroup does not bound.

use nix::sys::resource::{Resource, setrlimit};

const OPEN_FILES: u64 = 1024;
/// The whole scratch space.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
const PROCESSES: u64 = 256;

pub fn set(user_namespace: bool) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)?;
    setrlimit(Resource::RLIMIT_FSIZE, FILE_BYTES, FILE_BYTES)?;
    if user_namespace {
        // Counted by user: without a namespace of its own, all sandboxes of a node would share it.
        setrlimit(Resource::RLIMIT_NPROC, PROCESSES, PROCESSES)?;
    }
    Ok(())
}
