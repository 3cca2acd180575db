//! After the skill: what it left is looked over as something that an attacker made, and kept.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use hyper::Method;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use tokio::runtime::Handle;

use super::tree::{Entry, Tree, digest};
use super::{ALL_BYTES, FILE_BYTES, FILES, Filled};
use crate::contract::Status;
use crate::egress::{Connection, Session};

/// Folders within folders; with them all, those that are empty.
const DEPTH: usize = 32;
const FOLDERS: usize = 1000;

type Refusal = (Status, String);

/// The digest of the tree that the broker now has. Runs where it may block.
pub fn keep(session: &Session, filled: Filled, runtime: &Handle) -> Result<String, Refusal> {
    let Filled { folder, known } = filled;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(&folder, flags, Mode::empty())
        .map_err(|errno| (Status::Failed, format!("the workspace: {}: {errno}", folder.display())))?;
    let mut keeper = Keeper {
        uploads: Uploads { session, runtime, connection: session.connection(), known },
        tree: Tree::default(),
        bytes: 0,
        folders: 0,
    };
    keeper.folder(root, "", 0)?;
    let Keeper { mut uploads, tree, bytes: _, folders: _ } = keeper;
    let canonical = tree.canonical().map_err(|error| (Status::Failed, format!("the workspace: {error}")))?;
    let name = digest(&canonical);
    uploads.put("trees", canonical)?;
    Ok(name)
}

struct Keeper<'a> {
    uploads: Uploads<'a>,
    tree: Tree,
    bytes: u64,
    folders: usize,
}

impl Keeper<'_> {
    /// Every step is from an open folder to a name in it, so that nothing swapped meanwhile leads elsewhere.
    fn folder(&mut self, folder: OwnedFd, path: &str, depth: usize) -> Result<(), Refusal> {
        self.folders += 1;
        if depth > DEPTH {
            return Err(invalid(path, &format!("is more than {DEPTH} folders deep")));
        }
        if self.folders > FOLDERS {
            return Err(too_large(format!("more than {FOLDERS} folders")));
        }
        let unreadable = |errno: Errno| invalid(path, &format!("cannot be read: {errno}"));
        let mut folder = Dir::from_fd(folder).map_err(unreadable)?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let shown = join(path, &String::from_utf8_lossy(name));
            let name = std::str::from_utf8(name).map_err(|_| invalid(&shown, "has a name that is not UTF-8"))?;
            names.push(name.to_owned());
            if names.len() > FILES + FOLDERS {
                return Err(too_large(format!("more than {FILES} files")));
            }
        }
        for name in names {
            self.entry(&folder, &name, &join(path, &name), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &Dir, name: &str, path: &str, depth: usize) -> Result<(), Refusal> {
        let unreadable = |errno: Errno| invalid(path, &format!("cannot be read: {errno}"));
        // Looked at before it is opened, as opening some kinds does something.
        let seen = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(unreadable)?;
        plain(&seen, path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(folder, name, flags, Mode::empty()).map_err(unreadable)?;
        let found = fstat(opened.as_fd()).map_err(unreadable)?;
        match plain(&found, path)? {
            Kind::Folder => self.folder(opened, path, depth + 1),
            Kind::File => self.file(File::from(opened), path),
        }
    }

    fn file(&mut self, file: File, path: &str) -> Result<(), Refusal> {
        if self.tree.files.len() >= FILES {
            return Err(too_large(format!("more than {FILES} files")));
        }
        let mut content = Vec::new();
        file.take(FILE_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(|error| invalid(path, &format!("cannot be read: {error}")))?;
        let bytes = content.len() as u64;
        self.bytes += bytes;
        if bytes > FILE_BYTES {
            return Err(too_large(format!("{path:?} with more than {FILE_BYTES} bytes")));
        }
        if self.bytes > ALL_BYTES {
            return Err(too_large(format!("more than {ALL_BYTES} bytes in all")));
        }
        let digest = digest(&content);
        if self.uploads.known.insert(digest.clone()) {
            self.uploads.put("blobs", content)?;
        }
        self.tree.files.insert(path.to_owned(), Entry { bytes, digest });
        Ok(())
    }
}

enum Kind {
    Folder,
    File,
}

fn plain(found: &FileStat, path: &str) -> Result<Kind, Refusal> {
    let refused = |what: &str| Err(invalid(path, &format!("is {what}; a workspace holds plain files and folders")));
    match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Ok(Kind::Folder),
        SFlag::S_IFREG if found.st_nlink > 1 => refused("a hard link"),
        SFlag::S_IFREG => Ok(Kind::File),
        SFlag::S_IFLNK => refused("a symbolic link"),
        SFlag::S_IFSOCK => refused("a socket"),
        SFlag::S_IFIFO => refused("a pipe"),
        _ => refused("a device"),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn invalid(path: &str, why: &str) -> Refusal {
    (Status::OutputInvalid, format!("the workspace: {path:?} {why}"))
}

fn too_large(what: String) -> Refusal {
    (Status::OutputTooLarge, format!("the workspace holds {what}"))
}

struct Uploads<'a> {
    session: &'a Session,
    runtime: &'a Handle,
    connection: Connection,
    /// The digests of what the broker has.
    known: BTreeSet<String>,
}

impl Uploads<'_> {
    fn put(&mut self, kind: &str, content: Vec<u8>) -> Result<(), Refusal> {
        let path = format!("/v1/{kind}");
        let call = self.session.call(&mut self.connection, (Method::PUT, &path), Bytes::from(content), 0);
        let answer = self.runtime.block_on(call);
        answer.map(drop).map_err(|why| (Status::Failed, format!("the workspace could not be kept: {why}")))
    }
}
