//! From an admission review to an answer.

use countersign_core::approval::Seal;
use countersign_crds::{AgentReference, Approval, Identity};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::UserInfo;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, Operation};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::access::Right;
use super::mark::{self, Marked};
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

/// What is admitted where the sender has the right that it takes, if it takes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    pub admitted: Admitted,
    pub takes: Option<Right>,
}

/// The Agent that a requester of a Task in a namespace is bound to.
pub type Bound<'a> = &'a dyn Fn(&str, Option<&AgentReference>, &Identity) -> Result<Option<AgentReference>, Refusal>;

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

/// Stamps signatures, requesters and the Agents that requesters are bound to. `marked` is what a Task that is created says
/// of itself.
pub fn mutate(
    now: Timestamp,
    service_account: &str,
    seal: &Seal,
    bound: Bound<'_>,
    marked: Marked,
    request: &Review,
) -> Result<Mutation, Refusal> {
    let freely = |admitted| Ok(Mutation { admitted, takes: None });
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return freely(Admitted::AsIs);
    }
    // Here as well as where it is validated, which may be skipped: what cannot be kept would be recorded again and again.
    request.object.as_ref().map_or(Ok(()), validate::storable)?;
    let user = user(request);
    let ours = user.username.as_deref() == Some(service_account);
    match resource(request) {
        "approvals" => mutate_approval(now, service_account, seal, request),
        "tasks" => match marked {
            Marked::Not => mutate_task(ours, &user, bound, request),
            // Nothing of it runs, so nobody acts as its Agent.
            Marked::Run { requester } => {
                freely(patched(stamped(requester.map(|who| json!(who)), request).into_iter().collect()))
            }
        },
        // The operator's own copy of a Plan carries the Task's requester.
        "plans" if ours => freely(Admitted::AsIs),
        "plans" => freely(patched(requester_of(&user, request)?.into_iter().collect())),
        other => Err(Refusal::invalid(&format!("{other}: this webhook does not know the resource"))),
    }
}

/// A Task is its requester's, and of the Agent that the requester is bound to; both stay.
fn mutate_task(ours: bool, user: &UserInfo, bound: Bound<'_>, request: &Review) -> Result<Mutation, Refusal> {
    const FIELD: &str = "/spec/agentRef";
    let mut operations: Vec<Value> = requester_of(user, request)?.into_iter().collect();
    let sent = member(request.object.as_ref(), FIELD);
    if request.old_object.is_some() {
        // What Git holds names no Agent, and is applied again and again; any other change the schema refuses.
        let old = member(request.old_object.as_ref(), FIELD).filter(|_| sent.is_none());
        operations.extend(old.map(|old| json!({"op": "add", "path": FIELD, "value": old})));
        operations.extend(mark::kept(ours, request)?);
        return Ok(Mutation { admitted: patched(operations), takes: None });
    }
    // What is no reference its schema refuses.
    let named: Option<AgentReference> = sent.and_then(|sent| serde_json::from_value(sent).ok());
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let bound_to = requester::of(user)?.map(|who| bound(namespace, named.as_ref(), &who)).transpose()?.flatten();
    let takes = match (bound_to, named) {
        (Some(agent), named) => {
            let stamp = (named.as_ref() != Some(&agent)).then(|| json!({"op": "add", "path": FIELD, "value": agent}));
            operations.extend(stamp);
            None
        }
        (None, Some(named)) => Some(Right::to_act_as(namespace, &named)),
        (None, None) => None,
    };
    Ok(Mutation { admitted: patched(operations), takes })
}

/// Read as it is: whatever else is wrong with the object, its schema says better.
fn member(object: Option<&DynamicObject>, pointer: &str) -> Option<Value> {
    object.and_then(|object| object.data.pointer(pointer)).cloned()
}

fn patched(operations: Vec<Value>) -> Admitted {
    if operations.is_empty() { Admitted::AsIs } else { Admitted::Patched(Value::Array(operations)) }
}

/// What makes the requester whoever creates the object, and later who was there.
fn requester_of(user: &UserInfo, request: &Review) -> Result<Option<Value>, Refusal> {
    let requester = match &request.old_object {
        Some(old) => member(Some(old), REQUESTER),
        None => requester::of(user)?.map(|requester| json!(requester)),
    };
    Ok(stamped(requester, request))
}

const REQUESTER: &str = "/spec/requester";

/// What makes this one the requester, or nobody, where the object says otherwise.
fn stamped(requester: Option<Value>, request: &Review) -> Option<Value> {
    match requester {
        requester if requester == member(request.object.as_ref(), REQUESTER) => None,
        Some(requester) => Some(json!({"op": "add", "path": REQUESTER, "value": requester})),
        None => Some(json!({"op": "remove", "path": REQUESTER})),
    }
}

fn mutate_approval(now: Timestamp, operator: &str, seal: &Seal, request: &Review) -> Result<Mutation, Refusal> {
    let new: Approval = object(request.object.as_ref())?;
    let Some(old) = optional::<Approval>(request.old_object.as_ref())? else {
        stamp::check_new(&user(request), operator, &new.spec)?;
        return Ok(Mutation { admitted: Admitted::AsIs, takes: None });
    };
    let Stamped { spec, signed } = stamp::stamp(now, &user(request), &old, &new.spec, seal)?;
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let takes = signed.then(|| Right::to_approve(namespace, old.spec.risk, &old.spec.task_ref));
    if spec == new.spec {
        return Ok(Mutation { admitted: Admitted::AsIs, takes });
    }
    let spec = serde_json::to_value(spec).map_err(|error| Refusal::invalid(&error.to_string()))?;
    Ok(Mutation { admitted: Admitted::Patched(json!([{"op": "replace", "path": "/spec", "value": spec}])), takes })
}

/// Refuses what can be known to be wrong.
pub fn validate(service_account: &str, request: &Review) -> Result<Admitted, Refusal> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(Admitted::AsIs);
    }
    let (new, old) = (request.object.as_ref(), request.old_object.as_ref());
    new.map_or(Ok(()), validate::storable)?;
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
