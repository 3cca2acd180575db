//! Objects in files, as kubectl takes them: YAML or JSON, several documents or a List.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use countersign_core::escape::printable;
use serde_json::Value;

use crate::output::note;

/// The one Task of a file; `-` is standard input.
pub fn task(path: &Path) -> anyhow::Result<Value> {
    let name = path.display();
    let (mut tasks, others): (Vec<Value>, Vec<Value>) =
        read(path)?.into_iter().partition(|object| kind(object) == "Task");
    for other in &others {
        let name = other.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        note(&format!("note: {} {} is not installed by this; what is installed counts", kind(other), printable(name)));
    }
    match (tasks.pop(), tasks.len()) {
        (Some(task), 0) => Ok(task),
        (Some(_), others) => bail!("{name}: holds {} Tasks; give one", others + 1),
        (None, _) => bail!("{name}: holds no Task"),
    }
}

/// The Policies of these files.
pub fn policies(paths: &[PathBuf]) -> anyhow::Result<Vec<Value>> {
    let mut policies = Vec::new();
    for path in paths {
        let found = read(path)?;
        if found.is_empty() {
            bail!("{}: holds no Policy", path.display());
        }
        if let Some(other) = found.iter().find(|object| kind(object) != "Policy") {
            bail!("{}: holds a {}; give Policies only", path.display(), printable(kind(other)));
        }
        policies.extend(found);
    }
    Ok(policies)
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or("document without a kind")
}

fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let name = || path.display().to_string();
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    parse(&text.with_context(name)?).with_context(name)
}

fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    objects.extend(items);
                }
            }
            other => objects.push(other),
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn files_are_read_as_kubectl_reads_them() {
        for text in [
            "kind: Task\nspec: {type: a}\n",
            "# first\n---\n---\nkind: Agent\nmetadata: {name: b}\n---\nkind: Task\nspec: {type: a}\n",
            r#"{"kind": "Task", "spec": {"type": "a"}}"#,
            "kind: List\nitems:\n- kind: Task\n  spec: {type: a}\n",
        ] {
            assert_eq!(task(file(text).path()).unwrap(), json!({"kind": "Task", "spec": {"type": "a"}}), "{text}");
        }
        for (text, words) in [
            ("kind: Policy", "holds no Task"),
            ("", "holds no Task"),
            ("kind: Task\n---\nkind: Task", "holds 2 Tasks; give one"),
            ("kind: [", "tmp"),
        ] {
            let error = format!("{:#}", task(file(text).path()).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
        let two = file("kind: Policy\nmetadata: {name: a}\n---\nkind: Policy\nmetadata: {name: b}");
        let one = file("kind: Policy\nmetadata: {name: c}");
        let paths = [two.path().to_owned(), one.path().to_owned()];
        assert_eq!(policies(&paths).unwrap().len(), 3);
        let other = file("kind: Task");
        let error = policies(&[other.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("holds a Task; give Policies only"), "{error}");
        assert!(policies(&["/nowhere".into()]).is_err());
    }
}
