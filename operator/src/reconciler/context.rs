//! What every reconciliation of a Task shares.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign_core::approval::Seal;
use countersign_core::blocked::Lasts;
use countersign_core::decide::Config;
use countersign_core::judge::PolicyJudge;
use countersign_core::record::TaskRecord;
use countersign_crds::TaskStatus;
use countersign_store::{LogKeys, Store};
use kube::Client;
use kube::runtime::events::Recorder;

use crate::broker::Broker;
use crate::keys::Shared;
use crate::metrics::Metrics;
use crate::reconciler::action::JobSettings;
use crate::reconciler::guard::Expected;
use crate::reconciler::networks::Networks;
use crate::watch::caches::{Caches, lock};

pub struct Context {
    /// Gives up where the API server is silent.
    pub client: Client,
    /// For watches, which are silent for as long as nothing happens.
    pub watching: Client,
    pub store: Store,
    pub caches: Arc<Caches>,
    pub config: Config,
    pub judge: PolicyJudge,
    pub jobs: JobSettings,
    pub operator_namespace: String,
    pub metrics: Metrics,
    pub seal: Shared<Seal>,
    pub log_keys: Shared<LogKeys>,
    pub broker: Shared<Broker>,
    pub networks: Networks,
    pub guard: Expected,
    pub recorder: Recorder,
    pub recent: Recent,
    pub remembered: Remembered,
    pub failures: Failures,
}

/// How many looks at a Task have failed in a row.
#[derive(Default)]
pub struct Failures {
    tasks: Mutex<HashMap<String, u32>>,
}

impl Failures {
    /// Counts one more, and returns how many there were before it.
    pub fn one_more(&self, task_uid: &str) -> u32 {
        let mut tasks = lock(&self.tasks);
        let failures = tasks.entry(task_uid.to_owned()).or_default();
        *failures = failures.saturating_add(1);
        *failures - 1
    }

    pub fn none(&self, task_uid: &str) {
        lock(&self.tasks).remove(task_uid);
    }

    /// Drops what is of Tasks that are gone.
    pub fn keep(&self, exists: impl Fn(&str) -> bool) {
        lock(&self.tasks).retain(|uid, _| exists(uid));
    }
}

/// What this process made a moment ago and a watch may not show yet.
#[derive(Default)]
pub struct Recent {
    made: Mutex<HashMap<String, HashMap<String, Instant>>>,
}

/// A watch that is further behind than this is broken, and making the thing again is harmless.
const RECENT: Duration = Duration::from_secs(30);

impl Recent {
    pub fn made(&self, task_uid: &str, name: &str) {
        let mut made = lock(&self.made);
        made.entry(task_uid.to_owned()).or_default().insert(name.to_owned(), Instant::now());
    }

    pub fn forget(&self, task_uid: &str, name: &str) {
        if let Some(names) = lock(&self.made).get_mut(task_uid) {
            names.remove(name);
        }
    }

    /// Drops what is of Tasks that are gone.
    pub fn keep(&self, exists: impl Fn(&str) -> bool) {
        lock(&self.made).retain(|uid, _| exists(uid));
    }

    pub fn of(&self, task_uid: &str) -> BTreeSet<String> {
        let mut made = lock(&self.made);
        let Some(names) = made.get_mut(task_uid) else { return BTreeSet::new() };
        names.retain(|_, at| at.elapsed() < RECENT);
        let names: BTreeSet<String> = names.keys().cloned().collect();
        if names.is_empty() {
            made.remove(task_uid);
        }
        names
    }
}

/// The records that this process wrote last, with the status it reported: saves reading them back.
/// A record is used only while PostgreSQL still has its version.
#[derive(Default)]
pub struct Remembered {
    tasks: Mutex<HashMap<String, Memory>>,
}

#[derive(Clone, Default)]
pub struct Memory {
    pub record: Option<TaskRecord>,
    pub status: Option<TaskStatus>,
    /// Since when what steps need has been missing, or an expression of theirs took too long.
    pub lasts: Lasts,
}

impl Remembered {
    pub fn get(&self, task_uid: &str) -> Memory {
        lock(&self.tasks).get(task_uid).cloned().unwrap_or_default()
    }

    pub fn record(&self, record: TaskRecord) {
        let mut tasks = lock(&self.tasks);
        let uid = record.uid.clone();
        tasks.entry(uid).or_default().record = Some(record);
    }

    pub fn status(&self, task_uid: &str, status: TaskStatus) {
        lock(&self.tasks).entry(task_uid.to_owned()).or_default().status = Some(status);
    }

    /// What lasts of a Task now; where nothing does and nothing did, nothing is kept.
    pub fn lasts(&self, task_uid: &str, lasts: Lasts) {
        let mut tasks = lock(&self.tasks);
        if !lasts.is_empty() {
            tasks.entry(task_uid.to_owned()).or_default().lasts = lasts;
        } else if let Some(memory) = tasks.get_mut(task_uid) {
            memory.lasts.clear();
        }
    }

    /// What is remembered of a Task's record may be wrong, or is needed no more.
    pub fn forget_record(&self, task_uid: &str) {
        if let Some(memory) = lock(&self.tasks).get_mut(task_uid) {
            memory.record = None;
        }
    }

    pub fn forget(&self, task_uid: &str) {
        lock(&self.tasks).remove(task_uid);
    }

    /// Drops what is of Tasks that are gone.
    pub fn keep(&self, exists: impl Fn(&str) -> bool) {
        lock(&self.tasks).retain(|uid, _| exists(uid));
    }
}
