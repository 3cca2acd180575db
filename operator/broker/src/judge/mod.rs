//! What may leave, what it costs and what it shows. No room here reads, writes, waits or knows the time.

pub mod address;
pub mod allow;
pub mod breaker;
pub mod credential;
pub mod headers;
pub mod mail;
pub mod path;
pub mod price;
pub mod redact;
pub mod rpc;
pub mod target;
pub mod usage;

#[cfg(test)]
pub(crate) mod tests {
    use countersign_core::record::Launch;
    use serde_json::{Value, json};

    /// What an attempt of the Skill `caller` runs.
    pub(crate) fn launch(contract: Value, limits: Value) -> Launch {
        let launch = json!({"skill": "caller", "contract": contract, "input": {}, "image": "i", "timeout_seconds": 60,
            "limits": limits});
        serde_json::from_value(launch).unwrap()
    }
}
