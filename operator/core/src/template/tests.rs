use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

fn vocabulary() -> Vocabulary {
    Vocabulary::new(["task", "steps"])
}

fn parse(value: Value) -> Result<Template, TemplateError> {
    Template::parse(&value, &vocabulary())
}

fn variables() -> Variables {
    Variables::new()
        .with(
            "task",
            json!({"parameters": {
                "to": "0xab", "amount": 12, "rate": 0.5, "on": true, "none": null,
                "list": [1, "x"], "map": {"b": 1, "a": 2},
            }}),
        )
        .with("steps", json!({"check": {"output": {"balance": 7}}}))
}

fn resolve(value: Value) -> Result<Value, TemplateError> {
    let evaluator = CelEvaluator::with_limit(Duration::from_secs(60));
    parse(value)?.resolve(&evaluator, &variables())
}

#[test]
fn one_expression_keeps_its_type_and_others_become_text() {
    for (template, expected) in [
        (json!("${task.parameters.amount}"), json!(12)),
        (json!("${task.parameters.none}"), json!(null)),
        (json!("${task.parameters.list}"), json!([1, "x"])),
        (json!("${{'k': task.parameters.to}}"), json!({"k": "0xab"})),
        (json!(" ${task.parameters.amount}"), json!(" 12")),
        (
            json!("${task.parameters.to}:${task.parameters.amount}:${task.parameters.rate}:${task.parameters.on}"),
            json!("0xab:12:0.5:true"),
        ),
        (json!("${task.parameters.list} ${task.parameters.map}"), json!(r#"[1,"x"] {"a":2,"b":1}"#)),
        (json!("$${task.parameters.to}"), json!("${task.parameters.to}")),
        (json!("costs $5, ${'}'}"), json!("costs $5, }")),
        (json!(""), json!("")),
        (json!(7), json!(7)),
        (
            json!({"${task.parameters.to}": ["${steps.check.output.balance}", "x", null, {"$${": "$${"}]}),
            json!({"${task.parameters.to}": [7, "x", null, {"$${": "${"}]}),
        ),
    ] {
        assert_eq!(resolve(template.clone()), Ok(expected), "{template}");
    }
}

#[test]
fn what_goes_wrong_names_the_field_the_expression_and_the_cause() {
    let at_two = |text: &str| json!({"items": [1, 2, {"to": text}]});
    for (template, said) in [
        (
            at_two("${task.parameters.wallet}"),
            "input.items[2].to: ${task.parameters.wallet}: task.parameters has no key \"wallet\"; \
             it has amount, list, map, none, on, rate, to; add it to spec.parameters",
        ),
        (
            at_two("x ${ steps.check.output.sum }"),
            "input.items[2].to: ${steps.check.output.sum}: steps.check.output has no key \"sum\"; it has balance",
        ),
        (
            at_two("x ${task.parameters.none}"),
            "input.items[2].to: ${task.parameters.none}: is null, which has no text; use it alone in the string, or ask for null first",
        ),
        (at_two("${foo.bar}"), "input.items[2].to: ${foo.bar}: 1:1: unknown variable \"foo\"; use one of steps, task"),
        (
            at_two("${task.parameters.to"),
            "input.items[2].to: \"${\" is not closed; write \"$${\" where it stands for itself",
        ),
        (at_two("${}"), "input.items[2].to: ${}: the expression is empty"),
        (
            json!({"a": 9007199254740993_i64}),
            "input: a: 9007199254740993 is beyond 2^53-1 and would be rounded by some readers; write it as a string",
        ),
        (json!("${1 / 0}"), "input: ${1 / 0}: division by zero"),
    ] {
        let error = resolve(template.clone()).unwrap_err();
        assert_eq!(error.to_string(), said, "{template}");
        assert!(!error.is_transient());
    }
}

#[test]
fn references_are_those_of_all_expressions() {
    let template = parse(json!({
        "a": "${steps.check.output.balance} of ${task.parameters.amount}",
        "b": [{"c": "${has(task.parameters.x) ? steps[task.parameters.x] : steps.check}"}],
        "d": "nothing",
    }))
    .unwrap();
    let shown = |paths: BTreeSet<Path>| -> Vec<String> { paths.iter().map(ToString::to_string).collect() };
    assert_eq!(
        shown(template.references()),
        ["steps", "steps.check", "steps.check.output.balance", "task.parameters.amount", "task.parameters.x",]
    );
    assert_eq!(
        shown(template.required()),
        ["steps", "steps.check", "steps.check.output.balance", "task.parameters.amount"]
    );
    assert_eq!(shown(template.dynamic()), ["steps"]);
    let fields: Vec<_> = template.expressions().into_iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(fields, ["input.a", "input.a", "input.b[0].c"]);
}

#[test]
fn members_can_be_left_out() {
    let evaluator = CelEvaluator::with_limit(Duration::from_secs(60));
    let left_out = |members: &[&str], template: Value| {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        parse(template).unwrap().without(&members).resolve(&evaluator, &variables()).unwrap()
    };
    let mixed = json!({"a": "${steps.gone.output}", "b": "${task.parameters.to}", "c": {"a": 1}});
    assert_eq!(left_out(&["a"], mixed.clone()), json!({"b": "0xab", "c": {"a": 1}}), "of the outermost object only");
    assert_eq!(left_out(&["a", "b", "c"], mixed), json!({}));
    assert_eq!(left_out(&["a"], json!({"a": 1, "b": 2})), json!({"b": 2}), "of what has no expression too");
    assert_eq!(left_out(&["a"], json!(["a"])), json!(["a"]));
}

#[test]
fn size_and_number_are_bounded() {
    let many: Vec<_> = (0..=MAX_EXPRESSIONS).map(|_| "${1}").collect();
    let error = parse(json!(many)).unwrap_err();
    assert_eq!(error.fault, TemplateFault::TooManyExpressions);

    let evaluator = CelEvaluator::with_limit(Duration::from_secs(60));
    let long = Variables::new().with("task", json!({ "text": "x".repeat(100_000) }));
    for template in [
        json!(vec!["${task.text}"; 6]),
        json!("${task.text}".repeat(6)),
        json!("${[task.text, task.text, task.text, task.text, task.text, task.text]}"),
    ] {
        let error = parse(template).unwrap().resolve(&evaluator, &long).unwrap_err();
        assert_eq!(error.fault, TemplateFault::TooLarge);
    }
    assert!(parse(json!(vec!["${task.text}"; 5])).unwrap().resolve(&evaluator, &long).is_ok());
}

#[test]
fn depth_is_bounded_after_resolving_too() {
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    let mut template = json!("${task.deep}");
    for _ in 0..40 {
        template = json!([template]);
    }
    let variables = Variables::new().with("task", json!({ "deep": deep }));
    let evaluator = CelEvaluator::with_limit(Duration::from_secs(60));
    let error = parse(template).unwrap().resolve(&evaluator, &variables).unwrap_err();
    assert!(matches!(error.fault, TemplateFault::Json(StrictError::TooDeep { .. })));
}

proptest! {
    #[test]
    fn json_without_expressions_stays(value in crate::json::tests::any_json()) {
        prop_assume!(!value.to_string().contains("${"));
        prop_assert_eq!(resolve(value.clone()), Ok(value));
    }

    #[test]
    fn a_parameter_arrives_as_it_is(value in crate::json::tests::any_json()) {
        let evaluator = CelEvaluator::with_limit(Duration::from_secs(60));
        let variables = Variables::new().with("task", json!({ "v": value }));
        let template = parse(json!({ "x": ["${task.v}"] })).unwrap();
        prop_assert_eq!(template.resolve(&evaluator, &variables), Ok(json!({ "x": [value] })));
    }
}
