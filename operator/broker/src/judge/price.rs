//! What a call may cost at most, known before it leaves, and what it did cost.

use std::fmt;

use countersign_core::json::strict;
use countersign_core::money::{Money, MoneyError};
use countersign_crds::Cost;
use serde_json::{Map, Value};
use thiserror::Error;

use super::usage::Usage;

/// A Skill's prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    pub most: CostCeiling,
    per_call: Money,
    tokens: Option<TokenPrice>,
}

/// What an attempt may cost. It owes a part of it since its pod was let in; what is left is for its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostCeiling {
    ceiling: Money,
    per_attempt: Money,
}

/// Of a million each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TokenPrice {
    input: Money,
    output: Money,
}

/// Money that is set aside for one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    pub most: Money,
    /// Whether what it cost depends on what the answer says.
    pub by_token: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PriceError {
    #[error("the Skill's cost cannot be read: {0}")]
    Cost(#[from] MoneyError),
    #[error(
        "a call that is priced by the token must have a JSON body, so that its price is known before it leaves: {0}"
    )]
    Body(String),
    #[error("a call that is priced by the token must set max_tokens, so that its price is known before it leaves")]
    NoBound,
    #[error("{0} must be a whole number from 1, so that the price is known before the call leaves")]
    Number(&'static str),
    #[error("{0:?} is read as {1} by some servers; write {1}")]
    Spelling(String, &'static str),
}

/// The names of the bound in the APIs that there are; the largest counts.
const BOUNDS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
/// How many answers are written for one prompt.
const ANSWERS: [&str; 2] = ["n", "best_of"];

impl Tariff {
    pub fn of(cost: &Cost) -> Result<Tariff, PriceError> {
        let Cost { ceiling, per_attempt, per_call, per_million_input_tokens, per_million_output_tokens } = cost;
        let read = |text: &Option<String>| text.as_deref().map_or(Ok(Money::ZERO), str::parse);
        let tokens = match (per_million_input_tokens, per_million_output_tokens) {
            (None, None) => None,
            (input, output) => Some(TokenPrice { input: read(input)?, output: read(output)? }),
        };
        let most = CostCeiling { ceiling: ceiling.parse()?, per_attempt: read(per_attempt)? };
        Ok(Tariff { most, per_call: read(per_call)?, tokens })
    }

    pub fn is_by_token(&self) -> bool {
        self.tokens.is_some()
    }

    /// A body of no bytes has no tokens. A token has a byte at least, so bytes bound those that are read.
    pub fn reserve(&self, body: &[u8]) -> Result<Reserved, PriceError> {
        let Some(TokenPrice { input, output }) = self.tokens.as_ref().filter(|_| !body.is_empty()) else {
            return Ok(Reserved { most: self.per_call, by_token: false });
        };
        let value = strict::parse(body).map_err(|error| PriceError::Body(error.to_string()))?;
        let Value::Object(members) = value else { return Err(PriceError::Body("it is not an object".to_owned())) };
        let read = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let price =
            Money::per_million(*input, read).saturating_add(Money::per_million(*output, most_written(&members)?));
        Ok(Reserved { most: self.per_call.saturating_add(price), by_token: true })
    }

    /// What is not known costs what was set aside for it.
    pub fn settle(&self, reserved: &Reserved, usage: Option<Usage>) -> Money {
        match (&self.tokens, usage) {
            (Some(TokenPrice { input, output }), Some(Usage { read, written })) if reserved.by_token => {
                let price = Money::per_million(*input, read).saturating_add(Money::per_million(*output, written));
                self.per_call.saturating_add(price)
            }
            _ => reserved.most,
        }
    }
}

impl CostCeiling {
    /// What all calls of the attempt together may cost: nothing where it owes all that it may cost.
    pub fn for_calls(self) -> Money {
        self.ceiling.saturating_sub(self.per_attempt)
    }
}

impl fmt::Display for CostCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CostCeiling { ceiling, per_attempt } = self;
        match *per_attempt {
            Money::ZERO => write!(f, "{ceiling}"),
            owed => write!(f, "{}, which is {ceiling} less the {owed} that the attempt itself costs", self.for_calls()),
        }
    }
}

fn most_written(members: &Map<String, Value>) -> Result<u64, PriceError> {
    for name in members.keys() {
        let meant =
            BOUNDS.iter().chain(&ANSWERS).chain(&["prompt"]).find(|known| *name != **known && fold(name) == **known);
        if let Some(meant) = meant {
            return Err(PriceError::Spelling(name.clone(), meant));
        }
    }
    let number = |name: &'static str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().filter(|number| *number > 0).map(Some).ok_or(PriceError::Number(name)),
    };
    let mut bound = None;
    for name in BOUNDS {
        bound = bound.max(number(name)?);
    }
    let mut answers = 1;
    for name in ANSWERS {
        answers = answers.max(number(name)?.unwrap_or(1));
    }
    // An array of texts is as many prompts; one of numbers is one prompt of that many tokens.
    let prompts = match members.get("prompt") {
        Some(Value::Array(prompts)) if !prompts.iter().all(Value::is_number) => prompts.len().max(1),
        Some(_) | None => 1,
    };
    let each = answers.saturating_mul(u64::try_from(prompts).unwrap_or(u64::MAX));
    Ok(bound.ok_or(PriceError::NoBound)?.saturating_mul(each))
}

/// As servers compare names that do not mind case, the letters beyond ASCII that fold into it included.
fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn tariff(cost: Value) -> Tariff {
        Tariff::of(&serde_json::from_value(cost).unwrap()).unwrap()
    }

    fn by_token() -> Tariff {
        tariff(
            json!({"ceiling": "1", "perCall": "0.001", "perMillionInputTokens": "1", "perMillionOutputTokens": "10"}),
        )
    }

    #[test]
    fn a_call_is_reserved_at_its_most() {
        for (body, micros) in [
            (r#"{"max_tokens":100}"#, 1000 + 18 + 1000),
            (r#"{"max_completion_tokens":100}"#, 1000 + 29 + 1000),
            (r#"{"max_tokens":1,"max_completion_tokens":100}"#, 1000 + 44 + 1000),
            (r#"{"max_tokens":100,"n":3}"#, 1000 + 24 + 3000),
            (r#"{"max_tokens":100,"n":3,"best_of":5}"#, 1000 + 36 + 5000),
            (r#"{"max_tokens":100,"prompt":["a","b"]}"#, 1000 + 37 + 2000),
            (r#"{"max_tokens":100,"prompt":[1,2,3]}"#, 1000 + 35 + 1000),
            ("", 1000),
        ] {
            assert_eq!(by_token().reserve(body.as_bytes()).map(|r| r.most.micros()), Ok(micros), "{body}");
        }
        let per_call = tariff(json!({"ceiling": "1", "perCall": "0.5"}));
        assert_eq!(
            per_call.reserve(b"anything").unwrap(),
            Reserved { most: Money::from_micros(500_000), by_token: false }
        );
        let huge = r#"{"max_tokens":9007199254740991,"n":9007199254740991}"#;
        assert!(by_token().reserve(huge.as_bytes()).unwrap().most > Money::from_micros(1_000_000_000_000));
    }

    #[test]
    fn calls_may_cost_what_the_attempt_itself_leaves() {
        for (cost, for_calls, shown) in [
            (json!({"ceiling": "0.5"}), 500_000, "0.5"),
            (json!({"ceiling": "0.5", "perAttempt": "0"}), 500_000, "0.5"),
            (
                json!({"ceiling": "0.5", "perAttempt": "0.2"}),
                300_000,
                "0.3, which is 0.5 less the 0.2 that the attempt itself costs",
            ),
            (
                json!({"ceiling": "0.5", "perAttempt": "0.5"}),
                0,
                "0, which is 0.5 less the 0.5 that the attempt itself costs",
            ),
            // Admission refuses it; a contract from before is held to it too.
            (
                json!({"ceiling": "0.5", "perAttempt": "0.6"}),
                0,
                "0, which is 0.5 less the 0.6 that the attempt itself costs",
            ),
            (json!({"ceiling": "0"}), 0, "0"),
        ] {
            let most = tariff(cost).most;
            assert_eq!((most.for_calls(), most.to_string().as_str()), (Money::from_micros(for_calls), shown));
        }
        for wrong in [json!({"ceiling": "-1"}), json!({"ceiling": "1", "perAttempt": "0.0000001"})] {
            let cost = serde_json::from_value(wrong).unwrap();
            assert!(matches!(Tariff::of(&cost), Err(PriceError::Cost(_))), "{cost:?}");
        }
    }

    #[test]
    fn a_price_that_is_not_known_is_an_error() {
        for (body, error) in [
            ("{}", PriceError::NoBound),
            (r#"{"max_tokens":null}"#, PriceError::NoBound),
            (r#"{"max_tokens":0}"#, PriceError::Number("max_tokens")),
            (r#"{"max_tokens":-1}"#, PriceError::Number("max_tokens")),
            (r#"{"max_tokens":1.5}"#, PriceError::Number("max_tokens")),
            (r#"{"max_tokens":"9"}"#, PriceError::Number("max_tokens")),
            (r#"{"max_tokens":9,"n":0}"#, PriceError::Number("n")),
            (r#"{"max_tokens":9,"Max_Tokens":900}"#, PriceError::Spelling("Max_Tokens".into(), "max_tokens")),
            (
                r#"{"max_tokens":9,"max_to\u212Aens":900}"#,
                PriceError::Spelling("max_to\u{212a}ens".into(), "max_tokens"),
            ),
            (
                r#"{"max_tokens":9,"max_token\u017F":900}"#,
                PriceError::Spelling("max_token\u{17f}".into(), "max_tokens"),
            ),
            (r#"{"max_tokens":9,"N":900}"#, PriceError::Spelling("N".into(), "n")),
        ] {
            assert_eq!(by_token().reserve(body.as_bytes()), Err(error), "{body}");
        }
        for body in ["[]", "1", "max_tokens=9", r#"{"max_tokens":9,"max_tokens":900}"#, "\u{1f}\u{8b}"] {
            assert!(matches!(by_token().reserve(body.as_bytes()), Err(PriceError::Body(_))), "{body}");
        }
    }

    #[test]
    fn what_is_known_is_settled_and_what_is_not_keeps_its_reservation() {
        let reserved = by_token().reserve(br#"{"max_tokens":100}"#).unwrap();
        let usage = Usage { read: 7, written: 3 };
        assert_eq!(by_token().settle(&reserved, Some(usage)), Money::from_micros(1000 + 7 + 30));
        assert_eq!(by_token().settle(&reserved, None), reserved.most);
        let per_call = by_token().reserve(b"").unwrap();
        assert_eq!(by_token().settle(&per_call, Some(usage)), per_call.most);
    }

    proptest! {
        #[test]
        fn an_honest_answer_never_costs_more_than_was_reserved(
            bound in 1u64..1_000_000, n in 1u64..8, text in "[a-z ]{0,200}", written in 0u64..8_000_000,
        ) {
            let body = json!({"max_tokens": bound, "n": n, "messages": [{"role": "user", "content": text}]}).to_string();
            let reserved = by_token().reserve(body.as_bytes()).unwrap();
            let usage = Usage { read: body.len() as u64, written: written.min(bound * n) };
            prop_assert!(by_token().settle(&reserved, Some(usage)) <= reserved.most);
        }
    }
}
