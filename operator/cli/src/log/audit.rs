//! The story of a Task, in the log's order.

use countersign_core::names::{printable, shown};
use countersign_core::tlog::entry;
use countersign_store::{LogEntry, Selection, Store};
use serde_json::{Value, json};

const PAGE: i64 = 1000;

pub async fn print(store: &Store, uid: &str, as_json: bool) -> anyhow::Result<()> {
    let size = store.checkpoint().await?.map_or(0, |(size, _)| size);
    let selection = Selection::Task(uid.to_owned());
    let mut from = 0;
    loop {
        let page = store.log_entries(&selection, from, size, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        from = last.index + 1;
        for log_entry in &page {
            println!("{}", line(log_entry, as_json)?);
        }
    }
}

fn line(log_entry: &LogEntry, as_json: bool) -> anyhow::Result<String> {
    let opened = entry::open(&log_entry.body).map_err(|why| anyhow::anyhow!("entry {}: {why}", log_entry.index))?;
    let event = match &log_entry.payload {
        None => None,
        Some(payload) => Some(
            entry::open_payload(&opened, payload).map_err(|why| anyhow::anyhow!("entry {}: {why}", log_entry.index))?,
        ),
    };
    if as_json {
        return Ok(json!({"index": log_entry.index, "at": opened.at, "kind": opened.kind, "event": event}).to_string());
    }
    let told = event.as_ref().map_or_else(|| "(erased)".to_owned(), tell);
    Ok(format!("{:>8}  {:.6}  {:<18} {told}", log_entry.index, opened.at, opened.kind))
}

/// An event in a few words.
fn tell(event: &Value) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(printable);
    let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_u64).map(|number| number.to_string());
    let mut words: Vec<String> =
        ["/step", "/name", "/outcome", "/reason", "/message"].into_iter().filter_map(text).collect();
    words.extend(number("/number").map(|number| format!("attempt {number}")));
    if let Some(user) = event.pointer("/decision/user").and_then(Value::as_str) {
        let verdict =
            if event.pointer("/decision/approved") == Some(&Value::Bool(true)) { "approved" } else { "rejected" };
        words.push(format!("{verdict} by {}", shown(user)));
    }
    if let Some(user) = event.pointer("/request/requester/user").and_then(Value::as_str) {
        words.push(format!("asked for by {}", shown(user)));
    }
    words.extend(text("/finished/outcome"));
    words.extend(text("/finished/message"));
    words.extend(["/digest", "/inputDigest", "/output/reference/digest"].into_iter().filter_map(text));
    words.join(", ")
}
