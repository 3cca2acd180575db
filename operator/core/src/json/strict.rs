//! Strict parsing: what two readers could understand differently is refused.
//!
//! RFC 8259 lets a parser keep any of several equal keys, and RFC 7493 (I-JSON) warns that integers
//! beyond 2^53-1 do not survive readers that use doubles. A signature must not depend on the reader. U+0000 is
//! refused too: it is JSON, and PostgreSQL keeps it in no text.

use super::path::{JsonPath, Segment};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The largest integer that every JSON reader keeps, 2^53-1 (RFC 7493, section 2.2).
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// How many arrays and objects may enclose a value.
pub const MAX_DEPTH: usize = 64;

/// Why a document is refused, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    /// The text is not JSON, or not UTF-8. Line and column count from 1.
    #[error("{line}:{column}: not valid JSON: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The byte in the line, from 1.
        column: usize,
        /// What the parser says, without the position.
        message: String,
    },
    /// The key at the end of `path` occurs a second time in its object.
    #[error("{path}: the key occurs twice; keep one of them")]
    DuplicateKey {
        /// The key, where it occurs the second time.
        path: JsonPath,
    },
    /// A number whose value is an integer beyond ±(2^53-1), as `number` shows it.
    #[error("{path}: {number} is beyond 2^53-1 and would be rounded by some readers; write it as a string")]
    UnsafeInteger {
        /// Where the number stands.
        path: JsonPath,
        /// The number in decimal notation; rounded where it has more than 64 bits.
        number: String,
    },
    /// An infinite number or NaN.
    #[error("{path}: the number is not finite")]
    NotFinite {
        /// Where the number stands.
        path: JsonPath,
    },
    /// A string or a key that holds U+0000, which PostgreSQL keeps in no text.
    #[error("{path}: holds the character U+0000, which cannot be stored; leave it out")]
    Nul {
        /// Where the string stands, or the member with that key.
        path: JsonPath,
    },
    /// More than [`MAX_DEPTH`] arrays and objects around a value.
    #[error("{path}: nested more than {MAX_DEPTH} levels deep")]
    TooDeep {
        /// The array or object that is one too many.
        path: JsonPath,
    },
}

impl StrictError {
    /// Where in the document it is; `None` where the text is no document.
    pub fn path(&self) -> Option<&JsonPath> {
        match self {
            Self::Syntax { .. } => None,
            Self::DuplicateKey { path }
            | Self::UnsafeInteger { path, number: _ }
            | Self::NotFinite { path }
            | Self::Nul { path }
            | Self::TooDeep { path } => Some(path),
        }
    }
}

/// Parses one JSON document, and nothing after it. A number that is whole becomes an integer, however it is written.
///
/// # Errors
/// The first thing that is wrong, see [`StrictError`].
pub fn parse(text: impl AsRef<[u8]>) -> Result<Value, StrictError> {
    let mut place = Place::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text.as_ref());
    let parsed = Strict(&mut place).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| {
        place.refusal.take().unwrap_or_else(|| StrictError::Syntax {
            line: error.line(),
            column: error.column(),
            message: without_position(&error),
        })
    })
}

/// Checks the numbers and the depth of a value that was parsed elsewhere; its keys are unique by
/// construction.
///
/// # Errors
/// The first thing that is wrong, in document order.
pub fn check(value: &Value) -> Result<(), StrictError> {
    check_below(value, &mut JsonPath::root())
}

/// Text that comes from where nothing refuses it, such as a pod, in a form that can be stored: U+0000 is spelt out.
pub fn storable(text: &str) -> String {
    text.replace('\0', "\\u{0}")
}

fn check_below(value: &Value, path: &mut JsonPath) -> Result<(), StrictError> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(text) => check_text(text, path),
        Value::Number(number) => check_number(number, path),
        Value::Array(items) => {
            check_depth(path)?;
            for (index, item) in items.iter().enumerate() {
                path.push(Segment::Index(index));
                check_below(item, path)?;
                path.pop();
            }
            Ok(())
        }
        Value::Object(members) => {
            check_depth(path)?;
            for (key, member) in members {
                path.push(Segment::Key(key.clone()));
                check_text(key, path)?;
                check_below(member, path)?;
                path.pop();
            }
            Ok(())
        }
    }
}

fn check_depth(path: &JsonPath) -> Result<(), StrictError> {
    if path.segments().len() < MAX_DEPTH { Ok(()) } else { Err(StrictError::TooDeep { path: path.clone() }) }
}

fn check_text(text: &str, path: &JsonPath) -> Result<(), StrictError> {
    if text.contains('\0') { Err(StrictError::Nul { path: path.clone() }) } else { Ok(()) }
}

fn check_number(number: &Number, path: &JsonPath) -> Result<(), StrictError> {
    let safe = if let Some(integer) = number.as_i64() {
        integer.unsigned_abs() <= MAX_SAFE_INTEGER
    } else if let Some(integer) = number.as_u64() {
        integer <= MAX_SAFE_INTEGER
    } else {
        let float = number.as_f64().unwrap_or(f64::NAN);
        if !float.is_finite() {
            return Err(StrictError::NotFinite { path: path.clone() });
        }
        float.fract() != 0.0 || float.abs() <= MAX_SAFE_INTEGER as f64
    };
    if safe { Ok(()) } else { Err(StrictError::UnsafeInteger { path: path.clone(), number: number.to_string() }) }
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Where the parser is, and why it stopped if it was us who stopped it.
#[derive(Default)]
struct Place {
    path: JsonPath,
    refusal: Option<StrictError>,
}

impl Place {
    fn refuse<E: serde::de::Error>(&mut self, refusal: StrictError) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    fn number<E: serde::de::Error>(&mut self, number: Number) -> Result<Value, E> {
        match check_number(&number, &self.path) {
            Ok(()) => Ok(Value::Number(number)),
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    fn text<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        check_text(text, &self.path).map_err(|refusal| self.refuse(refusal))
    }

    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        check_depth(&self.path).map_err(|refusal| self.refuse(refusal))
    }
}

struct Strict<'p>(&'p mut Place);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.0.text(&value)?;
        Ok(Value::String(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.number(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.number(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // 1.0 and 1 are one number, in one form.
        if value.fract() == 0.0 && value.abs() <= MAX_SAFE_INTEGER as f64 {
            return Ok(Value::from(value as i64));
        }
        match Number::from_f64(value) {
            Some(number) => self.0.number(number),
            None => {
                let path = self.0.path.clone();
                Err(self.0.refuse(StrictError::NotFinite { path }))
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Strict(place) = self;
        place.enter()?;
        let mut array = Vec::new();
        loop {
            place.path.push(Segment::Index(array.len()));
            let item = items.next_element_seed(Strict(place))?;
            place.path.pop();
            match item {
                Some(item) => array.push(item),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Strict(place) = self;
        place.enter()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            place.path.push(Segment::Key(key.clone()));
            place.text(&key)?;
            if object.contains_key(&key) {
                let path = place.path.clone();
                return Err(place.refuse(StrictError::DuplicateKey { path }));
            }
            let member = members.next_value_seed(Strict(place))?;
            place.path.pop();
            object.insert(key, member);
        }
        Ok(Value::Object(object))
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Err(E::custom("not a JSON value"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_it_refuses_and_what_it_says() {
        for (text, said) in [
            (
                r#"{"parameters":{"items":[0,1,2,{"amount":1,"amount":2}]}}"#,
                "parameters.items[3].amount: the key occurs twice; keep one of them",
            ),
            // The second spelling is the same key once its escape is read.
            (r#"{"a":1,"\u0061":2}"#, "a: the key occurs twice; keep one of them"),
            (
                r#"{"a":[9007199254740992]}"#,
                "a[0]: 9007199254740992 is beyond 2^53-1 and would be rounded by some readers; write it as a string",
            ),
            (
                "-9007199254740992",
                "$: -9007199254740992 is beyond 2^53-1 and would be rounded by some readers; write it as a string",
            ),
            (
                "[18446744073709551616]",
                "[0]: 1.8446744073709552e+19 is beyond 2^53-1 and would be rounded by some readers; write it as a string",
            ),
            ("1e400", "1:5: not valid JSON: number out of range"),
            ("{\n\"a\": tru}", "2:9: not valid JSON: expected ident"),
            ("[1] 2", "1:5: not valid JSON: trailing characters"),
            ("[1", "1:2: not valid JSON: EOF while parsing a list"),
            ("NaN", "1:1: not valid JSON: expected value"),
            (r#"{"a":["x","y\u0000z"]}"#, "a[1]: holds the character U+0000, which cannot be stored; leave it out"),
            (r#"{"\u0000":1}"#, r#"["\0"]: holds the character U+0000, which cannot be stored; leave it out"#),
            (r#"["\ud800"]"#, "1:9: not valid JSON: unexpected end of hex escape"),
        ] {
            assert_eq!(refusal(text), said, "{text}");
        }
    }

    #[test]
    fn the_edges_are_accepted() {
        assert_eq!(
            parse("[9007199254740991,-9007199254740991,0.5,1e15,-0.0]").unwrap(),
            json!([9007199254740991_i64, -9007199254740991_i64, 0.5, 1_000_000_000_000_000_i64, 0])
        );
        assert_eq!(parse(b" null ").unwrap(), Value::Null);
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn sixty_four_levels_and_not_one_more() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let value = parse(nested(MAX_DEPTH)).unwrap();
        check(&value).unwrap();
        assert!(matches!(parse(nested(MAX_DEPTH + 1)), Err(StrictError::TooDeep { .. })));
        assert!(matches!(check(&json!({ "x": value })), Err(StrictError::TooDeep { .. })));
        // Far beyond, where serde_json itself stops.
        assert!(parse("[".repeat(100_000)).is_err());
    }

    #[test]
    fn what_is_parsed_elsewhere_is_checked_alike() {
        for value in [json!({"a": ["x\0"]}), json!({"a\0": 1})] {
            assert!(matches!(check(&value), Err(StrictError::Nul { .. })), "{value}");
        }
        assert_eq!(storable("a\0b"), "a\\u{0}b");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in crate::json::tests::any_json()) {
            check(&value).unwrap();
            prop_assert_eq!(parse(value.to_string()).unwrap(), value);
        }

        #[test]
        fn parse_and_check_agree_on_numbers(number in any::<i64>(), float in any::<f64>()) {
            for value in [json!(number), json!(float)] {
                prop_assert_eq!(parse(value.to_string()).is_ok(), check(&value).is_ok());
            }
        }

        #[test]
        fn no_input_panics(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(text);
        }
    }
}
