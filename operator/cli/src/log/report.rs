//! What a verification says: first what it was asked to prove and did not, and what it did not check, then what holds.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

/// One thing that an export says, and what nobody has checked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub said: String,
    /// What is open; nothing where it is proved.
    pub open: Vec<Open>,
}

/// What nobody has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// It, with what would settle it.
    pub what: String,
    /// The option by which the reader asked for it to be proved.
    pub asked: Option<&'static str>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { said, open } = self;
        if !open.is_empty() {
            f.write_str("Claimed, not checked: ")?;
        }
        f.write_str(said)
    }
}

/// All of them, in the order in which they were found.
#[derive(Default)]
pub struct Report {
    open: Vec<Open>,
    lines: Vec<String>,
}

/// How an export came out, for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All that it says was checked, and holds.
    Proved,
    /// What was checked holds; some was not checked.
    Partly,
    /// Something does not hold, or was asked to be proved and is not.
    Refused,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Proved => "proved",
            Verdict::Partly => "partly",
            Verdict::Refused => "refused",
        }
    }
}

impl Report {
    pub fn says(&mut self, line: impl fmt::Display) {
        self.lines.push(line.to_string());
    }

    /// Something that this verification was not asked to prove, or cannot.
    pub fn leaves_open(&mut self, what: impl Into<String>) {
        self.opens(Open { what: what.into(), asked: None });
    }

    pub fn opens(&mut self, open: Open) {
        self.open.push(open);
    }

    pub fn finds(&mut self, finding: &Finding) {
        self.says(finding);
        self.open.extend(finding.open.iter().cloned());
    }

    /// What the reader asked to be proved, and is not; what else is open. Each once.
    fn sorted(&self) -> (Vec<String>, Vec<&str>) {
        let (mut owed, mut open, mut told) = (Vec::new(), Vec::new(), BTreeSet::new());
        // The same may be asked for in one place and not in another.
        let asked_first = self.open.iter().filter(|one| one.asked.is_some());
        for Open { what, asked } in asked_first.chain(self.open.iter().filter(|one| one.asked.is_none())) {
            match (told.insert(what.as_str()), asked) {
                (false, _) => {}
                (true, Some(option)) => owed.push(format!("{what}, which {option} asks for")),
                (true, None) => open.push(what.as_str()),
            }
        }
        (owed, open)
    }

    /// Why it does not do for what the reader asked.
    pub fn refusal(&self) -> Option<String> {
        let (owed, _) = self.sorted();
        (!owed.is_empty()).then(|| format!("not proved: {}", owed.join("; ")))
    }

    pub fn json(&self) -> Value {
        let (owed, open) = self.sorted();
        let verdict = match (owed.is_empty(), open.is_empty()) {
            (true, true) => Verdict::Proved,
            (true, false) => Verdict::Partly,
            (false, _) => Verdict::Refused,
        };
        json!({"verdict": verdict.as_str(), "notProved": owed, "notChecked": open, "said": self.lines})
    }
}

/// What a machine reads of an export that does not hold.
pub fn refused(why: &str) -> Value {
    json!({"verdict": Verdict::Refused.as_str(), "error": why})
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owed, open) = self.sorted();
        let first: Vec<String> = [("Not proved", owed.join("; ")), ("Not checked", open.join("; "))]
            .into_iter()
            .filter(|(_, what)| !what.is_empty())
            .map(|(how, what)| format!("{how}: {what}."))
            .collect();
        if first.is_empty() {
            writeln!(f, "All of it was checked.")?;
        } else {
            writeln!(f, "{}", first.join(" "))?;
        }
        f.write_str(&self.lines.join("\n"))
    }
}
