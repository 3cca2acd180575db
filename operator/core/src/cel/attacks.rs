//! Expressions that would bring an unfenced interpreter down.

use super::evaluator::{CelEvaluator, EvalError};
use super::expression::{Expression, MAX_CHARS, ParseError};
use super::types::Type;
use super::values::Variables;
use super::vocabulary::Vocabulary;
use super::worker::MAX_ABANDONED;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Long enough that only work without end meets it, on however slow a machine.
const GENEROUS: Duration = Duration::from_secs(60);

fn vocabulary() -> Vocabulary {
    Vocabulary::new(["task"])
}

fn parse(source: &str) -> Result<Expression, ParseError> {
    Expression::parse(source, &vocabulary())
}

fn task(value: Value) -> Variables {
    Variables::new().with("task", value)
}

fn numbers(count: usize) -> Value {
    json!({ "list": (0..count).collect::<Vec<_>>() })
}

fn run(source: &str, variables: &Variables) -> Result<Value, EvalError> {
    CelEvaluator::with_limit(GENEROUS).evaluate(&parse(source).unwrap(), variables)
}

#[test]
fn a_sum_of_two_thousand_terms_is_refused_and_would_not_end_the_stack() {
    let sum = vec!["1"; 2000].join("+");
    let refused = parse(&sum).unwrap_err();
    assert_eq!(refused.to_string(), "3999 characters are too long for an expression; at most 1024");
    let parsed = Expression::parse_unbounded(&sum, &vocabulary(), &Type::Any).unwrap();
    let result = CelEvaluator::with_limit(GENEROUS).evaluate(&parsed, &Variables::new());
    assert_eq!(result, Ok(json!(2000)));
}

#[test]
fn the_longest_sum_that_is_accepted_is_evaluated() {
    let sum = vec!["1"; MAX_CHARS / 2].join("+");
    assert_eq!(run(&sum, &Variables::new()), Ok(json!(MAX_CHARS / 2)));
}

#[test]
fn comprehensions_nest_two_deep_and_not_three() {
    let three = "task.list.all(a, task.list.all(b, task.list.all(c, a + b + c >= 0)))";
    assert_eq!(parse(three).unwrap_err().to_string(), "1:14: all, exists, map and filter are nested 3 deep; at most 2");
    let two = "task.list.all(a, task.list.exists(b, a == b))";
    assert_eq!(run(two, &task(numbers(5))), Ok(json!(true)));
    // One after the other is not one in the other.
    let chain = "task.list.map(a, a + 1).filter(b, b > 1).map(c, c * 2).all(d, d > 2)";
    assert_eq!(run(chain, &task(numbers(5))), Ok(json!(true)));
}

#[test]
fn nested_comprehensions_over_a_long_list_are_stopped_by_their_cost() {
    let variables = task(numbers(20_000));
    for source in [
        "task.list.all(a, task.list.all(b, a + b >= 0))",
        "task.list.exists(a, task.list.exists(b, a + b < 0))",
        "task.list.exists_one(a, task.list.exists_one(b, a + b < 0))",
        "task.list.map(a, task.list.map(b, a + b))",
        "task.list.map(a, task.list.filter(b, a + b < 0))",
        "task.list.filter(a, task.list.filter(b, a + b < 0) == [a])",
        "task.list.map(a, task.list.all(b, a + b < 0) || true, a)",
        // CEL forgets the error of one side of || and && if the other decides.
        "task.list.all(a, task.list.all(b, a + b >= 0)) || true",
        "!(task.list.all(a, task.list.all(b, a + b >= 0)) && false)",
    ] {
        assert_eq!(run(source, &variables), Err(EvalError::TooExpensive), "{source}");
    }
}

#[test]
fn the_time_limit_stops_a_loop_and_leaves_no_thread_behind() {
    let evaluator = CelEvaluator::with_limit(Duration::from_millis(1));
    let endless = parse("task.list.all(a, task.list.all(b, a + b >= 0))").unwrap();
    let variables = task(numbers(20_000));
    for _ in 0..3 * MAX_ABANDONED {
        let error = evaluator.evaluate(&endless, &variables).unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    let deadline = Instant::now() + GENEROUS;
    while evaluator.abandoned() > 0 {
        assert!(Instant::now() < deadline, "a thread never ended");
        std::thread::yield_now();
    }
}

#[test]
fn a_loop_of_ordinary_size_is_not_stopped() {
    let items: Vec<_> = (0..1000).map(|n| json!({"id": n, "to": format!("0x{n:040x}"), "amount": n % 7})).collect();
    let variables = task(json!({ "items": items, "allowed": [1, 2, 3, 4, 5, 6] }));
    assert_eq!(
        run("task.items.filter(i, task.allowed.exists(a, a == i.amount)).map(i, i.to).size()", &variables),
        Ok(json!(857))
    );
}

#[test]
fn strings_and_lists_that_double_are_stopped_by_their_size() {
    let long = "x".repeat(100_000);
    let variables = task(json!({ "text": long, "list": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }));
    let sum_of = |name: &str| vec![name; 50].join(" + ");
    for source in [
        format!("task.list.map(a, task.list.map(b, {}))", sum_of("task.text")),
        format!("[{}].map(a, {})", vec!["task.text + 'y'"; 20].join(","), sum_of("a")),
        format!("[{}].map(a, [{}])", vec!["task.list"; 40].join(","), vec!["task.text + ''"; 30].join(",")),
        format!("[{0}].map(a, {{'k': {1}}})", vec!["1"; 40].join(","), sum_of("task.text")),
        format!("size({}) > 0", vec!["task.text"; 80].join(" + ")),
    ] {
        assert_eq!(run(&source, &variables), Err(EvalError::TooExpensive), "{source}");
    }
}

#[test]
fn deep_parentheses_and_brackets_end_in_an_error_or_a_value() {
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("-(", ")"), ("!", ""), ("-", "")] {
        for depth in [10, 90, 200, 500] {
            let source = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let source: String = source.chars().take(MAX_CHARS).collect();
            if let Ok(parsed) = parse(&source) {
                let _ = CelEvaluator::with_limit(GENEROUS).evaluate(&parsed, &Variables::new());
            }
        }
    }
    assert_eq!(run(&format!("{}1{}", "(".repeat(20), ")".repeat(20)), &Variables::new()), Ok(json!(1)));
    assert!(parse(&"(".repeat(MAX_CHARS)).is_err());
    assert!(parse(&"[".repeat(MAX_CHARS)).is_err());
}

#[test]
fn long_chains_of_every_operator_end() {
    for link in ["+1", "-1", "*1", "&&1", "||1", "==1", "<1", " in 1", "?1:1", ".a", "[0]"] {
        let mut source = "1".to_owned();
        while source.len() + link.len() <= MAX_CHARS {
            source.push_str(link);
        }
        if let Ok(parsed) = parse(&source) {
            let _ = CelEvaluator::with_limit(GENEROUS).evaluate(&parsed, &Variables::new());
        }
    }
}

#[test]
fn patterns_take_linear_time_and_bounded_memory() {
    let variables = task(json!({ "text": "a".repeat(50_000) + "!", "list": (0..200).collect::<Vec<_>>() }));
    for pattern in ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^(([a-z])+.)+[A-Z]$"] {
        let source = format!("task.text.matches('{pattern}')");
        assert_eq!(run(&source, &variables), Ok(json!(false)), "{source}");
    }
    // What is written out is refused at once, and what is put together when it is evaluated.
    for (pattern, said) in
        [("\\w{400}", "takes more than"), ("((((a{100}){100}){100}){100})", "takes more than"), ("(", "not valid")]
    {
        let literal = parse(&format!("task.text.matches(r'{pattern}')")).unwrap_err().to_string();
        assert!(literal.starts_with("1:19: matches: ") && literal.contains(said), "{literal}");
        let computed = run(&format!("task.text.matches(r'{pattern}' + '')"), &variables);
        assert!(matches!(&computed, Err(EvalError::Failed(why)) if why.contains(said)), "{computed:?}");
    }
    // Compiled once for all elements.
    let looped = "task.list.all(a, task.list.all(b, !'x'.matches('[a-z]{500}y')))";
    assert_eq!(run(looped, &variables), Ok(json!(true)));
    // A pattern for each element is another matter; the cost knows.
    let each = "task.list.all(a, task.list.all(b, !'x'.matches('[a-z]{500}y' + string(b))))";
    assert_eq!(run(each, &variables), Err(EvalError::TooExpensive));
}

#[test]
fn arithmetic_beyond_its_range_is_an_error() {
    for source in [
        "9223372036854775807 + 1",
        "-9223372036854775808 - 1",
        "9223372036854775807 * 2",
        "1 / 0",
        "1.0 / 0.0",
        "1 / 0.0",
        "1 % 0",
        "int('x')",
        "int(1e300)",
        "[1][5]",
        "{'a': 1}.b",
        "{'a': 1, 'a': 2}",
        "dyn('a') + 1",
        "dyn([1]) + 1",
        "task.list.x",
    ] {
        assert!(matches!(run(source, &task(numbers(1))), Err(EvalError::Failed(_))), "{source}");
    }
    for source in ["9007199254740992", "1e300 * 1e300", "1e300", "{1: 2}", "b'x'", "type(1)"] {
        assert!(matches!(run(source, &Variables::new()), Err(EvalError::Unsupported(_))), "{source}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any text, and any text made of the language's own pieces.
    #[test]
    fn no_text_ends_the_process(
        noise in ".{0,40}",
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "task", ".", "list", "(", ")", "[", "]", "{", "}", ",", ":", "?", "+", "-", "*", "/",
                "%", "&&", "||", "!", "==", "<", " in ", "1", "0.5", "'a'", "x", "x,", "all(", "map(",
                "filter(", "has(", "size(", "true", "null", "\"", "`", "@", "1u", "b'z'", " ",
            ]),
            0..24,
        ),
    ) {
        let variables = task(numbers(3));
        for source in [noise, pieces.concat()] {
            if let Ok(parsed) = parse(&source) {
                let _ = CelEvaluator::with_limit(GENEROUS).evaluate(&parsed, &variables);
            }
        }
    }
}
