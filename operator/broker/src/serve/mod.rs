//! What is answered: sandboxes over TLS, probes and metrics in plain HTTP.
//!
//! | path | what |
//! |---|---|
//! | `POST /v1/sessions` | the attempt's token, once, for a session |
//! | `ANY /v1/forward` | a call, to the URL in `countersign-url`; or the attempt's payment |
//! | `PUT /v1/blobs`, `PUT /v1/trees` | a file, or a tree of files, kept by its content |
//! | `GET /v1/blobs/DIGEST`, `GET /v1/trees/DIGEST` | what the attempt was given |
//!
//! Errors are problem details (RFC 9457) with the header `countersign-refused`.

mod access;
pub mod certificate;
pub mod files;
pub mod probes;
mod sessions;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use axum::{Extension, Router};
use tracing::Instrument;

use crate::broker::Broker;
use crate::record::{Admitted, Record};
use crate::refusal::{Reason, Refusal};
use crate::telemetry::attempt_span;
use crate::{call, payment};

pub fn router<R: Record>(broker: Arc<Broker<R>>) -> Router {
    Router::new()
        .route("/v1/forward", any(forward::<R>))
        .route("/v1/blobs", put(files::put_blob::<R>))
        .route("/v1/blobs/{digest}", get(files::get_blob::<R>))
        .route("/v1/trees", put(files::put_tree::<R>))
        .route("/v1/trees/{digest}", get(files::get_tree::<R>))
        .layer(middleware::from_fn_with_state(Arc::clone(&broker), access::authenticate::<R>))
        .route("/v1/sessions", post(sessions::open::<R>))
        .fallback(|| async { Refusal::new(Reason::NotFound, "there is nothing at this path") })
        .layer(middleware::from_fn_with_state(Arc::clone(&broker), count::<R>))
        .with_state(broker)
}

async fn forward<R: Record>(
    State(broker): State<Arc<Broker<R>>>,
    Extension(of): Extension<Admitted>,
    request: Request,
) -> Response {
    let span = attempt_span(&of);
    let answer = async {
        let answered = if payment::is_for(request.headers()) {
            payment::pay(broker, of, request.method()).await
        } else {
            call::forward(broker, of, request).await
        };
        answered.unwrap_or_else(|refusal| {
            tracing::warn!(reason = refusal.reason.as_str(), detail = refusal.detail, "refused");
            refusal.into_response()
        })
    };
    answer.instrument(span).await
}

/// Counts what the broker answered itself, wherever in here that was.
async fn count<R: Record>(State(broker): State<Arc<Broker<R>>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(reason) = response.extensions().get::<Reason>() {
        broker.metrics.refused(*reason);
    }
    response
}
