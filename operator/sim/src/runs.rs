//! Which requests ran, as PostgreSQL keeps it for every object that a place has had.

use std::collections::BTreeMap;

use countersign_core::mark::Mark;
use countersign_core::observed::TaskView;
use countersign_core::record::{Change, Finished};
use countersign_core::run::{PriorRun, Run, RunKey};

/// The table of runs: a request that goes on, or is used up, is there once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    /// By the uid of the Task that it ran as.
    rows: BTreeMap<String, Row>,
}

#[derive(Clone, Debug)]
struct Row {
    key: RunKey,
    /// How it ended, and whether that uses the request up.
    end: Option<(Finished, bool)>,
}

/// Another run of the same request is there.
#[derive(Debug)]
pub(crate) struct Conflict;

impl Runs {
    /// As the shell asks for it: the run whose mark the Task carries, or else the one that there is of its request.
    pub fn earlier(&self, place: &str, task: &TaskView) -> Option<PriorRun> {
        match task.mark.as_deref().map(str::parse::<Mark>) {
            None => self.taken(&RunKey::of(place, task)),
            Some(Ok(mark)) => self.run(&mark.task_uid),
            Some(Err(_)) => None,
        }
    }

    /// The run of the Task of that uid.
    pub fn run(&self, uid: &str) -> Option<PriorRun> {
        let Row { key, end } = self.rows.get(uid)?;
        let finished = end.as_ref().map(|(finished, _)| finished.clone());
        Some(PriorRun { uid: uid.to_owned(), key: key.clone(), finished })
    }

    fn taken(&self, key: &RunKey) -> Option<PriorRun> {
        let takes = |row: &Row| row.key == *key && row.end.as_ref().is_none_or(|(_, ran)| *ran);
        let (uid, _) = self.rows.iter().find(|(_, row)| takes(row))?;
        self.run(uid)
    }

    /// With what this transaction says of the run of the Task of that uid. Where it must not be `once`, a second run of
    /// a request is let by.
    pub fn after(&self, uid: &str, changes: &[Change], once: bool) -> Result<Runs, Conflict> {
        let mut runs = self.clone();
        for change in changes {
            match change {
                Change::Adopt { uid, run: Some(Run::Own(key)), .. } => {
                    if once && runs.taken(key).is_some() {
                        return Err(Conflict);
                    }
                    runs.rows.insert(uid.clone(), Row { key: key.clone(), end: None });
                }
                Change::FinishTask { finished, ran } => {
                    if let Some(row) = runs.rows.get_mut(uid).filter(|row| row.end.is_none()) {
                        row.end = Some((finished.clone(), *ran));
                    }
                }
                _ => {}
            }
        }
        Ok(runs)
    }
}
