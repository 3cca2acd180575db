//! The immutable Secret that carries an attempt's input to its pod.

use std::collections::BTreeMap;

use countersign_core::record::Launch;
use countersign_core::sandbox::attempt_document;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::Owner;

/// The file of the Secret, as the runner expects it.
pub(super) const ATTEMPT_FILE: &str = "attempt.json";

/// Owned by the Job, so that it goes when the Job goes.
pub(super) fn build(task: &Owner, key: &str, launch: &Launch, job: OwnerReference) -> Secret {
    let mut metadata = task.metadata(key);
    metadata.owner_references =
        Some(vec![OwnerReference { controller: Some(true), block_owner_deletion: Some(false), ..job }]);
    Secret {
        metadata,
        immutable: Some(true),
        data: Some(BTreeMap::from([(ATTEMPT_FILE.to_owned(), ByteString(attempt_document(key, launch)))])),
        ..Secret::default()
    }
}
