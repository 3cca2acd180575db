//! What is seen of the world when one Task is looked at: the input of [`crate::decide`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_crds::{PaymentMode, PaymentState, PlanTemplate, Signature, SkillSpec, TaskSpec};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

use crate::agent::Acting;
use crate::budget::{Balance, LineKey};
use crate::digest::Digest;
use crate::fingerprint::Fingerprints;
use crate::payment::PaymentId;
use crate::policy::PolicySet;
use crate::record::{Evidence, TaskRecord};
use crate::run::PriorRun;

/// One Task and all that bears on it, at one moment. Views may be old, with one exception: a pod that an
/// attempt was admitted for and that `pods` does not hold was looked for in the API server itself.
#[derive(Clone, Debug)]
pub struct Observed {
    /// `None` when the Task object is gone.
    pub task: Option<TaskView>,
    /// `None` when the Task was never recorded.
    pub record: Option<TaskRecord>,
    /// The uid of the Task's namespace; looked up only while the Task is not recorded.
    pub namespace_uid: String,
    /// The run that there was of the same request; looked up only while the Task is not recorded.
    pub prior: Option<PriorRun>,
    /// Looked up only while no Plan snapshot is taken.
    pub template: TemplateLookup,
    /// Whether the Plan snapshot object is there.
    pub plan_snapshot_exists: bool,
    pub skills: Arc<BTreeMap<String, SkillSpec>>,
    /// On whose behalf the Task is carried out, as its requester and the Agents that there are say.
    pub agent: Acting,
    pub policies: Arc<PolicySet>,
    /// The Secrets that the brokers have, by the fingerprints that all of them agree on.
    pub secrets: Arc<Fingerprints>,
    pub network: Network,
    pub approvals: BTreeMap<String, ApprovalView>,
    pub pods: Vec<PodView>,
    /// The keys of the Jobs that exist.
    pub jobs: BTreeSet<String>,
    pub guard: Guard,
    /// Outputs of finished steps, by step; those that open steps refer to.
    pub outputs: BTreeMap<String, Arc<Value>>,
    /// What was spent and is held, in the rows that bear on the Task; looked up where it has anything with a price.
    pub balances: BTreeMap<LineKey, Balance>,
    pub external: ExternalState,
    /// By step: since when what it needs has been missing, as far as this process saw.
    pub missing_since: BTreeMap<String, Timestamp>,
}

/// What is known of a Task on networks beyond the cluster: payments and anchors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalState {
    /// By step: what was handed to the signer.
    pub payments: BTreeMap<String, PaymentView>,
    /// By step: the transaction that anchors its record.
    pub anchors: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentView {
    pub id: PaymentId,
    pub mode: PaymentMode,
    pub state: PaymentState,
    pub transaction: Option<String>,
    /// What went wrong last.
    pub message: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub generation: Option<i64>,
    pub spec: TaskSpec,
    /// For whom the requester says that it asked.
    pub on_behalf_of: Option<String>,
    /// Its deletion was asked for; somebody's finalizer may keep it for as long as it likes.
    pub deleting: bool,
    /// As last reported, for the times of their last transitions.
    pub conditions: Vec<Condition>,
}

/// The template that a Task's `planRef` or `type` leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplateLookup {
    /// The record has a Plan, or the Task carries its own.
    NotNeeded,
    Found {
        name: String,
        template: PlanTemplate,
    },
    /// `planRef` names a Plan that is not there.
    Missing {
        name: String,
    },
    /// `planRef` names a Plan snapshot, or several templates carry the type.
    Ambiguous {
        message: String,
    },
    /// No template carries the Task's type.
    NoneForType,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalView {
    pub uid: String,
    pub generation: Option<i64>,
    pub digest: String,
    /// Those whose seal holds.
    pub decisions: Vec<Signature>,
    /// What was reported last.
    pub reported: Option<ReportedApproval>,
}

/// What an Approval's status says: the part of it that is the operator's own.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedApproval {
    /// The condition `Approved`.
    pub condition: Condition,
    pub signed: Option<String>,
}

/// Whether what keeps Approvals from being forged is in place, as far as it had to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Nothing that is decided now rests on a signature.
    #[default]
    NotNeeded,
    Whole,
    /// What is missing or was altered, and how to mend it.
    Broken {
        problem: String,
    },
}

/// What a pod of the Task's namespace can reach beside the broker, as a canary found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// No canary has come back yet.
    #[default]
    NotTried,
    /// Nothing: the cluster enforces its NetworkPolicies.
    Closed,
    /// Where it got through.
    Open { reached: String },
}

impl Network {
    /// Why nothing may run, where that takes a closed network.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Network::Closed => None,
            Network::NotTried => Some("no canary has tried yet whether NetworkPolicies are enforced here".to_owned()),
            Network::Open { reached } => Some(format!(
                "a pod of this namespace reached {reached}, so NetworkPolicies are not enforced or one allows it; mend that, or unset sandbox.requireNetworkPolicy"
            )),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    pub name: String,
    pub uid: String,
    pub key: String,
    pub state: PodState,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// Behind the gate, and not yet held against what was decided: nothing may be concluded of it.
    Unchecked,
    /// Behind the gate, and the pod that was decided: nothing of it runs.
    Gated,
    /// Behind the gate, and not the pod that was decided: the field that differs.
    Altered {
        field: String,
    },
    /// Let in, no container of the skill has started; why, as the kubelet says it.
    Waiting {
        message: Option<String>,
    },
    Running,
    Ended(PodEnd),
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PodEnd {
    /// The runner's report from the termination message, where there is one that parses.
    pub report: Option<Report>,
    /// What Kubernetes says: `OOMKilled`, `Evicted`, `DeadlineExceeded`, `exit code 137`.
    pub reason: String,
    /// The output where it was too large for the termination message: from the framed log lines.
    pub output: Option<Result<Arc<[u8]>, String>>,
}

/// The runner's report; see runner-image/README.md.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub version: u32,
    pub attempt: String,
    pub status: ReportStatus,
    #[serde(default)]
    pub message: String,
    pub output: Option<ReportOutput>,
    #[serde(default)]
    pub evidence: Option<Box<Evidence>>,
    /// The digest of the tree of files that was kept.
    #[serde(default)]
    pub workspace: Option<Digest>,
    pub finished_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum ReportStatus {
    Succeeded,
    Failed,
    TimedOut,
    OutputTooLarge,
    OutputInvalid,
    InputInvalid,
    Cancelled,
    SandboxIncomplete,
    /// The broker does not take the attempt for the one that it is.
    BrokerRefused,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct ReportOutput {
    /// 64 hexadecimal digits.
    pub sha256: String,
    pub size: u32,
    pub inline: Option<String>,
}

impl Observed {
    /// A Task of which nothing is known but itself.
    pub fn of(task: TaskView) -> Observed {
        Observed {
            task: Some(task),
            record: None,
            namespace_uid: String::new(),
            prior: None,
            template: TemplateLookup::NotNeeded,
            plan_snapshot_exists: false,
            skills: Arc::default(),
            agent: Acting::Alone,
            policies: Arc::default(),
            secrets: Arc::default(),
            network: Network::NotTried,
            approvals: BTreeMap::new(),
            pods: Vec::new(),
            jobs: BTreeSet::new(),
            guard: Guard::NotNeeded,
            outputs: BTreeMap::new(),
            balances: BTreeMap::new(),
            external: ExternalState::default(),
            missing_since: BTreeMap::new(),
        }
    }

    pub(crate) fn pods_of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a PodView> {
        self.pods.iter().filter(move |pod| pod.key == key)
    }
}
