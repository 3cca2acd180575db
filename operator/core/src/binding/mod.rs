//! Everything that a verdict about a step rests on, as one value: what people sign, and what is held against what would
//! be decided now when the attempt is intended, when its Job is made, and when its pod is let in.

mod difference;
mod seen;

pub use difference::{Changed, difference_texts};
pub use seen::{AgentSeen, RequesterSeen, Seen, Taint, TaskSeen};

use std::collections::{BTreeMap, BTreeSet};

use countersign_crds::{Difference, EgressLimit, RiskClass, Rule, SkillSpec, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::approval::Ask;
use crate::digest::{self, Digest};
use crate::json::strict::StrictError;
use crate::judge::Case;
use crate::payment::Payment;
use crate::record::Launch;

/// The form of a binding. Its digest says which one it is of.
const VERSION: u32 = 2;

/// What a verdict about one step rests on. Two that are equal have equal verdicts: rules see nothing that is not in it,
/// and what they said is in it too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Binding {
    /// The form of this value.
    pub version: u32,
    /// The Task, with its uid and what rules see of it.
    pub task: TaskSeen,
    /// Who asked; `None` where nobody knows.
    pub requester: Option<RequesterSeen>,
    /// The Agent that the Task acts for.
    pub agent: Option<AgentSeen>,
    /// What the step's input was made of that nobody vouches for.
    pub taint: BTreeSet<Taint>,
    /// The step as the Plan has it.
    pub step: Step,
    /// Which run of the step it is, from 1. An attempt that never began is none.
    pub run: u32,
    /// The step's input, resolved.
    pub input: Map<String, Value>,
    /// The trees of files that it begins with.
    pub workspace: Vec<Digest>,
    /// The Skill, with its whole contract.
    pub skill: SkillBound,
    /// The image of the main container, by digest.
    pub image: String,
    /// What else its pod is made with.
    pub profile: Profile,
    /// How long it may run, in seconds.
    pub timeout_seconds: u32,
    /// The fingerprint of each Secret that the broker shows for it.
    pub secrets: BTreeMap<String, String>,
    /// What it may ask the signer to pay, and where.
    pub payment: Option<Payment>,
    /// The highest risk of the rules that bind.
    pub risk: RiskClass,
    /// What signatures it takes; `None` where it takes none.
    pub ask: Option<Ask>,
    /// The rules that matched and bind, in the order in which they were judged.
    pub rules: Vec<BoundRule>,
}

/// A Skill by name and content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkillBound {
    /// The name of the Skill.
    pub name: String,
    /// Its whole contract.
    pub spec: SkillSpec,
}

/// What a pod is made with besides its main image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// The runner's image, by digest.
    pub runner: String,
    /// The RuntimeClass that the Skill asks for.
    pub runtime_class: Option<String>,
}

/// A rule that matched and binds, by content, and where its Policy lets Skills go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BoundRule {
    /// The Policy, as `NAMESPACE/NAME`.
    pub policy: String,
    /// The rule itself.
    pub rule: Rule,
    /// Where its Policy lets Skills go at most; `None` where it does not say.
    pub egress: Option<Vec<EgressLimit>>,
}

/// What would run, once the step's input and its Skill's contract are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The Skill that runs: the Plan's, or what that was downgraded to.
    pub skill: String,
    /// Its contract.
    pub contract: SkillSpec,
    /// The step's input, resolved.
    pub input: Map<String, Value>,
    /// The image of the main container, by digest.
    pub image: String,
    /// How long it may run, in seconds.
    pub timeout_seconds: u32,
    /// The fingerprint of each Secret that the broker shows for it.
    pub secrets: BTreeMap<String, String>,
    /// The trees of files that it begins with.
    pub workspace: Vec<Digest>,
    /// What it may ask the signer to pay, and where.
    pub payment: Option<Payment>,
}

/// What the rules said of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruling {
    /// The highest risk of the rules that bind.
    pub risk: RiskClass,
    /// What signatures it takes; `None` where it takes none.
    pub ask: Option<Ask>,
    /// The rules that matched and bind.
    pub rules: Vec<BoundRule>,
}

impl Binding {
    /// The only way in which one is made: of what would run, of what rules see, and of what they said. Whatever a case
    /// or a ruling comes to hold besides has to be bound here, or left out for a reason.
    pub fn of(case: &Case<'_>, work: Work, ruling: Ruling) -> Binding {
        let Case {
            task: _,
            plan: _,
            request: _,
            agent: _,
            step,
            run,
            runner_image,
            // What they amount to is in the work or in the ruling.
            outputs: _,
            outcome: _,
            skills: _,
            policies: _,
            secrets: _,
            workspace: _,
            networks: _,
            // Weighed when an attempt is intended, whatever was left when people signed.
            budget_view: _,
            // Without one nothing that needs it is judged at all.
            broker: _,
        } = *case;
        let Seen { task, requester, agent, taint } = Seen::of(case);
        let Work { skill, contract, input, image, timeout_seconds, secrets, workspace, payment } = work;
        let Ruling { risk, ask, rules } = ruling;
        Binding {
            version: VERSION,
            task,
            requester,
            agent,
            taint,
            step: step.clone(),
            run,
            input,
            workspace,
            profile: Profile { runner: runner_image.to_owned(), runtime_class: contract.runtime_class_name.clone() },
            skill: SkillBound { name: skill, spec: contract },
            image,
            timeout_seconds,
            secrets,
            payment,
            risk,
            ask,
            rules,
        }
    }

    /// SHA-256 over its RFC 8785 JSON: what people sign.
    ///
    /// # Errors
    /// A number or a text in its input has no form that all readers share.
    pub fn digest(&self) -> Result<Digest, StrictError> {
        digest::of_json(&json!(self))
    }

    /// What an attempt of it runs, within these limits of where it may go.
    pub fn launch(&self, limits: Vec<Vec<EgressLimit>>) -> Launch {
        Launch {
            skill: self.skill.name.clone(),
            contract: self.skill.spec.clone(),
            input: self.input.clone(),
            image: self.image.clone(),
            timeout_seconds: self.timeout_seconds,
            limits,
            secrets: self.secrets.clone(),
            workspace: self.workspace.clone(),
            payment: self.payment.clone(),
        }
    }

    /// How `now` differs from this one, member by member, by the innermost member that does.
    pub fn differences(&self, now: &Binding) -> Vec<Difference> {
        difference::all(&json!(self), &json!(now))
    }

    /// The same without what is another one in every run.
    pub fn differences_between_runs(&self, now: &Binding) -> Vec<Difference> {
        difference::between_runs(&json!(self), &json!(now))
    }
}

#[cfg(test)]
mod tests;
