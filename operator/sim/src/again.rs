//! The same request applied again and again. A place is one namespace and one name: every object that it has had has a world
//! of its own, and all of them share the table of runs.

use countersign_core::observed::TaskView;
use countersign_crds::Identity;
use jiff::Timestamp;

use crate::check::{self, Violation};
use crate::draw::Draw;
use crate::operator::{Defect, Operator};
use crate::runs::Runs;
use crate::world::World;
use crate::{TROUBLED, settle, trouble};

/// What happened in a place, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeats {
    /// Objects that there were.
    pub objects: u64,
    /// Those of which something was launched.
    pub launched: u64,
    /// Those that came with the mark of a run.
    pub restored: u64,
    /// Those that asked for what one before them had asked for already.
    pub repeated: u64,
}

/// What an object asks for; the rest of its request is the same for all of the place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub requester: String,
    pub run_id: Option<String>,
}

pub(crate) struct Object {
    pub uid: String,
    pub asked: Asked,
    /// Of the Task whose mark it came with.
    pub restored: Option<String>,
    pub world: World,
    operators: [Operator; 2],
    /// The object as it was last, marked: what a backup holds of it.
    backup: Option<TaskView>,
}

struct Place {
    /// In which nothing has happened yet, but that its Task was applied.
    first: World,
    objects: Vec<Object>,
    runs: Runs,
    now: Timestamp,
    defect: Option<Defect>,
}

/// Runs the place of one seed to its end, or to the first thing that must not be.
pub fn again(seed: u64, defect: Option<Defect>, verbose: bool) -> Result<Repeats, Violation> {
    let mut draw = Draw::new(seed);
    let first = World::new(&mut draw, verbose);
    let mut place = Place { now: first.now, first, objects: Vec::new(), runs: Runs::default(), defect };
    place.apply(&mut draw);
    for _ in 0..draw.below(4 * TROUBLED) {
        match draw.below(60) {
            0 => place.delete(),
            1..=4 => place.apply(&mut draw),
            // What is there is looked at more often than what is gone.
            5..=49 => place.happen(place.objects.len() - 1, &mut draw)?,
            _ => place.happen(Place::any(place.objects.len(), &mut draw), &mut draw)?,
        }
    }
    for which in 0..place.objects.len() {
        place.within(which, |world, [operator, _]| settle(world, operator, &mut draw))?;
    }
    check::check_ends(&place.objects, &place.runs)?;
    Ok(place.repeats())
}

impl Place {
    fn any(count: usize, draw: &mut Draw) -> usize {
        usize::try_from(draw.below(count as u64)).unwrap_or_default()
    }

    /// Something happens to the object of that number.
    fn happen(&mut self, which: usize, draw: &mut Draw) -> Result<(), Violation> {
        self.within(which, |world, operators| {
            trouble(world, operators, draw)?;
            check::check(world)
        })
    }

    /// The clock and the table of runs are the place's.
    fn within(
        &mut self,
        which: usize,
        happens: impl FnOnce(&mut World, &mut [Operator; 2]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let Some(Object { world, operators, backup, .. }) = self.objects.get_mut(which) else { return Ok(()) };
        world.now = self.now;
        std::mem::swap(&mut world.runs, &mut self.runs);
        let happened = happens(world, operators);
        std::mem::swap(&mut world.runs, &mut self.runs);
        self.now = world.now;
        if let Some(task) = world.api.task.clone().filter(|task| task.mark.is_some()) {
            *backup = Some(task);
        }
        happened?;
        check::check_runs(&self.objects)
    }

    fn delete(&mut self) {
        if let Some(object) = self.objects.last_mut() {
            object.world.say(|| "the Task is deleted".to_owned());
            object.world.api.task = None;
        }
    }

    /// Where there is no object, one is created: the same request, another one, or a backup.
    fn apply(&mut self, draw: &mut Draw) {
        if self.objects.last().is_some_and(|object| object.world.api.task.is_some()) {
            return;
        }
        let Some(task) = self.first.api.task.clone() else { return };
        let (task, restored) = match draw.below(6) {
            0..=1 => (task, None),
            2 => (with_run_id(task, draw), None),
            3 => (asked_by(task, "mallory"), None),
            _ => self.restored(draw).unwrap_or((task, None)),
        };
        let uid = format!("task-{}", self.objects.len());
        let asked = Asked {
            requester: task.spec.requester.as_ref().map_or_else(String::new, |who| who.user.clone()),
            run_id: task.spec.run_id.clone(),
        };
        let mut world = self.first.clone();
        world.say(|| format!("{uid} is created: {asked:?}, restored from {restored:?}"));
        world.api.task = Some(TaskView { uid: uid.clone(), ..task });
        let operators = [Operator::new(self.defect), Operator::new(self.defect)];
        self.objects.push(Object { uid, asked, restored, world, operators, backup: None });
    }

    /// Whatever an object before it was when it was backed up, sometimes edited. Its requester is the webhook's to stamp.
    fn restored(&self, draw: &mut Draw) -> Option<(TaskView, Option<String>)> {
        let backups: Vec<&TaskView> = self.objects.iter().filter_map(|object| object.backup.as_ref()).collect();
        let backup = draw.pick(&backups).copied()?.clone();
        let (_, uid) = backup.mark.as_deref()?.split_once('/')?;
        let (run, uid) = (self.runs.run(uid)?, uid.to_owned());
        let edited = if draw.one_in(2) { with_run_id(backup, draw) } else { backup };
        let fresh = TaskView { deleting: false, conditions: Vec::new(), ..asked_by(edited, &run.key.requester) };
        Some((fresh, Some(uid)))
    }

    fn repeats(&self) -> Repeats {
        let count = |what: &dyn Fn(usize, &Object) -> bool| {
            self.objects.iter().enumerate().filter(|(index, object)| what(*index, object)).count() as u64
        };
        Repeats {
            objects: count(&|_, _| true),
            launched: count(&|_, object| object.world.is_launched()),
            restored: count(&|_, object| object.restored.is_some()),
            repeated: count(&|index, object| self.objects.iter().take(index).any(|other| other.asked == object.asked)),
        }
    }
}

fn with_run_id(mut task: TaskView, draw: &mut Draw) -> TaskView {
    task.spec.run_id = Some(format!("run-{}", draw.below(3)));
    task
}

fn asked_by(mut task: TaskView, user: &str) -> TaskView {
    task.spec.requester = Some(Identity { user: user.to_owned(), uid: None, groups: Vec::new() });
    task
}
