//! The story of a Task, in the log's order.

use countersign_core::escape::{printable, shown};
use countersign_core::tlog::{Anchor, Line, entry};
use serde_json::{Value, json};

use crate::output::{say, say_json};

use super::page::Selected;
use super::source::Source;

pub async fn print(source: &Source, selected: &Selected, as_json: bool) -> anyhow::Result<()> {
    let size = source.size().await?;
    let (mut next, mut entries) = (Some(0), 0);
    while let Some(from) = next {
        let page = source.page(selected, from, size, false).await?;
        next = page.next;
        for log_entry in &page.lines {
            tell_line(&line(log_entry, as_json)?, as_json);
            entries = log_entry.index + 1;
        }
    }
    for anchor in source.anchors(entries, size).await? {
        tell_line(&anchored(&anchor, entries, as_json), as_json);
    }
    Ok(())
}

fn tell_line(line: &str, as_json: bool) {
    if as_json { say_json(line) } else { say(line) }
}

/// Where it can be seen outside that all of it was there, or how far.
fn anchored(anchor: &Anchor, entries: u64, as_json: bool) -> String {
    let Anchor { network, size, checkpoint: _, transaction, place, at, evidence: _, proof: _ } = anchor;
    let covers = *size >= entries;
    if as_json {
        let anchor = json!({"network": network, "transaction": transaction, "place": place, "at": at, "entries": size, "covers": covers});
        return json!({"anchor": anchor}).to_string();
    }
    let how_far = if covers { "covers all of it".to_owned() } else { format!("covers entries below {size}") };
    format!("anchored on {network}  {at:.0}  {transaction}, {how_far}")
}

fn line(log_entry: &Line, as_json: bool) -> anyhow::Result<String> {
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
    let at = |pointer: &str| event.pointer(pointer);
    let text = |pointer: &str| at(pointer).and_then(Value::as_str).map(printable);
    let person = |pointer: &str| at(pointer).and_then(Value::as_str).map(shown);
    let mut words: Vec<String> =
        ["/step", "/name", "/plan/name", "/object/kind", "/object/name"].into_iter().filter_map(text).collect();
    // Of a call the number is its own, of an attempt the attempt's.
    let numbered = if at("/attempt").is_some() { "call" } else { "attempt" };
    words.extend(at("/number").map(|number| format!("{numbered} {number}")));
    words.extend(text("/payment").map(|id| format!("payment {id}")));
    words.extend(at("/payment/id").and_then(Value::as_str).map(|id| format!("payment {}", printable(id))));
    words.extend(["/state", "/transaction", "/receipt/transaction"].into_iter().filter_map(text));
    let verdict = at("/decision/approved").or(at("/approved")).and_then(Value::as_bool);
    words.extend(verdict.map(|approved| if approved { "approved" } else { "rejected" }.to_owned()));
    let people = ["/decision/user", "/by/user", "/request/requester/user"];
    words.extend(people.into_iter().filter_map(person).map(|user| format!("by {user}")));
    let more = [
        "/decision/reason",
        "/outcome",
        "/reason",
        "/message",
        "/ending/cause",
        "/finished/outcome",
        "/finished/message",
    ];
    words.extend(more.into_iter().filter_map(text));
    for (what, pointer) in [
        ("plan", "/plan/digest"),
        ("binding", "/digest"),
        ("input", "/inputDigest"),
        ("output", "/output/reference/digest"),
    ] {
        words.extend(text(pointer).map(|digest| format!("{what} {digest}")));
    }
    words.join(", ")
}
