//! What every process of Countersign's does alike: it reads its settings from the environment, logs in JSON, says in
//! problem details why there is no answer, tells the time as the record keeps it, pauses between tries, and tells an
//! error with its causes.

pub mod backoff;
pub mod causes;
pub mod clock;
pub mod logs;
pub mod problem;
pub mod settings;
