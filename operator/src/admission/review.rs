//! From an admission review to an answer.

use countersign_crds::Approval;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::UserInfo;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, Operation};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{stamp, validate};

/// Why an object is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub message: String,
}

impl Refusal {
    pub fn invalid(message: &str) -> Refusal {
        Refusal { code: 422, message: message.to_owned() }
    }

    pub fn forbidden(message: &str) -> Refusal {
        Refusal { code: 403, message: message.to_owned() }
    }
}

/// An object is admitted as it is, or with another `spec`.
#[derive(Clone, Debug, PartialEq)]
pub enum Admitted {
    AsIs,
    WithSpec(Value),
}

pub type Review = AdmissionRequest<DynamicObject>;

/// The kind's plural, for metrics; a closed set.
pub fn resource(request: &Review) -> &'static str {
    match request.resource.resource.as_str() {
        "approvals" => "approvals",
        "tasks" => "tasks",
        "plans" => "plans",
        "policies" => "policies",
        "skills" => "skills",
        _ => "other",
    }
}

/// Stamps a signature.
pub fn mutate(now: Timestamp, service_account: &str, request: &Review) -> Result<Admitted, Refusal> {
    let new: Approval = object(request.object.as_ref())?;
    match request.operation {
        Operation::Create => {
            stamp::check_new(&user(request), service_account, &new.spec)?;
            Ok(Admitted::AsIs)
        }
        Operation::Update => {
            let old: Approval = object(request.old_object.as_ref())?;
            let stamped = stamp::stamp(now, &user(request), &old, &new.spec)?;
            if stamped == new.spec {
                return Ok(Admitted::AsIs);
            }
            let spec = serde_json::to_value(stamped).map_err(|error| Refusal::invalid(&error.to_string()))?;
            Ok(Admitted::WithSpec(spec))
        }
        Operation::Delete | Operation::Connect => Ok(Admitted::AsIs),
    }
}

/// Refuses what can be known to be wrong.
pub fn validate(service_account: &str, request: &Review) -> Result<Admitted, Refusal> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(Admitted::AsIs);
    }
    let (new, old) = (request.object.as_ref(), request.old_object.as_ref());
    match resource(request) {
        "tasks" => validate::task(&object(new)?, optional(old)?.as_ref())?,
        "plans" => {
            let ours = user(request).username.as_deref() == Some(service_account);
            validate::plan(ours, &object(new)?, optional(old)?.as_ref())?;
        }
        "policies" => validate::policy(&object(new)?)?,
        "skills" => validate::skill(&object(new)?)?,
        other => return Err(Refusal::invalid(&format!("{other}: this webhook does not know the resource"))),
    }
    Ok(Admitted::AsIs)
}

fn user(request: &Review) -> UserInfo {
    request.user_info.clone()
}

fn optional<K: DeserializeOwned>(object_or_none: Option<&DynamicObject>) -> Result<Option<K>, Refusal> {
    object_or_none.map(|present| object(Some(present))).transpose()
}

fn object<K: DeserializeOwned>(object: Option<&DynamicObject>) -> Result<K, Refusal> {
    let object = object.ok_or_else(|| Refusal::invalid("the request holds no object"))?;
    let value = serde_json::to_value(object).map_err(|error| Refusal::invalid(&error.to_string()))?;
    serde_json::from_value(value).map_err(|error| Refusal::invalid(&error.to_string()))
}

/// The response to the API server.
pub fn response(uid: &str, result: &Result<Admitted, Refusal>) -> Value {
    let response = match result {
        Ok(Admitted::AsIs) => json!({"uid": uid, "allowed": true}),
        Ok(Admitted::WithSpec(spec)) => {
            use base64::Engine;
            let patch = json!([{"op": "replace", "path": "/spec", "value": spec}]).to_string();
            let patch = base64::engine::general_purpose::STANDARD.encode(patch);
            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
        }
        Err(Refusal { code, message }) => {
            json!({"uid": uid, "allowed": false, "status": {"code": code, "message": message}})
        }
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
