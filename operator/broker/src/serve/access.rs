//! Whom a request is for: the attempt that its session is of, as the record knows it at this moment.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use countersign_core::digest::Digest;

use crate::broker::Broker;
use crate::record::{Admitted, Record};
use crate::refusal::{Reason, Refusal};

pub async fn authenticate<R: Record>(
    State(broker): State<Arc<Broker<R>>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let of = session(&broker, request.headers()).await?;
    request.extensions_mut().insert(of);
    Ok(next.run(request).await)
}

async fn session<R: Record>(broker: &Broker<R>, headers: &HeaderMap) -> Result<Admitted, Refusal> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let unknown = || Refusal::new(Reason::Session, "the session is not known; open one with the attempt's token");
    // The record is asked for the digest of what was shown, so the time it takes tells nothing of the session.
    let digest = Digest::of_bytes(bearer.ok_or_else(unknown)?);
    let of = broker.record.session(digest.as_bytes()).await?.ok_or_else(unknown)?;
    if of.over {
        return Err(Refusal::new(Reason::AttemptOver, "the attempt has ended"));
    }
    Ok(of)
}
