//! The Task's files, and paths that cannot leave them: every part of a path is opened below the folder before it (cap-std:
//! openat2 where the kernel has it), so a symbolic link out is refused too.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const PATH_BYTES: usize = 1024;
const NAME_BYTES: usize = 255;

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    #[default]
    Utf8,
    Base64,
}

/// A path from the workspace's root, in the one form that it has.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct RelativePath(String);

impl TryFrom<String> for RelativePath {
    type Error = String;

    fn try_from(text: String) -> Result<RelativePath, String> {
        let wrong = |why: &str| Err(format!("{text:?} {why}"));
        match text.as_str() {
            "" => return wrong("is empty; name a file of the workspace"),
            _ if text.len() > PATH_BYTES => return Err(format!("it has more than {PATH_BYTES} bytes; shorten it")),
            _ if text.starts_with('/') => return wrong("is absolute; write it from the workspace's root, as a/b.txt"),
            _ if text.chars().any(char::is_control) => return wrong("has a control character; leave it out"),
            _ => {}
        }
        for name in text.split('/') {
            match name {
                "" | "." => return wrong("has a part that names nothing; write it as a/b.txt"),
                ".." => return wrong("has a part `..`, which could lead out of the workspace; write it without"),
                _ if name.len() > NAME_BYTES => {
                    return Err(format!("a name has more than {NAME_BYTES} bytes; shorten it"));
                }
                _ => {}
            }
        }
        Ok(RelativePath(text))
    }
}

impl RelativePath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn folder(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(folder, _)| folder)
    }
}

pub struct Workspace(Dir);

impl Workspace {
    pub fn open() -> anyhow::Result<Workspace> {
        let root = std::env::var_os("COUNTERSIGN_WORKSPACE").map_or_else(|| "/workspace".into(), PathBuf::from);
        let folder = Dir::open_ambient_dir(&root, ambient_authority());
        let folder = folder
            .with_context(|| format!("{}: there is no workspace; set spec.workspace in the Skill", root.display()))?;
        Ok(Workspace(folder))
    }

    /// A regular file, and nothing that could block or do something when it is opened.
    pub fn file(&self, path: &RelativePath, options: &mut OpenOptions) -> anyhow::Result<File> {
        let named = || format!("input.path: {:?}", path.as_str());
        if let Ok(found) = self.0.metadata(path.as_str())
            && !found.is_file()
        {
            bail!("{} is not a file; name one", named());
        }
        let file = self.0.open_with(path.as_str(), options.custom_flags(libc::O_NONBLOCK)).with_context(named)?;
        if !file.metadata().with_context(named)?.is_file() {
            bail!("{} is not a file; name one", named());
        }
        Ok(file)
    }

    pub fn make_folder_of(&self, path: &RelativePath) -> anyhow::Result<()> {
        let Some(folder) = path.folder() else { return Ok(()) };
        self.0.create_dir_all(folder).with_context(|| format!("input.path: {:?}: the folder {folder:?}", path.as_str()))
    }

    /// What is in the file now: its length and its SHA-256.
    pub fn measure(&self, path: &RelativePath) -> anyhow::Result<(u64, String)> {
        let mut file = self.file(path, OpenOptions::new().read(true))?;
        let (mut bytes, mut hash, mut buffer) = (0, Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer).with_context(|| format!("input.path: {:?}", path.as_str()))? {
                0 => break,
                read => {
                    bytes += read as u64;
                    hash.update(&buffer[..read]);
                }
            }
        }
        Ok((bytes, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}
