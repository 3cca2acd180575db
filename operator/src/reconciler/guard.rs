//! Whether what keeps Approvals and requesters from being forged is in the cluster as the chart installs it. It is
//! asked of the API server itself before anything is dispatched that rests on a signature.

use countersign_core::observed::Guard;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::serve::admission::way::leads_to_stamping;

/// The chart's own files: what is installed is compared with what this operator was built with.
const POLICIES: [&str; 3] = [
    include_str!("../../../charts/countersign/guard/agents.yaml"),
    include_str!("../../../charts/countersign/guard/approvals.yaml"),
    include_str!("../../../charts/countersign/guard/requesters.yaml"),
];
const WEBHOOK: &str = "countersign";

/// What the cluster must hold.
#[derive(Clone, Debug)]
pub struct Expected {
    policies: Vec<Policy>,
    webhook_service: (String, String),
}

#[derive(Clone, Debug)]
struct Policy {
    name: String,
    spec: Value,
}

#[derive(Debug, Error)]
#[error("the guard that this operator was built with cannot be read: {0}")]
pub struct GuardError(String);

impl Expected {
    pub fn new(service_account: &str, service: &str, namespace: &str) -> Result<Expected, GuardError> {
        let read = |text: &&str| {
            let text = text.replace("OPERATOR_ACCOUNT", service_account);
            let object: Value = serde_saphyr::from_str(&text).map_err(|error| GuardError(error.to_string()))?;
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            let (Some(name), Some(spec)) = (name, object.get("spec")) else {
                return Err(GuardError("no name or no spec".to_owned()));
            };
            Ok(Policy { name: name.to_owned(), spec: spec.clone() })
        };
        let policies = POLICIES.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Expected { policies, webhook_service: (namespace.to_owned(), service.to_owned()) })
    }

    /// Looks at the cluster.
    pub async fn observe(&self, client: &Client) -> Result<Guard, kube::Error> {
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        for expected in &self.policies {
            let name = &expected.name;
            let installed = policies.get_opt(name).await?.map(|policy| value(&policy.spec));
            if let Some(problem) = compare("ValidatingAdmissionPolicy", name, installed.as_ref(), &expected.spec) {
                return Ok(broken(problem));
            }
            let binding = json!({"policyName": name, "validationActions": ["Deny"]});
            let installed = bindings.get_opt(name).await?.map(|binding| value(&binding.spec));
            if let Some(problem) = compare("ValidatingAdmissionPolicyBinding", name, installed.as_ref(), &binding) {
                return Ok(broken(problem));
            }
        }
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let installed = webhooks.get_opt(WEBHOOK).await?.map(|configuration| value(&configuration));
        Ok(match self.check_webhook(installed.as_ref()) {
            Some(problem) => broken(problem),
            None => Guard::Whole,
        })
    }

    /// The webhook must see every change of an Approval, and nothing may pass where it is away.
    fn check_webhook(&self, installed: Option<&Value>) -> Option<String> {
        let name = format!("MutatingWebhookConfiguration {WEBHOOK}");
        let Some(installed) = installed else { return Some(format!("{name} is not there")) };
        let mut webhooks = installed.get("webhooks").and_then(Value::as_array).into_iter().flatten();
        let Some(webhook) = webhooks.find(|webhook| webhook["name"] == "stamp.countersign.dev") else {
            return Some(format!("{name} has no webhook stamp.countersign.dev"));
        };
        let (namespace, service) = &self.webhook_service;
        let service = json!({"namespace": namespace, "name": service, "port": 443});
        let rules = json!([{"apiGroups": ["countersign.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
            "resources": ["approvals", "tasks"], "scope": "*"}]);
        let fields = [
            ("failurePolicy", json!("Fail")),
            ("rules", rules),
            ("namespaceSelector", json!({})),
            ("objectSelector", json!({})),
            ("matchPolicy", json!("Equivalent")),
            ("matchConditions", Value::Null),
        ];
        let differs = fields.iter().find(|(field, expected)| webhook.get(*field).unwrap_or(&Value::Null) != expected);
        match differs {
            Some((field, _)) => Some(format!("{name}: {field} was altered")),
            None if leads_to(&webhook["clientConfig"]["service"], &service) => None,
            None => Some(format!("{name}: clientConfig was altered")),
        }
    }
}

/// Whether what is called is this service, by a path at which reviews are stamped. One that is no longer answered lets
/// nothing by, as the webhook fails closed.
fn leads_to(called: &Value, service: &Value) -> bool {
    let mut called = called.clone();
    let path = called.as_object_mut().and_then(|called| called.remove("path"));
    path.as_ref().and_then(Value::as_str).is_some_and(leads_to_stamping) && called == *service
}

fn value<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

fn compare(kind: &str, name: &str, installed: Option<&Value>, expected: &Value) -> Option<String> {
    match installed {
        None => Some(format!("{kind} {name} is not there")),
        Some(installed) if installed != expected => Some(format!("{kind} {name} was altered")),
        Some(_) => None,
    }
}

fn broken(problem: String) -> Guard {
    Guard::Broken { problem: format!("{problem}; install the chart again with helm upgrade") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected::new("system:serviceaccount:ops:countersign", "countersign", "ops").unwrap()
    }

    fn webhook() -> Value {
        json!({"webhooks": [{
            "name": "stamp.countersign.dev", "failurePolicy": "Fail", "matchPolicy": "Equivalent",
            "namespaceSelector": {}, "objectSelector": {},
            "clientConfig": {"caBundle": "x", "service": {"namespace": "ops", "name": "countersign", "path": format!("/mutate/{}", "0".repeat(64)), "port": 443}},
            "rules": [{"apiGroups": ["countersign.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                "resources": ["approvals", "tasks"], "scope": "*"}],
        }]})
    }

    #[test]
    fn the_files_of_the_chart_are_read_with_the_operators_account() {
        let expected = expected();
        let names: Vec<&str> = expected.policies.iter().map(|policy| policy.name.as_str()).collect();
        assert_eq!(names, ["countersign-agents", "countersign-approvals", "countersign-requesters"]);
        let text = value(&expected.policies[1].spec).to_string();
        assert!(text.contains("system:serviceaccount:ops:countersign") && !text.contains("OPERATOR_ACCOUNT"));
    }

    #[test]
    fn a_webhook_that_lets_something_by_is_no_guard() {
        assert_eq!(expected().check_webhook(Some(&webhook())), None);
        for (pointer, altered) in [
            ("/webhooks/0/failurePolicy", json!("Ignore")),
            ("/webhooks/0/namespaceSelector", json!({"matchLabels": {"a": "b"}})),
            ("/webhooks/0/objectSelector", json!({"matchLabels": {"a": "b"}})),
            ("/webhooks/0/rules/0/operations", json!(["CREATE"])),
            ("/webhooks/0/rules/0/resources", json!(["tasks"])),
            ("/webhooks/0/clientConfig/service/namespace", json!("elsewhere")),
            ("/webhooks/0/clientConfig/service/path", json!(format!("/validate/{}", "0".repeat(64)))),
            ("/webhooks/0/clientConfig/service/path", Value::Null),
            ("/webhooks/0/name", json!("another")),
        ] {
            let mut webhook = webhook();
            *webhook.pointer_mut(pointer).unwrap() = altered;
            assert!(expected().check_webhook(Some(&webhook)).is_some(), "{pointer}");
        }
        let mut narrowed = webhook();
        narrowed["webhooks"][0]["matchConditions"] = json!([{"name": "never", "expression": "false"}]);
        assert!(expected().check_webhook(Some(&narrowed)).unwrap().contains("matchConditions"));
        assert!(expected().check_webhook(None).unwrap().contains("is not there"));
    }

    #[test]
    fn a_policy_that_is_gone_or_altered_is_named() {
        let spec = json!({"validations": [1]});
        assert_eq!(compare("K", "n", Some(&spec), &spec), None);
        assert_eq!(compare("K", "n", None, &spec).unwrap(), "K n is not there");
        let wider = json!({"validations": [1], "matchConditions": []});
        assert_eq!(compare("K", "n", Some(&wider), &spec).unwrap(), "K n was altered");
    }
}
