//! Erases what a Task was given and gave back, for a reason that is logged.

use anyhow::bail;
use countersign_core::escape::printable;
use countersign_store::{Erased, Store};
use jiff::Timestamp;

use super::source::find_task;
use crate::output::say;
use crate::text::confirm;

pub async fn run(store: &Store, namespace: &str, task: &str, reason: &str, yes: bool) -> anyhow::Result<()> {
    if reason.trim().is_empty() {
        bail!("--reason: say why; it is what remains");
    }
    let found = find_task(store, namespace, task).await?;
    let name = format!("{}/{} ({})", found.namespace, found.name, found.uid);
    say(&format!("What {} was given, decided on and gave back is erased, for ever.", printable(&name)));
    say("Its entries stay in the log, with their hashes, times and names, and so do signatures with their reasons.");
    if !yes && !confirm("Erase it?")? {
        bail!("nothing was erased");
    }
    match store.erase(&found, reason, Timestamp::now()).await? {
        Erased::Done(entries) => say(&format!("The payloads of {} entries are gone.", entries.len())),
        Erased::TooEarly(why) => bail!("{name}: {why}; nothing was erased"),
    }
    Ok(())
}
