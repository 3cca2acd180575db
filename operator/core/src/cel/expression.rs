//! Expressions, parsed and checked.

use super::analysis::{Problem, References, analyse};
use super::check::type_of;
use super::instrument::instrument;
use super::path::Path;
use super::types::Type;
use super::values::Selection;
use super::vocabulary::Vocabulary;
use super::worker::{Overrun, Pool};
use crate::kept::Kept;
use cel::IdedExpr;
use cel::common::ast::SourceInfo;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The longest expression, in characters.
pub const MAX_CHARS: usize = 1024;

/// How deep `all`, `exists`, `exists_one`, `map` and `filter` may be nested.
pub const MAX_COMPREHENSION_DEPTH: usize = 2;

/// The most memory that parsed expressions that are kept may take together, in bytes.
const KEPT_BYTES: usize = 32 << 20;

/// About the most bytes that a tree takes for each byte of its text.
const TREE_BYTES: usize = 512;

/// Far more than the slowest text of [`MAX_CHARS`] takes; a backstop, not a budget.
const PARSE_LIMIT: Duration = Duration::from_secs(10);

/// A CEL expression that uses nothing but its vocabulary. Cheap to clone; parse it once.
#[derive(Clone)]
pub struct Expression(Arc<Parsed>);

struct Parsed {
    source: String,
    references: References,
    selection: Selection,
    instrumented: IdedExpr,
}

/// Why an expression is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line and column in the expression, each from 1, the column in characters; absent where the
    /// expression as a whole is at fault.
    pub position: Option<(usize, usize)>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Expression {
    /// Parses and checks an expression.
    ///
    /// # Errors
    /// It is empty or longer than [`MAX_CHARS`], is not CEL, uses a variable that is not in the
    /// vocabulary or a function that is not of the standard library, hides a variable by one of
    /// a comprehension, nests comprehensions deeper than [`MAX_COMPREHENSION_DEPTH`], or can never be
    /// evaluated, as its parts are of types that do not go together.
    pub fn parse(source: &str, vocabulary: &Vocabulary) -> Result<Self, ParseError> {
        Self::parse_bounded(source, vocabulary, &Type::Any)
    }

    /// As [`Self::parse`], for what has to be true or false.
    ///
    /// # Errors
    /// Also where it is known to be neither.
    pub fn parse_bool(source: &str, vocabulary: &Vocabulary) -> Result<Self, ParseError> {
        Self::parse_bounded(source, vocabulary, &Type::Bool)
    }

    fn parse_bounded(source: &str, vocabulary: &Vocabulary, wanted: &Type) -> Result<Self, ParseError> {
        let length = source.chars().count();
        if length > MAX_CHARS {
            return Err(ParseError::whole(format!(
                "{length} characters are too long for an expression; at most {MAX_CHARS}"
            )));
        }
        if source.trim().is_empty() {
            return Err(ParseError::whole("the expression is empty"));
        }
        // Rules, conditions and inputs are asked for again with each judgement.
        static KEPT: LazyLock<Kept<String, Expression>> = LazyLock::new(|| Kept::new(KEPT_BYTES));
        let key = format!("{:x} {} {source}", vocabulary.id(), *wanted == Type::Bool);
        KEPT.get_or(&key, || {
            let parsed = Self::parse_unbounded(source, vocabulary, wanted)?;
            Ok((parsed, source.len() * TREE_BYTES))
        })
    }

    /// Whatever the length.
    pub(super) fn parse_unbounded(source: &str, vocabulary: &Vocabulary, wanted: &Type) -> Result<Self, ParseError> {
        // The parser recurses, and so does everything that walks what it made.
        static PARSERS: LazyLock<Pool> = LazyLock::new(Pool::default);
        let job = {
            let source = source.to_owned();
            let (vocabulary, wanted) = (vocabulary.clone(), wanted.clone());
            move || parse_here(source, &vocabulary, &wanted)
        };
        match PARSERS.run(None, PARSE_LIMIT, job) {
            Ok(parsed) => parsed.map(|parsed| Self(Arc::new(parsed))),
            Err(overrun) => Err(ParseError::whole(match overrun {
                Overrun::Timeout => "takes too long to parse; make it simpler".to_owned(),
                Overrun::Saturated => "too many expressions are being parsed; try again".to_owned(),
                Overrun::Panicked(message) => format!("cannot be parsed: {message}"),
                Overrun::NoThread(error) => format!("cannot be parsed now: {error}"),
            })),
        }
    }

    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Every path that it reads or tests with `has`, as far as it is static: `steps.a.output[0].to`
    /// gives `steps.a.output`, and `steps` as a whole value gives `steps`.
    pub fn references(&self) -> &BTreeSet<Path> {
        &self.0.references.read
    }

    /// Those of the references for which it does not ask first, with `has` on them or on something
    /// above them: what must be there.
    pub fn required(&self) -> BTreeSet<Path> {
        let References { read, tested, .. } = &self.0.references;
        let asked = |path: &Path| tested.iter().any(|test| path.starts_with(test.segments()));
        read.iter().filter(|path| !asked(path)).cloned().collect()
    }

    /// The paths that it indexes with something computed: `steps` for `steps[task.parameters.next]`.
    /// What lies below them cannot be told before it is evaluated.
    pub fn dynamic(&self) -> &BTreeSet<Path> {
        &self.0.references.dynamic
    }

    /// What evaluating it needs of the variables.
    pub(super) fn selection(&self) -> &Selection {
        &self.0.selection
    }

    pub(super) fn instrumented(&self) -> &IdedExpr {
        &self.0.instrumented
    }
}

fn parse_here(source: String, vocabulary: &Vocabulary, wanted: &Type) -> Result<Parsed, ParseError> {
    let (tree, info) = super::meter::environment()
        .parser()
        .parse_with_source_info(&source)
        .map_err(|errors| ParseError::of_parser(errors.errors.first()))?;
    let at = |Problem { node, message }| ParseError { position: position(&info, node), message };
    let references = analyse(&tree, vocabulary).map_err(at)?;
    let found = type_of(&tree, vocabulary).map_err(at)?;
    if !found.meets(wanted) {
        return Err(ParseError::whole(format!("the expression is {found}; it has to be {wanted}")));
    }
    Ok(Parsed { selection: Selection::of(&references.read), instrumented: instrument(tree), references, source })
}

/// Where a node starts; the parser counts bytes.
fn position(info: &SourceInfo, node: u64) -> Option<(usize, usize)> {
    let (start, _) = info.offset_for(node)?;
    let mut place = (1, 1);
    for (at, character) in info.source.char_indices() {
        if at >= start as usize {
            break;
        }
        place = match character {
            '\n' => (place.0 + 1, 1),
            _ => (place.0, place.1 + 1),
        };
    }
    Some(place)
}

impl ParseError {
    fn whole(message: impl Into<String>) -> Self {
        Self { position: None, message: message.into() }
    }

    fn of_parser(error: Option<&cel::ParseError>) -> Self {
        const LONGEST: usize = 200;
        let Some(error) = error else {
            return Self::whole("not a CEL expression");
        };
        // The parser lists every token that it would have taken, and speaks of its own types.
        let message = error.msg.split(" expecting {").next().unwrap_or_default();
        let message = if message.contains("Recursion limit") {
            "nested too deep".to_owned()
        } else if let Some(name) = message.split("reserved identifier: ").nth(1) {
            format!("{name:?} is a word that CEL keeps for itself; as a member it may stand, as in task.{name}")
        } else if message == "UNKNOWN" || message.contains("Context") {
            "not a CEL expression".to_owned()
        } else {
            message.chars().take(LONGEST).collect()
        };
        let (line, column) = error.pos;
        Self {
            position: usize::try_from(line).ok().zip(usize::try_from(column).ok()).filter(|(line, _)| *line > 0),
            message,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{line}:{column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.source)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::new(["task", "steps", "plan"])
    }

    fn parse(source: &str) -> Expression {
        Expression::parse(source, &vocabulary()).unwrap()
    }

    fn paths<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Vec<String> {
        paths.into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn references_are_the_static_paths() {
        for (source, expected) in [
            ("steps.check_balance.output.balance > 3", vec!["steps.check_balance.output.balance"]),
            (r#"steps["check-balance"].output"#, vec![r#"steps["check-balance"].output"#]),
            (r#"steps["a"]["output"].b"#, vec!["steps.a.output.b"]),
            ("task.parameters.items[0].to", vec!["task.parameters.items"]),
            ("task.items.all(i, i.amount < task.limit)", vec!["task.items", "task.limit"]),
            ("task.items.map(task_, task_.x)", vec!["task.items"]),
            ("size(steps) + size(plan.name)", vec!["plan.name", "steps"]),
            ("{'k': [task.a, plan.b]}.k", vec!["plan.b", "task.a"]),
            ("has(task.a.b) ? task.a.b : 'x'", vec!["task.a.b"]),
            (
                "task.a in plan.list && task.name.startsWith(plan.prefix)",
                vec!["plan.list", "plan.prefix", "task.a", "task.name"],
            ),
            ("1 + 2 == 3 && type('x') == string", vec![]),
        ] {
            assert_eq!(paths(parse(source).references()), expected, "{source}");
        }
    }

    #[test]
    fn what_is_asked_for_is_not_required() {
        let expression = parse("has(task.a.b) && task.a.b.c == task.d");
        assert_eq!(paths(&expression.required()), ["task.d"]);
        assert_eq!(paths(expression.references()), ["task.a.b", "task.a.b.c", "task.d"]);
    }

    #[test]
    fn a_computed_index_is_reported() {
        for (source, expected) in [
            ("steps[task.parameters.next].output", vec!["steps"]),
            ("steps['a' + 'b'].output", vec!["steps"]),
            ("task.list.all(i, steps.a.output[i] > 1)", vec!["steps.a.output"]),
            ("task.items[0]", vec![]),
            ("steps['a'].output", vec![]),
            ("task.items.all(i, i[task.k] == 1)", vec![]),
        ] {
            assert_eq!(paths(parse(source).dynamic()), expected, "{source}");
        }
    }

    #[test]
    fn what_it_refuses_and_where() {
        for (source, said) in [
            ("task.a == foo.b", "1:11: unknown variable \"foo\"; use one of plan, steps, task"),
            ("task.a &&\n  foo", "2:3: unknown variable \"foo\"; use one of plan, steps, task"),
            ("'é€😀' == foo", "1:10: unknown variable \"foo\"; use one of plan, steps, task"),
            ("task.a.all(i, j)", "1:15: unknown variable \"j\"; use one of plan, steps, task"),
            ("task.a.all(i, true) && i", "1:24: unknown variable \"i\"; use one of plan, steps, task"),
            (".task.a", "1:2: unknown variable \".task\"; use one of plan, steps, task"),
            ("task.a.all(plan, true)", "1:11: \"plan\" already means something; rename it"),
            ("task.a.all(i)", "1:11: write list.all(x, condition)"),
            ("has(task)", "1:5: invalid argument to has() macro"),
            (
                "task.a.lower()",
                "1:13: unknown function \"lower\"; use one of size, contains, startsWith, endsWith, matches, int, uint, double, string, bool, type, dyn",
            ),
            (
                "optional.of(1)",
                "1:12: unknown function \"of\"; use one of size, contains, startsWith, endsWith, matches, int, uint, double, string, bool, type, dyn",
            ),
            ("contains(task.a, 'b')", "1:9: contains is called as value.contains()"),
            ("task.a.int()", "1:11: int is called as int(value)"),
            ("size(task.a, 1)", "1:5: size() takes 1 arguments, not 2"),
            ("task.a ==", "1:10: Syntax error: mismatched input '<EOF>'"),
            ("'é€😀' == ", "1:10: Syntax error: mismatched input '<EOF>'"),
            ("task.?a", "1:5: unsupported syntax '.?'"),
            ("Message{field: 1}", "1:8: messages are not available; write a map, {\"key\": value}"),
            ("1 ? 2", "1:1: not a CEL expression"),
            (&"(".repeat(200), "1:97: nested too deep"),
            ("", "the expression is empty"),
            (" \n ", "the expression is empty"),
        ] {
            let error = Expression::parse(source, &vocabulary()).unwrap_err();
            assert_eq!(error.to_string(), said, "{source}");
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        let text = |characters: usize| format!("'{}'", "é".repeat(characters - 2));
        assert!(Expression::parse(&text(MAX_CHARS), &vocabulary()).is_ok());
        assert!(Expression::parse(&text(MAX_CHARS + 1), &vocabulary()).is_err());
    }

    #[test]
    fn what_was_parsed_is_kept_for_its_vocabulary_and_type() {
        let same = |a: &Expression, b: &Expression| Arc::ptr_eq(&a.0, &b.0);
        let source = "task.kept == 'for its vocabulary'";
        assert!(same(&parse(source), &parse(source)));
        let other = Expression::parse(source, &Vocabulary::typed([("task", Type::map(Type::Text))])).unwrap();
        assert!(!same(&parse(source), &other));
        assert!(Expression::parse(source, &Vocabulary::new(["steps"])).is_err());
        assert!(Expression::parse_bool("task.kept + 'x'", &vocabulary()).is_err());
        assert!(Expression::parse("task.kept + 'x'", &vocabulary()).is_ok(), "as a value it is right");
    }

    #[test]
    fn it_can_be_shared_between_threads() {
        fn shared<T: Send + Sync + Clone>() {}
        shared::<Expression>();
    }
}
