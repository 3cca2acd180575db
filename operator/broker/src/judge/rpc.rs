//! JSON-RPC 2.0 bodies, read so strictly that no server finds another method in them.

use countersign_core::json::strict;
use serde_json::{Map, Value};
use thiserror::Error;

/// The methods that a Skill of effect Read may call: they are known to read only.
pub const READ_ONLY: [&str; 16] = [
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_gasPrice",
    "eth_getBalance",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getCode",
    "eth_getLogs",
    "eth_getStorageAt",
    "eth_getTransactionByHash",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "net_version",
];

/// Of a batch.
const MOST: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RpcError {
    #[error("the body is not strict JSON: {0}")]
    Json(String),
    #[error("the body is neither a JSON-RPC request nor a batch of 1 to {MOST}")]
    Shape,
    #[error("a JSON-RPC request has jsonrpc \"2.0\", a method, and may have params and id; this one has {0}")]
    Member(String),
}

/// The methods that a body calls, in its order.
pub fn methods(body: &[u8]) -> Result<Vec<String>, RpcError> {
    let value = strict::parse(body).map_err(|error| RpcError::Json(error.to_string()))?;
    match value {
        Value::Object(request) => Ok(vec![method(&request)?]),
        Value::Array(batch) if (1..=MOST).contains(&batch.len()) => {
            batch.iter().map(|request| request.as_object().ok_or(RpcError::Shape).and_then(method)).collect()
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(RpcError::Shape),
    }
}

/// Any other member is refused, as some servers take `Method` for `method`.
fn method(request: &Map<String, Value>) -> Result<String, RpcError> {
    let mut method = None;
    let mut version = false;
    for (name, value) in request {
        match (name.as_str(), value) {
            ("jsonrpc", Value::String(text)) if text == "2.0" => version = true,
            ("method", Value::String(text)) => method = Some(text.clone()),
            ("params", Value::Array(_) | Value::Object(_)) => {}
            ("id", Value::Null | Value::Number(_) | Value::String(_)) => {}
            (other, _) => return Err(RpcError::Member(format!("{other:?}, or a value there that it cannot have"))),
        }
    }
    match (version, method) {
        (true, Some(method)) => Ok(method),
        (false, _) => Err(RpcError::Member("no jsonrpc".to_owned())),
        (true, None) => Err(RpcError::Member("no method".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_batches_name_their_methods() {
        for (body, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[]}"#, vec!["eth_call"]),
            (r#"{"jsonrpc":"2.0","method":"a"}"#, vec!["a"]),
            (
                r#" [{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"b","id":"x","params":{}}] "#,
                vec!["a", "b"],
            ),
            (r#"{"jsonrpc":"2.0","\u006dethod":"a"}"#, vec!["a"]),
        ] {
            assert_eq!(methods(body.as_bytes()), Ok(expected.into_iter().map(str::to_owned).collect()), "{body}");
        }
    }

    #[test]
    fn what_a_server_could_read_otherwise_is_refused() {
        let many = format!("[{}]", vec![r#"{"jsonrpc":"2.0","method":"a"}"#; MOST + 1].join(","));
        for body in [
            "",
            "null",
            "[]",
            "\"eth_call\"",
            "[[]]",
            "{}",
            r#"{"method":"a"}"#,
            r#"{"jsonrpc":"1.0","method":"a"}"#,
            r#"{"jsonrpc":2.0,"method":"a"}"#,
            r#"{"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","method":["a"]}"#,
            r#"{"jsonrpc":"2.0","method":"eth_call","method":"eth_sendRawTransaction"}"#,
            r#"{"jsonrpc":"2.0","method":"eth_call","\u006dethod":"eth_sendRawTransaction"}"#,
            r#"{"jsonrpc":"2.0","method":"eth_call","Method":"eth_sendRawTransaction"}"#,
            r#"{"jsonrpc":"2.0","method":"eth_call","METHOD":"eth_sendRawTransaction"}"#,
            r#"{"jsonrpc":"2.0","method":"eth_call","extra":1}"#,
            r#"{"jsonrpc":"2.0","method":"eth_call"}{"jsonrpc":"2.0","method":"eth_sendRawTransaction"}"#,
            r#"[{"jsonrpc":"2.0","method":"a"},1]"#,
            r#"{"jsonrpc":"2.0","method":"a","id":[1]}"#,
            r#"{"jsonrpc":"2.0","method":"a","params":"x"}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"method\":\"a\"}",
            many.as_str(),
        ] {
            assert!(methods(body.as_bytes()).is_err(), "{body}");
        }
        assert!(methods(b"\xff\xfe{\0}\0").is_err());
    }

    #[test]
    fn no_method_that_is_known_to_read_sends_or_signs() {
        for wrong in ["send", "sign", "submit", "set", "unlock", "personal", "admin", "debug", "miner"] {
            assert!(READ_ONLY.iter().all(|method| !method.to_lowercase().contains(wrong)), "{wrong}");
        }
    }
}
