//! What the runner is told and what it reports: version 1.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::confine::Evidence;

/// The most bytes that the kubelet keeps of a termination message.
pub const TERMINATION_MESSAGE_BYTES: usize = 4096;
/// Outputs up to this size travel in the termination message, if it holds them.
pub const INLINE_BYTES: usize = 2048;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attempt {
    pub version: u32,
    pub attempt: String,
    pub timeout_seconds: u64,
    pub output_limit_bytes: usize,
    pub skill: Skill,
    pub input: Value,
    pub workspace: Option<Workspace>,
}

/// The Task's files that the skill sees.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// The digests of what is in the folder at the start.
    pub trees: Vec<String>,
    /// Whether what is there at a good end is kept.
    pub keep: bool,
}

/// A built-in or a command, never both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skill {
    pub builtin: Option<String>,
    pub program: Option<String>,
    pub command: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub version: u32,
    pub attempt: String,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// The digest of the tree of files that was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Which layers of the sandbox held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    pub started_at: String,
    pub finished_at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Status {
    Succeeded,
    Failed,
    TimedOut,
    OutputTooLarge,
    OutputInvalid,
    InputInvalid,
    Cancelled,
    /// A layer of the sandbox that is required is not there; nothing was started.
    SandboxIncomplete,
    /// The broker opened no session, as where somebody else used the token; nothing was started.
    BrokerRefused,
}

#[derive(Debug, Serialize)]
pub struct Output {
    /// 64 hexadecimal digits, over the output's bytes.
    pub sha256: String,
    pub size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
}
