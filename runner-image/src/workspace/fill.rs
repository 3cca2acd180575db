//! Before the skill: the trees that its Task left, fetched and checked against their digests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hyper::Method;

use super::FILE_BYTES;
use super::tree::{Merged, Tree, digest};
use crate::contract::Status;
use crate::egress::{Connection, Session};

/// Far more than a tree of the most files needs.
const TREE_BYTES: usize = 8 * 1024 * 1024;

/// A workspace with its files in place.
pub struct Filled {
    pub folder: PathBuf,
    /// The digests of the files that the broker has.
    pub known: BTreeSet<String>,
}

/// Fills the folder, which must be there and empty.
pub async fn fill(session: &Session, trees: &[String], folder: &Path) -> Result<Filled, (Status, String)> {
    if !folder.is_dir() {
        return Err((Status::Failed, format!("the workspace: the pod mounts no {}", folder.display())));
    }
    let mut connection = session.connection();
    let mut merged = Merged::default();
    for name in trees {
        let bytes = get(session, &mut connection, "trees", name, TREE_BYTES).await?;
        let tree: Tree = serde_json::from_slice(&bytes).map_err(|error| invalid(format!("tree {name}: {error}")))?;
        merged.add(name, tree).map_err(invalid)?;
    }
    let mut known = BTreeSet::new();
    for (path, entry) in merged.files() {
        let bytes = get(session, &mut connection, "blobs", &entry.digest, FILE_BYTES as usize).await?;
        if bytes.len() as u64 != entry.bytes {
            return Err(invalid(format!("{path:?} has {} bytes; its tree says {}", bytes.len(), entry.bytes)));
        }
        write(&folder.join(path), &bytes)
            .map_err(|error| (Status::Failed, format!("the workspace: {path:?}: {error}")))?;
        known.insert(entry.digest.clone());
    }
    Ok(Filled { folder: folder.to_owned(), known })
}

fn invalid(message: String) -> (Status, String) {
    (Status::InputInvalid, format!("the workspace: {message}"))
}

async fn get(
    session: &Session,
    connection: &mut Connection,
    kind: &str,
    name: &str,
    limit: usize,
) -> Result<Bytes, (Status, String)> {
    let hex = name.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(invalid(format!("{name:?} is not sha256: and 64 hexadecimal digits")));
    }
    let path = format!("/v1/{kind}/{name}");
    let bytes = session
        .call(connection, (Method::GET, &path), Bytes::new(), limit)
        .await
        .map_err(|why| (Status::Failed, format!("the workspace could not be fetched: {why}")))?;
    if digest(&bytes) != name {
        return Err(invalid(format!("{path}: what came has another digest")));
    }
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::File::create_new(path)?.write_all(bytes)
}
