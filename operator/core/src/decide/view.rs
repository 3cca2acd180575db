//! What every stage sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_crds::Step;
use jiff::Timestamp;
use serde_json::Value;

use super::{Bench, Config};
use crate::judge::{Case, Judgement};
use crate::observed::Observed;
use crate::record::{StepOutcome, TaskRecord};

pub(super) struct View<'a> {
    pub now: Timestamp,
    pub config: &'a Config,
    pub observed: &'a Observed,
    pub bench: &'a Bench<'a>,
}

impl View<'_> {
    /// Judges a step as its attempt `number`; `None` where there is no Task or Plan to judge it by.
    pub fn judge(&self, record: &TaskRecord, step: &Step, number: u32) -> Option<Judgement> {
        let task = self.observed.task.as_ref()?;
        let plan = record.plan.as_ref()?;
        let has_output = |name: &str| record.steps.get(name).is_some_and(|step| step.state == StepOutcome::Succeeded);
        let outputs: &BTreeMap<String, Arc<Value>> = &self.observed.outputs;
        Some(self.bench.judge.judge(&Case {
            task,
            plan,
            request: &record.request,
            step,
            attempt: number,
            outputs,
            finished: &has_output,
            skills: &self.observed.skills,
            agent: self.observed.agent.as_ref(),
            policies: &self.observed.policies,
            runner_image: &self.config.runner_image,
        }))
    }

    /// Whether the Task or its Agent is paused.
    pub fn suspended(&self) -> bool {
        let task = self.observed.task.as_ref().is_some_and(|task| task.spec.suspend);
        task || self.observed.agent.as_ref().is_some_and(|agent| agent.suspend)
    }
}
