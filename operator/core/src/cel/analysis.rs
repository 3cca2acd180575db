//! What an expression refers to, and whether it stays within what is allowed.

use super::expression::MAX_COMPREHENSION_DEPTH;
use super::path::Path;
use super::pattern::Pattern;
use super::vocabulary::Vocabulary;
use cel::IdedExpr;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapEntryExpr, StructFieldExpr, operators,
};
use std::collections::BTreeSet;

/// The functions of the standard library that expressions may call.
const FUNCTIONS: [Function; 12] = [
    Function::new("size", Some(1), Some(0)),
    Function::new("contains", None, Some(1)),
    Function::new("startsWith", None, Some(1)),
    Function::new("endsWith", None, Some(1)),
    Function::new("matches", Some(2), Some(1)),
    Function::new("int", Some(1), None),
    Function::new("uint", Some(1), None),
    Function::new("double", Some(1), None),
    Function::new("string", Some(1), None),
    Function::new("bool", Some(1), None),
    Function::new("type", Some(1), None),
    Function::new("dyn", Some(1), None),
];

/// The macros; one that is left as a call was not called the way it is to be.
const MACROS: [(&str, &str); 6] = [
    ("has", "has(value.field)"),
    ("all", "list.all(x, condition)"),
    ("exists", "list.exists(x, condition)"),
    ("exists_one", "list.exists_one(x, condition)"),
    ("map", "list.map(x, value) or list.map(x, condition, value)"),
    ("filter", "list.filter(x, condition)"),
];

const OPERATORS: [&str; 19] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::NOT_STRICTLY_FALSE,
    operators::IN,
];

/// Names of types, which `type(x) == int` compares with.
const TYPE_NAMES: [&str; 10] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

struct Function {
    name: &'static str,
    /// How many arguments it takes as `f(x)`.
    global: Option<usize>,
    /// How many arguments it takes as `x.f()`.
    member: Option<usize>,
}

impl Function {
    const fn new(name: &'static str, global: Option<usize>, member: Option<usize>) -> Self {
        Self { name, global, member }
    }
}

/// What an expression refers to.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Every path that it reads or tests.
    pub(super) read: BTreeSet<Path>,
    /// The paths in `has(path)`.
    pub(super) tested: BTreeSet<Path>,
    /// The paths that it indexes with something that is computed.
    pub(super) dynamic: BTreeSet<Path>,
}

/// What is wrong, and with which node.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) node: u64,
    pub(super) message: String,
}

/// Checks an expression against the vocabulary and collects what it refers to.
pub(super) fn analyse(root: &IdedExpr, vocabulary: &Vocabulary) -> Result<References, Problem> {
    let mut analysis = Analysis { vocabulary, bound: Vec::new(), references: References::default() };
    analysis.visit(root)?;
    Ok(analysis.references)
}

struct Analysis<'a> {
    vocabulary: &'a Vocabulary,
    /// The variables of the comprehensions around the current node.
    bound: Vec<String>,
    references: References,
}

/// How deep comprehensions are nested in a node.
type Depth = usize;

impl Analysis<'_> {
    fn visit(&mut self, node: &IdedExpr) -> Result<Depth, Problem> {
        if let Some(name) = StaticName::of(node) {
            return self.name(name).map(|_| 0);
        }
        match &node.expr {
            Expr::Call(call) => self.call(node.id, call),
            Expr::Comprehension(comprehension) => self.comprehension(node.id, comprehension),
            Expr::List(list) => self.deepest(&list.elements),
            Expr::Map(map) => {
                let mut depth = 0;
                for entry in &map.entries {
                    depth = depth.max(match &entry.expr {
                        EntryExpr::MapEntry(MapEntryExpr { key, value, optional: _ }) => {
                            self.visit(key)?.max(self.visit(value)?)
                        }
                        EntryExpr::StructField(StructFieldExpr { field: _, value, optional: _ }) => {
                            self.visit(value)?
                        }
                    });
                }
                Ok(depth)
            }
            Expr::Select(select) if select.test => match StaticName::of(&select.operand) {
                Some(name) => {
                    if let Some(path) = self.name(name.member(&select.field))? {
                        self.references.tested.insert(path);
                    }
                    Ok(0)
                }
                None => self.visit(&select.operand),
            },
            Expr::Select(select) => self.visit(&select.operand),
            Expr::Literal(_) => Ok(0),
            Expr::Struct(_) => Err(problem(node.id, "messages are not available; write a map, {\"key\": value}")),
            // A name would have been found above.
            Expr::Unspecified | Expr::Ident(_) => Err(problem(node.id, "an empty expression")),
        }
    }

    fn deepest<'n>(&mut self, nodes: impl IntoIterator<Item = &'n IdedExpr>) -> Result<Depth, Problem> {
        nodes.into_iter().try_fold(0, |depth: Depth, node| Ok(depth.max(self.visit(node)?)))
    }

    /// Checks a name and notes it; gives its path if it starts at a root.
    fn name(&mut self, name: StaticName) -> Result<Option<Path>, Problem> {
        let root = &name.segments[0];
        if self.bound.contains(root) || (name.segments.len() == 1 && is_type(root)) {
            return Ok(None);
        }
        if !self.vocabulary.contains(root) {
            let message = format!("unknown variable \"{root}\"; use one of {}", self.vocabulary);
            return Err(problem(name.node, message));
        }
        let path = Path::new(name.segments);
        self.references.read.insert(path.clone());
        Ok(Some(path))
    }

    fn call(&mut self, node: u64, call: &CallExpr) -> Result<Depth, Problem> {
        check_function(node, call)?;
        check_pattern(call)?;
        if let (operators::INDEX, [value, index]) = (call.func_name.as_str(), call.args.as_slice()) {
            // A list's element is below the path of the list; anything else is only known later.
            let computed = !matches!(index.expr, Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_)));
            if let (true, Some(name)) = (computed, StaticName::of(value))
                && let Some(path) = self.name(name)?
            {
                self.references.dynamic.insert(path);
            }
        }
        self.deepest(call.target.as_deref().into_iter().chain(&call.args))
    }

    fn comprehension(&mut self, node: u64, comprehension: &ComprehensionExpr) -> Result<Depth, Problem> {
        let ComprehensionExpr { iter_range, iter_var, iter_var2, accu_var, accu_init, loop_cond, loop_step, result } =
            comprehension;
        let outside = self.visit(iter_range)?.max(self.visit(accu_init)?);
        let before = self.bound.len();
        for variable in [Some(iter_var), iter_var2.as_ref(), Some(accu_var)].into_iter().flatten() {
            if self.vocabulary.contains(variable) || is_type(variable) {
                let message = format!("\"{variable}\" already means something; rename it");
                return Err(problem(node, message));
            }
            self.bound.push(variable.clone());
        }
        let inside = self.deepest([loop_cond, loop_step, result])? + 1;
        self.bound.truncate(before);
        if inside > MAX_COMPREHENSION_DEPTH {
            let message =
                format!("all, exists, map and filter are nested {inside} deep; at most {MAX_COMPREHENSION_DEPTH}");
            return Err(problem(node, message));
        }
        Ok(outside.max(inside))
    }
}

fn check_function(node: u64, call: &CallExpr) -> Result<(), Problem> {
    let CallExpr { func_name, target, args } = call;
    if OPERATORS.contains(&func_name.as_str()) {
        return Ok(());
    }
    if let Some((_, usage)) = MACROS.iter().find(|(name, _)| name == func_name) {
        return Err(problem(node, format!("write {usage}")));
    }
    let Some(function) = FUNCTIONS.iter().find(|known| known.name == func_name) else {
        let known: Vec<_> = FUNCTIONS.iter().map(|known| known.name).collect();
        let message = format!("unknown function \"{func_name}\"; use one of {}", known.join(", "));
        return Err(problem(node, message));
    };
    let (wanted, form) = match target {
        Some(_) => (function.member, format!("value.{func_name}()")),
        None => (function.global, format!("{func_name}()")),
    };
    match wanted {
        Some(wanted) if wanted == args.len() => Ok(()),
        Some(wanted) => Err(problem(node, format!("{form} takes {wanted} arguments, not {}", args.len()))),
        None => {
            let other = match target {
                Some(_) => format!("{func_name}(value)"),
                None => format!("value.{func_name}()"),
            };
            Err(problem(node, format!("{func_name} is called as {other}")))
        }
    }
}

/// A pattern that is written out is compiled now, so that whoever writes it hears what is wrong with it.
fn check_pattern(call: &CallExpr) -> Result<(), Problem> {
    let pattern = call.args.last().filter(|_| call.func_name == "matches");
    let Some(IdedExpr { id, expr: Expr::Literal(LiteralValue::String(pattern)) }) = pattern else { return Ok(()) };
    Pattern::compile(pattern.inner()).map(|_| ()).map_err(|error| problem(*id, format!("matches: {error}")))
}

fn is_type(name: &str) -> bool {
    TYPE_NAMES.contains(&name)
}

fn problem(node: u64, message: impl Into<String>) -> Problem {
    Problem { node, message: message.into() }
}

/// A name and the members selected from it by constant names: `a.b["c"]`.
struct StaticName {
    node: u64,
    segments: Vec<String>,
}

impl StaticName {
    fn of(node: &IdedExpr) -> Option<Self> {
        let mut members = Vec::new();
        let mut node = node;
        loop {
            match &node.expr {
                Expr::Ident(name) => {
                    members.push(name.clone());
                    members.reverse();
                    return Some(Self { node: node.id, segments: members });
                }
                Expr::Select(select) if !select.test => {
                    members.push(select.field.clone());
                    node = &select.operand;
                }
                Expr::Call(call) if call.func_name == operators::INDEX => {
                    let [value, index] = call.args.as_slice() else {
                        return None;
                    };
                    let Expr::Literal(LiteralValue::String(key)) = &index.expr else {
                        return None;
                    };
                    members.push(key.inner().to_owned());
                    node = value;
                }
                Expr::Unspecified
                | Expr::Call(_)
                | Expr::Comprehension(_)
                | Expr::List(_)
                | Expr::Literal(_)
                | Expr::Map(_)
                | Expr::Select(_)
                | Expr::Struct(_) => return None,
            }
        }
    }

    fn member(mut self, field: &str) -> Self {
        self.segments.push(field.to_owned());
        self
    }
}
