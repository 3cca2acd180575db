//! A complaint about something a user wrote: the field, what is wrong with it, and the fix.

use std::fmt;

use crate::json::strict::StrictError;

/// What is wrong with one field of what a user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the field, such as `spec.steps[2].needs[0]`.
    pub field: String,
    /// What is wrong with it, and the fix.
    pub message: String,
}

impl Problem {
    /// A problem of the field at this path.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { field: field.into(), message: message.into() }
    }
}

/// The field is where in the document it is.
impl From<StrictError> for Problem {
    fn from(error: StrictError) -> Problem {
        let text = error.to_string();
        match error.path().map(|path| format!("{path}: ")) {
            Some(field) => Problem::new(field.trim_end_matches(": "), text.trim_start_matches(&field)),
            None => Problem::new("$", text),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Several problems in one line.
pub fn join(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}
