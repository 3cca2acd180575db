//! What every process of Countersign's does alike: it reads its settings from the environment, logs in JSON, and says
//! in problem details why there is no answer.

pub mod logs;
pub mod problem;
pub mod settings;
