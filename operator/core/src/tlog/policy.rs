//! Whose word makes a checkpoint count (<https://c2sp.org/tlog-policy>): known logs, known witnesses, and how many of
//! which must have cosigned.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::cosignature::WitnessKey;
use super::note::{NoteError, VerifyingKey};

/// A policy, as its file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Any of them may have signed; where there is none, the log is known from elsewhere.
    pub logs: Vec<VerifyingKey>,
    witnesses: Vec<Witness>,
    /// Each has only members that come before it.
    groups: Vec<Group>,
    /// Nobody where it is `None`.
    quorum: Option<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Witness {
    name: Name,
    key: WitnessKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: Name,
    threshold: usize,
    members: Vec<Member>,
}

/// By its place among the witnesses, or among the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// Bytes, as the specification has it: names that look alike are not the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Vec<u8>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Why a file is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// One line is not as it should be.
    #[error("line {line}: {problem}")]
    Line {
        /// Which one, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// So many lines begin with `quorum`, instead of one.
    #[error("there must be exactly one quorum line; there are {0}")]
    Quorums(usize),
}

/// What is wrong with a line of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineProblem {
    /// It holds this control character, which is not a tab.
    #[error("the byte {0:#04x} is not allowed")]
    Byte(u8),
    /// It begins with this word, which is no keyword.
    #[error("it is neither log, witness, group nor quorum: {0}")]
    Keyword(String),
    /// It is not of this form, which its keyword takes.
    #[error("write {0}")]
    Form(&'static str),
    /// Its key cannot be read, or is of another kind than the line takes; why.
    #[error("the key: {0}")]
    Key(#[from] NoteError),
    /// A line before it holds the same key, whatever name it goes by.
    #[error("a line before has the same key")]
    SameKey,
    /// It gives this name, which a line before gave, or which is `none`.
    #[error("the name {0} is taken, or reserved")]
    Taken(String),
    /// It refers to this name, which no line before gave.
    #[error("no line before names {0}")]
    Unknown(String),
    /// It makes this a member of a group, which it is of one already.
    #[error("{0} is a member of a group already")]
    Twice(String),
    /// A group's threshold is not `all`, `any` or a number that its members can come to.
    #[error("{found} is not all, any or a number from 1 to {members}")]
    Threshold {
        /// What stands in its place.
        found: String,
        /// How many members the group has.
        members: usize,
    },
}

/// What a quorum came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The witnesses that cosigned, with the time of each, in seconds since the Epoch.
    pub witnesses: Vec<(String, u64)>,
}

/// Why a checkpoint does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuorumError {
    /// What says that it is a witness's cosignature does not verify, or the checkpoint is no signed note.
    #[error("the cosignature of the witness {witness}: {error}")]
    Forged {
        /// The name of the witness in the policy.
        witness: String,
        /// Why it does not hold.
        error: NoteError,
    },
    /// Too few cosigned; the name of the witness or group that the quorum is, with what a group has and lacks.
    #[error("it is not cosigned by {0}, as the policy demands")]
    Missing(String),
}

impl Policy {
    /// Reads a policy's file (C2SP tlog-policy).
    ///
    /// # Errors
    /// The first line that is wrong, or that there is not exactly one quorum.
    pub fn parse(file: &[u8]) -> Result<Policy, PolicyError> {
        let mut reader = Reader::default();
        for (number, line) in file.split(|byte| *byte == b'\n').enumerate() {
            reader.line(line).map_err(|problem| PolicyError::Line { line: number + 1, problem })?;
        }
        let Reader { logs, witnesses, groups, names: _, quorums } = reader;
        match quorums.as_slice() {
            [quorum] => Ok(Policy { logs, witnesses, groups, quorum: *quorum }),
            other => Err(PolicyError::Quorums(other.len())),
        }
    }

    /// Whether enough witnesses have cosigned a checkpoint, or who is missing.
    pub fn check(&self, checkpoint: &str) -> Result<Reached, QuorumError> {
        let mut reached = Reached { witnesses: Vec::new() };
        let mut witnesses = Vec::with_capacity(self.witnesses.len());
        for Witness { name, key } in &self.witnesses {
            match key.find(checkpoint) {
                Ok(cosignature) => {
                    reached.witnesses.push((name.to_string(), cosignature.time));
                    witnesses.push(Standing { holds: true, says: name.to_string() });
                }
                Err(NoteError::Unsigned(_)) => witnesses.push(Standing { holds: false, says: name.to_string() }),
                Err(error) => return Err(QuorumError::Forged { witness: name.to_string(), error }),
            }
        }
        let mut groups: Vec<Standing> = Vec::with_capacity(self.groups.len());
        for Group { name, threshold, members } in &self.groups {
            let standing = |member: &Member| match *member {
                Member::Witness(at) => &witnesses[at],
                Member::Group(at) => &groups[at],
            };
            let (have, lack): (Vec<_>, Vec<_>) = members.iter().map(standing).partition(|standing| standing.holds);
            let lack: Vec<&str> = lack.iter().map(|standing| standing.says.as_str()).collect();
            let says = format!("{name} ({} of {threshold}, without {})", have.len(), lack.join(", "));
            groups.push(Standing { holds: have.len() >= *threshold, says });
        }
        let quorum = match self.quorum {
            None => return Ok(reached),
            Some(Member::Witness(at)) => &witnesses[at],
            Some(Member::Group(at)) => &groups[at],
        };
        if quorum.holds { Ok(reached) } else { Err(QuorumError::Missing(quorum.says.clone())) }
    }
}

/// Whether a witness or a group has cosigned, and how to tell of it.
struct Standing {
    holds: bool,
    says: String,
}

const LOG: &str = "log VKEY [URL]";
const WITNESS: &str = "witness NAME VKEY [URL]";
const GROUP: &str = "group NAME all|any|NUMBER MEMBER...";
const QUORUM: &str = "quorum NAME, or quorum none";
const NONE: &[u8] = b"none";

#[derive(Default)]
struct Reader {
    logs: Vec<VerifyingKey>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    /// Witnesses and groups share their names; whether a group has it as a member already.
    names: BTreeMap<Name, (Member, bool)>,
    quorums: Vec<Option<Member>>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), LineProblem> {
        let wrong = |byte: &&u8| matches!(byte, 0..=8 | 10..=31 | 127);
        if let Some(byte) = line.iter().find(wrong) {
            return Err(LineProblem::Byte(*byte));
        }
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let Some(keyword) = words.next().filter(|word| !word.starts_with(b"#")) else { return Ok(()) };
        let words: Vec<&[u8]> = words.collect();
        match keyword {
            b"log" => self.log(&words),
            b"witness" => self.witness(&words),
            b"group" => self.group(&words),
            b"quorum" => self.quorum(&words),
            other => Err(LineProblem::Keyword(String::from_utf8_lossy(other).into_owned())),
        }
    }

    fn log(&mut self, words: &[&[u8]]) -> Result<(), LineProblem> {
        let ([key] | [key, _]) = words else { return Err(LineProblem::Form(LOG)) };
        let key: VerifyingKey = String::from_utf8_lossy(key).parse()?;
        if self.logs.iter().any(|known| known.is_same_key(&key)) {
            return Err(LineProblem::SameKey);
        }
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, words: &[&[u8]]) -> Result<(), LineProblem> {
        let ([name, key] | [name, key, _]) = words else { return Err(LineProblem::Form(WITNESS)) };
        let key: WitnessKey = String::from_utf8_lossy(key).parse()?;
        if self.witnesses.iter().any(|known| known.key.is_same_key(&key)) {
            return Err(LineProblem::SameKey);
        }
        let name = self.name(name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(Witness { name, key });
        Ok(())
    }

    fn group(&mut self, words: &[&[u8]]) -> Result<(), LineProblem> {
        let [name, threshold, names @ ..] = words else { return Err(LineProblem::Form(GROUP)) };
        if names.is_empty() {
            return Err(LineProblem::Form(GROUP));
        }
        let threshold = match *threshold {
            b"all" => names.len(),
            b"any" => 1,
            other => decimal(other).filter(|k| (1..=names.len()).contains(k)).ok_or_else(|| {
                LineProblem::Threshold { found: String::from_utf8_lossy(other).into_owned(), members: names.len() }
            })?,
        };
        let mut members = Vec::with_capacity(names.len());
        for member in names {
            let said = || String::from_utf8_lossy(member).into_owned();
            let (member, taken) =
                self.names.get_mut(&Name(member.to_vec())).ok_or_else(|| LineProblem::Unknown(said()))?;
            if std::mem::replace(taken, true) {
                return Err(LineProblem::Twice(said()));
            }
            members.push(*member);
        }
        let name = self.name(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { name, threshold, members });
        Ok(())
    }

    fn quorum(&mut self, words: &[&[u8]]) -> Result<(), LineProblem> {
        let [name] = words else { return Err(LineProblem::Form(QUORUM)) };
        let known = self.names.get(&Name(name.to_vec())).map(|(member, _)| *member);
        if known.is_none() && *name != NONE {
            return Err(LineProblem::Unknown(String::from_utf8_lossy(name).into_owned()));
        }
        self.quorums.push(known);
        Ok(())
    }

    fn name(&mut self, name: &[u8], member: Member) -> Result<Name, LineProblem> {
        let name = Name(name.to_vec());
        if name.0 == NONE || self.names.contains_key(&name) {
            return Err(LineProblem::Taken(name.to_string()));
        }
        self.names.insert(name.clone(), (member, false));
        Ok(name)
    }
}

/// Digits alone; `parse` would take a sign as well.
fn decimal(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
