//! Pages, and the cursors between them.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_store::{Cursor, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;

const DEFAULT: u32 = 100;
const MAXIMUM: u32 = 1000;

#[derive(Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it back as `continue` for what comes after; absent on the last page.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many a page may hold.
pub fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked.unwrap_or(DEFAULT) {
        limit @ 1..=MAXIMUM => Ok(limit),
        other => Err(Problem::bad_request(format!("limit: {other} is not between 1 and {MAXIMUM}"))),
    }
}

/// One more than is given tells whether a page follows.
pub fn with_next(limit: u32) -> i64 {
    i64::from(limit) + 1
}

/// Leaves what is given, and where the next page begins if there is one.
pub fn cut<T, C>(rows: &mut Vec<T>, limit: u32, cursor: impl Fn(&T) -> C) -> Option<C> {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    rows.last().filter(|_| more).map(cursor)
}

/// What stands behind the question mark; what is not known there is named.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Problem> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|query| Query(query.0)).map_err(|rejection| Problem::bad_request(rejection.body_text()))
    }
}

pub fn encode(cursor: &Cursor) -> String {
    let Cursor { adopted_at, uid, position } = cursor;
    URL_SAFE_NO_PAD.encode(format!("{},{position},{uid}", adopted_at.as_microsecond()))
}

pub fn decode(text: &str) -> Result<Cursor, Problem> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let mut parts = text.splitn(3, ',');
        let adopted_at = Timestamp::from_microsecond(parts.next()?.parse().ok()?).ok()?;
        Some(Cursor { adopted_at, position: parts.next()?.parse().ok()?, uid: parts.next()?.to_owned() })
    };
    read().ok_or_else(not_a_page)
}

/// Where a page ended, as a reader gives it back.
pub fn seal<T: Serialize>(cursor: Option<T>) -> Result<Option<String>, Problem> {
    let seal = |cursor: T| serde_json::to_vec(&cursor).map(|json| URL_SAFE_NO_PAD.encode(json));
    let sealed = cursor.map(seal).transpose();
    sealed.map_err(|error| StoreError::Corrupt(format!("a page cannot be continued: {error}").into()).into())
}

pub fn open<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, Problem> {
    let open = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    let opened = text.map(|text| open(text).ok_or_else(not_a_page));
    opened.transpose()
}

fn not_a_page() -> Problem {
    Problem::bad_request("continue: is not what an earlier page gave; leave it out to begin anew")
}

/// An instant of RFC 3339.
pub fn instant(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let parse = |text: &str| {
        text.parse().map_err(|error| {
            Problem::bad_request(format!("{name}: is not a time such as 2026-11-21T09:00:00Z: {error}"))
        })
    };
    text.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let cursor =
            Cursor { adopted_at: "2026-11-21T00:00:00.123456Z".parse().unwrap(), uid: "a-b,c".into(), position: -3 };
        assert_eq!(decode(&encode(&cursor)).unwrap(), cursor);
        for wrong in ["", "!", "YQ", &URL_SAFE_NO_PAD.encode("1,2"), &URL_SAFE_NO_PAD.encode("x,2,u")] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
        let mut rows = vec![1, 2, 3];
        assert_eq!((cut(&mut rows, 2, |last| *last), rows.len()), (Some(2), 2));
        assert_eq!(cut(&mut rows, 2, |last| *last), None, "the last page");
        assert!(limit(Some(0)).is_err() && limit(Some(1001)).is_err());
        assert_eq!(limit(None).unwrap(), 100);
    }
}
