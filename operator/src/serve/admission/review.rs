//! From an admission review to an answer.

use countersign_core::approval::Seal;
use countersign_crds::{Approval, RiskClass};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::UserInfo;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, Operation};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::stamp::{self, Stamped};
use super::{requester, validate};

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

/// An object is admitted as it is, or with some members replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Admitted {
    AsIs,
    /// RFC 6902.
    Patched(Value),
}

/// What is admitted if `signs`, where there is one, may sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    pub admitted: Admitted,
    /// The risk of what a signature is added for.
    pub signs: Option<RiskClass>,
}

pub type Review = AdmissionRequest<DynamicObject>;

/// The kind's plural, for metrics; a closed set.
pub fn resource(request: &Review) -> &'static str {
    match request.resource.resource.as_str() {
        "approvals" => "approvals",
        "tasks" => "tasks",
        "plans" => "plans",
        "agents" => "agents",
        "policies" => "policies",
        "skills" => "skills",
        _ => "other",
    }
}

/// Stamps signatures and requesters.
pub fn mutate(now: Timestamp, service_account: &str, seal: &Seal, request: &Review) -> Result<Mutation, Refusal> {
    let unsigned = |admitted| Ok(Mutation { admitted, signs: None });
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return unsigned(Admitted::AsIs);
    }
    let user = user(request);
    let ours = user.username.as_deref() == Some(service_account);
    match resource(request) {
        "approvals" => mutate_approval(now, service_account, seal, request),
        // The operator's own copy of a Plan carries the Task's requester.
        "plans" if ours => unsigned(Admitted::AsIs),
        "tasks" | "plans" => {
            // Read as it is: whatever else is wrong with the object, its schema says better.
            let requester = |object: &DynamicObject| object.data.pointer("/spec/requester").cloned();
            let new = request.object.as_ref().and_then(requester);
            let old = request.old_object.as_ref().map(requester);
            unsigned(with_requester(new.as_ref(), &user, old))
        }
        other => Err(Refusal::invalid(&format!("{other}: this webhook does not know the resource"))),
    }
}

/// The requester is whoever creates the object, and later what was there.
fn with_requester(sent: Option<&Value>, user: &UserInfo, old: Option<Option<Value>>) -> Admitted {
    let stamped = match old {
        Some(old) => old,
        None => requester::of(user).map(|requester| json!(requester)),
    };
    match stamped {
        stamped if stamped.as_ref() == sent => Admitted::AsIs,
        Some(requester) => Admitted::Patched(json!([{"op": "add", "path": "/spec/requester", "value": requester}])),
        None => Admitted::Patched(json!([{"op": "remove", "path": "/spec/requester"}])),
    }
}

fn mutate_approval(now: Timestamp, operator: &str, seal: &Seal, request: &Review) -> Result<Mutation, Refusal> {
    let new: Approval = object(request.object.as_ref())?;
    let Some(old) = optional::<Approval>(request.old_object.as_ref())? else {
        stamp::check_new(&user(request), operator, &new.spec)?;
        return Ok(Mutation { admitted: Admitted::AsIs, signs: None });
    };
    let Stamped { spec, signed } = stamp::stamp(now, &user(request), &old, &new.spec, seal)?;
    let signs = signed.then_some(old.spec.risk);
    if spec == new.spec {
        return Ok(Mutation { admitted: Admitted::AsIs, signs });
    }
    let spec = serde_json::to_value(spec).map_err(|error| Refusal::invalid(&error.to_string()))?;
    Ok(Mutation { admitted: Admitted::Patched(json!([{"op": "replace", "path": "/spec", "value": spec}])), signs })
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
        "policies" => {
            // The operator's account is of the operator's namespace.
            let own = service_account.split(':').nth(2);
            validate::policy(&object(new)?, own.is_some() && own == request.namespace.as_deref())?;
        }
        "agents" => validate::agent(&object(new)?)?,
        "skills" => validate::skill(&object(new)?)?,
        other => return Err(Refusal::invalid(&format!("{other}: this webhook does not know the resource"))),
    }
    Ok(Admitted::AsIs)
}

pub fn user(request: &Review) -> UserInfo {
    request.user_info.clone()
}

fn optional<K: DeserializeOwned>(object_or_none: Option<&DynamicObject>) -> Result<Option<K>, Refusal> {
    object_or_none.map(|present| object(Some(present))).transpose()
}

fn object<K: DeserializeOwned>(object: Option<&DynamicObject>) -> Result<K, Refusal> {
    let object = object.ok_or_else(|| Refusal::invalid("the request holds no object"))?;
    let value = serde_json::to_value(object).map_err(|error| Refusal::invalid(&error.to_string()))?;
    serde_path_to_error::deserialize(value).map_err(|error| Refusal::invalid(&error.to_string()))
}

/// The response to the API server.
pub fn response(uid: &str, result: &Result<Admitted, Refusal>) -> Value {
    let response = match result {
        Ok(Admitted::AsIs) => json!({"uid": uid, "allowed": true}),
        Ok(Admitted::Patched(patch)) => {
            use base64::Engine;
            let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
        }
        Err(Refusal { code, message }) => {
            json!({"uid": uid, "allowed": false, "status": {"code": code, "message": message}})
        }
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
