//! Plans: which one a Task runs, and whether it can run at all.

mod graph;
mod select;
mod step;

pub use graph::check_steps;
pub(crate) use select::check_schema;
pub use select::{Selection, select};
pub use step::CompiledStep;
pub(crate) use step::{task_value, variables};
