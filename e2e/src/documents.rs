//! What the READMEs name is there: files, folders, and identifiers of the code, the charts and the manifests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::root;

/// The files that git knows or would take, from the repository's root.
fn files() -> Vec<PathBuf> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", crate::text(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names.split('\0').filter(|name| root().join(name).is_file()).map(PathBuf::from).collect()
}

/// The inline code of a document: what stands between backticks, outside of blocks.
fn code(document: &str) -> Vec<String> {
    let mut block = false;
    let mut found = Vec::new();
    for paragraph in document.split("\n\n") {
        let mut prose = String::new();
        for line in paragraph.lines() {
            if line.trim_start().starts_with("```") {
                block = !block;
            } else if !block {
                prose.push_str(line);
                prose.push(' ');
            }
        }
        found.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    found
}

/// A path of this repository: two names at least, of which the first is there beside the document or at the root.
fn path(code: &str, beside: &Path) -> Option<Vec<PathBuf>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let first = code.split('/').next()?;
    let bases = [beside.to_owned(), beside.join("src"), PathBuf::new()];
    let starts =
        !first.is_empty() && !first.starts_with('.') && bases.iter().any(|base| root().join(base).join(first).is_dir());
    (code.contains('/') && code.chars().all(plain) && starts).then(|| bases.map(|base| base.join(code)).to_vec())
}

/// A name that somebody gave: letters, digits and underscores, with an underscore or an inner capital.
fn identifier(code: &str) -> Option<&str> {
    let name = code.trim_end_matches("()").rsplit("::").next()?;
    let word = name.len() > 3 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let given = name.contains('_') || name.chars().skip(1).any(|c| c.is_ascii_uppercase());
    (word && given && name.chars().next()?.is_ascii_alphabetic()).then_some(name)
}

#[test]
fn what_a_readme_names_is_there() {
    let files = files();
    let is_document = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "md");
    let words: BTreeSet<String> = files
        .iter()
        .filter(|file| !is_document(file))
        .filter_map(|file| std::fs::read_to_string(root().join(file)).ok())
        .flat_map(|text| {
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            words.filter(|word| word.len() > 3).map(str::to_owned).collect::<BTreeSet<_>>()
        })
        .collect();
    let mut missing = Vec::new();
    let mut seen = 0;
    for document in files.iter().filter(is_document) {
        let beside = document.parent().unwrap();
        for code in code(&std::fs::read_to_string(root().join(document)).unwrap()) {
            if let Some(places) = path(&code, beside) {
                seen += 1;
                if !places.iter().any(|place| root().join(place).exists()) {
                    missing.push(format!("{}: there is no file {code}", document.display()));
                }
            } else if let Some(name) = identifier(&code) {
                seen += 1;
                // A metric's name begins with the product's, which the code says once.
                let metric = name.strip_prefix("countersign_").is_some_and(|name| words.contains(name));
                if !metric && !words.contains(name) {
                    missing.push(format!("{}: nothing is called {code}", document.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(seen > 150, "only {seen} names were found, so this looks in the wrong places");
}

#[test]
fn a_name_that_is_not_there_would_be_found() {
    let beside = Path::new("operator");
    let there = |code: &str| path(code, beside).map(|places| places.iter().any(|place| root().join(place).exists()));
    assert_eq!(there("core/src/decide/mod.rs"), Some(true));
    assert_eq!(there("core/src/judge.rs"), Some(false));
    assert_eq!(there("src/serve/api/"), Some(true));
    assert_eq!(there("charts/countersign"), Some(true));
    assert_eq!(there("text/plain"), None);
    assert_eq!(identifier("record::Change"), None);
    assert_eq!(identifier("TaskRecord"), Some("TaskRecord"));
    assert_eq!(identifier("ledger_differences"), Some("ledger_differences"));
    assert_eq!(identifier("kubectl"), None);
    assert_eq!(code("a `b` c\n\n```sh\n`no`\n```\n\n`d\ne`"), ["b", "d e"]);
}
