//! Every state that a small world can reach, not a sample of them: breadth first over all that may happen
//! next, with the operator's effects taken one at a time and lost at any point.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use countersign_core::observed::PodState;

use crate::check::{self, Violation};
use crate::draw::Draw;
use crate::operator::Operator;
use crate::world::World;
use crate::{Defect, actors};

/// What was explored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explored {
    pub states: usize,
    pub transitions: usize,
    pub deepest: usize,
}

/// Which small world.
#[derive(Clone, Copy, Debug)]
pub enum Small {
    /// One step that needs a signature.
    Signed,
    /// Two steps side by side that two people sign for as one.
    Together,
    /// Two steps in a row; the first may be tried twice, the second needs a signature.
    Chain,
    /// One step, whose pod may fail, be deleted, or be cancelled.
    Harm,
    /// Two steps side by side that may be tried twice, and money for one and a half of them.
    Paid,
    /// One step that needs a signature, in a world that holds it up in every way that there is: an evaluator without
    /// time, a guard that is gone, a Skill that is not installed, a Task that is suspended or being deleted.
    Held,
    /// One step, two operators that both lead, and a Job controller that makes a second pod.
    Duel,
}

/// How many moves of all may lead from any state to its end, or to a person.
const MOST_MOVES: usize = 300;

#[derive(Clone)]
struct State {
    world: World,
    operators: [Operator; 2],
    /// Whether it matters when they look again.
    watchful: bool,
    /// Instants are few: what happens happens at one of them.
    hours: u8,
    deletions: u8,
    depth: usize,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The next effect in hand, or a reconciliation: with a true view, or with the one it had.
    Operator {
        which: usize,
        fresh: bool,
    },
    Crash {
        which: usize,
    },
    JobController,
    SecondPod,
    Start,
    End {
        status: Option<&'static str>,
    },
    Sign {
        approved: bool,
    },
    /// Once, and then what was signed for is no longer what would run.
    EditSkill,
    DeletePod,
    Cancel,
    Hours,
    Busy,
    BreakGuard,
    Suspend,
    TakeSkill,
    /// Somebody's finalizer keeps the object.
    Delete,
}

impl Small {
    /// What may happen in it. Each world leaves out what another has, so that all of it can be seen.
    fn events(self) -> Vec<Event> {
        let operator = |which| [Event::Operator { which, fresh: true }, Event::Operator { which, fresh: false }];
        let run = [Event::JobController, Event::Start, Event::End { status: Some("Succeeded") }];
        let mut events: Vec<Event> = operator(0).into_iter().chain([Event::Crash { which: 0 }]).chain(run).collect();
        match self {
            Small::Signed => {
                let people = [Event::Sign { approved: true }, Event::Sign { approved: false }, Event::Hours];
                events.extend(people);
            }
            Small::Together => events.extend([Event::Sign { approved: true }, Event::EditSkill]),
            Small::Chain => events.extend([Event::End { status: None }, Event::Sign { approved: true }]),
            Small::Harm => events.extend([Event::End { status: None }, Event::DeletePod, Event::Cancel]),
            Small::Held => {
                events = operator(0).into_iter().take(1).chain(run).chain([Event::Sign { approved: true }]).collect();
                events.extend([Event::Busy, Event::BreakGuard, Event::Suspend, Event::TakeSkill, Event::Delete]);
            }
            Small::Paid => events.push(Event::End { status: None }),
            Small::Duel => events.extend(operator(1).into_iter().chain([Event::SecondPod])),
        }
        events
    }
}

/// Explores until nothing new is found. More states than `limit` are too many to say so.
pub fn explore(small: Small, limit: usize, defect: Option<Defect>) -> Result<Explored, Violation> {
    let world = World::small(small);
    let events = small.events();
    let operators = [Operator::new(defect), Operator::new(defect)];
    let watchful = matches!(small, Small::Held);
    let start = State { world, operators, watchful, hours: 0, deletions: 0, depth: 0 };
    let mut seen = HashSet::from([start.key()]);
    let mut queue = VecDeque::from([start]);
    let mut explored = Explored::default();
    while let Some(state) = queue.pop_front() {
        explored.states += 1;
        explored.deepest = explored.deepest.max(state.depth);
        state.settles()?;
        if state.watchful {
            state.leads_on()?;
        }
        if seen.len() > limit {
            return Err(Violation::new(format!("more than {limit} states: {explored:?}")));
        }
        for &event in &events {
            let mut next = state.clone();
            if !next.happen(event)? {
                continue;
            }
            check::check(&mut next.world)?;
            explored.transitions += 1;
            next.depth += 1;
            if seen.insert(next.key()) {
                queue.push_back(next);
            }
        }
    }
    Ok(explored)
}

impl State {
    /// What tells states apart; how they came about does not.
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let World { now, record, api, signatures, ran, ledger, .. } = &self.world;
        let record = record.clone().map(|record| countersign_core::record::TaskRecord { version: 0, ..record });
        let hands = self.operators.each_ref().map(|operator| operator.describe(self.watchful));
        let held = (self.world.evaluator_busy, self.world.guard_broken, &self.world.uninstalled);
        format!(
            "{now} {record:?} {api:?} {signatures:?} {ran:?} {ledger:?} {hands:?} {held:?} {} {}",
            self.hours, self.deletions
        )
        .hash(&mut hasher);
        hasher.finish()
    }

    /// From here, if nothing else happens, a few looks lead to a state in which a reconciliation finds nothing to do.
    fn settles(&self) -> Result<(), Violation> {
        let mut state = self.clone();
        state.operators[0].crash(&mut state.world);
        for _ in 0..4 {
            state.operators[0].look_fresh(&mut state.world)?;
            if state.operators[0].idle_when_fresh(&mut state.world)? {
                return Ok(());
            }
        }
        Err(Violation::new("four looks in a row each found something to do"))
    }

    /// From here, if the evaluator has time again and nobody says so, the Task comes to its end or to a person: no
    /// reconciliation is lost. What people hold up they hold up for ever; what is missing stays missing.
    fn leads_on(&self) -> Result<(), Violation> {
        let mut state = self.clone();
        let State { world, operators: [operator, _], .. } = &mut state;
        world.evaluator_busy = false;
        for _ in 0..MOST_MOVES {
            if world.record.as_ref().is_some_and(|record| record.finished.is_some()) {
                return Ok(());
            }
            if operator.busy() || operator.is_woken(world) {
                if !operator.explore_step(world, true)? && operator.waits_for_people() {
                    return Ok(());
                }
                check::check(world)?;
                continue;
            }
            if operator.waits_for_people() {
                return Ok(());
            }
            let before = world.api.clone();
            actors::job_controller(world, &mut Draw::never());
            actors::kubelet(world, &mut Draw::never())?;
            if world.api != before {
                continue;
            }
            let ends = world.api.pods.values().filter_map(|pod| pod.ends_at).filter(|at| *at > world.now).min();
            let Some(next) = operator.requeue().into_iter().chain(ends).min() else {
                let blocked = operator.blocked();
                return Err(Violation::new(format!("nobody will look again, and the Task is not over: {blocked:?}")));
            };
            world.now = world.now.max(next);
        }
        let blocked = operator.blocked();
        Err(Violation::new(format!("it comes neither to its end nor to a person: {blocked:?}")))
    }

    /// Whether it could happen here.
    fn happen(&mut self, event: Event) -> Result<bool, Violation> {
        let world = &mut self.world;
        match event {
            Event::Operator { which, fresh } => return self.operators[which].explore_step(world, fresh),
            Event::Crash { which } => {
                if !self.operators[which].busy() {
                    return Ok(false);
                }
                self.operators[which].crash(world);
            }
            Event::JobController => actors::job_controller(world, &mut Draw::never()),
            Event::SecondPod => return Ok(actors::second_pod(world)),
            Event::Start => {
                if !world.api.pods.values().any(|pod| matches!(pod.state, PodState::Waiting { .. })) {
                    return Ok(false);
                }
                actors::kubelet(world, &mut Draw::never())?;
            }
            Event::End { status } => return Ok(actors::end_running(world, status)),
            Event::Sign { approved } => return Ok(actors::sign_first(world, approved)),
            Event::EditSkill => {
                let Some(skill) = world.api.skills.get_mut("skill1") else { return Ok(false) };
                if skill.description.as_deref() != Some("both:1") {
                    return Ok(false);
                }
                skill.description = Some("both:2".into());
            }
            Event::DeletePod => {
                let Some(name) = world.api.pods.keys().next().cloned().filter(|_| self.deletions < 1) else {
                    return Ok(false);
                };
                self.deletions += 1;
                world.api.pods.remove(&name);
            }
            Event::Cancel => match &mut world.api.task {
                Some(task) if !task.spec.cancel => task.spec.cancel = true,
                _ => return Ok(false),
            },
            Event::Busy => world.evaluator_busy = !world.evaluator_busy,
            Event::BreakGuard => world.guard_broken = !world.guard_broken,
            Event::TakeSkill => world.toggle_skill(),
            Event::Suspend => match &mut world.api.task {
                Some(task) => task.spec.suspend = !task.spec.suspend,
                None => return Ok(false),
            },
            Event::Delete => match &mut world.api.task {
                Some(task) if !task.deleting => task.deleting = true,
                _ => return Ok(false),
            },
            Event::Hours => {
                if self.hours >= 1 {
                    return Ok(false);
                }
                self.hours += 1;
                world.advance(3600);
            }
        }
        Ok(true)
    }
}
