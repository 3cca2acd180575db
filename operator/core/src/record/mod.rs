//! The record of one Task: what was decided and what came of it.
//!
//! PostgreSQL keeps it; this module says what it is and how a [`Change`] alters it. The store applies
//! the same changes in SQL, and a test holds the two against each other.

mod apply;
mod change;

pub use apply::ApplyError;
pub use change::{Change, Output};

use std::collections::{BTreeMap, BTreeSet};

use countersign_crds::{
    ApprovalScope, BudgetVerdict, Effect, EgressLimit, Identity, Outcome, PolicyMode, Required, RiskClass, Signature,
    SkillSpec, Step,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::approval::Terms;
use crate::binding::Binding;
use crate::budget::BudgetDecision;
use crate::digest::Digest;
use crate::money::Money;
use crate::payment::Payment;

/// Everything that is known of one Task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// How many transactions have changed this record; each one names the version it saw.
    pub version: i64,
    pub adopted_at: Timestamp,
    pub request: Request,
    pub plan: Option<RecordedPlan>,
    pub steps: BTreeMap<String, StepRecord>,
    pub approvals: BTreeMap<String, ApprovalRecord>,
    pub ending: Option<Ending>,
    pub finished: Option<Finished>,
}

/// Who asked, as it was when the Task was adopted; no later edit of the object changes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// `None` where the Task came to be without the webhook that stamps it; then nobody can sign for it.
    pub requester: Option<Identity>,
    /// For whom the requester says that it asked: a claim.
    pub on_behalf_of: Option<String>,
}

/// The Plan snapshot, with the parameters that its expressions see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordedPlan {
    /// The name of the Plan snapshot object.
    pub name: String,
    pub digest: Digest,
    /// `plan NAME`, `inline` or `generic`: where the steps came from.
    pub source: String,
    pub parallelism: u32,
    pub steps: Vec<Step>,
    pub parameters: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub state: StepOutcome,
    pub reason: Option<String>,
    pub message: Option<String>,
    /// In order of their number, which starts at 1 and has no gaps.
    pub attempts: Vec<AttemptRecord>,
    /// The earliest instant of the next attempt, where one is owed.
    pub not_before: Option<Timestamp>,
    /// What kept it back for want of money, until it starts or ends.
    pub deferral: Option<Deferral>,
    pub output: Option<OutputReference>,
    /// The tree of files that it left.
    pub workspace: Option<Digest>,
    pub finished_at: Option<Timestamp>,
}

/// A step's price did not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferral {
    /// When the window begins in which it may; `None` where it waits for something that is held to be given back.
    pub until: Option<Timestamp>,
    pub message: String,
}

/// What was reserved for an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub amount: Money,
    pub verdict: BudgetVerdict,
}

impl From<&BudgetDecision> for Reservation {
    fn from(decision: &BudgetDecision) -> Reservation {
        Reservation { amount: decision.amount, verdict: decision.verdict }
    }
}

/// What became of a step; `Open` until it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepOutcome {
    Open,
    Succeeded,
    Failed,
    Skipped,
    Rejected,
    Unknown,
}

impl StepOutcome {
    /// How it ended; `None` while it is open.
    pub fn ended(self) -> Option<Outcome> {
        match self {
            StepOutcome::Open => None,
            StepOutcome::Succeeded => Some(Outcome::Succeeded),
            StepOutcome::Failed => Some(Outcome::Failed),
            StepOutcome::Skipped => Some(Outcome::Skipped),
            StepOutcome::Rejected => Some(Outcome::Rejected),
            StepOutcome::Unknown => Some(Outcome::Unknown),
        }
    }
}

/// One try at a step: one key, one Job, one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub number: u32,
    /// The Job's name, unique for ever.
    pub key: String,
    /// The digest of everything that determined what ran.
    pub digest: Digest,
    pub input_digest: Digest,
    /// The Skill that it runs: the Plan's, or what that was downgraded to.
    pub skill: String,
    /// `None` where it has no price.
    pub reservation: Option<Reservation>,
    pub approval: Option<String>,
    pub intended_at: Timestamp,
    pub state: AttemptState,
    /// What to run; the store returns it only while the attempt is not finished.
    pub launch: Option<Launch>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AttemptState {
    /// Recorded; its pod, if there is one, is still behind its gate.
    Intended,
    /// Exactly this pod was let in.
    Admitted {
        pod_uid: String,
        at: Timestamp,
    },
    Finished {
        outcome: AttemptOutcome,
        message: Option<String>,
        pod_uid: Option<String>,
        at: Timestamp,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AttemptOutcome {
    Succeeded,
    Failed,
    TimedOut,
    /// Ended because the Task was cancelled, deleted or past its deadline.
    Cancelled,
    /// Never let in: what would run was no longer what was decided.
    Voided,
    /// Never started within the time allowed for it.
    NotStarted,
    /// It was let in and its result cannot be known.
    Unknown,
}

/// What one attempt runs, frozen when it was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Launch {
    pub skill: String,
    pub contract: SkillSpec,
    pub input: Map<String, Value>,
    /// The image of the main container, by digest.
    pub image: String,
    pub timeout_seconds: u32,
    /// Narrower lists of where it may go: each Policy's that has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Vec<EgressLimit>>,
    /// The Secrets that the broker shows for it, with their fingerprints.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// The trees of files that it begins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workspace: Vec<Digest>,
    /// What it may ask the signer to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<Payment>,
}

/// Which layers of the sandbox held for an attempt, and what really ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    pub no_new_privs: bool,
    /// No socket but a Unix one could be made.
    pub seccomp: bool,
    /// The ABI of Landlock that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock: Option<u32>,
    pub user_namespace: bool,
    pub kernel: String,
    /// The image that the kubelet ran, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    /// Whether a canary found the namespace's network closed; left out where none had tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputReference {
    pub digest: Digest,
    pub bytes: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    pub name: String,
    /// The step that asked first.
    pub step: String,
    pub digest: Digest,
    /// Every step that it is for.
    pub covers: BTreeMap<String, Covered>,
    pub requester: Identity,
    pub on_behalf_of: Option<String>,
    pub required: Required,
    pub scope: ApprovalScope,
    pub risk: RiskClass,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
    /// The signatures that count, in the order in which they were seen.
    pub decisions: Vec<Signature>,
    /// The steps that began under it; each at most once.
    pub used: BTreeSet<String>,
    pub state: ApprovalState,
}

/// One run of one step, as people signed for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Covered {
    /// Which run of the step, from 1: what never began is none.
    pub attempt: u32,
    pub digest: Digest,
    /// What the digest is of, so that a difference can be named; `None` once it was erased.
    #[schemars(with = "Value")]
    pub binding: Option<Box<Binding>>,
    pub rules: Vec<RuleDecision>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalState {
    Requested,
    /// It has the signatures that it takes.
    Approved,
    Rejected,
    Expired,
    /// What would run is no longer what was asked for; the fields that differ.
    Superseded {
        changed: Vec<String>,
    },
    /// Every step that it was for began under it; it never serves again.
    Consumed,
    /// The Task ended before it was used.
    Withdrawn,
}

/// One Policy rule that matched, and what it saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleDecision {
    /// `NAMESPACE/NAME`; `plan` where the step itself asks, `agent` where its Agent forbids, `default`
    /// where no rule matched.
    pub policy: String,
    pub rule: String,
    pub effect: Effect,
    pub mode: PolicyMode,
    pub risk: RiskClass,
    pub message: Option<String>,
    /// The members that the rule's expression names, with the values they had.
    pub saw: Map<String, Value>,
    /// The digest of the set of policies that this rule stood in.
    pub policies: Digest,
}

/// Why a Task is being brought to its end before its steps were done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ending {
    pub cause: EndingCause,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndingCause {
    Cancelled,
    DeadlineExceeded,
    /// The Task object is gone.
    Deleted,
    /// A step did not end well; what runs may finish, nothing new starts.
    StepFailed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finished {
    pub outcome: TaskOutcome,
    /// CamelCase, for machines.
    pub reason: String,
    pub message: String,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaskOutcome {
    Completed,
    Failed,
    Rejected,
    Cancelled,
}

impl TaskRecord {
    pub fn adopt(uid: String, namespace: String, name: String, request: Request, at: Timestamp) -> TaskRecord {
        TaskRecord {
            uid,
            namespace,
            name,
            version: 0,
            adopted_at: at,
            request,
            plan: None,
            steps: BTreeMap::new(),
            approvals: BTreeMap::new(),
            ending: None,
            finished: None,
        }
    }
}

impl StepRecord {
    pub fn open() -> StepRecord {
        StepRecord {
            state: StepOutcome::Open,
            reason: None,
            message: None,
            attempts: Vec::new(),
            not_before: None,
            deferral: None,
            output: None,
            workspace: None,
            finished_at: None,
        }
    }

    /// The attempt that is under way, if one is.
    pub fn live_attempt(&self) -> Option<&AttemptRecord> {
        self.attempts.last().filter(|a| !a.is_finished())
    }

    pub fn next_number(&self) -> u32 {
        self.attempts.last().map_or(1, |a| a.number + 1)
    }

    /// Which run the attempt `number` is, from 1: those before it that never began are none.
    pub fn run(&self, number: u32) -> u32 {
        let began = self.attempts.iter().filter(|attempt| attempt.number < number && attempt.launched());
        began.fold(1, |run, _| run + 1)
    }

    pub fn is_open(&self) -> bool {
        self.state == StepOutcome::Open
    }
}

impl AttemptRecord {
    pub fn is_finished(&self) -> bool {
        matches!(self.state, AttemptState::Finished { .. })
    }

    /// Whether its pod was let in at some time.
    pub fn launched(&self) -> bool {
        match &self.state {
            AttemptState::Intended => false,
            AttemptState::Admitted { .. } => true,
            AttemptState::Finished { pod_uid, .. } => pod_uid.is_some(),
        }
    }
}

impl ApprovalRecord {
    /// Whether people may still decide it or an attempt may still use it.
    pub fn is_open(&self) -> bool {
        match self.state {
            ApprovalState::Requested | ApprovalState::Approved => true,
            ApprovalState::Rejected
            | ApprovalState::Expired
            | ApprovalState::Superseded { .. }
            | ApprovalState::Consumed
            | ApprovalState::Withdrawn => false,
        }
    }

    /// Whether it is open and this step could still run under it.
    pub fn awaits(&self, step: &str) -> bool {
        self.is_open() && self.covers.contains_key(step) && !self.used.contains(step)
    }

    /// What a signature is held against; `digest` is this record's, as text.
    pub fn terms<'a>(&'a self, digest: &'a str) -> Terms<'a> {
        Terms { digest, requester: &self.requester, required: &self.required, expires_at: self.expires_at }
    }
}
