//! JMESPath over values that keep their order.
//!
//! The grammar is the crate's (`jmespath`); what is evaluated here is its syntax tree, because the crate sorts the
//! members of every object and this output must not be sorted. Results and texts of errors are those of jmespath.py,
//! which the aws CLI uses: unlike the crate it compares texts by `<`. A test holds both against each other.

use jmespath::ast::{Ast, Comparator};
use ravelin_aws::client::value::{Json, Map, Value};
use std::cmp::Ordering;

/// An expression.
#[derive(Debug)]
pub(super) struct Query {
    ast: Ast,
}

impl Query {
    /// Reads an expression.
    ///
    /// # Errors
    /// With the text that the aws CLI begins such a message with, and a mark below the place.
    pub(super) fn parse(text: &str) -> Result<Query, String> {
        jmespath::parse(text).map(|ast| Query { ast }).map_err(|error| {
            let reason = error.reason.to_string();
            let reason = reason.strip_prefix("Parse error: ").unwrap_or(&reason).to_owned();
            let mark = " ".repeat(error.offset + 1);
            format!("Bad value for --query {text}: Invalid jmespath expression: {reason}:\n\"{text}\"\n{mark}^")
        })
    }

    /// What it picks from a value.
    ///
    /// # Errors
    /// When a function is unknown or is given what it cannot take.
    pub(super) fn search(&self, value: &Value) -> Result<Value, String> {
        evaluate(&self.ast, value)
    }
}

fn evaluate(ast: &Ast, value: &Value) -> Result<Value, String> {
    Ok(match ast {
        Ast::Identity { .. } => value.clone(),
        Ast::Field { name, .. } => value.as_map().and_then(|map| map.get(name)).cloned().unwrap_or(Value::Null),
        Ast::Index { idx, .. } => value.as_list().and_then(|list| item(list, *idx)).cloned().unwrap_or(Value::Null),
        Ast::Slice { start, stop, step, .. } => match value.as_list() {
            Some(list) => Value::List(slice(list, *start, *stop, *step)?),
            None => Value::Null,
        },
        Ast::Subexpr { lhs, rhs, .. } => evaluate(rhs, &evaluate(lhs, value)?)?,
        Ast::Or { lhs, rhs, .. } => match evaluate(lhs, value)? {
            left if is_false(&left) => evaluate(rhs, value)?,
            left => left,
        },
        Ast::And { lhs, rhs, .. } => match evaluate(lhs, value)? {
            left if is_false(&left) => left,
            _ => evaluate(rhs, value)?,
        },
        Ast::Not { node, .. } => Value::Bool(is_false(&evaluate(node, value)?)),
        Ast::Condition { predicate, then, .. } => {
            if is_false(&evaluate(predicate, value)?) {
                Value::Null
            } else {
                evaluate(then, value)?
            }
        }
        Ast::Comparison { comparator, lhs, rhs, .. } => {
            compare(comparator, &evaluate(lhs, value)?, &evaluate(rhs, value)?)
        }
        Ast::Literal { value, .. } => literal(value),
        Ast::ObjectValues { node, .. } => match evaluate(node, value)? {
            Value::Map(map) => Value::List(map.into_iter().map(|(_, value)| value).collect()),
            _ => Value::Null,
        },
        Ast::Projection { lhs, rhs, .. } => match evaluate(lhs, value)? {
            Value::List(items) => {
                let mut found = Vec::new();
                for item in &items {
                    match evaluate(rhs, item)? {
                        Value::Null => {}
                        some => found.push(some),
                    }
                }
                Value::List(found)
            }
            _ => Value::Null,
        },
        Ast::Flatten { node, .. } => match evaluate(node, value)? {
            Value::List(items) => Value::List(
                items
                    .into_iter()
                    .flat_map(|item| if let Value::List(inner) = item { inner } else { vec![item] })
                    .collect(),
            ),
            _ => Value::Null,
        },
        // Nothing is picked from nothing.
        Ast::MultiList { .. } | Ast::MultiHash { .. } if *value == Value::Null => Value::Null,
        Ast::MultiList { elements, .. } => {
            Value::List(elements.iter().map(|element| evaluate(element, value)).collect::<Result<_, _>>()?)
        }
        Ast::MultiHash { elements, .. } => {
            let mut map = Map::new();
            for pair in elements {
                map.insert(pair.key.clone(), evaluate(&pair.value, value)?);
            }
            Value::Map(Box::new(map))
        }
        Ast::Function { name, args, .. } => function(name, args, value)?,
        Ast::Expref { .. } => return Err("an expression after & stands where a value must".to_owned()),
    })
}

fn is_false(value: &Value) -> bool {
    match value {
        Value::Int(_) | Value::Float(_) => false,
        other => !other.is_truthy(),
    }
}

fn item(list: &[Value], index: i32) -> Option<&Value> {
    let back = usize::try_from(index.unsigned_abs()).ok()?;
    if index < 0 { list.len().checked_sub(back).and_then(|at| list.get(at)) } else { list.get(back) }
}

fn slice(list: &[Value], start: Option<i32>, stop: Option<i32>, step: i32) -> Result<Vec<Value>, String> {
    if step == 0 {
        return Err("Invalid slice, step cannot be 0".to_owned());
    }
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let (lowest, highest) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let place = |end: Option<i32>, absent: i64| match end.map(i64::from) {
        None => absent,
        Some(at) if at < 0 => (at + length).max(lowest),
        Some(at) => at.min(highest),
    };
    let (from, to) = if step < 0 { (highest, lowest) } else { (lowest, highest) };
    let (mut at, to) = (place(start, from), place(stop, to));
    let mut found = Vec::new();
    while if step < 0 { at > to } else { at < to } {
        found.extend(usize::try_from(at).ok().and_then(|at| list.get(at)).cloned());
        at += i64::from(step);
    }
    Ok(found)
}

fn literal(variable: &jmespath::Variable) -> Value {
    match variable {
        jmespath::Variable::Null => Value::Null,
        jmespath::Variable::String(text) => Value::text(text.as_str()),
        jmespath::Variable::Bool(yes) => Value::Bool(*yes),
        jmespath::Variable::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::Int(i128::from(number)),
            (None, Some(number), _) => Value::Int(i128::from(number)),
            (None, None, number) => number.map_or(Value::Null, Value::Float),
        },
        jmespath::Variable::Array(items) => Value::List(items.iter().map(|item| literal(item)).collect()),
        jmespath::Variable::Object(members) => {
            Value::map(members.iter().map(|(name, member)| (name.clone(), literal(member))))
        }
        jmespath::Variable::Expref(_) => Value::Null,
    }
}

/// A number; a boolean is none.
fn number(value: &Value) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "Python compares exactly, and nobody compares numbers beyond 2^53 here"
    )]
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| equal(left, right)))
        }
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => left == right,
            _ => left == right,
        },
    }
}

/// The order of two numbers, or of two texts; there is none between others.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        _ => number(left)?.partial_cmp(&number(right)?),
    }
}

fn compare(comparator: &Comparator, left: &Value, right: &Value) -> Value {
    let ordered = |test: fn(Ordering) -> bool| order(left, right).map_or(Value::Null, |order| Value::Bool(test(order)));
    match comparator {
        Comparator::Equal => Value::Bool(equal(left, right)),
        Comparator::NotEqual => Value::Bool(!equal(left, right)),
        Comparator::LessThan => ordered(Ordering::is_lt),
        Comparator::LessThanEqual => ordered(Ordering::is_le),
        Comparator::GreaterThan => ordered(Ordering::is_gt),
        Comparator::GreaterThanEqual => ordered(Ordering::is_ge),
    }
}

/// What an argument may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Boolean,
    List,
    Object,
    Null,
    Numbers,
    Texts,
    Expression,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Text => "string",
            Kind::Boolean => "boolean",
            Kind::List => "array",
            Kind::Object => "object",
            Kind::Null => "null",
            Kind::Numbers => "array-number",
            Kind::Texts => "array-string",
            Kind::Expression => "expref",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Numbers, Value::List(items)) => items.iter().all(|item| number(item).is_some()),
            (Kind::Texts, Value::List(items)) => items.iter().all(|item| item.as_text().is_some()),
            (Kind::Expression, _) => false,
            _ => self == kind(value),
        }
    }
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Boolean,
        Value::Int(_) | Value::Float(_) => Kind::Number,
        Value::Text(_) => Kind::Text,
        Value::List(_) => Kind::List,
        Value::Map(_) => Kind::Object,
    }
}

const ANY: &[Kind] = &[];

/// What each function takes; the last stands for any number of further ones when the flag is set.
fn signature(name: &str) -> Option<(&'static [&'static [Kind]], bool)> {
    use Kind::{Expression, List, Number, Numbers, Object, Text, Texts};
    const EITHER: &[Kind] = &[Texts, Numbers];
    let fixed: &'static [&'static [Kind]] = match name {
        "abs" | "ceil" | "floor" => &[&[Number]],
        "avg" | "sum" => &[&[Numbers]],
        "contains" => &[&[List, Text], ANY],
        "ends_with" | "starts_with" => &[&[Text], &[Text]],
        "join" => &[&[Text], &[Texts]],
        "keys" | "values" => &[&[Object]],
        "length" => &[&[Text, List, Object]],
        "map" => &[&[Expression], &[List]],
        "max" | "min" | "sort" => &[EITHER],
        "max_by" | "min_by" | "sort_by" => &[&[List], &[Expression]],
        "merge" => return Some((&[&[Object]], true)),
        "not_null" => return Some((&[ANY], true)),
        "reverse" => &[&[List, Text]],
        "to_array" | "to_number" | "to_string" | "type" => &[ANY],
        _ => return None,
    };
    Some((fixed, false))
}

/// An argument: a value, or an expression that is evaluated for each item.
enum Argument<'a> {
    Value(Value),
    Expression(&'a Ast),
}

fn function(name: &str, args: &[Ast], value: &Value) -> Result<Value, String> {
    let Some((signature, variadic)) = signature(name) else { return Err(format!("Unknown function: {name}()")) };
    let (least, given) = (signature.len(), args.len());
    if given < least || (given > least && !variadic) {
        let at_least = if variadic { "at least " } else { "" };
        let plural = if least == 1 { "" } else { "s" };
        return Err(format!("Expected {at_least}{least} argument{plural} for function {name}(), received {given}"));
    }
    let mut arguments = Vec::with_capacity(given);
    for (index, argument) in args.iter().enumerate() {
        let wanted = signature.get(index).or(signature.last()).copied().unwrap_or(ANY);
        let argument = match argument {
            Ast::Expref { ast, .. } => Argument::Expression(ast),
            other => Argument::Value(evaluate(other, value)?),
        };
        match &argument {
            Argument::Expression(_) if wanted.contains(&Kind::Expression) => {}
            Argument::Expression(_) => return Err(unfit(name, "&…", wanted, Kind::Expression)),
            Argument::Value(value) if wanted.is_empty() || wanted.iter().any(|kind| kind.fits(value)) => {}
            Argument::Value(value) => return Err(unfit(name, &value.to_str(), wanted, kind(value))),
        }
        arguments.push(argument);
    }
    apply(name, arguments)
}

fn unfit(name: &str, shown: &str, wanted: &[Kind], is: Kind) -> String {
    let wanted: Vec<String> = wanted.iter().map(|kind| format!("'{}'", kind.word())).collect();
    format!(
        "In function {name}(), invalid type for value: {shown}, expected one of: [{}], received: \"{}\"",
        wanted.join(", "),
        is.word()
    )
}

/// Types and number of the arguments have been checked.
fn apply(name: &str, arguments: Vec<Argument<'_>>) -> Result<Value, String> {
    let mut values = Vec::new();
    let mut expression = None;
    for argument in arguments {
        match argument {
            Argument::Value(value) => values.push(value),
            Argument::Expression(ast) => expression = Some(ast),
        }
    }
    let mut values = values.into_iter();
    let first = values.next().unwrap_or(Value::Null);
    let second = values.next();
    Ok(match (name, first, second) {
        ("abs", Value::Int(number), _) => Value::Int(number.abs()),
        ("abs", Value::Float(number), _) => Value::Float(number.abs()),
        ("ceil", Value::Float(number), _) => whole(number.ceil()),
        ("floor", Value::Float(number), _) => whole(number.floor()),
        ("ceil" | "floor", other, _) => other,
        ("avg", Value::List(items), _) if items.is_empty() => Value::Null,
        #[expect(clippy::cast_precision_loss, reason = "a list has fewer items than a double has whole numbers")]
        ("avg", Value::List(items), _) => {
            Value::Float(items.iter().filter_map(number).sum::<f64>() / items.len() as f64)
        }
        ("sum", Value::List(items), _) => sum(&items),
        ("contains", Value::List(items), Some(wanted)) => Value::Bool(items.iter().any(|item| equal(item, &wanted))),
        ("contains", Value::Text(text), Some(Value::Text(wanted))) => Value::Bool(text.contains(&wanted)),
        ("contains", _, _) => Value::Bool(false),
        ("ends_with", Value::Text(text), Some(Value::Text(end))) => Value::Bool(text.ends_with(&end)),
        ("starts_with", Value::Text(text), Some(Value::Text(start))) => Value::Bool(text.starts_with(&start)),
        ("join", Value::Text(between), Some(Value::List(items))) => {
            Value::Text(items.iter().filter_map(Value::as_text).collect::<Vec<_>>().join(&between))
        }
        ("keys", Value::Map(map), _) => Value::List(map.into_iter().map(|(name, _)| Value::Text(name)).collect()),
        ("values", Value::Map(map), _) => Value::List(map.into_iter().map(|(_, value)| value).collect()),
        ("length", Value::Text(text), _) => Value::Int(text.chars().count() as i128),
        ("length", Value::List(items), _) => Value::Int(items.len() as i128),
        ("length", Value::Map(map), _) => Value::Int(map.len() as i128),
        ("map", Value::List(items), _) => Value::List(each(&items, expression)?),
        ("max", Value::List(items), _) => extreme(&items, Ordering::Greater),
        ("min", Value::List(items), _) => extreme(&items, Ordering::Less),
        ("sort", Value::List(mut items), _) => {
            items.sort_by(|left, right| order(left, right).unwrap_or(Ordering::Equal));
            Value::List(items)
        }
        ("sort_by", Value::List(items), _) => Value::List(sorted(name, items, expression)?),
        ("max_by", Value::List(items), _) => extreme_by(name, items, expression, Ordering::Greater)?,
        ("min_by", Value::List(items), _) => extreme_by(name, items, expression, Ordering::Less)?,
        ("merge", Value::Map(mut map), second) => {
            for more in second.into_iter().chain(values) {
                if let Value::Map(more) = more {
                    map.extend(*more);
                }
            }
            Value::Map(map)
        }
        ("not_null", first, second) => std::iter::once(first)
            .chain(second)
            .chain(values)
            .find(|value| *value != Value::Null)
            .unwrap_or(Value::Null),
        ("reverse", Value::Text(text), _) => Value::Text(text.chars().rev().collect()),
        ("reverse", Value::List(mut items), _) => {
            items.reverse();
            Value::List(items)
        }
        ("to_array", list @ Value::List(_), _) => list,
        ("to_array", other, _) => Value::List(vec![other]),
        ("to_number", number @ (Value::Int(_) | Value::Float(_)), _) => number,
        ("to_number", Value::Text(text), _) => to_number(&text),
        ("to_number", _, _) => Value::Null,
        ("to_string", text @ Value::Text(_), _) => text,
        ("to_string", other, _) => Value::Text(other.to_json(Json::Tight)),
        ("type", value, _) => Value::text(kind(&value).word()),
        (_, other, _) => return Err(unfit(name, &other.to_str(), ANY, kind(&other))),
    })
}

fn whole(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the test")]
    if number.abs() < 1e30 { Value::Int(number as i128) } else { Value::Float(number) }
}

fn sum(items: &[Value]) -> Value {
    let mut whole: i128 = 0;
    for item in items {
        match item {
            Value::Int(one) => match whole.checked_add(*one) {
                Some(more) => whole = more,
                None => return Value::Float(items.iter().filter_map(number).sum()),
            },
            _ => return Value::Float(items.iter().filter_map(number).sum()),
        }
    }
    Value::Int(whole)
}

fn to_number(text: &str) -> Value {
    match super::args::number(text) {
        Some(number) => Value::Int(number),
        None => text.trim().parse().map_or(Value::Null, Value::Float),
    }
}

fn extreme(items: &[Value], wanted: Ordering) -> Value {
    let mut best: Option<&Value> = None;
    for item in items {
        if best.is_none_or(|best| order(item, best) == Some(wanted)) {
            best = Some(item);
        }
    }
    best.cloned().unwrap_or(Value::Null)
}

fn each(items: &[Value], expression: Option<&Ast>) -> Result<Vec<Value>, String> {
    let Some(ast) = expression else { return Ok(items.to_vec()) };
    items.iter().map(|item| evaluate(ast, item)).collect()
}

/// Of several that are as great, the first.
fn extreme_by(name: &str, items: Vec<Value>, expression: Option<&Ast>, wanted: Ordering) -> Result<Value, String> {
    let mut best: Option<(Value, Value)> = None;
    for (key, item) in keyed(name, items, expression)? {
        if best.as_ref().is_none_or(|(best, _)| order(&key, best) == Some(wanted)) {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::Null, |(_, item)| item))
}

fn sorted(name: &str, items: Vec<Value>, expression: Option<&Ast>) -> Result<Vec<Value>, String> {
    let mut keyed = keyed(name, items, expression)?;
    keyed.sort_by(|(left, _), (right, _)| order(left, right).unwrap_or(Ordering::Equal));
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

/// The items with what the expression gives for each, which must be all numbers or all texts.
fn keyed(name: &str, items: Vec<Value>, expression: Option<&Ast>) -> Result<Vec<(Value, Value)>, String> {
    let keys = each(&items, expression)?;
    if let Some(first) = keys.first() {
        let wanted = kind(first);
        let comparable = matches!(wanted, Kind::Number | Kind::Text);
        if let Some(other) = keys.iter().find(|key| !comparable || kind(key) != wanted) {
            let wanted: &[Kind] = match wanted {
                Kind::Number => &[Kind::Number],
                Kind::Text => &[Kind::Text],
                _ => &[Kind::Text, Kind::Number],
            };
            return Err(unfit(name, &other.to_str(), wanted, kind(other)));
        }
    }
    Ok(keys.into_iter().zip(items).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"Sessions":[
        {"SessionId":"b-1","Target":"t","StartDate":2.5,"n":3,"Tags":{"z":"1","a":"2"},"Parts":[1,[2,3]]},
        {"SessionId":"a-2","Target":"t","StartDate":1.5,"n":1,"Reason":"x","Parts":[]},
        {"SessionId":"c-3","Target":"u","StartDate":1.5,"n":2,"OutputUrl":{}}],"NextToken":"tok"}"#;

    fn ours(expression: &str) -> Result<Value, String> {
        let document = Value::parse(DOCUMENT.as_bytes()).expect("JSON");
        Query::parse(expression).expect("an expression").search(&document)
    }

    fn line(expression: &str) -> String {
        ours(expression).map_or_else(|error| error, |value| value.to_json(Json::Line))
    }

    /// Whatever the crate finds is found here, apart from the order of members; `*` is left out, where that order shows.
    #[test]
    fn the_crate_and_this_file_agree() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).expect("JSON");
        for expression in [
            "@",
            "Sessions",
            "Sessions[0]",
            "Sessions[-1].SessionId",
            "Sessions[9]",
            "Sessions[].SessionId",
            "Sessions[*].Tags",
            "Sessions[*].Parts",
            "Sessions[].Parts[]",
            "Sessions[].Parts | []",
            "Sessions[1:]",
            "Sessions[::-1].SessionId",
            "Sessions[:2].n",
            "Sessions[-2:5].n",
            "Sessions[2:0:-1].n",
            "Sessions[?n > `1`].SessionId",
            "Sessions[?Reason].SessionId",
            "Sessions[?!Reason].SessionId",
            "Sessions[?n == `1` || n == `3`].n",
            "Sessions[?Target == 't' && n > `1`].n",
            "Sessions[].{Id: SessionId, T: Target}",
            "Sessions[].[SessionId, Reason]",
            "missing.deep[0].er",
            "missing || NextToken",
            "length(Sessions)",
            "length(NextToken)",
            "sort_by(Sessions, &n)[].SessionId",
            "sort_by(Sessions, &SessionId)[0].n",
            "max_by(Sessions, &StartDate).SessionId",
            "min_by(Sessions, &StartDate).SessionId",
            "reverse(Sessions)[0].n",
            "reverse(NextToken)",
            "join(', ', Sessions[].SessionId)",
            "keys(Sessions[0].Tags) | sort(@)",
            "sort(values(Sessions[0].Tags))",
            "contains(Sessions[].SessionId, 'a-2')",
            "contains(NextToken, 'ok')",
            "starts_with(NextToken, 'to')",
            "ends_with(NextToken, 'to')",
            "sum(Sessions[].n)",
            "avg(Sessions[].n)",
            "max(Sessions[].n)",
            "min(Sessions[].SessionId)",
            "map(&n, Sessions)",
            "to_string(Sessions[0].n)",
            "to_number('12')",
            "to_number('x')",
            "to_array(NextToken)",
            "type(Sessions)",
            "type(missing)",
            "not_null(missing, NextToken)",
            "merge(Sessions[0].Tags, {z: `5`})",
            "abs(`-3`)",
            "ceil(`1.2`)",
            "floor(`1.8`)",
            "`[1, {\"a\": null}]`",
            "Sessions[0] | n",
            "!Sessions",
            "Sessions[].n | [0]",
            "Sessions[?contains(SessionId, '-')].n",
            "Sessions[?Tags.z == '1'].n",
            "Sessions[0].[n, Tags.{a: a}]",
        ] {
            let theirs = jmespath::compile(expression).expect("an expression").search(&document).expect("a result");
            let theirs = Value::parse(serde_json::to_string(&*theirs).expect("JSON").as_bytes()).expect("JSON");
            let ours = ours(expression).expect("a result");
            assert!(equal(&ours, &theirs), "{expression}: {} {}", ours.to_json(Json::Line), theirs.to_json(Json::Line));
        }
    }

    /// The results of aws-cli 1.46.3 for the same answer.
    #[test]
    fn order_is_kept_and_texts_compare() {
        assert_eq!(line("Sessions[0].Tags"), r#"{"z": "1", "a": "2"}"#);
        assert_eq!(line("Sessions[1].{b: n, a: SessionId}"), r#"{"b": 1, "a": "a-2"}"#);
        assert_eq!(line("Sessions[?SessionId >= 'b'].n"), "[3, 2]");
        assert_eq!(line("keys(Sessions[0].Tags)"), r#"["z", "a"]"#);
        assert_eq!(
            line("length(missing)"),
            "In function length(), invalid type for value: None, expected one of: ['string', 'array', 'object'], received: \"null\""
        );
        assert_eq!(line("foo(@)"), "Unknown function: foo()");
        assert_eq!(line("length(`1`, `2`)"), "Expected 1 argument for function length(), received 2");
        assert_eq!(line("Sessions[0].[n, missing]"), "[3, null]");
        assert_eq!(line("missing.[n]"), "null");
    }

    #[test]
    fn a_bad_expression_is_shown_with_a_mark() {
        let said = Query::parse("bad[").expect_err("incomplete");
        assert!(said.starts_with("Bad value for --query bad[: Invalid jmespath expression: "), "{said}");
        assert!(said.ends_with("\"bad[\"\n     ^"), "{said}");
    }
}
