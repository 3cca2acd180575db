//! What was cosigned last of each log: a file a log, replaced as a whole, and kept before anybody is answered.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use countersign_core::digest::hex;
use countersign_core::tlog::{Checkpoint, CheckpointError};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::witness::Step;

const LOCK: &str = "lock";

/// A folder that no other process uses.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held for as long as this lives.
    _lock: File,
}

#[derive(Debug, Error)]
pub enum FolderError {
    #[error(
        "{0} does not exist; make it once, on a disk that stays: a witness that forgets what it cosigned can be made to cosign a fork"
    )]
    Missing(PathBuf),
    #[error("{0} is in use by another witness; two of one folder would cosign past each other")]
    InUse(PathBuf),
    #[error("{path}: {error}")]
    Disk { path: PathBuf, error: std::io::Error },
    #[error("{path} is not the checkpoint that was kept in it: {error}; put it back from a backup that is not older")]
    Damaged { path: PathBuf, error: CheckpointError },
    #[error("{path} holds a checkpoint of {found:?}, and not of {expected:?}")]
    Misplaced { path: PathBuf, found: String, expected: String },
}

impl Folder {
    /// Takes the folder, which must be there.
    pub fn open(path: &Path) -> Result<Folder, FolderError> {
        if !path.is_dir() {
            return Err(FolderError::Missing(path.to_owned()));
        }
        let file = path.join(LOCK);
        let disk = |error| FolderError::Disk { path: file.clone(), error };
        let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(disk)?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(disk(error)),
        }
    }

    /// What was cosigned last of a log; `None` where nothing ever was.
    pub fn read(&self, origin: &str) -> Result<Option<Checkpoint>, FolderError> {
        let path = self.file(origin);
        let note = match fs::read_to_string(&path) {
            Ok(note) => note,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FolderError::Disk { path, error }),
        };
        match Checkpoint::claimed(&note) {
            Ok(checkpoint) if checkpoint.origin == origin => Ok(Some(checkpoint)),
            Ok(checkpoint) => {
                Err(FolderError::Misplaced { path, found: checkpoint.origin, expected: origin.to_owned() })
            }
            Err(error) => Err(FolderError::Damaged { path, error }),
        }
    }

    /// Keeps a checkpoint of a log, in place of the last. When this returns, it outlasts a loss of power.
    pub fn keep(&self, origin: &str, note: &str, at: &dyn Fn(Step)) -> Result<(), FolderError> {
        let path = self.file(origin);
        let new = path.with_extension("new");
        let kept = || {
            let mut file = File::create(&new)?;
            file.write_all(note.as_bytes())?;
            at(Step::Written);
            file.sync_all()?;
            at(Step::Synced);
            fs::rename(&new, &path)?;
            at(Step::Renamed);
            // The name as well.
            File::open(&self.path)?.sync_all()
        };
        kept().map_err(|error| FolderError::Disk { path: new.clone(), error })
    }

    /// An origin may hold what no file name can.
    fn file(&self, origin: &str) -> PathBuf {
        self.path.join(hex(&Sha256::digest(origin)))
    }
}
