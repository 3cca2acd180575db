//! Plans: which one a Task runs, and whether it can run at all.

mod graph;
mod order;
mod outputs;
mod select;
mod step;

pub use graph::check_steps;
pub(crate) use order::Order;
pub use outputs::wanted_outputs;
pub(crate) use select::{Chosen, check_schema, choose, source};
pub use select::{Selection, select};
pub use step::CompiledStep;
pub(crate) use step::{Ended, task_value, variables};
