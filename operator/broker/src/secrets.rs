//! The Secrets that the broker was given, each a folder with a file for each key. They are read for each call, so that a
//! rotated one counts at once.

use std::path::{Component, Path, PathBuf};

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

    pub async fn read(&self, credential: &Credential) -> Result<SecretValue, Refusal> {
        let Credential { secret, key, header: _, username: _, scheme: _ } = credential;
        let missing = |why: &str| {
            let detail = format!(
                "key {key} of Secret {secret} cannot be read: {why}; the Secret must be there, and under {} of the chart",
                self.named
            );
            Refusal::new(Reason::CredentialMissing, detail)
        };
        if !is_name(secret) || !is_name(key) {
            return Err(missing("it is not a name"));
        }
        let path = self.folder.join(secret).join(key);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let bytes = read.map_err(|error| missing(&error.to_string()))?;
        bytes.map(SecretValue::new).map_err(|error| missing(&error.kind().to_string()))
    }
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
