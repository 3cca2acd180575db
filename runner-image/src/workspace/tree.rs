//! A tree: which files there are, by their digests. Its canonical JSON is what its own digest is over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ALL_BYTES, FILE_BYTES, FILES};
use crate::output::sha256;

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// By path, sorted.
    pub files: BTreeMap<String, Entry>,
}

/// The fields in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub bytes: u64,
    pub digest: String,
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

impl Tree {
    /// Sorted keys, no spaces. Paths are strings, which JSON writes in one way only that RFC 8785 knows.
    pub fn canonical(&self) -> serde_json::Result<Vec<u8>> {
        serde_json_canonicalizer::to_vec(self)
    }
}

/// Several trees in one folder.
#[derive(Default)]
pub struct Merged {
    /// Each file, and the first tree that it is in.
    files: BTreeMap<String, (Entry, String)>,
}

impl Merged {
    /// Takes a tree in. An error says which path cannot be, and why.
    pub fn add(&mut self, name: &str, tree: Tree) -> Result<(), String> {
        for (path, entry) in tree.files {
            checked(&path).map_err(|why| format!("tree {name}: {path:?} {why}"))?;
            if let Some((there, other)) = self.files.get(&path) {
                if *there != entry {
                    return Err(format!("{path:?} differs between the trees {other} and {name}"));
                }
                continue;
            }
            if let Some(other) = self.in_the_way(&path) {
                return Err(format!(
                    "{path:?} is a file in one and a folder in the other of the trees {other} and {name}"
                ));
            }
            self.files.insert(path, (entry, name.to_owned()));
        }
        self.bounded()
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.files.iter().map(|(path, (entry, _))| (path.as_str(), entry))
    }

    /// The tree of a file that is above or below the path.
    fn in_the_way(&self, path: &str) -> Option<&str> {
        let above = path.match_indices('/').filter_map(|(end, _)| self.files.get(&path[..end]));
        let within = format!("{path}/");
        let below = self.files.range(within.clone()..).take_while(|(other, _)| other.starts_with(&within));
        above.chain(below.map(|(_, file)| file)).map(|(_, tree)| tree.as_str()).next()
    }

    fn bounded(&self) -> Result<(), String> {
        if self.files.len() > FILES {
            return Err(format!("the trees hold more than {FILES} files"));
        }
        if let Some((path, _)) = self.files().find(|(_, entry)| entry.bytes > FILE_BYTES) {
            return Err(format!("{path:?} has more than {FILE_BYTES} bytes"));
        }
        let all = self.files().fold(0_u64, |all, (_, entry)| all.saturating_add(entry.bytes));
        if all > ALL_BYTES { Err(format!("the trees hold more than {ALL_BYTES} bytes")) } else { Ok(()) }
    }
}

/// A path that stays in the folder that it is in.
fn checked(path: &str) -> Result<(), &'static str> {
    if path.contains('\0') {
        return Err("holds a NUL");
    }
    match path.split('/').find(|name| name.is_empty() || *name == "." || *name == "..") {
        Some(_) => Err("is not a plain relative path"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let entry = |content: &str| Entry { bytes: content.len() as u64, digest: digest(content.as_bytes()) };
        Tree { files: files.iter().map(|(path, content)| ((*path).to_owned(), entry(content))).collect() }
    }

    #[test]
    fn a_tree_has_one_spelling() {
        let tree = tree(&[("b/ü \"x\".txt", ""), ("a", "1")]);
        let text = String::from_utf8(tree.canonical().unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"files\":{\"a\":{\"bytes\":1,\"digest\":\"sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b\"},\
             \"b/ü \\\"x\\\".txt\":{\"bytes\":0,\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}}}"
        );
        assert_eq!(serde_json::from_str::<Tree>(&text).unwrap(), tree);
    }

    #[test]
    fn trees_are_merged_where_they_agree() {
        let mut merged = Merged::default();
        merged.add("one", tree(&[("a/b", "1"), ("c", "2")])).unwrap();
        merged.add("two", tree(&[("a/b", "1"), ("a/d", "3")])).unwrap();
        assert_eq!(merged.files().map(|(path, _)| path).collect::<Vec<_>>(), ["a/b", "a/d", "c"]);
        for (path, says) in
            [("a/b", "differs between"), ("a", "a folder in the other"), ("c/x/y", "a folder in the other")]
        {
            let said = merged.add("three", tree(&[(path, "other")])).unwrap_err();
            assert!(said.contains(says) && said.contains("one and three"), "{said}");
        }
    }

    #[test]
    fn a_path_that_leaves_is_refused() {
        for path in ["../x", "a/../../x", "/etc/x", "a//b", "", "a/.", "a\0b"] {
            assert!(Merged::default().add("one", tree(&[(path, "")])).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_bounds_hold_before_anything_is_fetched() {
        let of = |count: usize, bytes| {
            let entry = Entry { bytes, digest: digest(b"") };
            Tree { files: (0..count).map(|at| (at.to_string(), entry.clone())).collect() }
        };
        let said = |count, bytes| Merged::default().add("one", of(count, bytes)).err().unwrap_or_default();
        assert_eq!((said(1000, 1), said(4, FILE_BYTES)), (String::new(), String::new()));
        assert!(said(1001, 1).contains("more than 1000 files"));
        assert!(said(1, FILE_BYTES + 1).contains("\"0\" has more than 8388608 bytes"));
        assert!(said(5, FILE_BYTES).contains("more than 33554432 bytes"));
        assert!(said(2, u64::MAX).contains("bytes"));
    }
}
