//! Whether a pod is the one that was decided. Whoever may create Jobs or patch pods in the namespace could put another
//! in its place; that one is never let in.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::Value;

/// What the API server and its usual admission plugins fill in, and what harms nobody: none of it changes what runs,
/// as whom, or what it can reach.
const FILLED_IN: [&str; 14] = [
    "affinity",
    "dnsPolicy",
    "imagePullPolicy",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "resources",
    "schedulerName",
    "serviceAccount",
    "serviceAccountName",
    "terminationMessagePath",
    "terminationMessagePolicy",
];
/// Filled in as well, and not to be compared where both have them: quantities are rewritten, tolerations added.
const NOT_COMPARED: [&str; 2] = ["resources", "tolerations"];

/// The first field in which the pod is not what was decided.
pub(super) fn difference(expected: &PodSpec, pod: &Pod) -> Option<String> {
    let value = |spec: &PodSpec| serde_json::to_value(spec).unwrap_or_default();
    let actual = pod.spec.as_ref().map(value).unwrap_or_default();
    differs("spec", &value(expected), &actual)
}

fn differs(path: &str, expected: &Value, actual: &Value) -> Option<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            let compared = |name: &&String| !NOT_COMPARED.contains(&name.as_str());
            let missing = expected.keys().filter(compared).find_map(|name| {
                let actual = actual.get(name).unwrap_or(&Value::Null);
                differs(&format!("{path}.{name}"), &expected[name], actual)
            });
            let foreign =
                |name: &&String| !expected.contains_key(*name) && !FILLED_IN.contains(&name.as_str()) && compared(name);
            missing.or_else(|| actual.keys().find(foreign).map(|name| format!("{path}.{name}")))
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let pairs = expected.iter().zip(actual).enumerate();
            pairs.into_iter().find_map(|(n, (expected, actual))| differs(&format!("{path}[{n}]"), expected, actual))
        }
        // What is false is left out of what the API server gives back.
        (Value::Bool(false), Value::Null) => None,
        (expected, actual) => (expected != actual).then(|| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> Value {
        json!({"hostUsers": false, "hostPID": false, "restartPolicy": "Never", "volumes": [{"name": "input", "secret": {"secretName": "k"}}],
            "containers": [{"name": "skill", "image": "i@sha256:1", "command": ["/runner"], "env": [{"name": "A", "value": "1"}],
                "resources": {"limits": {"cpu": "0.5"}}}]})
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_difference() {
        let expected: PodSpec = serde_json::from_value(spec()).unwrap();
        let mut filled = spec();
        filled.as_object_mut().unwrap().remove("hostPID");
        filled["dnsPolicy"] = json!("ClusterFirst");
        filled["serviceAccountName"] = json!("default");
        filled["tolerations"] = json!([{"key": "x", "operator": "Exists"}]);
        filled["containers"][0]["resources"]["limits"]["cpu"] = json!("500m");
        filled["containers"][0]["terminationMessagePolicy"] = json!("File");
        assert_eq!(difference(&expected, &pod(filled)), None);
    }

    #[test]
    fn whatever_changes_what_runs_is_named() {
        let expected: PodSpec = serde_json::from_value(spec()).unwrap();
        for (pointer, value, field) in [
            ("/containers/0/image", json!("evil"), "spec.containers[0].image"),
            ("/containers/0/command", json!(["/sh"]), "spec.containers[0].command[0]"),
            ("/containers/0/args", json!(["-c"]), "spec.containers[0].args"),
            ("/containers/0/env/0/value", json!("2"), "spec.containers[0].env[0].value"),
            (
                "/containers/0/lifecycle",
                json!({"postStart": {"exec": {"command": ["x"]}}}),
                "spec.containers[0].lifecycle",
            ),
            ("/containers/0/livenessProbe", json!({"exec": {"command": ["x"]}}), "spec.containers[0].livenessProbe"),
            ("/containers/1", json!({"name": "sidecar", "image": "x"}), "spec.containers"),
            ("/volumes/0/secret/secretName", json!("other"), "spec.volumes[0].secret.secretName"),
            ("/hostUsers", json!(true), "spec.hostUsers"),
            ("/hostNetwork", json!(true), "spec.hostNetwork"),
            ("/automountServiceAccountToken", json!(true), "spec.automountServiceAccountToken"),
            ("/initContainers", json!([{"name": "i", "image": "x"}]), "spec.initContainers"),
        ] {
            let mut altered = spec();
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            match altered.pointer_mut(parent).unwrap() {
                Value::Array(items) => items.push(value),
                parent => parent[last] = value,
            }
            assert_eq!(difference(&expected, &pod(altered)).as_deref(), Some(field), "{pointer}");
        }
        assert_eq!(difference(&expected, &Pod::default()).as_deref(), Some("spec"));
    }
}
