//! What is there before a skill starts, beside the sandbox itself: its session with the broker, its files, its proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::contract::{Attempt, Status, Workspace};
use crate::egress::{self, BROKER, Broker, NotOpened, Offer, Session};
use crate::supervise::ProcessEvents;
use crate::workspace::{self, Filled};

pub struct Prepared {
    runtime: Runtime,
    session: Arc<Session>,
    pub offer: Offer,
    /// What a log must not show.
    pub secrets: Vec<String>,
    workspace: Option<Filled>,
    keep: bool,
}

/// The folders that the tests put elsewhere.
pub struct Folders {
    pub egress: PathBuf,
    pub workspace: PathBuf,
}

type Failed = (Status, String);

/// `None` where the attempt has neither network nor files. An error means that nothing was started.
pub fn prepare(attempt: &Attempt, folders: &Folders, events: &ProcessEvents) -> Result<Option<Prepared>, Failed> {
    let failed = |error: &dyn std::fmt::Display| (Status::Failed, format!("before the skill: {error:#}"));
    let Some((document, token)) = egress::read().map_err(|message| (Status::InputInvalid, message))? else {
        return match attempt.workspace {
            None => Ok(None),
            Some(_) => Err((Status::InputInvalid, format!("workspace: it is the broker's, and {BROKER} names none"))),
        };
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| failed(&error))?;
    let broker = Broker::new(document).map_err(|error| failed(&error))?;
    let opened_with = token.clone();
    let key = attempt.attempt.clone();
    let opening = async move { Session::open(broker, &key, &token).await };
    let session = events.until(&runtime, opening).ok_or_else(cancelled)?.map_err(not_opened)?;
    let secrets = vec![session.secret().to_owned(), opened_with];
    let session = Arc::new(session);
    let filled = match &attempt.workspace {
        None => None,
        Some(Workspace { trees, keep: _ }) => {
            let (session, trees, folder) = (Arc::clone(&session), trees.clone(), folders.workspace.clone());
            let filling = async move { workspace::fill(&session, &trees, &folder).await };
            Some(events.until(&runtime, filling).ok_or_else(cancelled)??)
        }
    };
    let lifetime = Duration::from_secs(attempt.timeout_seconds);
    let mut offer = egress::offer(&runtime, &session, &folders.egress, lifetime).map_err(|error| failed(&error))?;
    if let Some(Filled { folder, known: _ }) = &filled {
        offer.env.push(("COUNTERSIGN_WORKSPACE", folder.display().to_string()));
    }
    let keep = attempt.workspace.as_ref().is_some_and(|workspace| workspace.keep);
    Ok(Some(Prepared { runtime, session, offer, secrets, workspace: filled, keep }))
}

fn cancelled() -> Failed {
    (Status::Cancelled, "told to end before the skill was started".to_owned())
}

fn not_opened(why: NotOpened) -> Failed {
    match why {
        // The broker is the sandbox's third layer.
        NotOpened::Unreachable(why) => (Status::SandboxIncomplete, format!("{why}; the skill was not started")),
        NotOpened::Refused(why) => (Status::BrokerRefused, format!("{why}; the skill was not started")),
    }
}

impl Prepared {
    pub fn workspace(&self) -> Option<&Path> {
        self.workspace.as_ref().map(|filled| filled.folder.as_path())
    }

    /// Keeps the files of a skill that succeeded, where it may write any; the digest of their tree.
    pub fn keep(self, events: &ProcessEvents) -> Result<Option<String>, Failed> {
        let Prepared { runtime, session, workspace, keep, offer: _, secrets: _ } = self;
        let Some(filled) = workspace.filter(|_| keep) else { return Ok(None) };
        let handle = runtime.handle().clone();
        let keeping = runtime.spawn_blocking(move || workspace::keep(&session, filled, &handle));
        let kept = events.until(&runtime, keeping);
        // Not waited for where it was given up.
        runtime.shutdown_background();
        match kept {
            None => Err((Status::Cancelled, "told to end before the workspace was kept".to_owned())),
            Some(Err(error)) => Err((Status::Failed, format!("the workspace could not be kept: {error}"))),
            Some(Ok(result)) => result.map(Some),
        }
    }
}
