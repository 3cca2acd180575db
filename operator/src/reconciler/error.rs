//! What can go wrong in one reconciliation of a Task. None of it loses anything: the next reconciliation repairs it.

use countersign_core::record::ApplyError;
use countersign_store::{CommitError, StoreError};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    #[error("postgresql")]
    Store(#[from] StoreError),
    #[error("record")]
    Commit(#[from] CommitError),
    #[error("kubernetes")]
    Kubernetes(#[from] kube::Error),
    #[error("{action}")]
    Action { action: &'static str, source: kube::Error },
    #[error("the broker's address, certificate or key is not known yet; see /readyz")]
    NoBroker,
    #[error("defect")]
    Core(#[from] ApplyError),
    #[error("defect: a reconciliation ended in a panic")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Error {
    /// For metrics: a closed set of names.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Store(_) => "postgresql",
            Error::Commit(CommitError::Conflict) => "conflict",
            Error::Commit(CommitError::OverBudget) => "budget",
            Error::Commit(_) => "record",
            Error::Kubernetes(_) => "kubernetes",
            Error::Action { .. } => "action",
            Error::NoBroker => "broker",
            Error::Core(_) | Error::Panicked(_) => "defect",
        }
    }
}
