//! The witness over HTTP. What passes is public and signed; whoever wants TLS puts a proxy before it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum_server::Handle;
use countersign_core::tlog::witness::Refusal;
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;

use crate::witness::{Refused, Witness};

/// A proof of 63 hashes, and a checkpoint with sixteen signatures of the longest kind.
const MOST_BYTES: usize = 128 * 1024;
/// For a request's head, and for its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many are in hand at once.
const AT_ONCE: usize = 64;
const SIZE: &str = "text/x.tlog.size";

struct Shared {
    witness: Arc<Witness>,
    places: Semaphore,
}

pub fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Shared { witness, places: Semaphore::new(AT_ONCE) }))
}

/// Serves until told to end.
pub async fn serve(router: Router, listener: TcpListener, handle: Handle<std::net::SocketAddr>) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let mut server = axum_server::from_tcp(listener)?.handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    server.serve(router.into_make_service()).await?;
    Ok(())
}

async fn add(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    let Ok(_place) = shared.places.try_acquire() else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "too much at once; try again");
    };
    let body = match tokio::time::timeout(PATIENCE, to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return said(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or was cut off"),
        Err(_) => return said(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    let Ok(body) = String::from_utf8(body.into()) else {
        return said(StatusCode::BAD_REQUEST, "the body is not UTF-8");
    };
    let witness = Arc::clone(&shared.witness);
    // On a thread of its own, so that what was begun is ended though the client goes.
    match tokio::task::spawn_blocking(move || witness.add(&body)).await {
        Ok(Ok(line)) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response(),
        Ok(Err(refused)) => refuse(&refused),
        Err(_) => said(StatusCode::INTERNAL_SERVER_ERROR, "the witness failed"),
    }
}

fn refuse(refused: &Refused) -> Response {
    let status = match refused {
        Refused::Request(_) | Refused::Judged(Refusal::Beyond { .. }) => StatusCode::BAD_REQUEST,
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::Judged(Refusal::Unsigned(_)) => StatusCode::FORBIDDEN,
        // A client that is told the size which it began with knows that its root is another.
        Refused::Judged(Refusal::Stale { old: _, size } | Refusal::SplitView { size }) => {
            return (StatusCode::CONFLICT, [(header::CONTENT_TYPE, SIZE)], format!("{size}\n")).into_response();
        }
        Refused::Judged(Refusal::Proof(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Disk(_) | Refused::Clock => StatusCode::INTERNAL_SERVER_ERROR,
    };
    said(status, &refused.to_string())
}

fn said(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.witness.metrics().render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => said(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
