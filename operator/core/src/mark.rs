//! The mark of a run: which run an object is. The operator writes it at its first reconciliation, so a backup and a
//! copy have it.

use std::fmt;
use std::str::FromStr;

use countersign_crds::ANNOTATION_RUN;
use thiserror::Error;

use crate::run::PriorRun;

/// A run, by the place that it ran in and the Task that it ran as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The uid of the namespace that it ran in.
    pub namespace_uid: String,
    /// The uid of the Task that it ran as.
    pub task_uid: String,
}

/// Why an object may not carry its mark.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MarkError {
    /// It is of another form; the mark, cut.
    #[error(
        "metadata.annotations[{ANNOTATION_RUN}]: {0:?} is not NAMESPACE_UID/TASK_UID; remove metadata.annotations[{ANNOTATION_RUN}] to ask for a run of your own"
    )]
    Unreadable(String),
    #[error(
        "metadata.annotations[{ANNOTATION_RUN}]: it is the mark of a run in another namespace, or in one of this name that is gone; remove metadata.annotations[{ANNOTATION_RUN}] to ask for a run of your own"
    )]
    /// Its namespace is not the one that the object is in.
    Elsewhere,
    #[error(
        "metadata.annotations[{ANNOTATION_RUN}]: the record knows no run of the Task with uid {0} here; remove metadata.annotations[{ANNOTATION_RUN}] to ask for a run of your own"
    )]
    /// The record knows no such run; the Task's uid, cut.
    Unknown(String),
}

/// Characters of a uid, and of a mark that is refused.
const SHOWN: usize = 128;

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Mark, MarkError> {
        let unreadable = || MarkError::Unreadable(text.chars().take(SHOWN).collect());
        let (namespace_uid, task_uid) = text.split_once('/').ok_or_else(unreadable)?;
        if !is_uid(namespace_uid) || !is_uid(task_uid) {
            return Err(unreadable());
        }
        Ok(Mark { namespace_uid: namespace_uid.to_owned(), task_uid: task_uid.to_owned() })
    }
}

/// As Kubernetes makes them, and as far as it matters here.
fn is_uid(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !text.is_empty() && text.len() <= SHOWN && text.chars().all(fits)
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mark { namespace_uid, task_uid } = self;
        write!(out, "{namespace_uid}/{task_uid}")
    }
}

impl Mark {
    /// The run that it is of, for an object in the namespace of that uid. `run` is what the record says of its Task's
    /// uid.
    ///
    /// # Errors
    /// It is of another namespace, or the record knows no such run.
    pub fn run<'a>(&self, namespace_uid: &str, run: Option<&'a PriorRun>) -> Result<&'a PriorRun, MarkError> {
        if self.namespace_uid != namespace_uid {
            return Err(MarkError::Elsewhere);
        }
        let its = |run: &&PriorRun| run.uid == self.task_uid && run.key.namespace_uid == self.namespace_uid;
        run.filter(its).ok_or_else(|| MarkError::Unknown(self.task_uid.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::run::RunKey;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mark = Mark { namespace_uid: "a-1".into(), task_uid: "b-2".into() };
        assert_eq!(mark.to_string().parse(), Ok(mark));
        let long = "x".repeat(1000);
        for text in ["", "a", "/", "a/", "/b", "a/b/c", "a b/c", "a/b\n", "a/\u{202e}", &format!("{long}/b")] {
            let refused = text.parse::<Mark>().unwrap_err().to_string();
            assert!(refused.contains("remove metadata.annotations[countersign.dev/run]"), "{refused}");
            assert!(refused.len() < 512, "{refused}");
        }
    }

    #[test]
    fn a_mark_is_of_a_run_that_the_record_knows_in_this_place() {
        let run = |uid: &str, place: &str| PriorRun {
            uid: uid.into(),
            key: RunKey {
                namespace_uid: place.into(),
                name: "pay".into(),
                requester: "dave".into(),
                content: Digest::of_bytes("{}"),
            },
            finished: None,
        };
        let mark: Mark = "here/one".parse().unwrap();
        let known = run("one", "here");
        assert_eq!(mark.run("here", Some(&known)), Ok(&known));
        assert_eq!(mark.run("there", Some(&known)), Err(MarkError::Elsewhere));
        for other in [None, Some(&run("two", "here")), Some(&run("one", "there"))] {
            assert_eq!(mark.run("here", other), Err(MarkError::Unknown("one".into())));
        }
    }
}
