//! Computes an output from an input with a jq program.

pub fn run(program: &str, input: &[u8]) -> anyhow::Result<String> {
    Ok(countersign_jq::run(program, input)?)
}
