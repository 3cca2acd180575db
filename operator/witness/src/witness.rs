//! The witness itself: judges a checkpoint, keeps it, and only then signs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_core::tlog::witness::{Refusal, Request, RequestError, judge};
use countersign_core::tlog::{Checkpoint, CosigningKey, VerifyingKey};
use thiserror::Error;

use crate::folder::{Folder, FolderError};
use crate::metrics::{Metrics, Outcome};

pub struct Witness {
    key: CosigningKey,
    folder: Folder,
    /// By origin.
    logs: BTreeMap<String, Log>,
    metrics: Metrics,
    at: Box<dyn Fn(Step) + Send + Sync>,
}

struct Log {
    /// Any of them may have signed: when a log changes its key, it has two for a while.
    keys: Vec<VerifyingKey>,
    /// What was cosigned last. Held from the judgement until it is kept, so one checkpoint at a time is added.
    last: Mutex<Option<Checkpoint>>,
}

/// How far a checkpoint has come; whoever tests what a crash there does is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Judged,
    Written,
    Synced,
    Renamed,
    Kept,
    Signed,
}

impl Step {
    pub const ALL: [Step; 6] = [Step::Judged, Step::Written, Step::Synced, Step::Renamed, Step::Kept, Step::Signed];
}

/// Why there is no cosignature.
#[derive(Debug, Error)]
pub enum Refused {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the log {0:?} is not known here")]
    Unknown(String),
    #[error(transparent)]
    Judged(#[from] Refusal),
    /// It says no more to whoever asked.
    #[error("the checkpoint could not be kept")]
    Disk(#[from] FolderError),
    #[error("the clock stands before 1970")]
    Clock,
}

impl Witness {
    /// Takes the folder and reads what was cosigned of each log, known by the names of its keys.
    pub fn open(
        key: CosigningKey,
        folder: &Path,
        keys: Vec<VerifyingKey>,
        metrics: Metrics,
    ) -> Result<Witness, FolderError> {
        let folder = Folder::open(folder)?;
        let mut by_origin: BTreeMap<String, Vec<VerifyingKey>> = BTreeMap::new();
        for key in keys {
            by_origin.entry(key.name().to_owned()).or_default().push(key);
        }
        let mut logs = BTreeMap::new();
        for (place, (origin, keys)) in by_origin.into_iter().enumerate() {
            let last = folder.read(&origin)?;
            let size = last.as_ref().map_or(0, |last| last.size);
            metrics.size(place, size);
            tracing::info!(log = origin, keys = keys.len(), size, "is witnessed");
            logs.insert(origin, Log { keys, last: Mutex::new(last) });
        }
        Ok(Witness { key, folder, logs, metrics, at: Box::new(|_| ()) })
    }

    /// Calls this at each step.
    pub fn at_each_step(mut self, at: impl Fn(Step) + Send + Sync + 'static) -> Witness {
        self.at = Box::new(at);
        self
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Adds a checkpoint: the cosignature's line. Blocks for as long as the disk takes; whoever waits for the answer may
    /// go, and what was begun is ended nevertheless.
    pub fn add(&self, body: &str) -> Result<String, Refused> {
        let added = self.judge_and_keep(body);
        self.metrics.count(match &added {
            Ok(_) => Outcome::Cosigned,
            Err(refused) => Outcome::of(refused),
        });
        if let Err(Refused::Disk(error)) = &added {
            tracing::error!(%error, "a checkpoint could not be kept, so it was not cosigned");
        }
        added
    }

    fn judge_and_keep(&self, body: &str) -> Result<String, Refused> {
        let (request, claimed) = Request::parse(body)?;
        let log = self.logs.get(&claimed.origin).ok_or_else(|| Refused::Unknown(claimed.origin.clone()))?;
        // Whoever panicked while holding it has changed nothing.
        let mut last = log.last.lock().unwrap_or_else(PoisonError::into_inner);
        let new = judge(&request, &log.keys, last.as_ref()).inspect_err(|refusal| {
            tell(refusal, &request, last.as_ref());
        })?;
        (self.at)(Step::Judged);
        // What is there already, word for word, need not be written again.
        if last.as_ref() != Some(&new) {
            self.folder.keep(&new.origin, &request.checkpoint, &self.at)?;
        }
        (self.at)(Step::Kept);
        self.metrics.size(self.logs.keys().take_while(|origin| **origin != new.origin).count(), new.size);
        *last = Some(new);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Refused::Clock)?;
        let line = self.key.cosign(&request.checkpoint, now.as_secs());
        let line = line.map_err(|error| RequestError::Checkpoint(error.into()))?;
        (self.at)(Step::Signed);
        Ok(line)
    }
}

/// A log that signed two histories is told of with its own signature.
fn tell(refusal: &Refusal, request: &Request, last: Option<&Checkpoint>) {
    let checkpoint = request.checkpoint.as_str();
    match refusal {
        Refusal::SplitView { size } => {
            let root = last.map(|last| last.root.to_string());
            tracing::error!(size, cosigned = root, checkpoint, "split view: the log signed two histories");
        }
        Refusal::Proof(error) => {
            let size = last.map_or(0, |last| last.size);
            tracing::warn!(%error, size, checkpoint, "a checkpoint does not follow from what was cosigned");
        }
        Refusal::Stale { .. } | Refusal::Beyond { .. } | Refusal::Unsigned(_) => {
            tracing::debug!(%refusal, "a checkpoint was not cosigned");
        }
    }
}
