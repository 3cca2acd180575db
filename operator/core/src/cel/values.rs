//! JSON to CEL and back.
//!
//! Every JSON number is a `double`, and a `double` that is whole is written as an integer: `1` and `1.0` are one number
//! in JSON, as its canonical form has them, and one value in CEL.

use super::failure::Unrepresentable;
use super::meter;
use super::path::Path;
use crate::json::strict::MAX_SAFE_INTEGER;
use cel::ExecutionError;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::{Map, Number, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The values of the root variables. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variables(BTreeMap<String, Arc<Value>>);

impl Variables {
    /// No variable is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// These variables and one more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Arc<Value>>) -> Self {
        self.insert(name, value);
        self
    }

    /// Sets a variable.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Arc<Value>>) {
        self.0.insert(name.into(), value.into());
    }

    /// The value of a root variable.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).map(Arc::as_ref)
    }
}

/// Root variables by name, as CEL values that borrow from the JSON.
type Roots<'v> = Vec<(String, Box<dyn Val + 'v>)>;

/// The parts of the variables that an expression reads, so that nothing else is converted for it.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// The value as a whole is used.
    whole: bool,
    members: BTreeMap<String, Selection>,
}

impl Selection {
    pub(super) fn of(paths: &BTreeSet<Path>) -> Self {
        let mut selection = Self::default();
        for path in paths {
            let mut at = &mut selection;
            for segment in path.segments() {
                at = at.members.entry(segment.clone()).or_default();
            }
            at.whole = true;
        }
        selection
    }

    /// The selected roots that are set, as CEL values.
    pub(super) fn convert<'v>(&self, variables: &'v Variables) -> Result<Roots<'v>, ExecutionError> {
        self.members
            .iter()
            .filter_map(|(root, below)| {
                let value = variables.get(root)?;
                Some(below.part_of(value).map(|value| (root.clone(), value)))
            })
            .collect()
    }

    fn part_of<'v>(&self, value: &'v Value) -> Result<Box<dyn Val + 'v>, ExecutionError> {
        match value {
            Value::Object(object) if !self.whole => {
                let mut map = HashMap::new();
                for (member, below) in &self.members {
                    if let Some((key, value)) = object.get_key_value(member) {
                        map.insert(CelMapKey::from(key.as_str()), below.part_of(value)?);
                    }
                }
                Ok(Box::new(CelMap::from(map)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                from_json(value)
            }
        }
    }
}

fn from_json<'v>(value: &'v Value) -> Result<Box<dyn Val + 'v>, ExecutionError> {
    meter::charge(VALUE_COST)?;
    Ok(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => from_number(number),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(from_json).collect();
            Box::new(CelList::from(items?))
        }
        Value::Object(members) => {
            let mut map = HashMap::with_capacity(members.len());
            for (key, value) in members {
                meter::charge(VALUE_COST)?;
                map.insert(CelMapKey::from(key.as_str()), from_json(value)?);
            }
            Box::new(CelMap::from(map))
        }
    })
}

/// About the bytes that a converted value takes, and that a member of a map takes beside it; texts are borrowed.
const VALUE_COST: u64 = 64;

/// Safe integers are doubles without loss. Adding zero makes -0 and 0 one, as canonical JSON does.
fn from_number<'v>(number: &Number) -> Box<dyn Val + 'v> {
    Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN) + 0.0))
}

/// The JSON of a result.
pub(super) fn to_json(value: &dyn Val) -> Result<Value, Unrepresentable> {
    if let Some(value) = value.downcast_ref::<CelBool>() {
        Ok(Value::Bool(*value.inner()))
    } else if let Some(text) = value.downcast_ref::<CelString>() {
        Ok(Value::String(text.inner().to_owned()))
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        let int = *int.inner();
        safe(int.unsigned_abs(), int).map(|()| Value::from(int))
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        let uint = *uint.inner();
        safe(uint, uint).map(|()| Value::from(uint))
    } else if let Some(double) = value.downcast_ref::<CelDouble>() {
        let double = *double.inner();
        if double.fract() == 0.0 && double.abs() > MAX_SAFE_INTEGER as f64 {
            return Err(Unrepresentable::UnsafeInteger(double.to_string()));
        }
        if double.fract() == 0.0 {
            return Ok(Value::from(double as i64));
        }
        Number::from_f64(double).map(Value::Number).ok_or(Unrepresentable::NotFinite)
    } else if value.downcast_ref::<CelNull>().is_some() {
        Ok(Value::Null)
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        let items: Result<Vec<_>, _> = list.inner().iter().map(|item| to_json(item.as_ref())).collect();
        items.map(Value::Array)
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        let mut object = Map::new();
        for (key, value) in map.inner() {
            let Some(key) = key.inner().downcast_ref::<CelString>() else {
                let found = key.inner().get_type().name().to_owned();
                return Err(Unrepresentable::Key(found));
            };
            object.insert(key.inner().to_owned(), to_json(value.as_ref())?);
        }
        Ok(Value::Object(object))
    } else {
        Err(Unrepresentable::Type(value.get_type().name().to_owned()))
    }
}

fn safe(magnitude: u64, shown: impl ToString) -> Result<(), Unrepresentable> {
    if magnitude <= MAX_SAFE_INTEGER { Ok(()) } else { Err(Unrepresentable::UnsafeInteger(shown.to_string())) }
}
