//! Settings, from the environment. Each is read and checked once, and an error names the variable and the fix.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use thiserror::Error;

#[derive(Debug, PartialEq, Eq, Error)]
#[error("{variable}: {problem}")]
pub struct SettingError {
    variable: String,
    problem: String,
}

pub fn wrong(variable: &str, problem: impl Into<String>) -> SettingError {
    SettingError { variable: variable.to_owned(), problem: problem.into() }
}

/// Shows itself in no log.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where settings come from: `std::env::var` outside tests. What is empty is not set.
pub struct Source<'a>(pub &'a dyn Fn(&str) -> Option<String>);

impl Source<'_> {
    pub fn optional(&self, variable: &str) -> Option<String> {
        (self.0)(variable).filter(|value| !value.is_empty())
    }

    pub fn required(&self, variable: &str, fix: &str) -> Result<String, SettingError> {
        self.optional(variable).ok_or_else(|| wrong(variable, format!("is not set; {fix}")))
    }

    pub fn database_url(&self, variable: &str) -> Result<Secret, SettingError> {
        let url = self.required(variable, "set it to postgres://USER:PASSWORD@HOST:PORT/DATABASE")?;
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Secret(url));
        }
        Err(wrong(variable, "is not a PostgreSQL URL; it begins with postgres://"))
    }

    pub fn number<T>(&self, variable: &str, default: T, range: RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.optional(variable) else { return Ok(default) };
        match text.parse::<T>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(wrong(
                variable,
                format!("{text:?} is not a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    pub fn flag(&self, variable: &str, default: bool) -> Result<bool, SettingError> {
        match self.optional(variable).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(wrong(variable, format!("{other:?} is neither true nor false"))),
        }
    }
}
