//! The document that the runner reads: what one attempt is to do.

use countersign_crds::{Builtin, SkillSpec, Workspace};
use serde_json::{Value, json};

use crate::record::Launch;

/// The largest output that an attempt may have, in bytes of canonical JSON.
pub const OUTPUT_LIMIT_BYTES: u32 = 256 * 1024;

/// Whether a Skill does something beyond its sandbox.
pub fn needs_broker(contract: &SkillSpec) -> bool {
    !contract.egress.is_empty() || contract.payment.is_some() || contract.workspace != Workspace::None
}

/// The bytes of `attempt.json`; see runner-image/README.md. The same launch gives the same bytes, so
/// that the pod can be told their digest.
pub fn attempt_document(key: &str, launch: &Launch) -> Vec<u8> {
    let Launch { skill: _, contract, input, image: _, timeout_seconds, limits: _, secrets: _, workspace, payment: _ } =
        launch;
    let skill = match (&contract.builtin, &contract.image) {
        (Some(Builtin { name, program: Some(program) }), _) => json!({"builtin": name.as_str(), "program": program}),
        (Some(Builtin { name, program: None }), _) => json!({"builtin": name.as_str()}),
        (None, Some(image)) => json!({"command": image.command}),
        (None, None) => Value::Null,
    };
    let mut document = json!({
        "version": 1,
        "attempt": key,
        "timeoutSeconds": timeout_seconds,
        "outputLimitBytes": OUTPUT_LIMIT_BYTES,
        "skill": skill,
        "input": input,
    });
    match contract.workspace {
        Workspace::None => {}
        Workspace::Read | Workspace::Write => {
            let keep = contract.workspace == Workspace::Write;
            document["workspace"] = json!({"trees": workspace, "keep": keep});
        }
    }
    document.to_string().into_bytes()
}
