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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Change {
    /// The Task is known; always the first change of a record.
    Adopt {
        uid: String,
        namespace: String,
        name: String,
        spec: Value,
        request: Request,
        /// Whether it is the run of its request, or repeats one; left out before requests were told apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<Run>,
        at: Timestamp,
    },
    /// The Plan snapshot is taken and every step is open.
    #[serde(rename = "stamp")]
    SnapshotPlan {
        plan: RecordedPlan,
        at: Timestamp,
    },
    /// People are asked to sign.
    RequestApproval {
        name: String,
        step: String,
        digest: Digest,
        covers: BTreeMap<String, Covered>,
        requester: Identity,
        on_behalf_of: Option<String>,
        required: Required,
        scope: ApprovalScope,
        risk: RiskClass,
        expires_at: Timestamp,
        at: Timestamp,
    },
    /// A person signed, for or against.
    SignApproval {
        name: String,
        decision: Signature,
        at: Timestamp,
    },
    /// The signatures settle it.
    DecideApproval {
        name: String,
        approved: bool,
        at: Timestamp,
    },
    ExpireApproval {
        name: String,
        at: Timestamp,
    },
    /// What would run changed; the signature is void. `changed` names the fields of the binding.
    SupersedeApproval {
        name: String,
        changed: Vec<String>,
        at: Timestamp,
    },
    /// The Task ended before the Approval was used.
    WithdrawApproval {
        name: String,
        at: Timestamp,
    },
    /// An attempt will be made, under its Approval if it needs one.
    Intend {
        step: String,
        number: u32,
        key: String,
        digest: Digest,
        input_digest: Digest,
        approval: Option<String>,
        launch: Box<Launch>,
        rules: Vec<RuleDecision>,
        /// What is reserved for it; left out where it has no price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget: Option<Box<BudgetDecision>>,
        at: Timestamp,
    },
    /// The step's price does not fit now.
    Defer {
        step: String,
        /// When the window begins in which it may; left out where it waits for something that is held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        budget: Box<BudgetDecision>,
        at: Timestamp,
    },
    /// Exactly this pod may run the attempt; that uses its Approval, once for this step.
    Admit {
        step: String,
        number: u32,
        pod_uid: String,
        at: Timestamp,
    },
    /// The attempt is over. `retry_at` is set where another one is owed.
    FinishAttempt {
        step: String,
        number: u32,
        outcome: AttemptOutcome,
        message: Option<String>,
        output: Option<Output>,
        retry_at: Option<Timestamp>,
        /// Where the runner left a report.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Box<Evidence>>,
        /// The tree of files that it left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workspace: Option<Digest>,
        at: Timestamp,
    },
    /// The step is over.
    FinishStep {
        step: String,
        outcome: StepOutcome,
        reason: Option<String>,
        message: Option<String>,
        output: Option<OutputReference>,
        rules: Vec<RuleDecision>,
        /// Where it ended for its price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget: Option<Box<BudgetDecision>>,
        at: Timestamp,
    },
    /// Nothing new starts from here on.
    #[serde(rename = "end")]
    BeginEnding {
        ending: Ending,
    },
    /// The Task is over; always the last change of a record.
    #[serde(rename = "finish")]
    FinishTask {
        finished: Finished,
        /// Whether its request is used up by it: asked for again as it is, it does not run again.
        #[serde(default)]
        ran: bool,
    },
}

/// A step's output: canonical JSON, and its digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
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
