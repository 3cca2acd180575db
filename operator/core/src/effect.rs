//! Everything that the operator does to the cluster, as values. The record's side is [`crate::record::Change`].

use countersign_crds::{ApprovalSpec, ApprovalStatus, PlanSpec, TaskStatus};
use jiff::Timestamp;

use crate::blocked::BlockedReasons;
use crate::record::{Change, Launch, TaskRecord};

/// What follows from one reconciliation of a Task. The shell records the changes, then acts, then reports.
#[derive(Clone, Debug, PartialEq)]
pub struct ReconcileOutput {
    /// In one transaction, in this order, before anything else.
    pub changes: Vec<Change>,
    pub actions: Vec<ClusterAction>,
    /// `None` where there is no Task object to report on.
    pub status: Option<TaskStatus>,
    /// When to look again even if nothing is seen to change; at once where it is not later than the reconciliation
    /// itself.
    pub requeue: Option<Timestamp>,
    /// What does not go on now, and why.
    pub blocked: BlockedReasons,
    /// The record with the changes applied; its version is still the one that was seen.
    pub record: Option<TaskRecord>,
}

/// One action in the Task's namespace. Each is safe to repeat: the name makes a repetition a conflict, and
/// a conflict is taken as "it is there".
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterAction {
    CreatePlan {
        name: String,
        spec: PlanSpec,
    },
    CreateApproval {
        name: String,
        spec: Box<ApprovalSpec>,
    },
    ReportApproval {
        name: String,
        status: ApprovalStatus,
    },
    /// Its pod stays behind the gate until [`ClusterAction::AdmitPod`].
    CreateJob {
        key: String,
        step: String,
        launch: Box<Launch>,
    },
    /// Makes the input Secret, then removes the gate of exactly this pod.
    AdmitPod {
        key: String,
        pod: String,
        pod_uid: String,
        launch: Box<Launch>,
    },
    /// With its pods: what runs is told to end.
    DeleteJob {
        key: String,
    },
    DeleteTask,
}

impl ClusterAction {
    /// For metrics: a closed set of names.
    pub fn kind(&self) -> &'static str {
        match self {
            ClusterAction::CreatePlan { .. } => "create_plan",
            ClusterAction::CreateApproval { .. } => "create_approval",
            ClusterAction::ReportApproval { .. } => "report_approval",
            ClusterAction::CreateJob { .. } => "create_job",
            ClusterAction::AdmitPod { .. } => "admit_pod",
            ClusterAction::DeleteJob { .. } => "delete_job",
            ClusterAction::DeleteTask => "delete_task",
        }
    }
}
