//! Patches a Task's status: once a reconciliation, at the end, and only where it says something new.

use countersign_crds::{Task, TaskStatus};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde_json::json;

use crate::reconciler::action::FIELD_MANAGER;

pub async fn report(client: &Client, namespace: &str, name: &str, status: &TaskStatus) -> Result<(), kube::Error> {
    let patch = json!({
        "apiVersion": Task::api_version(&()),
        "kind": Task::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let tasks: Api<Task> = Api::namespaced(client.clone(), namespace);
    match tasks.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        // Deleted in the meantime; the record has what the status would have said.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
