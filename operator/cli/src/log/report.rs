//! What a verification says: first what it did not check, then what holds.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that an export says, and what nobody has checked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub said: String,
    /// What is open, each with what would settle it; nothing where it is proved.
    pub open: Vec<String>,
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
    open: Vec<String>,
    lines: Vec<String>,
}

impl Report {
    pub fn says(&mut self, line: impl fmt::Display) {
        self.lines.push(line.to_string());
    }

    /// Something that this verification was not asked to prove, or cannot.
    pub fn leaves_open(&mut self, what: impl Into<String>) {
        self.open.push(what.into());
    }

    pub fn finds(&mut self, finding: &Finding) {
        self.says(finding);
        self.open.extend(finding.open.iter().cloned());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { open, lines } = self;
        let mut told = BTreeSet::new();
        let open: Vec<&str> = open.iter().map(String::as_str).filter(|what| told.insert(*what)).collect();
        if !open.is_empty() {
            writeln!(f, "Not checked: {}.", open.join("; "))?;
        }
        f.write_str(&lines.join("\n"))
    }
}
