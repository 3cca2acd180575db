//! What a reader demands of an export beyond its proofs: a key that it trusts, and witnesses that have cosigned.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use countersign_core::tlog::VerifyingKey;
use countersign_core::tlog::policy::{Policy, Reached};
use jiff::Timestamp;

use super::bundle::Bundle;
use super::failure::Failure;
use super::report::{Open, Report};

pub struct Demands {
    /// The log's key must be one of these, or follow from one of them.
    keys: Vec<VerifyingKey>,
    /// Whether they come from outside the export.
    pub trusted: bool,
    policy: Option<(PathBuf, Policy)>,
    /// Whether the reader knows that the key signs today.
    current: bool,
}

impl Demands {
    /// By `--key` and `--policy`; by the export's own key where neither names one.
    pub fn read(bundle: &Bundle, key: Option<&Path>, policy: Option<&Path>) -> anyhow::Result<Demands> {
        let (key, trusted) = bundle.key(key)?;
        let Some(file) = policy else { return Ok(Demands { keys: vec![key], trusted, policy: None, current: false }) };
        let named = || file.display().to_string();
        let policy = Policy::parse(&std::fs::read(file).with_context(named)?).with_context(named)?;
        let (keys, trusted) = match (policy.logs.as_slice(), trusted) {
            ([], trusted) => (vec![key], trusted),
            (logs, true) if logs.contains(&key) => (vec![key], true),
            (_, true) => bail!("{}: it lists other logs than the one of --key; add `log {key}`", named()),
            (logs, false) => {
                let ours: Vec<VerifyingKey> = logs.iter().filter(|log| log.name() == key.name()).cloned().collect();
                if ours.is_empty() {
                    bail!("{}: it lists no key of the log {}, which the export is of", named(), key.name());
                }
                (ours, true)
            }
        };
        Ok(Demands { keys, trusted, policy: Some((file.to_owned(), policy)), current: false })
    }

    /// The same by a reader who knows that the key signs today.
    pub fn current(self, current: bool) -> Demands {
        Demands { current, ..self }
    }

    /// What holds with one of the keys; why it does not with the first, where it holds with none.
    pub fn by_any_key<T>(&self, check: impl Fn(&VerifyingKey) -> Result<T, Failure>) -> anyhow::Result<T> {
        let mut failures = Vec::new();
        for key in &self.keys {
            match check(key) {
                Ok(holds) => return Ok(holds),
                Err(failure) => failures.push(failure),
            }
        }
        bail!("{}", failures.first().map_or_else(|| "there is no key to verify with".to_owned(), Failure::to_string))
    }

    /// What was proved, and by which key and before which witnesses; `rotations` where the export could not have left out
    /// that its key was retired.
    pub fn report(&self, bundle: &Bundle, report: &mut Report, proved: &str, rotations: bool) -> anyhow::Result<()> {
        if !self.trusted {
            report.leaves_open(
                "whose log it is, as its key came with the export (give --key FILE, with the log's key from where you trust it)",
            );
        }
        report.says(proved);
        let cosigned = self.quorum(bundle)?;
        // Whoever has a retired key can sign anything with it, but for what witnesses have seen.
        let seen = cosigned.as_ref().is_some_and(|cosigned| cosigned.witnesses > 0);
        if !(rotations || seen || self.current) {
            let option = if self.policy.is_some() { "--policy" } else { "--key" };
            report.opens(Open { what: UNTOLD.to_owned(), asked: self.trusted.then_some(option) });
        }
        match cosigned {
            Some(Cosigned { said, witnesses: _ }) => report.says(said),
            None => report.leaves_open(
                "whether others are shown the same log under the same key (give --policy FILE, with witnesses that you trust)",
            ),
        }
        Ok(())
    }

    /// Who has cosigned, where a policy demands it.
    pub fn quorum(&self, bundle: &Bundle) -> anyhow::Result<Option<Cosigned>> {
        let Some((file, policy)) = &self.policy else { return Ok(None) };
        let reached = policy.check(&bundle.checkpoint);
        let Reached { witnesses } = reached.with_context(|| format!("checkpoint: by {}", file.display()))?;
        let said = witnesses.iter().map(|(name, time)| format!("{name} at {}", at(*time)));
        let said: Vec<String> = said.collect();
        let witnesses = said.len();
        let said = match said.as_slice() {
            [] => format!("{} demands no cosignature.", file.display()),
            said => format!("It is cosigned as {} demands, by {}.", file.display(), said.join(", ")),
        };
        Ok(Some(Cosigned { said, witnesses }))
    }
}

/// How a checkpoint stands before a policy.
pub struct Cosigned {
    pub said: String,
    /// How many have cosigned it.
    witnesses: usize,
}

const UNTOLD: &str = "cannot tell whether this key was rotated, as the export may leave that out (export the whole log, give --policy FILE with witnesses, or, if you know that the key of --key signs today, --key-is-current)";

/// The witness's clock may say what no calendar has.
fn at(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| format!("second {seconds}"), |timestamp| timestamp.to_string())
}
