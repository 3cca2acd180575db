//! A Task's files, by their content. An attempt gets what the steps before it left, and leaves what its Skill may keep.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use countersign_core::digest::Digest;
use countersign_core::json::{canonical, strict};
use countersign_crds::Workspace;
use serde::Deserialize;
use serde_json::json;

use crate::broker::Broker;
use crate::call::{declared, read};
use crate::record::{Admitted, Record};
use crate::refusal::{Reason, Refusal};

/// The bounds of a workspace.
const FILES: usize = 1000;
const FILE_BYTES: usize = 8 * 1024 * 1024;
const ALL_BYTES: u64 = 32 * 1024 * 1024;
const PATH_BYTES: usize = 4096;
/// Trees whose files are remembered; they never change.
const REMEMBERED: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tree {
    files: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    digest: Digest,
    bytes: u64,
}

/// Which files the trees hold that were asked for lately.
#[derive(Default)]
pub struct Known(Mutex<HashMap<Digest, Arc<HashSet<Digest>>>>);

type Files<R> = State<Arc<Broker<R>>>;

pub async fn put_blob<R: Record>(
    State(broker): Files<R>,
    Extension(of): Extension<Admitted>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    may_keep(&of)?;
    let memory = broker.buffers.take(declared(&headers).unwrap_or(FILE_BYTES).min(FILE_BYTES))?;
    let bytes = read(body, FILE_BYTES).await?;
    let kept = keep(&broker, &of, &bytes).await;
    drop(memory);
    kept
}

pub async fn put_tree<R: Record>(
    State(broker): Files<R>,
    Extension(of): Extension<Admitted>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    may_keep(&of)?;
    let memory = broker.buffers.take(declared(&headers).unwrap_or(FILE_BYTES).min(FILE_BYTES))?;
    let bytes = read(body, FILE_BYTES).await?;
    let refused = |why: String| Refusal::new(Reason::BadRequest, format!("the tree {why}"));
    let mut foreign = check_tree(&bytes).map_err(refused)?;
    for digest in broker.record.kept(&of).await? {
        foreign.remove(&digest);
    }
    for tree in &of.launch.workspace {
        let given = files(&broker, *tree).await?;
        foreign.retain(|digest| !given.contains(digest));
    }
    // Otherwise whoever knows the digest of another Task's file could have it handed on.
    if let Some(digest) = foreign.first() {
        return Err(refused(format!(
            "names {digest}, which the attempt neither left nor was given; put the file first"
        )));
    }
    let kept = keep(&broker, &of, &bytes).await;
    drop(memory);
    kept
}

pub async fn get_tree<R: Record>(
    State(broker): Files<R>,
    Extension(of): Extension<Admitted>,
    Path(digest): Path<String>,
) -> Result<Response, Refusal> {
    let digest = given(&of, &digest)?;
    if !of.launch.workspace.contains(&digest) {
        return Err(not_given());
    }
    answer(&broker, digest, "application/json").await
}

pub async fn get_blob<R: Record>(
    State(broker): Files<R>,
    Extension(of): Extension<Admitted>,
    Path(digest): Path<String>,
) -> Result<Response, Refusal> {
    let digest = given(&of, &digest)?;
    for tree in &of.launch.workspace {
        if files(&broker, *tree).await?.contains(&digest) {
            return answer(&broker, digest, "application/octet-stream").await;
        }
    }
    Err(not_given())
}

fn may_keep(of: &Admitted) -> Result<(), Refusal> {
    match of.launch.contract.workspace {
        Workspace::Write => Ok(()),
        Workspace::Read | Workspace::None => {
            let detail = format!("Skill {} may not keep files; its spec.workspace would be Write", of.launch.skill);
            Err(Refusal::new(Reason::EgressDenied, detail))
        }
    }
}

/// The digest that is asked for, where the Skill sees files at all.
fn given(of: &Admitted, digest: &str) -> Result<Digest, Refusal> {
    match of.launch.contract.workspace {
        Workspace::Read | Workspace::Write => {}
        Workspace::None => return Err(not_given()),
    }
    digest.parse().map_err(|_| not_given())
}

/// The same answer whether it is there or not.
fn not_given() -> Refusal {
    Refusal::new(Reason::NotFound, "the attempt was given no such file")
}

async fn keep<R: Record>(broker: &Broker<R>, of: &Admitted, bytes: &[u8]) -> Result<Response, Refusal> {
    let Some(digest) = broker.record.keep_file(of, bytes, ALL_BYTES).await? else {
        let detail = format!("an attempt keeps at most {ALL_BYTES} bytes");
        return Err(Refusal::new(Reason::WorkspaceFull, detail));
    };
    Ok((StatusCode::CREATED, Json(json!({"digest": digest}))).into_response())
}

async fn answer<R: Record>(broker: &Broker<R>, digest: Digest, kind: &'static str) -> Result<Response, Refusal> {
    let bytes = broker.record.file(digest).await?.ok_or_else(not_given)?;
    Ok(([(CONTENT_TYPE, kind)], bytes).into_response())
}

async fn files<R: Record>(broker: &Broker<R>, tree: Digest) -> Result<Arc<HashSet<Digest>>, Refusal> {
    let Known(known) = &broker.known;
    let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(files) = lock().get(&tree) {
        return Ok(Arc::clone(files));
    }
    let bytes = broker.record.file(tree).await?.ok_or_else(not_given)?;
    let Tree { files } = serde_json::from_slice(&bytes).map_err(|error| {
        tracing::error!(%tree, %error, "a tree cannot be read");
        not_given()
    })?;
    let files: Arc<HashSet<Digest>> = Arc::new(files.into_values().map(|entry| entry.digest).collect());
    let mut known = lock();
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(tree, Arc::clone(&files));
    Ok(files)
}

/// A tree is what the next step's runner will unpack, so it is held to what that takes. The files that it names.
fn check_tree(bytes: &[u8]) -> Result<BTreeSet<Digest>, String> {
    let value = strict::parse(bytes).map_err(|error| format!("is not strict JSON: {error}"))?;
    let same = canonical::to_vec(&value).is_ok_and(|canonical| canonical == bytes);
    if !same {
        return Err("is not canonical JSON (RFC 8785)".to_owned());
    }
    let Tree { files } = serde_json::from_value(value).map_err(|error| format!("is not a tree: {error}"))?;
    if files.len() > FILES {
        return Err(format!("has more than {FILES} files"));
    }
    let mut all = 0_u64;
    let mut named = BTreeSet::new();
    for (path, Entry { digest, bytes }) in &files {
        let plain = path.len() <= PATH_BYTES
            && !path.contains('\0')
            && path.split('/').all(|name| !name.is_empty() && name != "." && name != "..");
        if !plain {
            return Err(format!("has {path:?}, which is not a plain relative path"));
        }
        all = all.saturating_add(*bytes);
        if *bytes > FILE_BYTES as u64 || all > ALL_BYTES {
            return Err(format!("has more than {ALL_BYTES} bytes, or {FILE_BYTES} in one file"));
        }
        named.insert(*digest);
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_canonical_and_stays_in_its_folder() {
        let digest = Digest::of_bytes("x");
        let tree = |path: &str, bytes: u64| json!({"files": {path: {"bytes": bytes, "digest": digest}}}).to_string();
        assert_eq!(check_tree(tree("a/b.txt", 1).as_bytes()), Ok([digest].into()));
        assert_eq!(check_tree(br#"{"files":{}}"#), Ok([].into()));
        for path in ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\0b", &"a".repeat(PATH_BYTES + 1)] {
            assert!(check_tree(tree(path, 1).as_bytes()).is_err(), "{path:?}");
        }
        for text in [
            tree("a", FILE_BYTES as u64 + 1),
            tree("a", u64::from(u32::MAX)),
            r#"{"files": {}}"#.to_owned(),
            r#"{"files":{},"more":1}"#.to_owned(),
            r#"{"files":{},"files":{}}"#.to_owned(),
            r#"{"files":{"a":{"bytes":1,"digest":"sha256:x"}}}"#.to_owned(),
            "[]".to_owned(),
        ] {
            assert!(check_tree(text.as_bytes()).is_err(), "{text}");
        }
        let many: BTreeMap<String, _> =
            (0..=FILES).map(|n| (n.to_string(), json!({"bytes": 1, "digest": digest}))).collect();
        let many = canonical::to_vec(&json!({"files": many})).unwrap();
        assert_eq!(check_tree(&many), Err(format!("has more than {FILES} files")));
    }
}
