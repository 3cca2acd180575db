//! What is seen of the world when one Task is looked at: the input of [`crate::decide`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_crds::{PaymentMode, PaymentState, PlanTemplate, Signature, SkillSpec, TaskSpec};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

use crate::agent::Acting;
use crate::blocked::Lasts;
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
    /// The uid of the Task's namespace; looked up only while the Task is not recorded or carries no mark; else empty.
    pub namespace_uid: String,
    /// The run whose mark the Task carries, or else the one that there is of the same request; looked up as the uid is.
    pub prior: Option<PriorRun>,
    /// Looked up only while no Plan snapshot is taken.
    pub template: TemplateLookup,
    /// Whether the Plan snapshot object is there.
    pub plan_snapshot_exists: bool,
    /// The contracts of the Skills that are installed, by the Skill's name.
    pub skills: Arc<BTreeMap<String, SkillSpec>>,
    /// On whose behalf the Task is carried out, as its requester and the Agents that there are say.
    pub agent: Acting,
    /// Every Policy of the cluster, compiled.
    pub policies: Arc<PolicySet>,
    /// The Secrets that the brokers have, by the fingerprints that all of them agree on.
    pub secrets: Arc<Fingerprints>,
    /// What a pod of the Task's namespace was found to reach.
    pub network: Network,
    /// The Task's Approval objects, by name.
    pub approvals: BTreeMap<String, ApprovalView>,
    /// The pods of the Task's attempts.
    pub pods: Vec<PodView>,
    /// The keys of the Jobs that exist.
    pub jobs: BTreeSet<String>,
    /// Whether the guard was looked at, and whether it is whole.
    pub guard: Guard,
    /// Outputs of finished steps, by step; those that open steps refer to.
    pub outputs: BTreeMap<String, Arc<Value>>,
    /// What was spent and is held, in the rows that bear on the Task; looked up where it has anything with a price.
    pub balances: BTreeMap<LineKey, Balance>,
    /// How the Task's payments and anchors stand.
    pub external: ExternalState,
    /// Since when what steps need has been missing, or an expression of theirs took too long, as far as this process
    /// saw.
    pub lasts: Lasts,
}

/// What is known of a Task on networks beyond the cluster: payments and anchors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalState {
    /// By step: what was handed to the signer.
    pub payments: BTreeMap<String, PaymentView>,
    /// By step: the transaction that anchors its record.
    pub anchors: BTreeMap<String, String>,
}

/// How a step's payment stands with the signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentView {
    /// The payment's id, under which it is made once.
    pub id: PaymentId,
    /// Whether money moves.
    pub mode: PaymentMode,
    /// What became of it.
    pub state: PaymentState,
    /// The hash of the transaction that is final, else of the one that was signed last; `None` before one is signed.
    pub transaction: Option<String>,
    /// What went wrong last.
    pub message: Option<String>,
}

/// A Task object, as far as anything is decided on it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// The object's `metadata.uid`.
    pub uid: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's `metadata.generation`, which conditions report as observed; `None` where it has none.
    pub generation: Option<i64>,
    /// The object's spec, as it is now.
    pub spec: TaskSpec,
    /// For whom the requester says that it asked.
    pub on_behalf_of: Option<String>,
    /// The mark of a run, as the object carries it.
    pub mark: Option<String>,
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
    /// A template that serves the Task.
    Found {
        /// The template, as `NAMESPACE/NAME`.
        name: String,
        /// The template's steps and parallelism.
        template: PlanTemplate,
    },
    /// `planRef` names a Plan that is not there.
    Missing {
        /// The name that `planRef` gives, of a Plan in the Task's namespace.
        name: String,
    },
    /// `planRef` names a Plan snapshot, or several templates carry the type.
    Ambiguous {
        /// Which field is ambiguous and how to mend it, in one sentence.
        message: String,
    },
    /// No template carries the Task's type.
    NoneForType,
}

/// An Approval object, as far as anything is decided on it.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalView {
    /// The object's `metadata.uid`, which every seal is bound to.
    pub uid: String,
    /// The object's `metadata.generation`, which its condition reports as observed; `None` where it has none.
    pub generation: Option<i64>,
    /// The object's `spec.digest`: `sha256:` and 64 lower-case hexadecimal digits.
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
    /// How many of the signatures that it takes are there, such as `1/2`; `None` where that was not reported.
    pub signed: Option<String>,
}

/// Whether what keeps Approvals from being forged is in place, as far as it had to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Nothing that is decided now rests on a signature.
    #[default]
    NotNeeded,
    /// It was looked at, and nothing is missing or altered.
    Whole,
    /// What is missing or was altered, and how to mend it.
    Broken {
        /// Both, in one sentence for whoever runs the operator.
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
    Open {
        /// Each as `ADDRESS:PORT`, with commas between them.
        reached: String,
    },
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

/// A pod of one of the Task's attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    /// The pod's name.
    pub name: String,
    /// The pod's `metadata.uid`.
    pub uid: String,
    /// The key of the attempt that its label says it is of.
    pub key: String,
    /// How far it has come.
    pub state: PodState,
}

/// How far a pod has come, and whether it is the one that was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// Behind the gate, and not yet held against what was decided: nothing may be concluded of it.
    Unchecked,
    /// Behind the gate, and the pod that was decided: nothing of it runs.
    Gated,
    /// Behind the gate, and not the pod that was decided: the field that differs.
    Altered {
        /// The path of the first such field, beginning with `spec`.
        field: String,
    },
    /// Let in, no container of the skill has started; why, as the kubelet says it.
    Waiting {
        /// The reason and the message of the container or of the scheduler; `None` where neither gives one.
        message: Option<String>,
    },
    /// The container of the skill has started, and the pod has not ended.
    Running,
    /// The pod's phase is `Succeeded` or `Failed`.
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
    /// The form of the report; one of another form than 1 counts for nothing.
    pub version: u32,
    /// The key of the attempt that it is of; of another attempt it counts for nothing.
    pub attempt: String,
    /// How the skill ended.
    pub status: ReportStatus,
    /// Why it did not succeed, in words for people; empty where it did.
    #[serde(default)]
    pub message: String,
    /// What the skill returned; `None` where that is nothing that counts.
    pub output: Option<ReportOutput>,
    /// Which layers of the sandbox held; `None` where that was not found out.
    #[serde(default)]
    pub evidence: Option<Box<Evidence>>,
    /// The digest of the tree of files that was kept.
    #[serde(default)]
    pub workspace: Option<Digest>,
    /// When the report was written, by the node's clock (UTC); `None` where it does not say.
    pub finished_at: Option<Timestamp>,
}

/// How a skill ended, in the runner's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum ReportStatus {
    /// It exited with 0, and its output is JSON of a size that is allowed.
    Succeeded,
    /// It exited with another code than 0, could not be started, or its workspace could not be kept.
    Failed,
    /// It was ended because its timeout had passed.
    TimedOut,
    /// It was ended because its output grew larger than is allowed.
    OutputTooLarge,
    /// Its output is not one JSON value in UTF-8, or did not come to its end.
    OutputInvalid,
    /// What the runner was to start could not be read or is not there.
    InputInvalid,
    /// It was told to end, before or after it was started.
    Cancelled,
    /// A layer of the sandbox that is required did not hold, or the broker could not be reached: nothing was started.
    SandboxIncomplete,
    /// The broker does not take the attempt for the one that it is.
    BrokerRefused,
}

/// The output that a report tells of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct ReportOutput {
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// The size of the output, in bytes, without white space around it.
    pub size: u32,
    /// The output itself; `None` where the termination message cannot hold it, and it stands in the pod's log.
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
            lasts: Lasts::new(),
        }
    }

    pub(crate) fn pods_of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a PodView> {
        self.pods.iter().filter(move |pod| pod.key == key)
    }
}
