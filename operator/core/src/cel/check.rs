//! Whether the parts of an expression fit each other, as far as that can be told before there are values.

use super::analysis::Problem;
use super::types::{Type, nearest};
use super::vocabulary::Vocabulary;
use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapEntryExpr, operators};

/// The type of an expression that [`super::analysis`] has found nothing wrong with.
///
/// # Errors
/// The first part that can never be evaluated: a member that is not there, an operator between types that it does
/// not take.
pub(super) fn type_of(root: &IdedExpr, vocabulary: &Vocabulary) -> Result<Type, Problem> {
    Check { vocabulary, bound: Vec::new() }.visit(root)
}

struct Check<'a> {
    vocabulary: &'a Vocabulary,
    /// The variables of the comprehensions around the current node, the innermost last.
    bound: Vec<(String, Type)>,
}

type Checked = Result<Type, Problem>;

impl Check<'_> {
    fn visit(&mut self, node: &IdedExpr) -> Checked {
        match &node.expr {
            Expr::Ident(name) => Ok(self.variable(name)),
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Bytes(_) => Type::Bytes,
                LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Type::Number,
                LiteralValue::Null => Type::Null,
                LiteralValue::String(_) => Type::Text,
            }),
            Expr::List(list) => self.common(&list.elements).map(Type::list),
            Expr::Map(map) => {
                let mut values = Vec::new();
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(MapEntryExpr { key, value, optional: _ }) => {
                            self.visit(key)?;
                            values.push(self.visit(value)?);
                        }
                        EntryExpr::StructField(field) => values.push(self.visit(&field.value)?),
                    }
                }
                Ok(Type::map(common(&values)))
            }
            Expr::Select(select) => {
                let operand = self.visit(&select.operand)?;
                let member = member(node.id, &described(&select.operand), &operand, &select.field)?;
                Ok(if select.test { Type::Bool } else { member })
            }
            Expr::Call(call) => self.call(node.id, call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            // The analysis refuses these.
            Expr::Struct(_) | Expr::Unspecified => Ok(Type::Any),
        }
    }

    fn variable(&self, name: &str) -> Type {
        let bound = self.bound.iter().rev().find(|(bound, _)| bound == name).map(|(_, holds)| holds);
        match bound.or_else(|| self.vocabulary.get(name)) {
            Some(holds) => holds.clone(),
            // The name of a type.
            None => Type::TypeName,
        }
    }

    fn common(&mut self, nodes: &[IdedExpr]) -> Checked {
        let types: Vec<Type> = nodes.iter().map(|node| self.visit(node)).collect::<Result<_, _>>()?;
        Ok(common(&types))
    }

    fn call(&mut self, node: u64, call: &CallExpr) -> Checked {
        let operands: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let types: Vec<Type> = operands.iter().map(|operand| self.visit(operand)).collect::<Result<_, _>>()?;
        let function = call.func_name.as_str();
        match (function, types.as_slice()) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                wants(operands[0], condition, &Type::Bool, "?")?;
                Ok(yes.or(no))
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right]) => {
                let sign = if function == operators::LOGICAL_AND { "&&" } else { "||" };
                wants(operands[0], left, &Type::Bool, sign)?;
                wants(operands[1], right, &Type::Bool, sign).map(|()| Type::Bool)
            }
            (operators::LOGICAL_NOT, [value]) => wants(operands[0], value, &Type::Bool, "!").map(|()| Type::Bool),
            (operators::NOT_STRICTLY_FALSE, _) => Ok(Type::Bool),
            (operators::NEGATE, [value]) => wants(operands[0], value, &Type::Number, "-").map(|()| Type::Number),
            (operators::ADD, [left, right]) => sum(node, left, right),
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [left, right]) => {
                if left.meets(&Type::Number) && right.meets(&Type::Number) {
                    return Ok(Type::Number);
                }
                Err(between(node, sign(function), left, right))
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
                if left.meets(right) || *left == Type::Null || *right == Type::Null {
                    return Ok(Type::Bool);
                }
                let message = format!("{left} is never equal to {right}; compare values of one type");
                Err(Problem { node, message })
            }
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [left, right],
            ) => {
                let ordered = [Type::Number, Type::Text, Type::Bool, Type::Bytes];
                if ordered.iter().any(|order| left.meets(order) && right.meets(order)) {
                    return Ok(Type::Bool);
                }
                Err(between(node, sign(function), left, right))
            }
            (operators::IN, [value, within]) => {
                let fits = match within.present() {
                    Type::Any => true,
                    Type::List(of) => value.meets(of),
                    Type::Map(_) | Type::Object(_) => value.meets(&Type::Text) || value.meets(&Type::Number),
                    Type::Null
                    | Type::Bool
                    | Type::Number
                    | Type::Text
                    | Type::Bytes
                    | Type::TypeName
                    | Type::Nullable(_) => false,
                };
                if fits { Ok(Type::Bool) } else { Err(between(node, "in", value, within)) }
            }
            (operators::INDEX, [value, index]) => self.index(node, operands[0], operands[1], value, index),
            ("contains" | "startsWith" | "endsWith" | "matches", [value, other]) => {
                wants(operands[0], value, &Type::Text, function)?;
                wants(operands[1], other, &Type::Text, function).map(|()| Type::Bool)
            }
            ("size", [value]) => match value.present() {
                Type::Any | Type::Text | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Object(_) => {
                    Ok(Type::Number)
                }
                Type::Null | Type::Bool | Type::Number | Type::TypeName | Type::Nullable(_) => {
                    Err(Problem { node, message: format!("{value} has no size") })
                }
            },
            ("int" | "uint" | "double", _) => Ok(Type::Number),
            ("string", _) => Ok(Type::Text),
            ("bool", _) => Ok(Type::Bool),
            ("type", _) => Ok(Type::TypeName),
            // Above all `dyn(x)`, which says that it is known only later.
            _ => Ok(Type::Any),
        }
    }

    fn index(&mut self, node: u64, of: &IdedExpr, at: &IdedExpr, value: &Type, index: &Type) -> Checked {
        if let Expr::Literal(LiteralValue::String(name)) = &at.expr {
            return member(node, &described(of), value, name.inner());
        }
        match value.present() {
            Type::Any | Type::Object(_) => Ok(Type::Any),
            Type::Map(of) => Ok((**of).clone()),
            Type::List(of) if index.meets(&Type::Number) => Ok((**of).clone()),
            Type::List(_)
            | Type::Null
            | Type::Bool
            | Type::Number
            | Type::Text
            | Type::Bytes
            | Type::TypeName
            | Type::Nullable(_) => Err(Problem { node, message: format!("{value} cannot be indexed with {index}") }),
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Checked {
        let ComprehensionExpr { iter_range, iter_var, iter_var2, accu_var, accu_init, loop_cond, loop_step, result } =
            comprehension;
        let range = self.visit(iter_range)?;
        let (key, value) = match range.present() {
            Type::Any => (Type::Any, Type::Any),
            Type::List(of) if iter_var2.is_none() => ((**of).clone(), Type::Any),
            Type::List(of) => (Type::Number, (**of).clone()),
            Type::Map(of) => (Type::Any, (**of).clone()),
            Type::Object(_) => (Type::Text, Type::Any),
            Type::Null | Type::Bool | Type::Number | Type::Text | Type::Bytes | Type::TypeName | Type::Nullable(_) => {
                let message = format!("{range} is neither a list nor a map, and nothing can go through it");
                return Err(Problem { node: iter_range.id, message });
            }
        };
        let accumulated = self.visit(accu_init)?;
        let before = self.bound.len();
        self.bound.push((iter_var.clone(), key));
        self.bound.extend(iter_var2.iter().map(|variable| (variable.clone(), value.clone())));
        // The empty list of `map` becomes one of what its steps give.
        let unknown = matches!(accumulated, Type::List(_));
        self.bound.push((accu_var.clone(), if unknown { Type::Any } else { accumulated.clone() }));
        self.visit(loop_cond)?;
        let step = self.visit(loop_step)?;
        if unknown && let Some((_, holds)) = self.bound.last_mut() {
            *holds = if matches!(step, Type::List(_)) { step } else { Type::list(Type::Any) };
        }
        let result = self.visit(result)?;
        self.bound.truncate(before);
        Ok(result)
    }
}

/// The type of all of these: anything where they differ, or where there are none.
fn common(types: &[Type]) -> Type {
    let mut types = types.iter();
    let first = types.next().cloned();
    first.map_or(Type::Any, |first| types.fold(first, |known, next| known.or(next)))
}

fn sum(node: u64, left: &Type, right: &Type) -> Checked {
    match (left.present(), right.present()) {
        (Type::Any, Type::Any) => Ok(Type::Any),
        (Type::Any, other) | (other, Type::Any) => match other {
            Type::Number | Type::Text | Type::Bytes => Ok(other.clone()),
            Type::List(_) => Ok(Type::list(Type::Any)),
            Type::Any
            | Type::Null
            | Type::Bool
            | Type::TypeName
            | Type::Map(_)
            | Type::Object(_)
            | Type::Nullable(_) => Err(between(node, "+", left, right)),
        },
        (Type::List(a), Type::List(b)) => Ok(Type::list(a.or(b))),
        (a @ (Type::Number | Type::Text | Type::Bytes), b) if a == b => Ok(a.clone()),
        _ => Err(between(node, "+", left, right)),
    }
}

fn wants(node: &IdedExpr, found: &Type, wanted: &Type, function: &str) -> Result<(), Problem> {
    if found.meets(wanted) {
        return Ok(());
    }
    Err(Problem { node: node.id, message: format!("{function} takes {wanted}, and this is {found}") })
}

fn between(node: u64, sign: &str, left: &Type, right: &Type) -> Problem {
    let hint = match (left.present(), right.present()) {
        (Type::Text, Type::Number) | (Type::Number, Type::Text) => "; convert one with string() or int()",
        _ => "",
    };
    Problem { node, message: format!("{sign} does not go between {left} and {right}{hint}") }
}

/// The type of a member.
fn member(node: u64, of: &str, value: &Type, name: &str) -> Checked {
    match value.present() {
        Type::Any => Ok(Type::Any),
        Type::Map(of) => Ok((**of).clone()),
        Type::Object(members) => members.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = members.keys().map(String::as_str).collect();
            let meant = nearest(name, known.iter().copied());
            let it_has = meant.map_or("; it has".to_owned(), |meant| format!("; did you mean {meant:?}? It has"));
            Problem { node, message: format!("{of} has no member {name:?}{it_has} {}", known.join(", ")) }
        }),
        Type::Null
        | Type::Bool
        | Type::Number
        | Type::Text
        | Type::Bytes
        | Type::TypeName
        | Type::List(_)
        | Type::Nullable(_) => Err(Problem { node, message: format!("{of} is {value} and has no members") }),
    }
}

/// What a user calls the value, as far as it has a name.
fn described(node: &IdedExpr) -> String {
    match &node.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Select(select) => format!("{}.{}", described(&select.operand), select.field),
        Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_)
        | Expr::Unspecified => "the value".to_owned(),
    }
}

fn sign(function: &str) -> &str {
    function.trim_matches('_')
}

#[cfg(test)]
mod tests {
    use crate::cel::{Expression, Type, Vocabulary};

    fn vocabulary() -> Vocabulary {
        let task = Type::object([
            ("name", Type::Text),
            ("namespace", Type::Text),
            ("type", Type::Text.or_null()),
            ("attempt", Type::Number),
            ("hosts", Type::list(Type::Text)),
            ("parameters", Type::map(Type::Any)),
        ]);
        Vocabulary::typed([
            ("task", task),
            ("agent", Type::object([("priority", Type::Text)]).or_null()),
            ("free", Type::Any),
        ])
    }

    #[test]
    fn what_can_be_evaluated_is_accepted() {
        for source in [
            "true",
            "task.name == 'x' && task.attempt + 1 > 2",
            "task.type == 'x' || task.type == null || task.type.startsWith('a')",
            "agent != null && agent.priority == 'High'",
            "has(agent.priority) && has(task.parameters.anything)",
            "task.hosts.all(h, h.endsWith('.example.com'))",
            "task.hosts.exists_one(h, h == 'a') && task.hosts.map(h, size(h)).exists(n, n > 1.5)",
            "task.hosts.filter(h, h != '').size() > 0",
            "task.parameters.all(k, task.parameters[k] != '')",
            "'a' in task.hosts && 'x' in task.parameters && 1 in [1, 2.5]",
            "task.parameters.amount * 2 < 3.5 && task.parameters.flag",
            "task.parameters['k'].deep[0].er == [1, 'a']",
            "(task.parameters.a ? 'x' : 'y') == task.name",
            "free.whatever == 1 || free + 1 > 2",
            "type(task.parameters.x) == string",
            "string(task.attempt) + task.name != ''",
            "dyn(task.name) == 1",
            "{'a': 1}['a'] == 1 && task['name'] == 'x'",
            "task.hosts[task.attempt] == 'x'",
            "[1, 'a'].exists(x, x == 1)",
            "task.parameters.flag",
            "-task.attempt < 0 && !task.parameters.flag",
        ] {
            let parsed = Expression::parse_bool(source, &vocabulary());
            assert!(parsed.is_ok(), "{source}: {parsed:?}");
        }
    }

    #[test]
    fn what_can_never_be_evaluated_is_refused_with_its_place_and_the_fix() {
        for (source, said) in [
            (
                "task.namespac == 'x'",
                "1:5: task has no member \"namespac\"; did you mean \"namespace\"? It has attempt, hosts, name, namespace, parameters, type",
            ),
            ("has(task.owner)", "task has no member \"owner\"; it has attempt, hosts"),
            ("task['nam'] == 'x'", "task has no member \"nam\"; did you mean \"name\"?"),
            ("agent.prio == 'High'", "agent has no member \"prio\"; it has priority"),
            ("task.name.x == 1", "task.name is a string and has no members"),
            ("task.name + 1 == 'x'", "+ does not go between a string and a number; convert one with string() or int()"),
            ("task.name + 1", "+ does not go between a string and a number"),
            ("task.name", "the expression is a string; it has to be true or false"),
            ("1", "the expression is a number; it has to be true or false"),
            ("null", "the expression is null; it has to be true or false"),
            ("task.hosts.map(h, h)", "the expression is a list; it has to be true or false"),
            ("task.attempt == 'x'", "a number is never equal to a string"),
            ("task.name < 3", "< does not go between a string and a number"),
            ("task.name && true", "&& takes true or false, and this is a string"),
            ("!task.name", "! takes true or false, and this is a string"),
            ("task.name ? true : false", "? takes true or false, and this is a string"),
            ("task.attempt.startsWith('x')", "startsWith takes a string, and this is a number"),
            ("task.name.matches(1)", "matches takes a string, and this is a number"),
            ("task.name.all(c, c == 'x')", "a string is neither a list nor a map"),
            ("task.hosts.all(h, h > 1)", "> does not go between a string and a number"),
            ("task.hosts.all(h, h.x == 1)", "h is a string and has no members"),
            ("1 in task.hosts", "in does not go between a number and a list"),
            ("'a' in task.name", "in does not go between a string and a string"),
            ("size(task.attempt) > 0", "a number has no size"),
            ("task.hosts.first == 'x'", "task.hosts is a list and has no members"),
            ("-task.name == 1", "- takes a number, and this is a string"),
            ("task.attempt[0] == 1", "a number cannot be indexed with a number"),
        ] {
            let error = Expression::parse_bool(source, &vocabulary()).unwrap_err().to_string();
            assert!(error.contains(said), "{source}: {error}");
        }
    }
}
