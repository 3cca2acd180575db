//! What may become of a Plan, by its rules alone.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::record::TaskOutcome;
use countersign_crds::{OnFailure, Outcome, Step};

/// What happens to a step when its turn comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Succeeds,
    Fails,
    /// Its pod is gone before it said how it ended.
    Vanishes,
    Denied,
    /// Its `when` is false.
    WhenFalse,
    /// It cannot be judged, ever.
    NotYet,
}

impl Fate {
    /// All in which it comes to an end.
    pub const ALL: [Fate; 5] = [Fate::Succeeds, Fate::Fails, Fate::Vanishes, Fate::Denied, Fate::WhenFalse];

    /// What it ends as when nothing else has a say.
    pub fn alone(self) -> Outcome {
        match self {
            Fate::Succeeds => Outcome::Succeeded,
            Fate::Fails | Fate::NotYet => Outcome::Failed,
            Fate::Vanishes => Outcome::Unknown,
            Fate::Denied => Outcome::Rejected,
            Fate::WhenFalse => Outcome::Skipped,
        }
    }
}

/// How each step ended.
pub type Results = BTreeMap<String, Outcome>;

/// Every way in which a Plan can end, whatever the order in which its pods do.
pub struct Model<'a> {
    steps: &'a [Step],
    pub results: BTreeSet<Results>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Open,
    Runs,
    Ended(Outcome),
}

impl<'a> Model<'a> {
    pub fn of(steps: &'a [Step], fates: &[Fate]) -> Model<'a> {
        let mut model = Model { steps, results: BTreeSet::new() };
        let mut seen = BTreeSet::new();
        let mut open = vec![vec![State::Open; steps.len()]];
        while let Some(states) = open.pop() {
            if !seen.insert(states.clone()) {
                continue;
            }
            let next = model.next(&states, fates);
            if next.is_empty() {
                let ended = |(step, state): (&Step, &State)| match state {
                    State::Ended(outcome) => (step.name.clone(), *outcome),
                    State::Open | State::Runs => panic!("the model is stuck: {steps:?}"),
                };
                model.results.insert(steps.iter().zip(&states).map(ended).collect());
            }
            open.extend(next);
        }
        model
    }

    fn next(&self, states: &[State], fates: &[Fate]) -> Vec<Vec<State>> {
        let place = |name: &str| self.steps.iter().position(|step| step.name == name).unwrap();
        let outcome = |n: usize| match states[n] {
            State::Ended(outcome) => Some(outcome),
            State::Open | State::Runs => None,
        };
        let ordinary = || self.steps.iter().enumerate().filter(|(_, step)| !step.finally).map(|(n, _)| n);
        let lost = ordinary().any(|n| outcome(n).is_some_and(|outcome| harms(&self.steps[n], outcome)));
        let work_is_over = ordinary().all(|n| outcome(n).is_some());
        let mut all = Vec::new();
        for (n, step) in self.steps.iter().enumerate() {
            let mut become_ = |state: State| {
                let mut states = states.to_vec();
                states[n] = state;
                all.push(states);
            };
            let before: Vec<(usize, Vec<Outcome>)> = step
                .needs
                .iter()
                .map(|name| (place(name), vec![Outcome::Succeeded]))
                .chain(step.after.iter().map(|after| (place(&after.step), after.outcomes.clone())))
                .collect();
            match states[n] {
                State::Ended(_) => {}
                State::Runs => become_(State::Ended(fates[n].alone())),
                State::Open if lost && !step.finally => become_(State::Ended(Outcome::Skipped)),
                State::Open if step.finally && !work_is_over => {}
                State::Open if before.iter().any(|(n, _)| outcome(*n).is_none()) => {}
                State::Open if before.iter().any(|(n, on)| !on.contains(&outcome(*n).unwrap())) => {
                    become_(State::Ended(Outcome::Skipped));
                }
                // Several are begun, or judged, at once; what is begun is brought to its end.
                State::Open => become_(State::Runs),
            }
        }
        all
    }

    /// What a Task comes to whose steps ended so.
    pub fn outcome(&self, results: &Results) -> TaskOutcome {
        let of = |finally: bool| {
            let steps = self.steps.iter().filter(move |step| step.finally == finally);
            let harmful: Vec<Outcome> =
                steps.map(|step| (step, results[&step.name])).filter(|(s, o)| harms(s, *o)).map(|(_, o)| o).collect();
            match harmful.as_slice() {
                [] => TaskOutcome::Completed,
                some if some.contains(&Outcome::Rejected) => TaskOutcome::Rejected,
                _ => TaskOutcome::Failed,
            }
        };
        match of(false) {
            TaskOutcome::Completed => of(true),
            other => other,
        }
    }
}

/// Whether a Task cannot complete with a step that ended so.
fn harms(step: &Step, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Succeeded | Outcome::Skipped => false,
        Outcome::Failed => step.on_failure == OnFailure::EndTask,
        Outcome::Rejected | Outcome::Unknown => true,
    }
}
