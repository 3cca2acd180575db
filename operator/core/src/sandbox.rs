//! The document that the runner reads: what one attempt is to do.

use countersign_crds::{Builtin, BuiltinName};
use serde_json::{Value, json};

use crate::record::Launch;

/// The largest output that an attempt may have, in bytes of canonical JSON.
pub const OUTPUT_LIMIT_BYTES: u32 = 256 * 1024;

/// The bytes of `attempt.json`; see runner-image/README.md. The same launch gives the same bytes, so
/// that the pod can be told their digest.
pub fn attempt_document(key: &str, launch: &Launch) -> Vec<u8> {
    let Launch { skill: _, contract, input, image: _, timeout_seconds } = launch;
    let skill = match (&contract.builtin, &contract.image) {
        (Some(Builtin { name, program }), _) => match name {
            BuiltinName::JsonTransform => json!({"builtin": "json_transform", "program": program}),
            BuiltinName::GenericAction => json!({"builtin": "generic_action"}),
        },
        (None, Some(image)) => json!({"command": image.command}),
        (None, None) => Value::Null,
    };
    let document = json!({
        "version": 1,
        "attempt": key,
        "timeoutSeconds": timeout_seconds,
        "outputLimitBytes": OUTPUT_LIMIT_BYTES,
        "skill": skill,
        "input": input,
    });
    document.to_string().into_bytes()
}
