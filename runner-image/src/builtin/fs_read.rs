//! A file of the workspace.

use std::io::Read;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use cap_std::fs::OpenOptions;
use serde::{Deserialize, Serialize};

use super::workspace::{Encoding, RelativePath, Workspace};
use crate::output::sha256;

/// A skill's output is not longer.
const OUTPUT_BYTES: usize = 256 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    path: RelativePath,
    #[serde(default)]
    encoding: Encoding,
}

#[derive(Serialize)]
pub struct Output {
    path: String,
    content: String,
    bytes: usize,
    sha256: String,
}

pub fn run(input: Input) -> anyhow::Result<Output> {
    let Input { path, encoding } = input;
    let named = format!("input.path: {:?}", path.as_str());
    let too_large = || {
        anyhow!(
            "{named}: more than fits into an output of {OUTPUT_BYTES} bytes; make it smaller, or give the work to an image"
        )
    };
    let file = Workspace::open()?.file(&path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_BYTES as u64 + 1).read_to_end(&mut bytes).with_context(|| named.clone())?;
    if bytes.len() > OUTPUT_BYTES {
        return Err(too_large());
    }
    let (count, sha256) = (bytes.len(), sha256(&bytes));
    let content = match (encoding, String::from_utf8(bytes)) {
        (Encoding::Utf8, Ok(text)) => text,
        (Encoding::Utf8, Err(_)) => bail!("input.encoding: {:?} is not UTF-8; write base64", path.as_str()),
        (Encoding::Base64, Ok(text)) => base64::engine::general_purpose::STANDARD.encode(text),
        (Encoding::Base64, Err(error)) => base64::engine::general_purpose::STANDARD.encode(error.as_bytes()),
    };
    let output = Output { path: path.as_str().to_owned(), content, bytes: count, sha256 };
    if serde_json::to_vec(&output)?.len() > OUTPUT_BYTES {
        return Err(too_large());
    }
    Ok(output)
}
