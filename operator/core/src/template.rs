//! Templates: JSON whose strings hold `${cel}`.
//!
//! A string that is nothing but one `${…}` becomes the value of the expression, of whatever type. In
//! any other string the values are put in as text: strings as they are, numbers and booleans as JSON
//! writes them, lists and maps as canonical JSON. `$${` stands for `${`. Keys are left alone.

mod scan;

use crate::cel::{CelEvaluator, EvalError, Expression, ParseError, Path, Variables, Vocabulary};
use crate::json::canonical;
use crate::json::path::JsonPath;
use crate::json::strict::{self, StrictError};
use scan::Piece;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// How many expressions a template may have.
pub const MAX_EXPRESSIONS: usize = 256;

/// The most that a template may become, in bytes of JSON: it has to fit into a Secret.
pub const MAX_RESOLVED_BYTES: usize = 512 << 10;

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template(Node);

#[derive(Debug, Clone)]
enum Node {
    /// Without any expression below.
    Constant(Value),
    /// A string that is one expression.
    Value(Located),
    /// A string with expressions in it.
    Text(Vec<TextPiece>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Debug, Clone)]
enum TextPiece {
    Text(String),
    Value(Located),
}

/// An expression and the field in which it stands.
#[derive(Debug, Clone)]
struct Located {
    path: JsonPath,
    expression: Expression,
}

/// What is wrong with a template, in which field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{path}: {}{fault}", shown(.expression))]
pub struct TemplateError {
    /// The field, such as `input.items[2].to`.
    pub path: JsonPath,
    /// The expression at fault, without `${` and `}`; absent where it is not one of them.
    pub expression: Option<String>,
    /// What is wrong with it.
    pub fault: TemplateFault,
}

/// What can be wrong with a template.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TemplateFault {
    /// A `${` without its `}`.
    #[error("\"${{\" is not closed; write \"$${{\" where it stands for itself")]
    Unclosed,
    /// The expression is refused.
    #[error("{0}")]
    Parse(ParseError),
    /// More than [`MAX_EXPRESSIONS`].
    #[error("more than {MAX_EXPRESSIONS} expressions; let a skill compute it")]
    TooManyExpressions,
    /// The expression has no value.
    #[error("{}{}", .0, hint(.0))]
    Evaluation(EvalError),
    /// Null has no text.
    #[error("is null, which has no text; use it alone in the string, or ask for null first")]
    NullInText,
    /// The template, or what it became, is nothing that can be hashed.
    #[error("{0}")]
    Json(StrictError),
    /// More than [`MAX_RESOLVED_BYTES`].
    #[error("becomes larger than {MAX_RESOLVED_BYTES} bytes")]
    TooLarge,
}

impl Template {
    /// Parses the template of an `input`; paths in errors start with that.
    ///
    /// # Errors
    /// See [`TemplateFault`].
    pub fn parse(value: &Value, vocabulary: &Vocabulary) -> Result<Self, TemplateError> {
        Self::parse_under(&JsonPath::root().key("input"), value, vocabulary)
    }

    /// As [`Self::parse`], for the field at `path`.
    ///
    /// # Errors
    /// See [`TemplateFault`].
    pub fn parse_under(path: &JsonPath, value: &Value, vocabulary: &Vocabulary) -> Result<Self, TemplateError> {
        strict::check(value).map_err(|error| TemplateError::plain(path, TemplateFault::Json(error)))?;
        let mut parser = Parser { vocabulary, expressions: 0 };
        parser.node(path, value).map(Self)
    }

    /// The expressions and the fields in which they stand, in document order.
    pub fn expressions(&self) -> Vec<(&JsonPath, &Expression)> {
        let mut found = Vec::new();
        self.0.collect(&mut found);
        found.into_iter().map(|Located { path, expression }| (path, expression)).collect()
    }

    /// The references of all expressions, see [`Expression::references`].
    pub fn references(&self) -> BTreeSet<Path> {
        self.union(|expression| expression.references().clone())
    }

    /// What must be there for one of the expressions at least, see [`Expression::required`].
    pub fn required(&self) -> BTreeSet<Path> {
        self.union(Expression::required)
    }

    /// The computed indexes of all expressions, see [`Expression::dynamic`].
    pub fn dynamic(&self) -> BTreeSet<Path> {
        self.union(|expression| expression.dynamic().clone())
    }

    /// The same without these members of the outermost object.
    #[must_use]
    pub fn without(&self, members: &BTreeSet<String>) -> Self {
        let node = match &self.0 {
            Node::Object(all) => {
                let kept = all.iter().filter(|(key, _)| !members.contains(key)).cloned();
                Node::Object(kept.collect())
            }
            Node::Constant(Value::Object(all)) => {
                let kept = all.iter().filter(|(key, _)| !members.contains(*key));
                Node::Constant(Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect()))
            }
            other @ (Node::Constant(_) | Node::Value(_) | Node::Text(_) | Node::List(_)) => other.clone(),
        };
        Self(node)
    }

    fn union(&self, paths: impl Fn(&Expression) -> BTreeSet<Path>) -> BTreeSet<Path> {
        self.expressions().into_iter().flat_map(|(_, expression)| paths(expression)).collect()
    }

    /// The JSON that the template becomes with these variables.
    ///
    /// # Errors
    /// The first expression that gives no usable value, or a result that is too large or too deep.
    pub fn resolve(&self, evaluator: &CelEvaluator, variables: &Variables) -> Result<Value, TemplateError> {
        let mut resolver = Resolver { evaluator, variables, left: MAX_RESOLVED_BYTES };
        let value = resolver.node(&self.0)?;
        let path = JsonPath::root();
        strict::check(&value).map_err(|error| TemplateError::plain(&path, TemplateFault::Json(error)))?;
        Ok(value)
    }
}

impl Node {
    fn collect<'n>(&'n self, found: &mut Vec<&'n Located>) {
        match self {
            Self::Constant(_) => {}
            Self::Value(located) => found.push(located),
            Self::Text(pieces) => {
                for piece in pieces {
                    match piece {
                        TextPiece::Text(_) => {}
                        TextPiece::Value(located) => found.push(located),
                    }
                }
            }
            Self::List(items) => items.iter().for_each(|item| item.collect(found)),
            Self::Object(members) => members.iter().for_each(|(_, member)| member.collect(found)),
        }
    }
}

struct Parser<'a> {
    vocabulary: &'a Vocabulary,
    expressions: usize,
}

impl Parser<'_> {
    fn node(&mut self, path: &JsonPath, value: &Value) -> Result<Node, TemplateError> {
        let before = self.expressions;
        let node = match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Node::Constant(value.clone()),
            Value::String(text) => self.text(path, text)?,
            Value::Array(items) => {
                let items = items.iter().enumerate();
                let nodes = items.map(|(index, item)| self.node(&path.index(index), item));
                Node::List(nodes.collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let nodes = members.iter().map(|(key, member)| {
                    let node = self.node(&path.key(key), member)?;
                    Ok((key.clone(), node))
                });
                Node::Object(nodes.collect::<Result<_, TemplateError>>()?)
            }
        };
        // Constants are joined, so that resolving copies them as one.
        Ok(if self.expressions == before { Node::Constant(constant(node)) } else { node })
    }

    fn text(&mut self, path: &JsonPath, text: &str) -> Result<Node, TemplateError> {
        let pieces =
            scan::pieces(text).map_err(|scan::Unclosed| TemplateError::plain(path, TemplateFault::Unclosed))?;
        if let [Piece::Expression(source)] = pieces.as_slice() {
            return self.expression(path, source).map(Node::Value);
        }
        let mut texts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            texts.push(match piece {
                Piece::Text(text) => TextPiece::Text(text),
                Piece::Expression(source) => TextPiece::Value(self.expression(path, source)?),
            });
        }
        match texts.as_slice() {
            [] => Ok(Node::Constant(Value::from(""))),
            [TextPiece::Text(text)] => Ok(Node::Constant(Value::from(text.as_str()))),
            _ => Ok(Node::Text(texts)),
        }
    }

    fn expression(&mut self, path: &JsonPath, source: &str) -> Result<Located, TemplateError> {
        self.expressions += 1;
        if self.expressions > MAX_EXPRESSIONS {
            let fault = TemplateFault::TooManyExpressions;
            return Err(TemplateError::plain(path, fault));
        }
        match Expression::parse(source, self.vocabulary) {
            Ok(expression) => Ok(Located { path: path.clone(), expression }),
            Err(error) => Err(TemplateError {
                path: path.clone(),
                expression: Some(source.trim().to_owned()),
                fault: TemplateFault::Parse(error),
            }),
        }
    }
}

struct Resolver<'a> {
    evaluator: &'a CelEvaluator,
    variables: &'a Variables,
    /// Bytes that the result may still grow by; counted as the values come, so that a small template
    /// does not first become a large document.
    left: usize,
}

impl Resolver<'_> {
    fn node(&mut self, node: &Node) -> Result<Value, TemplateError> {
        match node {
            Node::Constant(value) => self.grown(value.clone(), &JsonPath::root()),
            Node::Value(located) => {
                let value = self.evaluate(located)?;
                self.grown(value, &located.path)
            }
            Node::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        TextPiece::Text(piece) => text.push_str(piece),
                        TextPiece::Value(located) => {
                            text.push_str(&self.text_of(located)?);
                            if text.len() > self.left {
                                return Err(located.fault(TemplateFault::TooLarge));
                            }
                        }
                    }
                }
                self.grown(Value::String(text), &JsonPath::root())
            }
            Node::List(items) => items.iter().map(|item| self.node(item)).collect(),
            Node::Object(members) => {
                let mut object = Map::new();
                for (key, member) in members {
                    object.insert(key.clone(), self.node(member)?);
                }
                Ok(Value::Object(object))
            }
        }
    }

    fn evaluate(&self, located: &Located) -> Result<Value, TemplateError> {
        self.evaluator
            .evaluate(&located.expression, self.variables)
            .map_err(|error| located.fault(TemplateFault::Evaluation(error)))
    }

    fn text_of(&self, located: &Located) -> Result<String, TemplateError> {
        match self.evaluate(located)? {
            Value::Null => Err(located.fault(TemplateFault::NullInText)),
            Value::String(text) => Ok(text),
            value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                canonical::to_string(&value).map_err(|error| located.fault(TemplateFault::Json(error)))
            }
        }
    }

    fn grown(&mut self, value: Value, path: &JsonPath) -> Result<Value, TemplateError> {
        match self.left.checked_sub(value.to_string().len()) {
            Some(left) => {
                self.left = left;
                Ok(value)
            }
            None => Err(TemplateError::plain(path, TemplateFault::TooLarge)),
        }
    }
}

/// The value of a node that has no expression below.
fn constant(node: Node) -> Value {
    match node {
        Node::Constant(value) => value,
        Node::List(items) => items.into_iter().map(constant).collect(),
        Node::Object(members) => {
            let members = members.into_iter();
            Value::Object(members.map(|(key, node)| (key, constant(node))).collect())
        }
        Node::Value(_) | Node::Text(_) => unreachable!("these hold expressions"),
    }
}

impl Located {
    fn fault(&self, fault: TemplateFault) -> TemplateError {
        TemplateError { path: self.path.clone(), expression: Some(self.expression.source().trim().to_owned()), fault }
    }
}

impl TemplateError {
    fn plain(path: &JsonPath, fault: TemplateFault) -> Self {
        Self { path: path.clone(), expression: None, fault }
    }

    /// Why an expression could not be evaluated.
    pub fn evaluation(&self) -> Option<&EvalError> {
        match &self.fault {
            TemplateFault::Evaluation(error) => Some(error),
            TemplateFault::Unclosed
            | TemplateFault::Parse(_)
            | TemplateFault::TooManyExpressions
            | TemplateFault::NullInText
            | TemplateFault::Json(_)
            | TemplateFault::TooLarge => None,
        }
    }

    /// Whether resolving may succeed later, see [`EvalError::is_transient`].
    pub fn is_transient(&self) -> bool {
        self.evaluation().is_some_and(EvalError::is_transient)
    }
}

fn shown(expression: &Option<String>) -> String {
    const LONGEST: usize = 120;
    match expression {
        None => String::new(),
        Some(source) if source.chars().count() <= LONGEST => format!("${{{source}}}: "),
        Some(source) => {
            let start: String = source.chars().take(LONGEST).collect();
            format!("${{{start}…}}: ")
        }
    }
}

fn hint(error: &EvalError) -> &'static str {
    match error {
        EvalError::MissingKey { at, .. } if at.as_strs() == ["task", "parameters"] => "; add it to spec.parameters",
        EvalError::MissingKey { .. }
        | EvalError::Timeout(_)
        | EvalError::TooExpensive
        | EvalError::Saturated
        | EvalError::Failed(_)
        | EvalError::Unsupported(_)
        | EvalError::NotBool(_) => "",
    }
}

#[cfg(test)]
mod tests;
