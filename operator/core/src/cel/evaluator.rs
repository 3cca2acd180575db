//! Evaluation within limits of stack, time and work.

use super::expression::Expression;
use super::failure::explain;
use super::meter::{self, COST_LIMIT, Stop};
use super::path::Path;
use super::pattern;
use super::values::{self, Variables};
use super::worker::{Overrun, Pool};
use cel::Context;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time that one evaluation may take.
pub const DEFAULT_LIMIT: Duration = Duration::from_millis(100);

/// Evaluates expressions on threads of its own, with stacks of 64 MiB. Make one and clone it:
/// clones share the threads. Calls block, for little more than the limit at the worst.
#[derive(Clone)]
pub struct CelEvaluator {
    pool: Arc<Pool>,
    limit: Duration,
    /// Whose turns it takes; nobody's where it is not for a namespace.
    who: Option<Arc<str>>,
}

/// Why there is no result. None of these allows anything.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// It did not end in time. That may be the machine's fault: see [`Self::is_transient`].
    #[error("not finished within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It does more work than [`COST_LIMIT`]; with these variables it always will.
    #[error("too much work; shorten the lists that it goes through, or the expression")]
    TooExpensive,
    /// Other evaluations have the threads there are, or those that the namespace may have.
    #[error("too many evaluations have not finished; it is tried again in a moment")]
    Saturated,
    /// It reads `key` below `at`, which has the keys `known`.
    #[error("{at} has no key {key:?}{}", known_keys(.known))]
    MissingKey {
        /// The map that is read.
        at: Path,
        /// The key that it does not have.
        key: String,
        /// All keys that it has.
        known: Vec<String>,
    },
    /// It failed, as the message says.
    #[error("{0}")]
    Failed(String),
    /// Its result cannot be written as JSON.
    #[error("{0}")]
    Unsupported(String),
    /// It was to say true or false, and is of this type.
    #[error("the result is a {0}, not true or false")]
    NotBool(&'static str),
}

impl EvalError {
    /// Whether the same evaluation may give a result later: the cause lies in the load of the
    /// machine, not in the expression and its variables.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Saturated => true,
            Self::TooExpensive
            | Self::MissingKey { .. }
            | Self::Failed(_)
            | Self::Unsupported(_)
            | Self::NotBool(_) => false,
        }
    }

    /// Whether it was evaluated, and not finished in time.
    pub fn timed_out(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }
}

impl Default for CelEvaluator {
    fn default() -> Self {
        Self::new()
    }
}

impl CelEvaluator {
    /// An evaluator with the default time limit.
    pub fn new() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }

    /// An evaluator with this time limit for each evaluation.
    pub fn with_limit(limit: Duration) -> Self {
        Self { pool: Arc::default(), limit, who: None }
    }

    /// The same threads, with turns that count as those of this namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Self {
        Self { who: Some(Arc::from(namespace)), ..self.clone() }
    }

    /// Does something that parses and evaluates a great deal, on one of the threads: what it evaluates has its own
    /// limits as ever, and costs no change of threads. All of it has this limit.
    ///
    /// # Errors
    /// It did not end in time, or there is no thread for it.
    pub fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EvalError> {
        self.pool.run(None, limit, job).map_err(|overrun| failed(overrun, limit))
    }

    /// The value of an expression, as JSON. An `int` or a `double` becomes a number, a map with
    /// string keys an object.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn evaluate(&self, expression: &Expression, variables: &Variables) -> Result<Value, EvalError> {
        let limit = self.limit;
        let job = {
            let expression = expression.clone();
            let variables = variables.clone();
            move || evaluate_here(&expression, &variables, limit)
        };
        // The meter stops nearly everything at the limit and keeps the thread usable; only what it
        // cannot reach overruns.
        match self.pool.run(self.who.as_ref(), limit + limit / 2, job) {
            Ok(result) => result,
            Err(overrun) => Err(failed(overrun, limit)),
        }
    }

    /// The value of an expression that says yes or no.
    ///
    /// # Errors
    /// See [`EvalError`]; a value that is neither `true` nor `false` is one.
    pub fn evaluate_bool(&self, expression: &Expression, variables: &Variables) -> Result<bool, EvalError> {
        let found = match self.evaluate(expression, variables)? {
            Value::Bool(value) => return Ok(value),
            Value::Null => "null",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "list",
            Value::Object(_) => "map",
        };
        Err(EvalError::NotBool(found))
    }

    #[cfg(test)]
    pub(super) fn abandoned(&self) -> usize {
        self.pool.abandoned()
    }
}

fn failed(overrun: Overrun, limit: Duration) -> EvalError {
    match overrun {
        Overrun::Timeout => EvalError::Timeout(limit),
        Overrun::Saturated | Overrun::NoThread(_) => EvalError::Saturated,
        Overrun::Panicked(message) => EvalError::Failed(format!("the interpreter stopped: {message}")),
    }
}

fn evaluate_here(expression: &Expression, variables: &Variables, limit: Duration) -> Result<Value, EvalError> {
    meter::start(COST_LIMIT, Instant::now() + limit);
    let result = resolve(expression, variables);
    pattern::close();
    match meter::stopped() {
        None => result,
        Some(Stop::Cost) => Err(EvalError::TooExpensive),
        Some(Stop::Time) => Err(EvalError::Timeout(limit)),
    }
}

fn resolve(expression: &Expression, variables: &Variables) -> Result<Value, EvalError> {
    let explained = |error| explain(&error, expression.references(), variables);
    let mut context = Context::with_env(meter::environment());
    for (root, value) in expression.selection().convert(variables).map_err(explained)? {
        context.add_variable_as_val(root, value);
    }
    let result = cel::Value::resolve_val(expression.instrumented(), &context).map_err(explained)?;
    meter::charge(meter::weight(result.as_ref())).map_err(explained)?;
    values::to_json(result.as_ref()).map_err(|error| EvalError::Unsupported(error.to_string()))
}

fn known_keys(known: &[String]) -> String {
    const MOST: usize = 10;
    match known {
        [] => "; it is empty".to_owned(),
        known if known.len() <= MOST => format!("; it has {}", known.join(", ")),
        known => format!("; it has {} and {} more", known[..MOST].join(", "), known.len() - MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cel::Vocabulary;
    use proptest::prelude::*;
    use serde_json::json;

    fn evaluate(source: &str, variables: &Variables) -> Result<Value, EvalError> {
        let vocabulary = Vocabulary::new(["task", "steps"]);
        let expression = Expression::parse(source, &vocabulary).unwrap();
        CelEvaluator::with_limit(Duration::from_secs(60)).evaluate(&expression, variables)
    }

    fn world() -> Variables {
        Variables::new()
            .with(
                "task",
                json!({
                    "parameters": {"amount": 12, "to": "0xab", "rate": 0.5, "none": null, "ok": true},
                    "items": [{"n": 1, "to": "a"}, {"n": 2, "to": "b"}],
                }),
            )
            .with("steps", json!({"a-b": {"output": {"balance": 7}}}))
    }

    #[test]
    fn values() {
        for (source, value) in [
            ("task.parameters.amount + 1", json!(13)),
            ("task.parameters.amount < 12.5", json!(true)),
            ("task.parameters.amount * task.parameters.rate", json!(6)),
            ("task.parameters.amount / 5 + 1", json!(3.4)),
            ("task.parameters.amount % 5 == 2 && 7 / 2 == 3 && -task.parameters.amount < 0", json!(true)),
            ("task.items[task.parameters.amount - 11].to", json!("b")),
            ("task.parameters.to + '!'", json!("0xab!")),
            ("task.parameters.none", json!(null)),
            ("task.parameters.ok ? 'yes' : 'no'", json!("yes")),
            ("task.items.map(i, i.n * 2)", json!([2, 4])),
            ("task.items.map(i, i.n > 1, i.to)", json!(["b"])),
            ("task.items.filter(i, i.to == 'a')", json!([{"n": 1, "to": "a"}])),
            ("task.items.exists_one(i, i.n == 2)", json!(true)),
            ("task.items[1].to", json!("b")),
            (r#"steps["a-b"].output"#, json!({"balance": 7})),
            (r#"steps["a" + "-b"].output.balance"#, json!(7)),
            ("has(task.parameters.other)", json!(false)),
            ("has(task.parameters.to) && !has(steps.x)", json!(true)),
            ("'to' in task.parameters && 'n' in task.items[0]", json!(true)),
            ("task.parameters", json!({"amount": 12, "to": "0xab", "rate": 0.5, "none": null, "ok": true})),
            ("{'a': [1, 2.5, 'x', null], 'b': {}}", json!({"a": [1, 2.5, "x", null], "b": {}})),
            ("size(task.items) + size('é')", json!(3)),
            ("[1] + [2] + [3]", json!([1, 2, 3])),
            ("'0xab'.matches('^0x[0-9a-f]+$')", json!(true)),
            ("string(task.parameters.amount)", json!("12")),
            ("type(task.parameters.amount) == double && type(1) == int", json!(true)),
            ("false && task.parameters.absent == 1", json!(false)),
        ] {
            assert_eq!(evaluate(source, &world()), Ok(value), "{source}");
        }
    }

    #[test]
    fn what_goes_wrong_is_said() {
        for (source, said) in [
            ("task.parameters.wallet", "task.parameters has no key \"wallet\"; it has amount, none, ok, rate, to"),
            (r#"steps["a-b"].output.sum"#, r#"steps["a-b"].output has no key "sum"; it has balance"#),
            ("task.items[0].x", "no key \"x\""),
            ("task.items[7].n", "the list has no element 7"),
            ("task.parameters.amount.x", "double has no fields"),
            ("task.parameters.amount + 'x'", "cannot apply + to double and string"),
            ("task.parameters.rate / 0", "division by zero"),
            ("task.parameters.amount % 0", "division by zero"),
            ("task.parameters.to < 3", "cannot apply < to string and int"),
            ("{1.5: 1}", "a double cannot be a key"),
            ("{'a': 1, 'a': 2}", "a key occurs twice in a map"),
            ("int('x')", "int: string parse error: invalid digit found in string"),
            ("task.parameters.to.matches('(' + '')", "matches: the pattern is not valid: unclosed group"),
            ("1 in task.parameters.amount", "cannot apply in to int and double; convert one with int() or double()"),
            ("task.parameters.amount[0]", "cannot index double with int"),
            ("task.parameters.amount / 0", "division by zero"),
            ("!task.parameters.to", "cannot apply ! to string"),
            ("task.parameters.to ? 1 : 2", "expected bool, got string"),
            (
                "9007199254740991 + 1",
                "the result 9007199254740992 is beyond 2^53-1, where readers of JSON round; make it a string",
            ),
        ] {
            let error = evaluate(source, &world()).unwrap_err();
            assert_eq!(error.to_string(), said, "{source}");
        }
        let error = evaluate("steps.x", &Variables::new()).unwrap_err();
        assert_eq!(error.to_string(), "the variable steps is not set here");
    }

    #[test]
    fn only_true_and_false_are_bools() {
        let evaluator = CelEvaluator::with_limit(Duration::from_secs(60));
        let vocabulary = Vocabulary::new(["task"]);
        let judge = |source: &str| {
            let expression = Expression::parse(source, &vocabulary).unwrap();
            evaluator.evaluate_bool(&expression, &Variables::new())
        };
        assert_eq!(judge("1 < 2"), Ok(true));
        assert_eq!(judge("1 > 2"), Ok(false));
        for (source, found) in
            [("1", "number"), ("'true'", "string"), ("null", "null"), ("[true]", "list"), ("{}", "map")]
        {
            assert_eq!(judge(source), Err(EvalError::NotBool(found)), "{source}");
        }
        assert_eq!(EvalError::NotBool("string").to_string(), "the result is a string, not true or false");
    }

    #[test]
    fn going_through_a_map_has_one_order() {
        let members: serde_json::Map<_, _> = (0..100).map(|n| (format!("k{n:03}"), json!(n))).collect();
        let keys: Vec<_> = members.keys().cloned().collect();
        let variables = Variables::new().with("task", json!({ "m": members }));
        for _ in 0..5 {
            assert_eq!(evaluate("task.m.map(k, k)", &variables), Ok(json!(keys)));
        }
    }

    #[test]
    fn a_fence_serves_many_threads() {
        let evaluator = CelEvaluator::with_limit(Duration::from_secs(60));
        let expression = Expression::parse("task.n * 2", &Vocabulary::new(["task"])).unwrap();
        std::thread::scope(|scope| {
            for n in 0..16 {
                let (evaluator, expression) = (evaluator.clone(), expression.clone());
                scope.spawn(move || {
                    for _ in 0..50 {
                        let variables = Variables::new().with("task", json!({ "n": n }));
                        assert_eq!(evaluator.evaluate(&expression, &variables), Ok(json!(n * 2)));
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_done_within_keeps_every_limit() {
        let evaluator = CelEvaluator::with_limit(Duration::from_millis(100));
        let vocabulary = Vocabulary::new(["task"]);
        let list = "task.l.all(a, task.l.all(b, a + b >= 0))";
        let (cheap, dear) = (Expression::parse("1 + 1", &vocabulary), Expression::parse(list, &vocabulary));
        let (cheap, dear) = (cheap.unwrap(), dear.unwrap());
        let numbers: Vec<u32> = (0..20_000).collect();
        let variables = Variables::new().with("task", json!({"l": numbers}));
        let inner = evaluator.clone();
        let found = evaluator.within(Duration::from_secs(60), move || {
            [cheap, dear].map(|expression| inner.evaluate(&expression, &variables))
        });
        let [cheap, dear] = found.unwrap();
        assert_eq!(cheap, Ok(json!(2)));
        assert!(matches!(dear, Err(EvalError::Timeout(_) | EvalError::TooExpensive)), "{dear:?}");
        let (held, hold) = std::sync::mpsc::channel::<()>();
        let late = evaluator.within(Duration::from_millis(1), move || hold.recv());
        assert_eq!(late, Err(EvalError::Timeout(Duration::from_millis(1))));
        drop(held);
    }

    proptest! {
        /// A number is the same to every expression, whether it is as a step gave it or as it was stored and loaded, and
        /// of one type whatever its value.
        #[test]
        fn a_number_is_the_same_before_and_after_it_is_stored(
            number in prop_oneof![
                (-1_000_000_i64..1_000_000).prop_map(|whole| json!(whole)),
                (-1_000_000_i64..1_000_000).prop_map(|whole| json!(whole as f64)),
                (-1e6..1e6_f64).prop_map(|float| json!(float)),
                Just(json!(-0.0)),
            ],
        ) {
            let stored = crate::json::canonical::to_string(&number).unwrap();
            let loaded: Value = serde_json::from_str(&stored).unwrap();
            for source in [
                "type(task.n) == double", "task.n", "task.n + 1", "1 - task.n", "task.n * task.n", "task.n / 2",
                "task.n % 2 == 0", "string(task.n)", "task.n == int(task.n)", "task.n > 0", "-task.n",
                "task.n in [0, 1, 2.5]", "[task.n]", "task.n * 1.5 >= 3",
            ] {
                let [fresh, later] = [&number, &loaded].map(|n| evaluate(source, &Variables::new().with("task", json!({"n": n}))));
                prop_assert_eq!(&fresh, &later, "{}", source);
                prop_assert!(fresh.is_ok(), "{}: {:?}", source, fresh);
            }
            let variables = Variables::new().with("task", json!({"n": number}));
            prop_assert_eq!(evaluate("type(task.n) == double", &variables), Ok(json!(true)));
            let half = number.as_f64().unwrap() / 2.0;
            prop_assert_eq!(evaluate("task.n / 2", &variables).unwrap().as_f64().unwrap(), half + 0.0);
        }

        /// A value goes in, as a whole and member by member, and comes out the same.
        #[test]
        fn json_survives_cel(value in crate::json::tests::any_json()) {
            let variables = Variables::new().with("task", json!({ "v": value, "other": [value] }));
            prop_assert_eq!(evaluate("task.v", &variables), Ok(value.clone()));
            prop_assert_eq!(evaluate("task", &variables), Ok(json!({ "v": value, "other": [value] })));
            prop_assert_eq!(evaluate("[task.v] == task.other", &variables), Ok(json!(true)));
        }
    }
}
