//! The one word for "not now": what every stage answers where it can neither go on nor conclude anything.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::cel::EvalError;

/// Why something does not go on now although nothing is wrong with it. Status, Events, the next reconciliation and the
/// places that `parallelism` has are read off it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Which of the closed set of reasons it is.
    pub reason: BlockedReason,
    /// What it waits for and what ends that, in one sentence.
    pub message: String,
    /// When time alone may end it; `None` where only something that happens does.
    pub until: Option<Timestamp>,
}

/// The closed set of reasons, by their names in status and Events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockedReason {
    /// The same request still runs as another Task, which is gone; or the Task carries the mark of a run that goes on.
    EarlierRun,
    /// `planRef` names a Plan that is not there.
    PlanNotFound,
    /// Several templates carry the Task's type, or `planRef` names a Task's own copy.
    PlanAmbiguous,
    /// `agentRef` names an Agent that is not there.
    AgentNotFound,
    /// Several Agents claim its requester.
    AgentAmbiguous,
    /// It names another Agent than the one that its requester acts as.
    AgentMismatch,
    /// The Skill of a step, or one that it is downgraded to, is not there.
    SkillNotInstalled,
    /// A Secret is not there, or was not given to the broker.
    SecretNotFound,
    /// A Secret was changed just now, and the brokers do not agree yet on what is in it.
    SecretChanging,
    /// A Skill needs the broker, and the chart installed none.
    BrokerNotInstalled,
    /// A Skill pays on a network that the signer was not given.
    PaymentNetworkNotConfigured,
    /// An expression was not evaluated for the load of the machine, or for want of time after another.
    EvaluatorBusy,
    /// An expression was evaluated, and not finished within its time: for the load of the machine, or because it never
    /// is.
    EvaluatorTimedOut,
    /// Outputs of these finished steps are needed and were not loaded.
    OutputNotLoaded(BTreeSet<String>),
    /// Its price does not fit what its budget has left now.
    Deferred,
    /// The Task or its Agent is paused.
    Suspended,
    /// Nobody has tried yet whether the namespace's network is closed.
    NetworkNotTried,
    /// The namespace's network is open, and has to be closed.
    NetworkOpen,
    /// What keeps signatures from being forged is missing or was altered.
    GuardBroken,
    /// People have not signed for it yet.
    WaitingApproval,
    /// The pause before it is tried again.
    Retrying,
    /// As many attempts run as the Plan allows at once.
    ParallelismReached,
    /// Its Job has no pod yet.
    PodPending,
    /// Its pod was not yet held against what was decided.
    PodUnchecked,
}

/// How it is noticed that what blocked is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noticed {
    /// At the next reconciliation, which follows at once with what this one lacked.
    AtOnce,
    /// Nothing tells: it is asked again after so long.
    Asked(SignedDuration),
    /// What ends it is watched, or is a change of this very record.
    Watched,
    /// At the instant that [`Blocked::until`] says, or by what is watched.
    Until,
}

impl BlockedReason {
    /// One of every kind, for those who tell of all of them.
    pub const ALL: [BlockedReason; 24] = [
        BlockedReason::EarlierRun,
        BlockedReason::PlanNotFound,
        BlockedReason::PlanAmbiguous,
        BlockedReason::AgentNotFound,
        BlockedReason::AgentAmbiguous,
        BlockedReason::AgentMismatch,
        BlockedReason::SkillNotInstalled,
        BlockedReason::SecretNotFound,
        BlockedReason::SecretChanging,
        BlockedReason::BrokerNotInstalled,
        BlockedReason::PaymentNetworkNotConfigured,
        BlockedReason::EvaluatorBusy,
        BlockedReason::EvaluatorTimedOut,
        BlockedReason::OutputNotLoaded(BTreeSet::new()),
        BlockedReason::Deferred,
        BlockedReason::Suspended,
        BlockedReason::NetworkNotTried,
        BlockedReason::NetworkOpen,
        BlockedReason::GuardBroken,
        BlockedReason::WaitingApproval,
        BlockedReason::Retrying,
        BlockedReason::ParallelismReached,
        BlockedReason::PodPending,
        BlockedReason::PodUnchecked,
    ];

    /// The name in status and Events.
    pub fn as_str(&self) -> &'static str {
        match self {
            BlockedReason::EarlierRun => "EarlierRun",
            BlockedReason::PlanNotFound => "PlanNotFound",
            BlockedReason::PlanAmbiguous => "PlanAmbiguous",
            BlockedReason::AgentNotFound => "AgentNotFound",
            BlockedReason::AgentAmbiguous => "AgentAmbiguous",
            BlockedReason::AgentMismatch => "AgentMismatch",
            BlockedReason::SkillNotInstalled => "SkillNotInstalled",
            BlockedReason::SecretNotFound => "SecretNotFound",
            BlockedReason::SecretChanging => "SecretChanging",
            BlockedReason::BrokerNotInstalled => "BrokerNotInstalled",
            BlockedReason::PaymentNetworkNotConfigured => "PaymentNetworkNotConfigured",
            BlockedReason::EvaluatorBusy => "EvaluatorBusy",
            BlockedReason::EvaluatorTimedOut => "EvaluatorTimedOut",
            BlockedReason::OutputNotLoaded(_) => "OutputNotLoaded",
            BlockedReason::Deferred => "Deferred",
            BlockedReason::Suspended => "Suspended",
            BlockedReason::NetworkNotTried => "NetworkNotTried",
            BlockedReason::NetworkOpen => "NetworkOpen",
            BlockedReason::GuardBroken => "GuardBroken",
            BlockedReason::WaitingApproval => "WaitingApproval",
            BlockedReason::Retrying => "Retrying",
            BlockedReason::ParallelismReached => "ParallelismReached",
            BlockedReason::PodPending => "PodPending",
            BlockedReason::PodUnchecked => "PodUnchecked",
        }
    }

    /// Whether the cause is the load of the machine or the age of a view: over in a moment, whatever anybody does.
    pub fn is_transient(&self) -> bool {
        match self {
            BlockedReason::EvaluatorBusy
            | BlockedReason::EvaluatorTimedOut
            | BlockedReason::OutputNotLoaded(_)
            | BlockedReason::PodUnchecked => true,
            BlockedReason::EarlierRun
            | BlockedReason::PlanNotFound
            | BlockedReason::PlanAmbiguous
            | BlockedReason::AgentNotFound
            | BlockedReason::AgentAmbiguous
            | BlockedReason::AgentMismatch
            | BlockedReason::SkillNotInstalled
            | BlockedReason::SecretNotFound
            | BlockedReason::BrokerNotInstalled
            | BlockedReason::PaymentNetworkNotConfigured
            | BlockedReason::Deferred
            | BlockedReason::SecretChanging
            | BlockedReason::Suspended
            | BlockedReason::NetworkNotTried
            | BlockedReason::NetworkOpen
            | BlockedReason::GuardBroken
            | BlockedReason::WaitingApproval
            | BlockedReason::Retrying
            | BlockedReason::ParallelismReached
            | BlockedReason::PodPending => false,
        }
    }

    /// Whether an attempt that is blocked so keeps its place among those that may run at once: it does where the place
    /// would hardly have been given away before it is wanted back.
    pub fn holds_a_slot(&self) -> bool {
        self.is_transient() || *self == BlockedReason::PodPending
    }

    /// Whether something is not there that somebody can still install or name.
    pub fn is_missing(&self) -> bool {
        match self {
            BlockedReason::PlanNotFound
            | BlockedReason::PlanAmbiguous
            | BlockedReason::AgentNotFound
            | BlockedReason::AgentAmbiguous
            | BlockedReason::AgentMismatch
            | BlockedReason::SkillNotInstalled
            | BlockedReason::SecretNotFound
            | BlockedReason::BrokerNotInstalled
            | BlockedReason::PaymentNetworkNotConfigured => true,
            BlockedReason::EarlierRun
            | BlockedReason::EvaluatorBusy
            | BlockedReason::EvaluatorTimedOut
            | BlockedReason::OutputNotLoaded(_)
            | BlockedReason::Deferred
            | BlockedReason::SecretChanging
            | BlockedReason::Suspended
            | BlockedReason::NetworkNotTried
            | BlockedReason::NetworkOpen
            | BlockedReason::GuardBroken
            | BlockedReason::WaitingApproval
            | BlockedReason::Retrying
            | BlockedReason::ParallelismReached
            | BlockedReason::PodPending
            | BlockedReason::PodUnchecked => false,
        }
    }

    /// Whether an Event tells of it: not of what is over in a moment, and not of the ordinary course of a Plan.
    pub fn is_told(&self) -> bool {
        match self {
            BlockedReason::WaitingApproval
            | BlockedReason::Retrying
            | BlockedReason::ParallelismReached
            | BlockedReason::PodPending
            | BlockedReason::NetworkNotTried => false,
            BlockedReason::EvaluatorBusy
            | BlockedReason::EvaluatorTimedOut
            | BlockedReason::OutputNotLoaded(_)
            | BlockedReason::SecretChanging
            | BlockedReason::PodUnchecked => false,
            BlockedReason::PlanNotFound
            | BlockedReason::PlanAmbiguous
            | BlockedReason::AgentNotFound
            | BlockedReason::SkillNotInstalled
            | BlockedReason::SecretNotFound
            | BlockedReason::BrokerNotInstalled
            | BlockedReason::PaymentNetworkNotConfigured
            | BlockedReason::Deferred
            | BlockedReason::Suspended
            | BlockedReason::AgentAmbiguous
            | BlockedReason::AgentMismatch
            | BlockedReason::EarlierRun
            | BlockedReason::NetworkOpen
            | BlockedReason::GuardBroken => true,
        }
    }

    /// What it is that ends by name once it has lasted for too long.
    pub(crate) fn lasting(&self) -> Option<Lasting> {
        match self {
            BlockedReason::EvaluatorTimedOut => Some(Lasting::TooSlow),
            reason => reason.is_missing().then_some(Lasting::Missing),
        }
    }

    fn noticed(&self) -> Noticed {
        match self {
            BlockedReason::OutputNotLoaded(_) => Noticed::AtOnce,
            BlockedReason::EvaluatorBusy | BlockedReason::EvaluatorTimedOut | BlockedReason::PodUnchecked => {
                Noticed::Asked(SignedDuration::from_secs(1))
            }
            // Whatever becomes of another Task is told to that one.
            BlockedReason::EarlierRun => Noticed::Asked(SignedDuration::from_secs(1)),
            // Asked of the API server itself, for every Task that waits for it.
            BlockedReason::GuardBroken => Noticed::Asked(SignedDuration::from_secs(2)),
            // What a canary found out is told to every Task as well.
            BlockedReason::NetworkNotTried | BlockedReason::NetworkOpen => Noticed::Asked(SignedDuration::from_secs(5)),
            // Other Tasks may have left something of what they held.
            BlockedReason::Deferred => Noticed::Asked(SignedDuration::from_secs(15)),
            // The kubelet gives it to one broker after the other; what they tell is looked at every two seconds.
            BlockedReason::SecretChanging => Noticed::Asked(SignedDuration::from_secs(2)),
            // A watch usually says so earlier; not every namespace is watched for everything.
            BlockedReason::PlanNotFound
            | BlockedReason::PlanAmbiguous
            | BlockedReason::AgentNotFound
            | BlockedReason::AgentAmbiguous
            | BlockedReason::AgentMismatch
            | BlockedReason::SkillNotInstalled
            | BlockedReason::SecretNotFound
            | BlockedReason::BrokerNotInstalled
            | BlockedReason::PaymentNetworkNotConfigured => Noticed::Asked(MOST_BETWEEN),
            BlockedReason::Suspended | BlockedReason::ParallelismReached => Noticed::Watched,
            BlockedReason::WaitingApproval | BlockedReason::Retrying | BlockedReason::PodPending => Noticed::Until,
        }
    }
}

/// The longest that anything missing is not asked for.
const MOST_BETWEEN: SignedDuration = SignedDuration::from_secs(60);
/// The shortest pause between two times that it is asked for.
const LEAST_BETWEEN: SignedDuration = SignedDuration::from_secs(1);

impl Blocked {
    /// Blocked until something happens.
    pub fn new(reason: BlockedReason, message: impl Into<String>) -> Blocked {
        Blocked { reason, message: message.into(), until: None }
    }

    /// By an expression that was not evaluated, of which nothing may be concluded.
    pub fn evaluation(what: &str, error: Option<&EvalError>, said: &dyn std::fmt::Display) -> Blocked {
        let timed_out = error.is_some_and(EvalError::timed_out);
        let reason = if timed_out { BlockedReason::EvaluatorTimedOut } else { BlockedReason::EvaluatorBusy };
        Blocked::new(reason, format!("{what} cannot be evaluated at this moment: {said}"))
    }

    /// The same, and at this instant at the latest it is asked again.
    pub fn until(self, at: Timestamp) -> Blocked {
        Blocked { until: Some(self.until.map_or(at, |until| until.min(at))), ..self }
    }

    /// What has been missing since then, and may be until `deadline`: asked for less and less often.
    pub fn missing_since(self, since: Timestamp, deadline: Timestamp, now: Timestamp) -> Blocked {
        let waited = now.duration_since(since);
        let pause = (waited / 2).clamp(LEAST_BETWEEN, MOST_BETWEEN);
        self.until((now + pause).min(deadline))
    }

    /// When to look again although nothing is seen to change; `None` where what ends it is watched.
    pub fn requeue(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = match self.reason.noticed() {
            Noticed::AtOnce => Some(now),
            Noticed::Asked(pause) => Some(now + pause),
            Noticed::Watched | Noticed::Until => None,
        };
        self.until.into_iter().chain(asked).min()
    }

    /// Whether it is sure to be noticed that it is over.
    pub fn is_noticed(&self) -> bool {
        match self.reason.noticed() {
            Noticed::AtOnce | Noticed::Asked(_) | Noticed::Watched => true,
            Noticed::Until => self.until.is_some(),
        }
    }
}

/// What may last for a while, and then ends by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// Something is not there.
    Missing,
    /// An expression takes more than its time.
    TooSlow,
}

/// Since when something has lasted, without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// What has lasted.
    pub what: Lasting,
    /// When it was first seen.
    pub at: Timestamp,
}

/// By step, and by [`PLAN`].
pub type Lasts = BTreeMap<String, Since>;

/// Stands for the Plan where steps stand by their names, which are never empty.
pub const PLAN: &str = "";

/// All that is blocked of one Task, after one reconciliation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockedReasons {
    /// The Plan snapshot cannot be taken yet.
    pub planning: Option<Blocked>,
    /// By step: those whose turn it would be, and attempts that wait to be let in. A step that waits for another one, or
    /// that no place was free for, is not here.
    pub steps: BTreeMap<String, Blocked>,
}

impl BlockedReasons {
    /// Says that a step is blocked.
    pub fn block(&mut self, step: &str, blocked: Blocked) {
        self.steps.insert(step.to_owned(), blocked);
    }

    /// Why a step does not go on, where it was its turn.
    pub fn of(&self, step: &str) -> Option<&Blocked> {
        self.steps.get(step)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Blocked> {
        self.planning.iter().chain(self.steps.values())
    }

    /// What ends by name once it has lasted for too long: since when, as known before, or since now. What is missing
    /// for the Plan counts from its Task's adoption, and is not among it.
    pub fn lasts(&self, known: &Lasts, now: Timestamp) -> Lasts {
        let planning =
            self.planning.iter().filter(|blocked| !blocked.reason.is_missing()).map(|blocked| (PLAN, blocked));
        let steps = self.steps.iter().map(|(step, blocked)| (step.as_str(), blocked));
        let since = |(of, blocked): (&str, &Blocked)| {
            let before = |what: Lasting| known.get(of).copied().filter(|since| since.what == what);
            let since = match blocked.reason.lasting() {
                Some(what) => before(what).unwrap_or(Since { what, at: now }),
                // Not tried is not in time either.
                None if blocked.reason == BlockedReason::EvaluatorBusy => before(Lasting::TooSlow)?,
                None => return None,
            };
            Some((of.to_owned(), since))
        };
        planning.chain(steps).filter_map(since).collect()
    }

    /// The finished steps whose outputs were needed and not there.
    pub fn outputs_needed(&self) -> BTreeSet<String> {
        let mut needed = BTreeSet::new();
        for blocked in self.all() {
            if let BlockedReason::OutputNotLoaded(steps) = &blocked.reason {
                needed.extend(steps.iter().cloned());
            }
        }
        needed
    }

    /// Whether the evaluator had no time for something of this Task, so that the rest is not asked of it now, and what
    /// is said of the rest.
    pub fn evaluator_busy(&self) -> Option<Blocked> {
        let busy = |blocked: &&Blocked| {
            [BlockedReason::EvaluatorBusy, BlockedReason::EvaluatorTimedOut].contains(&blocked.reason)
        };
        let found = self.all().find(busy)?;
        Some(Blocked { reason: BlockedReason::EvaluatorBusy, ..found.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_fit_an_event() {
        let names: BTreeSet<&str> = BlockedReason::ALL.iter().map(BlockedReason::as_str).collect();
        assert_eq!(names.len(), BlockedReason::ALL.len());
        let camel =
            |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric()) && name.starts_with(char::is_uppercase);
        assert!(names.iter().all(|name| camel(name)), "{names:?}");
    }

    #[test]
    fn everything_that_blocks_is_noticed_when_it_is_over() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let later = now + SignedDuration::from_hours(1);
        for reason in BlockedReason::ALL {
            let forever = Blocked::new(reason.clone(), "");
            let timed = forever.clone().until(later);
            assert!(timed.is_noticed() && timed.requeue(now).is_some_and(|at| at <= later), "{reason:?}");
            // What is over in a moment is asked again in a moment.
            if reason.is_transient() {
                let soon = forever.requeue(now).unwrap();
                assert!(soon <= now + SignedDuration::from_secs(1), "{reason:?}: {soon}");
            }
            // What nothing tells of is asked for in any case.
            if reason.is_missing() {
                assert!(forever.requeue(now).is_some(), "{reason:?}");
                assert!(!reason.is_transient() && !reason.holds_a_slot(), "{reason:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_asked_for_less_and_less_often_until_its_deadline() {
        let since: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let deadline = since + SignedDuration::from_mins(10);
        let mut now = since;
        let mut pauses = Vec::new();
        while now < deadline {
            let blocked = Blocked::new(BlockedReason::SecretNotFound, "").missing_since(since, deadline, now);
            let next = blocked.requeue(now).unwrap();
            assert!(next > now && next <= deadline, "{next}");
            pauses.push(next.duration_since(now).as_secs());
            now = next;
        }
        assert_eq!(&pauses[..5], [1, 1, 1, 1, 2], "{pauses:?}");
        assert!(pauses.len() < 40 && pauses.contains(&60), "{pauses:?}");
    }
}
