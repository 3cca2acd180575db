//! The log for its clients (<https://c2sp.org/tlog-tiles>): checkpoint, tiles and bundles of entries.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use countersign_core::event::Selection;
use countersign_core::tlog::{TILE_WIDTH, Tile, parse_index};
use serde::{Deserialize, Serialize};

use super::Served;
use super::access::Caller;
use super::page::Query;
use super::problem::Problem;

/// What a path names never changes.
const FOR_EVER: &str = "max-age=31536000, immutable";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// How many witnesses are to have cosigned it.
    #[serde(default)]
    pub cosignatures: u32,
}

pub async fn checkpoint(
    State(shared): Served,
    Query(Wanted { cosignatures }): Query<Wanted>,
) -> Result<Response, Problem> {
    let found = shared.store.cosigned_checkpoint(cosignatures).await?;
    let (_, note) = found.ok_or_else(|| no_checkpoint(cosignatures))?;
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, note).into_response())
}

pub async fn newest(store: &countersign_store::Store) -> Result<(u64, String), Problem> {
    store.checkpoint().await?.ok_or_else(|| no_checkpoint(0))
}

pub fn no_checkpoint(cosignatures: u32) -> Problem {
    Problem::not_found(match cosignatures {
        0 => "the log has no checkpoint yet".to_owned(),
        more => format!(
            "cosignatures: {more} witnesses have not cosigned any checkpoint together; ask for fewer, or see the chart's witnesses"
        ),
    })
}

#[derive(Serialize)]
pub struct Keys {
    /// `NAME+HEX+BASE64` (C2SP signed-note), the first one first.
    keys: Vec<String>,
}

pub async fn keys(State(shared): Served) -> Result<Json<Keys>, Problem> {
    Ok(Json(Keys { keys: shared.store.log_keys().await? }))
}

pub async fn tile(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let body = match path.strip_prefix("entries/") {
        Some(index) => {
            caller.may_read(None).await?;
            let (index, width) = parse_index(index).ok_or_else(|| no_tile(&path))?;
            entries(&shared.store, index, width).await?
        }
        None => {
            let (tile, width) = Tile::parse(&path).ok_or_else(|| no_tile(&path))?;
            let hashes = shared.store.log_tile(tile).await?;
            hashes.get(..width).map(Tile::encode)
        }
    };
    let body: Vec<u8> = body.ok_or_else(|| Problem::not_found("the log is not that large yet"))?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, FOR_EVER)];
    Ok((headers, body).into_response())
}

fn no_tile(path: &str) -> Problem {
    Problem::bad_request(format!("tile/{path}: is not a path of tlog-tiles, such as tile/0/x001/234.p/5"))
}

/// Each entry behind its length, 16 bits, big-endian; `None` where not all are there.
async fn entries(store: &countersign_store::Store, index: u64, width: usize) -> Result<Option<Vec<u8>>, Problem> {
    let too_far = || Problem::bad_request("tile: the index is too large");
    let from = index.checked_mul(TILE_WIDTH as u64).ok_or_else(too_far)?;
    let (size, _) = newest(store).await?;
    let end = from.checked_add(width as u64).ok_or_else(too_far)?;
    if end > size {
        return Ok(None);
    }
    let mut bundle = Vec::new();
    for entry in store.log_entries(&Selection::All, from, end, TILE_WIDTH as i64).await? {
        let length = u16::try_from(entry.body.len());
        let length = length.map_err(|_| Problem::not_found("an entry is longer than a bundle can hold"))?;
        bundle.extend(length.to_be_bytes());
        bundle.extend(entry.body);
    }
    Ok(Some(bundle))
}
