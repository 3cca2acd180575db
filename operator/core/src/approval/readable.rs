//! An Approval as people read it: nothing that a requester wrote can hide, turn or break what stands beside it. What they
//! sign is the digest of what is true; what they read stands for exactly that.

use countersign_crds::{
    ApprovalSpec, CoveredStep, Difference, EarlierOutput, RuleReference, SinceLastApproved, Subject,
};

use crate::escape::{escaped, escaped_json, excerpt, shown};

/// The same Approval with every text that is not checked by form spelt out, and cut, with a mark, where it is longer than
/// the object holds.
pub fn readable(spec: ApprovalSpec) -> ApprovalSpec {
    let ApprovalSpec {
        task_ref,
        step,
        attempt,
        digest,
        // Whoever signs is held against it, so it stays as the API server gave it.
        requester,
        on_behalf_of,
        risk,
        scope,
        subject,
        covers,
        required,
        expires_at,
        approved,
        reason,
        decisions,
    } = spec;
    ApprovalSpec {
        task_ref,
        step,
        attempt,
        digest,
        requester,
        on_behalf_of: on_behalf_of.map(|claim| excerpt(&shown(&claim), 256)),
        risk,
        scope,
        subject: of_subject(subject),
        covers: covers.into_iter().map(of_step).collect(),
        required,
        expires_at,
        approved,
        reason,
        decisions,
    }
}

fn of_step(step: CoveredStep) -> CoveredStep {
    let CoveredStep { step, attempt, subject } = step;
    CoveredStep { step, attempt, subject: of_subject(subject) }
}

fn of_subject(subject: Subject) -> Subject {
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
    Subject {
        skill: text(&skill, 63),
        effect,
        input: input.into_iter().map(|(name, value)| (escaped(&name), escaped_json(value))).collect(),
        image: text(&image, 512),
        command: command.map(|command| text(&command, 4096)),
        program: program.map(|program| text(&program, 16384)),
        egress: egress.iter().map(|egress| text(egress, 1024)).collect(),
        payment: payment.map(|payment| text(&payment, 512)),
        cost_ceiling: cost_ceiling.map(|ceiling| text(&ceiling, 32)),
        rules: rules.into_iter().map(of_rule).collect(),
        earlier: earlier.into_iter().map(of_output).collect(),
        since_last_approved: since_last_approved.map(of_last),
    }
}

fn of_rule(rule: RuleReference) -> RuleReference {
    let RuleReference { policy, rule, message } = rule;
    let message = message.map(|message| text(&message, 256));
    RuleReference { policy: text(&policy, 320), rule: text(&rule, 63), message }
}

fn of_output(output: EarlierOutput) -> EarlierOutput {
    let EarlierOutput { step, digest, output } = output;
    EarlierOutput { step: text(&step, 63), digest, output: text(&output, 1024) }
}

fn of_last(last: SinceLastApproved) -> SinceLastApproved {
    let SinceLastApproved { approval, at, differences } = last;
    let of = |difference: Difference| {
        let Difference { field, before, now } = difference;
        let value = |value: Option<String>| value.map(|value| text(&value, 256));
        Difference { field: text(&field, 256), before: value(before), now: value(now) }
    };
    SinceLastApproved { approval, at, differences: differences.into_iter().map(of).collect() }
}

fn text(text: &str, chars: usize) -> String {
    excerpt(&escaped(text), chars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::{printable, unescaped};
    use serde_json::{Value, json};

    /// Every kind of what hides, in every text.
    const HIDDEN: &str = "a\u{202e}b\u{e0041}\u{ad}\u{3164}\u{200b}\u{fe0f}\u{0}\u{1b}[2J\n\u{a0}\\u{202e}é";

    fn approval() -> ApprovalSpec {
        let subject = json!({
            "skill": "k", "effect": "Read", "input": {HIDDEN: {"deep": [HIDDEN, 7, null, {"n": HIDDEN}]}}, "image": "i",
            "command": HIDDEN, "program": HIDDEN, "egress": [HIDDEN], "payment": HIDDEN, "costCeiling": "1",
            "rules": [{"policy": "ns/p", "rule": "r", "message": HIDDEN}],
            "earlier": [{"step": "s", "digest": "d", "output": HIDDEN}],
            "sinceLastApproved": {"approval": "b", "at": "2026-01-01T00:00:00Z",
                "differences": [{"field": HIDDEN, "before": HIDDEN, "now": HIDDEN}]},
        });
        serde_json::from_value(json!({
            "taskRef": {"name": "t", "uid": "u"}, "step": "s", "attempt": 1, "digest": "sha256:00",
            "requester": {"user": "dave"}, "onBehalfOf": HIDDEN, "risk": "Low", "subject": subject,
            "covers": [{"step": "c", "attempt": 1, "subject": subject}],
            "required": {"count": 1}, "expiresAt": "2026-01-02T00:00:00Z",
        }))
        .unwrap()
    }

    /// Every text in a value, names of members too.
    fn texts(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => found.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                found.push(name.clone());
                texts(value, found);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    #[test]
    fn nothing_hides_in_any_text_and_every_text_can_be_read_back() {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        texts(&json!(approval()), &mut before);
        texts(&json!(readable(approval())), &mut after);
        assert_eq!(before.iter().filter(|text| *text == HIDDEN).count(), 25);
        for text in &after {
            assert_eq!(printable(text), *text, "it holds nothing that hides");
        }
        let read: Vec<String> = after.iter().map(|text| unescaped(text)).collect();
        assert_eq!(read, before);
    }

    #[test]
    fn what_is_long_is_cut_to_what_the_object_holds() {
        let mut long = approval();
        let text = "\u{e0041}".repeat(20_000);
        long.on_behalf_of = Some(text.clone());
        long.subject.command = Some(text.clone());
        long.subject.program = Some(text.clone());
        long.subject.earlier[0].output = text;
        let shown = readable(long);
        let chars = |text: &str| text.chars().count();
        assert!(chars(&shown.on_behalf_of.unwrap()) <= 256);
        assert!(chars(&shown.subject.command.unwrap()) <= 4096);
        assert!(chars(&shown.subject.program.unwrap()) <= 16384);
        assert!(chars(&shown.subject.earlier[0].output) <= 1100);
    }
}
