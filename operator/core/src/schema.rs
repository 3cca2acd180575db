//! JSON Schema for the inputs and outputs of skills.
//!
//! Draft 2020-12 unless `$schema` says otherwise. Nothing is fetched: a reference out of the schema
//! is refused. Patterns run on an engine without look-around and back-references, in linear time.

use crate::cel::Pattern;
use crate::digest::Digest;
use crate::json::path::JsonPath;
use crate::json::strict::{self, StrictError};
use crate::kept::Kept;
use jsonschema::paths::Location;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// How many violations a validation tells.
pub const MAX_VIOLATIONS: usize = 5;

/// The longest message, in characters.
const MAX_MESSAGE: usize = 256;

/// The most memory that one compiled pattern may take, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The most memory that all patterns of one schema may take, in bytes.
const MAX_PATTERNS_BYTES: usize = 4 << 20;

/// The most memory that schemas that are kept may take together, in bytes.
const KEPT_BYTES: usize = 64 << 20;

/// About the bytes of a compiled schema for each byte of its text, and how often a pattern is held compiled.
const VALIDATOR_BYTES: usize = 32;
const ENGINES: usize = 3;

/// A compiled schema, kept by the digest of its text. Cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<Validator>);

/// Why a value is no usable schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It holds what strict JSON refuses: an unsafe number, U+0000, or too many levels.
    #[error("not a usable JSON Schema: {0}")]
    Json(#[from] StrictError),
    /// A keyword is wrong at `path` of the schema, or refers to what is not there.
    #[error("not a usable JSON Schema: {path}: {message}")]
    Keyword {
        /// The place in the schema.
        path: JsonPath,
        /// What is wrong there, cut to 256 characters.
        message: String,
    },
}

/// Where a value is not as its schema asks. Messages do not repeat values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The place in the value.
    pub path: JsonPath,
    /// What the schema asks there, such as `"amount" is a required property`.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl Schema {
    /// Compiles a schema: an object, or `true` for anything and `false` for nothing.
    ///
    /// # Errors
    /// It is not a schema of its draft, refers to something outside itself, or has a pattern that the
    /// linear engine does not know or that is too large.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        static KEPT: LazyLock<Kept<Digest, Schema>> = LazyLock::new(|| Kept::new(KEPT_BYTES));
        strict::check(schema)?;
        let text = schema.to_string();
        KEPT.get_or(&Digest::of_bytes(&text), || {
            let patterns = check_patterns(schema)?;
            Ok((Self::compile_anew(schema)?, patterns * ENGINES + text.len() * VALIDATOR_BYTES))
        })
    }

    fn compile_anew(schema: &Value) -> Result<Self, SchemaError> {
        jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
            .build(schema)
            .map(|validator| Self(Arc::new(validator)))
            .map_err(|error| SchemaError::Keyword {
                path: place(error.instance_path(), schema),
                message: shortened(error.to_string()),
            })
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first [`MAX_VIOLATIONS`] violations, at least one.
    pub fn validate(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if self.0.is_valid(value) {
            return Ok(());
        }
        let violations = self.0.iter_errors(value).take(MAX_VIOLATIONS);
        Err(violations
            .map(|error| Violation {
                path: place(error.instance_path(), value),
                message: shortened(error.masked().to_string()),
            })
            .collect())
    }
}

/// The memory that the patterns of a schema take together, in bytes.
fn check_patterns(schema: &Value) -> Result<usize, SchemaError> {
    let mut bytes = 0;
    sum_patterns(schema, &JsonPath::root(), &mut bytes)?;
    Ok(bytes)
}

fn sum_patterns(schema: &Value, path: &JsonPath, bytes: &mut usize) -> Result<(), SchemaError> {
    fn add(pattern: &str, path: &JsonPath, bytes: &mut usize) -> Result<(), SchemaError> {
        // What is no pattern to us may be one to its draft, which says so better.
        *bytes += Pattern::compile(pattern).map_or(0, |compiled| compiled.bytes());
        if *bytes <= MAX_PATTERNS_BYTES {
            return Ok(());
        }
        let message =
            format!("the patterns of the schema take more than {MAX_PATTERNS_BYTES} bytes together; use fewer");
        Err(SchemaError::Keyword { path: path.clone(), message })
    }
    match schema {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| sum_patterns(item, &path.index(index), bytes))
        }
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            let path = path.key(key);
            match (key.as_str(), member) {
                ("pattern", Value::String(pattern)) => add(pattern, &path, bytes)?,
                ("patternProperties", Value::Object(patterns)) => {
                    patterns.keys().try_for_each(|pattern| add(pattern, &path, bytes))?;
                }
                _ => {}
            }
            sum_patterns(member, &path, bytes)
        }),
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// The place that a JSON pointer (RFC 6901) names in a document. Only the document tells whether
/// `0` is an index or a key.
fn place(pointer: &Location, document: &Value) -> JsonPath {
    let mut path = JsonPath::root();
    let mut value = Some(document);
    for token in pointer.as_str().split('/').skip(1) {
        let key = token.replace("~1", "/").replace("~0", "~");
        let index = match value {
            Some(Value::Array(_)) => key.parse().ok(),
            _ => None,
        };
        match index {
            Some(index) => {
                value = value.and_then(|array| array.get::<usize>(index));
                path = path.index(index);
            }
            None => {
                value = value.and_then(|object| object.get(&key));
                path = path.key(key);
            }
        }
    }
    path
}

fn shortened(message: String) -> String {
    if message.chars().count() <= MAX_MESSAGE {
        return message;
    }
    let kept: String = message.chars().take(MAX_MESSAGE).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

    fn compile(schema: Value) -> Schema {
        Schema::compile(&schema).unwrap()
    }

    fn said(schema: &Schema, value: Value) -> Vec<String> {
        let violations = schema.validate(&value).unwrap_err();
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn violations_tell_the_place_and_not_the_value() {
        let schema = compile(json!({
            "type": "object",
            "required": ["amount"],
            "additionalProperties": false,
            "properties": {
                "amount": {"type": "integer", "maximum": 1000},
                "items": {"type": "array", "items": {"properties": {"to": {"pattern": "^0x[0-9a-f]+$"}}}},
                "0": {"type": "object", "properties": {"a/b~c": {"type": "string"}}},
            },
        }));
        assert_eq!(schema.validate(&json!({"amount": 3, "items": [{"to": "0xab"}]})), Ok(()));
        for (value, expected) in [
            (json!({}), r#"$: "amount" is a required property"#),
            (json!({"amount": "secret"}), r#"amount: value is not of type "integer""#),
            (json!({"amount": 5000}), "amount: value is greater than the maximum of 1000"),
            (
                json!({"amount": 1, "items": [{}, {}, {"to": "secret"}]}),
                r#"items[2].to: value does not match "^0x[0-9a-f]+$""#,
            ),
            (json!({"amount": 1, "0": {"a/b~c": 1}}), r#"["0"]["a/b~c"]: value is not of type "string""#),
            (
                json!({"amount": 1, "other": "secret"}),
                "$: Additional properties are not allowed ('other' was unexpected)",
            ),
            (json!(7), r#"$: value is not of type "object""#),
        ] {
            assert_eq!(said(&schema, value), [expected]);
        }
    }

    #[test]
    fn violations_are_bounded() {
        let schema = compile(json!({"items": {"type": "string", "enum": ["x".repeat(10_000)]}}));
        let violations = schema.validate(&json!(vec![0; 10_000])).unwrap_err();
        assert_eq!(violations.len(), MAX_VIOLATIONS);
        assert!(violations.iter().all(|one| one.message.chars().count() <= MAX_MESSAGE + 1));
    }

    #[test]
    fn nothing_is_fetched() {
        for reference in [
            "http://127.0.0.1:1/schema.json",
            "https://example.com/schema.json",
            "file:///etc/hostname",
            "other.json",
            "#/$defs/missing",
        ] {
            let error = Schema::compile(&json!({"$ref": reference})).unwrap_err();
            assert!(matches!(error, SchemaError::Keyword { .. }), "{reference}: {error}");
            let nested = json!({"properties": {"a": {"items": {"$ref": reference}}}});
            assert!(Schema::compile(&nested).is_err(), "{reference}");
        }
        assert!(Schema::compile(&json!({"$schema": "https://example.com/meta"})).is_err());
        let own = compile(json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "number"}}}));
        assert_eq!(own.validate(&json!(1)), Ok(()));
        assert!(own.validate(&json!("1")).is_err());
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let error = Schema::compile(&json!({"properties": {"a": {"type": "strin"}}})).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("not a usable JSON Schema: properties.a.type: "), "{text}");
        for schema in [
            json!([]),
            json!("x"),
            json!({"type": 7}),
            json!({"pattern": "("}),
            json!({"pattern": "(?=a)b"}),
            json!({"pattern": "(a)\\1"}),
            json!({"pattern": "((a{100}){100}){100}"}),
            json!({"maximum": 9007199254740992_u64}),
        ] {
            assert!(Schema::compile(&schema).is_err(), "{schema}");
        }
        assert!(compile(json!(true)).validate(&json!(1)).is_ok());
        assert!(compile(json!(false)).validate(&json!(1)).is_err());
    }

    #[test]
    fn what_was_compiled_is_kept() {
        let (one, other) = (json!({"title": "one kept"}), json!({"title": "another kept"}));
        assert!(Arc::ptr_eq(&compile(one.clone()).0, &compile(one.clone()).0));
        assert!(!Arc::ptr_eq(&compile(one).0, &compile(other).0));
    }

    #[test]
    fn all_patterns_of_a_schema_together_are_bounded() {
        let properties = |count: usize| {
            let property = |n: usize| (format!("p{n}"), json!({"pattern": format!("^\\w{{30}}{n}$")}));
            json!({"properties": (0..count).map(property).collect::<serde_json::Map<_, _>>()})
        };
        assert!(Schema::compile(&properties(2)).is_ok());
        let error = Schema::compile(&properties(200)).unwrap_err().to_string();
        assert!(error.contains("properties.p") && error.contains("take more than 4194304 bytes together"), "{error}");
    }

    #[test]
    fn patterns_take_linear_time() {
        let schema = compile(json!({"pattern": "^(a+)+$"}));
        let start = Instant::now();
        assert!(schema.validate(&json!("a".repeat(100_000) + "!")).is_err());
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = compile(json!({"$ref": "#"}));
        assert!(schema.validate(&json!([[1]])).is_ok());
        let tree = compile(json!({"type": "array", "items": {"$ref": "#"}}));
        let mut value = json!([]);
        for _ in 0..60 {
            value = json!([value]);
        }
        assert!(tree.validate(&value).is_ok());
        assert!(tree.validate(&json!([[[1]]])).is_err());
    }

    proptest! {
        #[test]
        fn any_json_is_a_schema_or_refused(
            schema in crate::json::tests::any_json(),
            value in crate::json::tests::any_json(),
        ) {
            if let Ok(schema) = Schema::compile(&schema) {
                let _ = schema.validate(&value);
            }
        }
    }
}
