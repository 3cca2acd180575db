//! Between the core's types and PostgreSQL's. Enums are stored under their own names.

use std::str::FromStr;

use countersign_core::digest::Digest;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::StoreError;

/// Microseconds since 1970, which is what PostgreSQL keeps.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(crate) fn timestamp(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|error| StoreError::Corrupt(error.into()))
}

pub(crate) fn digest(text: &str) -> Result<Digest, StoreError> {
    Digest::from_str(text).map_err(|error| StoreError::Corrupt(format!("{text:?}: {error}").into()))
}

pub(crate) fn count(number: i32) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|error| StoreError::Corrupt(error.into()))
}

/// Of an error that is kept.
const ERROR_CHARACTERS: usize = 1024;

/// An error as it is kept: PostgreSQL keeps no zero characters in text.
pub(crate) fn kept_error(why: &str) -> String {
    why.chars().filter(|c| *c != '\0').take(ERROR_CHARACTERS).collect()
}

/// A unit variant by its name.
pub(crate) fn named<T: Serialize>(value: &T) -> Result<String, StoreError> {
    match json(value)? {
        Value::String(name) => Ok(name),
        other => Err(StoreError::Corrupt(format!("{other} is not a name").into())),
    }
}

pub(crate) fn from_name<T: DeserializeOwned>(name: &str) -> Result<T, StoreError> {
    from_json(Value::String(name.to_owned()))
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Value, StoreError> {
    serde_json::to_value(value).map_err(|error| StoreError::Corrupt(error.into()))
}

pub(crate) fn from_json<T: DeserializeOwned>(value: Value) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::Corrupt(error.into()))
}

pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Value, StoreError> {
    countersign_core::json::strict::parse(bytes).map_err(|error| StoreError::Corrupt(error.into()))
}
