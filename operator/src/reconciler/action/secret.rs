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
/// What the broker knows the attempt by, where it needs the broker.
pub(super) const TOKEN_FILE: &str = "token";

/// Owned by the Job, so that it goes when the Job goes.
pub(super) fn build(task: &Owner, key: &str, launch: &Launch, token: Option<String>, job: OwnerReference) -> Secret {
    let mut metadata = task.metadata(key);
    metadata.owner_references =
        Some(vec![OwnerReference { controller: Some(true), block_owner_deletion: Some(false), ..job }]);
    let mut data = BTreeMap::from([(ATTEMPT_FILE.to_owned(), ByteString(attempt_document(key, launch)))]);
    data.extend(token.map(|token| (TOKEN_FILE.to_owned(), ByteString(token.into_bytes()))));
    Secret { metadata, immutable: Some(true), data: Some(data), ..Secret::default() }
}
