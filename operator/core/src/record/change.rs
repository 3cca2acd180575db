//! Every way in which a record can change. Each change is also one audit entry, so it carries what a
//! reader needs to know why.

use std::collections::BTreeMap;

use countersign_crds::{ApprovalScope, Identity, Required, RiskClass, Signature};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AttemptOutcome, Covered, Ending, Evidence, Finished, Launch, OutputReference, RecordedPlan, Request, RuleDecision,
    StepOutcome,
};
use crate::budget::BudgetDecision;
use crate::digest::Digest;
use crate::run::Run;

/// One way in which a record alters, and what the log tells of it; in JSON `kind` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Change {
    /// The Task is known; always the first change of a record.
    Adopt {
        /// The `metadata.uid` of the Task object.
        uid: String,
        /// The namespace of the Task object.
        namespace: String,
        /// The name of the Task object.
        name: String,
        /// The Task's spec, its `agentRef` being the Agent that it acts for.
        spec: Value,
        /// Who asked for the Task.
        request: Request,
        /// Whether it is the run of its request, or repeats one; left out before requests were told apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<Run>,
        /// When the Task was adopted (UTC).
        at: Timestamp,
    },
    /// The Plan snapshot is taken and every step is open.
    #[serde(rename = "stamp")]
    SnapshotPlan {
        /// The snapshot, with the Task's parameters.
        plan: RecordedPlan,
        /// When the snapshot was taken (UTC).
        at: Timestamp,
    },
    /// People are asked to sign.
    RequestApproval {
        /// The name of the Approval object.
        name: String,
        /// The name of the step that asks first.
        step: String,
        /// What people sign: the digest of the step's binding, or, of several steps, one over those of all of them.
        digest: Digest,
        /// Every step that is signed for, by its name; the one that asks first is among them.
        covers: BTreeMap<String, Covered>,
        /// Who asked for the Task, as the API server saw them; their signature never counts.
        requester: Identity,
        /// For whom the requester says that it asked: a claim; `None` where nobody is named.
        on_behalf_of: Option<String>,
        /// Whose signatures it takes.
        required: Required,
        /// Whether it is for one step or for several.
        scope: ApprovalScope,
        /// The highest risk of all that is signed for.
        risk: RiskClass,
        /// From when on no signature counts; without enough of them the steps are rejected then (UTC).
        expires_at: Timestamp,
        /// When it was asked for (UTC).
        at: Timestamp,
    },
    /// A person signed, for or against.
    SignApproval {
        /// The name of the Approval object.
        name: String,
        /// The signature, as the webhook stamped and sealed it; it has the time of signing.
        decision: Signature,
        /// When it was recorded (UTC).
        at: Timestamp,
    },
    /// The signatures settle it.
    DecideApproval {
        /// The name of the Approval object.
        name: String,
        /// Whether it has the signatures that it takes; else somebody said no.
        approved: bool,
        /// When the signatures were found to settle it (UTC).
        at: Timestamp,
    },
    /// The Approval did not get the signatures that it takes in time.
    ExpireApproval {
        /// The name of the Approval object.
        name: String,
        /// When it was found to be past its expiry (UTC).
        at: Timestamp,
    },
    /// What would run changed; the signature is void.
    SupersedeApproval {
        /// The name of the Approval object.
        name: String,
        /// Each as `MEMBER: BEFORE -> NOW`, or as `MEMBER` where the values are not known; with `STEP.` before it where
        /// it tells of one of several steps.
        changed: Vec<String>,
        /// When the difference was found (UTC).
        at: Timestamp,
    },
    /// The Task ended before the Approval was used.
    WithdrawApproval {
        /// The name of the Approval object.
        name: String,
        /// When it was withdrawn (UTC).
        at: Timestamp,
    },
    /// An attempt will be made, under its Approval if it needs one.
    Intend {
        /// The step's name.
        step: String,
        /// Which attempt at the step it is, from 1; those that never began count too.
        number: u32,
        /// The attempt's key, unique for ever: the name of its Job and of its Secret.
        key: String,
        /// The digest of the binding: of everything that the verdict rests on.
        digest: Digest,
        /// SHA-256 over the RFC 8785 JSON of the step's resolved input.
        input_digest: Digest,
        /// The name of the Approval that it is made under; `None` where it takes no signature.
        approval: Option<String>,
        /// What the attempt runs.
        launch: Box<Launch>,
        /// The Policy rules that matched.
        rules: Vec<RuleDecision>,
        /// What is reserved for it; left out where it has no price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget: Option<Box<BudgetDecision>>,
        /// When the attempt was decided on (UTC).
        at: Timestamp,
    },
    /// The step's price does not fit now.
    Defer {
        /// The step's name.
        step: String,
        /// When the window begins in which it may; left out where it waits for something that is held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// What was decided about the price, and on which numbers.
        budget: Box<BudgetDecision>,
        /// When the price was found not to fit (UTC).
        at: Timestamp,
    },
    /// Exactly this pod may run the attempt; that uses its Approval, once for this step.
    Admit {
        /// The step's name.
        step: String,
        /// Which attempt at the step it is, from 1; those that never began count too.
        number: u32,
        /// The pod's `metadata.uid`.
        pod_uid: String,
        /// When it was decided that the pod may run (UTC).
        at: Timestamp,
    },
    /// The attempt is over. `retry_at` is set where another one is owed.
    FinishAttempt {
        /// The step's name.
        step: String,
        /// Which attempt at the step it is, from 1; those that never began count too.
        number: u32,
        /// What the attempt came to.
        outcome: AttemptOutcome,
        /// Why, in a sentence for people; `None` where it succeeded.
        message: Option<String>,
        /// What the skill returned; `None` unless the attempt succeeded.
        output: Option<Output>,
        /// The earliest instant of the next attempt (UTC); `None` where none is owed.
        retry_at: Option<Timestamp>,
        /// Where the runner left a report.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Box<Evidence>>,
        /// The tree of files that it left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workspace: Option<Digest>,
        /// When the attempt was found to be over (UTC).
        at: Timestamp,
    },
    /// The step is over.
    FinishStep {
        /// The step's name.
        step: String,
        /// How the step ended; never `Open`.
        outcome: StepOutcome,
        /// Why it ended so, CamelCase, for machines; `None` where it succeeded.
        reason: Option<String>,
        /// The same in a sentence for people; `None` where it succeeded.
        message: Option<String>,
        /// The output, by its digest; `None` unless the step succeeded.
        output: Option<OutputReference>,
        /// The Policy rules that matched, where the step was rejected; else empty.
        rules: Vec<RuleDecision>,
        /// Where it ended for its price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget: Option<Box<BudgetDecision>>,
        /// When the step ended (UTC).
        at: Timestamp,
    },
    /// Nothing new starts from here on.
    #[serde(rename = "end")]
    BeginEnding {
        /// What called for the end, and since when.
        ending: Ending,
    },
    /// The Task is over; always the last change of a record.
    #[serde(rename = "finish")]
    FinishTask {
        /// What the Task came to.
        finished: Finished,
        /// Whether its request is used up by it: asked for again as it is, it does not run again.
        #[serde(default)]
        ran: bool,
    },
}

/// A step's output: canonical JSON, and its digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The digest and the size of the output's canonical JSON (RFC 8785).
    pub reference: OutputReference,
    /// Left out of the audit entry, which holds the digest; the store keeps it in a table of its own.
    #[serde(skip)]
    pub value: Value,
}

impl Change {
    /// The name under which the change is audited and counted: a closed set.
    pub fn kind(&self) -> &'static str {
        match self {
            Change::Adopt { .. } => "adopt",
            Change::SnapshotPlan { .. } => "stamp",
            Change::RequestApproval { .. } => "requestApproval",
            Change::SignApproval { .. } => "signApproval",
            Change::DecideApproval { .. } => "decideApproval",
            Change::ExpireApproval { .. } => "expireApproval",
            Change::SupersedeApproval { .. } => "supersedeApproval",
            Change::WithdrawApproval { .. } => "withdrawApproval",
            Change::Intend { .. } => "intend",
            Change::Defer { .. } => "defer",
            Change::Admit { .. } => "admit",
            Change::FinishAttempt { .. } => "finishAttempt",
            Change::FinishStep { .. } => "finishStep",
            Change::BeginEnding { .. } => "end",
            Change::FinishTask { .. } => "finish",
        }
    }

    /// What it says was decided about a price.
    pub fn budget(&self) -> Option<&BudgetDecision> {
        match self {
            Change::Intend { budget, .. } | Change::FinishStep { budget, .. } => budget.as_deref(),
            Change::Defer { budget, .. } => Some(budget),
            Change::Adopt { .. }
            | Change::SnapshotPlan { .. }
            | Change::RequestApproval { .. }
            | Change::SignApproval { .. }
            | Change::DecideApproval { .. }
            | Change::ExpireApproval { .. }
            | Change::SupersedeApproval { .. }
            | Change::WithdrawApproval { .. }
            | Change::Admit { .. }
            | Change::FinishAttempt { .. }
            | Change::BeginEnding { .. }
            | Change::FinishTask { .. } => None,
        }
    }

    /// When the change was decided on (UTC).
    pub fn at(&self) -> Timestamp {
        match self {
            Change::Adopt { at, .. }
            | Change::SnapshotPlan { at, .. }
            | Change::RequestApproval { at, .. }
            | Change::SignApproval { at, .. }
            | Change::DecideApproval { at, .. }
            | Change::ExpireApproval { at, .. }
            | Change::SupersedeApproval { at, .. }
            | Change::WithdrawApproval { at, .. }
            | Change::Intend { at, .. }
            | Change::Defer { at, .. }
            | Change::Admit { at, .. }
            | Change::FinishAttempt { at, .. }
            | Change::FinishStep { at, .. } => *at,
            Change::BeginEnding { ending } => ending.at,
            Change::FinishTask { finished, .. } => finished.at,
        }
    }
}
