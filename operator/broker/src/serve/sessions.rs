//! `POST /v1/sessions`: the attempt's token is taken once, for a session.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::digest::Digest;
use countersign_core::json::strict;
use serde::Deserialize;
use serde_json::json;

use crate::broker::Broker;
use crate::record::Record;
use crate::refusal::{Reason, Refusal};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    attempt: String,
    token: String,
}

pub async fn open<R: Record>(State(broker): State<Arc<Broker<R>>>, body: Bytes) -> Result<Response, Refusal> {
    let shape = |error: &dyn std::fmt::Display| {
        let detail = format!("the body must be {{\"attempt\": \"KEY\", \"token\": \"…\"}}: {error}");
        Refusal::new(Reason::BadRequest, detail)
    };
    let body = strict::parse(&body).map_err(|error| shape(&error))?;
    let Wanted { attempt, token } = serde_json::from_value(body).map_err(|error| shape(&error))?;
    let unknown = || Refusal::new(Reason::Token, "the token is not of an attempt that runs");
    let of = broker.record.admitted(&attempt).await?.ok_or_else(unknown)?;
    if !broker.tokens.holds(&of.attempt, &of.pod_uid, &token) {
        tracing::warn!(attempt, "a token that is not the attempt's was shown");
        return Err(unknown());
    }
    if of.over {
        return Err(Refusal::new(Reason::AttemptOver, "the attempt has ended"));
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| {
        tracing::error!(%error, "there is no randomness");
        Refusal::new(Reason::Busy, "no session can be made just now")
    })?;
    let session = URL_SAFE_NO_PAD.encode(secret);
    if !broker.record.open_session(&of, Digest::of_bytes(&session).as_bytes()).await? {
        tracing::warn!(attempt, "a token was shown a second time");
        return Err(Refusal::new(Reason::TokenUsed, "the token was taken before, and it is for one use"));
    }
    broker.metrics.session();
    Ok((StatusCode::CREATED, Json(json!({"session": session}))).into_response())
}
