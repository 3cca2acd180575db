//! Rewrites a parsed expression so that evaluating it is counted by [`super::meter`].

use super::meter::{ADD, DIVIDE, MATCHES, MODULO, MULTIPLY, RANGE, SCAN, SUBTRACT, TICK, WEIGH};
use cel::IdedExpr;
use cel::common::ast::operators;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue};

/// The same expression, in which everything that can make it large or slow is counted: the
/// iterations of comprehensions, the elements of lists and maps, `+`, and what is searched. Arithmetic and `matches` are
/// done by functions of our own.
pub(super) fn instrument(node: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = node;
    let expr = match expr {
        Expr::Call(call) => instrument_call(call),
        Expr::Comprehension(comprehension) => Expr::Comprehension(Box::new(instrument_comprehension(*comprehension))),
        Expr::List(mut list) => {
            list.elements = list.elements.into_iter().map(weighed).collect();
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        entry.key = weighed(std::mem::take(&mut entry.key));
                        entry.value = weighed(std::mem::take(&mut entry.value));
                    }
                    EntryExpr::StructField(field) => {
                        field.value = weighed(std::mem::take(&mut field.value));
                    }
                }
            }
            Expr::Map(map)
        }
        Expr::Select(mut select) => {
            select.operand = Box::new(instrument(*select.operand));
            Expr::Select(select)
        }
        unchanged @ (Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_)) => unchanged,
    };
    IdedExpr { id, expr }
}

fn instrument_call(mut call: CallExpr) -> Expr {
    call.target = call.target.map(|target| Box::new(instrument(*target)));
    call.args = call.args.into_iter().map(instrument).collect();
    // The interpreter appends to the accumulator of map and filter in place; counted as `@add` it
    // would be copied for each element. Its elements are weighed as those of a list.
    let ours = match call.func_name.as_str() {
        operators::ADD if !call.args.first().is_some_and(is_accumulator) => Some(ADD),
        operators::SUBSTRACT => Some(SUBTRACT),
        operators::MULTIPLY => Some(MULTIPLY),
        operators::DIVIDE => Some(DIVIDE),
        operators::MODULO => Some(MODULO),
        "matches" => {
            call.args.splice(0..0, call.target.take().map(|target| *target));
            Some(MATCHES)
        }
        _ => None,
    };
    if let Some(ours) = ours {
        call.func_name = ours.to_owned();
    }
    if let Some(searched) = searched(&mut call)
        && !matches!(searched.expr, Expr::Literal(_))
    {
        *searched = self::call(SCAN, vec![std::mem::take(searched)]);
    }
    Expr::Call(call)
}

/// The operand that a call reads through, in a time that depends on its size.
fn searched(call: &mut CallExpr) -> Option<&mut IdedExpr> {
    match call.func_name.as_str() {
        operators::IN => call.args.get_mut(1),
        operators::EQUALS | operators::NOT_EQUALS => call.args.first_mut(),
        "contains" => match call.target.as_deref_mut() {
            Some(target) => Some(target),
            None => call.args.first_mut(),
        },
        _ => None,
    }
}

fn instrument_comprehension(comprehension: ComprehensionExpr) -> ComprehensionExpr {
    let ComprehensionExpr { iter_range, iter_var, iter_var2, accu_var, accu_init, loop_cond, loop_step, result } =
        comprehension;
    let nodes = nodes(&loop_step);
    let mut loop_cond = loop_cond;
    let mut loop_step = instrument(loop_step);
    // A literal condition marks the loops whose accumulator is built in place, and has to stay.
    let counted = match (&loop_cond.expr, &mut loop_step.expr) {
        (Expr::Literal(_), Expr::Call(step)) => count_step(step, nodes),
        _ => false,
    };
    if !counted {
        loop_cond = ticked(nodes, loop_cond);
    }
    ComprehensionExpr {
        iter_range: call(RANGE, vec![instrument(iter_range)]),
        iter_var,
        iter_var2,
        accu_var,
        accu_init,
        loop_cond,
        loop_step,
        result,
    }
}

/// Counts in the part of a step that is evaluated for each element: the condition of
/// `condition ? accumulator + … : accumulator`, or the element of `accumulator + [element]`.
fn count_step(step: &mut CallExpr, nodes: u64) -> bool {
    let counted = match (step.func_name.as_str(), step.args.as_mut_slice()) {
        (operators::CONDITIONAL, [condition, _, _]) => condition,
        (operators::ADD, [_, items]) => {
            let Expr::List(list) = &mut items.expr else {
                return false;
            };
            let Some(element) = list.elements.first_mut() else {
                return false;
            };
            element
        }
        _ => return false,
    };
    *counted = ticked(nodes, std::mem::take(counted));
    true
}

/// A value that is about to be copied into a list or a map.
fn weighed(node: IdedExpr) -> IdedExpr {
    if matches!(node.expr, Expr::Literal(_)) {
        return node;
    }
    call(WEIGH, vec![instrument(node)])
}

fn ticked(nodes: u64, value: IdedExpr) -> IdedExpr {
    let nodes = Expr::Literal(LiteralValue::UInt(nodes.into()));
    call(TICK, vec![IdedExpr { id: 0, expr: nodes }, value])
}

fn call(function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args }) }
}

/// The macros name their accumulator with an `@`, which no user can write.
fn is_accumulator(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name.starts_with('@'))
}

/// How many nodes an expression has, as a measure of the work of evaluating it once.
fn nodes(node: &IdedExpr) -> u64 {
    let below = match &node.expr {
        Expr::Call(call) => call.target.as_deref().map_or(0, nodes) + call.args.iter().map(nodes).sum::<u64>(),
        Expr::Comprehension(inner) => nodes(&inner.iter_range) + nodes(&inner.loop_step),
        Expr::List(list) => list.elements.iter().map(nodes).sum(),
        Expr::Map(map) => map
            .entries
            .iter()
            .map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => nodes(&entry.key) + nodes(&entry.value),
                EntryExpr::StructField(field) => nodes(&field.value),
            })
            .sum(),
        Expr::Select(select) => nodes(&select.operand),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => 0,
    };
    below + 1
}
