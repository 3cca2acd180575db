//! Writes a file of the workspace; folders on the way are made.

use std::io::Write;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use cap_std::fs::OpenOptions;
use serde::{Deserialize, Serialize};

use super::workspace::{Encoding, RelativePath, Workspace};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    path: RelativePath,
    content: String,
    #[serde(default)]
    encoding: Encoding,
    #[serde(default)]
    append: bool,
    mode: Option<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Create,
    Overwrite,
}

#[derive(Serialize)]
pub struct Output {
    path: String,
    bytes: u64,
    sha256: String,
}

pub fn run(input: Input) -> anyhow::Result<Output> {
    let Input { path, content, encoding, append, mode } = input;
    let content = match encoding {
        Encoding::Utf8 => content.into_bytes(),
        Encoding::Base64 => base64::engine::general_purpose::STANDARD
            .decode(content)
            .map_err(|error| anyhow!("input.content: it is not base64: {error}"))?,
    };
    let mut options = OpenOptions::new();
    match (append, mode) {
        (true, None) => options.append(true).create(true),
        (true, Some(_)) => bail!("input.mode: append keeps what is there and makes what is not; leave mode out"),
        (false, None | Some(Mode::Create)) => options.write(true).create_new(true),
        (false, Some(Mode::Overwrite)) => options.write(true).create(true).truncate(true),
    };
    let workspace = Workspace::open()?;
    workspace.make_folder_of(&path)?;
    let mut file =
        workspace.file(&path, &mut options).map_err(|error| match error.downcast_ref::<std::io::Error>() {
            Some(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
                anyhow!("input.path: {:?} is there already; write mode overwrite, or append true", path.as_str())
            }
            Some(_) | None => error,
        })?;
    file.write_all(&content).with_context(|| format!("input.path: {:?}", path.as_str()))?;
    let (bytes, sha256) = workspace.measure(&path)?;
    Ok(Output { path: path.as_str().to_owned(), bytes, sha256 })
}
