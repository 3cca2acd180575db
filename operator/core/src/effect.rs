//! Everything that the operator does to the cluster, as values. The record's side is [`crate::record::Change`].

use countersign_crds::{ApprovalSpec, ApprovalStatus, PlanSpec, TaskStatus};
use jiff::Timestamp;

use crate::blocked::BlockedReasons;
use crate::mark::Mark;
use crate::record::{Change, Launch, TaskRecord};

/// What follows from one reconciliation of a Task. The shell records the changes, then acts, then reports.
#[derive(Clone, Debug, PartialEq)]
pub struct ReconcileOutput {
    /// In one transaction, in this order, before anything else.
    pub changes: Vec<Change>,
    /// What is to be done in the cluster once the changes are recorded.
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
    /// Makes the Task's Plan snapshot.
    CreatePlan {
        /// The name of the Plan object.
        name: String,
        /// Its spec, with the Task as its owner.
        spec: PlanSpec,
    },
    /// Asks people: makes an Approval.
    CreateApproval {
        /// The name of the Approval object.
        name: String,
        /// Its spec, with what is signed for in words for people.
        spec: Box<ApprovalSpec>,
    },
    /// Writes the status of an Approval.
    ReportApproval {
        /// The name of the Approval object.
        name: String,
        /// The whole status.
        status: ApprovalStatus,
    },
    /// Writes on the Task which run it is.
    Mark {
        /// Which run it is.
        mark: Mark,
    },
    /// Its pod stays behind the gate until [`ClusterAction::AdmitPod`].
    CreateJob {
        /// The attempt's key, which becomes the Job's name.
        key: String,
        /// The name of the step that the attempt is at.
        step: String,
        /// What the attempt runs.
        launch: Box<Launch>,
    },
    /// Makes the input Secret, then removes the gate of exactly this pod.
    AdmitPod {
        /// The attempt's key, which is the Job's name and becomes the Secret's.
        key: String,
        /// The pod's name.
        pod: String,
        /// The pod's `metadata.uid`.
        pod_uid: String,
        /// What the attempt runs, which the pod is held against once more.
        launch: Box<Launch>,
    },
    /// With its pods: what runs is told to end.
    DeleteJob {
        /// The attempt's key, which is the Job's name.
        key: String,
    },
    /// Deletes the Task object: its `ttlSecondsAfterFinished` has passed.
    DeleteTask,
}

impl ClusterAction {
    /// For metrics: a closed set of names.
    pub fn kind(&self) -> &'static str {
        match self {
            ClusterAction::CreatePlan { .. } => "create_plan",
            ClusterAction::CreateApproval { .. } => "create_approval",
            ClusterAction::ReportApproval { .. } => "report_approval",
            ClusterAction::Mark { .. } => "mark",
            ClusterAction::CreateJob { .. } => "create_job",
            ClusterAction::AdmitPod { .. } => "admit_pod",
            ClusterAction::DeleteJob { .. } => "delete_job",
            ClusterAction::DeleteTask => "delete_task",
        }
    }
}
