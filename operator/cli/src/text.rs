//! What an Approval says, for a careful reader. Names that could pass for others are spelt out, and nothing that came
//! from outside can move the cursor.

use std::fmt::Write;
use std::io::{IsTerminal, stdin};

use anyhow::bail;
use countersign_core::escape::{printable, shown};
use countersign_crds::{Approval, ApprovalScope, Difference, RuleReference, Subject};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// The state of an Approval, as its status says it.
pub fn state(approval: &Approval) -> (&str, &str) {
    let conditions = approval.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let condition = conditions.iter().find(|condition| condition.type_ == "Approved");
    condition.map_or(("Pending", ""), |condition| (condition.reason.as_str(), condition.message.as_str()))
}

/// Everything that a signature is for.
pub fn describe(now: Timestamp, approval: &Approval) -> String {
    let spec = &approval.spec;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<14}{value}");
    };
    let (reason, message) = state(approval);
    line("Task", &printable(&spec.task_ref.name));
    line("Asked for by", &shown(&spec.requester.user));
    if let Some(claim) = &spec.on_behalf_of {
        line("", &format!("says that it is for {} (a claim, not checked)", printable(claim)));
    }
    line("Risk", spec.risk.as_str());
    line("State", &format!("{reason}: {}", printable(message)));
    line("Expires", &format!("{} ({})", spec.expires_at.0, until(now, spec.expires_at.0)));
    line("Takes", &takes(approval));
    line("Digest", &spec.digest);
    for decision in &spec.decisions {
        let verb = if decision.approved { "approved" } else { "rejected" };
        let why = decision.reason.as_deref().map(|why| format!(": {}", printable(why))).unwrap_or_default();
        line("Signed", &format!("{} {verb} at {}{why}", shown(&decision.user), decision.at.0));
    }
    if spec.scope == ApprovalScope::Plan {
        line("Signs for", &format!("{} steps at once", spec.covers.len() + 1));
    }
    subject(&mut out, &spec.step, spec.attempt, &spec.subject);
    for covered in &spec.covers {
        subject(&mut out, &covered.step, covered.attempt, &covered.subject);
    }
    out
}

fn takes(approval: &Approval) -> String {
    let required = &approval.spec.required;
    let mut takes = match required.count {
        1 => "1 signature".to_owned(),
        count => format!("{count} different people"),
    };
    if !required.groups.is_empty() {
        let groups: Vec<String> = required.groups.iter().map(|group| shown(group)).collect();
        takes += &format!(", somebody of each of: {}", groups.join(", "));
    }
    if !required.service_accounts.is_empty() {
        takes += &format!("; the service accounts {} count", required.service_accounts.join(", "));
    }
    takes
}

fn subject(out: &mut String, step: &str, attempt: u32, subject: &Subject) {
    let Subject {
        skill,
        effect,
        input,
        image,
        command,
        program,
        egress,
        payment,
        cost_ceiling,
        rules,
        earlier,
        since_last_approved,
    } = subject;
    let (step, skill) = (printable(step), printable(skill));
    let _ = writeln!(out, "\nStep {step}, attempt {attempt}: Skill {skill}, which has effect {effect:?}");
    let _ = writeln!(out, "  image  {}", printable(image));
    if let Some(command) = command {
        let _ = writeln!(out, "  runs   {}", printable(command));
    }
    if let Some(program) = program {
        let _ = writeln!(out, "  as     {}", printable(program));
    }
    let _ = writeln!(out, "  input  {}", indented(&Value::Object(input.clone())));
    if let Some(payment) = payment {
        let _ = writeln!(out, "  pays   {}", printable(payment));
    }
    for egress in egress {
        let _ = writeln!(out, "  goes   {}", printable(egress));
    }
    if let Some(ceiling) = cost_ceiling {
        let _ = writeln!(out, "  costs  at most {}", printable(ceiling));
    }
    for RuleReference { policy, rule, message } in rules {
        let message = message.as_deref().map(|message| format!(": {}", printable(message))).unwrap_or_default();
        let _ = writeln!(out, "  rule   {}, {}{message}", printable(policy), printable(rule));
    }
    for output in earlier {
        let _ = writeln!(out, "  before {} returned {}", printable(&output.step), printable(&output.output));
    }
    match since_last_approved {
        None => {
            let _ = writeln!(out, "  since  nothing like it was approved before");
        }
        Some(last) if last.differences.is_empty() => {
            let _ = writeln!(out, "  since  just as approved at {} ({})", last.at.0, last.approval);
        }
        Some(last) => {
            let _ = writeln!(out, "  since  differs from what was approved at {} ({}):", last.at.0, last.approval);
            for Difference { field, before, now } in &last.differences {
                let text = |value: &Option<String>| value.as_deref().map_or("nothing".to_owned(), printable);
                let _ = writeln!(out, "           {}: {} -> {}", printable(field), text(before), text(now));
            }
        }
    }
}

/// JSON over several lines, each as far in as the first. The texts in it are escaped, so that a backslash before `u{` is
/// no other than an escape's, and is shown as one.
fn indented(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default().replace(r"\\u{", r"\u{");
    text.lines().map(printable).collect::<Vec<_>>().join("\n         ")
}

/// Asks whoever is there.
pub fn confirm(question: &str) -> anyhow::Result<bool> {
    if !stdin().is_terminal() {
        bail!("there is nobody to ask; say --yes if this is what you want");
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// How long until an instant, in the largest unit that says enough.
pub fn until(now: Timestamp, at: Timestamp) -> String {
    let left = at.duration_since(now);
    if left <= SignedDuration::ZERO {
        return "over".to_owned();
    }
    format!("in {}", span(left))
}

pub fn span(duration: SignedDuration) -> String {
    match duration.as_secs() {
        seconds if seconds < 120 => format!("{seconds}s"),
        seconds if seconds < 7200 => format!("{}m", seconds / 60),
        seconds if seconds < 172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Lines of columns, as kubectl prints them.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let row = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn approval() -> Approval {
        serde_json::from_value(json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "Approval", "metadata": {"name": "a", "uid": "u"},
            "spec": {
                "taskRef": {"name": "pay", "uid": "u"}, "step": "send", "attempt": 1, "digest": "sha256:00",
                "requester": {"user": "аgent"}, "onBehalfOf": "carol", "risk": "High", "scope": "Plan",
                "subject": {"skill": "transfer", "effect": "Irreversible", "image": "i@sha256:1",
                    "input": {"to": "0x1", "note": "a\\u{1b}[2Jb"}, "command": "[\"sh\"]", "program": ".a",
                    "rules": [{"policy": "ops/starter", "rule": "transactions", "message": "money moves"}],
                    "earlier": [{"step": "check", "digest": "sha256:1", "output": "{\"ok\":true}"}],
                    "sinceLastApproved": {"approval": "b", "at": "2026-01-01T00:00:00Z",
                        "differences": [{"field": "input.amount", "before": "5", "now": "7"}]}},
                "covers": [{"step": "tell", "attempt": 1, "subject": {"skill": "mail", "effect": "External", "image": "i", "input": {}}}],
                "required": {"count": 2, "groups": ["finance"], "serviceAccounts": ["ns/bot"]},
                "expiresAt": "2026-01-02T00:00:00Z",
                "decisions": [{"user": "bob", "approved": true, "at": "2026-01-01T10:00:00Z", "digest": "sha256:00",
                    "reason": "fine\nApproved by: everybody"}],
            },
            "status": {"signed": "1/2", "conditions": [{"type": "Approved", "status": "Unknown", "reason": "Pending",
                "message": "waiting for 1 more signature", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    #[test]
    fn an_approval_says_all_that_a_signature_is_for() {
        let expected = r#"Task          pay
Asked for by  \u{430}gent
              says that it is for carol (a claim, not checked)
Risk          High
State         Pending: waiting for 1 more signature
Expires       2026-01-02T00:00:00Z (in 12h)
Takes         2 different people, somebody of each of: finance; the service accounts ns/bot count
Digest        sha256:00
Signed        bob approved at 2026-01-01T10:00:00Z: fine\u{a}Approved by: everybody
Signs for     2 steps at once

Step send, attempt 1: Skill transfer, which has effect Irreversible
  image  i@sha256:1
  runs   ["sh"]
  as     .a
  input  {
           "note": "a\u{1b}[2Jb",
           "to": "0x1"
         }
  rule   ops/starter, transactions: money moves
  before check returned {"ok":true}
  since  differs from what was approved at 2026-01-01T00:00:00Z (b):
           input.amount: 5 -> 7

Step tell, attempt 1: Skill mail, which has effect External
  image  i
  input  {}
  since  nothing like it was approved before
"#;
        assert_eq!(describe("2026-01-01T12:00:00Z".parse().unwrap(), &approval()), expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["A".into(), "BB".into()], vec!["aaa".into(), "b".into()]];
        assert_eq!(table(&rows), "A     BB\naaa   b");
    }
}
