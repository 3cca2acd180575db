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
    /// The `metadata.uid` of the Task object.
    pub uid: String,
    /// The namespace of the Task object.
    pub namespace: String,
    /// The name of the Task object.
    pub name: String,
    /// How many transactions have changed this record; each one names the version it saw.
    pub version: i64,
    /// When the Task was adopted (UTC).
    pub adopted_at: Timestamp,
    /// Who asked for the Task.
    pub request: Request,
    /// The Plan that the Task runs; `None` until its snapshot is taken, and for ever where the Task ended before.
    pub plan: Option<RecordedPlan>,
    /// What is known of each step of the Plan, by the step's name; empty while there is no Plan.
    pub steps: BTreeMap<String, StepRecord>,
    /// Every Approval that was ever asked for, by the name of its object.
    pub approvals: BTreeMap<String, ApprovalRecord>,
    /// That the Task is coming to its end before its steps are done; `None` where nothing called for that.
    pub ending: Option<Ending>,
    /// What the Task came to; `None` while it goes on.
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
    /// SHA-256 over the RFC 8785 JSON of `steps` and `parallelism`.
    pub digest: Digest,
    /// Where the steps came from: `plan NAMESPACE/NAME`, `inline plan` or `generic plan`.
    pub source: String,
    /// How many of the steps may run at once.
    pub parallelism: u32,
    /// The steps, in the order in which the Plan lists them.
    pub steps: Vec<Step>,
    /// The Task's `spec.parameters`, which expressions see as `task.parameters`.
    pub parameters: Map<String, Value>,
}

/// What is known of one step of a Task's Plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// What became of the step.
    pub state: StepOutcome,
    /// Why it ended so, CamelCase, for machines; `None` while it is open, and where it succeeded.
    pub reason: Option<String>,
    /// The same in a sentence for people; `None` while it is open, and where it succeeded.
    pub message: Option<String>,
    /// In order of their number, which starts at 1 and has no gaps.
    pub attempts: Vec<AttemptRecord>,
    /// The earliest instant of the next attempt, where one is owed.
    pub not_before: Option<Timestamp>,
    /// What kept it back for want of money, until it starts or ends.
    pub deferral: Option<Deferral>,
    /// The output, by its digest; `None` unless the step succeeded.
    pub output: Option<OutputReference>,
    /// The tree of files that it left.
    pub workspace: Option<Digest>,
    /// When the step ended (UTC); `None` while it is open.
    pub finished_at: Option<Timestamp>,
}

/// A step's price did not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferral {
    /// When the window begins in which it may; `None` where it waits for something that is held to be given back.
    pub until: Option<Timestamp>,
    /// Why the price does not fit, as the budgets said it.
    pub message: String,
}

/// What was reserved for an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The most that the attempt may cost, in the budget's currency, to the millionth.
    pub amount: Money,
    /// Whether the price of the step's own Skill fitted, or only that of a cheaper one.
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
    /// It has not ended.
    Open,
    /// An attempt at it succeeded.
    Succeeded,
    /// It did not do its work: its last attempt did not succeed, or it could not begin.
    Failed,
    /// It was not run: its `when` was false, what it needs ended otherwise, or the Task ended before.
    Skipped,
    /// A person, a Policy or a budget did not allow it, or it was not signed for in time.
    Rejected,
    /// It ran, and nobody knows what came of it.
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
    /// Which attempt at the step it is, from 1; those that never began count too.
    pub number: u32,
    /// The Job's name, unique for ever.
    pub key: String,
    /// The digest of everything that determined what ran.
    pub digest: Digest,
    /// SHA-256 over the RFC 8785 JSON of the step's resolved input.
    pub input_digest: Digest,
    /// The Skill that it runs: the Plan's, or what that was downgraded to.
    pub skill: String,
    /// `None` where it has no price.
    pub reservation: Option<Reservation>,
    /// The name of the Approval that it was intended under; `None` where it took no signature.
    pub approval: Option<String>,
    /// When it was decided on, before its Job was made (UTC).
    pub intended_at: Timestamp,
    /// How far it has come.
    pub state: AttemptState,
    /// What to run; the store returns it only while the attempt is not finished.
    pub launch: Option<Launch>,
}

/// How far an attempt has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AttemptState {
    /// Recorded; its pod, if there is one, is still behind its gate.
    Intended,
    /// Exactly this pod was let in.
    Admitted {
        /// The pod's `metadata.uid`.
        pod_uid: String,
        /// When it was decided that the pod may run (UTC).
        at: Timestamp,
    },
    /// It is over, whether or not a pod of it was ever let in.
    Finished {
        /// What it came to.
        outcome: AttemptOutcome,
        /// Why, in a sentence for people; `None` where it succeeded, or where that was erased.
        message: Option<String>,
        /// The `metadata.uid` of the pod that was let in; `None` where none was.
        pod_uid: Option<String>,
        /// When it was found to be over (UTC).
        at: Timestamp,
    },
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AttemptOutcome {
    /// The skill ended well, and its output keeps the Skill's contract.
    Succeeded,
    /// The skill ended badly, or left no report, or no output that keeps the Skill's contract.
    Failed,
    /// The skill was ended because its timeout had passed.
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
    /// The name of the Skill that runs: the step's, or what that was downgraded to.
    pub skill: String,
    /// The Skill's whole spec, as it was then.
    pub contract: SkillSpec,
    /// The step's input, resolved.
    pub input: Map<String, Value>,
    /// The image of the main container, by digest.
    pub image: String,
    /// How long the attempt may run, in seconds.
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
    /// Whether nothing could be gained by a setuid file (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// No socket but a Unix one could be made.
    pub seccomp: bool,
    /// The ABI of Landlock that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock: Option<u32>,
    /// Whether the pod's root was not the node's.
    pub user_namespace: bool,
    /// The release of the kernel that it ran on, as `uname -r` prints it.
    pub kernel: String,
    /// The image that the kubelet ran, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The pod's `spec.runtimeClassName`; left out where it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    /// Whether a canary found the namespace's network closed; left out where none had tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<bool>,
}

/// A step's output, by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputReference {
    /// SHA-256 over the output's RFC 8785 JSON.
    pub digest: Digest,
    /// The size of that JSON, in bytes.
    pub bytes: u32,
}

/// What people are asked to sign, and what they have said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    /// The name of the Approval object.
    pub name: String,
    /// The step that asked first.
    pub step: String,
    /// What people sign: the digest of the step's binding, or, of several steps, one over those of all of them.
    pub digest: Digest,
    /// Every step that it is for.
    pub covers: BTreeMap<String, Covered>,
    /// Who asked for the Task, as the API server saw them; their signature never counts.
    pub requester: Identity,
    /// For whom the requester says that it asked: a claim; `None` where nobody is named.
    pub on_behalf_of: Option<String>,
    /// Whose signatures it takes.
    pub required: Required,
    /// Whether it is for one step or for several.
    pub scope: ApprovalScope,
    /// The highest risk of all that is signed for.
    pub risk: RiskClass,
    /// When it was asked for (UTC).
    pub requested_at: Timestamp,
    /// From when on no signature counts; without enough of them the steps are rejected then (UTC).
    pub expires_at: Timestamp,
    /// The signatures that count, in the order in which they were seen.
    pub decisions: Vec<Signature>,
    /// The steps that began under it; each at most once.
    pub used: BTreeSet<String>,
    /// How it stands.
    pub state: ApprovalState,
}

/// One run of one step, as people signed for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Covered {
    /// Which run of the step, from 1: what never began is none.
    pub attempt: u32,
    /// SHA-256 over the RFC 8785 JSON of `binding`.
    pub digest: Digest,
    /// What the digest is of, so that a difference can be named; `None` once it was erased.
    #[schemars(with = "Value")]
    pub binding: Option<Box<Binding>>,
    /// The Policy rules that matched when it was asked for; empty once they were erased.
    pub rules: Vec<RuleDecision>,
}

/// How an Approval stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalState {
    /// It lacks signatures.
    Requested,
    /// It has the signatures that it takes.
    Approved,
    /// Somebody said no who may sign, and that is final.
    Rejected,
    /// It did not get the signatures that it takes in time.
    Expired,
    /// What would run is no longer what was asked for.
    Superseded {
        /// Each as `MEMBER: BEFORE -> NOW`, or as `MEMBER` where the values are not known or were erased; with `STEP.`
        /// before it where it tells of one of several steps.
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
    /// `NAMESPACE/NAME`; `plan` where the step itself asks, `agent` where its Agent forbids, `budget` where a budget had
    /// it downgraded, `default` where no rule matched.
    pub policy: String,
    /// The rule's name; of `plan` the step's, of `agent` the Agent's, of `budget` the Skill's; `no-rule-matched` of
    /// `default`.
    pub rule: String,
    /// What the rule says is to become of the step.
    pub effect: Effect,
    /// Whether the rule binds, or is only recorded.
    pub mode: PolicyMode,
    /// How much harm the step could do, by that rule.
    pub risk: RiskClass,
    /// Why, in words for people; `None` where the rule gives none.
    pub message: Option<String>,
    /// The members that the rule's expression names, with the values they had.
    pub saw: Map<String, Value>,
    /// The digest of the set of policies that this rule stood in.
    pub policies: Digest,
}

/// Why a Task is being brought to its end before its steps were done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ending {
    /// What called for the end.
    pub cause: EndingCause,
    /// When the end began (UTC).
    pub at: Timestamp,
}

/// What brings a Task to its end before its steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndingCause {
    /// The Task's `spec.cancel` was set.
    Cancelled,
    /// The Task's `spec.deadline` passed.
    DeadlineExceeded,
    /// The Task object is gone.
    Deleted,
    /// A step did not end well; what runs may finish, nothing new starts.
    StepFailed,
}

/// What a Task came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finished {
    /// How it ended.
    pub outcome: TaskOutcome,
    /// CamelCase, for machines.
    pub reason: String,
    /// Why, in a sentence for people.
    pub message: String,
    /// When it ended (UTC).
    pub at: Timestamp,
}

/// How a Task can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaskOutcome {
    /// Every step ended as it may.
    Completed,
    /// A step failed or nobody knows what came of it, the deadline passed, or no Plan could be made for the Task.
    Failed,
    /// A person, a Policy or a budget did not allow one of its steps, or one was not signed for in time.
    Rejected,
    /// The Task was cancelled, or its object was deleted.
    Cancelled,
}

impl TaskRecord {
    /// The record of a Task that was adopted at `at`: version 0, without a Plan.
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
    /// A step that nothing was tried of yet.
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

    /// The number that the next attempt would have, from 1.
    pub fn next_number(&self) -> u32 {
        self.attempts.last().map_or(1, |a| a.number + 1)
    }

    /// Which run the attempt `number` is, from 1: those before it that never began are none.
    pub fn run(&self, number: u32) -> u32 {
        let began = self.attempts.iter().filter(|attempt| attempt.number < number && attempt.launched());
        began.fold(1, |run, _| run + 1)
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.state == StepOutcome::Open
    }
}

impl AttemptRecord {
    /// Whether it is over, whatever it came to.
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
