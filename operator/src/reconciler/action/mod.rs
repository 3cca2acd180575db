//! Carries out the actions that were decided: the only place that writes to the cluster, but for status.

mod approval;
pub mod canary;
mod job;
mod pod_diff;
mod secret;

use countersign_core::effect::ClusterAction;
use countersign_core::record::{Launch, TaskRecord};
use countersign_core::sandbox::needs_broker;
use countersign_crds::{ANNOTATION_RUN, Approval, GATE, LABEL_TASK_UID, LABEL_TYPE, Plan, Task};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, Status};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::sync::Arc;

use crate::broker::{Broker, Trust};
use crate::reconciler::context::Context;
use crate::reconciler::error::Error;

pub use job::JobSettings;

/// The owner of the fields that the operator applies.
pub const FIELD_MANAGER: &str = "countersign";

/// Carries out one action for `task`. What is there already, or already gone, counts as done.
pub async fn perform(
    context: &Context,
    task: &Owner,
    record: &TaskRecord,
    action: &ClusterAction,
) -> Result<(), Error> {
    if let ClusterAction::CreateApproval { name, spec } = action {
        return approval::create(context, task, record, name, spec).await;
    }
    let broker = match action {
        ClusterAction::CreateJob { launch, .. } | ClusterAction::AdmitPod { launch, .. } => broker(context, launch)?,
        ClusterAction::CreatePlan { .. }
        | ClusterAction::CreateApproval { .. }
        | ClusterAction::ReportApproval { .. }
        | ClusterAction::Mark { .. }
        | ClusterAction::DeleteJob { .. }
        | ClusterAction::DeleteTask => None,
    };
    let done = write(&context.client, &context.jobs, broker.as_deref(), task, action).await;
    done.map_err(|source| Error::Action { action: action.kind(), source })
}

/// The broker, where what is launched needs it.
fn broker(context: &Context, launch: &Launch) -> Result<Option<Arc<Broker>>, Error> {
    if !needs_broker(&launch.contract) {
        return Ok(None);
    }
    context.broker.get().map(Some).ok_or(Error::NoBroker)
}

async fn write(
    client: &Client,
    settings: &JobSettings,
    broker: Option<&Broker>,
    task: &Owner,
    action: &ClusterAction,
) -> Result<(), kube::Error> {
    let trust = broker.map(|broker| &broker.trust);
    match action {
        ClusterAction::CreatePlan { name, spec } => {
            let mut plan = Plan::new(name, spec.clone());
            plan.metadata = task.metadata(name);
            create(client, task, &plan).await
        }
        // Made with what the store knows besides.
        ClusterAction::CreateApproval { .. } => Ok(()),
        ClusterAction::ReportApproval { name, status } => {
            let patch = json!({
                "apiVersion": Approval::api_version(&()),
                "kind": Approval::kind(&()),
                "metadata": {"name": name},
                "status": status,
            });
            let approvals: Api<Approval> = task.api(client);
            let params = PatchParams::apply(FIELD_MANAGER).force();
            gone_is_done(approvals.patch_status(name, &params, &Patch::Apply(patch)).await.map(drop))
        }
        ClusterAction::Mark { mark } => {
            // Of this very Task: one that was made anew meanwhile is another.
            let patch = json!({"metadata": {"uid": task.uid, "annotations": {ANNOTATION_RUN: mark.to_string()}}});
            let tasks: Api<Task> = task.api(client);
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            gone_is_done(tasks.patch_metadata(&task.name, &params, &Patch::Merge(patch)).await.map(drop))
        }
        ClusterAction::CreateJob { key, step, launch } => {
            create(client, task, &job::build(settings, trust, task, key, step, launch)).await
        }
        ClusterAction::AdmitPod { key, pod, pod_uid, launch } => {
            let pods: Api<Pod> = task.api(client);
            let Some(seen) = pods.get_opt(pod).await? else { return Ok(()) };
            let Some(owner) = job_of(&seen) else { return Ok(()) };
            if let Some(field) = differs(settings, trust, task, key, launch, &seen) {
                tracing::warn!(%pod, %field, "the pod was altered since it was decided on; it is not let in");
                return Ok(());
            }
            let token = broker.map(|broker| broker.tokens.token(key, pod_uid));
            create::<Secret>(client, task, &secret::build(task, key, launch, token, owner)).await?;
            admit(&pods, &seen, pod_uid).await
        }
        ClusterAction::DeleteJob { key } => {
            let jobs: Api<Job> = task.api(client);
            gone_is_done(jobs.delete(key, &DeleteParams::background()).await.map(drop))
        }
        ClusterAction::DeleteTask => {
            let tasks: Api<Task> = task.api(client);
            let only = Preconditions { uid: Some(task.uid.clone()), resource_version: None };
            gone_is_done(tasks.delete(&task.name, &DeleteParams::background().preconditions(only)).await.map(drop))
        }
    }
}

/// The field in which a pod is not what was decided for this attempt.
pub fn altered(
    context: &Context,
    task: &Owner,
    key: &str,
    launch: &Launch,
    pod: &Pod,
) -> Result<Option<String>, Error> {
    let broker = broker(context, launch)?;
    Ok(differs(&context.jobs, broker.as_ref().map(|broker| &broker.trust), task, key, launch, pod))
}

fn differs(
    settings: &JobSettings,
    broker: Option<&Trust>,
    task: &Owner,
    key: &str,
    launch: &Launch,
    pod: &Pod,
) -> Option<String> {
    let expected = job::build(settings, broker, task, key, "", launch).spec.and_then(|spec| spec.template.spec)?;
    let ours = job_of(pod).is_some_and(|job| job.name == key);
    if ours { pod_diff::difference(&expected, pod) } else { Some("metadata.ownerReferences".to_owned()) }
}

/// Removes our gate from this very pod, as it was seen; any other uid or version is a conflict.
async fn admit(pods: &Api<Pod>, seen: &Pod, uid: &str) -> Result<(), kube::Error> {
    let patch = json!({
        "metadata": {"uid": uid, "resourceVersion": seen.resource_version()},
        "spec": {"schedulingGates": [{"name": GATE, "$patch": "delete"}]},
    });
    let params = PatchParams::default();
    gone_is_done(pods.patch(&seen.name_any(), &params, &Patch::Strategic(patch)).await.map(drop))
}

/// The Job that made a pod.
fn job_of(pod: &Pod) -> Option<OwnerReference> {
    pod.owner_references().iter().find(|owner| owner.kind == "Job").cloned()
}

async fn create<K>(client: &Client, task: &Owner, object: &K) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match task.api::<K>(client).create(&params, object).await {
        Ok(_) => Ok(()),
        // Ours by its name: somebody did it before, perhaps we.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        // The Task goes with it, and nothing more can be made for it.
        Err(kube::Error::Api(status)) if in_namespace_that_goes(&status) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the API server refused because the namespace is being deleted.
fn in_namespace_that_goes(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

fn gone_is_done(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other,
    }
}

/// The Task that everything made here belongs to.
#[derive(Clone, Debug)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub task_type: Option<String>,
}

impl Owner {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(client.clone(), &self.namespace)
    }

    /// Name, labels and owner of an object of this Task's.
    fn metadata(&self, name: &str) -> ObjectMeta {
        let mut labels = std::collections::BTreeMap::from([(LABEL_TASK_UID.to_owned(), self.uid.clone())]);
        labels.extend(self.task_type.iter().map(|kind| (LABEL_TYPE.to_owned(), kind.clone())));
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![OwnerReference {
                api_version: Task::api_version(&()).into_owned(),
                kind: Task::kind(&()).into_owned(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        }
    }
}
