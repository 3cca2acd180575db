//! A simulated world with faults that drives the core through its invariants.
//!
//! A world is one Task with a random Plan, an API server, a Job controller, a kubelet, people, a record,
//! and one or two operators whose views lag behind. Everything that happens is drawn from one seed, so that
//! a seed replays a world exactly.

mod actors;
mod again;
mod check;
mod draw;
mod explore;
mod money;
mod operator;
mod runs;
mod table;
mod twin;
mod world;

pub use again::{Repeats, again};
pub use check::Violation;
pub use explore::{Explored, Small, explore};
pub use operator::Defect;
pub use twin::{Twins, twins};

use draw::Draw;
use operator::Operator;
use world::World;

/// What happened in a world, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub steps: u64,
    pub commits: u64,
    pub conflicts: u64,
    pub crashes: u64,
    pub admissions: u64,
    pub duplicate_pods: u64,
    pub reserved: u64,
    pub deferred: u64,
    pub outbid: u64,
    pub completed: u64,
}

/// How many things happen while faults may.
const TROUBLED: u64 = 160;
/// How many quiet rounds a Task may need to come to its end.
const QUIET: u64 = 400;

/// Runs the world of one seed to its end, or to the first thing that must not be.
pub fn run(seed: u64, defect: Option<Defect>, verbose: bool) -> Result<Tally, Violation> {
    let mut draw = Draw::new(seed);
    let mut world = World::new(&mut draw, verbose);
    let mut operators = [Operator::new(defect), Operator::new(defect)];
    for _ in 0..draw.below(TROUBLED) {
        trouble(&mut world, &mut operators, &mut draw)?;
        check::check(&mut world)?;
    }
    settle(&mut world, &mut operators[0], &mut draw)?;
    Ok(world.tally)
}

/// One thing that happens while faults may.
fn trouble(world: &mut World, operators: &mut [Operator; 2], draw: &mut Draw) -> Result<(), Violation> {
    world.tally.steps += 1;
    match draw.below(20) {
        0..=6 => operators[0].step(world, draw)?,
        7..=8 if world.two_leaders => operators[1].step(world, draw)?,
        7..=10 => actors::job_controller(world, draw),
        11..=13 => actors::kubelet(world, draw)?,
        14..=15 => actors::people(world, draw),
        16 if draw.one_in(2) => money::others(world, draw),
        16 => actors::vandal(world, draw),
        17 => world.pass_time(draw),
        18 => {
            let which = usize::from(world.two_leaders && draw.one_in(2));
            operators[which].crash(world);
        }
        _ => world.toggle_faults(draw),
    }
    Ok(())
}

/// Without faults and with willing people every Task comes to its end, and then nothing is left to do.
fn settle(world: &mut World, operator: &mut Operator, draw: &mut Draw) -> Result<(), Violation> {
    world.end_faults();
    operator.crash(world);
    for round in 0..QUIET {
        world.tally.steps += 1;
        // Only when something that it watches changed, or when it said that it would.
        if operator.is_woken(world) {
            operator.look_fresh(world)?;
        }
        check::check(world)?;
        let over = world.record.as_ref().is_none_or(|record| record.finished.is_some());
        if over && operator.idle_when_fresh(world)? {
            world.tally.completed += u64::from(world.completed());
            return Ok(());
        }
        actors::all_do_their_part(world, draw)?;
        if !operator.is_woken(world) && !world.moves() {
            wait(world, operator)?;
        }
        world.advance(1 + round / 20);
        if round % 10 == 9 {
            money::next_window(world);
        }
    }
    Err(Violation::new("the Task does not come to its end, or something is done again and again"))
}

/// Nothing moves but time: it goes on to the instant at which the operator said that it would look again. Where it said
/// none, it waits for something that nobody will tell it of.
fn wait(world: &mut World, operator: &Operator) -> Result<(), Violation> {
    let Some(at) = operator.requeue() else {
        let blocked = operator.blocked();
        return Err(Violation::new(format!("nobody will look again, and the Task is not over: {blocked:?}")));
    };
    world.now = world.now.max(at);
    Ok(())
}
