//! The Secrets that the broker was given, each a folder with a file for each key. They are read for each call, so that a
//! rotated one counts at once.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use countersign_core::fingerprint::FingerprintKey;
use countersign_crds::Credential;

use crate::judge::credential::SecretValue;
use crate::refusal::{Reason, Refusal};

#[derive(Clone, Debug)]
pub struct Secrets {
    folder: PathBuf,
    /// The value of the chart that names them.
    named: &'static str,
}

impl Secrets {
    /// Those that Skills may show.
    pub fn new(folder: PathBuf) -> Secrets {
        Secrets { folder, named: "broker.secrets" }
    }

    /// The one that signs alerts, which no Skill can show.
    pub fn of_alerts(folder: PathBuf) -> Secrets {
        Secrets { folder, named: "alerts.webhook.secret" }
    }

    /// The value of a credential, whatever else its Secret holds.
    pub async fn read(&self, credential: &Credential) -> Result<SecretValue, Refusal> {
        let content = self.content(credential).await?;
        self.value(credential, content)
    }

    /// The same, where the Secret is still what was signed for.
    pub async fn read_signed(
        &self,
        credential: &Credential,
        fingerprints: &FingerprintKey,
        signed: Option<&String>,
    ) -> Result<SecretValue, Refusal> {
        let content = self.content(credential).await?;
        let Credential { secret, key: _, header: _, username: _, scheme: _ } = credential;
        if Some(&fingerprints.of(secret, &content)) != signed {
            let detail = format!(
                "Secret {secret} is not what it was when the attempt was decided; let the step run again, and be signed for"
            );
            return Err(Refusal::new(Reason::CredentialChanged, detail));
        }
        self.value(credential, content)
    }

    /// The fingerprint of each Secret that is there.
    pub async fn fingerprints(&self, key: FingerprintKey) -> BTreeMap<String, String> {
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || {
            let names = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let names = names.filter_map(|entry| entry.file_name().into_string().ok());
            // One that is being replaced is told with the next round.
            let content = |name: &String| read_all(&folder.join(name)).ok().filter(|content| !content.is_empty());
            names.filter_map(|name| Some((name.clone(), key.of(&name, &content(&name)?)))).collect()
        });
        read.await.unwrap_or_default()
    }

    async fn content(&self, credential: &Credential) -> Result<BTreeMap<String, Vec<u8>>, Refusal> {
        let Credential { secret, key, header: _, username: _, scheme: _ } = credential;
        if !is_name(secret) || !is_name(key) {
            return Err(self.missing(credential, "it is not a name"));
        }
        let path = self.folder.join(secret);
        let read = tokio::task::spawn_blocking(move || read_all(&path)).await;
        let content = read.map_err(|error| self.missing(credential, &error.to_string()))?;
        content.map_err(|error| self.missing(credential, &error.kind().to_string()))
    }

    fn value(&self, credential: &Credential, mut content: BTreeMap<String, Vec<u8>>) -> Result<SecretValue, Refusal> {
        let value = content.remove(&credential.key);
        value.map(SecretValue::new).ok_or_else(|| self.missing(credential, "it has no such key"))
    }

    fn missing(&self, credential: &Credential, why: &str) -> Refusal {
        let Credential { secret, key, header: _, username: _, scheme: _ } = credential;
        let detail = format!(
            "key {key} of Secret {secret} cannot be read: {why}; the Secret must be there, and under {} of the chart",
            self.named
        );
        Refusal::new(Reason::CredentialMissing, detail)
    }
}

/// Every key of a Secret with its value, as of one moment: the kubelet replaces them all at once, by the link `..data`.
fn read_all(folder: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let data = folder.join("..data");
    let folder = if data.exists() { data.canonicalize()? } else { folder.to_owned() };
    let mut content = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_name(&name) && !name.starts_with("..") {
            content.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(content)
}

/// One component of a path that leads nowhere else.
fn is_name(text: &str) -> bool {
    let mut components = Path::new(text).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_secret_is_shown_as_long_as_it_is_what_was_signed_for() {
        let folder = tempfile::tempdir().unwrap();
        // As the kubelet mounts it.
        let (old, new) = (folder.path().join("s/..one"), folder.path().join("s/..two"));
        for (version, value) in [(&old, "one"), (&new, "two")] {
            std::fs::create_dir_all(version).unwrap();
            std::fs::write(version.join("k"), value).unwrap();
        }
        let data = folder.path().join("s/..data");
        std::os::unix::fs::symlink(&old, &data).unwrap();
        std::os::unix::fs::symlink("..data/k", folder.path().join("s/k")).unwrap();
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let (secrets, key) = (Secrets::new(folder.path().to_owned()), FingerprintKey::new(&[7; 32]).unwrap());
        let credential = serde_json::from_value(json!({"secret": "s", "key": "k"})).unwrap();
        let told = secrets.fingerprints(key.clone()).await;
        assert_eq!(told.keys().collect::<Vec<_>>(), ["s"], "one without content is none");
        let read = |signed: Option<String>| {
            let (secrets, key, credential) = (secrets.clone(), key.clone(), &credential);
            async move { secrets.read_signed(credential, &key, signed.as_ref()).await }
        };
        assert_eq!(read(told.get("s").cloned()).await, Ok(SecretValue::new("one".into())));
        std::fs::remove_file(&data).unwrap();
        std::os::unix::fs::symlink(&new, &data).unwrap();
        for signed in [told.get("s").cloned(), None] {
            assert_eq!(read(signed).await.unwrap_err().reason, Reason::CredentialChanged);
        }
        let told = secrets.fingerprints(key.clone()).await;
        assert_eq!(read(told.get("s").cloned()).await, Ok(SecretValue::new("two".into())));
    }

    #[tokio::test]
    async fn a_rotated_secret_counts_at_once_and_nothing_else_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("s")).unwrap();
        std::fs::write(folder.path().join("outside"), "no").unwrap();
        let secrets = Secrets::new(folder.path().join("."));
        let credential =
            |secret: &str, key: &str| serde_json::from_value(json!({"secret": secret, "key": key})).unwrap();
        for value in ["one", "two"] {
            std::fs::write(folder.path().join("s/k"), value).unwrap();
            assert_eq!(secrets.read(&credential("s", "k")).await, Ok(SecretValue::new(value.into())));
        }
        for (secret, key) in [
            ("s", "missing"),
            ("s", ".."),
            ("s", "../outside"),
            ("..", "s"),
            (".", "outside"),
            ("", "outside"),
            ("s/", "k"),
        ] {
            let refusal = secrets.read(&credential(secret, key)).await.unwrap_err();
            assert_eq!(refusal.reason, Reason::CredentialMissing, "{secret} {key}");
        }
    }
}
