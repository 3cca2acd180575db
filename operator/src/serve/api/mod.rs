//! The record over HTTPS, to read: the log as C2SP's tlog-tiles serves it, and Tasks, steps and entries for people and
//! programs.
//!
//! | path | what | who |
//! |---|---|---|
//! | `/log/checkpoint`, `/log/tile/…` | the newest signed checkpoint (`?cosignatures=N`: that N witnesses cosigned), and the tree's hashes | whoever the API server knows |
//! | `/log/tile/entries/…` | entries without their payloads | who may list Tasks in all namespaces |
//! | `/api/v1/keys` | the public keys that signed | whoever the API server knows |
//! | `/api/v1/anchors?entries=N&size=M` | of each network the anchor that covers N entries, with its evidence, and proved against the checkpoint of M | whoever the API server knows |
//! | `/api/v1/outbox` | what waits for a network outside, or ended for nothing | who may list Tasks in all namespaces |
//! | `POST /api/v1/outbox/ID/retries` | has that tried again | who may `retry` `outbox` in our group |
//! | `/api/v1/tasks`, `/steps`, `/entries` | of all namespaces | who may list Tasks in all namespaces |
//! | `/api/v1/namespaces/NS/tasks`, `/steps`, `/tasks/NAME`, `/tasks/NAME/entries` | of one | who may list Tasks there |
//! | `/api/v1/statistics/spend`, `/decisions`, `/reasons`, `/budgets` | sums of all namespaces | who may list Tasks in all namespaces |
//! | `/api/v1/namespaces/NS/statistics/…` | the same of one | who may list Tasks there |
//! | `POST /api/v1/namespaces/NS/simulations` | what would become of a Task | who may create Tasks there |
//! | `POST /api/v1/namespaces/NS/simulations/replays` | what Policies would have changed of those on record | who may list Tasks there |
//! | `POST …/exports` | logs that entries were taken away | as for the entries |
//!
//! Errors are problem details (RFC 9457).

mod access;
mod entries;
mod limit;
mod outbox;
mod page;
mod problem;
mod simulations;
mod statistics;
mod tasks;
mod tiles;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware;
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use countersign_store::Store;
use kube::Client;

use self::limit::Limits;
use self::problem::Problem;
pub use self::simulations::Simulator;
use crate::metrics::Metrics;

const PORT: u16 = 8443;

/// What every request needs.
#[derive(Clone)]
pub struct Shared {
    pub client: Client,
    /// With connections of its own, so that readers never keep the operator from its work.
    pub store: Store,
    pub limits: Arc<Limits>,
    pub metrics: Metrics,
}

impl Shared {
    pub fn new(client: Client, store: Store, requests_per_second: u32, metrics: Metrics) -> Shared {
        Shared { client, store, limits: Arc::new(Limits::new(requests_per_second)), metrics }
    }
}

pub fn router(shared: Shared) -> Router {
    let statistics = Router::new()
        .route("/spend", get(statistics::spend))
        .route("/decisions", get(statistics::decisions))
        .route("/reasons", get(statistics::reasons))
        .route("/budgets", get(statistics::budgets));
    let namespace = Router::new()
        .nest("/statistics", statistics.clone())
        .route("/tasks", get(tasks::list))
        .route("/tasks/{task}", get(tasks::one))
        .route("/tasks/{task}/entries", get(entries::of_task))
        .route("/tasks/{task}/exports", post(entries::export_task))
        .route("/simulations", simulations::of_task())
        .route("/simulations/replays", simulations::of_the_past())
        .route("/steps", get(tasks::steps));
    let api = Router::new()
        .nest("/namespaces/{namespace}", namespace)
        .nest("/statistics", statistics)
        .route("/tasks", get(tasks::list))
        .route("/steps", get(tasks::steps))
        .route("/entries", get(entries::all))
        .route("/exports", post(entries::export_all))
        .route("/anchors", get(outbox::anchors))
        .route("/outbox", get(outbox::list))
        .route("/outbox/{id}/retries", post(outbox::retry))
        .route("/keys", get(tiles::keys));
    Router::new()
        .nest("/api/v1", api)
        .route("/log/checkpoint", get(tiles::checkpoint))
        .route("/log/tile/{*path}", get(tiles::tile))
        .fallback(|| async { Problem::not_found("there is nothing at this path") })
        .layer(middleware::from_fn_with_state(shared.clone(), access::authenticate))
        .with_state(shared)
}

/// Serves until the handle says otherwise.
pub async fn serve(router: Router, tls: RustlsConfig, handle: Handle<SocketAddr>) -> anyhow::Result<()> {
    let server = axum_server::bind_rustls(SocketAddr::from(([0, 0, 0, 0], PORT)), tls).handle(handle);
    server.serve(router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

type Served = State<Shared>;
